"""A response next to its frames: a click on a claim shows its frame and highlights its boxes.

Joins the text of `response_html` and the frames of `player` into one HTML snippet that needs no kernel, no network and
no other script. Claims work with the keyboard too. Does not know models.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from o3v.geometry import box_iou, clip_box, is_box
from o3v.viz.boxes import short_name
from o3v.viz.html import render
from o3v.viz.player import html_player
from o3v.viz.plots import boxes_by_frame, evidence_colours, frame_of
from o3v.viz.response_html import FrameLink, Mark, response_html

if TYPE_CHECKING:
    from o3v.evidence import Claim, Response
    from o3v.video.frames import Frames
    from o3v.viz.plots import Truth

    Terms = Mapping[str, float | None]

MAX_LISTED = 12  # responses on one page of `rollouts_html`

_TRACE = """\
<div id="{{ id }}">{% if question %}<p><b>{{ question }}</b></p>{% endif %}
{{ player|safe }}{{ text|safe }}{{ result|safe }}</div>
<script>(() => {
  const trace = document.getElementById({{ id|tojson }}), range = trace.querySelector("input[type=range]");
  const figures = trace.querySelectorAll("figure"), chips = trace.querySelectorAll("[data-frame]");
  const select = (chip) => {
    trace.querySelectorAll(".o3v-spot").forEach((spot) => spot.remove());
    chips.forEach((other) => other.setAttribute("aria-pressed", other === chip));
    range.value = chip.dataset.frame;
    range.dispatchEvent(new Event("input"));
    for (const [x0, y0, x1, y1] of JSON.parse(chip.dataset.boxes)) {
      const spot = document.createElement("div");
      spot.className = "o3v-spot";
      spot.style.cssText = "position:absolute;box-sizing:border-box;border:4px solid #FFFFFF;outline:2px solid #222222;"
        + `left:${100 * x0}%;top:${100 * y0}%;width:${100 * (x1 - x0)}%;height:${100 * (y1 - y0)}%;`
        + "box-shadow:0 0 0 9999px rgba(0,0,0,.45)";
      figures[chip.dataset.frame].firstElementChild.append(spot);
    }
  };
  chips.forEach((chip) => {
    chip.style.cursor = "pointer";
    chip.onclick = () => select(chip);
    chip.onkeydown = (event) => { if (["Enter", " "].includes(event.key)) { event.preventDefault(); select(chip); } };
  });
  if (chips.length) select(chips[0]);
})();</script>"""
_RESULT = """\
<p style="margin:6px 0 0">answer: <b>{{ "no answer" if answer is none else answer.strip() }}</b>
{%- if vote %} · {{ vote }}{% endif %}</p>
{% if terms %}
<table style="margin-top:6px">
{% for name, value in terms.items() %}
<tr><td>{{ name }}</td><td>{{ "–" if value is none else "%.2f"|format(value) }}</td></tr>
{% endfor %}
</table>
{% endif %}"""
_ROLLOUTS = """\
<p><b>{{ question }}</b></p>
<table><tr><th>response</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}<th>answer</th></tr>
{% for shown in listed %}
<tr><td>{{ loop.index }}{{ {worst: " · worst", best: " · best"}.get(loop.index0, "") }}</td>
{%- for name in names %}<td>{{ "%.2f"|format(shown.terms[name] or 0.0) }}</td>{% endfor %}
<td>{{ (shown.response.answer or "no answer").strip()[:60] }}</td></tr>
{% endfor %}
</table>
{% for label, index, trace in traces %}
<h4>{{ label }}: response {{ index + 1 }}</h4>{{ trace|safe }}
{% endfor %}
{% for index, text in others %}
<details><summary>response {{ index + 1 }}</summary>{{ text|safe }}</details>
{% endfor %}"""
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>body{max-width:760px;margin:16px auto;font:15px system-ui,sans-serif}</style></head><body>
{{ body|safe }}
</body></html>

"""


class ShownResponse(NamedTuple):
    """A parsed response, its reward terms, and the result of its answer in a vote."""

    response: Response
    terms: Terms = MappingProxyType({})
    vote: str = ""


