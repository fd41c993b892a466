"""Cases of the audit: each reason in turn, the offender on its own frame."""

import numpy as np

from o3v import video
from o3v.data import filter_report, filters
from o3v.data.filter_report import FilterStep
from o3v.data.filters import FilterResult
from o3v.schema import DroppedRow, Example, KeyFrame, Task
from o3v.viz import filter_cases

BOX = (0.0, 0.0, 0.5, 0.5)


def film(name, tmp_path):
    path = tmp_path / f"{name}.mp4"
    frames = np.zeros((20, 56, 56, 3), np.uint8)
    frames[10:] = 200
    video.write_video(path, frames, fps=10)
    keys = (KeyFrame(2, 0.2, None, {"dog": (BOX,)}), KeyFrame(15, 1.5, None, {"cat": (BOX,)}))
    return Example(name, Task.SPATIO_TEMPORAL, "own", "Where?", "Here", "So.", path.name, key_frames=keys)


def test_each_reason_has_its_turn(tmp_path):
    rows = [film(name, tmp_path) for name in "abc"]
    large = [DroppedRow(name, "own", "large box", "dog in frame 2", 2, BOX) for name in "ab"]
    other = [
        DroppedRow("c", "own", "not what it is called", "cat in frame 15", 15, BOX),
        DroppedRow("c", "own", "x", "y"),
    ]
    steps = [FilterStep("boxes", 3, FilterResult([], large)), FilterStep("crops", 3, FilterResult([], other))]
    found = filter_cases.filter_cases(steps, rows, tmp_path, most=2)
    assert [case.reason for case in found] == ["large box", "not what it is called"]
    darkness = [case.image[-20:, -20:].mean() for case in found]
    assert darkness[0] < 30 and darkness[1] > 150  # frame 2 is black, frame 15 is not
    assert [box.name for box in found[0].boxes] == ["dog"] and found[0].boxes[0].box_px == (0, 0, 28, 28)
    assert found[1].words == "not what it is called: cat in frame 15 (own, row c)"


def test_some_of_the_kept_stand_beside_them(tmp_path):
    rows = [film(name, tmp_path) for name in "abc"]
    found = filter_cases.filter_cases([FilterStep("boxes", 3, FilterResult(rows, []))], rows, tmp_path, most=4)
    assert [(case.reason, case.boxes[0].name) for case in found] == [("kept", "dog")] * 2


def test_nothing_to_show(tmp_path):
    assert (
        filter_cases.filter_cases(filter_report.run_filters([], filters.MODEL_FREE_STAGES), [], tmp_path)
        == []
        == filter_cases.filter_cases([], [], tmp_path)
    )
