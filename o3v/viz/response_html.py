"""Text as coloured HTML: a response with its claims as chips, a timeline, tokens with the trained ones marked.

Inline styles only, no script and no address, so the result looks the same in a notebook, its export and a preview.
`render` serves all HTML of the package: it escapes every value, unless the template says `|safe`; data for JavaScript
goes through `|tojson`. Templates are Python strings, so that the code fingerprint covers them.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from o3v.evidence import Claim, Problem, Response
from o3v.geometry import clip_box, is_box
from o3v.text import printable
from o3v.video.frames import Frames
from o3v.viz.boxes import ALARM, GREY, INK, PALETTE, claim_colours, ink_on, short_name
from o3v.viz.plots import frame_of

LONG_PROBLEM = 200  # characters; a longer problem gets a warning sign at its start instead of a very long underline
ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
ENVIRONMENT.globals |= {"ALARM": ALARM, "GREY": GREY, "INK": INK, "PALETTE": PALETTE}
ENVIRONMENT.filters |= {"ink_on": ink_on, "short_name": short_name}
_compiled = cache(ENVIRONMENT.from_string)

# A response keeps its white space, so there is none between the elements of _WORDS and _RESPONSE.
_PANEL = (
    '<div style="background:#FFFFFF;color:{{ INK }};font:14px/1.9 system-ui,sans-serif;padding:8px 12px;'
    'border:1px solid #DDDDDD;border-radius:6px;overflow-wrap:anywhere">'
)
_WORDS = (
    '{% for signs, notes, pieces in runs %}{% for message in signs %}<b style="color:{{ ALARM }}" '
    'title="{{ message }}">⚠</b>{% endfor %}{% if notes %}<span style="text-decoration:underline wavy {{ ALARM }} '
    '1.5px;text-underline-offset:3px" title="{{ notes }}">{% endif %}{% for words, tag in pieces|batch(2, "") %}'
    '{{ words }}{% if tag %}<span style="font-size:.75em">{{ tag }}</span>{% endif %}{% endfor %}'
    "{% if notes %}</span>{% endif %}{% endfor %}"
)
_RESPONSE = (
    _PANEL + '<div style="white-space:pre-wrap">{% for index, words in segments %}{% if index is none %}'
    "{{ words|safe }}{% else %}{% set claim, link = claims[index], links[index] %}"
    '<span style="background:{{ colours[claim.name] }};color:{{ colours[claim.name]|ink_on }};border-radius:6px;'
    'padding:1px 5px;box-decoration-break:clone;-webkit-box-decoration-break:clone" title="claim: {{ summary(claim) }}"'
    '{% if link %} role="button" tabindex="0" data-frame="{{ link[0] }}" data-boxes="{{ link[1]|tojson }}"'
    "{% endif %}>{{ words|safe }}</span>{% endif %}{% endfor %}</div>{{ problems|safe }}</div>"
)
_PROBLEMS = (
    '{% if counts %}<ul style="color:{{ ALARM }};margin:6px 0 0;padding-left:20px">{% for problem, count in '
    "counts.items() %}<li>{{ problem[0] }} × {{ count }}: {{ problem[1] }}</li>{% endfor %}</ul>{% endif %}"
)
_TIMELINE = """\
<svg viewBox="0 0 1000 46" role="img" style="width:100%;max-width:640px;display:block" aria-label="{{ label }}">
<path d="M20 20H980" stroke="{{ GREY }}"/>
{% for time_s in times_s %}<path d="M{{ x(time_s) }} 14v12" stroke="{{ GREY }}" stroke-width="2"/>
{% endfor %}
{% for mark in marks if 0 <= mark.time_s <= duration_s %}
{% set shape = "28l8 8l-8 8l-8 -8z" if mark.truth else "8m-7 0a7 7 0 1 0 14 0a7 7 0 1 0 -14 0" %}
<path d="M{{ x(mark.time_s) }} {{ shape }}" fill="{{ mark.colour }}" stroke="#FFFFFF">
<title>{{ mark.name|short_name }}, {{ "%g"|format(mark.time_s) }} s</title></path>
{% endfor %}
<path class="o3v-now" d="M0 0v46" stroke="{{ INK }}" stroke-width="3" transform="translate({{ x(now_s) }} 0)"/></svg>"""
_TOKENS = _PANEL + (
    "<p>{{ trained }} of {{ total }} tokens are trained on (dark)</p>{% for label, on in chips %}"
    '<span style="background:{% if on %}{{ PALETTE[0] }};color:{{ PALETTE[0]|ink_on }}{% else %}#EDEDED;color:{{ INK }}'
    '{% endif %};border-radius:3px;padding:0 3px">{{ label }}</span> {% endfor %}</div>'
)


class Mark(NamedTuple):
    """A claimed or true time on a timeline. `colour` is #rrggbb."""

    name: str
    time_s: float
    colour: str
    truth: bool = False


def render(template: str, **values: object) -> str:
    """Fills in a template. Lone surrogates become question marks, other control characters their escape codes.

    >>> render('<b title="{{ name }}">', name='"<i>"')
    '<b title="&#34;&lt;i&gt;&#34;">'
    """
    return printable(_compiled(template).render(values).encode("utf-8", "replace").decode())


def escape(text: str) -> str:
    """Escapes a text for an HTML element or a quoted attribute."""
    return render("{{ text }}", text=text)


