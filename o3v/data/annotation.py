"""Annotation data: the items to annotate, the JSON schema of an annotation, and its conversion to an STGR row.

Boxes are shares of the frame (0–1). This module checks the form of an annotation; `filters` judges whether it is true.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from o3v import evidence, video
from o3v.schema import DroppedRow, Example, SchemaError, Task, resolve_inside
from o3v.text import printable

MAX_REPLY_CHARS = 1_000_000
MAX_JSON_STARTS = 10_000  # maximum number of places in a reply where a JSON object may start


@dataclass(frozen=True)
class AnnotationItem:
    """A video to annotate. `notes` are (start, end, text): what its data set says about it.

    `kind` is "segment" for a described action (the grounding collections), with starts and ends in seconds, or
    "regions" for dense captions (PLM-Rdcap), with starts and ends as frame indices.
    """

    id: str
    source: str
    video_path: str
    duration_s: float
    fps: float
    notes: tuple[tuple[float, float, str], ...] = ()
    kind: Literal["segment", "regions"] = "segment"


def find_videos(folder: Path | str) -> tuple[list[AnnotationItem], list[str]]:
    """Returns an item for each video of a folder, sorted by name, and a message for each file that is not one.

    Tries to open every file, with any ending. The id of an item is its path without the ending, or its whole path where
    that is not unique. Links to folders and folders that cannot be read are messages too. Skips hidden files, such as
    unfinished ones of a killed run. Raises FileNotFoundError for a folder without files.
    """
    names, errors = _walk(Path(folder))
    if not Path(folder).is_dir() or not (names or errors):
        raise FileNotFoundError(f"{folder} holds no files")
    taken = Counter(names) + Counter(_stem(name) for name in names)
    items = []
    for name in names:
        shown = printable(os.fsencode(name).decode(errors="backslashreplace"))
        shown = shown.replace("\n", "\\n").replace("\t", "\\t")
        if shown != name:
            problem = "is not UTF-8" if any("\ud800" <= c <= "\udfff" for c in name) else "has control characters"
            errors.append(f"{shown}: the name {problem}; rename the file")
            continue
        try:
            info = video.probe(resolve_inside(folder, name))
        except (video.VideoError, SchemaError, OSError) as error:
            errors.append(str(error))
        else:
            item_id = name if taken[_stem(name)] > 1 else _stem(name)
            fps = len(info.times_s) / info.duration_s
            items.append(AnnotationItem(item_id, "own", name, info.duration_s, fps))
    return items, errors


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """The paths of all files below a folder, sorted, and a message for each folder that is not entered."""
    names: list[str] = []
    errors: list[str] = []

    def failed(error: OSError) -> None:
        errors.append(str(error))

    for parent, folders, files in os.walk(folder, onerror=failed):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        errors.extend(f"{os.path.join(parent, name)}: a link to a folder; copy the folder there" for name in links)
        paths = [Path(parent, name) for name in files if not name.startswith(".")]
        names += [path.relative_to(folder).as_posix() for path in paths]
    return sorted(names), errors


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


class AnnotationError(ValueError):
    """An answer that is not a valid annotation. The message gives the reason."""


_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_BOX = {"type": "array", "items": _NUMBER}  # shares of the frame
_OBJECT = {"type": "object", "required": ["name", "box"], "properties": {"name": _TEXT, "box": _BOX}}
_OBJECTS = {"type": "array", "items": _OBJECT}
_KEY_FRAME = {"type": "object", "required": ["at", "objects"], "properties": {"at": _NUMBER, "objects": _OBJECTS}}
_KEY_FRAMES = {"type": "array", "items": _KEY_FRAME}
ANNOTATION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["question", "answer", "key_frames", "reasoning"],
    "properties": {"question": _TEXT, "answer": _TEXT, "reasoning": _TEXT, "key_frames": _KEY_FRAMES},
}


def parse_annotation(text: str) -> dict[str, Any]:
    """Reads an annotation and checks it against `ANNOTATION_SCHEMA`.

    Reads the last complete JSON object of a reply, which may have prose, a `<think>` section or a Markdown fence around
    it. Raises AnnotationError with the place in the value and what the schema expects there.
    """
    from jsonschema import Draft202012Validator  # here, because the import takes a second

    try:
        value = _last_object(text)
        for error in Draft202012Validator(ANNOTATION_SCHEMA).iter_errors(value):
            wrong_type = f"must be of type {error.validator_value}, found {error.instance!r:.40}"
            reason = wrong_type if error.validator == "type" else error.message
            raise AnnotationError(f"annotation{error.json_path[1:]} {reason:.1000}")
    except RecursionError:
        raise AnnotationError("is not JSON: nested too deep") from None
    return value


def _last_object(text: str) -> Any:
    if len(text) > MAX_REPLY_CHARS:
        raise AnnotationError(f"has {len(text):,} characters, more than {MAX_REPLY_CHARS:,}")
    decoder, found = json.JSONDecoder(parse_int=float), []  # as a float, an integer of any length can be read
    reason, at = "it holds no object", text.find("{")
    for _ in range(MAX_JSON_STARTS):
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
            found.append(value)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):  # the reply is cut off
                raise AnnotationError(f"is not JSON: {error.msg}") from None
            reason, end = str(error), at + 1
        at = text.find("{", end)
    if not found:
        raise AnnotationError(f"is not JSON: {reason}")
    return found[-1]


def read_annotations(answers: Iterable[tuple[AnnotationItem, str]]) -> tuple[list[Example], list[DroppedRow]]:
    """Converts answers to rows. Also returns the answers that are not valid annotations, each with its reason."""
    examples, dropped = [], []
    for item, text in answers:
        try:
            examples.append(to_example(item, text))
        except AnnotationError as error:
            dropped.append(DroppedRow(item.id, item.source, "no annotation", str(error)))
    return examples, dropped


def to_example(item: AnnotationItem, text: str) -> Example:
    """Converts an annotation to an STGR row; frame indices of "regions" become seconds. Raises AnnotationError."""
    annotation = parse_annotation(text)
    frames, items = [], {}
    for position, frame in enumerate(annotation["key_frames"]):
        time_s = frame["at"] / item.fps if item.kind == "regions" else float(frame["at"])
        if not 0 <= time_s <= item.duration_s:  # also for NaN
            place = f"annotation.key_frames[{position}].at"
            raise AnnotationError(f"{place} is {frame['at']:g}, outside the video of {item.duration_s:g} s")
        if not frame["objects"]:
            raise AnnotationError(f"annotation.key_frames[{position}].objects is empty")
        idx = round(time_s * item.fps)
        frames.append({"idx": idx, "time": round(time_s, 3), "path": None})
        for obj in frame["objects"]:
            items.setdefault(str(idx), {}).setdefault(obj["name"], []).append(obj["box"])
    chain = annotation["reasoning"]
    if item.kind == "regions":
        chain = evidence.map_times(chain, lambda index: round(index / item.fps, 1))
    row = {
        "id": item.id,
        "task": str(Task.SPATIO_TEMPORAL),
        "source": item.source,
        "question": annotation["question"],
        "answer": annotation["answer"],
        "reasoning_process": chain,
        "video_path": item.video_path,
        "key_frames": frames,
        "key_items": items,
    }
    try:
        return Example.from_row(row)
    except SchemaError as error:
        raise AnnotationError(f"field {error.field!r} {error.reason}") from None
