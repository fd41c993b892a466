"""Rows: one question about one video or picture, with the evidence that answers it, as STGR files hold it.

`Example` is the validated form of an STGR row (formats: STGR-SFT.json, STGR-RL.json on the Hugging Face hub).
Boxes of key frames are shares of the frame (0–1); a `visual QA` row's boxes are pixels of `image_size_wh`.
This module knows nothing of prompts, rewards or models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from o3v.geometry import Box, Size, rescale_box

Row = dict[str, Any]


class Task(StrEnum):
    """The six tasks, spelled as the STGR files spell them."""

    TEMPORAL = "temporal QA"
    TEMPORAL_MCQ = "temporal QA (MCQ)"
    SPATIAL = "visual QA"
    SPATIO_TEMPORAL = "temporal-spatial free-form QA"
    MCQ = "General video QA MCQ"
    FREE_FORM = "General video QA Free-form"


class SchemaError(ValueError):
    """A row that cannot be used. `field` says where in it, `reason` what is wrong; the message names the row too."""

    def __init__(self, message: str, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class KeyFrame:
    """One annotated moment: frame index and time in seconds, and the boxes (0–1) of each named object."""

    idx: int
    time_s: float
    path: str | None = None
    items: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One question with its answer and evidence. Paths are relative to the data root of their file.

    `image_size_wh` is the size whose pixels a `visual QA` row speaks in; None for video rows.
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
        """The boxes of the key frames, by time in seconds and name, in pixels of a frame of that size."""
        return {
            frame.time_s: {name: [rescale_box(b, (1, 1), size_wh) for b in some] for name, some in frame.items.items()}
            for frame in self.key_frames
        }

    @property
    def media_path(self) -> str:
        """The video, or the picture of a `visual QA` row."""
        path = self.image_path if self.task is Task.SPATIAL else self.video_path
        if path is None:
            raise SchemaError(f"row {self.id!r}: no {'image_path' if self.task is Task.SPATIAL else 'video_path'}")
        return path

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Example:
        """Validates one STGR row. Raises SchemaError naming the row and the field."""
        try:
            return cls._from_row(row)
        except _Wrong as wrong:
            message = f"row {row.get('id', '?')!r:.60}: field {wrong.field!r} {wrong.reason}"
            raise SchemaError(message, wrong.field, wrong.reason) from None

    @classmethod
    def _from_row(cls, row: Mapping[str, Any]) -> Example:
        if "task" not in row:
            raise _Wrong("task", "is missing")
        if row["task"] not in _TASKS:
            raise _Wrong("task", f"is {row['task']!r:.60}, none of {list(_TASKS)}")
        task = Task(row["task"])
        texts = {name: _text(row, name) for name in ("question", "answer")}
        optional = {name: _path(row.get(name), name) for name in ("video_path", "image_path")}
        example = cls(
            id=_id(row),
            task=task,
            source=_text(row, "source", True) or "",
            reasoning_process=_text(row, "reasoning_process", True),
            image_size_wh=_size(row.get("image_size")),
            key_frames=_key_frames(row),
            **texts,
            **optional,
        )
        medium = "image_path" if task is Task.SPATIAL else "video_path"
        if optional[medium] is None:
            raise _Wrong(medium, "is missing; a row without its medium is no row")
        if task is Task.SPATIAL and example.image_size_wh is None:
            raise _Wrong("image_size", "is missing; the boxes of visual QA are pixels of it")
        return example

    def to_row(self) -> Row:
        """The row as the STGR files write it; `Example.from_row(e.to_row()) == e`."""
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


def read_examples(path: Path | str) -> Iterator[Example]:
    """Examples of a JSONL file of STGR rows, one at a time. Raises SchemaError naming file, line and field."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise SchemaError(f"expected an object, found {type(row).__name__}")
                yield Example.from_row(row)
            except (json.JSONDecodeError, SchemaError) as error:
                raise SchemaError(f"{path}, line {number}: {error}") from None


def resolve_inside(root: Path | str, relative: str) -> Path:
    """The file of a row's path below `root`. Raises SchemaError for one that leaves it, through a link too."""
    path = Path(root) / relative
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise SchemaError(f"{relative!r} leaves the data folder {root}; copy the file there", "", "leaves the folder")
    return path


def rows_to_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """JSONL text of rows; the same rows give the same bytes. NaN and infinities are refused."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


class _Wrong(Exception):
    """A field and what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason


_TASKS = tuple(str(task) for task in Task)
LONGEST_PATH = 4_096
LONGEST_TEXT = 100_000  # characters; the longest reasoning of the public files has some 6,000


