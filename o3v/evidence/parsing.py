"""Reads the evidence grammar: a response becomes its claims, times, answer and problems.

A response is `<think>…</think><answer>…</answer>`. In the thinking a claim is an object with its boxes and its
time, `<obj>name</obj><box>[x0,y0,x1,y1]</box>at<t>12.5</t>s`; `<t>12.5</t>s` without an object is only a time. Source:
Open-o3 Video (arXiv:2510.20579). Numbers are plain decimals: no nan, no exponent, no -0, ASCII digits.

The parser accepts any text, runs in linear time, and counts what is malformed instead of raising. White space between
the parts of a claim is accepted and counted. Boxes stay in the coordinates of the text. This module does not know
tasks, ground truth or image sizes. How the public code reads a text is in `rewards.official_parser`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from o3v.geometry import Box, Span, is_box

ANSWER_LINE = "\n"  # separates an explanation from the answer that follows it

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
"""Every kind of problem and its meaning. The set is closed, so counts over it can be compared."""

# kinds that concern the sections; the others concern the evidence inside them
STRUCTURE_KINDS = frozenset({"no_think", "no_answer", "repeated_section", "section_order", "outside_text"})
TAGS = tuple(f"<{slash}{name}>" for name in ("think", "answer", "obj", "box", "t") for slash in ("", "/"))
MAX_PROBLEMS = 1000  # enough to know that a response is broken

NUMBER = r"(?:[0-9]++(?:\.[0-9]*)?|\.[0-9]+)"  # possessive: a long run of digits is scanned once
_BOX_TEXT = re.compile(r"\[\s*" + r"\s*,\s*".join([f"(-?{NUMBER})"] * 4) + r"\s*\]")
BOX_TAG = re.compile(r"<box>([^<>]*)</box>")
_SPAN = re.compile(rf"<t>({NUMBER})</t>s to <t>({NUMBER})</t>s")
SECTION_TAG, ANY_TAG = re.compile("|".join(TAGS[:4])), re.compile("|".join(TAGS))
_LETTER = re.compile(r"\s*(?:([A-Z])\.?|\(([A-Z])\)|\[([A-Z])\])\s*")
AT_TAG = re.compile(r"(?<=>)\s*at\s*<t>")
_EVIDENCE = re.compile(
    rf"<obj>(?P<name>(?:[^<]++|(?!{ANY_TAG.pattern})<)*+)</obj>(?P<boxes>(?:\s*+<box>[^<>]*+</box>)*+)"
    r"(?P<at>\s*+at\s*+(?=(?P<moment><t>(?P<when>[^<>]*+)</t>s?)))?"
    r"|<box>(?P<box>[^<>]*+)</box>|<t>(?P<time>[^<>]*+)</t>(?P<unit>s?)|</?(?:obj|box|t)>"
)


@dataclass(frozen=True)
class Claim:
    """An object claimed in `boxes` at `time_s` (None without a time). `start` and `end` are offsets in the text."""

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
    """A parsed response. `claims` and `times_s` come from the thinking, in order.

    `times_s` holds every well-formed time, those of claims included. `think` and `answer` are the raw text of the
    first closed section of their name, None without one. `problems` stops at MAX_PROBLEMS.
    """

    text: str
    think: str | None
    answer: str | None
    claims: tuple[Claim, ...]
    times_s: tuple[float, ...]
    problems: tuple[Problem, ...]

    @property
    def final_answer(self) -> str:
        """The answer section, or the last line of a response without one, stripped."""
        text = self.text.rstrip().rsplit(ANSWER_LINE, 1)[-1] if self.answer is None else self.answer
        return text.strip()


class _Notes(list[Problem]):
    def add(self, kind: str, start: int, end: int) -> None:
        if len(self) < MAX_PROBLEMS:
            self.append(Problem(kind, start, end, PROBLEM_KINDS[kind]))


def parse_response(text: str) -> Response:
    """Parses a response. Accepts any text; runs in time linear in its length.

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


def open_think(text: str) -> str:
    """The text with the opening `<think>`, which the prompt of a thinking model already contains.

    A completion of such a model only closes the tag. Other texts are returned unchanged.

    >>> open_think("I see.</think><answer>B</answer>"), open_think("I see.")
    ('<think>I see.</think><answer>B</answer>', 'I see.')
    """
    opening, closing = text.find(TAGS[0]), text.find(TAGS[1])
    return TAGS[0] + text if closing >= 0 and not 0 <= opening < closing else text


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
    for tag in SECTION_TAG.finditer(text):
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
            time_s = parse_time(match["time"])
            if time_s is None:
                notes.add("bad_time", *match.span())
            else:
                times.append(time_s)
            if not match["unit"]:
                notes.add("no_unit", *match.span())
        else:
            notes.add("unpaired_tag" if match["box"] is None else "no_object", *match.span())
            if match["box"] is not None and parse_box(match["box"]) is None:
                notes.add("bad_box", *match.span())
    return claims, times


def _read_claim(match: re.Match[str], notes: _Notes) -> list[Claim]:
    """The claim that begins at an object, if its name and a box are good; the pattern only looks at its time."""
    name, boxes, end = match["name"].strip(), [], max(match.end("boxes"), match.end("moment"))
    for found in BOX_TAG.finditer(match.string, *match.span("boxes")):
        box = parse_box(found[1])
        if box is None:
            notes.add("bad_box", *found.span())
        else:
            boxes.append(box)
    if not name:
        notes.add("bad_name", match.start(), match.start("boxes"))
    if not match["boxes"]:
        notes.add("no_box", match.start(), match.end("boxes"))
    elif BOX_TAG.sub("", match["boxes"]) or match["at"] not in (None, "at"):
        notes.add("spacing", match.start(), end)
    time_s = parse_time(match["when"]) if match["at"] else None
    return [Claim(name, tuple(boxes), time_s, match.start(), end)] if name and boxes else []


def parse_box(inner: str) -> Box | None:
    """The box inside box tags, None if it is malformed."""
    match = _BOX_TEXT.fullmatch(inner)
    if not match or any(number[0] == "-" and float(number) == 0 for number in match.groups()):
        return None
    x0, y0, x1, y1 = map(float, match.groups())
    return (x0, y0, x1, y1) if is_box((x0, y0, x1, y1)) else None


def parse_time(inner: str) -> float | None:
    time_s = float(inner) if re.fullmatch(NUMBER, inner) else math.inf
    return time_s if math.isfinite(time_s) else None


def answer_span(answer: str) -> Span | None:
    """The first `<t>a</t>s to <t>b</t>s` in seconds; None without one, or when it ends before it starts."""
    match = _SPAN.search(answer)
    start_s, end_s = map(parse_time, match.groups()) if match else (None, None)
    return (start_s, end_s) if start_s is not None and end_s is not None and start_s <= end_s else None


def answer_boxes(answer: str) -> tuple[Box, ...]:
    """Every well-formed box of an answer, or of any other text, in order."""
    return tuple(box for match in BOX_TAG.finditer(answer) if (box := parse_box(match[1])))


def answer_choice(answer: str, marked: bool | None = None) -> str | None:
    """The chosen letter of an MCQ answer, written A, A., (A) or [A]; None when there is anything else.

    `marked`: True reads only the text after `Correct Option:`, False all of it, None the first if it exists else all.
    """
    parts = answer.split("Correct Option:", 2)
    marked = len(parts) > 1 if marked is None else marked
    match = _LETTER.fullmatch("".join(parts[1:2]) if marked else answer)
    return match[match.lastindex] if match else None
