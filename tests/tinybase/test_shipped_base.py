"""The base model that comes with the repository: whole, small, and as good as its card says."""

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


def test_tiny_and_smoke_start_from_it():
    assert PROFILE.base == load_profile("smoke").base == "data/o3v-tiny-base"


def test_the_weights_are_those_of_the_card():
    weights = FOLDER / model_card.WEIGHTS
    assert weights.stat().st_size <= 12e6
    assert files.hash_path(weights) == METRICS["made"]["weights, sha256"]


def test_the_page_shows_the_measured_numbers():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, found in METRICS["all"].items():
        assert f"| {name} | {found['value']:.3f} | {found['low']:.3f}–{found['high']:.3f} |" in page
    assert METRICS["made"]["weights, sha256"] in page


@pytest.fixture(scope="module")
def measured():
    count = METRICS["small"]["per-frame recall"]["items"]
    held_out = draw_clips(count, PROFILE.frames, 0, "eval", workers=1, progress=False)
    return probes.measure(models.load(FOLDER), held_out, 0)


def test_the_weights_give_the_cards_numbers(measured):
    """On the card's few clips. Greedy answers may differ in a word on another processor, hence the tolerance."""
    assert measured.keys() == METRICS["small"].keys()
    for name, found in measured.items():
        assert found.value == pytest.approx(METRICS["small"][name]["value"], abs=0.05), name
        assert found.items == METRICS["small"][name]["items"]


def test_it_does_not_know_the_grammar(measured):
    assert measured["format reward"].value <= 0.05


def test_what_is_to_be_learned_fits_into_an_answer():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    rows = [row for index in range(30) for row in rows_of(make_scene("sft", index, seed=5))]
    lengths = [len(tokenizer(target_text(row, (84, 84)))["input_ids"]) for row in rows]
    assert max(lengths) < PROFILE.gspo.max_new_tokens
