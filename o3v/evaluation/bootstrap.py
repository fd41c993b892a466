"""Means with bootstrap intervals, and paired comparisons of two models on the same items."""

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


def resampled_means(values: np.ndarray, seed: int = 0, block: int = 250) -> np.ndarray:
    """Means of columns over BOOTSTRAPS resamples of the items, (BOOTSTRAPS, columns).

    `values` is (items, columns); NaN does not count, and a mean over nothing is 0. Two models that are compared on the
    same items get the same resamples from the same seed. `block` resamples are in memory at a time.
    """
    items, rng = len(values), np.random.default_rng(seed)
    present = ~np.isnan(values)
    summands = np.concatenate([np.nan_to_num(values), present], axis=1)
    means = []
    for start in range(0, BOOTSTRAPS, block):
        size = min(block, BOOTSTRAPS - start)
        drawn = rng.integers(items, size=(size, items)) + items * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items)
        totals, numbers = np.split(counts @ summands, 2, axis=1)
        means.append(np.divide(totals, numbers, out=np.zeros_like(totals), where=numbers > 0))
    return np.concatenate(means)


@dataclass(frozen=True)
class PairedChange:
    """How one number changed on the same items. Means over the items that have a number before and after."""

    before: float
    after: float
    change: float  # mean of the differences
    low: float  # 95% interval of the mean difference
    high: float
    items: int
    rose: int  # items on which the number is larger than before
    fell: int
    verdict: (
        str  # "rose" or "fell" if the interval does not hold 0, else, and for fewer than two items, "within chance"
    )


def paired_change(before: Sequence[float | None], after: Sequence[float | None], seed: int = 0) -> PairedChange:
    """Mean change from `before` to `after`, two numbers for each item, with the bootstrap interval and a verdict.

    Items without a number (None or NaN) on one side are left out; all numbers are 0 if none remains. Raises
    ValueError for different lengths.

    >>> change = paired_change([0.0, 1.0, 0.5, None], [1.0, 2.0, 1.5, 3.0])
    >>> change.change, change.low, change.high, change.items, change.verdict
    (1.0, 1.0, 1.0, 3, 'rose')
    """
    first, second = np.array(before, float), np.array(after, float)
    if first.shape != second.shape:
        raise ValueError(f"a paired comparison needs the same items, found {len(first)} before and {len(second)} after")
    kept = ~np.isnan(first) & ~np.isnan(second)
    first, second = first[kept], second[kept]
    differences = second - first
    mean = mean_with_interval(differences, [""] * len(differences), seed)
    verdict = "rose" if mean.low > 0 else "fell" if mean.high < 0 else "within chance"
    return PairedChange(
        before=float(first.mean()) if len(first) else 0.0,
        after=float(second.mean()) if len(first) else 0.0,
        change=mean.value,
        low=mean.low,
        high=mean.high,
        items=len(differences),
        rose=int((differences > 0).sum()),
        fell=int((differences < 0).sum()),
        verdict=verdict if len(differences) > 1 else "within chance",
    )
