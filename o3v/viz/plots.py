"""Figures of frames: a filmstrip, and the evidence of a response on its frames and over time.

Pure drawing: frames and records in, a matplotlib Figure out. Does not know widgets, rewards or models.
matplotlib is imported inside functions, because it is slow to import.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from o3v.geometry import Box
from o3v.video.frames import nearest_frame
from o3v.viz.boxes import ALARM, GREY, PALETTE, LabelledBox, claim_colours, draw_boxes, short_name
from o3v.viz.charts import DPI, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from o3v.evidence import Claim, Response
    from o3v.video.frames import Frames

    Truth = Mapping[float, Mapping[str, Sequence[Box]]]  # time in seconds → name → boxes in pixels of the frames

CELL_IN, FIGURE_IN = 3.4, 12.0  # maximum width and height of one image, and maximum width of a row, in inches


def frame_of(claim: Claim, frames: Frames) -> int | None:
    """Index of the frame nearest to a claim's time; None for a time outside the video.

    A claim without a time belongs to the only frame of an image, and to no frame of a video.
    """
    if claim.time_s is None:
        return 0 if len(frames.times_s) == 1 else None
    return nearest_frame(frames.times_s, claim.time_s, frames.duration_s)


def evidence_colours(response: Response, truth_px: Truth | None = None) -> dict[str, str]:
    """Colours of the claimed names, then of the true ones, so that claims look as in the text of the response."""
    true = [name for items in (truth_px or {}).values() for name in items]
    return claim_colours([*(claim.name for claim in response.claims), *true])


def boxes_by_frame(frames: Frames, response: Response, truth_px: Truth | None = None) -> list[list[LabelledBox]]:
    """For each frame, the true and the claimed boxes whose times are nearest to it. Boxes are in pixels of the frames.

    A name has one colour on all frames. A claim outside the video is on no frame (see `frame_of`).
    """
    colours, boxes = evidence_colours(response, truth_px), [[] for _ in frames.times_s]
    for time_s, items in (truth_px or {}).items():
        index = nearest_frame(frames.times_s, time_s, frames.duration_s)
        if index is not None:
            boxes[index] += [LabelledBox(n, tuple(box), colours[n], truth=True) for n in items for box in items[n]]
    for claim in response.claims:
        index = frame_of(claim, frames)
        if index is not None:
            boxes[index] += [LabelledBox(claim.name, tuple(box), colours[claim.name]) for box in claim.boxes]
    return boxes


def filmstrip(
    images: Sequence[np.ndarray],
    times_s: Sequence[float],
    boxes: Sequence[Sequence[LabelledBox]] = (),
    columns: int = 8,
    title: str = "",
    captions: Sequence[str] = (),
) -> Figure:
    """Frames in rows, with their times.

    Args:
        images: (n, height, width, 3) uint8.
        times_s: n times in seconds.
        boxes: n lists of boxes in pixels of the images, or nothing.
        columns: number of frames in a row.
        title: title of the figure.
        captions: n texts that replace the times, or nothing.

    Raises ValueError for no frames, or when images, times and boxes differ in number.
    """
    captions = captions or [f"{time_s:.1f} s" for time_s in times_s]
    return _image_grid(images, boxes, captions, (), columns, title)[0]


def trace_figure(frames: Frames, response: Response, truth_px: Truth | None = None, max_frames: int = 8) -> Figure:
    """The frames nearest to claimed and key times (at most `max_frames`) with their boxes, above a timeline.

    Claims have full lines, true boxes have dashes. Arguments as in `boxes_by_frame`. Without evidence, four frames of
    the video are shown.
    """
    boxes, truth_px = boxes_by_frame(frames, response, truth_px), truth_px or {}
    keys = {nearest_frame(frames.times_s, time_s, frames.duration_s) for time_s in truth_px}
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
        raise ValueError(f"{count} frames, {len(captions)} times and {len(boxes)} lists of boxes do not fit together")
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
            axes.spines[:].set(visible=i in marked, color=PALETTE[3], linewidth=4)
        figure.suptitle(title, fontsize=11)
        return figure, figure.add_subplot(grid[-1, :]) if timeline_in else None


def _draw_timeline(axes: Axes, frames: Frames, response: Response, truth_px: Truth) -> None:
    """Rows of marks over the seconds of the video: sampled frames, key times if any, claimed times by name."""
    end_s, colours = frames.duration_s, evidence_colours(response, truth_px)
    rows = ["frames", "key times", "claimed"] if truth_px else ["frames", "claimed"]
    axes.plot(frames.times_s, [0] * len(frames.times_s), "|", color=GREY, markersize=14, markeredgewidth=2)
    axes.plot([*truth_px], [1] * len(truth_px), "D", color=PALETTE[3], markersize=8)
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
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="seconds", xlim=(-0.02 * end_s, 1.02 * end_s))
    axes.set_ylim(-0.5, len(rows) - 0.5 + 0.3 * (min(max(stacked.values(), default=1), 4) - 1))
    if outside := sum(not 0 <= time_s <= end_s for time_s in stacked):
        warning = f"{outside} claimed outside the video, which ends at {end_s:.1f} s"
        axes.set_title(warning, fontsize=10, color=ALARM, loc="right")
    handles, labels = axes.get_legend_handles_labels()
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.4), "ncols": 6, "frameon": False}
    for text in axes.legend(handles[:6], labels[:6], **place).get_texts():
        text.set_parse_math(False)
