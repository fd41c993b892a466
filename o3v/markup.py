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
from typing import TYPE_CHECKING

from o3v.drawing import ALARM, INK, PALETTE, claim_colours, ink_on, short_name

if TYPE_CHECKING:
    from o3v.evidence import Response

LONG_PROBLEM = 200  # characters; a longer problem is a sign where it begins, not an underlined page
_PAPER = (
    f'<div style="background:#FFFFFF;color:{INK};font:14px/1.9 system-ui,sans-serif;padding:8px 12px;'
    'border:1px solid #DDDDDD;border-radius:6px;overflow-wrap:anywhere">'
)
_CHIP = "border-radius:6px;padding:1px 5px;box-decoration-break:clone;-webkit-box-decoration-break:clone"


def escape(text: str) -> str:
    """The text for HTML, in an element or a quoted attribute; what UTF-8 cannot hold becomes a question mark."""
    return html.escape(text.encode("utf-8", "replace").decode())


def response_html(response: Response, attributes: Sequence[str] = ()) -> str:
    """The response's text as HTML: every claim a chip in its colour, problems underlined with their message as tooltip.

    `attributes` are HTML attributes for the chips, one text a claim, in the order of the response's claims.

    All text is escaped, tags stay and are small. A problem without length, or over more than 200 characters, is a
    warning sign where it begins. The problems are listed below the text. Offsets beyond the text are cut to it.
    """
    text, colours = response.text, claim_colours(claim.name for claim in response.claims)
    parts, cursor = [], 0
    given = attributes or [""] * len(response.claims)
    for claim, attribute in sorted(zip(response.claims, given, strict=True), key=lambda pair: pair[0].start):
        start, end = max(claim.start, cursor), min(claim.end, len(text))
        if start < end:
            colour = colours[claim.name]
            moment = "no time" if claim.time_s is None else f"{claim.time_s:g} s"
            note = escape(f"claim: {short_name(claim.name)} · {moment} · boxes: {len(claim.boxes)}")
            style = f"background:{colour};color:{ink_on(colour)};{_CHIP}"
            parts += [
                _marked(response, cursor, start),
                f'<span style="{style}" title="{note}"{attribute and f" {attribute}"}>',
            ]
            parts += [_marked(response, start, end), "</span>"]
            cursor = end
    parts.append(_marked(response, cursor, len(text), last=True))
    counts = Counter((p.kind, p.message) for p in response.problems)
    listed = "".join(f"<li>{escape(f'{kind} × {n}: {message}')}</li>" for (kind, message), n in counts.items())
    below = f'<ul style="color:{ALARM};margin:6px 0 0;padding-left:20px">{listed}</ul>' if listed else ""
    return f'{_PAPER}<div style="white-space:pre-wrap">{"".join(parts)}</div>{below}</div>'


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
