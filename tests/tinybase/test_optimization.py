"""The learning rate over a stage."""

import pytest

from o3v.tinybase.optimization import rate_factor


def test_the_rate_rises_stays_and_falls():
    factors = [rate_factor(step, 100, decay=0.2, warmup=10) for step in range(100)]
    assert factors[0] == 0.1 and factors[9:80] == [1.0] * 71
    assert factors[90] == pytest.approx(0.5) and factors[99] == pytest.approx(0.05)


def test_without_decay_the_rate_stays():
    assert rate_factor(99, 100, decay=0.0, warmup=10) == 1.0
