"""Means with bootstrap intervals, by hand."""

import numpy as np

from o3v.evaluation.bootstrap import MeanWithInterval, mean_with_interval


def test_no_number_gives_zeros():
    assert mean_with_interval(np.array([np.nan]), [""]) == MeanWithInterval(0.0, 0.0, 0.0, 0, {})


def test_a_mean_by_hand_leaves_out_nan():
    mean = mean_with_interval(np.array([1.0, 0.0, np.nan, 1.0, 0.0]), ["a", "b", "a", "a", "b"])
    assert (mean.value, mean.items, mean.low, mean.high) == (0.5, 4, 0.0, 1.0)
    assert mean.families == {"a": (1.0, 2), "b": (0.0, 2)}


def test_equal_values_give_an_interval_without_width():
    mean = mean_with_interval(np.ones(50), [""] * 50)
    assert (mean.low, mean.value, mean.high) == (1.0, 1.0, 1.0) and mean.families == {}
