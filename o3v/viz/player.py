"""Frames with a slider, a play button and a timeline, as plain HTML that needs no kernel and no network.

Does not know widgets or models.
"""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from o3v.viz.boxes import LabelledBox, claim_colours, draw_boxes, short_name
from o3v.viz.html import render
from o3v.viz.response_html import Mark, timeline_html, timeline_x

if TYPE_CHECKING:
    import numpy as np

    from o3v.video.frames import Frames

    BoxesPerFrame = Sequence[Sequence[LabelledBox]]  # one list per frame, in pixels of the frames; empty: no boxes

STEP_MS = 600  # between two frames while playing
PLAYER_BYTES = 380_000  # of all images of one html_player, as base64 text

_IMAGE = '<img src="data:image/{{ kind }};base64,{{ data }}" alt="{{ alt }}" style="width:100%;display:block">'
_PLAYER = """\
<div id="{{ id }}" style="background:#FFFFFF;color:#222222;font:14px system-ui,sans-serif;padding:8px">
<div style="display:flex;flex-wrap:wrap;gap:8px">
{% for image, lines, x in figures %}
<figure style="margin:0;flex:1 1 200px;max-width:{{ width }}px" data-now="translate({{ x }} 0)">
<div style="position:relative;overflow:hidden">{{ image|safe }}</div>
<figcaption style="overflow-wrap:anywhere">{{ lines|join("<br>"|safe) }}</figcaption></figure>
{% endfor %}
</div>
{{ timeline|safe }}
<p hidden style="margin:6px 0 0"><button type="button">play</button>
<input type="range" min="0" max="{{ figures|length - 1 }}" value="0" aria-label="frame"
 style="width:50%;vertical-align:middle"></p></div>
<script>(() => {
  const player = document.getElementById({{ id|tojson }}), frames = player.querySelectorAll("figure");
  const [range, button, now] = ["input", "button", ".o3v-now"].map((name) => player.querySelector(name));
  let timer = 0;
  const show = (at) => {
    range.value = at;
    range.setAttribute("aria-valuetext", frames[at].querySelector("figcaption").textContent);
    frames.forEach((frame, i) => { frame.hidden = i !== at; });
    now.setAttribute("transform", frames[at].dataset.now);
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "play"; };
  const start = () => { timer = setInterval(() => show((+range.value + 1) % frames.length), {{ step_ms|tojson }}); };
  button.onclick = () => { if (timer) { stop(); } else { start(); button.textContent = "pause"; } };
  range.oninput = () => { stop(); show(+range.value); };
  player.querySelector("p[hidden]").hidden = false;
  show(0);
})();</script>"""


def html_player(
    frames: Frames,
    boxes_per_frame: BoxesPerFrame = (),
    notes: Sequence[Sequence[str]] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """The frames with their boxes as one HTML snippet with a slider and a play button.

    `notes` are text lines per frame, `marks` are times on the timeline. The images are JPEG inside the snippet, reduced
    until they take less than 380 kB together (not possible from about 100 frames on). Without scripts, all frames are
    shown side by side. Raises ValueError when there is no frame, or when boxes and frames differ in number.
    """
    boxes = with_colours(frames, boxes_per_frame)
    width = draw_boxes(frames.images[0], ()).width
    figures, max_bytes = [], PLAYER_BYTES * 3 // 4 // len(boxes)
    for i, some in enumerate(boxes):
        caption = frame_caption(frames, i, some)
        image = image_html(_small_jpeg(frames.images[i], some, width, max_bytes), caption)
        x = timeline_x(frames.times_s[i], frames.times_s, frames.duration_s)
        figures.append((image, [caption, *(notes[i] if notes else ())], x))
    timeline = timeline_html(frames.times_s, frames.duration_s, marks, frames.times_s[0])
    values = {"width": width, "figures": figures, "timeline": timeline, "step_ms": STEP_MS}
    return render(_PLAYER, id=f"o3v-{uuid.uuid4().hex[:12]}", **values)


def with_colours(frames: Frames, boxes_per_frame: BoxesPerFrame) -> list[list[LabelledBox]]:
    """The boxes of each frame, each name in the same colour on all frames.

    Raises ValueError when there is no frame, or when boxes and frames differ in number.
    """
    boxes = boxes_per_frame or [[]] * len(frames.images)
    if not len(frames.images) or len(boxes) != len(frames.images):
        raise ValueError(f"{len(frames.images)} frames and {len(boxes)} lists of boxes do not fit together")
    colours = claim_colours(box.name for some in boxes for box in some)
    return [[box._replace(colour=box.colour or colours[box.name]) for box in some] for some in boxes]


def frame_caption(frames: Frames, index: int, boxes: Sequence[LabelledBox]) -> str:
    """The time and number of a frame and the names of its boxes (at most 8), as plain text."""
    labels = dict.fromkeys(f"{short_name(box.name)} ({'true' if box.truth else 'claimed'})" for box in boxes)
    names = [*labels][:8] + [f"and {len(labels) - 8} more"] * (len(labels) > 8)
    where = f"{frames.times_s[index]:.2f} s · frame {index + 1} of {len(frames.images)}"
    return " · ".join([where, ", ".join(names)] if names else [where])


def _small_jpeg(image: np.ndarray, boxes: Sequence[LabelledBox], width: int, max_bytes: int) -> bytes:
    """The frame drawn `width` pixels wide as JPEG; with lower quality, then smaller, until it has `max_bytes`."""
    for share, quality in ((1, 85), (1, 70), (0.75, 70), (0.75, 50), (0.5, 50), (0.5, 30), (0.3, 30)):
        encoded = io.BytesIO()
        draw_boxes(image, boxes, share * width / image.shape[1]).save(encoded, format="jpeg", quality=quality)
        if encoded.tell() <= max_bytes:
            break
    return encoded.getvalue()


def image_html(encoded: bytes, alt: str, kind: str = "jpeg") -> str:
    """An encoded image as an HTML element that contains its data. `kind` is jpeg, png or gif."""
    return render(_IMAGE, kind=kind, data=base64.b64encode(encoded).decode(), alt=alt)
