"""Means with bootstrap intervals, by hand."""

import numpy as np
import pytest

from o3v.evaluation.bootstrap import MeanWithInterval, PairedChange, mean_with_interval, paired_change


def test_no_number_gives_zeros():
    assert mean_with_interval(np.array([np.nan]), [""]) == MeanWithInterval(0.0, 0.0, 0.0, 0, {})


def test_a_mean_by_hand_leaves_out_nan():
    mean = mean_with_interval(np.array([1.0, 0.0, np.nan, 1.0, 0.0]), ["a", "b", "a", "a", "b"])
    assert (mean.value, mean.items, mean.low, mean.high) == (0.5, 4, 0.0, 1.0)
    assert mean.families == {"a": (1.0, 2), "b": (0.0, 2)}


def test_equal_values_give_an_interval_without_width():
    mean = mean_with_interval(np.ones(50), [""] * 50)
    assert (mean.low, mean.value, mean.high) == (1.0, 1.0, 1.0) and mean.families == {}


def test_a_paired_change_by_hand():
    """Differences 1, 1, 0 and −1 of the items with two numbers: mean 1/4; means before 1.5, after 1.75."""
    change = paired_change([1.0, 2.0, 1.0, 2.0, None, 5.0], [2.0, 3.0, 1.0, 1.0, 4.0, float("nan")])
    assert (change.before, change.after, change.change) == (1.5, 1.75, 0.25)
    assert (change.items, change.rose, change.fell, change.verdict) == (4, 2, 1, "within chance")
    assert -1 <= change.low <= 0.25 <= change.high <= 1


def test_the_verdict_follows_the_interval():
    """All differences are equal, so the interval has no width."""
    lower, higher = [0.0] * 5, [0.5] * 5
    assert paired_change(lower, higher).verdict == "rose" and paired_change(higher, lower).verdict == "fell"
    assert paired_change(lower, lower).verdict == "within chance"
    assert paired_change(higher, lower).low == paired_change(higher, lower).high == -0.5


def test_a_paired_change_of_few_items_is_within_chance():
    assert paired_change([0.0], [1.0]) == PairedChange(0.0, 1.0, 1.0, 1.0, 1.0, 1, 1, 0, "within chance")
    assert paired_change([None], [1.0]) == PairedChange(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, "within chance")
    with pytest.raises(ValueError, match="2 before and 1 after"):
        paired_change([0.0, 1.0], [1.0])
