"""95% bootstrap intervals of V-STAR's metrics, for one model and for the paired change between two."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from o3v.evaluation.bootstrap import BOOTSTRAPS
from o3v.evaluation.vstar import CORRECT_SCORE, ItemScore, log_geometric_mean

Interval = tuple[float, float]
COLUMNS = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm")


def resampled(scores: Sequence[ItemScore], seed: int = 0) -> dict[str, np.ndarray]:
    """COLUMNS of 2,000 resamples of the items, with the same draws for every model with as many items."""
    values = np.array([[s.judge >= CORRECT_SCORE, *s.tiou, *s.viou] for s in scores], float)  # (items, 5)
    draws = np.random.default_rng(seed).integers(len(values), size=(BOOTSTRAPS, len(values)))
    accuracy, *ious = values[draws].mean(axis=1).T  # of chain 1 and 2: tIoU, then vIoU
    tiou, viou = (ious[0] + ious[1]) / 2, (ious[2] + ious[3]) / 2
    chains = zip(accuracy, *ious, strict=True)
    lgm = [(log_geometric_mean(a, t1, v1) + log_geometric_mean(a, t2, v2)) / 2 for a, t1, t2, v1, v2 in chains]
    mam = (accuracy + tiou + viou) / 3  # the mean over chains of (accuracy + tIoU + vIoU) / 3
    return dict(zip(COLUMNS, (accuracy, tiou, viou, mam, np.array(lgm)), strict=True))


def intervals(by_model: Mapping[str, Sequence[ItemScore]]) -> dict[str, dict[str, Interval]]:
    """The interval of each metric of each model; and as `b − a`, of the change from each model to the next."""
    samples = {name: resampled(scores) for name, scores in by_model.items()}
    found = {name: {column: _ends(values) for column, values in s.items()} for name, s in samples.items()}
    names = list(samples)
    for before, after in pairwise(names):
        changes = {column: _ends(samples[after][column] - samples[before][column]) for column in COLUMNS}
        found[f"{after} − {before}"] = changes
    return found


def _ends(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 6), round(float(high), 6)
