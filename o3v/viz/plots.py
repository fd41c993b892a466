"""Frames as figures and as an animated GIF: a filmstrip, the evidence of a response, examples for the data filters.

Frames and records in, a matplotlib Figure or a GIF file out. Does not know widgets, rewards or models.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from o3v import files, video
from o3v.data.filter_report import FilterStep
from o3v.evidence import Claim, Response, strip_tags
from o3v.geometry import Box, rescale_box
from o3v.schema import DroppedRow, Example, KeyFrame, resolve_inside
from o3v.video.frames import Frames, nearest_frame
from o3v.viz.boxes import ALARM, GREY, INK, LabelledBox, claim_colours, draw_boxes, font, short_name
from o3v.viz.charts import DPI, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Images = Sequence[np.ndarray]  # (n, height, width, 3) uint8
BoxesPerFrame = Sequence[Sequence[LabelledBox]]  # in pixels of the frames; empty: no boxes
Truth = Mapping[float, Mapping[str, Sequence[Box]]]  # time in seconds → name → boxes in pixels of the frames
NO_TRUTH: Truth = MappingProxyType({})
CELL_IN, FIGURE_IN = 3.4, 12.0  # maximum width and height of one image, and maximum width of a row, in inches
GIF_WIDTH_PX, TEXT_PX, MAX_LINES = 420, 15, 6  # width of the GIF, height of letters, lines of text below a frame
FRAME_MS, CLAIM_MS, ANSWER_MS = 350, 1400, 2600
CASE_PIXELS = 224 * 224  # maximum size of a filter case
MAX_TRUTH_S = 0.1  # a true box is drawn only on a frame this near to its time, since objects move
MAX_CLAIMS = 12  # claims shown one by one; later ones are left out


def frame_of(claim: Claim, frames: Frames) -> int | None:
    """Index of the frame nearest to a claim's time (without a time, that of a single frame), None outside the video."""
    if claim.time_s is None:
        return 0 if len(frames.times_s) == 1 else None
    return nearest_frame(frames.times_s, claim.time_s, frames.duration_s)


def evidence_colours(response: Response, truth_px: Truth = NO_TRUTH) -> dict[str, str]:
    """Colours of the claimed names, then of the true ones, so that claims look as in the text of the response."""
    true = [name for items in truth_px.values() for name in items]
    return claim_colours([*(claim.name for claim in response.claims), *true])


def truth_frame(time_s: float, frames: Frames) -> int | None:
    """Index of the frame that shows a true box of this time; None if no frame is within 0.1 s of it.

    `sample_frames(…, key_times_s=…)` adds the frames of key times.
    """
    index = nearest_frame(frames.times_s, time_s, frames.duration_s)
    near = index is not None and abs(frames.times_s[index] - time_s) <= MAX_TRUTH_S + 1e-6
    return index if near else None


def boxes_by_frame(frames: Frames, response: Response, truth_px: Truth = NO_TRUTH) -> list[list[LabelledBox]]:
    """For each frame, its true boxes and the claimed boxes with times nearest to it, in the colours of their names.

    A true box without a frame at its time is left out (`truth_frame`).
    """
    colours, boxes = evidence_colours(response, truth_px), [[] for _ in frames.times_s]
    for time_s, items in truth_px.items():
        if (index := truth_frame(time_s, frames)) is not None:
            boxes[index] += [LabelledBox(n, tuple(box), colours[n], truth=True) for n in items for box in items[n]]
    for claim in response.claims:
        if (index := frame_of(claim, frames)) is not None:
            boxes[index] += [LabelledBox(claim.name, tuple(box), colours[claim.name]) for box in claim.boxes]
    return boxes


def filmstrip(
    images: Images, captions: Sequence[float | str], boxes: BoxesPerFrame = (), columns: int = 8, title: str = ""
) -> Figure:
    """Frames in rows, with captions. Raises ValueError for no frames, or when the arguments differ in number.

    Args:
        images: (n, height, width, 3) uint8, all of one size.
        captions: n texts, or n times in seconds.
        boxes: n lists of boxes in pixels of the images, or nothing.
        columns: number of frames in a row.
        title: title of the figure.
    """
    captions = [caption if isinstance(caption, str) else f"{caption:.1f} s" for caption in captions]
    return _image_grid(images, boxes, captions, (), columns, title)[0]


