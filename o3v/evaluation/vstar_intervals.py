"""Bootstrap intervals of V-STAR's metrics, and the paired comparison of two models on the same items.

Every metric is a mean over items, or a function of such means (AM, LGM). So a resample of the items gives all of them
at once, and all groups and models are treated alike. Intervals are the 2.5th and 97.5th percentile (`bootstrap`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from o3v.evaluation.bootstrap import resampled_means
from o3v.evaluation.vstar import (
    AP_THRESHOLDS,
    CORRECT_SCORE,
    EVIDENCE_LEVELS,
    JOINT_RATES,
    LGM_CEILING,
    R1_THRESHOLDS,
    ItemScore,
    ScoredItems,
)

ItemValue = Callable[[ItemScore, int], float]

# values of an item whose means over the items that count are metrics, by chain
OF_COUNTED: Mapping[str, ItemValue] = {
    "m_tiou": lambda score, chain: score.tiou[chain],
    "m_viou": lambda score, chain: score.viou[chain],
    **{f"r1@{at}": lambda score, chain, at=at: score.tiou[chain] >= at for at in R1_THRESHOLDS},
    **{
        f"ap@{at}": lambda score, chain, at=at: float(np.mean([iou >= at for iou in score.ious[chain]] or [0]))
        for at in AP_THRESHOLDS
    },
}
# … and over all items of the file
OF_ALL: Mapping[str, ItemValue] = {
    "accuracy": lambda score, chain: score.judge >= CORRECT_SCORE,
    **{
        name: lambda score, chain, parts=parts: score.right(chain).issuperset(parts)
        for name, parts in JOINT_RATES.items()
    },
    **{
        name: lambda score, chain, level=level: score.evidence_level(chain) >= level
        for name, level in EVIDENCE_LEVELS.items()
    },
}
BY_CHAIN = (*OF_COUNTED, *OF_ALL)
HEADLINE = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm")  # tIoU and vIoU as means of both chains
ZERO = 1e-12  # a smaller difference is rounding
CEILING_NOTE = (
    "mLGM holds -ln(1 - x), which is infinite for a metric of 1. Each metric is limited to 1 - 1e-6 and adds at most "
    "4.6 to its LGM. Where a metric is 1, or is 1 in some resamples of few items, mLGM or the upper end of its "
    "interval shows this limit and not the model"
)


@dataclass(frozen=True)
class Interval:
    """A metric of one group of items with its 95% bootstrap interval."""

    value: float
    low: float
    high: float
    items: int
    at_ceiling: bool = False  # an LGM that CEILING_NOTE explains, here or in one of the resamples


def item_values(scored: ScoredItems, chosen: Sequence[bool] | None = None) -> np.ndarray:
    """Values (items, metrics of BY_CHAIN, chains) of the chosen items, NaN where an item does not count."""
    picked = range(len(scored.scores)) if chosen is None else np.flatnonzero(chosen)
    values = np.full((len(picked), len(BY_CHAIN), 2), np.nan)
    for row, number in enumerate(picked):
        score, counted = scored.scores[number], scored.counted[number]
        for column, name in enumerate(BY_CHAIN):
            if counted:
                value = (OF_ALL if name in OF_ALL else OF_COUNTED)[name]
                values[row, column] = value(score, 0), value(score, 1)
            elif name in OF_ALL:
                values[row, column] = 0  # as the scorer: in the denominator only
    return values


def metrics_of_means(means: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics from the means of BY_CHAIN, (…, metrics, chains). Chain metrics are named `m_tiou.1`, `m_tiou.2`."""
    of = dict(zip(BY_CHAIN, np.moveaxis(means, -2, 0), strict=True))
    three = np.stack([of[name] for name in ("accuracy", "m_tiou", "m_viou")])
    of["am"] = three.mean(axis=0)
    of["lgm"] = -np.log(1 - np.minimum(three, LGM_CEILING)).mean(axis=0)
    found = {"accuracy": of["accuracy"][..., 0]}
    found |= {name: of[name].mean(axis=-1) for name in ("m_tiou", "m_viou")}
    found |= {"mam": of["am"].mean(axis=-1), "mlgm": of["lgm"].mean(axis=-1)}
    found |= {f"{name}.{chain + 1}": of[name][..., chain] for name in of if name != "accuracy" for chain in (0, 1)}
    return found


def intervals(scored: ScoredItems, chosen: Sequence[bool] | None = None, seed: int = 0) -> dict[str, Interval]:
    """Every metric of the chosen items (default: all) with its interval; HEADLINE first. {} without an item."""
    values = item_values(scored, chosen)
    if not len(values):
        return {}
    point, resampled = _means(values, seed)
    items, at_most = len(values), -np.log(1 - LGM_CEILING) / 3
    found = {}
    for name, samples in resampled.items():
        low, high = np.percentile(samples, [2.5, 97.5])
        ceiling = "lgm" in name and bool(max(samples.max(), point[name]) >= at_most / (2 if name == "mlgm" else 1))
        found[name] = Interval(float(point[name]), float(low), float(high), items, ceiling)
    return found


def _means(values: np.ndarray, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of all items, and of each resample."""
    shape = values.shape[1:]
    present = ~np.isnan(values)
    totals, numbers = np.nan_to_num(values).sum(axis=0), present.sum(axis=0)
    point = np.divide(totals, numbers, out=np.zeros(shape), where=numbers > 0)
    resampled = resampled_means(values.reshape(len(values), -1), seed).reshape(-1, *shape)
    return metrics_of_means(point), metrics_of_means(resampled)


@dataclass(frozen=True)
class Difference:
    """How a metric of model B differs from that of model A on the same items."""

    before: float
    after: float
    change: float
    low: float  # 95% interval of the change, paired
    high: float
    items: int
    verdict: str  # "better" or "worse" if the interval does not hold 0, else "within chance"


def compare(before: ScoredItems, after: ScoredItems, seed: int = 0) -> dict[str, Difference]:
    """Paired differences of every metric. Raises ValueError for different numbers of items."""
    first, second = item_values(before), item_values(after)
    if first.shape != second.shape:
        raise ValueError(f"a paired comparison needs the same items, found {len(first)} and {len(second)}")
    (point_a, resampled_a), (point_b, resampled_b) = _means(first, seed), _means(second, seed)
    found = {}
    for name, samples in resampled_a.items():
        change, low, high = point_b[name] - point_a[name], *np.percentile(resampled_b[name] - samples, [2.5, 97.5])
        sure = len(first) > 1
        verdict = "better" if low > ZERO and sure else "worse" if high < -ZERO and sure else "within chance"
        numbers = (float(number) for number in (point_a[name], point_b[name], change, low, high))
        found[name] = Difference(*numbers, len(first), verdict)
    return found
