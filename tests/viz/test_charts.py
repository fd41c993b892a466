"""Charts show the numbers they were given, and refuse empty input."""

import math
import subprocess
import sys

import pytest
from helpers.viewing import render_png, texts_of

from o3v.viz import charts


def test_reward_bars_write_their_values():
    figure = charts.reward_bars({"ans_acc": 1.0, "ans_tiou": None, "thk_spatial": 0.25, "total": 1.25})
    assert {"1.000", "does not apply", "0.250", "1.250", "ans_tiou"} <= set(texts_of(figure))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1.0, 0.0, 0.25, 1.25]
    assert render_png(charts.reward_bars({}))


def test_unknown_columns_of_curves_are_named():
    with pytest.raises(ValueError, match=r"\['kl'\].*step, loss"):
        charts.learning_curves([{"step": 1, "loss": 2.0}], "step", ["kl"])
    with pytest.raises(ValueError):
        charts.learning_curves([{"step": 1}], "step", [])


def test_curves_skip_missing_values_and_smooth_over_neighbours():
    rows = [{"step": 2, "loss": 6.0}, {"step": 1, "loss": 0.0}, {"step": 3, "loss": 3.0}, {"step": 4, "kl": None}]
    figure = charts.learning_curves(rows, "step", ["loss", "kl"], smooth=3)
    raw, smooth = figure.axes[0].lines
    assert list(raw.get_xdata()) == [1, 2, 3] and list(raw.get_ydata()) == [0, 6, 3]
    assert list(smooth.get_ydata()) == [3.0, 3.0, 4.5]  # (0+6)/2, (0+6+3)/3, (6+3)/2
    assert "no values" in texts_of(figure)
    assert render_png(figure)


def test_before_after_writes_every_value():
    table = {"base": {"acc": 33.5, "mAM": 19.3}, "SFT": {"acc": 61.0, "mAM": None}}
    figure = charts.before_after(table)
    assert {"33.5", "19.3", "61.0", "–", "base", "SFT", "acc", "mAM"} <= set(texts_of(figure))
    heights = [[p.get_height() for p in c.patches] for c in figure.axes[0].containers]
    assert heights == [[33.5, 19.3], [61.0, 0.0]]
    assert render_png(figure)
    with pytest.raises(ValueError, match="no rows"):
        charts.before_after({})


def test_before_after_takes_a_data_frame():
    import pandas as pd

    figure = charts.before_after(pd.DataFrame({"acc": [1, 2]}, index=["a", "b"]), value_format=".2f")
    assert {"1.00", "2.00"} <= set(texts_of(figure))


def test_distribution_shows_both_shares():
    figure = charts.distribution({"temporal QA": 1, "visual QA": 3}, {"visual QA": 30.0, "other": 10.0})
    assert {"25.0%  (1)", "75.0%  (3)", "0.0%  (0)"} <= set(texts_of(figure))
    widths = [[round(p.get_width(), 3) for p in c.patches] for c in figure.axes[0].containers]
    assert widths == [[25, 75, 0], [0, 75, 25]]
    assert render_png(figure)


@pytest.mark.parametrize(
    ("counts", "reference"), [({}, {"a": 1.0}), ({"a": 0}, {"a": 1.0}), ({"a": 1}, {"a": 0.0}), ({"a": 1}, {})]
)
def test_a_distribution_of_nothing_is_refused(counts, reference):
    with pytest.raises(ValueError, match="above 0"):
        charts.distribution(counts, reference)


def test_histogram_counts_finite_values_in_per_cent():
    figure = charts.histogram({"a": [0, 0, 0, 10], "b": [math.nan, math.inf], "c": []}, "seconds", bins=2)
    assert {"a (n = 4)", "b (n = 0)", "c (n = 0)", "seconds"} <= set(texts_of(figure))
    assert list(figure.axes[0].patches[0].get_data().values) == [75, 25]
    assert render_png(figure)
    with pytest.raises(ValueError, match="no values"):
        charts.histogram({}, "seconds")


def test_figures_leave_no_trace_in_pyplot():
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    charts.reward_bars({"a": 1.0})
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_curves_by_kind_share_a_panel():
    rows = [{"step": n, "loss": n * k, "kind": f"kind {k}"} for n in range(3) for k in (1, 2)]
    (axes,) = charts.learning_curves(rows, "step", ["loss"], by="kind").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["kind 1", "kind 2"]
    assert [list(line.get_ydata()) for line in axes.lines][::2] == [[0, 1, 2], [0, 2, 4]]
    with pytest.raises(ValueError, match="no columns"):
        charts.learning_curves(rows, "step", ["loss"], by="colour")


def test_intervals_from_the_top():
    (axes,) = charts.intervals({"a": (0.5, 0.25, 0.75), "b": (0.1, 0.0, 0.2)}, "share").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.25, 0.75), (0.5,), (0.0, 0.2), (0.1,)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    with pytest.raises(ValueError, match="no intervals"):
        charts.intervals({}, "share")


@pytest.mark.parametrize("module", ["charts", "curves", "plots", "widgets"])
def test_importing_loads_no_drawing_library(module):
    slow = "{'matplotlib', 'seaborn', 'pandas', 'ipywidgets'}"
    code = f"import sys, o3v.viz.{module}; print({slow} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_names_are_no_formulas():
    assert render_png(charts.reward_bars({"$x_{$": 1.0}))
    assert render_png(charts.distribution({"$x_{$": 1}, {"$y^$": 1.0}))
    assert render_png(charts.histogram({"$x_{$": [1.0]}, "$x_{$"))
    assert render_png(charts.before_after({"$x_{$": {"$a_{$": 1.0}}))
    assert render_png(charts.learning_curves([{"$x_{$": 1, "$y_{$": 2}], "$x_{$", ["$y_{$"]))


def test_a_histogram_can_have_log_axes_and_marked_values():
    """Three values at 1 and one at 10: 75% and 25% of a; all of b at 1. Empty bins stand at the floor."""
    values = {"a": [1, 1, 1, 10], "b": [1]}
    figure = charts.histogram(values, "ratio", bins=4, log=True, verticals={"1 − ε": 0.8, "1 + ε": 1.2})
    (axes,) = figure.axes
    assert list(axes.patches[0].get_data().values) == [75, 12.5, 12.5, 25]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log") and axes.get_ylim()[0] == 12.5
    assert render_png(figure) and {"1 − ε", "1 + ε"} <= set(texts_of(figure))
    assert not any("$" in text for text in texts_of(figure))
    assert render_png(charts.histogram({"a": [1.0, 1.0]}, "ratio", log=True))


def test_bars_can_have_a_label_of_their_axis():
    assert charts.before_after({"a": {"x": 1.0}}, y_label="seconds").axes[0].get_ylabel() == "seconds"


@pytest.mark.parametrize("values", [[1 / 3, 1 / 3 + 1e-17, 0.1 + 0.7 / 3], [2.0], []])
def test_a_histogram_of_equal_values_has_one_bar(values):
    """Values that differ by rounding only, as spans of the same share of videos of about the same length."""
    figure = charts.histogram({"a": values}, "x", bins=20)
    heights = [v for patch in figure.axes[0].patches for v in patch.get_data().values if v]
    assert set(heights) == ({100.0} if values else set())
