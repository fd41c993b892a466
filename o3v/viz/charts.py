"""Charts of numbers: reward terms, learning curves, grouped bars, shares, intervals, histograms.

Pure drawing: numbers in, a matplotlib Figure out. Does not know videos, responses or models. Libraries that are slow
to import are imported inside functions.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from o3v.viz.boxes import GREY, INK, PALETTE, short_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DPI = 100
LABEL_CHARS = 64  # of a long label, on two lines
LOG_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@contextmanager
def styled_figure(width_in: float, height_in: float) -> Iterator[Figure]:
    """Yields an empty Figure; seaborn's style, and "$" as a plain character, hold inside the block."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9), plt.rc_context():
        plt.rcParams["text.parse_math"] = False
        figure = plt.figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
        plt.close(figure)  # so that a notebook shows it once, as the last value of a cell
        yield figure


def reward_bars(terms: Mapping[str, float | None]) -> Figure:
    """One bar per reward term, with its value. None is written as "does not apply"."""
    values = [value or 0.0 for value in terms.values()]
    with styled_figure(6.5, 0.8 + 0.36 * len(terms)) as figure:
        axes = figure.subplots()
        bars = axes.barh(range(len(terms)), values, color=[INK if name == "total" else PALETTE[0] for name in terms])
        labels = ["does not apply" if value is None else f"{value:.3f}" for value in terms.values()]
        axes.bar_label(bars, labels, padding=4, color=INK)
        axes.set(yticks=range(len(terms)), yticklabels=[short_name(name) for name in terms], xlabel="reward")
        axes.set_xlim(min([0, *values]) * 1.2, max([1, *values]) * 1.2)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure


def learning_curves(
    table: pd.DataFrame | Sequence[Mapping[str, Any]], x: str, columns: Sequence[str], smooth: int = 9, by: str = ""
) -> Figure:
    """One panel per column over `x`: the values as a faint line, their moving average as a strong line.

    Args:
        table: one row per step; rows without a value are skipped.
        x: column of the horizontal axis.
        columns: columns to draw. Raises ValueError for those that no row has.
        smooth: window of the centred moving average, in rows.
        by: column whose values get a line each; "" means one line.
    """
    import pandas as pd

    table = pd.DataFrame(table)
    unknown = [name for name in (x, *columns, *([by] if by else [])) if name not in table]
    if unknown or not columns:
        raise ValueError(f"no columns {unknown} to draw; the table has {', '.join(map(str, table.columns))}")
    num_columns = 2 if len(columns) == 4 else min(3, len(columns))
    num_rows = math.ceil(len(columns) / num_columns)
    with styled_figure(4 * num_columns, 2.5 * num_rows) as figure:
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
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


def before_after(
    table: pd.DataFrame | Mapping[str, Mapping[str, float | None]], value_format: str = ".1f", y_label: str = ""
) -> Figure:
    """Grouped bars: one group per metric (column), one colour per model (row), the value or a dash above each bar.

    Raises ValueError for an empty table.
    """
    import pandas as pd

    rows = table if isinstance(table, pd.DataFrame) else pd.DataFrame.from_dict(table, orient="index")
    if rows.empty:
        raise ValueError("no rows or no metrics to compare")
    (num_models, num_metrics), bar = rows.shape, 0.84 / len(rows)
    with styled_figure(min(16, 2 + 0.5 * num_models * num_metrics), 3.8) as figure:
        axes = figure.subplots()
        for i, (name, values) in enumerate(rows.astype(float).iterrows()):
            x = np.arange(num_metrics) + (i - (num_models - 1) / 2) * bar
            colour = PALETTE[i % len(PALETTE)]
            bars = axes.bar(x, values.fillna(0), bar * 0.94, color=colour, label=short_name(str(name)))
            labels = ["–" if math.isnan(value) else format(value, value_format) for value in values]
            axes.bar_label(bars, labels, padding=2, fontsize=9, color=INK)
        axes.set_xticks(range(num_metrics), [str(name) for name in rows.columns])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)
        axes.set_ylabel(y_label)
        figure.legend(loc="outside upper center", ncols=num_models, frameon=False)
    return figure


