"""Frames to browse as plain HTML: a slider, a play button and a strip of time, without kernel or network.

Every picture comes from `drawing`. Knows nothing of widgets or models.
"""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from o3v.viz.boxes import LabelledBox, claim_colours, draw_boxes, short_name
from o3v.viz.response_html import Mark, escape, shift, timeline_html

if TYPE_CHECKING:
    import numpy as np

    from o3v.video.frames import Frames

    BoxesPerFrame = Sequence[Sequence[LabelledBox]]  # one list a frame, in pixels of the frames; or empty: no boxes

STEP_MS = 600  # between two frames when playing
PLAYER_BYTES = 380_000  # of the pictures of one html_player, as text

_PLAYER = """<div id="{id}" style="background:#FFFFFF;color:#222222;font:14px system-ui,sans-serif;padding:8px">
<p style="margin:0 0 6px"><b>{title}</b></p>
<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>
{timeline}
<p hidden style="margin:6px 0 0"><button type="button">play</button>
<input type="range" min="0" max="{last}" value="0" aria-label="frame" style="width:50%;vertical-align:middle"></p>
</div>
<script>(() => {{
  const player = document.getElementById("{id}"), frames = player.querySelectorAll("figure");
  const range = player.querySelector("input"), button = player.querySelector("button");
  const now = player.querySelector(".o3v-now");
  let timer = 0;
  const show = (at) => {{
    range.value = at;
    range.setAttribute("aria-valuetext", frames[at].querySelector("figcaption").textContent);
    frames.forEach((frame, i) => {{ frame.hidden = i !== at; }});
    now.setAttribute("transform", frames[at].dataset.now);
  }};
  const stop = () => {{ clearInterval(timer); timer = 0; button.textContent = "play"; }};
  const start = () => {{ timer = setInterval(() => show((+range.value + 1) % frames.length), {step}); }};
  button.onclick = () => {{ if (timer) {{ stop(); }} else {{ start(); button.textContent = "pause"; }} }};
  range.oninput = () => {{ stop(); show(+range.value); }};
  player.querySelector("p[hidden]").hidden = false;
  show(0);
}})();</script>"""


def html_player(
    frames: Frames,
    boxes_per_frame: BoxesPerFrame = (),
    title: str = "",
    notes: Sequence[Sequence[str]] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """The frames with their boxes as one HTML snippet with a slider and a play button of its own.

    `notes` are a few lines for each frame, `marks` moments on the strip of time. Nothing is loaded from elsewhere. The
    pictures are JPEG, made smaller until all take under 380 kB as text (from some 100 frames on that cannot be held).
    Where scripts don't run, all frames stand side by side. Raises ValueError when there is no frame, or when boxes and
    frames differ in number.
    """
    boxes = coloured(frames, boxes_per_frame)
    width = draw_boxes(frames.images[0], ()).width
    style = f"margin:0;flex:1 1 200px;max-width:{width}px"
    figures, most_bytes = [], PLAYER_BYTES * 3 // 4 // len(boxes)
    for i, found in enumerate(boxes):
        jpeg, words = _small_jpeg(frames.images[i], found, width, most_bytes), frame_words(frames, i, found)
        lines = "<br>".join(escape(line) for line in [words, *(notes[i] if notes else ())])
        caption = f'<figcaption style="overflow-wrap:anywhere">{lines}</figcaption>'
        picture = f'<div style="position:relative;overflow:hidden">{img(jpeg, words)}</div>'
        now = shift(frames.times_s[i], frames.times_s, frames.duration_s)
        figures.append(f'<figure style="{style}" data-now="{now}">{picture}{caption}</figure>')
    return _PLAYER.format(
        id=f"o3v-{uuid.uuid4().hex[:12]}",
        title=escape(title),
        figures="".join(figures),
        timeline=timeline_html(frames.times_s, frames.duration_s, marks, frames.times_s[0]),
        last=len(boxes) - 1,
        step=STEP_MS,
    )


def coloured(frames: Frames, boxes_per_frame: BoxesPerFrame) -> list[list[LabelledBox]]:
    """The boxes of each frame, a name in the same colour on all of them. Raises ValueError when they don't fit."""
    boxes = boxes_per_frame or [[]] * len(frames.images)
    if not len(frames.images) or len(boxes) != len(frames.images):
        raise ValueError(f"{len(frames.images)} frames and {len(boxes)} lists of boxes do not fit together")
    colours = claim_colours(box.name for found in boxes for box in found)
    return [[box._replace(colour=box.colour or colours[box.name]) for box in found] for found in boxes]


def frame_words(frames: Frames, index: int, boxes: Sequence[LabelledBox]) -> str:
    """What a frame shows, in words, not escaped: its time, its place, and the boxes' names."""
    seen = dict.fromkeys(f"{short_name(box.name)} ({'true' if box.truth else 'claimed'})" for box in boxes)
    names = [*seen][:8] + [f"and {len(seen) - 8} more"] * (len(seen) > 8)
    where = f"{frames.times_s[index]:.2f} s · frame {index + 1} of {len(frames.images)}"
    return " · ".join([where, ", ".join(names)] if names else [where])


def _small_jpeg(image: np.ndarray, boxes: Sequence[LabelledBox], width: int, most_bytes: int) -> bytes:
    """The frame drawn `width` wide as JPEG; less quality, then less width, until it has at most that many bytes."""
    for share, quality in ((1, 85), (1, 70), (0.75, 70), (0.75, 50), (0.5, 50), (0.5, 30), (0.3, 30)):
        picture = draw_boxes(image, boxes, share * width / image.shape[1])
        encoded = io.BytesIO()
        picture.save(encoded, format="jpeg", quality=quality)
        if encoded.tell() <= most_bytes:
            break
    return encoded.getvalue()


def img(picture: bytes, words: str, kind: str = "jpeg") -> str:
    """A picture that is part of its page; `words` say what it shows. `kind` is jpeg, png or gif."""
    data = base64.b64encode(picture).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(words)}" style="width:100%;display:block">'
