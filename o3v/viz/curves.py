"""Curves over one variable: named learning curves, functions, values with their intervals.

Pure drawing, as `charts`: numbers in, a matplotlib Figure out. Every axis has a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

from o3v.viz.boxes import GREY, INK, PALETTE, short_name
from o3v.viz.charts import draw_verticals, styled_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


ROUNDING = 1e-5  # a panel with a smaller range shows rounding errors, and gets a wider range


class CurvePanel(NamedTuple):
    """One panel of `named_curves`: its title, the label of its y axis with the unit, and the label of each column."""

    title: str
    y_label: str
    columns: Mapping[str, str]


def named_curves(
    table: pd.DataFrame | Sequence[Mapping[str, Any]], x: str, panels: Sequence[CurvePanel], smooth: int = 9
) -> Figure:
    """Learning curves with several named lines in a panel: values faint, their moving average strong.

    Columns that no row has are left out, and so are panels without any column. Raises ValueError if no panel remains.
    `table`, `x` and `smooth` are those of `learning_curves`.
    """
    import pandas as pd

    table = pd.DataFrame(table)
    present = [{c: n for c, n in panel.columns.items() if c in table and table[c].notna().any()} for panel in panels]
    shown = [(panel, columns) for panel, columns in zip(panels, present, strict=True) if columns]
    if not shown:
        raise ValueError(f"no column to draw; the table has {', '.join(map(str, table.columns))}")
    num_columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    num_rows = math.ceil(len(shown) / num_columns)
    with styled_figure(4.4 * num_columns, 2.9 * num_rows) as figure:
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
        for axes, (panel, columns) in zip(grid.flat, shown, strict=False):
            for (column, label), colour in zip(columns.items(), cycle(PALETTE), strict=False):
                part = table[[x, column]].dropna().astype(float).sort_values(x)
                axes.plot(part[x], part[column], color=colour, alpha=0.3, linewidth=1)
                mean = part[column].rolling(smooth, min_periods=1, center=True).mean()
                axes.plot(part[x], mean, color=colour, linewidth=2.2, label=short_name(label))
            axes.set_title(panel.title, fontsize=11)
            axes.set(xlabel=x, ylabel=panel.y_label)
            low, high = axes.get_ylim()
            if high - low < ROUNDING:
                axes.set_ylim(low - 0.1, high + 0.1)
            if len(columns) > 1:
                axes.legend(frameon=False, fontsize=9)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
    return figure


def functions(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    x: Sequence[float],
    x_label: str,
    verticals: Mapping[str, float] | None = None,
) -> Figure:
    """Functions of one variable: one panel per key (label of its y axis), one line per name.

    Args:
        panels: values at `x` by panel and by name of the line. Raises ValueError without a panel.
        x: values of the variable.
        x_label: label of the horizontal axis.
        verticals: dashed lines by label.
    """
    if not panels:
        raise ValueError("no functions to draw")
    with styled_figure(4.6 * len(panels), 3.2) as figure:
        for axes, (y_label, lines) in zip(
            figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
        ):
            for (name, values), colour in zip(lines.items(), cycle(PALETTE), strict=False):
                axes.plot(x, values, color=colour, linewidth=2.2, label=short_name(name))
            axes.set(xlabel=x_label, ylabel=y_label)
            draw_verticals(axes, verticals or {})
            axes.legend(frameon=False, fontsize=9)
    return figure


def interval_curve(points: Mapping[float, Sequence[float]], x_label: str, y_label: str) -> Figure:
    """A line through values with their intervals, (value, low, high) by x, and a dashed line at the first value.

    Raises ValueError without a point.
    """
    if not points:
        raise ValueError("no points to draw")
    x, (values, low, high) = sorted(points), zip(*(points[at] for at in sorted(points)), strict=True)
    with styled_figure(6, 3.2) as figure:
        axes = figure.subplots()
        axes.axhline(values[0], color=GREY, linestyle="--", linewidth=1)
        axes.vlines(x, low, high, color=PALETTE[0], linewidth=3, alpha=0.4)
        axes.plot(x, values, "o-", color=PALETTE[0], linewidth=1.5)
        for at, value in zip(x, values, strict=True):
            axes.annotate(f"{value:.3f}", (at, value), (7, 5), textcoords="offset points", color=INK, fontsize=9)
        axes.set(xlabel=x_label, ylabel=y_label, xticks=x)
        axes.margins(x=0.12, y=0.15)
    return figure