def response_html(response: Response, frames: Frames | None = None) -> str:
    """The text of a response as HTML: each claim is a chip in its colour, each problem is underlined with a tooltip.

    Tags are shown in small letters. A problem of length 0, or of more than 200 characters, is a warning sign at its
    start. Problems are also listed below the text. With `frames`, each chip names its frame and boxes (in shares of
    width and height) in `data-frame` and `data-boxes`, for a script on the page.
    """
    html, problems, claims = segments(response), problem_list(response), response.claims
    links = [None if frames is None else _link(claim, frames) for claim in claims]
    values = {"links": links, "colours": claim_colours(claim.name for claim in claims), "summary": claim_summary}
    return render(_RESPONSE, segments=html, problems=problems, claims=claims, **values)


def _link(claim: Claim, frames: Frames) -> tuple[int, list[list[float]]] | None:
    """The frame of a claim, and its boxes as shares (0–1) of the frame's width and height; None outside the video."""
    index, size_wh = frame_of(claim, frames), (frames.images.shape[2], frames.images.shape[1])
    inside = [box for box in (clip_box(box, size_wh) for box in claim.boxes if is_box(box)) if is_box(box)]
    shares = [[round(v / side, 4) for v, side in zip(box, size_wh * 2, strict=True)] for box in inside]
    return None if index is None else (index, shares)


def segments(response: Response) -> list[tuple[int | None, str]]:
    """The text as HTML in order, problems marked: (index of a claim, its text), and (None, text between claims)."""
    parts, cursor = [], 0
    problems = sorted(response.problems, key=_start)
    for index in sorted(range(len(response.claims)), key=lambda i: response.claims[i].start):
        claim = response.claims[index]
        start, end = max(claim.start, cursor), min(claim.end, len(response.text))
        if start < end:
            for part, a, b in ((None, cursor, start), (index, start, end)):
                first = bisect_left(problems, a - LONG_PROBLEM, key=_start)
                near = problems[first : bisect_right(problems, b, key=_start)]
                parts.append((part, _marked(response.text, near, a, b)))
            cursor = end
    near = problems[bisect_left(problems, cursor - LONG_PROBLEM, key=_start) :]
    return [*parts, (None, _marked(response.text, near, cursor, len(response.text), last=True))]


def _start(problem: Problem) -> int:
    return problem.start


def claim_summary(claim: Claim) -> str:
    """A claim's name, time and number of boxes, as plain text."""
    moment = "no time" if claim.time_s is None else f"{claim.time_s:g} s"
    return f"{short_name(claim.name)} · {moment} · boxes: {len(claim.boxes)}"


def problem_list(response: Response) -> str:
    """The problems of a response as an HTML list, equal ones counted; "" when there are none."""
    return render(_PROBLEMS, counts=Counter((problem.kind, problem.message) for problem in response.problems))


def timeline_html(times_s: Sequence[float], duration_s: float, marks: Sequence[Mark], now_s: float) -> str:
    """A timeline in seconds: ticks at frames, diamonds at true times, dots at claimed times, a line at `now_s`."""
    label = f"{len(times_s)} frames from 0 to {duration_s:.1f} s, {len(marks)} marks: dots claimed, diamonds true"
    values = {"label": label, "times_s": times_s, "duration_s": duration_s, "marks": marks, "now_s": now_s}
    return render(_TIMELINE, x=lambda time_s: timeline_x(time_s, times_s, duration_s), **values)


def timeline_x(time_s: float, times_s: Sequence[float], duration_s: float) -> str:
    """The horizontal position of a time on `timeline_html`, in units of its SVG view box (1000 wide)."""
    return f"{20 + 960 * time_s / max(duration_s, *times_s, 1e-6):.1f}"


def _marked(text: str, problems: Sequence[Problem], start: int, end: int, last: bool = False) -> str:
    """The text from `start` to `end` as HTML with its problems marked; `last` includes signs at `end` itself."""
    spans, signs = [], []
    for problem in problems:
        a, b = max(problem.start, start), min(problem.end, end)
        if 0 < problem.end - problem.start <= LONG_PROBLEM:
            spans += [(a, b, problem.message)] if a < b else []
        elif start <= (at := min(problem.start, len(text))) < end + last:
            signs.append((at, problem.message))
    edges = sorted({start, end, *(edge for span in spans for edge in span[:2]), *(at for at, _ in signs)})
    runs = []
    for a, b in zip(edges, [*edges[1:], end], strict=True):
        notes = dict.fromkeys(message for first, stop, message in spans if first <= a < b <= stop)
        pieces = re.split(r"(<[^<>]*>)", text[a:b])  # text and tags in turn
        runs.append(([message for at, message in signs if at == a], "; ".join(notes), pieces))
    return render(_WORDS, runs=runs)


def token_strip(tokens: Sequence[str], mask: Sequence[bool | int]) -> str:
    """Tokens as HTML, those with a true mask (trained on) coloured; four or more equal ones in a row become one × n.

    Raises ValueError when tokens and mask differ in number.
    """
    pairs = [(token, bool(on)) for token, on in zip(tokens, mask, strict=True)]
    chips = []
    for (token, on), run in groupby(pairs):
        count, label = len(list(run)), token.replace("\n", "⏎").replace(" ", "␣") or "∅"
        chips += [(f"{label} ×{count}", on)] if count > 3 else [(label, on)] * count
    return render(_TOKENS, trained=sum(on for _, on in pairs), total=len(pairs), chips=chips)
