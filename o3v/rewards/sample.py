"""One completion with its row, as the reward terms read it.

The text is read by the evidence grammar or as the public code reads it (`RewardConfig.reading`). Ground truth is
converted to the space in which the completion writes boxes. This module does not know which terms a task has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from o3v.evidence import Claim, Response, answer_boxes, parse_response
from o3v.geometry import Box, Size, Span, rescale_box, text_box_size
from o3v.rewards.config import RewardConfig
from o3v.rewards.official_parser import OfficialReading, read_official
from o3v.rewards.terms import KeyBoxes
from o3v.schema import read_letter, read_span, without_section


@dataclass(frozen=True)
class ParsedResponse:
    """What the terms read in a response. `answer` is None without a closed answer section."""

    answer: str | None
    times_s: Sequence[float]
    claims: Sequence[Claim]
    think_boxes: Sequence[Box]
    answer_box: Box | None


@dataclass(frozen=True)
class Sample:
    """A completion and its STGR row."""

    text: str  # the completion; its boxes are in units of the box space
    # STGR row. `image_size_refine` is the size of the box space; a video row without it has it in `image_size`
    row: Mapping[str, Any]
    progress: float  # share of training done, 0–1
    config: RewardConfig  # reading of the reward

    @cached_property
    def response(self) -> Response:
        """The text parsed by the grammar."""
        return parse_response(self.text)

    @cached_property
    def official(self) -> OfficialReading:
        """The text as the public code reads it."""
        return read_official(self.text)

    @cached_property
    def parsed(self) -> ParsedResponse:
        """The text read by the parser that the config names."""
        if self.config.reading == "public":
            found = self.official
            parsed = ParsedResponse(found.answer, found.times_s, found.claims, found.think_boxes, found.answer_box)
        else:
            found = self.response
            think_boxes, boxes = answer_boxes(found.think or ""), answer_boxes(found.answer or "")
            parsed = ParsedResponse(found.answer, found.times_s, found.claims, think_boxes, next(iter(boxes), None))
        if self.config.spatial_needs_answer and parsed.answer is None:
            parsed = replace(parsed, claims=(), think_boxes=(), answer_box=None)
        return parsed

    @property
    def answer(self) -> str:
        """The stripped answer section, empty without one."""
        return (self.parsed.answer or "").strip()

    @property
    def true_answer(self) -> str:
        """The row's answer without `<answer>` around it."""
        return without_section("answer", self.row["answer"])

    def true_span_s(self) -> Span:
        """The true span in seconds. Raises ValueError if the row's answer has none."""
        return self._read("answer", read_span(self.true_answer), "without one span [start, end] in seconds")

    def true_letter(self) -> str:
        """The letter of the right option. Raises ValueError if the row's answer has none."""
        return self._read("answer", read_letter(self.true_answer), "without the letter of an option")

    def true_box(self) -> Box:
        """The first box of a `visual QA` answer, converted to the box space from pixels of `image_size` (or 0–1)."""
        boxes = answer_boxes(self.row["answer"])
        box = self._read("answer", next(iter(boxes), None), "without a box")
        return rescale_box(box, text_box_size(box, self._size("image_size")), self._size("image_size_refine"))

    def key_times_s(self) -> list[float]:
        """Times of the key frames in seconds."""
        return [frame["time"] for frame in self.row.get("key_frames") or ()]

    def key_boxes(self) -> list[KeyBoxes]:
        """Times of the key frames with their boxes by object name, converted from 0–1 to the box space."""
        items = self.row.get("key_items") or {}
        frames = []
        for frame in self.row.get("key_frames") or ():
            objects = {name: boxes for name, boxes in (items.get(str(frame["idx"])) or {}).items() if boxes}
            scaled = {n: [rescale_box(b, (1, 1), self._space_wh()) for b in boxes] for n, boxes in objects.items()}
            frames.append((frame["time"], scaled))
        return frames

    def _space_wh(self) -> Size:
        return self.row.get("image_size_refine") or self._size("image_size")

    def _size(self, name: str) -> Size:
        if not self.row.get(name):
            raise self.error(name, "is missing; boxes need it ([width, height] in pixels)")
        return self.row[name]

    def _read(self, name: str, value: Any, problem: str) -> Any:
        if value is None:
            raise self.error(name, f"is {self.row[name]!r:.60}, {problem}")
        return value

    def error(self, name: str, problem: str) -> ValueError:
        """The error that names the row and the field."""
        return ValueError(f"row {self.row.get('id', '?')!r}: field {name!r} {problem}")