def trace_figure(frames: Frames, response: Response, truth_px: Truth = NO_TRUTH, max_frames: int = 8) -> Figure:
    """The frames nearest to claimed and key times (at most `max_frames`) with their boxes, above a timeline.

    Claims have full lines, true boxes have dashes. Without evidence, four frames of the video are shown.
    """
    boxes = boxes_by_frame(frames, response, truth_px)
    keys = {index for time_s in truth_px if (index := truth_frame(time_s, frames)) is not None}
    with_evidence = [i for i, some in enumerate(boxes) if some or i in keys]
    shown = with_evidence[:max_frames] or sorted({round(i) for i in np.linspace(0, len(boxes) - 1, 4)})
    title = "boxes: full line claimed" + (", dashed true" if truth_px else "")
    if all(box.truth for some in boxes for box in some):
        title = "no box is claimed at a time inside the video" + (" · dashed: true boxes" if truth_px else "")
    if len(with_evidence) > max_frames:
        title += f" · the first {max_frames} of {len(with_evidence)} frames with evidence"
    captions = [f"frame at {frames.times_s[i]:.1f} s" + (" · key" if i in keys else "") for i in shown]
    marked = {shown.index(i) for i in keys & set(shown)}
    images = [frames.images[i] for i in shown]
    figure, axes = _image_grid(images, [boxes[i] for i in shown], captions, marked, 4, title, timeline_in=1.7)
    _draw_timeline(axes, frames, response, truth_px)
    return figure


def _image_grid(images, boxes, captions, marked, columns, title, timeline_in=0.0) -> tuple[Figure, Axes | None]:
    """A grid of captioned images, each drawn at twice its final size; below it an Axes `timeline_in` high, if not 0."""
    count = len(images)
    if not count or len(captions) != count or len(boxes) not in (0, count):
        raise ValueError(f"{count} frames, {len(captions)} captions, {len(boxes)} lists of boxes do not fit together")
    columns, (height, width) = min(columns, count), images[0].shape[:2]
    cell = min(CELL_IN, FIGURE_IN / columns, CELL_IN * width / height)
    heights = [cell * height / width + 0.3] * math.ceil(count / columns) + [timeline_in] * bool(timeline_in)
    with styled_figure(max(cell * columns, 7.0 * bool(timeline_in)), sum(heights) + 0.35 * bool(title)) as figure:
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        for i, image in enumerate(images):
            axes = figure.add_subplot(grid[divmod(i, columns)])
            axes.imshow(draw_boxes(image, boxes[i] if boxes else (), 2 * DPI * cell / width, text_px=28))
            axes.set(xticks=[], yticks=[])
            axes.set_title(captions[i], fontsize=10, fontweight="bold" if i in marked else "normal", pad=4)
            axes.spines[:].set(visible=i in marked, color=INK, linewidth=4)
        figure.suptitle(title, fontsize=11)
        return figure, figure.add_subplot(grid[-1, :]) if timeline_in else None


def _draw_timeline(axes: Axes, frames: Frames, response: Response, truth_px: Truth) -> None:
    """Rows of marks over the seconds of the video: sampled frames, key times if any, claimed times by name."""
    end_s, colours = frames.duration_s, evidence_colours(response, truth_px)
    rows = ["frames", "key times", "claimed"] if truth_px else ["frames", "claimed"]
    axes.plot(frames.times_s, [0] * len(frames.times_s), "|", color=GREY, markersize=14, markeredgewidth=2)
    axes.plot([*truth_px], [1] * len(truth_px), "D", color=INK, markersize=8)
    claimed = dict.fromkeys((claim.name, claim.time_s) for claim in response.claims if claim.time_s is not None)
    claim_times = {time_s for _, time_s in claimed}
    time_only = [(None, time_s) for time_s in dict.fromkeys(response.times_s) if time_s not in claim_times]
    points: dict[str | None, list[tuple[float, float]]] = {}
    stacked: Counter[float] = Counter()  # marks at the same time are drawn above each other, so that all are visible
    for name, time_s in [*claimed, *time_only]:
        points.setdefault(name, []).append((time_s, len(rows) - 1 + 0.3 * min(stacked[time_s], 3)))
        stacked[time_s] += 1
    for name, marks in points.items():
        label, colour = ("time alone", GREY) if name is None else (short_name(name, 20), colours[name])
        fill = "full" if name else "none"
        axes.plot(*zip(*marks, strict=True), "o", color=colour, fillstyle=fill, markersize=9, label=label)
    axes.set(yticks=range(len(rows)), yticklabels=rows, xlabel="seconds", xlim=(-0.02 * end_s, 1.02 * end_s))
    axes.set_ylim(-0.5, len(rows) - 0.5 + 0.3 * (min(max(stacked.values(), default=1), 4) - 1))
    if outside := sum(not 0 <= time_s <= end_s for time_s in stacked):
        warning = f"{outside} claimed outside the video, which ends at {end_s:.1f} s"
        axes.set_title(warning, fontsize=10, color=ALARM, loc="right")
    handles, labels = axes.get_legend_handles_labels()
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.4), "ncols": 6, "frameon": False}
    for text in axes.legend(handles[:6], labels[:6], **place).get_texts():
        text.set_parse_math(False)