def _text(row: Mapping[str, Any], name: str, optional: bool = False) -> str | None:
    value = row.get(name)
    if optional and (value is None or value == ""):
        return None
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(name, f"must be a text that is not empty, found {value!r:.60}")
    if len(value) > LONGEST_TEXT:
        raise _Wrong(name, f"has {len(value)} characters, more than {LONGEST_TEXT}")
    return value


def _path(value: Any, field: str) -> str | None:
    """A path below the data folder, as text. Links are followed, and judged, where the file is opened."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value or len(value) > LONGEST_PATH:
        raise _Wrong(field, f"must be a path, found {value!r:.60}")
    if value.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", value) or ".." in re.split(r"[/\\]", value):
        raise _Wrong(field, f"is {value!r:.60}, which leaves the data folder; give it relative to that")
    return value


def _id(row: Mapping[str, Any]) -> str:
    value = row.get("id", "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Wrong("id", f"must be a text or a whole number, found {value!r:.60}")
    return str(value)


def _size(value: Any) -> Size | None:
    if value is None:
        return None
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)
    if not whole:
        raise _Wrong("image_size", f"must be [width, height] in pixels, found {value!r:.60}")
    return (value[0], value[1])


def _key_frames(row: Mapping[str, Any]) -> tuple[KeyFrame, ...]:
    items, listed = row.get("key_items") or {}, row.get("key_frames") or []
    if not isinstance(items, Mapping):
        raise _Wrong("key_items", f"must be an object, found {type(items).__name__}")
    if not isinstance(listed, list | tuple):
        raise _Wrong("key_frames", f"must be a list, found {type(listed).__name__}")
    frames = []
    for position, frame in enumerate(listed):
        idx, time_s = _moment(frame, f"key_frames[{position}]")
        path = _path(frame.get("path"), f"key_frames[{position}].path")
        frames.append(KeyFrame(idx, time_s, path, _boxes(items.get(str(idx)) or {}, f"key_items.{idx}")))
    without = {idx for idx, boxes in items.items() if boxes} - {str(frame.idx) for frame in frames}
    if without:
        raise _Wrong("key_items", f"has boxes for frame {min(without)!r:.60}, which is not among the key frames")
    if len({frame.idx for frame in frames}) < len(frames):
        raise _Wrong("key_frames", "names the same 'idx' twice")
    return tuple(frames)


def _moment(frame: Any, field: str) -> tuple[int, float]:
    try:
        idx, time_s = frame["idx"], float(frame["time"])
        if type(idx) is not int:
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise _Wrong(field, "needs a whole 'idx' and a 'time' in seconds") from None
    if not math.isfinite(time_s) or time_s < 0 or idx < 0:
        raise _Wrong(f"{field}.time", f"is {time_s} (frame {idx}), not a time in a video")
    return idx, time_s


def _boxes(items: Any, field: str) -> dict[str, tuple[Box, ...]]:
    if not isinstance(items, Mapping):
        raise _Wrong(field, f"must be an object of names and boxes, found {type(items).__name__}")
    found = {}
    for name, boxes in items.items():
        if boxes is None:  # Arrow fills the names of other rows in
            continue
        if not isinstance(boxes, list | tuple):
            raise _Wrong(f"{field}.{name:.60}", f"must be a list of boxes, found {boxes!r:.60}")
        found[name] = tuple(_box_norm(box, f"{field}.{name:.60}") for box in boxes)
    return found


def _box_norm(value: Any, field: str) -> Box:
    if not isinstance(value, list | tuple) or len(value) != 4 or any(type(v) not in (int, float) for v in value):
        raise _Wrong(field, f"has {value!r:.80}; a box is four numbers in 0–1")
    if not all(math.isfinite(v) and 0 <= v <= 1 for v in value):
        raise _Wrong(field, f"has {value!r:.80}; a box is four numbers in 0–1 (shares of the frame)")
    if value[0] >= value[2] or value[1] >= value[3]:
        raise _Wrong(field, f"has box {value!r:.80}, which is empty or inverted (x0 < x1 and y0 < y1 are needed)")
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))


@dataclass(frozen=True)
class DroppedRow:
    """A row, or one box of a row that stays, and why it went. `box` (0–1) is the offender, if one is."""

    id: str
    source: str
    reason: str
    detail: str
    frame_idx: int | None = None
    box: Box | None = None


def answer_span_s(example: Example) -> tuple[float, float] | None:
    """The span in seconds that answers a temporal row, None where there is none."""
    found = re.search(r"\[\s*([\d.]+)\s*,\s*([\d.]+)\s*\]\s*$", example.answer)
    if example.task not in (Task.TEMPORAL, Task.TEMPORAL_MCQ) or not found:
        return None
    return float(found[1]), float(found[2])
