"""Rows checked against their media, and the command `o3v check-data`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from o3v.__main__ import main
from o3v.data import stgr
from o3v.data.check import check_file, good_rows
from o3v.schema import Example, KeyFrame, Task
from o3v.toyworld.writing import write_video

BOX = (0.1, 0.1, 0.4, 0.4)
VIDEO_ROW = Example("video", Task.SPATIO_TEMPORAL, "STR_coin", "Where?", "Here", "I see.", "videos/a.mp4")
VIDEO_ROW = replace(VIDEO_ROW, key_frames=(KeyFrame(5, 0.5, "kfs/a.jpg", {"dog": (BOX,)}),))
IMAGE_ROW = Example(
    "image", Task.SPATIAL, "gqa", "Where?", "<box>[2,2,50,40]</box>", "So.", None, "gqa/a.jpg", (56, 56)
)


def late(example, time_s):
    return replace(example, key_frames=(replace(example.key_frames[0], time_s=time_s),))


ROWS = {
    "video": VIDEO_ROW,
    "image": IMAGE_ROW,
    "no video": replace(VIDEO_ROW, id="no video", video_path="videos/b.mp4"),
    "half a video": replace(VIDEO_ROW, id="half a video", video_path="videos/half.mp4"),
    "no key frame": replace(
        VIDEO_ROW, id="no key frame", key_frames=(replace(VIDEO_ROW.key_frames[0], path="kfs/b.jpg"),)
    ),
    "late": late(replace(VIDEO_ROW, id="late"), 9.0),
    "off": replace(IMAGE_ROW, id="off", answer="<box>[2,2,57,40]</box>"),
    "link": replace(VIDEO_ROW, id="link", video_path="videos/link.mp4"),
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    for name in ("videos", "kfs", "gqa"):
        (folder / name).mkdir(parents=True)
    write_video(folder / "videos/a.mp4", np.full((20, 56, 56, 3), 90, np.uint8), fps=10)
    whole = (folder / "videos/a.mp4").read_bytes()
    (folder / "videos/half.mp4").write_bytes(whole[: len(whole) // 2])
    for path in ("kfs/a.jpg", "gqa/a.jpg"):
        Image.new("RGB", (56, 56)).save(folder / path)
    (tmp_path / "secret.mp4").write_bytes(whole)
    (folder / "videos/link.mp4").symlink_to(tmp_path / "secret.mp4")
    stgr.write_stgr(folder / "rows.json", ROWS.values())
    return folder


def test_each_kind_of_problem_is_counted_and_listed(root):
    coverage = check_file(root, root / "rows.json", workers=1)
    kinds = {
        "medium missing": ["no video", "link"],
        "medium unreadable": ["half a video"],
        "key frame missing": ["no key frame"],
        "time beyond video": ["late"],
        "box off picture": ["off"],
    }
    names = list(ROWS)
    for kind, rows in kinds.items():
        for case, name in zip(coverage.cases[kind], rows, strict=True):
            assert case.startswith(f"rows.json, row {names.index(name) + 1} ({name}): ")
    assert {names[n - 1] for n in coverage.bad_rows} == set(ROWS) - {"video", "image"}
    coin, gqa = coverage.table()
    assert (gqa["source"], gqa["rows"], gqa["media"], gqa["readable"], gqa["box off picture"]) == ("gqa", 2, 1, 1, 1)
    assert gqa["boxes in"] == "pixels 1, beyond the picture 1"
    assert (coin["rows"], coin["media"], coin["found"], coin["readable"]) == (6, 4, 2, 1)
    assert [e.id for e in good_rows(root / "rows.json", coverage)] == ["video", "image"]


def test_the_command_fails_on_problems_or_drops_their_rows(root, tmp_path, capsys):
    (root / ".rows-unfinished.json").write_text("[{", encoding="utf-8")  # of a killed run: skipped
    assert main(["check-data", str(root)]) == 1
    output = capsys.readouterr().out
    assert "6 rows" in output and "(late): 9 s in videos/a.mp4" in output
    assert main(["check-data", str(root), "--allow-missing", "--out", str(tmp_path / "good")]) == 0
    assert "6 rows" in capsys.readouterr().out
    assert [e.id for e in stgr.read_stgr(tmp_path / "good/rows.json")] == ["video", "image"]
    assert main(["check-data", str(root), str(tmp_path / "good/rows.json")]) == 0


def test_bad_rows_are_listed_too(root, capsys):
    (root / "rows.json").write_text('[{"id": "x"}]', encoding="utf-8")
    assert main(["check-data", str(root)]) == 1
    assert "rows.json, row 1 (x): field 'task'" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "nowhere.json"]])
def test_a_missing_file_is_an_error_of_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check-data", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["trl", "swift", "llama-factory"])
def test_rows_for_other_trainers(root, tmp_path, name):
    arguments = ["check-data", str(root), "--allow-missing", "--out", str(tmp_path / "out"), "--export", name]
    assert main(arguments) == 0
    lines = (tmp_path / f"out/rows.{name}.jsonl").read_text(encoding="utf-8").splitlines()
    video_row, image_row = map(json.loads, lines)
    assert video_row["videos"] == ["videos/a.mp4"] and image_row["images"] == ["gqa/a.jpg"]
    # pixels of an image of 56×56 in thousandths, by hand: 2 → 36, 50 → 893, 40 → 714
    assert "<box>[36,36,893,714]</box>" in json.dumps(image_row)
    assert "<think>I see.</think><answer>Here</answer>" in json.dumps(video_row)


def test_an_unknown_format_is_an_error(root, tmp_path, capsys):
    assert main(["check-data", str(root), "--allow-missing", "--out", str(tmp_path), "--export", "verl"]) == 2
    assert "trl, swift, llama-factory" in capsys.readouterr().err
