"""Answers in plain words: how a right one is written, how one is read, what it is worth.

Boxes are pixels of the picture that the model sees. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from o3v.evaluation.vstar import judge_exact
from o3v.evidence import ANSWER_LINE
from o3v.geometry import Size, box_iou, span_iou
from o3v.tinybase.clips import Boxes, PixelBox
from o3v.toyworld.narration import COLUMNS, ROWS, places

NOTHING = "nothing"
ENTRY = re.compile(r"(?:^|; |s: )(?P<words>[a-z]+(?: [a-z]+)*) \[(?P<box>[\d,]+)\]")


@dataclass(frozen=True)
class Asked:
    """A question, its right answer in plain words, and the truth that a scorer needs."""

    ability: str
    question: str
    answer: str
    truth: Any = None


def say_box(box_px: PixelBox) -> str:
    """A box as the model writes it.

    >>> say_box((1, 2, 30, 40))
    '[1,2,30,40]'
    """
    return "[" + ",".join(map(str, box_px)) + "]"


def say_boxes(boxes_px: Boxes, size_wh: Size) -> str:
    """Every thing with its place and box, in the order of the places, as one line."""
    entries = [f"{place} {name} {say_box(boxes_px[name])}" for name, place in places(boxes_px, size_wh).items()]
    return "; ".join(entries) or NOTHING


def read_boxes(text: str) -> Boxes:
    """What `say_boxes` and `say_thing` said; entries that are not well formed are left out."""
    found = {}
    for entry in ENTRY.finditer(text):
        sides = [int(side) for side in entry["box"].split(",") if side]
        name = [word for word in entry["words"].split(" ") if word not in (*ROWS, *COLUMNS)]
        if len(sides) == 4 and len(name) == 2:
            found[" ".join(name)] = tuple(sides)
    return found


def say_thing(name: str, boxes_px: Boxes, size_wh: Size) -> str:
    """One thing with its place and box."""
    return f"{name} {places(boxes_px, size_wh)[name]} {say_box(boxes_px[name])}"


def say_frame(number: int, time_s: float) -> str:
    """What begins an answer about one frame: its number and time, as the prompt has them."""
    return f"Frame {number} at {time_s:.1f}s: "


def in_boxes(said: str, truth: Boxes) -> list[float]:
    """IoU of each true thing with the box given to it, 0 where it is not named."""
    found = read_boxes(said)
    return [box_iou(found[name], box) if name in found else 0.0 for name, box in truth.items()]


def span_score(said: str, truth_s: Sequence[float]) -> float:
    """Temporal IoU of the answered span, the only two times of a conclusion; 0 when there is none."""
    numbers = re.findall(r"(\d+(?:\.\d+)?)s\b", said.rsplit(ANSWER_LINE, 1)[-1])
    return span_iou([float(n) for n in numbers], truth_s) if len(numbers) == 2 else 0.0


def exact(said: str, asked: Asked) -> float:
    """1 when the answer is the right one to the letter, else 0."""
    return float(said.strip() == asked.answer)


def last_line(said: str, asked: Asked) -> float:
    """1 when the last line is the right letter, else 0."""
    return float(said.strip().rsplit("\n", 1)[-1] == asked.truth)


def words_score(said: str, asked: Asked) -> float:
    """1 when the right answer's words stand in the conclusion, else 0 (`vstar.judge_exact`). The steps before it count
    on neither side: they name much."""
    return float(judge_exact(said.rsplit(ANSWER_LINE, 1)[-1], asked.answer.rsplit(ANSWER_LINE, 1)[-1]) == 3)


def found_score(said: str, asked: Asked) -> float:
    """Mean IoU of the asked thing."""
    return float(np.mean(in_boxes(said, asked.truth)))


SCORES: dict[str, Callable[[str, Asked], float]] = {
    "find": found_score,
    "visible": lambda said, asked: span_score(said, asked.truth),
    "when": lambda said, asked: span_score(said, asked.truth),
    "what": words_score,
    "other": words_score,
    "choice": last_line,
    "is this": exact,
    "relevance": exact,
}
