"""Reads a response as the public code of Open-o3 Video (commit 1eb6eca) does, which differs from the grammar.

A claim without a time also takes the text that follows, up to the next box with a time. One malformed time makes all
times invalid. A box is any JSON list in the box tags. Opening and closing tags only have to be equal in number.
`rewards` needs this parser to agree with that code. It finds the same by plain search, in time linear in the text, and
accepts any text. This module does not know tasks. The tags themselves are those of `evidence`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from o3v.evidence import Claim
from o3v.geometry import Box, is_box

_OPEN, _CLOSE = ({name: f"<{slash}{name}>" for name in ("think", "answer", "obj", "box", "t")} for slash in ("", "/"))
_BOX_OPEN, _BOX_CLOSE = _OPEN["box"] + "[", "]" + _CLOSE["box"]
_NAME_END, _BOXES_END, _TIME_END = _CLOSE["obj"] + _BOX_OPEN, f"{_BOX_CLOSE}at{_OPEN['t']}", _CLOSE["t"] + "s"
_TIME = re.compile(rf"{_OPEN['t']}([\d.]+){_TIME_END}")
_ONE_WORD_OBJECT = re.compile(rf"{_OPEN['obj']}\w+{re.escape(_NAME_END)}")


@dataclass(frozen=True)
class OfficialReading:
    """A response as the public code reads it.

    `claims` keep only their usable boxes, so one may have none: it still counts in averages over claims.
    `think_boxes` are the usable boxes of the thinking, `answer_box` is the first box of the answer if usable.
    `opened` counts the opening evidence tags of the thinking. `paired`: both sections exist and each tag is closed as
    often as it is opened. `one_word_object`: an object name of one word is directly followed by a box.
    """

    think: str | None
    answer: str | None
    times_s: tuple[float, ...]
    claims: tuple[Claim, ...]
    think_boxes: tuple[Box, ...]
    answer_box: Box | None
    opened: Mapping[str, int]
    paired: bool
    one_word_object: bool


def read_official(text: str) -> OfficialReading:
    """Parses a response as the public code does.

    >>> from o3v.evidence import format_claim, format_response
    >>> untimed, timed = format_claim("a", [(0, 0, 9, 9)], None), format_claim("b", [(1, 2, 3, 4)], 5)
    >>> [(c.name, len(c.boxes), c.time_s) for c in read_official(format_response(untimed + timed, "")).claims]
    [('a', 2, 5.0)]
    """
    think, answer = _between(text, _OPEN["think"], _CLOSE["think"]), _between(text, _OPEN["answer"], _CLOSE["answer"])
    thought = think or ""
    sections = all(text.count(_OPEN[name]) == text.count(_CLOSE[name]) for name in ("think", "answer"))
    opened = {name: thought.count(_OPEN[name]) for name in ("obj", "box", "t")}
    closed = {name: thought.count(_CLOSE[name]) for name in opened}
    answered = _boxes(answer or "")
    return OfficialReading(
        think=think,
        answer=answer,
        times_s=_times(thought),
        claims=_claims(thought),
        think_boxes=tuple(box for box in _boxes(thought) if box),
        answer_box=answered[0] if answered else None,
        opened=opened,
        paired=think is not None and answer is not None and sections and opened == closed,
        one_word_object=any(map(_names_one_word, text.split("\n"))),
    )


def _between(text: str, opening: str, closing: str) -> str | None:
    _, found, rest = text.partition(opening)
    inner, closed, _ = rest.partition(closing)
    return inner if found and closed else None


def _times(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in _TIME.findall(text))
    except ValueError:
        return ()


def _boxes(text: str) -> list[Box | None]:
    """The contents of box tags with brackets on one line, as boxes; None for a list that is not a box."""
    boxes = []
    for line in text.split("\n"):
        end = 0
        while (start := line.find(_BOX_OPEN, end)) >= 0 and (close := line.find(_BOX_CLOSE, start)) >= 0:
            boxes.append(_as_box(_json_list(line[start + len(_BOX_OPEN) - 1 : close + 1])))
            end = close + len(_BOX_CLOSE)
    return boxes


def _claims(text: str) -> tuple[Claim, ...]:
    """Reads from an object to the first box with a time. All boxes up to there belong to the claim."""
    claims, end = [], 0
    while True:
        start = text.find(_OPEN["obj"], end)
        name_end = text.find(_NAME_END, start + len(_OPEN["obj"])) if start >= 0 else -1
        boxes_end = text.find(_BOXES_END, name_end + len(_NAME_END)) if name_end >= 0 else -1
        close = text.find(_TIME_END, boxes_end + len(_BOXES_END)) if boxes_end >= 0 else -1
        if close < 0:
            return tuple(claims)
        end = close + len(_TIME_END)
        lists = [_json_list(part) for part in _bracketed(text[name_end + len(_CLOSE["obj"]) : boxes_end + 1])]
        try:
            time_s = float(text[boxes_end + len(_BOXES_END) : close])
        except ValueError:
            continue
        if None not in lists:
            boxes = tuple(box for box in map(_as_box, lists) if box)
            claims.append(Claim(text[start + len(_OPEN["obj"]) : name_end].strip(), boxes, time_s, start, end))


def _bracketed(text: str) -> list[str]:
    """From each `[` to the next `]` on its line."""
    parts = [part for line in text.split("\n") for part in line.split("]")[:-1]]
    return [part[part.index("[") :] + "]" for part in parts if "[" in part]


def _json_list(text: str) -> list[object] | None:
    try:
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return None


def _as_box(numbers: list[object] | None) -> Box | None:
    if numbers is None or len(numbers) != 4 or not all(isinstance(number, float) for number in numbers):
        return None
    x0, y0, x1, y1 = numbers
    return (x0, y0, x1, y1) if is_box((x0, y0, x1, y1)) else None


def _names_one_word(line: str) -> bool:
    found = _ONE_WORD_OBJECT.search(line)
    return found is not None and line.rfind(_BOX_CLOSE) >= found.end()
