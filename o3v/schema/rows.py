"""Rows of STGR files: one question about one video or image, with its answer and evidence.

`Example` is a validated row (STGR-SFT.json and STGR-RL.json on the Hugging Face hub). Key-frame boxes are normalised
(0–1); boxes in the text of a `visual QA` row are pixels of `image_size_wh`. Spans and option letters are read only
here (`read_span`, `read_letter`). This module does not know prompts, rewards or models.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from o3v.evidence import answer_boxes
from o3v.files import read_jsonl
from o3v.geometry import Box, Size, Span, rescale_box
from o3v.schema.fields import (
    FieldError,
    read_boxes,
    read_id,
    read_letter,
    read_path,
    read_size,
    read_span,
    read_text,
)

Row = dict[str, Any]
COLLECTIONS = "videos"  # folder of a data root whose folders may be links to collections elsewhere


class Task(StrEnum):
    """The six tasks, spelled as the STGR files spell them."""

    TEMPORAL = "temporal QA"
    TEMPORAL_MCQ = "temporal QA (MCQ)"
    SPATIAL = "visual QA"
    SPATIO_TEMPORAL = "temporal-spatial free-form QA"
    MCQ = "General video QA MCQ"
    FREE_FORM = "General video QA Free-form"


class SchemaError(ValueError):
    """A row that cannot be used. `field` names the wrong field, `reason` says why. The message also names the row."""

    def __init__(self, message: str, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class KeyFrame:
    """One annotated frame: its index, time in seconds, and the normalised boxes of each named object."""

    idx: int
    time_s: float
    path: str | None = None
    items: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One question with its answer and evidence. Paths are relative to the data root.

    `image_size_wh` is the size of the image in whose pixels a `visual QA` row gives its boxes; None for video rows.
    """

    id: str
    task: Task
    source: str
    question: str
    answer: str
    reasoning_process: str | None = None
    video_path: str | None = None
    image_path: str | None = None
    image_size_wh: Size | None = None
    key_frames: tuple[KeyFrame, ...] = ()

    def boxes_px(self, size_wh: Sequence[float]) -> dict[float, dict[str, list[Box]]]:
        """Key-frame boxes by time in seconds and object name, in pixels of a frame of this size."""
        found: dict[float, dict[str, list[Box]]] = {}
        for frame in self.key_frames:
            objects = found.setdefault(frame.time_s, {})
            for name, boxes in frame.items.items():
                objects.setdefault(name, []).extend(rescale_box(box, (1, 1), size_wh) for box in boxes)
        return found

    @property
    def span_s(self) -> Span | None:
        """The true span in seconds of a temporal row, None for the other tasks."""
        return read_span(self.answer) if self.task in (Task.TEMPORAL, Task.TEMPORAL_MCQ) else None

    @property
    def media_path(self) -> str:
        """The path of the video, or of the image of a `visual QA` row."""
        path = self.image_path if self.task is Task.SPATIAL else self.video_path
        if path is None:
            raise SchemaError(f"row {self.id!r}: no {'image_path' if self.task is Task.SPATIAL else 'video_path'}")
        return path

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Validates one STGR row. Raises SchemaError naming the row and the field."""
        try:
            return cls._from_row(row)
        except FieldError as error:
            message = f"row {row.get('id', '?')!r:.60}: field {error.field!r} {error.reason}"
            raise SchemaError(message, error.field, error.reason) from None

    @classmethod
    def _from_row(cls, row: Mapping[str, Any]) -> Self:
        if "task" not in row:
            raise FieldError("task", "is missing")
        if row["task"] not in _TASKS:
            raise FieldError("task", f"is {row['task']!r:.60}, none of {list(_TASKS)}")
        task = Task(row["task"])
        texts = {name: read_text(row, name) for name in ("question", "answer")}
        optional = {name: read_path(row.get(name), name) for name in ("video_path", "image_path")}
        example = cls(
            id=read_id(row),
            task=task,
            source=read_text(row, "source", True) or "",
            reasoning_process=read_text(row, "reasoning_process", True),
            image_size_wh=read_size(row.get("image_size")),
            key_frames=_key_frames(row),
            **texts,
            **optional,
        )
        medium = "image_path" if task is Task.SPATIAL else "video_path"
        if optional[medium] is None:
            raise FieldError(medium, "is missing; a row needs its video or image")
        if task is Task.SPATIAL and example.image_size_wh is None:
            raise FieldError("image_size", "is missing; the boxes of visual QA are pixels of it")
        if problem := _answer_problem(task, example.answer):
            raise FieldError("answer", f"is {example.answer!r:.60}, {problem}")
        return example

    def to_row(self) -> Row:
        """The row as the STGR files write it. `Example.from_row(e.to_row()) == e`."""
        row: Row = {
            "id": self.id,
            "task": str(self.task),
            "source": self.source,
            "question": self.question,
            "answer": self.answer,
            "video_path": self.video_path,
            "image_path": self.image_path,
            "image_size": list(self.image_size_wh) if self.image_size_wh else None,
            "key_frames": [{"idx": k.idx, "time": k.time_s, "path": k.path} for k in self.key_frames],
            "key_items": {
                str(k.idx): {name: [list(box) for box in boxes] for name, boxes in k.items.items()}
                for k in self.key_frames
                if k.items
            },
        }
        return row | ({"reasoning_process": self.reasoning_process} if self.reasoning_process else {})


@dataclass(frozen=True)
class DroppedRow:
    """A row, or one box of a row, that a filter dropped, with the reason. `box` (0–1) is the wrong box, if any."""

    id: str
    source: str
    reason: str
    detail: str
    frame_idx: int | None = None
    box: Box | None = None


def read_examples(path: Path | str) -> Iterator[Example]:
    """Reads a JSONL file of STGR rows, one at a time.

    Raises SchemaError naming file, line and field, and ValueError for a line that is not JSON.
    """
    for number, row in read_jsonl(path):
        try:
            if not isinstance(row, dict):
                raise SchemaError(f"expected an object, found {type(row).__name__}")
            example = Example.from_row(row)
        except SchemaError as error:
            raise SchemaError(f"{path}, line {number}: {error}") from None
        yield example


def _answer_problem(task: Task, answer: str) -> str | None:
    """Returns why an answer cannot be used as the ground truth of its task, or None if it can."""
    if task in (Task.TEMPORAL, Task.TEMPORAL_MCQ) and read_span(answer) is None:
        return "without one span [start, end] in seconds, 0 ≤ start < end"
    if task in (Task.MCQ, Task.TEMPORAL_MCQ) and read_letter(answer) is None:
        return "without the letter of an option"
    if task is Task.SPATIAL and not answer_boxes(answer):
        return "without a box"
    return None


_TASKS = tuple(str(task) for task in Task)


def _key_frames(row: Mapping[str, Any]) -> tuple[KeyFrame, ...]:
    items, listed = row.get("key_items") or {}, row.get("key_frames") or []
    if not isinstance(items, Mapping):
        raise FieldError("key_items", f"must be an object, found {type(items).__name__}")
    if not isinstance(listed, list | tuple):
        raise FieldError("key_frames", f"must be a list, found {type(listed).__name__}")
    frames = []
    for position, frame in enumerate(listed):
        idx, time_s = _moment(frame, f"key_frames[{position}]")
        path = read_path(frame.get("path"), f"key_frames[{position}].path")
        frames.append(KeyFrame(idx, time_s, path, read_boxes(items.get(str(idx)) or {}, f"key_items.{idx}")))
    without = {idx for idx, boxes in items.items() if boxes} - {str(frame.idx) for frame in frames}
    if without:
        raise FieldError("key_items", f"has boxes for frame {min(without)!r:.60}, which is not among the key frames")
    if len({frame.idx for frame in frames}) < len(frames):
        raise FieldError("key_frames", "names the same 'idx' twice")
    return tuple(frames)


def _moment(frame: Any, field: str) -> tuple[int, float]:
    try:
        idx, time_s = frame["idx"], float(frame["time"])
        if type(idx) is not int or isinstance(frame["time"], bool):
            raise TypeError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise FieldError(field, "needs a whole 'idx' and a 'time' in seconds") from None
    if not math.isfinite(time_s) or time_s < 0 or idx < 0:
        raise FieldError(f"{field}.time", f"is {time_s} (frame {idx}), not a time in a video")
    return idx, time_s


def resolve_inside(root: Path | str, relative: str) -> Path:
    """The file of a row's path below `root`.

    A link to a folder is followed at and below `videos/`: whoever names a root names the collections that it links to.
    Raises SchemaError if the path leaves the root in another way, also through a link to a file, and for links in a
    circle and names that are too long.
    """
    path = Path(root) / relative
    try:
        inside = _stays_inside(Path(root).resolve(), Path(relative))
        path.is_file()  # OSError for a name that is too long
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle, in Python 3.11 and 3.12
        raise SchemaError(f"{relative!r:.100} is no path of a file: {error!s:.100}", "", "is no path") from None
    if not inside:
        raise SchemaError(f"{relative!r} leaves the data folder {root}; copy the file there", "", "leaves the folder")
    return path


def _stays_inside(root: Path, relative: Path) -> bool:
    """Whether a path stays in `root` (a real path) and in the folders that its collections are links to."""
    base = at = root
    for part in relative.parts:
        at = at / part
        if at.is_symlink():
            at = at.resolve()
            if relative.parts[0] == COLLECTIONS and at.is_dir():
                base = at
        if part == ".." or not at.is_relative_to(base):
            return False
    return True
