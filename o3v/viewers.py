"""Frames to browse in a notebook: an ipywidgets slider, and the same slider as plain HTML.

Thin wiring: every picture comes from `drawing` and `plots`. A widget is dead where no kernel runs, so
`frame_viewer` leaves a static picture too, and nothing else under O3V_HEADLESS (to be set, to anything but 0, where
a program executes notebooks). `html_player` needs no kernel and no network. Knows nothing of models.
"""

from __future__ import annotations

import base64
import io
import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from o3v.drawing import LabelledBox, claim_colours, draw_boxes, short_name
from o3v.markup import escape
from o3v.plots import filmstrip

if TYPE_CHECKING:
    import numpy as np
    from ipywidgets import VBox

    from o3v.video import Frames

    BoxesPerFrame = Sequence[Sequence[LabelledBox]]  # one list a frame, in pixels of the frames; or empty: no boxes

HEADLESS = "O3V_HEADLESS"
STEP_MS = 600  # between two frames when playing
PLAYER_BYTES = 380_000  # of the pictures of one html_player, as text

_PLAYER = """<div id="{id}" style="background:#FFFFFF;color:#222222;font:14px system-ui,sans-serif;padding:8px">
<p style="margin:0 0 6px"><b>{title}</b></p>
<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>
<p hidden style="margin:6px 0 0"><button type="button">play</button>
<input type="range" min="0" max="{last}" value="0" aria-label="frame" style="width:50%;vertical-align:middle"></p>
</div>
<script>(() => {{
  const player = document.getElementById("{id}"), frames = player.querySelectorAll("figure");
  const range = player.querySelector("input"), button = player.querySelector("button");
  let timer = 0;
  const show = (at) => {{
    range.value = at;
    range.setAttribute("aria-valuetext", frames[at].querySelector("figcaption").textContent);
    frames.forEach((frame, i) => {{ frame.hidden = i !== at; }});
  }};
  const stop = () => {{ clearInterval(timer); timer = 0; button.textContent = "play"; }};
  const start = () => {{ timer = setInterval(() => show((+range.value + 1) % frames.length), {step}); }};
  button.onclick = () => {{ if (timer) {{ stop(); }} else {{ start(); button.textContent = "pause"; }} }};
  range.oninput = () => {{ stop(); show(+range.value); }};
  player.querySelector("p[hidden]").hidden = false;
  show(0);
}})();</script>"""


def frame_viewer(
    frames: Frames, boxes_per_frame: BoxesPerFrame = (), caption_html: str = "", interactive: bool | None = None
) -> VBox | None:
    """A slider with a play button over the frames and their boxes, beside it the frame's true time.

    `caption_html` is shown as it is: texts of a model in it must be escaped (`markup.response_html` does that).
    Without `interactive` the environment decides: O3V_HEADLESS set to anything but 0 or nothing means False. Then
    the frames are displayed as one static picture over the caption and None is returned, so no widget is left
    dead; otherwise that picture is displayed folded away, and the widget returned. Raises ValueError when there
    is no frame, or when boxes and frames differ in number.
    """
    from IPython.display import HTML, display
    from IPython.display import Image as Picture

    boxes = _coloured(frames, boxes_per_frame)
    sheet = io.BytesIO()
    filmstrip(frames.images, frames.times_s, boxes, columns=4).savefig(sheet, format="jpeg")
    words = f"all {len(boxes)} frames, {frames.times_s[0]:.1f} s to {frames.times_s[-1]:.1f} s"
    if interactive is None:
        interactive = os.environ.get(HEADLESS, "0") in ("", "0")
    if not interactive:
        display(Picture(sheet.getvalue(), format="jpeg", alt=words))
        if caption_html:
            display(HTML(caption_html))
        return None
    display(HTML(f"<details><summary>{words}</summary>{_img(sheet.getvalue(), words)}</details>"))
    return _widget(frames, boxes, caption_html)


def html_player(frames: Frames, boxes_per_frame: BoxesPerFrame = (), title: str = "") -> str:
    """The frames with their boxes as one HTML snippet with a slider and a play button of its own.

    Nothing is loaded from elsewhere. The pictures are JPEG, made smaller until all take under 380 kB as text (from
    some 100 frames on that cannot be held). Where scripts don't run, all frames stand side by side. Raises
    ValueError when there is no frame, or when boxes and frames differ in number.
    """
    boxes = _coloured(frames, boxes_per_frame)
    width = draw_boxes(frames.images[0], ()).width
    style = f"margin:0;flex:1 1 200px;max-width:{width}px"
    figures, most_bytes = [], PLAYER_BYTES * 3 // 4 // len(boxes)
    for i, found in enumerate(boxes):
        jpeg, words = _small_jpeg(frames.images[i], found, width, most_bytes), _words(frames, i, found)
        caption = f'<figcaption style="overflow-wrap:anywhere">{escape(words)}</figcaption>'
        picture = f'<div style="position:relative;overflow:hidden">{_img(jpeg, words)}</div>'
        figures.append(f'<figure style="{style}">{picture}{caption}</figure>')
    return _PLAYER.format(
        id=f"o3v-{uuid.uuid4().hex[:12]}",
        title=escape(title),
        figures="".join(figures),
        last=len(boxes) - 1,
        step=STEP_MS,
    )


def _widget(frames: Frames, boxes: BoxesPerFrame, caption_html: str) -> VBox:
    import ipywidgets as widgets

    last = len(boxes) - 1
    slider = widgets.IntSlider(min=0, max=last, description="frame", readout=False)
    play = widgets.Play(min=0, max=last, interval=STEP_MS)
    picture, words = widgets.Image(format="png"), widgets.HTML()

    def show(_change: object = None) -> None:
        i = slider.value
        png = io.BytesIO()
        draw_boxes(frames.images[i], boxes[i]).save(png, format="png", compress_level=1)
        words.value = escape(_words(frames, i, boxes[i]))
        picture.value = png.getvalue()

    slider.observe(show, "value")
    widgets.jslink((play, "value"), (slider, "value"))
    show()
    rows = [widgets.HBox([play, slider]), words, picture, widgets.HTML(caption_html)]
    return widgets.VBox(rows, layout={"align_items": "flex-start"})  # else the picture is stretched to the page


def _coloured(frames: Frames, boxes_per_frame: BoxesPerFrame) -> list[list[LabelledBox]]:
    """The boxes of each frame, a name in the same colour on all of them."""
    boxes = boxes_per_frame or [[]] * len(frames.images)
    if not len(frames.images) or len(boxes) != len(frames.images):
        raise ValueError(f"{len(frames.images)} frames and {len(boxes)} lists of boxes do not fit together")
    colours = claim_colours(box.name for found in boxes for box in found)
    return [[box._replace(colour=box.colour or colours[box.name]) for box in found] for found in boxes]


def _words(frames: Frames, index: int, boxes: Sequence[LabelledBox]) -> str:
    """What a frame shows, in words: its time, its place, and the boxes' names."""
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


def _img(jpeg: bytes, words: str) -> str:
    data = base64.b64encode(jpeg).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(words)}" style="width:100%;display:block">'
