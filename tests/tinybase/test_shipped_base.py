"""The base model in the repository: complete, small, and with the abilities of its card."""

import pytest
from transformers import AutoTokenizer

from o3v import files, models
from o3v.config import find_base, load_profile
from o3v.prompts import target_text
from o3v.tinybase import model_card, probes
from o3v.tinybase.clips import draw_clips
from o3v.toyworld.scene import make_scene
from o3v.toyworld.tasks import rows_of

PROFILE = load_profile("tiny")
FOLDER = find_base(PROFILE.base)
METRICS = files.read_json(FOLDER / model_card.METRICS)


def test_tiny_and_smoke_start_from_the_base():
    assert PROFILE.base == load_profile("smoke").base == "data/o3v-tiny-base"


def test_the_card_has_the_hash_of_the_weights():
    weights = FOLDER / model_card.WEIGHTS
    assert weights.stat().st_size <= 12e6
    assert files.hash_path(weights) == METRICS["made"]["weights, sha256"]


def test_the_page_shows_the_measured_numbers():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, mean in METRICS["all"].items():
        assert f"| {name} | {mean['value']:.3f} | {mean['low']:.3f}–{mean['high']:.3f} |" in page
    assert METRICS["made"]["weights, sha256"] in page


@pytest.fixture(scope="module")
def measured():
    count = METRICS["small"]["per-frame recall"]["items"]
    held_out = draw_clips(count, PROFILE.frames, 0, "eval", workers=1, progress=False)
    return probes.measure(models.load(FOLDER), held_out, 0)


def test_the_weights_give_the_numbers_of_the_card(measured):
    """On a few clips. Another processor may change a word of a greedy answer, hence the tolerance."""
    assert measured.keys() == METRICS["small"].keys()
    for name, mean in measured.items():
        assert mean.value == pytest.approx(METRICS["small"][name]["value"], abs=0.05), name
        assert mean.items == METRICS["small"][name]["items"]


def test_the_base_does_not_write_evidence(measured):
    assert measured["format reward"].value <= 0.05


def test_sft_targets_fit_into_a_generated_answer():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    rows = [row for index in range(30) for row in rows_of(make_scene("sft", index, seed=5))]
    lengths = [len(tokenizer(target_text(row, (84, 84)))["input_ids"]) for row in rows]
    assert max(lengths) < PROFILE.gspo.max_new_tokens
