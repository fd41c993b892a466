"""Curves show the numbers they were given, label their axes, and refuse empty input."""

import pytest
from helpers.viewing import texts_of

from o3v.viz import curves


def test_named_curves_label_their_axes_and_leave_out_empty_panels():
    rows = [{"step": 1, "a": 1.0, "b": 2.0, "c": None}, {"step": 2, "a": 3.0, "b": 4.0, "c": None}]
    both = curves.CurvePanel("two", "share", {"a": "first", "b": "second", "gone": "third"})
    empty = curves.CurvePanel("none", "s", {"c": "empty"})
    (axes,) = curves.named_curves(rows, "step", [both, empty], smooth=1).axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("two", "step", "share")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first", "second"]
    assert [list(line.get_ydata()) for line in axes.lines[::2]] == [[1, 3], [2, 4]]
    with pytest.raises(ValueError, match="no column to draw"):
        curves.named_curves(rows, "step", [empty])


def test_rounding_errors_do_not_fill_a_panel():
    rows = [{"step": n, "loss": n * 1e-7} for n in range(3)]
    (axes,) = curves.named_curves(rows, "step", [curves.CurvePanel("loss", "loss", {"loss": "loss"})]).axes
    low, high = axes.get_ylim()
    assert low < -0.09 and high > 0.09


def test_functions_have_one_panel_for_each_axis_and_marked_values():
    figure = curves.functions({"gain": {"A": [0, 1], "B": [1, 0]}, "slope": {"A": [1, 1]}}, [0, 2], "s", {"1 + ε": 1.2})
    gain, slope = figure.axes
    assert (gain.get_ylabel(), slope.get_ylabel(), slope.get_xlabel()) == ("gain", "slope", "s")
    assert [list(line.get_ydata()) for line in gain.lines[:2]] == [[0, 1], [1, 0]]
    assert list(slope.lines[-1].get_xdata()) == [1.2, 1.2] and "1 + ε" in texts_of(figure)
    with pytest.raises(ValueError, match="no functions"):
        curves.functions({}, [], "s")


def test_an_interval_curve_is_sorted_and_has_the_line_of_its_start():
    (axes,) = curves.interval_curve({40: (0.5, 0.4, 0.6), 0: (0.3, 0.3, 0.3)}, "step", "reward").axes
    start, values = axes.lines
    assert list(start.get_ydata()) == [0.3, 0.3]
    assert (list(values.get_xdata()), list(values.get_ydata())) == ([0, 40], [0.3, 0.5])
    assert [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()] == [[0.3, 0.3], [0.4, 0.6]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "reward")
    with pytest.raises(ValueError, match="no points"):
        curves.interval_curve({}, "step", "reward")
