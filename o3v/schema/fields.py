"""Readers of single fields of an STGR row. A field that cannot be read raises FieldError with the reason.

A span and an option letter have one reader each, which rewards, SFT targets, checks and exports share.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from o3v.evidence import answer_span
from o3v.evidence.parsing import SECTION_TAG
from o3v.geometry import Box, Size, Span

LONGEST_PATH = 4_096
LARGEST_SIDE = 1 << 20  # pixels
LONGEST_TEXT = 100_000  # characters; the longest reasoning of the public files has some 6,000


_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_BRACKETS, _DASH = rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]", rf"{_NUMBER}\s*[-–]\s*{_NUMBER}"
_SPANS = (re.compile(_BRACKETS + "$"), re.compile(f"^{_DASH}$"))
_ANY_SPAN = re.compile(rf"{_BRACKETS}|^{_DASH}(?=\s*(?:$|\[))|</t>s? to <t>", re.MULTILINE)
_LETTER = re.compile(  # a further letter may not follow
    r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?:[.):](?!\s+[A-Z][.):](?:\s|$))|(?=\s*$)))(?=[\s.:]|$)(?!\s*[(\[][A-Z][)\]])",
    re.IGNORECASE,
)


MEDIA_MARK = re.compile(r"\n?<(?:image|video|audio)>\n?")
SPECIAL_TOKEN = re.compile(r"<\|[A-Za-z0-9_]+\|>")
_SECTIONS = {"reasoning_process": "think", "answer": "answer"}


class FieldError(Exception):
    """A field and the reason why it is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason


def read_span(answer: str) -> Span | None:
    """Reads the true span in seconds out of a row's answer: `[1.0, 3.0]`, `1.0-3.0` or the evidence grammar.

    The span is at the end of the answer. None if there is no span, more than one, or one that is not
    0 ≤ start < end.

    >>> read_span("B\\n[1.0, 3.5]"), read_span("13.4-28.1"), read_span("[8.0, 7.0]"), read_span("[[1, 3], [5, 6]]")
    ((1.0, 3.5), (13.4, 28.1), None, None)
    """
    text = answer.strip().rsplit("\n", 1)[-1]
    match = next((found for pattern in _SPANS if (found := pattern.search(text))), None)
    span_s = (float(match[1]), float(match[2])) if match and text.count("[") <= 1 else answer_span(text)
    if not span_s or len(_ANY_SPAN.findall(answer)) > 1:
        return None
    return span_s if span_s[0] < span_s[1] < math.inf else None


def read_letter(answer: str) -> str | None:
    """Reads the right option out of the first line of a row's answer: `B`, `b`, `(B)`, `[B]`, `B.` or `B. text`.

    None for several letters, and for a text that only begins with one (`U.S. Army`).

    >>> [read_letter(text) for text in ("B\\n[1.0, 3.5]", "(b) a car", "B. a car", "A car", "U.S. Army", "(A), (C)")]
    ['B', 'B', 'B', None, None, None]
    """
    first, *others = answer.strip().split("\n")
    match = _LETTER.match(first)
    several = any(_LETTER.match(line.strip()) for line in others)
    return match[match.lastindex].upper() if match and not several else None


def read_text(row: Mapping[str, Any], name: str, optional: bool = False) -> str | None:
    """A text of a row, None if it is `optional` and missing.

    Removes marks of a medium (`<image>`, `<video>`), since a prompt has its own. Also removes the section tags around a
    whole chain or answer, as Video-R1 writes them. Other section tags and special tokens
    (`<|im_end|>`) are refused: they would end or break the prompt.
    """
    value = row.get(name)
    if optional and (value is None or value == ""):
        return None
    if not isinstance(value, str) or not value.strip():
        raise FieldError(name, f"must be a text that is not empty, found {value!r:.60}")
    if len(value) > LONGEST_TEXT:
        raise FieldError(name, f"has {len(value)} characters, more than {LONGEST_TEXT}")
    value = without_section(name, MEDIA_MARK.sub("", value))
    _check_characters(value, name)
    if not value.strip():
        raise FieldError(name, "is empty without its tags")
    return value


def without_section(name: str, text: str) -> str:
    """The text of a chain or answer without the section tags around all of it.

    >>> without_section("answer", "<answer>B</answer>")
    'B'
    """
    tag = _SECTIONS.get(name)
    wrapped = re.fullmatch(rf"\s*<{tag}>(.*)</{tag}>\s*", text, re.DOTALL) if tag else None
    return wrapped[1] if wrapped else text


def _check_characters(text: str, field: str) -> None:
    """Refuses what a prompt, a response or a file cannot contain."""
    if found := SECTION_TAG.search(text) or SPECIAL_TOKEN.search(text):
        raise FieldError(field, f"contains {found[0]!r}, which a prompt or response cannot contain; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FieldError(field, "contains half of a surrogate pair (a cut emoji); remove it") from None


def read_path(value: Any, field: str) -> str | None:
    """A path below the data folder, as text. Links are followed and checked where the file is opened."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value or len(value) > LONGEST_PATH:
        raise FieldError(field, f"must be a path, found {value!r:.60}")
    _check_characters(value, field)
    if value.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", value) or ".." in re.split(r"[/\\]", value):
        raise FieldError(field, f"is {value!r:.60}, which leaves the data folder; give it relative to that")
    return value


def read_id(row: Mapping[str, Any]) -> str:
    """The id of a row as text; a missing one is empty."""
    value = row.get("id", "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise FieldError("id", f"must be a text or a whole number, found {value!r:.60}")
    _check_characters(text := str(value), "id")
    return text


def read_size(value: Any) -> Size | None:
    """A size [width, height] in pixels, None if it is missing."""
    if value is None:
        return None
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or not all(type(side) is int and 0 < side < LARGEST_SIDE for side in value):
        raise FieldError("image_size", f"must be [width, height] in pixels, found {value!r:.60}")
    return (value[0], value[1])


def read_boxes(items: Any, field: str) -> dict[str, tuple[Box, ...]]:
    """The normalised boxes of a key frame by object name."""
    if not isinstance(items, Mapping):
        raise FieldError(field, f"must be an object of names and boxes, found {type(items).__name__}")
    found = {}
    for name, boxes in items.items():
        if boxes is None:  # Arrow adds the names of other rows, with None
            continue
        if not isinstance(boxes, list | tuple):
            raise FieldError(f"{field}.{name:.60}", f"must be a list of boxes, found {boxes!r:.60}")
        _check_characters(name, field)
        found[name] = tuple(_read_box(box, f"{field}.{name:.60}") for box in boxes)
    return found


def _read_box(value: Any, field: str) -> Box:
    if not isinstance(value, list | tuple) or len(value) != 4 or any(type(v) not in (int, float) for v in value):
        raise FieldError(field, f"has {value!r:.80}; a box is four numbers in 0–1")
    if not all(0 <= v <= 1 for v in value):
        raise FieldError(field, f"has {value!r:.80}; a box is four numbers in 0–1 (shares of the frame)")
    if value[0] >= value[2] or value[1] >= value[3]:
        raise FieldError(field, f"has box {value!r:.80}, which is empty or inverted (x0 < x1 and y0 < y1 are needed)")
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))
