"""Frames with a slider, a play button and a timeline; a response next to them, whose claims are links to their frames.

Makes HTML snippets that need no kernel, no network and no other script. A click or key press on a claim shows its frame
and highlights its boxes. Does not know widgets or models.
"""

import base64
import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from o3v.evidence import Response
from o3v.geometry import box_iou, is_box
from o3v.video.frames import Frames
from o3v.viz.boxes import LabelledBox, claim_colours, draw_boxes, short_name
from o3v.viz.plots import NO_TRUTH, BoxesPerFrame, Truth, boxes_by_frame, evidence_colours, frame_of
from o3v.viz.response_html import Mark, render, response_html, timeline_html, timeline_x

Notes = Sequence[Sequence[str]]  # lines of text per frame; empty: no notes
Marks = Sequence[Mark]
STEP_MS = 600  # between two frames while playing
PLAYER_BYTES = 380_000  # of all images of one html_player, as base64 text
MAX_LISTED = 12  # responses on one page of `rollouts_html`

_IMAGE = '<img src="data:image/{{ kind }};base64,{{ data }}" alt="{{ alt }}" style="width:100%;display:block">'
_PLAYER = """\
<div id="{{ id }}" style="background:#FFFFFF;color:#222222;font:14px system-ui,sans-serif;padding:8px">
<div style="display:flex;flex-wrap:wrap;gap:8px">
{% for image, lines, x in figures %}
<figure style="margin:0;flex:1 1 200px;max-width:{{ width }}px" data-now="translate({{ x }} 0)">
<div style="position:relative;overflow:hidden">{{ image|safe }}</div>
<figcaption style="overflow-wrap:anywhere">{{ lines|join("<br>"|safe) }}</figcaption></figure>
{% endfor %}</div>
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
{% if terms %}<table style="margin-top:6px">
{% for name, value in terms.items() %}
<tr><td>{{ name }}</td><td>{{ "–" if value is none else "%.2f"|format(value) }}</td></tr>
{% endfor %}</table>
{% endif %}"""
_ROLLOUTS = """\
<p><b>{{ question }}</b></p>
<table><tr><th>response</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}<th>answer</th></tr>
{% for shown in listed %}
<tr><td>{{ loop.index }}{{ {worst: " · worst", best: " · best"}.get(loop.index0, "") }}</td>
{%- for name in names %}<td>{{ "%.2f"|format(shown.terms[name] or 0.0) }}</td>{% endfor %}
<td>{{ (shown.response.answer or "no answer").strip()[:60] }}</td></tr>
{% endfor %}</table>
{% for label, index, trace in traces %}<h3>{{ label }}: response {{ index + 1 }}</h3>{{ trace|safe }}
{% endfor %}
{% for index, text in others %}<details><summary>response {{ index + 1 }}</summary>{{ text|safe }}</details>
{% endfor %}"""
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>body{max-width:760px;margin:16px auto;font:15px system-ui,sans-serif}</style></head><body>
{{ body|safe }}
</body></html>

