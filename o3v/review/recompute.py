"""Recomputes the results of a run from the files that its notebooks recorded.

One function per notebook returns what `results.json` (or another file of numbers) must hold, and one what the result
table on its page must show. They read rows and responses, never the numbers that they check. What needs a model (the
loss, the answers themselves) is not repeated here.
"""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from o3v.evaluation import vstar
from o3v.evaluation.bootstrap import PairedChange, paired_change
from o3v.files import read_json, read_jsonl
from o3v.rewards import TERM_NAMES, format_score
from o3v.schema import Row, Task

Numbers = dict[str, Any]
Cells = dict[str, dict[str, Any]]  # row label → column → value
MODEL_NAMES = {"base": "base", "sft": "SFT", "sft_gspo": "SFT+GSPO"}  # in metrics.json, and on the page of 05
MEANS = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm")
METRIC_NAMES = {  # in metrics.json → in tables for readers, as V-STAR's paper writes them
    "accuracy": "accuracy",
    "m_tiou": "m_tIoU",
    "m_viou": "m_vIoU",
    "mam": "mAM",
    "mlgm": "mLGM",
    "format_rate": "format",
}


def rows_of(path: Path) -> list[Row]:
    """The rows of a JSON lines file."""
    return [row for _, row in read_jsonl(path)]


def _overview(folder: Path) -> Numbers:
    terms = read_json(folder / "results.json")["terms"]
    return {"terms": {**terms, "total": math.fsum(v for name, v in terms.items() if name != "total" and v is not None)}}


def _data(folder: Path) -> Numbers:
    counts = {split: len(rows_of(folder / f"{split}.jsonl")) for split in ("sft", "rl")}
    with (folder / "audit.csv").open(encoding="utf-8") as file:
        dropped = sum(int(row["count"]) for row in csv.DictReader(file))
    return {"rows": counts, "annotated": len(rows_of(folder / "annotated.jsonl")), "dropped": dropped}


def _sft(folder: Path) -> Numbers:
    samples, task = rows_of(folder / "samples.jsonl"), Task.SPATIO_TEMPORAL
    losses = [float(row["loss"]) for row in _metrics(folder) if row["loss"]]
    rates = {when: fmean(format_score(row[when], task) == 1.0 for row in samples) for when in ("before", "after")}
    return {
        "format_rate_base": rates["before"],
        "format_rate_sft": rates["after"],
        "final_loss": fmean(losses[-10:]),
    }


def _metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _heldout(folder: Path) -> tuple[list[Row], list[Row]]:
    rows = rows_of(folder / "heldout.jsonl")
    return [row for row in rows if row["when"] == "before"], [row for row in rows if row["when"] == "after"]


def term_changes(folder: Path) -> dict[str, PairedChange]:
    """The paired change of every reward term that some held-out question has, from the folder of notebook 03."""
    before, after = _heldout(folder)
    scored = [term for term in TERM_NAMES if any(row.get(term) is not None for row in before)]
    return {term: paired_change([r.get(term) for r in before], [r.get(term) for r in after]) for term in scored}


def _gspo(folder: Path) -> Numbers:
    changes = term_changes(folder)
    values = {f"{term}, {when}": getattr(c, when) for term, c in changes.items() for when in ("before", "after")}
    facts = {"steps": len(_metrics(folder)), "questions": len(_heldout(folder)[0])}
    return {**facts, "verdict": changes["total"].verdict, **values}


def _change_cells(changes: Mapping[str, PairedChange]) -> Cells:
    names = ("before", "after", "change", "low", "high", "verdict")
    return {label: {name: getattr(change, name) for name in names} for label, change in changes.items()}


def _task_changes(folder: Path) -> dict[str, PairedChange]:
    before, after = _heldout(folder.parent / "03_gspo")
    pairs: dict[str, list[tuple[float, float]]] = {}
    for first, second in zip(before, after, strict=True):
        pairs.setdefault(first["task"], []).append((first["total"], second["total"]))
    return {task: paired_change(*zip(*pairs[task], strict=True)) for task in sorted(pairs)}


