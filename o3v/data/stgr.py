"""Reads and writes STGR files as published on the Hugging Face hub, row by row, and filters rows by source.

Reads a JSON list (or one object per line) of tens of thousands of rows without holding it in memory. Source names are
spelled as in the files ("videor1_free_from"). A bad row does not stop the reading: it becomes a `BadRow` with its
number, the field and the reason. The filters by source are the paper's, one function each. This module does not open
videos.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from o3v import evidence, files
from o3v.schema import Example, Row, SchemaError, Task

GROUNDING = tuple(f"STR_{name}" for name in ("activitynet", "coin", "didemo", "queryd", "qvhighlight"))
OTHER_SOURCES = ("STR_plm_rdcap", "TreeVGR", "videor1_mcq", "videor1_free_from", "gqa", "timerft")
SOURCES = (*GROUNDING, *OTHER_SOURCES, "videoespresso_train_video")
PREFIXES = ("TVG_", "synth")  # the temporal grounding collections, and the rows of our synthetic world

CHUNK = 1 << 20  # characters read at a time
MAX_ROW_CHARS = 1 << 24  # a row that does not end within these is malformed
NEXT_ROW = re.compile(r'\}\s*,?\s*(?=\{\s*")')


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used. `number` counts from 1; `id` and `field` are empty if unknown."""

    number: int
    id: str
    field: str
    reason: str

    def __str__(self) -> str:
        row_id = f" ({self.id})" if self.id else ""
        return f"row {self.number}{row_id}: {f'field {self.field!r} ' if self.field else ''}{self.reason}"


def read_stgr(
    path: Path | str, durations_s: Mapping[str, float] | None = None, sources: Callable[[str], bool] | None = None
) -> Iterator[Example | BadRow]:
    """Reads every row of an STGR file, in order: an `Example`, or a `BadRow` with the reason.

    `durations_s` (by `video_path`) makes a time beyond the end of its video an error. `sources` decides which source
    names are valid (default: `known_source`). Raises FileNotFoundError, and SchemaError for a file of another format.
    """
    is_known, seen_ids = sources or known_source, set()
    for number, row in read_rows(path):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            example = Example.from_row(row)
            if not is_known(example.source):
                raise _error("source", f"is {example.source!r:.60}, which is not known")
            _check_evidence(example, (durations_s or {}).get(example.video_path or ""))
            if (key := hash(example.id)) in seen_ids:
                raise _error("id", "is also the id of an earlier row")
            seen_ids.add(key)
        except SchemaError as error:
            yield BadRow(number, str(row.get("id", ""))[:60], error.field, error.reason)
        else:
            yield example


def known_source(source: str) -> bool:
    """Whether the public files or our synthetic world use this source name."""
    return source in SOURCES or source.startswith(PREFIXES)


def read_rows(path: Path | str) -> Iterator[tuple[int, Row | BadRow]]:
    """Reads the rows of a JSON list or of a file with one object per line, numbered from 1, not validated."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
        if first not in ("[", "{"):
            raise SchemaError(f"{path}: expected a JSON list of rows, or one row per line")
        values = _list_items(file) if first == "[" else _line_values(chain([first + file.readline()], file))
        for number, value in enumerate(values, 1):
            if isinstance(value, dict):
                yield number, value
            else:
                reason = value if isinstance(value, str) else f"is not an object but {type(value).__name__}"
                yield number, BadRow(number, "", "", reason)


def _line_values(lines: Iterable[str]) -> Iterator[Any]:
    """The value of each line, or an error message as a string."""
    for line in lines:
        if line.strip():
            try:
                yield _checked(json.loads(line), line)
            except json.JSONDecodeError as error:
                yield f"is not JSON: {error.msg}"


def _list_items(file: TextIO) -> Iterator[Any]:
    """The items of a list whose opening bracket is already read, or an error message as a string for an item."""
    decoder, text, at, next_chunk = json.JSONDecoder(), file.read(CHUNK), 0, CHUNK
    while True:
        at = len(text) - len(text[at:].lstrip(" \t\r\n,"))
        if at >= len(text):
            text, at = file.read(CHUNK), 0
            if not text:
                yield "is missing: the file ends before its list does"
                return
            continue
        if text[at] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            more = file.read(next_chunk) if len(text) - at < MAX_ROW_CHARS else ""
            if more:
                text, at, next_chunk = text[at:] + more, 0, 2 * next_chunk
                continue
            next_row = NEXT_ROW.search(text, at)
            if not next_row:
                yield f"is cut off or not JSON ({error.msg}); the rest of the file cannot be read"
                return
            yield f"is not JSON: {error.msg}"
            at, next_chunk = next_row.end(), CHUNK
            continue
        yield _checked(value, text[at:end])
        at, next_chunk = end, CHUNK
        if at > CHUNK:
            text, at = text[at:], 0


def _checked(value: Any, text: str) -> Any:
    """A value read from `text`, or an error message as a string."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return "is not an object but a string" if isinstance(value, str) else value


