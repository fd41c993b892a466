"""Reads and writes STGR files as published on the Hugging Face hub, row by row, and filters rows by source.

Reads a JSON list (or one object per line) of tens of thousands of rows without holding it in memory. Source names are
spelled as in the files ("videor1_free_from"). A bad row does not stop the reading: it becomes a `BadRow` with its
number, the field and the reason. The filters by source are the paper's. This module does not open videos.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, TypeVar

from o3v import evidence, files
from o3v.data.sources import SOURCES
from o3v.schema import Example, SchemaError, Task
from o3v.text import printable

Item = TypeVar("Item")
OWN = "own"  # source of annotated videos of the user (`annotation.find_videos`)
CHUNK = 1 << 20  # characters read at a time
MAX_ROW_CHARS = files.MAX_LINE_CHARS  # a row with more characters is malformed
BETWEEN_ROWS = re.compile(r"[ \t\r\n,]*")
# not the next key frame of the same row; possessive, so that a long run of spaces is scanned once
NEXT_ROW = re.compile(r'\}\s*+,?\s*+(?=\{\s*+"(?!(?:idx|time|path)"))')
OVERLAP = 1_000  # characters of a row that is too long that are searched again with the next ones
SHORTEN_CHARS = 1 << 16  # of rows that are done with
DEEP_CHARS = 10_000  # about as many are read of a text that is nested too deep
TRIES = 10  # how often, on average, a character of a broken file may be read


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


def known_source(source: str) -> bool:
    """Whether the public files, our synthetic world or our annotations ("own") use this source name."""
    return source == OWN or source.startswith("synth") or any(known.fits(source) for known in SOURCES)


def read_stgr(path: Path | str, sources: Callable[[str], bool] = known_source) -> Iterator[Example | BadRow]:
    """Reads every row of an STGR file, in order: an `Example`, or a `BadRow` with the reason.

    `sources` decides which source names are valid. Raises FileNotFoundError, and SchemaError for another file format.
    """
    seen_ids = set()
    for number, (row, problem) in enumerate(_read_values(path), 1):
        if problem:
            yield BadRow(number, "", "", problem)
            continue
        try:
            example = Example.from_row(row)
            if not sources(example.source):
                raise SchemaError("", "source", f"is {example.source!r:.60}, which is not known")
            if example.task is Task.SPATIO_TEMPORAL:
                for frame in example.key_frames:
                    if not any(frame.items.values()):
                        raise SchemaError("", "key_items", f"has no box for key frame {frame.idx}")
            if (key := hash(example.id)) in seen_ids:
                raise SchemaError("", "id", "is also the id of an earlier row")
            seen_ids.add(key)
        except SchemaError as error:
            row_id = str(row.get("id", ""))[:60]
            yield BadRow(number, *map(printable, (row_id, error.field, error.reason)))
        else:
            yield example


def read_good_rows(path: Path | str) -> list[Example]:
    """Reads an STGR file without bad rows. Raises SchemaError naming the first one."""
    rows = list(read_stgr(path))
    if bad := next((row for row in rows if isinstance(row, BadRow)), None):
        raise SchemaError(f"{path}, {bad}", bad.field, bad.reason)
    return rows


def _read_values(path: Path | str) -> Iterator[tuple[Any, str | None]]:
    """The values of a JSON list, or of a file with one object per line, each with the reason why it is not a row."""
    with files.open_text(path, "utf-8-sig", errors="surrogateescape") as file:  # a BOM is skipped
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
        if first not in ("[", "{"):
            raise SchemaError(f"{path}: expected a JSON list of rows, or one row per line")
        if first == "[":
            yield from _list_items(file)
            return
        lines = files.read_lines(file)
        for line in chain([first + (next(lines, "") or "")], lines):
            if line is None:
                yield None, f"has more than {MAX_ROW_CHARS:,} characters"
            elif line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:  # also very long numbers and very deep lists
                    yield None, f"is not JSON: {error}"
                else:
                    yield value, _problem(value, line)


def _list_items(file: TextIO) -> Iterator[tuple[Any, str | None]]:
    """The items of a list whose opening bracket is already read, as in `_read_values`."""
    decoder, text, at, budget = json.JSONDecoder(), "", 0, 0
    while not text.startswith("]", at := BETWEEN_ROWS.match(text, at).end()):
        if at > SHORTEN_CHARS:  # an error counts the lines of the text before it
            text, at = text[at:], 0
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if len(text) - at < MAX_ROW_CHARS and (more := file.read(max(CHUNK, len(text) - at))):
                text, at, budget = text[at:] + more, 0, budget + TRIES * len(more)
            elif at == len(text):
                yield None, "is missing: the file ends before its list does"
                return
            else:
                reached = min(getattr(error, "pos", at + DEEP_CHARS), len(text))
                budget -= reached - at
                # the next row may begin inside what was read, but nested rows without an end must not be read again
                text, at = _skip_row(file, text, at if budget > 0 else reached)
                if at < 0:
                    yield None, f"is cut off or not JSON ({error}); the rest of the file cannot be read"
                    return
                yield None, f"is not JSON: {error}"
        else:
            yield value, _problem(value, text[at:end])
            at = end
    if (text[at + 1 :] + file.read(CHUNK)).strip():
        yield None, "and all text after it is not read: the list has ended; put all rows into one list"


def _skip_row(file: TextIO, text: str, at: int) -> tuple[str, int]:
    """The text with the place where the next row begins after `at`; −1 if none begins."""
    while not (next_row := NEXT_ROW.search(text, at)):
        if not (more := file.read(CHUNK)):
            return text, -1
        text, at = text[max(at, len(text) - OVERLAP) :] + more, 0
    return text, next_row.end()


def _problem(value: Any, text: str) -> str | None:
    """Why a value read from `text` is not a row, or None."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    kind = "a string" if isinstance(value, str) else type(value).__name__
    return None if isinstance(value, dict) else f"is not an object but {kind}"


def write_stgr(path: Path | str, examples: Iterable[Example]) -> int:
    """Writes a JSON list in the schema of the STGR files atomically, one row per line.

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


def draw_sample(examples: Iterable[Item], count: int, seed: int) -> list[Item]:
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
