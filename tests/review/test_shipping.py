"""`o3v ship`: a part of a run in `data/`, and the part that is committed there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.reviewed_run import ITEM, make_run
from safetensors.numpy import load_file, save_file

from o3v.__main__ import main
from o3v.files import hash_path, read_jsonl, write_json, write_jsonl
from o3v.review import shipping
from o3v.runner.hashes import read_media_folders
from o3v.runner.shipped import DATA, MODELS, ROWS, shipped_path

SIZES = [100, 200_000, 100]  # bytes of the videos; the second one is too large to be shipped


@pytest.fixture
def run_dir(tmp_path):
    """A run with three items, and with three questions that were answered twice at five steps."""
    run_dir = make_run(tmp_path / "tiny-0")
    data, gspo = run_dir / "01_data_pipeline", run_dir / "03_gspo"
    rows, items, rollouts = [], [], []
    for i, size in enumerate(SIZES):
        for kind in ("eval", "rl"):
            path = data / f"world/videos/{kind}/{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
        items.append({**ITEM, "vid": f"{i}", "video_path": f"videos/eval/{i}.mp4"})
        rows.append({"id": str(i), "video_path": f"videos/rl/{i}.mp4", "image_path": None})
        task = {"id": str(i), "task": "temporal-spatial free-form QA", "completion": "a"}
        rollouts += [{**task, "step": step, "total": total} for step in range(5) for total in (1.0, 1.0 + i)]
    rows.append({"id": "never used", "video_path": "videos/rl/0.mp4", "image_path": None})
    folders = dict.fromkeys(("data", "vstar"), "01_data_pipeline/world")
    write_json(data / "data.media.json", {"folders": folders, "media": {"data": [], "vstar": []}})
    write_jsonl(data / "eval.jsonl", items)
    write_jsonl(data / "rl.jsonl", rows)
    write_jsonl(gspo / "rollouts.jsonl", rollouts)
    for checkpoint in MODELS:
        (run_dir / checkpoint).mkdir(parents=True, exist_ok=True)
        save_file({"w": np.array([1.0, 1e-3], np.float32)}, run_dir / checkpoint / "model.safetensors")
        write_json(run_dir / checkpoint / "config.json", {"model_type": "x"})
    return run_dir


def edit_manifest(run_dir: Path, old: str, new: str) -> None:
    path = run_dir / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"profile": "tiny"', '"profile": "smoke"', "has the profile smoke"),
        ('"05_evaluation"', '"05_other"', "is not finished (no 05_evaluation)"),
    ],
)
def test_another_profile_or_an_unfinished_run_is_not_shipped(run_dir, tmp_path, capsys, old, new, message):
    edit_manifest(run_dir, old, new)
    assert main(["ship", str(run_dir), "--data", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_too_much_replaces_nothing(run_dir, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shipping.ship(run_dir, data)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    monkeypatch.setattr(shipping, "MAX_ROWS_BYTES", 100)
    with pytest.raises(ValueError, match="would be too large"):
        shipping.ship(run_dir, data)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in data.iterdir()) == sorted([*MODELS.values(), ROWS])


def test_models_are_shipped_in_half_precision_with_their_hash(run_dir, tmp_path):
    assert main(["ship", str(run_dir), "--data", str(tmp_path / "data")]) == 0
    folder = tmp_path / "data/o3v-tiny-gspo"
    weights = load_file(folder / "model.safetensors")["w"]
    assert weights.dtype == np.float16 and weights.tolist() == pytest.approx([1.0, 1e-3], rel=1e-3)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert hash_path(folder / "model.safetensors") in card and "--profile tiny --seed 0" in card
    assert "| accuracy | 0.500 |" in card  # of sft_gspo in `reviewed_run`
    assert "| accuracy | 0.000 |" in (tmp_path / "data/o3v-tiny-sft/README.md").read_text(encoding="utf-8")
    assert json.loads((folder / "config.json").read_text()) == {"model_type": "x"}


def test_the_rows_are_those_with_small_videos_and_sampled_answers(run_dir, tmp_path):
    shipping.ship(run_dir, tmp_path)
    folder = tmp_path / ROWS
    items = [row for _, row in read_jsonl(folder / "01_data_pipeline/eval.jsonl")]
    assert [item["video_path"] for item in items] == ["videos/eval/0.mp4", "videos/eval/2.mp4"]
    assert {row["step"] for _, row in read_jsonl(folder / "03_gspo/rollouts.jsonl")} == {0, 2, 4}
    assert [row["id"] for _, row in read_jsonl(folder / "01_data_pipeline/rl.jsonl")] == ["0", "1", "2"]
    roots = read_media_folders(folder / "01_data_pipeline/data.media.json")
    assert all((roots["vstar"] / item["video_path"]).exists() for item in items)
    # of the questions with small videos, the answers to the last one differ most: 1 and 3
    assert [path.name for path in (roots["data"] / "videos/rl").iterdir()] == ["2.mp4"]


# ---- the shipped part


def test_the_cards_have_the_hashes_of_the_shipped_files():
    for name in (*MODELS.values(), ROWS):
        hashes = dict(re.findall(r"\| (\S+), sha256 \| (\w{64}) \|", (DATA / name / "README.md").read_text("utf-8")))
        names = {"weights": "model.safetensors"}
        assert hashes and {n: hash_path(DATA / name / names.get(n, n)) for n in hashes} == hashes


def test_the_shipped_part_is_small_and_complete():
    sizes = {path: path.stat().st_size for path in DATA.rglob("*") if path.is_file()}
    models = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    assert models < 20e6 and sum(size for path, size in sizes.items() if DATA / ROWS in path.parents) < 1.6e6
    roots = read_media_folders(shipped_path("01_data_pipeline/data.media.json"))
    items = [row for _, row in read_jsonl(shipped_path("01_data_pipeline/eval.jsonl"))]
    assert len(items) == 10
    assert all((roots["vstar"] / (item.get("video_path") or item["vid"])).is_file() for item in items)
    rows = {row["id"] for _, row in read_jsonl(shipped_path("01_data_pipeline/rl.jsonl"))}
    answered = [
        row["id"] for name in ("rollouts", "heldout") for _, row in read_jsonl(shipped_path(f"03_gspo/{name}.jsonl"))
    ]
    assert set(answered) == rows
    assert not list(DATA.rglob(".o3v-*"))


def test_the_shipped_model_answers_a_shipped_question_in_the_grammar():
    from o3v import inference, models
    from o3v.config import load_profile
    from o3v.evaluation.vstar_items import read_items

    settings = load_profile("tiny")
    vlm = models.load(shipped_path("03_gspo/checkpoint"))
    root = read_media_folders(shipped_path("01_data_pipeline/data.media.json"))["vstar"]
    items = read_items(shipped_path("01_data_pipeline/eval.jsonl"))[:2]
    questions = inference.vstar_questions(items, vlm.prompt_builder(root, settings.frames))
    where = [question.make() for question in questions if question.key.endswith("/where")]
    texts = models.generate(vlm, where, settings.inference.max_new_tokens)
    assert all("<box>" in text and "</answer>" in text for text in texts)
