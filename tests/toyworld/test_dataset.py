"""The data set on disk: the same bytes each time, the paper's proportions, and complete media."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from o3v.schema import Example
from o3v.toyworld.dataset import FILES, make_dataset

COUNTS = {"sft": 30, "rl": 37, "eval": 3}


@pytest.mark.parametrize("counts, workers", [({"train": 1}, 1), ({"sft": -1}, 1), ({"sft": 1}, 0)])
def test_make_dataset_rejects_bad_counts_and_workers(tmp_path, counts, workers):
    with pytest.raises(ValueError, match=r"counts|workers"):
        make_dataset(tmp_path, counts, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_foreign_media_are_not_touched(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="videos"):
        make_dataset(tmp_path, {"sft": 1}, workers=1)
    assert (tmp_path / "videos" / "mine.mp4").read_bytes() == b"mine"


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return make_dataset(root, COUNTS, seed=1, workers=1, progress=False)


def test_two_workers_write_the_same_bytes(dataset, tmp_path):
    make_dataset(tmp_path, COUNTS, seed=1, workers=2, progress=False)
    assert tree(tmp_path) == tree(dataset.root)


def test_proportions_are_those_of_the_paper(dataset):
    # 30 rows of 24.1 thousand without the annotated sources: 5.1, 6.2, 16.2, 2.49; one row to the largest remainder
    # 37 rows of 36.1 thousand: the three largest remainders round up
    assert dataset.rows["sft"] == {
        "synth_tvg": 5,
        "synth_treevgr": 6,
        "synth_videor1_mcq": 16,
        "synth_videor1_free_form": 3,
    }
    assert dataset.rows["rl"] == {
        "synth_timerft": 3,
        "synth_tvg_rl": 3,
        "synth_gqa": 5,
        "synth_str_tg": 4,
        "synth_str_plm": 2,
        "synth_videoespresso": 5,
        "synth_videor1_mcq": 13,
        "synth_videor1_free_form": 2,
    }
    assert sum(dataset.rows["eval"].values()) == 3
    assert dataset.scenes == {"sft": 8, "rl": 10, "eval": 3}


def test_rows_on_disk_have_their_media(dataset):
    for split in ("sft", "rl"):
        examples = list(map(Example.from_row, json.loads((dataset.root / FILES[split]).read_text())))
        assert len(examples) == COUNTS[split]
        for example in examples:
            assert bool(example.reasoning_process) == (split == "sft")
            for path in (example.media_path, *(frame.path for frame in example.key_frames)):
                assert (dataset.root / path).stat().st_size > 0
            if example.image_path:
                assert Image.open(dataset.root / example.image_path).size == example.image_size_wh
    items = json.loads((dataset.root / "V_STaR_test.json").read_text())
    assert all((dataset.root / f"videos/eval/{item['vid']}.mp4").exists() for item in items)


def test_a_second_call_completes_an_interrupted_one(dataset, tmp_path):
    for name, content in tree(dataset.root).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    videos = sorted((tmp_path / "videos").rglob("*.mp4"))
    videos[0].unlink()
    (tmp_path / "json_data/STGR-RL.json").unlink()
    (videos[0].parent / f".{videos[0].name}.part").write_bytes(b"half")
    finished = {path: path.stat().st_mtime_ns for path in videos[1:]}
    make_dataset(tmp_path, COUNTS, seed=1, workers=1, progress=False)
    assert tree(tmp_path) == tree(dataset.root)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_another_seed_replaces_the_media(tmp_path):
    make_dataset(tmp_path, {"sft": 4}, seed=1, workers=1, progress=False)
    make_dataset(tmp_path, {"sft": 4}, seed=2, workers=1, progress=False)
    assert [path.name for path in (tmp_path / "videos").rglob("*.mp4")] == ["sft-2-000000.mp4"]


def test_shares_of_the_rl_sources(tmp_path):
    shares = {"synth_gqa": 3, "synth_timerft": 1}
    summary = make_dataset(tmp_path, {"rl": 8}, seed=1, workers=1, progress=False, rl_shares=shares)
    assert summary.rows["rl"] == {"synth_gqa": 6, "synth_timerft": 2}
    with pytest.raises(ValueError, match=r"rl_shares of synth_tvg: sources of rl are synth_timerft"):
        make_dataset(tmp_path, {"rl": 8}, rl_shares={"synth_tvg": 1})
