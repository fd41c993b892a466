"""Imprecise annotations: what changes, by how much, and what stays."""

import numpy as np
import pytest

from o3v.evidence import parse_response
from o3v.geometry import box_iou
from o3v.schema import Example, KeyFrame, Task
from o3v.toyworld import imprecision

FRAMES = [(10 * n, 1.0 * n) for n in range(12)]
CUP = (0.2, 0.4, 0.4, 0.6)
CHAIN = "I see the <obj>cup</obj><box>[0.2,0.4,0.4,0.6]</box>at<t>3.0</t>s."


def grounded(row_id):
    frame = KeyFrame(30, 3.0, "kfs/a-30.jpg", {"cup": (CUP,)})
    return Example(row_id, Task.SPATIO_TEMPORAL, "s", "Where?", "There", CHAIN, "a.mp4", key_frames=(frame,))


def test_a_box_grows_on_every_side_by_at_most_the_margin_and_stays_in_the_frame():
    rng = np.random.default_rng(0)
    for _ in range(100):
        x0, y0, x1, y1 = imprecision.loosen_box((10, 20, 30, 60), (35, 100), rng)
        assert 10 - 0.3 * 20 <= x0 <= 10 and 30 <= x1 <= 35
        assert 20 - 0.3 * 40 <= y0 <= 20 and 60 <= y1 <= 60 + 0.3 * 40


def test_chain_and_key_frames_agree_after_loosening_and_moving():
    moved = 0
    for number in range(60):
        row = imprecision.imprecise(grounded(f"row-{number}"), 12.0, FRAMES, seed=0)
        (claim,) = parse_response(f"<think>{row.reasoning_process}</think><answer>x</answer>").claims
        (frame,) = row.key_frames
        assert claim.boxes == frame.items["cup"] and claim.time_s == frame.time_s and frame.idx == 10 * frame.time_s
        assert 1 / 1.6**2 <= box_iou(claim.boxes[0], CUP) <= 1
        assert frame.time_s in (2.0, 3.0, 4.0) and (frame.path is None) == (frame.time_s != 3.0)
        moved += frame.time_s != 3.0
    assert 4 <= moved <= 22  # 12 expected: 15% late, 5% early


def test_spans_grow_outwards_within_the_video():
    row = Example("a", Task.TEMPORAL, "s", "When?", "[4.0, 8.0]", "Seen.", "a.mp4")
    for number in range(50):
        start_s, end_s = imprecision.imprecise(row, 9.0, FRAMES, seed=number).span_s
        assert 4 - 0.35 * 4 - 0.05 <= start_s <= 4 and 8 <= end_s <= 9


def test_the_mean_iou_of_spans_is_near_that_of_human_annotators():
    row = Example("a", Task.TEMPORAL, "s", "When?", "[40.0, 60.0]", "Seen.", "a.mp4")
    spans = [imprecision.imprecise(row, 100.0, FRAMES, seed=number).span_s for number in range(400)]
    assert np.mean([20 / (end_s - start_s) for start_s, end_s in spans]) == pytest.approx(0.745, abs=0.02)


def test_boxes_of_images_are_whole_pixels_and_equal_in_chain_and_answer():
    text = "<obj>cup</obj><box>[10,20,30,60]</box>"
    row = Example("a", Task.SPATIAL, "s", "Find.", text, f"I see {text}.", None, "a.jpg", image_size_wh=(100, 100))
    new = imprecision.imprecise(row, 0.0, [], seed=0)
    assert new.answer in new.reasoning_process and new.answer != text and "." not in new.answer


def test_general_questions_and_repeated_calls_stay_the_same():
    row = Example("a", Task.MCQ, "s", "Which?", "A", "It is.", "a.mp4")
    assert imprecision.imprecise(row, 9.0, FRAMES, 0) is row
    assert imprecision.imprecise(grounded("a"), 9.0, FRAMES, 1) == imprecision.imprecise(grounded("a"), 9.0, FRAMES, 1)