"""


def html_player(frames: Frames, boxes: BoxesPerFrame = (), notes: Notes = (), marks: Marks = ()) -> str:
    """The frames with their boxes as one HTML snippet with a slider and a play button.

    The JPEG images are reduced until they take less than 380 kB together (not possible from about 100 frames on).
    Without scripts, all frames are shown side by side. Raises ValueError as `with_colours` does.
    """
    boxes = with_colours(frames, boxes)
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


def with_colours(frames: Frames, boxes: BoxesPerFrame) -> list[list[LabelledBox]]:
    """The boxes, each name in one colour. Raises ValueError for no frame, or when boxes and frames differ in number."""
    boxes = boxes or [[]] * len(frames.images)
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
        drawn = draw_boxes(image, boxes, share * width / image.shape[1])
        encoded = encode(drawn.save, format="jpeg", quality=quality)
        if len(encoded) <= max_bytes:
            break
    return encoded


def encode(save: Callable[..., None], **options: object) -> bytes:
    """What a `save` method of an image or a figure writes to a file."""
    file = io.BytesIO()
    save(file, **options)
    return file.getvalue()


def image_html(encoded: bytes, alt: str, kind: str = "jpeg") -> str:
    """An encoded image as an HTML element that contains its data. `kind` is jpeg, png or gif."""
    return render(_IMAGE, kind=kind, data=base64.b64encode(encoded).decode(), alt=alt)


class ShownResponse(NamedTuple):
    """A parsed response, its reward terms, and the result of its answer in a vote."""

    response: Response
    terms: Mapping[str, float | None] = MappingProxyType({})
    vote: str = ""


def trace_html(frames: Frames, shown: ShownResponse, question: str = "", truth_px: Truth = NO_TRUTH) -> str:
    """The frames with a slider; below them the response with claims that lead to frames, its answer and terms.

    A claim outside the video has no link. Raises ValueError without a frame.
    """
    response, trace_id = shown.response, f"o3v-{uuid.uuid4().hex[:12]}"
    player = html_player(frames, *evidence(frames, response, truth_px))
    text, result = response_html(response, frames), result_html(shown)
    return render(_TRACE, id=trace_id, question=question, player=player, text=text, result=result)


def result_html(shown: ShownResponse) -> str:
    """The answer with its vote, then the reward terms as a table. A term that does not apply (None) is a dash."""
    return render(_RESULT, answer=shown.response.answer, terms=shown.terms, vote=shown.vote)


def evidence(
    frames: Frames, response: Response, truth_px: Truth = NO_TRUTH
) -> tuple[list[list[LabelledBox]], list[list[str]], list[Mark]]:
    """The claims and the truth as boxes and notes for each frame, and as marks for a timeline.

    A note is the distance of a claim from the nearest key time, and from that key time's boxes: those of the same name,
    or all if none has that name.
    """
    boxes, colours = boxes_by_frame(frames, response, truth_px), evidence_colours(response, truth_px)
    notes: list[list[str]] = [[] for _ in frames.times_s]
    timed = [claim for claim in response.claims if claim.time_s is not None]
    marks = [Mark(claim.name, claim.time_s, colours[claim.name]) for claim in timed]
    marks += [Mark(name, time_s, colours[name], truth=True) for time_s, items in truth_px.items() for name in items]
    for claim in timed if truth_px else ():
        if (index := frame_of(claim, frames)) is None:
            continue
        key_s = min(truth_px, key=lambda time_s, claim=claim: abs(time_s - claim.time_s))
        boxes_px = truth_px[key_s].get(claim.name) or [box for some in truth_px[key_s].values() for box in some]
        ious = [box_iou(a, b) for a in claim.boxes if is_box(a) for b in boxes_px]
        best = f", IoU {max(ious):.2f}" if ious else ""
        notes[index].append(f"{short_name(claim.name)}: Δt {claim.time_s - key_s:+.1f} s to the key time{best}")
    return boxes, notes, marks


def rollouts_html(
    frames: Frames, responses: Sequence[ShownResponse], question: str = "", truth_px: Truth = NO_TRUTH
) -> str:
    """Several responses to one question: a table of their terms, then the best and the worst as traces.

    The best is the first one with the highest `total`. At most 12 are listed. Raises ValueError when there is none.
    """
    if not responses:
        raise ValueError("there is no rollout to show")
    totals = [shown.terms.get("total") or 0.0 for shown in responses]
    best, worst = int(np.argmax(totals)), int(np.argmin(totals))
    listed, ends = responses[:MAX_LISTED], [("best", best)] + [("worst", worst)] * (worst != best)
    names = [name for name in responses[0].terms if any(shown.terms.get(name) is not None for shown in responses)]
    traces = [(label, i, trace_html(frames, responses[i], truth_px=truth_px)) for label, i in ends]
    others = [(i, response_html(shown.response)) for i, shown in enumerate(listed) if i not in (best, worst)]
    table = {"names": names, "listed": listed, "best": best, "worst": worst}
    return render(_ROLLOUTS, question=question, traces=traces, others=others, **table)


def html_page(body: str, title: str) -> str:
    """A complete HTML page with a snippet as its body."""
    return render(_PAGE, body=body, title=title)
