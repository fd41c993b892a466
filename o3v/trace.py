"""A response one can walk through: its claims as chips, and a click that shows the frame and lights up the box.

One HTML snippet without kernel, network or script of others: the text of `markup`, the player of `viewers`, and a few
lines that join them. A chip can be reached and pressed by keyboard. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from o3v.geometry import Size, clip_box, is_box
from o3v.markup import escape, response_html
from o3v.plots import boxes_by_frame, nearest_frame
from o3v.viewers import html_player

if TYPE_CHECKING:
    from o3v.evidence import Claim, Response
    from o3v.plots import Truth
    from o3v.video import Frames

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
}})();</script>"""


def trace_html(
    frames: Frames,
    response: Response,
    question: str = "",
    truth_px: Truth | None = None,
    terms: Mapping[str, float | None] | None = None,
) -> str:
    """The frames with a slider, the response under them with chips that lead to frames, and the reward terms, if any.

    Boxes are in pixels of the frames, all of one size. Claims outside of the video are chips that lead nowhere. Raises
    ValueError when there is no frame.
    """
    size_wh = (frames.images.shape[2], frames.images.shape[1])
    chips = [_link(claim, frames, size_wh) for claim in response.claims]
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{'–' if value is None else f'{value:.2f}'}</td></tr>"
        for name, value in (terms or {}).items()
    )
    return _JOINED.format(
        id=f"o3v-{uuid.uuid4().hex[:12]}",
        player=html_player(frames, boxes_by_frame(frames, response, truth_px), question),
        text=response_html(response, chips),
        terms=f'<table style="margin-top:6px">{cells}</table>' if cells else "",
    )


def _link(claim: Claim, frames: Frames, size_wh: Size) -> str:
    """The attributes that make a claim's chip lead to its frame; none for one outside of the video."""
    if claim.time_s is None or not math.isfinite(claim.time_s):
        index = 0 if len(frames.images) == 1 else None
    else:
        index = nearest_frame(frames.times_s, claim.time_s, frames.duration_s)
    if index is None:
        return ""
    inside = [clip_box(box, size_wh) for box in claim.boxes if is_box(box)]
    shares = [[round(v / side, 4) for v, side in zip(box, size_wh * 2, strict=True)] for box in inside if is_box(box)]
    return f'role="button" tabindex="0" data-frame="{index}" data-boxes="{escape(json.dumps(shares))}"'


def page(body: str, title: str) -> str:
    """A snippet as a page of its own."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    style = "<style>body{max-width:760px;margin:16px auto;font:15px system-ui,sans-serif}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}{style}</head><body>\n{body}\n</body></html>\n'
