"""Compares the result table of the README with the files of a run, or with the numbers of a published site.

The table has a row for each model of a seed and one for the change by GSPO; its first column is `seed`, and a row
without a seed belongs to the one above it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from o3v.files import read_json
from o3v.review.checks import Problems
from o3v.review.intervals import intervals
from o3v.review.markdown import markdown_tables
from o3v.review.page_reader import shows
from o3v.review.recompute import METRIC_NAMES, MODEL_NAMES, model_metrics, predictions, term_changes

CHANGE, REWARD, FORMAT = "change", "reward", "format_rate"
BEFORE, AFTER = "sft", "sft_gspo"
_CELL = re.compile(r"(?P<value>\S+?)(?: \((?P<low>\S+) to (?P<high>\S+)\))?")


class Cell(NamedTuple):
    """What a cell must show: a number, and for a change its 95% interval. None: nothing is known of it."""

    value: float | None
    low: float | None = None
    high: float | None = None


Expected = dict[str, dict[str, Cell]]  # row label → column → what it must show


def cells_of_run(run_dir: Path) -> Expected:
    """What the README must show of a run, recomputed from its rows and predictions (format rates as recorded)."""
    evaluation, recorded = run_dir / "05_evaluation", read_json(run_dir / "05_evaluation/metrics.json")
    metrics = {
        name: {**values, FORMAT: recorded[name].get(FORMAT)} for name, values in model_metrics(evaluation).items()
    }
    cells = _model_cells(metrics, intervals(predictions(evaluation)))
    reward = term_changes(run_dir / "03_gspo")["total"]
    cells[MODEL_NAMES[BEFORE]][REWARD], cells[MODEL_NAMES[AFTER]][REWARD] = Cell(reward.before), Cell(reward.after)
    cells[CHANGE][REWARD] = Cell(reward.change, reward.low, reward.high)
    return cells


def cells_of_site(numbers: Mapping[str, Any]) -> Expected:
    """What the README must show of a published run, from the `results.json` of its site."""
    cells, recorded = _model_cells(numbers["metrics"], numbers["intervals"]), numbers["stages"].get("03_gspo", {})
    before, after = (recorded.get(f"total, {when}") for when in ("before", "after"))
    if before is not None and after is not None:
        cells[MODEL_NAMES[BEFORE]][REWARD], cells[MODEL_NAMES[AFTER]][REWARD] = Cell(before), Cell(after)
        cells[CHANGE][REWARD] = Cell(after - before)
    return cells


def _model_cells(metrics: Mapping[str, Any], found: Mapping[str, Any]) -> Expected:
    cells = {
        MODEL_NAMES.get(name, name): {column: Cell(values[metric]) for metric, column in METRIC_NAMES.items()}
        for name, values in metrics.items()
    }
    ends = found[f"{AFTER} − {BEFORE}"]
    cells[CHANGE] = {
        column: Cell(metrics[AFTER][metric] - metrics[BEFORE][metric], *ends[metric])
        for metric, column in METRIC_NAMES.items()
        if metric in ends
    }
    return cells


def rows_of_seed(text: str, seed: int) -> dict[str, dict[str, str]]:
    """The rows of a seed in the result table of a text: label → column → cell. Empty if the seed is not in it."""
    for table in markdown_tables(text):
        header, rows, current = table[0], {}, ""
        if header[0] != "seed":
            continue
        for row in table[1:]:
            current = row[0] or current
            if current == str(seed):
                rows[row[1]] = dict(zip(header[2:], row[2:], strict=False))
        if rows:
            return rows
    return {}


def wrong_readme_cells(readme: Path, seed: int, expected: Expected) -> Problems:
    """Yields one line for each cell of the README's result table that does not show what it must.

    Raises OSError if there is no such file, ValueError if it has no rows of the seed.
    """
    rows = rows_of_seed(readme.read_text(encoding="utf-8"), seed)
    if not rows:
        raise ValueError(f"{readme.name} has no result table with rows of seed {seed}")
    for label, columns in expected.items():
        for column, cell in columns.items():
            shown = rows.get(label, {}).get(column)
            if shown is None:
                yield f"seed {seed}: the table has no cell {label}, {column}"
            elif not _shows(shown, cell):
                wanted = "" if cell.low is None else f" ({cell.low:.3f} to {cell.high:.3f})"
                yield f"seed {seed}, {label}, {column}: the README shows {shown!r}, recomputed {cell.value!r}{wanted}"


def _shows(text: str, cell: Cell) -> bool:
    parts = _CELL.fullmatch(text)
    if not parts or not shows(parts["value"], cell.value):
        return False
    return cell.low is None or (
        parts["low"] is not None and shows(parts["low"], cell.low) and shows(parts["high"], cell.high)
    )