def trace_html(
    frames: Frames, shown: ShownResponse | Response, question: str = "", truth_px: Truth | None = None
) -> str:
    """The frames with a slider; below them the response with claims that lead to frames, its answer and terms.

    Boxes are in pixels of the frames. A claim outside the video leads nowhere. Raises ValueError without a frame.
    """
    shown = shown if isinstance(shown, ShownResponse) else ShownResponse(shown)
    response = shown.response
    boxes, marks = boxes_by_frame(frames, response, truth_px), time_marks(response, truth_px)
    return render(
        _TRACE,
        id=f"o3v-{uuid.uuid4().hex[:12]}",
        question=question,
        player=html_player(frames, boxes, claim_notes(frames, response, truth_px), marks),
        text=response_html(response, [_link(claim, frames) for claim in response.claims]),
        result=result_html(shown),
    )


def result_html(shown: ShownResponse) -> str:
    """The answer with its vote, then the reward terms as a table. A term that does not apply (None) is a dash."""
    return render(_RESULT, answer=shown.response.answer, terms=shown.terms, vote=shown.vote)


def time_marks(response: Response, truth_px: Truth | None = None) -> list[Mark]:
    """The claimed and the true times, in the colours of their boxes."""
    colours = evidence_colours(response, truth_px)
    claimed = [(claim.name, claim.time_s) for claim in response.claims if claim.time_s is not None]
    truth = [(name, time_s) for time_s, items in (truth_px or {}).items() for name in items]
    marks = [Mark(name, time_s, colours[name]) for name, time_s in claimed]
    return marks + [Mark(name, time_s, colours[name], truth=True) for name, time_s in truth]


def claim_notes(frames: Frames, response: Response, truth_px: Truth | None = None) -> list[list[str]]:
    """For each frame, one line per claim on it: the distance of its time and boxes from the truth, if known.

    The truth is the key time nearest to the claim: its boxes of the same name, or all its boxes if none has that name.
    """
    notes: list[list[str]] = [[] for _ in frames.times_s]
    for claim in response.claims:
        index = frame_of(claim, frames)
        if index is None or not truth_px or claim.time_s is None:
            continue
        key_s = min(truth_px, key=lambda time_s, claim=claim: abs(time_s - claim.time_s))
        boxes_px = truth_px[key_s].get(claim.name) or [box for some in truth_px[key_s].values() for box in some]
        ious = [box_iou(a, b) for a in claim.boxes if is_box(a) for b in boxes_px]
        best = f", IoU {max(ious):.2f}" if ious else ""
        notes[index].append(f"{short_name(claim.name)}: Δt {claim.time_s - key_s:+.1f} s to the key time{best}")
    return notes


def rollouts_html(
    frames: Frames, responses: Sequence[ShownResponse], question: str = "", truth_px: Truth | None = None
) -> str:
    """Several responses to one question: a table of their terms, then the best and the worst as traces.

    Responses stay in their order; the best is the first one with the highest `total`. At most 12 are listed. Raises
    ValueError when there is none.
    """
    if not responses:
        raise ValueError("there is no rollout to show")
    totals = [shown.terms.get("total") or 0.0 for shown in responses]
    best, worst = int(np.argmax(totals)), int(np.argmin(totals))
    listed, ends = responses[:MAX_LISTED], [("best", best)] + [("worst", worst)] * (worst != best)
    return render(
        _ROLLOUTS,
        question=question,
        names=[name for name in responses[0].terms if any(shown.terms.get(name) is not None for shown in responses)],
        listed=listed,
        best=best,
        worst=worst,
        traces=[(label, i, trace_html(frames, responses[i], truth_px=truth_px)) for label, i in ends],
        others=[(i, response_html(shown.response)) for i, shown in enumerate(listed) if i not in (best, worst)],
    )


def _link(claim: Claim, frames: Frames) -> FrameLink | None:
    index, size_wh = frame_of(claim, frames), (frames.images.shape[2], frames.images.shape[1])
    if index is None:
        return None
    inside = [clip_box(box, size_wh) for box in claim.boxes if is_box(box)]
    shares = [[round(v / side, 4) for v, side in zip(box, size_wh * 2, strict=True)] for box in inside if is_box(box)]
    return FrameLink(index, shares)


def html_page(body: str, title: str) -> str:
    """A complete HTML page with a snippet as its body."""
    return render(_PAGE, body=body, title=title)
