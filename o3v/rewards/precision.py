"""How large an answered box or span is in units of the true one. Shows imprecision that imitation copies; not a reward.

Ours. An answer around the truth that is too large has a good IoU and a relative size above 1.
"""

from collections.abc import Mapping
from typing import Any

from o3v.evidence import answer_span
from o3v.geometry import box_area
from o3v.rewards.config import PAPER
from o3v.rewards.sample import Sample
from o3v.schema import Task


def relative_size(text: str, row: Mapping[str, Any]) -> float | None:
    """Area of the answered box (`visual QA`) or length of the answered span (temporal tasks), divided by the true one.

    None for other tasks, and without a readable box or span in the answer. `row` as in `score_completion`, with its
    errors.

    >>> row = {"task": "temporal QA", "answer": "[2.0, 6.0]"}
    >>> relative_size("<think>x</think><answer>From <t>1.0</t>s to <t>7.0</t>s</answer>", row)
    1.5
    """
    sample, task = Sample(text, row, 1.0, PAPER), row["task"]
    if task == Task.SPATIAL:
        box = sample.parsed.answer_box
        return None if box is None else box_area(box) / box_area(sample.true_box())
    if task in (Task.TEMPORAL, Task.TEMPORAL_MCQ):
        span_s, true_s = answer_span(sample.answer), sample.true_span_s()
        return None if span_s is None else (span_s[1] - span_s[0]) / (true_s[1] - true_s[0])
    return None
