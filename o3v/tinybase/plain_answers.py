"""Answers in plain words: how to write a correct one, how to parse one, and how to score one.

Boxes are in pixels of the image that the model sees. This module does not know about models. Not part of the paper.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from o3v.evaluation.vstar import judge_exact
from o3v.evidence import ANSWER_LINE
from o3v.geometry import Size, box_iou, span_iou
from o3v.tinybase.clips import Boxes, PixelBox
from o3v.toyworld.narration import COLUMNS, ROWS, positions

NOTHING = "nothing"
ENTRY = re.compile(r"(?:^|; |s: )(?P<words>[a-z]+(?: [a-z]+)*) \[(?P<box>[\d,]+)\]")


@dataclass(frozen=True)
class QuestionAnswer:
    """A question, its correct answer in plain words, and the ground truth that the scorer of its ability needs."""

    ability: str
    question: str
    answer: str
    truth: Any = None


def format_box(box_px: PixelBox) -> str:
    """Writes a box as the model writes it.

    >>> format_box((1, 2, 30, 40))
    '[1,2,30,40]'
    """
    return "[" + ",".join(map(str, box_px)) + "]"


def format_boxes(boxes_px: Boxes, size_wh: Size) -> str:
    """Writes every object with its place and box on one line, in the order of the places."""
    entries = [f"{place} {name} {format_box(boxes_px[name])}" for name, place in positions(boxes_px, size_wh).items()]
    return "; ".join(entries) or NOTHING


def format_object(name: str, boxes_px: Boxes, size_wh: Size) -> str:
    """Writes one object with its place and box."""
    return f"{name} {positions(boxes_px, size_wh)[name]} {format_box(boxes_px[name])}"


def format_frame(number: int, time_s: float) -> str:
    """Writes the start of an answer about one frame: its number and time, worded as in the prompt."""
    return f"Frame {number} at {time_s:.1f}s: "


def parse_boxes(text: str) -> Boxes:
    """Parses the output of `format_boxes` or `format_object`. Skips malformed entries."""
    boxes_px = {}
    for entry in ENTRY.finditer(text):
        sides = [int(side) for side in entry["box"].split(",") if side]
        name = [word for word in entry["words"].split(" ") if word not in (*ROWS, *COLUMNS)]
        if len(sides) == 4 and len(name) == 2:
            boxes_px[" ".join(name)] = tuple(sides)
    return boxes_px


def _conclusion(text: str) -> str:
    """The part of an answer after its steps."""
    return text.rsplit(ANSWER_LINE, 1)[-1]


def find_score(reply: str, qa: QuestionAnswer) -> float:
    """Mean IoU of the true boxes with the boxes in the reply; 0 for an object that the reply does not name."""
    predicted = parse_boxes(reply)
    ious = [box_iou(predicted[name], box) if name in predicted else 0.0 for name, box in qa.truth.items()]
    return float(np.mean(ious))


def span_score(reply: str, truth_s: Sequence[float]) -> float:
    """Temporal IoU of the span in the reply's conclusion; 0 unless the conclusion has exactly two times."""
    times_s = [float(number) for number in re.findall(r"(\d+(?:\.\d+)?)s\b", _conclusion(reply))]
    return span_iou(times_s, truth_s) if len(times_s) == 2 else 0.0


def words_score(reply: str, qa: QuestionAnswer) -> float:
    """1 when the reply's conclusion contains the words of the correct conclusion, else 0 (`vstar.judge_exact`).

    The steps before the conclusion do not count: they name many objects.
    """
    return float(judge_exact(_conclusion(reply), _conclusion(qa.answer)) == 3)


def letter_score(reply: str, qa: QuestionAnswer) -> float:
    """1 when the last line of the reply is the correct letter, else 0."""
    return float(reply.strip().rsplit("\n", 1)[-1] == qa.truth)


def exact_score(reply: str, qa: QuestionAnswer) -> float:
    """1 when the reply equals the correct answer, else 0."""
    return float(reply.strip() == qa.answer)


SCORES: dict[str, Callable[[str, QuestionAnswer], float]] = {
    "find": find_score,
    "visible": lambda reply, qa: span_score(reply, qa.truth),
    "when": lambda reply, qa: span_score(reply, qa.truth),
    "what": words_score,
    "other": words_score,
    "choice": letter_score,
    "is this": exact_score,
    "relevance": exact_score,
}
