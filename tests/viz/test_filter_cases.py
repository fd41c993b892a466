"""The cases of the filters that a notebook shows: each reason in turn, the box on its own frame."""

import numpy as np
import pytest

from o3v.data.filter_report import FilterStep, run_filters
from o3v.data.filters import MODEL_FREE_STAGES, FilterResult
from o3v.schema import DroppedRow, Example, KeyFrame, Task
from o3v.toyworld.writing import write_video
from o3v.viz.plots import filter_cases

BOX = (0.0, 0.0, 0.5, 0.5)


@pytest.fixture
def examples(tmp_path):
    """Three rows, each with its video of 2 s: black in the first second, light in the second."""
    frames = np.zeros((20, 56, 56, 3), np.uint8)
    frames[10:] = 200
    key_frames = (KeyFrame(2, 0.2, None, {"dog": (BOX,)}), KeyFrame(15, 1.5, None, {"cat": (BOX,)}))
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", frames, fps=10)
    return [
        Example(name, Task.SPATIO_TEMPORAL, "own", "Where?", "Here", "So.", f"{name}.mp4", key_frames=key_frames)
        for name in "abc"
    ]


def test_reasons_take_turns(examples, tmp_path):
    large = [DroppedRow(name, "own", "large box", "dog in frame 2", 2, BOX) for name in "ab"]
    other = [
        DroppedRow("c", "own", "not what it is called", "cat in frame 15", 15, BOX),
        DroppedRow("c", "own", "x", "y"),
    ]
    steps = [FilterStep("boxes", 3, FilterResult([], large)), FilterStep("crops", 3, FilterResult([], other))]
    cases = filter_cases(steps, examples, tmp_path, max_cases=2)
    assert [case.reason for case in cases] == ["large box", "not what it is called"]
    brightness = [case.image[-20:, -20:].mean() for case in cases]
    assert brightness[0] < 30 and brightness[1] > 150  # frame 2 is black, frame 15 is light
    assert [box.name for box in cases[0].boxes] == ["dog"] and cases[0].boxes[0].box_px == (0, 0, 28, 28)
    for part in ("not what it is called", "cat in frame 15", "own", "row c"):
        assert part in cases[1].caption


def test_kept_rows_are_shown_too(examples, tmp_path):
    cases = filter_cases([FilterStep("boxes", 3, FilterResult(examples, []))], examples, tmp_path, max_cases=4)
    assert [(case.reason, case.boxes[0].name) for case in cases] == [("kept", "dog")] * 2


@pytest.mark.parametrize("steps", [[], run_filters([], MODEL_FREE_STAGES)])
def test_no_rows_give_no_cases(steps, tmp_path):
    assert filter_cases(steps, [], tmp_path) == []
