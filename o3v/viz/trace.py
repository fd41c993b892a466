"""A response one can walk through: its claims as chips, and a click that shows the frame and lights up the box.

One HTML snippet without kernel, network or script of others: the text of `markup`, the frames of `player`, and a few
lines that join them. A chip can be reached and pressed by keyboard. Several responses to one question stand side by
side. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from o3v.geometry import Size, box_iou, clip_box, is_box
from o3v.video.frames import nearest_frame
from o3v.viz.boxes import claim_colours, short_name
from o3v.viz.player import html_player
from o3v.viz.plots import boxes_by_frame
from o3v.viz.response_html import Mark, escape, response_html

if TYPE_CHECKING:
    from o3v.evidence import Claim, Response
    from o3v.video.frames import Frames
    from o3v.viz.plots import Truth

    Terms = Mapping[str, float | None]

BROWSED = 12  # completions in one page of `rollouts_html`

_JOINED = """<div id="{id}">
{player}
{text}
{terms}</div>
<script>(() => {{
  const trace = document.getElementById("{id}"), range = trace.querySelector("input[type=range]");
  const figures = trace.querySelectorAll("figure");
  const light = (chip) => {{
    trace.querySelectorAll(".o3v-spot").forEach((spot) => spot.remove());
    trace.querySelectorAll("[data-frame]").forEach((one) => one.setAttribute("aria-pressed", one === chip));
    range.value = chip.dataset.frame;
    range.dispatchEvent(new Event("input"));
    for (const [x0, y0, x1, y1] of JSON.parse(chip.dataset.boxes)) {{
      const spot = document.createElement("div");
      spot.className = "o3v-spot";
      spot.style.cssText = "position:absolute;box-sizing:border-box;border:4px solid #FFFFFF;outline:2px solid #222222;"
        + `left:${{100 * x0}}%;top:${{100 * y0}}%;width:${{100 * (x1 - x0)}}%;height:${{100 * (y1 - y0)}}%;`
        + "box-shadow:0 0 0 9999px rgba(0,0,0,.45)";
      figures[chip.dataset.frame].firstElementChild.append(spot);
    }}
  }};
  trace.querySelectorAll("[data-frame]").forEach((chip) => {{
    chip.style.cursor = "pointer";
    chip.onclick = () => light(chip);
    chip.onkeydown = (event) => {{
      if (["Enter", " "].includes(event.key)) {{ event.preventDefault(); light(chip); }}
    }};
  }});
  const first = trace.querySelector("[data-frame]");
  if (first) light(first);
}})();</script>"""


class ShownResponse(NamedTuple):
    """A response as it is shown: its text taken apart, what it earned, what became of its answer in a vote."""

    response: Response
    terms: Terms = MappingProxyType({})
    vote: str = ""


def trace_html(
    frames: Frames, told: ShownResponse | Response, question: str = "", truth_px: Truth | None = None
) -> str:
    """The frames with a slider, the response under them with chips that lead to frames, its terms and vote, if any.

    Boxes are in pixels of the frames, all of one size. Claims outside of the video are chips that lead nowhere. Raises
    ValueError when there is no frame.
    """
    told = told if isinstance(told, ShownResponse) else ShownResponse(told)
    size_wh = (frames.images.shape[2], frames.images.shape[1])
    chips = [_link(claim, frames, size_wh) for claim in told.response.claims]
    boxes = boxes_by_frame(frames, told.response, truth_px)
    marks = time_marks(told.response, truth_px)
    return _JOINED.format(
        id=f"o3v-{uuid.uuid4().hex[:12]}",
        player=html_player(frames, boxes, question, claim_notes(frames, told.response, truth_px), marks),
        text=response_html(told.response, chips),
        terms=answer_html(told) + terms_html(told.terms),
    )


def answer_html(told: ShownResponse) -> str:
    """The answer, and its vote, as a line."""
    answer = "no answer" if told.response.answer is None else told.response.answer.strip()
    vote = f" · {escape(told.vote)}" if told.vote else ""
    return f'<p style="margin:6px 0 0">answer: <b>{escape(answer)}</b>{vote}</p>'


def terms_html(terms: Terms) -> str:
    """Reward terms as a table; nothing when there are none."""
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{'–' if value is None else f'{value:.2f}'}</td></tr>"
        for name, value in terms.items()
    )
    return f'<table style="margin-top:6px">{cells}</table>' if cells else ""


def time_marks(response: Response, truth_px: Truth | None = None) -> list[Mark]:
    """The claimed and the true moments, in the colours of their boxes."""
    truth = [(name, time_s) for time_s, items in (truth_px or {}).items() for name in items]
    colours = claim_colours([*(claim.name for claim in response.claims), *(name for name, _ in truth)])
    claimed = [c for c in response.claims if c.time_s is not None and math.isfinite(c.time_s)]
    marks = [Mark(claim.name, claim.time_s, colours[claim.name]) for claim in claimed]
    return marks + [Mark(name, time_s, colours[name], truth=True) for name, time_s in truth]


def claim_notes(frames: Frames, response: Response, truth_px: Truth | None = None) -> list[list[str]]:
    """For each frame a line for each claim on it: how far its time and boxes are from the truth, where there is one.

    The truth is the key time nearest to the claim; its boxes of the same name, or all where none has that name.
    """
    notes: list[list[str]] = [[] for _ in frames.times_s]
    for claim in response.claims:
        at = frame_of(claim, frames)
        if at is None or not truth_px or claim.time_s is None:
            continue
        key_s = min(truth_px, key=lambda t, claim=claim: abs(t - claim.time_s))
        boxes = truth_px[key_s].get(claim.name) or [box for found in truth_px[key_s].values() for box in found]
        ious = [box_iou(a, b) for a in claim.boxes if is_box(a) for b in boxes]
        best = f", IoU {max(ious):.2f}" if ious else ""
        notes[at].append(f"{short_name(claim.name)}: Δt {claim.time_s - key_s:+.1f} s to the key time{best}")
    return notes


def rollouts_html(
    frames: Frames, rollouts: Sequence[ShownResponse], question: str = "", truth_px: Truth | None = None
) -> str:
    """Several responses to one question: their terms side by side, then the best and the worst as traces.

    The order is that of the rollouts; the best is the first with the highest `total`. At most 12 are listed. Raises
    ValueError when there is none.
    """
    if not rollouts:
        raise ValueError("there is no rollout to show")
    totals = [told.terms.get("total") or 0.0 for told in rollouts]
    best, worst = int(np.argmax(totals)), int(np.argmin(totals))
    names = [name for name in rollouts[0].terms if any(told.terms.get(name) is not None for told in rollouts)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = [
        f"<tr><td>{n + 1}{' · best' * (n == best)}{' · worst' * (n == worst != best)}</td>"
        + "".join(f"<td>{told.terms[name] or 0.0:.2f}</td>" for name in names)
        + f"<td>{escape((told.response.answer or 'no answer').strip()[:60])}</td></tr>"
        for n, told in enumerate(rollouts[:BROWSED])
    ]
    table = f"<table><tr><th>response</th>{head}<th>answer</th></tr>{''.join(rows)}</table>"
    ends = [("best", best)] + [("worst", worst)] * (worst != best)
    traces = [f"<h4>{w}: response {n + 1}</h4>{trace_html(frames, rollouts[n], '', truth_px)}" for w, n in ends]
    rest = [
        f"<details><summary>response {n + 1}</summary>{response_html(told.response)}</details>"
        for n, told in enumerate(rollouts[:BROWSED])
        if n not in (best, worst)
    ]
    return f"<p><b>{escape(question)}</b></p>{table}{''.join(traces)}{''.join(rest)}"


def frame_of(claim: Claim, frames: Frames) -> int | None:
    """The frame that a claim speaks of; None for one outside of the video."""
    if claim.time_s is None or not math.isfinite(claim.time_s):
        return 0 if len(frames.images) == 1 else None
    return nearest_frame(frames.times_s, claim.time_s, frames.duration_s)


def _link(claim: Claim, frames: Frames, size_wh: Size) -> str:
    """The attributes that make a claim's chip lead to its frame; none for one outside of the video."""
    index = frame_of(claim, frames)
    if index is None:
        return ""
    inside = [clip_box(box, size_wh) for box in claim.boxes if is_box(box)]
    shares = [[round(v / side, 4) for v, side in zip(box, size_wh * 2, strict=True)] for box in inside if is_box(box)]
    return f'role="button" tabindex="0" data-frame="{index}" data-boxes="{escape(json.dumps(shares))}"'


def html_page(body: str, title: str) -> str:
    """A snippet as a page of its own."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    style = "<style>body{max-width:760px;margin:16px auto;font:15px system-ui,sans-serif}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}{style}</head><body>\n{body}\n</body></html>\n'
