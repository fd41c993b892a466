"""Annotations: what is to be annotated, the JSON that comes back, and the row it becomes.

Boxes are shares of the frame. An annotation is only read here; whether it is true is `curate`'s to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from o3v import evidence, video
from o3v.schema import DroppedRow, Example, SchemaError, Task, resolve_inside

VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi")


@dataclass(frozen=True)
class AnnotationItem:
    """A video to be annotated. `notes` are (start_s, end_s, text): what its data set says about it.

    kind: "segment", a described action (the grounding collections), or "regions", dense captions, which speak of
    frame indices (PLM-Rdcap).
    """

    id: str
    source: str
    video_path: str
    duration_s: float
    fps: float
    notes: tuple[tuple[float, float, str], ...] = ()
    kind: Literal["segment", "regions"] = "segment"


def find_videos(folder: Path | str) -> tuple[list[AnnotationItem], list[str]]:
    """An item for each video of a folder, by name, and one line for each that cannot be read.

    Hidden files are passed over: unfinished ones of a killed run, and the doubles that some systems lay beside videos.
    Raises FileNotFoundError for a folder without videos.
    """
    found, unreadable = [], []
    paths = sorted(
        p for p in Path(folder).rglob("*") if p.suffix.lower() in VIDEO_ENDINGS and not p.name.startswith(".")
    )
    if not paths:
        raise FileNotFoundError(f"{folder} holds no video ({', '.join(VIDEO_ENDINGS)})")
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            info = video.probe(resolve_inside(folder, name))
        except (video.VideoError, SchemaError, OSError) as error:
            unreadable.append(str(error))
            continue
        found.append(
            AnnotationItem(name.rsplit(".", 1)[0], "own", name, info.duration_s, len(info.times_s) / info.duration_s)
        )
    return found, unreadable


class AnnotationError(ValueError):
    """An answer that is no annotation; the message says why."""


ANNOTATION_SCHEMA: Mapping[str, Any] = {  # the JSON schema of an annotation; boxes are shares of the frame
    "type": "object",
    "required": ["question", "answer", "key_frames", "reasoning"],
    "properties": {
        "question": {"type": "string"},
        "answer": {"type": "string"},
        "reasoning": {"type": "string"},
        "key_frames": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "objects"],
                "properties": {
                    "at": {"type": "number"},
                    "objects": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name", "box"],
                            "properties": {
                                "name": {"type": "string"},
                                "box": {"type": "array", "items": {"type": "number"}},
                            },
                        },
                    },
                },
            },
        },
    },
}


def parse_annotation(text: str) -> dict[str, Any]:
    """The JSON of an annotation, its types checked, fences of Markdown removed. Raises AnnotationError."""
    try:
        value = json.loads(re.sub(r"^\s*```(?:json)?|```\s*$", "", text))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"is not JSON: {error.msg}") from None
    _check(value, ANNOTATION_SCHEMA, "annotation")
    return value


_TYPES = {"object": dict, "array": list, "string": str, "number": (int, float)}


def _check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Holds a value to the few words of JSON Schema that `ANNOTATION_SCHEMA` uses."""
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool):
        raise AnnotationError(f"{where} must be of type {schema['type']}, found {value!r:.40}")
    for name in schema.get("required", ()):
        if name not in value:
            raise AnnotationError(f"{where} has no {name!r}")
        _check(value[name], schema["properties"][name], f"{where}.{name}")
    for position, part in enumerate(value if schema["type"] == "array" else ()):
        _check(part, schema["items"], f"{where}[{position}]")


def read_annotations(said: Iterable[tuple[AnnotationItem, str]]) -> tuple[list[Example], list[DroppedRow]]:
    """Rows of annotations, and the answers that are none, each with its reason."""
    examples, dropped = [], []
    for item, text in said:
        try:
            examples.append(to_example(item, text))
        except AnnotationError as error:
            dropped.append(DroppedRow(item.id, item.source, "no annotation", str(error)))
    return examples, dropped


def to_example(item: AnnotationItem, text: str) -> Example:
    """An annotation as an STGR row, frame indices of "regions" as seconds. Raises AnnotationError with the reason."""
    said = parse_annotation(text)
    frames, items = [], {}
    for frame in said["key_frames"]:
        time_s = frame["at"] / item.fps if item.kind == "regions" else float(frame["at"])
        idx = round(time_s * item.fps) if abs(time_s) < 1e9 else -1
        frames.append({"idx": idx, "time": round(time_s, 3), "path": None})
        for thing in frame["objects"]:
            items.setdefault(str(idx), {}).setdefault(thing["name"], []).append(thing["box"])
    chain = said["reasoning"]
    if item.kind == "regions":
        chain = evidence.map_times(chain, lambda index: round(index / item.fps, 1))
    row = {
        "id": item.id,
        "task": str(Task.SPATIO_TEMPORAL),
        "source": item.source,
        "question": said["question"],
        "answer": said["answer"],
        "reasoning_process": chain,
        "video_path": item.video_path,
        "key_frames": frames,
        "key_items": items,
    }
    try:
        return Example.from_row(row)
    except SchemaError as error:
        raise AnnotationError(f"field {error.field!r} {error.reason}") from None
