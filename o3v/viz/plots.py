"""Figures of the method: frames in a row, a response's trace, rewards, curves, bars.

Pure drawing: records in, a matplotlib Figure out; nothing is read or saved. Knows nothing of widgets, rewards or
models. A Figure is closed in pyplot as soon as it is made, so a notebook shows it once, as the last value of a cell.
matplotlib, seaborn and pandas are imported with the first figure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from o3v.geometry import Box
from o3v.video.frames import nearest_frame
from o3v.viz.boxes import ALARM, GREY, INK, PALETTE, LabelledBox, claim_colours, draw_boxes, short_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from o3v.evidence import Response
    from o3v.video.frames import Frames

    Truth = Mapping[float, Mapping[str, Sequence[Box]]]  # time in seconds → name → boxes in pixels of the frames

DPI = 100
CELL_IN, FIGURE_IN = 3.4, 12.0  # widest and highest that one picture gets, widest that a row of them gets


def boxes_by_frame(frames: Frames, response: Response, truth_px: Truth | None = None) -> list[list[LabelledBox]]:
    """For each frame the true boxes and the claimed ones whose times are nearest to it, in one colour a name.

    All boxes are in pixels of the frames. A claim at a time outside the video is on no frame; one without a time
    is on the frame when there is only one (visual QA), else on none.
    """
    colours, found = _colours(response, truth_px), [[] for _ in frames.times_s]
    for time_s, items in (truth_px or {}).items():
        index = nearest_frame(frames.times_s, time_s, frames.duration_s)
        if index is not None:
            found[index] += [LabelledBox(n, tuple(box), colours[n], truth=True) for n in items for box in items[n]]
    for claim in response.claims:
        index = 0 if len(found) == 1 else None
        if claim.time_s is not None:
            index = nearest_frame(frames.times_s, claim.time_s, frames.duration_s)
        if index is not None:
            found[index] += [LabelledBox(claim.name, tuple(box), colours[claim.name]) for box in claim.boxes]
    return found


def filmstrip(
    images: Sequence[np.ndarray],
    times_s: Sequence[float],
    boxes: Sequence[Sequence[LabelledBox]] = (),
    marks: Sequence[float] = (),
    columns: int = 8,
    title: str = "",
    captions: Sequence[str] = (),
) -> Figure:
    """Frames in rows of `columns` with their times or `captions`; those nearest to the key times `marks` are framed.

    `images` (n, height, width, 3) uint8; `boxes` one list a frame, or none at all. Raises ValueError for no
    frames, or when images, times and boxes differ in number.
    """
    keys = {nearest_frame(times_s, mark) for mark in marks}
    captions = captions or [f"{time:.1f} s" + (" · key" if i in keys else "") for i, time in enumerate(times_s)]
    return _pictures(images, boxes, captions, keys, columns, title)[0]


def trace_figure(frames: Frames, response: Response, truth_px: Truth | None = None, most: int = 8) -> Figure:
    """The frames nearest to claimed and key times (at most `most`) with their boxes, over a timeline of all times.

    Claims have full lines, truth has dashes. Arguments as in `boxes_by_frame`; without any evidence to show, four
    frames stand for the video.
    """
    boxes, truth_px = boxes_by_frame(frames, response, truth_px), truth_px or {}
    keys = {nearest_frame(frames.times_s, time_s, frames.duration_s) for time_s in truth_px}
    held = [i for i, found in enumerate(boxes) if found or i in keys]
    shown = held[:most] or sorted({round(i) for i in np.linspace(0, len(boxes) - 1, 4)})
    title = "boxes: full line claimed" + (", dashed true" if truth_px else "")
    if all(box.truth for found in boxes for box in found):
        title = "no box is claimed at a time inside the video" + (" · dashed: true boxes" if truth_px else "")
    if len(held) > most:
        title += f" · the first {most} of {len(held)} frames with evidence"
    captions = [f"frame at {frames.times_s[i]:.1f} s" + (" · key" if i in keys else "") for i in shown]
    marked = {shown.index(i) for i in keys & set(shown)}
    chosen = [frames.images[i] for i in shown], [boxes[i] for i in shown]
    figure, axes = _pictures(*chosen, captions, marked, 4, title, timeline_in=1.7)
    _timeline(axes, frames, response, truth_px)
    return figure


def reward_bars(terms: Mapping[str, float | None]) -> Figure:
    """One bar a reward term with its value written; a term that is None does not apply and says so."""
    values = [value or 0.0 for value in terms.values()]
    with _figure(6.5, 0.8 + 0.36 * len(terms)) as figure:
        axes = figure.subplots()
        bars = axes.barh(range(len(terms)), values, color=[INK if name == "total" else PALETTE[0] for name in terms])
        texts = ["does not apply" if value is None else f"{value:.3f}" for value in terms.values()]
        axes.bar_label(bars, texts, padding=4, color=INK)
        axes.set_yticks(range(len(terms)), [short_name(name) for name in terms])
        axes.set(xlabel="reward", xlim=(min([0, *values]) * 1.2, max([1, *values]) * 1.2))
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure


def learning_curves(
    table: pd.DataFrame | Sequence[Mapping[str, Any]], x: str, columns: Sequence[str], smooth: int = 9, by: str = ""
) -> Figure:
    """One small panel a column over `x`: values faint, their mean over `smooth` rows around each as a line.

    With `by`, a line for each value of that column. Rows without a value are skipped, so the mixed rows of a trainer's
    log serve as they are. Raises ValueError for columns that no row has.
    """
    import pandas as pd

    table = pd.DataFrame(table)
    unknown = [name for name in (x, *columns, *([by] if by else [])) if name not in table]
    if unknown or not columns:
        raise ValueError(f"no columns {unknown} to draw; the table has {', '.join(map(str, table.columns))}")
    wide = 2 if len(columns) == 4 else min(3, len(columns))
    tall = math.ceil(len(columns) / wide)
    with _figure(4 * wide, 2.5 * tall) as figure:
        grid = figure.subplots(tall, wide, squeeze=False)
        for axes, name in zip(grid.flat, columns, strict=False):
            for colour, (label, rows) in zip(cycle(PALETTE), table.groupby(by) if by else [("", table)], strict=False):
                part = rows[[x, name]].dropna().astype(float).sort_values(x)
                axes.plot(part[x], part[name], color=colour, alpha=0.35, linewidth=1)
                mean = part[name].rolling(smooth, min_periods=1, center=True).mean()
                axes.plot(part[x], mean, color=colour, linewidth=2.2, label=short_name(str(label)))
            axes.set_title(name, fontsize=11)
            axes.set_xlabel(x)
            if by:
                axes.legend(frameon=False)
            if table[[x, name]].dropna().empty:
                axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=GREY)
        for axes in grid.flat[len(columns) :]:
            axes.set_axis_off()
    return figure


def before_after(table: pd.DataFrame | Mapping[str, Mapping[str, float | None]], value_format: str = ".1f") -> Figure:
    """Grouped bars: a group a metric (column), a colour a model variant (row), every value written on its bar.

    Missing values are dashes. Raises ValueError for an empty table.
    """
    import pandas as pd

    rows = table if isinstance(table, pd.DataFrame) else pd.DataFrame.from_dict(table, orient="index")
    if rows.empty:
        raise ValueError("no rows or no metrics to compare")
    (variants, metrics), bar = rows.shape, 0.84 / len(rows)
    with _figure(min(16, 2 + 0.5 * variants * metrics), 3.8) as figure:
        axes = figure.subplots()
        for i, (name, values) in enumerate(rows.astype(float).iterrows()):
            at = np.arange(metrics) + (i - (variants - 1) / 2) * bar
            colour = PALETTE[i % len(PALETTE)]
            drawn = axes.bar(at, values.fillna(0), bar * 0.94, color=colour, label=short_name(str(name)))
            texts = ["–" if math.isnan(value) else format(value, value_format) for value in values]
            axes.bar_label(drawn, texts, padding=2, fontsize=9, color=INK)
        axes.set_xticks(range(metrics), [str(name) for name in rows.columns])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)
        figure.legend(loc="outside upper center", ncols=variants, frameon=False)
    return figure


def distribution(counts: Mapping[str, int], reference: Mapping[str, float] | None = None) -> Figure:
    """Share of each name in per cent, with its count, and the paper's share (`reference`, scaled to 100%) under it.

    Raises ValueError when there is nothing to count.
    """
    reference = reference or {}
    total, whole = sum(counts.values()), sum(reference.values())
    if total <= 0 or (reference and whole <= 0):
        raise ValueError("shares need at least one count above 0")
    names = list(dict.fromkeys([*counts, *reference]))
    rows, bar = np.arange(len(names)), 0.4 if reference else 0.7
    with _figure(8, 1.1 + 0.5 * len(names)) as figure:
        axes = figure.subplots()
        shares = [100 * counts.get(name, 0) / total for name in names]
        texts = [f"{share:.1f}%  ({counts.get(name, 0):,})" for share, name in zip(shares, names, strict=True)]
        ours = axes.barh(
            rows - bar / 2 * bool(reference), shares, bar, color=PALETTE[0], label=f"here ({total:,} rows)"
        )
        axes.bar_label(ours, texts, padding=4, color=INK)
        if reference:
            shares = [100 * reference.get(name, 0) / whole for name in names]
            theirs = axes.barh(rows + bar / 2, shares, bar, color=PALETTE[1], label="paper")
            axes.bar_label(theirs, [f"{share:.1f}%" for share in shares], padding=4, color=INK)
            figure.legend(loc="outside upper center", ncols=2, frameon=False)
        axes.set_yticks(rows, [short_name(name, 40) for name in names])
        axes.set_xlabel("share of rows, %")
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.3)
        axes.invert_yaxis()
    return figure


def intervals(spans: Mapping[str, Sequence[float]], x_label: str) -> Figure:
    """A point with its interval for each name, from the first at the top. A span is (value, low, high).

    Raises ValueError without a name.
    """
    if not spans:
        raise ValueError("no intervals to draw")
    with _figure(7, 0.9 + 0.4 * len(spans)) as figure:
        axes = figure.subplots()
        for y, (value, low, high) in enumerate(spans.values()):
            axes.plot((low, high), (y, y), color=PALETTE[0], linewidth=3, alpha=0.4, solid_capstyle="round")
            axes.plot(value, y, "o", color=PALETTE[0])
            axes.annotate(f"{value:.2f}", (value, y), (0, 7), textcoords="offset points", ha="center", color=INK)
        axes.set_yticks(range(len(spans)), [short_name(name) for name in spans])
        axes.set(xlabel=x_label, ylim=(len(spans) - 0.5, -0.7))
    return figure


def histogram(values: Mapping[str, Sequence[float]], x_label: str, bins: int = 30) -> Figure:
    """Histograms over common bins, in per cent of each name's finite values; the legend has how many there are.

    Raises ValueError without a name; a name without values is an empty histogram.
    """
    if not values:
        raise ValueError("no values to count")
    finite = {name: np.array([v for v in part if math.isfinite(v)], float) for name, part in values.items()}
    edges = np.histogram_bin_edges(np.concatenate([*finite.values()]), bins)
    with _figure(7, 3.4) as figure:
        axes = figure.subplots()
        for i, (name, part) in enumerate(finite.items()):
            heights, colour = 100 * np.histogram(part, edges)[0] / max(1, len(part)), PALETTE[i % len(PALETTE)]
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(heights, edges, color=colour, linewidth=2, label=f"{short_name(name)} (n = {len(part):,})")
        axes.set(xlabel=x_label, ylabel="% of values", ylim=(0, None))
        axes.legend(frameon=False)
    return figure


def _pictures(images, boxes, captions, marked, columns, title, timeline_in=0.0) -> tuple[Figure, Axes | None]:
    """A grid of captioned pictures, each drawn at twice its final size; an Axes of that height under it, if any."""
    count = len(images)
    if not count or len(captions) != count or len(boxes) not in (0, count):
        raise ValueError(f"{count} frames, {len(captions)} times and {len(boxes)} lists of boxes do not fit together")
    columns, (height, width) = min(columns, count), images[0].shape[:2]
    cell = min(CELL_IN, FIGURE_IN / columns, CELL_IN * width / height)
    heights = [cell * height / width + 0.3] * math.ceil(count / columns) + [timeline_in] * bool(timeline_in)
    with _figure(max(cell * columns, 7.0 * bool(timeline_in)), sum(heights) + 0.35 * bool(title)) as figure:
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        for i, image in enumerate(images):
            axes = figure.add_subplot(grid[divmod(i, columns)])
            axes.imshow(draw_boxes(image, boxes[i] if boxes else (), 2 * DPI * cell / width, text_px=28))
            axes.set(xticks=[], yticks=[])
            axes.set_title(captions[i], fontsize=10, fontweight="bold" if i in marked else "normal", pad=4)
            axes.spines[:].set(visible=i in marked, color=PALETTE[3], linewidth=4)
        figure.suptitle(title, fontsize=11)
        return figure, figure.add_subplot(grid[-1, :]) if timeline_in else None


def _timeline(axes: Axes, frames: Frames, response: Response, truth_px: Truth) -> None:
    """Rows of marks over the seconds of the video: sampled frames, key times if any, claimed times by name."""
    end, colours = frames.duration_s, _colours(response, truth_px)
    rows = ["frames", "key times", "claimed"] if truth_px else ["frames", "claimed"]
    axes.plot(frames.times_s, [0] * len(frames.times_s), "|", color=GREY, markersize=14, markeredgewidth=2)
    axes.plot([*truth_px], [1] * len(truth_px), "D", color=PALETTE[3], markersize=8)
    claimed = dict.fromkeys((claim.name, claim.time_s) for claim in response.claims if claim.time_s is not None)
    named = {time_s for _, time_s in claimed}
    bare = [(None, time_s) for time_s in dict.fromkeys(response.times_s) if time_s not in named]
    points: dict[str | None, list[tuple[float, float]]] = {}
    stacked: Counter[float] = Counter()  # marks at one time stand on each other, so that none hides another
    for name, time_s in [*claimed, *bare]:
        points.setdefault(name, []).append((time_s, len(rows) - 1 + 0.3 * min(stacked[time_s], 3)))
        stacked[time_s] += 1
    for name, marks in points.items():
        label, colour = ("time alone", GREY) if name is None else (short_name(name, 20), colours[name])
        fill = "full" if name else "none"
        axes.plot(*zip(*marks, strict=True), "o", color=colour, fillstyle=fill, markersize=9, label=label)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="seconds", xlim=(-0.02 * end, 1.02 * end))
    axes.set_ylim(-0.5, len(rows) - 0.5 + 0.3 * (min(max(stacked.values(), default=1), 4) - 1))
    if beyond := sum(not 0 <= time_s <= end for time_s in stacked):
        warning = f"{beyond} claimed outside the video, which ends at {end:.1f} s"
        axes.set_title(warning, fontsize=10, color=ALARM, loc="right")
    handles, labels = axes.get_legend_handles_labels()
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.4), "ncols": 6, "frameon": False}
    for text in axes.legend(handles[:6], labels[:6], **place).get_texts():
        text.set_parse_math(False)


def _colours(response: Response, truth_px: Truth | None) -> dict[str, str]:
    true = [name for items in (truth_px or {}).values() for name in items]
    return claim_colours([*(claim.name for claim in response.claims), *true])  # claims first: as in their text


@contextmanager
def _figure(width_in: float, height_in: float) -> Iterator[Figure]:
    """An empty Figure in seaborn's look, which holds for what the block makes; no name is read as a formula ($)."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9), plt.rc_context():
        plt.rcParams["text.parse_math"] = False
        figure = plt.figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
        plt.close(figure)
        yield figure
