"""Text as coloured HTML: a response with its claims as chips, tokens with the trained-on ones marked.

Pure: records in, self-contained HTML out, every text of a model escaped. Inline styles only, no script and no
address, so it looks the same in a notebook, its export and a forge's preview.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from o3v.viz.boxes import ALARM, GREY, INK, PALETTE, claim_colours, ink_on, short_name

if TYPE_CHECKING:
    from o3v.evidence import Claim, Response

LONG_PROBLEM = 200  # characters; a longer problem is a sign where it begins, not an underlined page
_PAPER = (
    f'<div style="background:#FFFFFF;color:{INK};font:14px/1.9 system-ui,sans-serif;padding:8px 12px;'
    'border:1px solid #DDDDDD;border-radius:6px;overflow-wrap:anywhere">'
)
_CHIP = "border-radius:6px;padding:1px 5px;box-decoration-break:clone;-webkit-box-decoration-break:clone"


class Mark(NamedTuple):
    """A moment on a strip of time: claimed, or true."""

    name: str
    time_s: float
    colour: str
    truth: bool = False


def escape(text: str) -> str:
    """The text for HTML, in an element or a quoted attribute; what UTF-8 cannot hold becomes a question mark."""
    return html.escape(text.encode("utf-8", "replace").decode())


def response_html(response: Response, attributes: Sequence[str] = ()) -> str:
    """The response's text as HTML: every claim a chip in its colour, problems underlined with their message as tooltip.

    `attributes` are HTML attributes for the chips, one text a claim, in the order of the response's claims.

    All text is escaped, tags stay and are small. A problem without length, or over more than 200 characters, is a
    warning sign where it begins. The problems are listed below the text. Offsets beyond the text are cut to it.
    """
    colours = claim_colours(claim.name for claim in response.claims)
    given = attributes or [""] * len(response.claims)
    if len(given) != len(response.claims):
        raise ValueError(f"{len(response.claims)} claims and {len(given)} attributes do not fit together")
    parts = []
    for index, words in segments(response):
        if index is None:
            parts.append(words)
            continue
        claim = response.claims[index]
        colour, attribute = colours[claim.name], given[index] and f" {given[index]}"
        style = f"background:{colour};color:{ink_on(colour)};{_CHIP}"
        parts.append(
            f'<span style="{style}" title="{escape(f"claim: {claim_words(claim)}")}"{attribute}>{words}</span>'
        )
    return f'{_PAPER}<div style="white-space:pre-wrap">{"".join(parts)}</div>{problem_list(response)}</div>'


def segments(response: Response) -> list[tuple[int | None, str]]:
    """The text in order as HTML, problems marked: (index of a claim, its text), and (None, what is between)."""
    found, cursor = [], 0
    for index in sorted(range(len(response.claims)), key=lambda i: response.claims[i].start):
        claim = response.claims[index]
        start, end = max(claim.start, cursor), min(claim.end, len(response.text))
        if start < end:
            found += [(None, _marked(response, cursor, start)), (index, _marked(response, start, end))]
            cursor = end
    return [*found, (None, _marked(response, cursor, len(response.text), last=True))]


def claim_words(claim: Claim) -> str:
    """A claim in a few words, not escaped."""
    moment = "no time" if claim.time_s is None else f"{claim.time_s:g} s"
    return f"{short_name(claim.name)} · {moment} · boxes: {len(claim.boxes)}"


def problem_list(response: Response) -> str:
    """The response's problems as a list, equal ones counted; nothing when there is none."""
    counts = Counter((p.kind, p.message) for p in response.problems)
    listed = "".join(f"<li>{escape(f'{kind} × {n}: {message}')}</li>" for (kind, message), n in counts.items())
    return f'<ul style="color:{ALARM};margin:6px 0 0;padding-left:20px">{listed}</ul>' if listed else ""


