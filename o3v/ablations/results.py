"""Means, intervals and verdicts of the ablations, from the scores by item of finished cells.

A metric of a cell is the mean over its seeds of the metric of the seed's items. The 95% interval is a bootstrap of
seeds, then of the items of each (percentiles); with one seed, of items only. Two cells are compared on the seeds that
both have, with the same draws: the same seeds and items. Three seeds are few, so intervals over seeds are rough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from o3v.ablations.cells import CELLS, from_base
from o3v.ablations.store import Record
from o3v.ablations.tables import TABLES, Table, TableRow
from o3v.evaluation.bootstrap import BOOTSTRAPS, resampled_means
from o3v.evaluation.vstar import ItemScore, ScoredItems
from o3v.evaluation.vstar_intervals import ZERO, item_values, metrics_of_means

if TYPE_CHECKING:
    import pandas as pd

Cells = Mapping[str, Mapping[int, Record]]  # finished cells by name and seed
TITLES = {"mam": "mAM", "mlgm": "mLGM", "accuracy": "what", "m_tiou": "m_tIoU", "m_viou": "m_vIoU"}
TITLES |= {"reward": "reward", "general": "general", "right": "right answers"}
SHOWS, REVERSED, NOISE = "shows", "is reversed", "is within noise"
WORDS = {kind: f"the paper's direction {kind} for" for kind in (SHOWS, REVERSED, NOISE)}  # by direction, or by verdict
WORDS |= {kind: f"{kind}:" for kind in ("better", "worse", "within noise")}  # where the paper has no number
# names of V-STAR's metrics here and in `vstar_intervals`
OF_VSTAR = ("mam", "mlgm", "accuracy", "m_tiou", "m_viou")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95% interval."""

    value: float
    low: float
    high: float

    def text(self, form: str = ".3f", to: str = "–") -> str:
        """As `0.512 (0.480–0.541)`."""
        return f"{self.value:{form}} ({self.low:{form}}{to}{self.high:{form}})"


def finished_cells(records: Sequence[Record]) -> Cells:
    """The finished cells by name and seed."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        if record["status"] == "finished":
            found.setdefault(record["cell"], {})[record["seed"]] = record
    return found


def item_series(record: Record, column: str = "") -> dict[str, np.ndarray]:
    """The values of the items of a cell, (items, …) by kind: `vstar`, `reward`, `general`, or `right` of a column.

    Raises ValueError, which names the cell, if its scores are not those of its kind.
    """
    scores = record["scores"]
    try:
        if column:
            values = _right(scores, column)
            return {"right": values} if len(values) else {}
        found = {"vstar": _vstar(scores["vstar"]), "reward": np.array(scores["questions"]["total"], float)}
        if "general" in scores:
            found["general"] = np.array(scores["general"]["ans_acc"], float)
        return found
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"cell {record['cell']}, seed {record['seed']}: scores cannot be read ({error!r})") from None


def _right(scores: Record, column: str) -> np.ndarray:
    if "voting" in scores:
        return np.array(scores["voting"][column], float)
    own, other = (scores["removal"].get(f"{name} frames removed", {"question": []}) for name in ("claimed", "random"))
    shared = sorted(set(own["question"]) & set(other["question"]))
    if not shared:  # no answer had a time in its reasoning
        return np.array([])
    series = own if column == "before" else scores["removal"][column]
    values = dict(zip(series["question"], series["before" if column == "before" else "after"], strict=True))
    return np.array([values[question] for question in shared], float)


def _vstar(scores: Record) -> np.ndarray:
    items = [
        ItemScore(True, judge, tuple(tiou), tuple((viou,) for viou in vious))  # type: ignore[arg-type]
        for judge, tiou, vious in zip(scores["judge"], scores["tiou"], scores["viou"], strict=True)
    ]
    return item_values(ScoredItems(items, [True] * len(items), [], [], []))


def _metrics(kind: str, means: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Metrics from means of items, (…, columns)."""
    if kind != "vstar":
        return {kind: means[..., 0]}
    found = metrics_of_means(means.reshape(*means.shape[:-1], *shape))
    return {name: found[name] for name in OF_VSTAR}


