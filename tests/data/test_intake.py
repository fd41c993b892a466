"""From a data root to rows: what is left out is named, and everything else is used."""

from dataclasses import replace

import pytest

from o3v.__main__ import main
from o3v.config import DataConfig, FrameConfig
from o3v.data import intake, stgr
from o3v.data.root import locate_items, vstar_file
from o3v.evaluation.vstar_items import read_items
from o3v.prompts import PromptBuilder
from o3v.schema import Example, Task
from o3v.toyworld.make_root import make_root
from o3v.toyworld.official_root import write_root


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("official") / "root", rows=60, broken_share=0.1, vstar_items=4)


def test_a_root_of_which_nothing_can_be_used_is_an_error(tmp_path):
    row = Example("a", Task.FREE_FORM, "videor1_mcq", "What?", "This", "So.", "lost.mp4")
    for split in ("SFT", "RL"):
        stgr.write_stgr(tmp_path / f"json_data/STGR-{split}.json", [row])
    with pytest.raises(ValueError, match=r"no SFT row of .* can be used .*lost\.mp4 does not exist.*check-data"):
        intake.take_in(tmp_path, "sft", 10, 0, workers=1)
    with pytest.raises(ValueError, match=r"no item of V-STAR .*v: has no video.*vstar_root"):
        intake.take_in_items(tmp_path, [{"vid": "v"}], workers=1)


def test_a_profile_that_makes_no_data_asks_for_them(tmp_path):
    with pytest.raises(ValueError, match=r"data_root=FOLDER.*O3V_DATA.*vstar_root"):
        make_root(DataConfig(), tmp_path / "world", 0)
    assert not (tmp_path / "world").exists()


def test_a_profile_can_make_a_root_in_the_official_layout(tmp_path):
    sizes = DataConfig(made="official", sft_rows=4, rl_rows=8, eval_items=1, dev_items=1)
    root = make_root(sizes, tmp_path / "world", 0)
    assert [len(stgr.read_good_rows(root / f"json_data/STGR-{split}.json")) for split in ("SFT", "RL")] == [8, 8]
    assert len(read_items(vstar_file(root))) == 2


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_every_good_row_is_taken_and_every_broken_one_is_named(official, split):
    taken = intake.take_in(official.data_root, split, 100, 0, workers=1)
    file = f"STGR-{split.upper()}.json"
    broken = {row_id: kind for (name, row_id), kind in official.broken.items() if name == file}
    # damaged frames are found only when they are decoded; a damaged image is decoded by the check
    hidden = {row_id for row_id, kind in broken.items() if kind == "frames damaged" and not row_id.startswith("gqa")}
    assert len(taken.rows) == 60 - len(broken) + len(hidden)
    assert hidden <= {e.id for e in taken.rows} and not (broken.keys() - hidden) & {e.id for e in taken.rows}
    assert len(taken.left_out) == len(broken) - len(hidden)
    for row_id in broken.keys() - hidden:
        assert [line for line in taken.left_out if row_id in line["detail"] and line["file"] == file]
    assert sum(line["rows"] for line in taken.coverage) == 60
    assert all((official.data_root / e.media_path).is_file() for e in taken.rows)
    assert {taken.durations_s[e.video_path] for e in taken.rows if e.video_path} == {12.0}
    assert all(share == pytest.approx(4 / 12) for share in intake.span_shares(taken))


def test_a_smaller_profile_draws_its_rows(official):
    whole = intake.take_in(official.data_root, "rl", 100, 0, workers=1).rows
    few = intake.take_in(official.data_root, "rl", 7, 0, workers=1)
    assert len(few.rows) == 7 and [e for e in whole if e in few.rows] == few.rows
    assert sum(line["reason"] == "not drawn" for line in few.left_out) == len(whole) - 7
    assert few.audit[-1]["rows_after"] == 7


def test_a_row_without_a_chain_or_key_frame_images(official, tmp_path):
    rows = [row for row in stgr.read_stgr(official.data_root / "json_data/STGR-SFT.json") if isinstance(row, Example)]
    keyed = next(row for row in rows if row.key_frames and "missing" not in row.video_path)
    keyed = replace(keyed, key_frames=tuple(replace(frame, path="lost.jpg") for frame in keyed.key_frames))
    (tmp_path / "videos").symlink_to(official.data_root / "videos")  # a collection
    bare = replace(keyed, id="bare", reasoning_process=None)
    stgr.write_stgr(tmp_path / "STGR-SFT.json", [keyed, bare])
    taken = intake.take_in(tmp_path, "sft", 9, 0, workers=1)
    assert [e.id for e in taken.rows] == [keyed.id]  # key frames are read from the video, not from images
    assert [(line["id"], line["reason"]) for line in taken.left_out] == [("bare", "no chain")]


def test_taken_rows_become_prompts(official):
    builder = PromptBuilder(official.data_root, FrameConfig(n_frames=2, max_pixels=56 * 56), "pixels")
    rows = intake.take_in(official.data_root, "rl", 100, 0, workers=1).rows
    for task in Task:
        example = next(e for e in rows if e.task is task and "damaged" not in e.media_path)
        prompt = builder.for_example(example, training=True)
        assert len(prompt.images) == (1 if task is Task.SPATIAL else 2 + len(example.key_frames))


def test_the_items_of_vstar_and_a_first_video(official):
    items = read_items(vstar_file(official.data_root))  # one folder below
    good, coverage, left_out = intake.take_in_items(official.vstar_root, items, workers=1)
    assert good == locate_items(official.vstar_root, items) and left_out == []
    assert [(line["source"], line["readable"]) for line in coverage] == [("Animals", 2), ("Sports", 2)]
    rows = intake.take_in(official.data_root, "rl", 100, 0, workers=1).rows
    keyed = [e for e in rows if e.key_frames]
    damaged = replace(keyed[0], video_path="videos/lost.mp4")
    shown, frames = intake.first_video(official.data_root, [damaged, *rows], 2, 56 * 56)
    assert shown == keyed[0] and len(frames.times_s) == 2 + len(shown.key_frames)


def test_check_data_finds_everything_in_the_official_layout(official, capsys):
    assert main(["check-data", str(official.data_root), "--workers", "1"]) == 1
    output = capsys.readouterr().out
    for name in ("json_data/STGR-SFT.json", "json_data/STGR-RL.json", "V-STaR/V_STaR_test.json"):
        assert name in output
    assert "medium missing, 2 rows" in output and "key frame missing, " not in output
    seen = sum(kind != "frames damaged" for kind in official.broken.values()) + 1  # and the damaged image
    assert f"{seen} rows have problems" in output