def distribution(counts: Mapping[str, int], reference: Mapping[str, float], reference_label: str = "paper") -> Figure:
    """Share of each name in per cent, with its count; below it the share in `reference`, scaled to 100%.

    Raises ValueError when all counts, or all reference shares, are 0.
    """
    total, reference_total = sum(counts.values()), sum(reference.values())
    if total <= 0 or reference_total <= 0:
        raise ValueError("shares need at least one count above 0")
    names = list(dict.fromkeys([*counts, *reference]))
    with styled_figure(8, 1.1 + 0.5 * len(names)) as figure:
        axes, y = figure.subplots(), np.arange(len(names))
        shares = [100 * counts.get(name, 0) / total for name in names]
        labels = [f"{share:.1f}%  ({counts.get(name, 0):,})" for share, name in zip(shares, names, strict=True)]
        bars = axes.barh(y - 0.2, shares, 0.4, color=PALETTE[0], label=f"here ({total:,} rows)")
        axes.bar_label(bars, labels, padding=4, color=INK)
        shares = [100 * reference.get(name, 0) / reference_total for name in names]
        bars = axes.barh(y + 0.2, shares, 0.4, color=PALETTE[1], label=reference_label)
        axes.bar_label(bars, fmt="{:.1f}%", padding=4, color=INK)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        axes.set(yticks=y, yticklabels=[short_name(name, 40) for name in names], xlabel="share of rows, %", xmargin=0.3)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure


def intervals(spans: Mapping[str, Sequence[float]], x_label: str) -> Figure:
    """A point with its interval (value, low, high) for each name, from the top. Raises ValueError without a name."""
    if not spans:
        raise ValueError("no intervals to draw")
    with styled_figure(7, 0.9 + 0.4 * len(spans)) as figure:
        axes = figure.subplots()
        for y, (value, low, high) in enumerate(spans.values()):
            axes.plot((low, high), (y, y), color=PALETTE[0], linewidth=3, alpha=0.4, solid_capstyle="round")
            axes.plot(value, y, "o", color=PALETTE[0])
            axes.annotate(f"{value:.2f}", (value, y), (0, 7), textcoords="offset points", ha="center", color=INK)
        axes.set_yticks(
            range(len(spans)), [textwrap.fill(short_name(name, LABEL_CHARS), LABEL_CHARS // 2) for name in spans]
        )
        axes.set(xlabel=x_label, ylim=(len(spans) - 0.5, -0.7))
    return figure


def draw_verticals(axes: Any, verticals: Mapping[str, float]) -> None:
    """Dashed lines at these values, each with its label at the top; the labels of two lines point outwards."""
    sides = ("right", "left") if len(verticals) == 2 else ("center",) * len(verticals)
    for (label, value), side in zip(verticals.items(), sides, strict=True):
        axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
        place = {"xycoords": ("data", "axes fraction"), "ha": side, "va": "bottom"}
        axes.annotate(label, (value, 1.0), color=GREY, fontsize=9, annotation_clip=False, **place)


def histogram(
    values: Mapping[str, Sequence[float]],
    x_label: str,
    bins: int = 30,
    log: bool = False,
    verticals: Mapping[str, float] | None = None,
) -> Figure:
    """Histograms with common bins, in per cent of each name's finite values. Raises ValueError without a name.

    `log` makes both axes logarithmic, for values above 0; `verticals` are dashed lines by label.
    """
    if not values:
        raise ValueError("no values to count")
    finite = {name: np.array([v for v in part if math.isfinite(v)], float) for name, part in values.items()}
    together = np.concatenate([*finite.values()])
    if log:
        edges = np.geomspace(together.min() / 1.001, together.max() * 1.001, bins + 1)
    else:
        low, high = (together.min(), together.max()) if len(together) else (0.0, 1.0)
        equal = high - low <= 1e-9 * max(1.0, abs(high))  # up to rounding; numpy refuses so narrow a range
        edges = np.histogram_bin_edges(together, bins, (low - 0.5, high + 0.5) if equal else (low, high))
    shares = {name: 100 * np.histogram(part, edges)[0] / max(1, len(part)) for name, part in finite.items()}
    floor = min((s for part in shares.values() for s in part if s), default=1.0) / 2 if log else 0.0  # no log of 0
    with styled_figure(7, 3.4) as figure:
        axes = figure.subplots()
        for i, (name, heights) in enumerate(shares.items()):
            colour, label = PALETTE[i % len(PALETTE)], f"{short_name(name)} (n = {len(finite[name]):,})"
            axes.stairs(np.maximum(heights, floor), edges, baseline=floor, color=colour, fill=True, alpha=0.25)
            axes.stairs(np.maximum(heights, floor), edges, baseline=floor, color=colour, linewidth=2, label=label)
        if log:
            axes.set(xscale="log", yscale="log")
            axes.set_xticks([tick for tick in LOG_TICKS if edges[0] <= tick <= edges[-1]])
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")  # the usual labels are formulas, which are off
                axis.set_minor_formatter("")
        axes.set(xlabel=x_label, ylabel="% of values", ylim=(floor, None))
        draw_verticals(axes, verticals or {})
        axes.legend(frameon=False)
    return figure
