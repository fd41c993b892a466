"""Means with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOOTSTRAPS = 2_000


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean over items with its 95% interval; `families` are means by kind of question, with their counts."""

    value: float
    low: float
    high: float
    items: int
    families: dict[str, tuple[float, int]]


def mean_with_interval(values: np.ndarray, families: Sequence[str], seed: int = 0) -> MeanWithInterval:
    """Mean and interval of all values except NaN, with the mean of each family; all 0 if there are only NaN."""
    kept = ~np.isnan(values)
    if not kept.any():
        return MeanWithInterval(0.0, 0.0, 0.0, 0, {})
    values, names = values[kept], np.array(families)[kept]
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    by_family = {str(n): (float(values[names == n].mean()), int((names == n).sum())) for n in np.unique(names) if n}
    return MeanWithInterval(float(values.mean()), float(low), float(high), len(values), by_family)
