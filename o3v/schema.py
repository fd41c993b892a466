"""Rows: one question about one video or picture, with the evidence that answers it, as STGR files hold it.

`Example` is the validated form of an STGR row (formats: STGR-SFT.json, STGR-RL.json on the Hugging Face hub).
Boxes of key frames are shares of the frame (0–1); a `visual QA` row's boxes are pixels of `image_size_wh`.
This module knows nothing of prompts, rewards or models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from o3v.geometry import Box, Size

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
    """A row that cannot be used; the message names the row, the field and what is wrong with it."""


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
        where = f"row {row.get('id', '?')!r}"
        try:
            task = Task(row["task"])
        except KeyError:
            raise SchemaError(f"{where}: field 'task' is missing") from None
        except ValueError:
            raise SchemaError(f"{where}: field 'task': {row['task']!r} is none of {[str(t) for t in Task]}") from None
        texts = {name: _text(row, name, where) for name in ("question", "answer")}
        example = cls(
            id=str(row.get("id", "")),
            task=task,
            source=str(row.get("source", "")),
            reasoning_process=row.get("reasoning_process") or None,
            video_path=row.get("video_path") or None,
            image_path=row.get("image_path") or None,
            image_size_wh=_size(row.get("image_size"), where),
            key_frames=_key_frames(row, where),
            **texts,
        )
        example.media_path  # noqa: B018  a row without its medium is no row
        if task is Task.SPATIAL and example.image_size_wh is None:
            raise SchemaError(f"{where}: field 'image_size' is missing; the boxes of visual QA are pixels of it")
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


def dump_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """JSONL text of rows; the same rows give the same bytes. NaN and infinities are refused."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise SchemaError(f"{where}: field {name!r} must be a text that is not empty, found {value!r:.60}")
    return value


def _size(value: Any, where: str) -> Size | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(v, int) and v > 0 for v in value):
        raise SchemaError(f"{where}: field 'image_size' must be [width, height] in pixels, found {value!r:.60}")
    return (value[0], value[1])


def _key_frames(row: Mapping[str, Any], where: str) -> tuple[KeyFrame, ...]:
    items = row.get("key_items") or {}
    frames = []
    for position, frame in enumerate(row.get("key_frames") or []):
        field_name = f"key_frames[{position}]"
        try:
            idx, time_s = int(frame["idx"]), float(frame["time"])
        except (KeyError, TypeError, ValueError):
            raise SchemaError(f"{where}: field '{field_name}' needs a whole 'idx' and a 'time' in seconds") from None
        if not math.isfinite(time_s) or time_s < 0:
            raise SchemaError(f"{where}: field '{field_name}.time' is {time_s}, not a time in a video")
        boxes = {
            name: tuple(_box_norm(box, f"{where}: field 'key_items.{idx}.{name}'") for box in value)
            for name, value in (items.get(str(idx)) or {}).items()
            if value is not None
        }
        frames.append(KeyFrame(idx, time_s, frame.get("path"), boxes))
    return tuple(frames)


def _box_norm(value: Any, where: str) -> Box:
    numbers = isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(v, int | float) for v in value)
    if not numbers or not all(math.isfinite(v) and 0 <= v <= 1 for v in value):
        raise SchemaError(f"{where}: a box is four numbers in 0–1, found {value!r:.80}")
    if value[0] >= value[2] or value[1] >= value[3]:
        raise SchemaError(f"{where}: box {value!r:.80} is empty or inverted (x0 < x1 and y0 < y1 are needed)")
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))
