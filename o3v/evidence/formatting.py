"""Writes the evidence grammar, and rewrites boxes and times inside a text. The counterpart of `parsing`."""

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from o3v.evidence.parsing import ANY_TAG, AT_TAG, BOX_TAG, SECTION_TAG, TAGS, parse_box, parse_time
from o3v.geometry import Box, is_box


def format_claim(name: str, boxes: Sequence[Box], time_s: float | None) -> str:
    """Writes one claim. Raises ValueError for an empty name, a name with a tag, no box, or a bad box.

    >>> format_claim("red car", [(10, 20, 30.5, 40)], 3)
    '<obj>red car</obj><box>[10,20,30.5,40]</box>at<t>3.0</t>s'
    """
    name = name.strip()
    if not name or ANY_TAG.search(name):
        raise ValueError(f"object name {name!r:.60} is empty or contains a tag")
    if not boxes:
        raise ValueError(f"object {name!r:.60} needs a box")
    moment = "" if time_s is None else f"at{format_time(time_s)}"
    return f"<obj>{name}</obj>{''.join(map(format_box, boxes))}{moment}"


def format_box(box: Sequence[float]) -> str:
    """Writes a box, `<box>[1,2,3.5,4]</box>`. Raises ValueError unless finite, x0 < x1 and y0 < y1."""
    if not is_box(box):
        raise ValueError(f"{box!r:.80} is not a box (finite, x0 < x1, y0 < y1)")
    return f"<box>[{','.join(map(_decimal, box))}]</box>"


def format_object(name: str, box: Box) -> str:
    """Writes a spatial answer: an object and its box, without a time."""
    return format_claim(name, (box,), None)


def format_time(time_s: float) -> str:
    """Writes a time in seconds with at least one decimal, `<t>12.5</t>s`. Raises ValueError for nan, inf and < 0."""
    if not (math.isfinite(time_s) and time_s >= 0):
        raise ValueError(f"{time_s} is not a time in seconds (finite, 0 or more)")
    number = _decimal(time_s)
    return f"<t>{number if '.' in number else number + '.0'}</t>s"


def format_span(start_s: float, end_s: float) -> str:
    """Writes a temporal answer, `From <t>1.0</t>s to <t>2.5</t>s`. Raises ValueError if it ends before it starts."""
    if end_s < start_s:
        raise ValueError(f"span {start_s}–{end_s} s ends before it starts")
    return f"From {format_time(start_s)} to {format_time(end_s)}"


def format_response(think: str, answer: str) -> str:
    """Joins thinking and answer. Raises ValueError if either contains a section tag."""
    if tag := SECTION_TAG.search(f"{think}\n{answer}"):
        raise ValueError(f"thinking and answer cannot contain {tag.group()!r}")
    return f"<think>{think}</think><answer>{answer}</answer>"


def begin_answer(think: str) -> str:
    """A response up to the opening tag of its answer, as a prefix for generation.

    >>> begin_answer("I see.")
    '<think>I see.</think><answer>'
    """
    return format_response(think, "").removesuffix(TAGS[3])


def _decimal(value: float) -> str:
    """The shortest decimal that parses to `value`, without an exponent; whole numbers without a point."""
    return str(int(value)) if value == int(value) else format(Decimal(repr(float(value))), "f")


def map_boxes(text: str, convert: Callable[[Box], Box], decimals: int = 0) -> str:
    """Converts every well-formed box of a text and writes it rounded to `decimals`, at least one step wide and high.

    >>> map_boxes("a <box>[0.1,0.2,0.5,0.9]</box>", lambda box: tuple(100 * side for side in box))
    'a <box>[10,20,50,90]</box>'
    """

    def rewrite(match: re.Match[str]) -> str:
        box = parse_box(match[1])
        if box is None:
            return match[0]
        x0, y0, x1, y1 = (round(side, decimals) for side in convert(box))
        step = 10**-decimals
        return format_box((x0, y0, max(x1, round(x0 + step, decimals)), max(y1, round(y0 + step, decimals))))

    return BOX_TAG.sub(rewrite, text)


def map_times(text: str, convert: Callable[[float], float]) -> str:
    """Converts every well-formed time of a text and writes it as `format_time` does, with the same errors.

    >>> map_times("at <t>25</t>s", lambda frame: frame / 5)
    'at <t>5.0</t>s'
    """

    def rewrite(match: re.Match[str]) -> str:
        time_s = parse_time(match[1])
        return match[0] if time_s is None else format_time(convert(time_s)).removesuffix("s")

    return re.sub(r"<t>([^<>]*)</t>", rewrite, text)


def strip_tags(text: str) -> str:
    r"""Removes tags and boxes from a text, keeps times, and puts the answer on its own line.

    >>> strip_tags("<think>The <obj>cup</obj><box>[1,2,3,4]</box>at<t>2.5</t>s</think><answer>falls</answer>")
    'The cup at 2.5s\nfalls'
    """
    text = AT_TAG.sub(" at <t>", BOX_TAG.sub("", text)).replace("</think><answer>", "\n")
    return ANY_TAG.sub("", text)