def timeline_html(times_s: Sequence[float], duration_s: float, marks: Sequence[Mark], now_s: float) -> str:
    """A strip of time: a tick for each frame, a diamond for a true time, a dot for a claimed one, a line at `now_s`.

    Marks outside of 0–`duration_s` are left out.
    """
    end_s = max(duration_s, *times_s)
    shapes = [f'<path d="M20 20H980" stroke="{GREY}"/>']
    shapes += [f'<path d="M{_x(t, end_s):.1f} 14v12" stroke="{GREY}" stroke-width="2"/>' for t in times_s]
    for mark in marks:
        if not 0 <= mark.time_s <= duration_s:
            continue
        x, words = _x(mark.time_s, end_s), escape(f"{short_name(mark.name)}, {mark.time_s:g} s")
        shape = "28l8 8l-8 8l-8 -8z" if mark.truth else "8m-7 0a7 7 0 1 0 14 0a7 7 0 1 0 -14 0"
        shapes.append(f'<path d="M{x:.1f} {shape}" fill="{mark.colour}" stroke="#FFFFFF"><title>{words}</title></path>')
    moved = shift(now_s, times_s, duration_s)
    shapes.append(f'<path class="o3v-now" d="M0 0v46" stroke="{INK}" stroke-width="3" transform="{moved}"/>')
    words = f"{len(times_s)} frames from 0 to {duration_s:.1f} s, {len(marks)} marks: dots claimed, diamonds true"
    style = "width:100%;max-width:640px;display:block"
    return f'<svg viewBox="0 0 1000 46" role="img" aria-label="{words}" style="{style}">{"".join(shapes)}</svg>'


def shift(time_s: float, times_s: Sequence[float], duration_s: float) -> str:
    """Where a time stands on the strip of `timeline_html`, as an SVG transform."""
    return f"translate({_x(time_s, max(duration_s, *times_s)):.1f} 0)"


def _x(time_s: float, end_s: float) -> float:
    return 20 + 960 * time_s / max(end_s, 1e-6)


def _marked(response: Response, start: int, end: int, last: bool = False) -> str:
    """Escaped text from `start` to `end` with its problems marked; `last` includes marks at `end` itself."""
    spans, signs = [], []
    for problem in response.problems:
        a, b = max(problem.start, start), min(problem.end, end)
        if 0 < problem.end - problem.start <= LONG_PROBLEM:
            spans += [(a, b, problem.message)] if a < b else []
        elif start <= (at := min(problem.start, len(response.text))) < end + last:
            signs.append((at, problem.message))
    edges = sorted({start, end, *(edge for span in spans for edge in span[:2]), *(at for at, _ in signs)})
    parts = []
    for a, b in zip(edges, [*edges[1:], end], strict=True):
        parts += [f'<b style="color:{ALARM}" title="{escape(m)}">⚠</b>' for at, m in signs if at == a]
        notes = escape("; ".join(dict.fromkeys(m for s, e, m in spans if s <= a and b <= e)))
        pieces = re.split(r"(<[^<>]*>)", response.text[a:b])
        small = '<span style="font-size:.75em">{}</span>'
        words = "".join(small.format(escape(p)) if i % 2 else escape(p) for i, p in enumerate(pieces))
        line = f"text-decoration:underline wavy {ALARM} 1.5px;text-underline-offset:3px"
        parts.append(f'<span style="{line}" title="{notes}">{words}</span>' if notes and words else words)
    return "".join(parts)


def token_strip(tokens: Sequence[str], mask: Sequence[bool | int]) -> str:
    """The tokens as HTML, those with a true mask (trained on) coloured; four and more equal ones in a row as one × n.

    Raises ValueError when tokens and mask differ in number.
    """
    pairs = [(token, bool(on)) for token, on in zip(tokens, mask, strict=True)]
    chips = []
    for (token, on), run in groupby(pairs):
        count = len(list(run))
        shown = escape(token.replace("\n", "⏎").replace(" ", "␣") or "∅")
        colour = f"background:{PALETTE[0]};color:{ink_on(PALETTE[0])}" if on else f"background:#EDEDED;color:{INK}"
        chip = f'<span style="{colour};border-radius:3px;padding:0 3px">{{}}</span>'
        chips += [chip.format(f"{shown} ×{count}")] if count > 3 else [chip.format(shown)] * count
    trained = sum(on for _, on in pairs)
    return f"{_PAPER}<p>{trained} of {len(pairs)} tokens are trained on (dark)</p>{' '.join(chips)}</div>"