def _analysis(folder: Path) -> Numbers:
    cells = _change_cells(_task_changes(folder))
    return {"rollouts": len(rows_of(folder.parent / "03_gspo/rollouts.jsonl")), "tasks": cells}


def _inference(folder: Path) -> Numbers:
    answers, trials = rows_of(folder / "responses.jsonl"), read_json(folder / "faithful.json")
    rate = fmean(format_score(row["response"], row["row"]["task"]) == 1.0 for row in answers)
    return {"answers": len(answers), "format_rate": rate} | {f"changed, {n}": v[0] for n, v in trials.items()}


def model_metrics(folder: Path) -> dict[str, dict[str, float]]:
    """The V-STAR metrics of every model, from the predictions of notebook 05 (protocol `strict`)."""
    scored = {name: vstar.score_items(rows, "strict")["overall"] for name, rows in predictions(folder).items()}
    return {name: vstar.result_columns(overall) for name, overall in scored.items()}


def predictions(folder: Path) -> dict[str, list[Row]]:
    """The items of notebook 05 with the results of each model, items in the same order."""
    by_model: dict[str, list[Row]] = {}
    for row in rows_of(folder / "predictions.jsonl"):
        by_model.setdefault(row["model"], []).append(row)
    return by_model


def _evaluation(folder: Path) -> Numbers:
    return {name: values["mam"] for name, values in model_metrics(folder).items()}


def metric_cells(metrics: Mapping[str, Mapping[str, Any]]) -> Cells:
    """What the result table of 05 must show for the numbers of `metrics.json`."""
    return {MODEL_NAMES.get(name, name): {m: values[m] for m in MEANS} for name, values in metrics.items()}


RESULTS: dict[str, Callable[[Path], Numbers]] = {  # notebook → what its results.json must hold
    "00_overview": _overview,
    "01_data_pipeline": _data,
    "02_sft": _sft,
    "03_gspo": _gspo,
    "03b_reward_analysis": _analysis,
    "04_inference": _inference,
    "05_evaluation": _evaluation,
}
FILES: dict[str, tuple[str, Callable[[Path], Numbers]]] = {"05_evaluation": ("metrics.json", model_metrics)}
TABLES: dict[str, Callable[[Path], Cells]] = {  # notebook → what the result table of its page must show
    "03_gspo": lambda folder: _change_cells({TERM_NAMES[term]: c for term, c in term_changes(folder).items()}),
    "03b_reward_analysis": lambda folder: _change_cells(_task_changes(folder)),
    "04_inference": lambda folder: {n: {"changed": v[0]} for n, v in read_json(folder / "faithful.json").items()},
    "05_evaluation": lambda folder: metric_cells(model_metrics(folder)),
}


def differences(recorded: Any, expected: Any, name: str = "") -> list[str]:
    """Where recorded numbers differ from recomputed ones by more than rounding, one line each.

    Only what both have is compared, so a notebook may record more than can be recomputed.

    >>> differences({"a": 1.0, "b": {"c": 2}, "more": 3}, {"a": 1.0 + 1e-12, "b": {"c": 4}})
    ['b.c is 2, recomputed 4']
    """
    if isinstance(expected, Mapping) and isinstance(recorded, Mapping):
        shared = [key for key in expected if key in recorded]
        lines = [differences(recorded[key], expected[key], f"{name}.{key}".strip(".")) for key in shared]
        return [line for some in lines for line in some]
    numbers = all(isinstance(value, int | float) for value in (recorded, expected))
    if recorded == expected or (numbers and math.isclose(recorded, expected, rel_tol=1e-9, abs_tol=1e-9)):
        return []
    return [f"{name} is {recorded!r}, recomputed {expected!r}"]