def _error(field: str, reason: str) -> SchemaError:
    return SchemaError(f"field {field!r} {reason}", field, reason)


def _check_evidence(example: Example, duration_s: float | None) -> None:
    """Raises SchemaError for a key frame without boxes and for times beyond the end of the video."""
    if example.task is Task.SPATIO_TEMPORAL:
        for frame in example.key_frames:
            if not any(frame.items.values()):
                raise _error("key_items", f"has no box for key frame {frame.idx}")
    if duration_s is not None:
        for position, frame in enumerate(example.key_frames):
            if frame.time_s > duration_s:
                raise _error(f"key_frames[{position}].time", f"is {frame.time_s:g} s in a video of {duration_s:g} s")
        span_s = example.span_s
        if span_s and span_s[1] > duration_s + 1:  # annotations round up
            raise _error("answer", f"ends at {span_s[1]:g} s in a video of {duration_s:g} s")


def write_stgr(path: Path | str, examples: Iterable[Example]) -> int:
    """Writes a JSON list in the schema of the STGR files, one row per line, whole or not at all.

    Returns the number of rows. Reading the file and writing it again gives the same bytes.
    """
    count = 0
    with files.atomic_path(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        file.write("[")
        for count, example in enumerate(examples, 1):
            file.write(",\n" if count > 1 else "\n")
            json.dump(example.to_row(), file, ensure_ascii=False, allow_nan=False)
        file.write("\n]\n")
    return count


def short_reasoning(example: Example, max_chars: int = 6_000) -> bool:
    """Whether the reasoning is short enough. TVG-Coldstart and Time-R1: under 6,000 characters."""
    return len(example.reasoning_process or "") < max_chars


def short_span(example: Example, duration_s: float, max_share: float = 0.7) -> bool:
    """Whether the true span is short enough. TVG-Coldstart and Time-R1: under 70% of the video."""
    span_s = example.span_s
    return span_s is None or span_s[1] - span_s[0] < max_share * duration_s


def short_action(example: Example, duration_s: float, max_share: float = 0.5) -> bool:
    """Whether the annotated action is short enough: its span, or first to last key frame.

    Grounding collections and TVG-RL: at most half of the video.
    """
    times_s = example.span_s or [frame.time_s for frame in example.key_frames]
    return not times_s or max(times_s) - min(times_s) <= max_share * duration_s


def short_chain(example: Example, max_key_frames: int = 5) -> bool:
    """Whether the evidence has few enough key frames. Own annotations: at most five."""
    return len(example.key_frames) <= max_key_frames


def fitting_length(duration_s: float, min_s: float = 10.0, max_s: float = 180.0) -> bool:
    """Whether the video has a usable length. Grounding collections and TVG-RL: ten seconds to three minutes."""
    return min_s <= duration_s <= max_s


def draw_sample(examples: Iterable[Example], count: int, seed: int) -> list[Example]:
    """Draws `count` examples at random (all if there are fewer), in their order. Holds no more than `count` in memory.

    The paper draws 2,900 rows of TVG-RL, 5,000 of TreeVGR and GQA, 15,000 of Video-R1.
    """
    rng, sample = random.Random(seed), []
    for number, example in enumerate(examples):
        if number < count:
            sample.append((number, example))
        elif (place := rng.randrange(number + 1)) < count:
            sample[place] = (number, example)
    return [example for _, example in sorted(sample, key=lambda pair: pair[0])]


def coordinate_space(example: Example) -> str:
    """The coordinate space of the boxes in a row's text: "0–1", "pixels", "beyond the picture", or "none"."""
    text = f"{example.reasoning_process or ''} {example.answer}"
    coordinates = [value for box in evidence.answer_boxes(text) for value in box]
    if not coordinates:
        return "none"
    if max(coordinates) <= 1:
        return "0–1"
    limit = max(example.image_size_wh) if example.image_size_wh else 1_000
    return "pixels" if max(coordinates) <= limit else "beyond the picture"