def _of_seed(series: Mapping[str, np.ndarray], stream: int) -> dict[str, np.ndarray]:
    """Each metric of one seed: of all items first, then of BOOTSTRAPS resamples."""
    found = {}
    for kind, values in series.items():
        flat = values.reshape(len(values), -1)
        means = np.concatenate([flat.mean(axis=0)[None], resampled_means(flat, stream)])
        found |= _metrics(kind, means, values.shape[1:])
    return found


def draws(by_seed: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Each metric: the mean over seeds, then BOOTSTRAPS means over drawn seeds and items. Equal seeds, equal draws."""
    count = len(by_seed)
    chosen = np.random.default_rng(count).integers(count, size=(count, BOOTSTRAPS))
    summed: dict[str, np.ndarray] = {}
    for slot in range(count):
        of_seeds = [_of_seed(series, slot * count + number) for number, series in enumerate(by_seed)]
        for name in set.intersection(*(set(found) for found in of_seeds)):
            stacked = np.stack([found[name] for found in of_seeds])
            drawn = stacked[chosen[slot], np.arange(1, BOOTSTRAPS + 1)]
            part = np.concatenate([[stacked[slot, 0]], drawn])
            summed[name] = summed.get(name, 0.0) + part / count
    return summed


def _estimate(values: np.ndarray) -> Estimate:
    return Estimate(float(values[0]), *(float(end) for end in np.percentile(values[1:], [2.5, 97.5])))


def estimates(cells: Cells, row: TableRow) -> dict[str, Estimate]:
    """Each metric of a row over its finished seeds; {} without any."""
    records = [record for _, record in sorted(cells.get(row.cell, {}).items())]
    if not records:
        return {}
    return {name: _estimate(v) for name, v in draws([item_series(r, row.column) for r in records]).items()}


def changes(cells: Cells, row: TableRow, reference: TableRow) -> dict[str, Estimate]:
    """Row minus reference for each metric, over the seeds that both have; {} without a common one.

    Raises ValueError if the two did not answer the same number of items.
    """
    both = sorted(cells.get(row.cell, {}).keys() & cells.get(reference.cell, {}).keys())
    if not both:
        return {}
    own, other = ([item_series(cells[r.cell][seed], r.column) for seed in both] for r in (row, reference))
    for seed, first, second in zip(both, own, other, strict=True):
        if wrong := [kind for kind in first.keys() & second.keys() if len(first[kind]) != len(second[kind])]:
            raise ValueError(f"{row.cell} and {reference.cell}, seed {seed}: different numbers of items ({wrong[0]})")
    after, before = draws(own), draws(other)
    return {name: _estimate(after[name] - before[name]) for name in after if name in before}


def verdict(change: Estimate) -> str:
    """ "better" or "worse" where the interval does not hold 0, else "within noise"."""
    return "better" if change.low > ZERO else "worse" if change.high < -ZERO else "within noise"


def direction(change: Estimate, paper_change: float) -> str:
    """Whether a change goes where the paper's goes: SHOWS, REVERSED or NOISE."""
    found = {"better": 1, "worse": -1}.get(verdict(change), 0)
    return NOISE if not found else SHOWS if found * paper_change > 0 else REVERSED


def table_rows(table: Table, records: Sequence[Record]) -> list[dict[str, str]]:
    """The table: for each row the seeds, each metric with its interval, the change from the reference, the paper's.

    A row whose cells are not finished says so.
    """
    cells, reference = finished_cells(records), table.reference_row()
    rows = []
    for row in table.rows:
        found, change = estimates(cells, row), changes(cells, row, reference)
        line = {"": row.label, "seeds": _seeds(records, row.cell)}
        line |= {TITLES[m]: found[m].text() if m in found else "–" for m in table.metrics}
        for metric in table.judged:
            shown = row.label != table.reference and metric in change
            line[f"change of {TITLES[metric]}"] = change[metric].text("+.3f", " to ") if shown else "–"
        papers = {m: row.paper[m] for m in (*table.metrics, "general") if row.paper.get(m, np.nan) == row.paper.get(m)}
        line |= {"paper": ", ".join(f"{TITLES[m]} {value}" for m, value in papers.items()) or "–"}
        rows.append(line)
    return rows


def table_frame(table: Table, records: Sequence[Record]) -> "pd.DataFrame":
    """`table_rows` as a data frame, by label."""
    import pandas as pd

    return pd.DataFrame(table_rows(table, records)).set_index("").rename_axis(None)


def change_spans(records: Sequence[Record], metric: str, reference: str = "sft_gspo") -> dict[str, tuple[float, ...]]:
    """The change of a metric from the reference, of each finished cell that begins with the same cold start.

    Returns value, low and high by label. Cells from the base are far away and stand in their tables only.
    """
    cells, spans = finished_cells(records), {}
    for table in TABLES:
        for row in table.rows if table.reference_row().cell == reference else ():
            change = changes(cells, row, table.reference_row()).get(metric)
            if change is not None and row.cell != reference and not from_base(CELLS[row.cell]):
                label = next((other for other in spans if other[1] == row.cell), (row.label, row.cell))
                spans[label] = (change.value, change.low, change.high)
    return {label: span for (label, _), span in spans.items()}


def _seeds(records: Sequence[Record], cell: str) -> str:
    """The seeds of a cell: finished ones, then others with their status."""
    own = sorted((r["seed"], r["status"]) for r in records if r["cell"] == cell)
    done = [str(seed) for seed, status in own if status == "finished"]
    return ", ".join([*done, *(f"{seed} ({status})" for seed, status in own if status != "finished")]) or "not run"


def sentence(table: Table, records: Sequence[Record]) -> str:
    """What a table shows of each judged metric, in words that follow from the intervals of the changes."""
    cells, reference = finished_cells(records), table.reference_row()
    others = [row for row in table.rows if row.label != table.reference]
    found = {row.label: changes(cells, row, reference) for row in others}
    parts = []
    for metric in table.judged:
        grouped: dict[str, list[str]] = {}
        for row in others:
            paper = row.paper.get(metric, np.nan) - reference.paper.get(metric, np.nan)  # NaN: it has no number
            if metric in found[row.label] and paper:
                own = found[row.label][metric]
                kind = verdict(own) if np.isnan(paper) else direction(own, paper)
                grouped.setdefault(kind, []).append(f"“{row.label}”")
        statements = [f"{words} {', '.join(grouped[kind])}" for kind, words in WORDS.items() if kind in grouped]
        parts += [f"{TITLES[metric]}: {'; '.join(statements)}."] if statements else []
    if missing := [f"“{label}”" for label, change in found.items() if not change]:
        parts.append(f"Not finished in a common seed: {', '.join(missing)}.")
    return f"{table.name.capitalize()} ({table.title}), compared with “{table.reference}”. {' '.join(parts)}"


def spent(records: Sequence[Record]) -> dict[str, float]:
    """Cells by status, how many were started more than once, hours and CPU hours; killed attempts do not count."""
    counts = {status: sum(r["status"] == status for r in records) for status in ("finished", "started", "failed")}
    hours = {name: sum(r.get("seconds", {}).get(name, 0.0) for r in records) / 3600 for name in ("all", "cpu")}
    resumed = sum(r.get("starts", 1) > 1 for r in records)
    return {**counts, "resumed": resumed, "hours": round(hours["all"], 2), "cpu_hours": round(hours["cpu"], 2)}
