"""STGR files as they lie on the hub, row by row, with their quirks: what is good, what is not and why, and back.

A JSON list (or one object a line) of tens of thousands of rows is read without being held. Sources are spelled as
the files spell them ("videor1_free_from"). A bad row costs itself only: it becomes a `BadRow` with its number, the
field and the reason. The filters by source are the paper's, a function each. Knows nothing of videos' contents.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from o3v import evidence, files
from o3v.schema import Example, Row, SchemaError, Task, answer_span_s

GROUNDING = tuple(f"STR_{name}" for name in ("activitynet", "coin", "didemo", "queryd", "qvhighlight"))
SOURCES = (*GROUNDING, "STR_plm_rdcap", "TreeVGR", "videor1_mcq", "videor1_free_from", "gqa", "timerft")
SOURCES = (*SOURCES, "videoespresso_train_video")
PREFIXES = ("TVG_", "synth")  # the grounding collections, and the rows of our own world

CHUNK = 1 << 20  # characters read at a time
LONGEST_ROW = 1 << 24  # characters; a row that has not ended by then is malformed
NEXT_ROW = re.compile(r'\}\s*,?\s*(?=\{\s*")')


@dataclass(frozen=True)
class BadRow:
    """A row that was left out. `number` counts from 1; `id` is empty where it could not be read."""

    number: int
    id: str
    field: str
    reason: str

    def __str__(self) -> str:
        named = f" ({self.id})" if self.id else ""
        return f"row {self.number}{named}: {f'field {self.field!r} ' if self.field else ''}{self.reason}"


def read_stgr(
    path: Path | str, durations_s: Mapping[str, float] | None = None, sources: Callable[[str], bool] | None = None
) -> Iterator[Example | BadRow]:
    """Every row of an STGR file, in order: an `Example`, or the `BadRow` for which it is left out.

    `durations_s` (by `video_path`) lets times beyond a video be seen; `sources` says which sources are known
    (default: the public files' and ours). Raises FileNotFoundError, and SchemaError for a file that is no list of rows.
    """
    known, seen = sources or known_source, set()
    for number, row in read_rows(path):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            example = Example.from_row(row)
            if not known(example.source):
                raise _fault("source", f"is {example.source!r:.60}, which is not known")
            _check_evidence(example, (durations_s or {}).get(example.video_path or ""))
            if (key := hash(example.id)) in seen:
                raise _fault("id", "stands in an earlier row too")
            seen.add(key)
        except SchemaError as error:
            yield BadRow(number, str(row.get("id", ""))[:60], error.field, error.reason)
        else:
            yield example


def known_source(source: str) -> bool:
    """Whether the public files or our own world use this source."""
    return source in SOURCES or source.startswith(PREFIXES)


def read_rows(path: Path | str) -> Iterator[tuple[int, Row | BadRow]]:
    """The rows of a JSON list or of a file with an object a line, numbered from 1, not validated."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        if start not in ("[", "{"):
            raise SchemaError(f"{path}: expected a JSON list of rows, or one row a line")
        found = _listed(file) if start == "[" else _lines(chain([start + file.readline()], file))
        for number, row in enumerate(found, 1):
            if isinstance(row, str):
                yield number, BadRow(number, "", "", row)
            elif not isinstance(row, dict):
                yield number, BadRow(number, "", "", f"is no object but {type(row).__name__}")
            else:
                yield number, row


def _lines(lines: Iterable[str]) -> Iterator[Any]:
    """The value of each line, or what is wrong with it as text."""
    for line in lines:
        if line.strip():
            try:
                yield _no_text(json.loads(line)) if _is_utf8(line) else "is not UTF-8"
            except json.JSONDecodeError as error:
                yield f"is not JSON: {error.msg}"


def _listed(file: TextIO) -> Iterator[Any]:
    """The elements of a list whose bracket is read, or what is wrong with one as text."""
    decoder, text, at, wanted = json.JSONDecoder(), file.read(CHUNK), 0, CHUNK
    while True:
        at = len(text) - len(text[at:].lstrip(" \t\r\n,")) if at < len(text) else at
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
            more = file.read(wanted) if len(text) - at < LONGEST_ROW else ""
            if more:
                text, at, wanted = text[at:] + more, 0, 2 * wanted
                continue
            following = NEXT_ROW.search(text, at)
            if not following:
                yield f"is cut off or not JSON ({error.msg}); the rest of the file cannot be read"
                return
            yield f"is not JSON: {error.msg}"
            at, wanted = following.end(), CHUNK
            continue
        yield _no_text(value) if _is_utf8(text[at:end]) else "is not UTF-8"
        at, wanted = end, CHUNK
        if at > CHUNK:
            text, at = text[at:], 0


def _no_text(value: Any) -> Any:
    return "is no object but a text" if isinstance(value, str) else value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(field: str, reason: str) -> SchemaError:
    return SchemaError(f"field {field!r} {reason}", field, reason)


def _check_evidence(example: Example, duration_s: float | None) -> None:
    """What a row's own schema leaves open: its evidence is whole and lies in the video. Raises SchemaError."""
    if example.task is Task.SPATIO_TEMPORAL:
        for frame in example.key_frames:
            if not any(frame.items.values()):
                raise _fault("key_items", f"has no box for key frame {frame.idx}")
    if duration_s is not None:
        for position, frame in enumerate(example.key_frames):
            if frame.time_s > duration_s:
                raise _fault(f"key_frames[{position}].time", f"is {frame.time_s:g} s in a video of {duration_s:g} s")
        span_s = answer_span_s(example)
        if span_s and span_s[1] > duration_s + 1:  # annotations round up
            raise _fault("answer", f"ends at {span_s[1]:g} s in a video of {duration_s:g} s")


def write_stgr(path: Path | str, examples: Iterable[Example]) -> int:
    """Writes a JSON list in the files' schema, one row a line, whole or not at all; returns the number of rows.

    Reading it and writing it again gives the same bytes.
    """
    count = 0
    with files.atomic_path(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        file.write("[")
        for count, example in enumerate(examples, 1):
            file.write(",\n" if count > 1 else "\n")
            json.dump(example.to_row(), file, ensure_ascii=False, allow_nan=False)
        file.write("\n]\n")
    return count


# --- filters by source: the paper's numbers, a function each ---


def short_reasoning(example: Example, longest: int = 6_000) -> bool:
    """TVG-Coldstart and Time-R1: reasoning under 6,000 characters."""
    return len(example.reasoning_process or "") < longest


def short_span(example: Example, duration_s: float, most: float = 0.7) -> bool:
    """TVG-Coldstart and Time-R1: the true span under 70% of the video."""
    span_s = answer_span_s(example)
    return span_s is None or span_s[1] - span_s[0] < most * duration_s


def short_action(example: Example, duration_s: float, most: float = 0.5) -> bool:
    """Grounding collections and TVG-RL: the annotated action, first to last key frame or span, at most half."""
    times_s = answer_span_s(example) or [frame.time_s for frame in example.key_frames]
    return not times_s or max(times_s) - min(times_s) <= most * duration_s


def short_chain(example: Example, most: int = 5) -> bool:
    """Own annotations: a chain over at most five key frames."""
    return len(example.key_frames) <= most


def fitting_length(duration_s: float, least_s: float = 10.0, most_s: float = 180.0) -> bool:
    """Grounding collections and TVG-RL: videos of ten seconds to three minutes."""
    return least_s <= duration_s <= most_s


def draw_sample(examples: Iterable[Example], count: int, seed: int) -> list[Example]:
    """`count` examples at random (all, when there are fewer), in their order, holding no more than those.

    2,900 of TVG-RL, 5,000 of TreeVGR and GQA, 15,000 of Video-R1 in the paper.
    """
    rng, kept = random.Random(seed), []
    for number, example in enumerate(examples):
        if number < count:
            kept.append((number, example))
        elif (place := rng.randrange(number + 1)) < count:
            kept[place] = (number, example)
    return [example for _, example in sorted(kept, key=lambda pair: pair[0])]


def coordinate_space(example: Example) -> str:
    """In what the boxes of a row's text speak: "0–1", "pixels", "beyond the picture", or "none"."""
    text = f"{example.reasoning_process or ''} {example.answer}"
    sides = [side for box in evidence.answer_boxes(text) for side in box]
    if not sides:
        return "none"
    if max(sides) <= 1:
        return "0–1"
    limit = max(example.image_size_wh) if example.image_size_wh else 1_000
    return "pixels" if max(sides) <= limit else "beyond the picture"