def write_gif(path: Path | str, frames: Frames, response: Response, question: str = "") -> Path:
    """Writes an animated GIF: all frames, then the frame of each claim with its boxes, then the answer.

    Claims outside the video are skipped. Raises ValueError when there is no frame.
    """
    if not len(frames.images):
        raise ValueError("there is no frame to show in a GIF")
    colours = claim_colours(claim.name for claim in response.claims)
    shots = [(index, [], "", FRAME_MS) for index in range(len(frames.images))]  # frame, boxes, text, milliseconds
    for claim in response.claims[:MAX_CLAIMS]:
        if (index := frame_of(claim, frames)) is None:
            continue
        boxes = [LabelledBox(claim.name, box, colours[claim.name]) for box in claim.boxes]
        moment = "" if claim.time_s is None else f" at {claim.time_s:g} s"
        before = strip_tags(response.text[max(0, claim.start - 120) : claim.start]).strip()
        text = f"… {before[-90:]} {short_name(claim.name)}{moment}"
        if index == shots[-1][0]:
            boxes = shots[-1][1] + boxes
        shots.append((index, boxes, text, CLAIM_MS))
    answer = short_name((response.answer or "no answer").strip(), 160)
    shots.append((*shots[-1][:2], f"Answer: {answer}", ANSWER_MS))
    images = [_caption_frame(frames, index, boxes, f"{question}\n{text}") for index, boxes, text, _ in shots]
    first, *rest = [image.quantize(64) for image in images]
    durations_ms = [duration_ms for *_, duration_ms in shots]
    with files.atomic_path(Path(path)) as unfinished:
        first.save(unfinished, format="gif", save_all=True, append_images=rest, duration=durations_ms, loop=0)
    return Path(path)


def _caption_frame(frames: Frames, index: int, boxes: Sequence[LabelledBox], text: str) -> Image.Image:
    """A frame with its boxes, its time and text below it. All results for one video have the same size."""
    frame = frames.images[index]
    drawn = draw_boxes(frame, boxes, GIF_WIDTH_PX / frame.shape[1])
    image = Image.new("RGB", (GIF_WIDTH_PX, drawn.height + MAX_LINES * (TEXT_PX + 5) + 14), "#FFFFFF")
    image.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(image)
    lines = [f"{frames.times_s[index]:.1f} s", *(line for part in text.split("\n") for line in textwrap.wrap(part, 54))]
    for n, line in enumerate(lines[:MAX_LINES]):
        draw.text((8, drawn.height + 6 + n * (TEXT_PX + 5)), line, fill=INK, font=font(TEXT_PX))
    return image


class FilterCase(NamedTuple):
    """A row that a filter dropped or kept: why, a caption, and a frame (height, width, 3) with the boxes concerned."""

    reason: str
    caption: str
    image: np.ndarray
    boxes: Sequence[LabelledBox]


def filter_cases(
    steps: Sequence[FilterStep], examples: Iterable[Example], root: Path | str, max_cases: int = 8
) -> list[FilterCase]:
    """Up to `max_cases` dropped rows with a box, each reason in turn, then up to half as many kept rows.

    `root` is the folder that the media paths of the rows are relative to.
    """

    def _case(example: Example, key: KeyFrame, boxes: list[tuple[str, Box]], reason: str, detail: str) -> FilterCase:
        image = video.frames_at(resolve_inside(root, example.media_path), [key.time_s], CASE_PIXELS).images[0]
        drawn = tuple(LabelledBox(name, rescale_box(box, (1, 1), image.shape[1::-1])) for name, box in boxes)
        return FilterCase(reason, f"{reason}: {detail} ({example.source}, row {example.id})", image, drawn)

    by_id = {example.id: example for example in examples}
    reasons: dict[str, list[DroppedRow]] = {}
    for drop in {drop.id: drop for step in steps for drop in step.result.dropped if drop.box}.values():
        reasons.setdefault(drop.reason, []).append(drop)
    in_turn = [drop for turn in zip_longest(*reasons.values()) for drop in turn if drop]
    cases = []
    for drop in in_turn[:max_cases]:
        key = min(by_id[drop.id].key_frames, key=lambda frame: frame.idx != drop.frame_idx)
        boxes = [(drop.detail.split(" in frame")[0][:30], drop.box)]
        cases.append(_case(by_id[drop.id], key, boxes, drop.reason, drop.detail))
    kept = [example for example in steps[-1].result.kept if example.key_frames] if steps else []
    for example in kept[: max_cases // 2]:
        key = example.key_frames[0]
        boxes = [(name, box) for name, key_boxes in key.items.items() for box in key_boxes]
        cases.append(_case(example, key, boxes, "kept", example.question))
    return cases
