"""The evidence grammar: the only parser and formatter of the tags in which a model names what it saw.

A response is `<think>…</think><answer>…</answer>`. In the thinking a claim is an object with its boxes and its
moment, `<obj>name</obj><box>[x0,y0,x1,y1]</box>at<t>12.5</t>s`; a bare `<t>12.5</t>s` is a moment alone. Source:
Open-o3 Video (arXiv:2510.20579). Numbers are plain decimals: no nan, no exponent, no -0, ASCII digits.

The parser takes any text, in time linear in its length, and counts what is wrong instead of raising. White space
between the parts of a claim is forgiven and noted. It knows no task, truth or picture size: boxes are in the frame
of reference of the text. What the public code finds in a text is in `public_code`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from o3v.geometry import Box, Span, is_box

ANSWER_LINE = "\n"  # between an explanation and the answer it leads to

PROBLEM_KINDS = {
    "no_think": "there is no closed <think>…</think>",
    "no_answer": "there is no closed <answer>…</answer>",
    "repeated_section": "a further <think> or <answer> tag",
    "section_order": "the answer begins before the thinking ends",
    "outside_text": "text outside of thinking and answer",
    "unpaired_tag": "a tag without its partner, or a tag inside another",
    "bad_name": "an object without a name",
    "bad_box": "a box is [x0,y0,x1,y1]: four plain numbers, x0 < x1 and y0 < y1",
    "bad_time": "a time is a plain number of seconds, 0 or more",
    "no_unit": "a time is followed by s",
    "no_box": "an object without a box",
    "no_object": "a box without an object",
    "spacing": "white space between the parts of a claim",
}
"""Every kind of problem and what it means. The vocabulary is closed, so that counts over it are comparable."""

# the kinds that concern thinking and answer as such; the others concern the evidence inside them
STRUCTURE_KINDS = frozenset({"no_think", "no_answer", "repeated_section", "section_order", "outside_text"})
TAGS = tuple(f"<{slash}{name}>" for name in ("think", "answer", "obj", "box", "t") for slash in ("", "/"))
MAX_PROBLEMS = 1000  # a response of nothing but broken tags is known to be broken by then

_NUMBER = r"(?:[0-9]++(?:\.[0-9]*)?|\.[0-9]+)"  # possessive: a long run of digits is scanned once
_BOX_TEXT = re.compile(r"\[\s*" + r"\s*,\s*".join([f"(-?{_NUMBER})"] * 4) + r"\s*\]")
_BOX = re.compile(r"<box>([^<>]*)</box>")
_SPAN = re.compile(rf"<t>({_NUMBER})</t>s to <t>({_NUMBER})</t>s")
_SECTION_TAG, _ANY_TAG = re.compile("|".join(TAGS[:4])), re.compile("|".join(TAGS))
_LETTER = re.compile(r"\s*(?:([A-Z])\.?|\(([A-Z])\)|\[([A-Z])\])\s*")
_AT = re.compile(r"(?<=>)\s*at\s*<t>")
_EVIDENCE = re.compile(
    rf"<obj>(?P<name>(?:[^<]++|(?!{_ANY_TAG.pattern})<)*+)</obj>(?P<boxes>(?:\s*+<box>[^<>]*+</box>)*+)"
    r"(?P<at>\s*+at\s*+(?=(?P<moment><t>(?P<when>[^<>]*+)</t>s?)))?"
    r"|<box>(?P<box>[^<>]*+)</box>|<t>(?P<time>[^<>]*+)</t>(?P<unit>s?)|</?(?:obj|box|t)>"
)


@dataclass(frozen=True)
class Claim:
    """An object said to be in `boxes` at `time_s` (None: no time given). `start`, `end`: offsets in the text."""

    name: str
    boxes: tuple[Box, ...]
    time_s: float | None
    start: int
    end: int


@dataclass(frozen=True)
class Problem:
    """Something malformed at `start`–`end` of the text; `kind` is a key of PROBLEM_KINDS."""

    kind: str
    start: int
    end: int
    message: str


@dataclass(frozen=True)
class Response:
    """A response taken apart. `claims` and `times_s` come from the thinking, in order.

    `times_s` holds every well-formed time, those of claims included. `think` and `answer` are the raw text of the
    first closed section of their name, None without one. `problems` stops at MAX_PROBLEMS.
    """

    text: str
    think: str | None
    answer: str | None
    claims: tuple[Claim, ...]
    times_s: tuple[float, ...]
    problems: tuple[Problem, ...]


class _Notes(list[Problem]):
    def add(self, kind: str, start: int, end: int) -> None:
        if len(self) < MAX_PROBLEMS:
            self.append(Problem(kind, start, end, PROBLEM_KINDS[kind]))


def parse_response(text: str) -> Response:
    """Claims, times and problems of a response. Raises on no text; linear in its length.

    >>> r = parse_response("<think><obj>cup</obj><box>[1,2,3,4]</box>at<t>2.5</t>s</think><answer>B</answer>")
    >>> r.claims[0].name, r.claims[0].boxes, r.claims[0].time_s, r.answer, r.problems
    ('cup', ((1.0, 2.0, 3.0, 4.0),), 2.5, 'B', ())
    """
    notes = _Notes()
    think, answer = _section(text, "think"), _section(text, "answer")
    _check_sections(text, think, answer, notes)
    claims, times = _read_evidence(text, think, notes) if think else ((), ())
    if answer and not (think and answer[0] < think[1]):
        _read_evidence(text, answer, notes)
    notes.sort(key=lambda problem: problem.start)
    parts = [text[slice(*section)] if section else None for section in (think, answer)]
    return Response(text, parts[0], parts[1], tuple(claims), tuple(times), tuple(notes))


def problem_shares(texts: Iterable[str]) -> dict[str, float]:
    """Share of responses with each kind of problem, most frequent first; a response can have several.

    >>> problem_shares(["<think>a</think><answer>b</answer>", "b"])["no_think"]
    0.5
    """
    kinds = [{problem.kind for problem in parse_response(text).problems} for text in texts]
    return {kind: count / len(kinds) for kind, count in Counter(kind for one in kinds for kind in one).most_common()}


def _section(text: str, name: str) -> tuple[int, int] | None:
    """Offsets of the content between the first opening tag and the first closing tag after it."""
    start = text.find(f"<{name}>")
    end = text.find(f"</{name}>", start) if start >= 0 else -1
    return (start + len(name) + 2, end) if end >= 0 else None


def _check_sections(text: str, think: tuple[int, int] | None, answer: tuple[int, int] | None, notes: _Notes) -> None:
    used = set()
    for name, section in (("think", think), ("answer", answer)):
        opening = text.find(f"<{name}>")
        used |= {opening, section[1] if section else -1}
        if not section:
            notes.add(f"no_{name}", max(opening, 0), len(text))
    for tag in _SECTION_TAG.finditer(text):
        if tag.start() not in used:
            notes.add("repeated_section", *tag.span())
    if think and answer:
        before, after = think[1] + len("</think>"), answer[0] - len("<answer>")
        if after < before:
            notes.add("section_order", after, answer[0])
            return
        for start, end in ((0, think[0] - len("<think>")), (before, after), (answer[1] + len("</answer>"), len(text))):
            if text[start:end].strip():
                notes.add("outside_text", start, end)


def _read_evidence(text: str, section: tuple[int, int], notes: _Notes) -> tuple[list[Claim], list[float]]:
    claims: list[Claim] = []
    times: list[float] = []
    for match in _EVIDENCE.finditer(text, *section):
        if match["name"] is not None:
            claims += _read_claim(match, notes)
        elif match["time"] is not None:
            time_s = _parse_time(match["time"])
            if time_s is None:
                notes.add("bad_time", *match.span())
            else:
                times.append(time_s)
            if not match["unit"]:
                notes.add("no_unit", *match.span())
        else:
            notes.add("unpaired_tag" if match["box"] is None else "no_object", *match.span())
            if match["box"] is not None and _parse_box(match["box"]) is None:
                notes.add("bad_box", *match.span())
    return claims, times


def _read_claim(match: re.Match[str], notes: _Notes) -> list[Claim]:
    """The claim that begins at an object, if its name and a box are good; the pattern only looks at its time."""
    name, boxes, end = match["name"].strip(), [], max(match.end("boxes"), match.end("moment"))
    for found in _BOX.finditer(match.string, *match.span("boxes")):
        box = _parse_box(found[1])
        if box is None:
            notes.add("bad_box", *found.span())
        else:
            boxes.append(box)
    if not name:
        notes.add("bad_name", match.start(), match.start("boxes"))
    if not match["boxes"]:
        notes.add("no_box", match.start(), match.end("boxes"))
    elif _BOX.sub("", match["boxes"]) or match["at"] not in (None, "at"):
        notes.add("spacing", match.start(), end)
    time_s = _parse_time(match["when"]) if match["at"] else None
    return [Claim(name, tuple(boxes), time_s, match.start(), end)] if name and boxes else []


def _parse_box(inner: str) -> Box | None:
    match = _BOX_TEXT.fullmatch(inner)
    if not match or any(number[0] == "-" and float(number) == 0 for number in match.groups()):
        return None
    x0, y0, x1, y1 = map(float, match.groups())
    return (x0, y0, x1, y1) if is_box((x0, y0, x1, y1)) else None


def _parse_time(inner: str) -> float | None:
    time_s = float(inner) if re.fullmatch(_NUMBER, inner) else math.inf
    return time_s if math.isfinite(time_s) else None


def format_claim(name: str, boxes: Sequence[Box], time_s: float | None) -> str:
    """One claim. Raises ValueError for what would not be read back: an empty or tagged name, no box, a bad box.

    >>> format_claim("red car", [(10, 20, 30.5, 40)], 3)
    '<obj>red car</obj><box>[10,20,30.5,40]</box>at<t>3.0</t>s'
    """
    name = name.strip()
    if not name or _ANY_TAG.search(name):
        raise ValueError(f"object name {name!r:.60} is empty or contains a tag")
    if not boxes:
        raise ValueError(f"object {name!r:.60} needs a box")
    moment = "" if time_s is None else f"at{format_time(time_s)}"
    return f"<obj>{name}</obj>{''.join(map(format_box, boxes))}{moment}"


def format_box(box: Sequence[float]) -> str:
    """A box alone, `<box>[1,2,3.5,4]</box>`. ValueError unless finite, x0 < x1 and y0 < y1."""
    if not is_box(box):
        raise ValueError(f"{box!r:.80} is not a box (finite, x0 < x1, y0 < y1)")
    return f"<box>[{','.join(map(_decimal, box))}]</box>"


def format_object(name: str, box: Box) -> str:
    """A spatial answer: an object and its box, without a time."""
    return format_claim(name, (box,), None)


def format_time(time_s: float) -> str:
    """A moment in seconds, with one decimal unless it needs more: `<t>12.5</t>s`. ValueError for nan, inf, < 0."""
    if not (math.isfinite(time_s) and time_s >= 0):
        raise ValueError(f"{time_s} is not a time in seconds (finite, 0 or more)")
    number = _decimal(time_s)
    return f"<t>{number if '.' in number else number + '.0'}</t>s"


def format_span(start_s: float, end_s: float) -> str:
    """A temporal answer, `From <t>1.0</t>s to <t>2.5</t>s`. ValueError when it ends before it starts."""
    if end_s < start_s:
        raise ValueError(f"span {start_s}–{end_s} s ends before it starts")
    return f"From {format_time(start_s)} to {format_time(end_s)}"


def format_response(think: str, answer: str) -> str:
    """Thinking and answer as one response. ValueError when either contains a tag of a section."""
    if tag := _SECTION_TAG.search(f"{think}\n{answer}"):
        raise ValueError(f"thinking and answer cannot contain {tag.group()!r}")
    return f"<think>{think}</think><answer>{answer}</answer>"


def begin_answer(think: str) -> str:
    """A response up to where its answer begins, for a model to go on from.

    >>> begin_answer("I see.")
    '<think>I see.</think><answer>'
    """
    return format_response(think, "").removesuffix(TAGS[3])


def _decimal(value: float) -> str:
    """Shortest decimal that reads back as `value`, without an exponent; whole numbers without a point."""
    return str(int(value)) if value == int(value) else format(Decimal(repr(float(value))), "f")


def answer_span(answer: str) -> Span | None:
    """The first `<t>a</t>s to <t>b</t>s` in seconds; None without one, or when it ends before it starts."""
    match = _SPAN.search(answer)
    start_s, end_s = map(_parse_time, match.groups()) if match else (None, None)
    return (start_s, end_s) if start_s is not None and end_s is not None and start_s <= end_s else None


def answer_boxes(answer: str) -> tuple[Box, ...]:
    """Every well-formed box of an answer, or of any other text, in order."""
    return tuple(box for match in _BOX.finditer(answer) if (box := _parse_box(match[1])))


def answer_choice(answer: str, marked: bool | None = None) -> str | None:
    """The chosen letter of an MCQ answer, written A, A., (A) or [A]; None when there is anything else.

    `marked=True` reads only what stands behind `Correct Option:`, False the whole answer, None whichever is there.
    """
    parts = answer.split("Correct Option:", 2)
    marked = len(parts) > 1 if marked is None else marked
    match = _LETTER.fullmatch("".join(parts[1:2]) if marked else answer)
    return match[match.lastindex] if match else None


def map_boxes(text: str, convert: Callable[[Box], Box]) -> str:
    """The text with every well-formed box converted and written in whole numbers, at least 1 wide and high.

    >>> map_boxes("a <box>[0.1,0.2,0.5,0.9]</box>", lambda box: tuple(100 * side for side in box))
    'a <box>[10,20,50,90]</box>'
    """

    def rewrite(match: re.Match[str]) -> str:
        box = _parse_box(match[1])
        if box is None:
            return match[0]
        x0, y0, x1, y1 = map(round, convert(box))
        return format_box((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))

    return _BOX.sub(rewrite, text)


def map_times(text: str, convert: Callable[[float], float]) -> str:
    """The text with every well-formed time converted and written as `format_time` does, with its errors.

    >>> map_times("at <t>25</t>s", lambda frame: frame / 5)
    'at <t>5.0</t>s'
    """

    def rewrite(match: re.Match[str]) -> str:
        time_s = _parse_time(match[1])
        return match[0] if time_s is None else format_time(convert(time_s)).removesuffix("s")

    return re.sub(r"<t>([^<>]*)</t>", rewrite, text)


def strip_tags(text: str) -> str:
    r"""The text as one reads it aloud: tags and boxes gone, times kept, the answer on its own line.

    >>> strip_tags("<think>The <obj>cup</obj><box>[1,2,3,4]</box>at<t>2.5</t>s</think><answer>falls</answer>")
    'The cup at 2.5s\nfalls'
    """
    text = _AT.sub(" at <t>", _BOX.sub("", text)).replace("</think><answer>", "\n")
    return _ANY_TAG.sub("", text)
