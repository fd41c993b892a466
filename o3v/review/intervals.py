"""95% bootstrap intervals of V-STAR's metrics for several models, and of the paired change from each to the next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from o3v.evaluation.vstar import score_each
from o3v.evaluation.vstar_intervals import HEADLINE, Difference, compare
from o3v.evaluation.vstar_intervals import intervals as of_one_model
from o3v.schema import Row

Interval = tuple[float, float]


def intervals(by_model: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Interval]]:
    """The interval of each headline metric of each model; and as `b − a`, of the change from each model to the next.

    They are the intervals that notebook 05 shows (`evaluation.vstar_intervals`). `by_model` holds the items with the
    results of each model, in the same order.
    """
    scored = {name: score_each(rows, "strict") for name, rows in by_model.items()}
    found = {name: _ends(of_one_model(mine)) for name, mine in scored.items()}
    for before, after in pairwise(scored):
        found[f"{after} − {before}"] = _ends(compare(scored[before], scored[after]))
    return found


def _ends(values: Mapping[str, Difference]) -> dict[str, Interval]:
    return {name: (round(values[name].low, 6), round(values[name].high, 6)) for name in HEADLINE}
