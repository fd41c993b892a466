"""Runs the filters one after another and reports what each one dropped, by stage, reason and source."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from o3v.data.filters import MODEL_FREE_STAGES, FilterResult, Stage
from o3v.schema import Example


@dataclass(frozen=True)
class FilterStep:
    """One stage of a run: its name, the number of rows it received, and its result."""

    stage: str
    rows_before: int
    result: FilterResult


def run_filters(examples: Iterable[Example], stages: Mapping[str, Stage] = MODEL_FREE_STAGES) -> list[FilterStep]:
    """Runs the stages in order, each on the rows that the previous stage kept."""
    steps, kept = [], list(examples)
    for name, stage in stages.items():
        steps.append(FilterStep(name, len(kept), stage(kept)))
        kept = steps[-1].result.kept
    return steps


def report_table(steps: Iterable[FilterStep]) -> list[dict]:
    """Counts drops by stage, reason and source, with the number of rows before and after the stage."""
    lines = []
    for step in steps:
        counts = Counter((drop.reason, drop.source) for drop in step.result.dropped)
        lines += stage_lines(step.stage, counts, step.rows_before, len(step.result.kept))
    return lines


def stage_lines(stage: str, counts: Mapping[tuple[str, str], int], rows_before: int, rows_after: int) -> list[dict]:
    """The lines of one stage in the table, from its counts by (reason, source); one line of 0 if nothing is dropped."""
    rows = {"rows_before": rows_before, "rows_after": rows_after}
    counts = counts or {("nothing", "all"): 0}
    return [{"stage": stage, "reason": r, "source": s, "count": n} | rows for (r, s), n in sorted(counts.items())]


def filter_rows(
    examples: Sequence[Example], stages: Mapping[str, Stage] = MODEL_FREE_STAGES
) -> tuple[list[Example], list[dict]]:
    """Runs the stages in order. Returns the kept rows and the table of `report_table`."""
    steps = run_filters(examples, stages)
    return (steps[-1].result.kept if steps else list(examples)), report_table(steps)
