"""Relative sizes of answered boxes and spans, by hand."""

import pytest

from o3v.rewards.precision import relative_size


def answer(text):
    return f"<think>I see it.</think><answer>{text}</answer>"


def test_a_box_twice_as_wide_and_high_has_four_times_the_area():
    row = {
        "task": "visual QA",
        "answer": "<obj>cup</obj><box>[10,10,20,20]</box>",
        "image_size": [100, 100],
        "image_size_refine": [50, 50],
    }
    assert relative_size(answer("<obj>cup</obj><box>[5,5,15,15]</box>"), row) == pytest.approx(4.0)  # true: 5 by 5
    assert relative_size(answer("no box"), row) is None


def test_spans_and_other_tasks():
    row = {"task": "temporal QA (MCQ)", "answer": "B\n[1.0, 3.0]"}
    text = "From <t>0.0</t>s to <t>1.0</t>s\nCorrect Option: B"
    assert relative_size(answer(text), row) == 0.5
    assert relative_size(answer("B"), row) is None
    assert relative_size(answer("B"), {"task": "General video QA MCQ", "answer": "B"}) is None
