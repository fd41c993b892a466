"""The filters one after another, and what became of every row: counts by stage and reason, and the cases to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from o3v.data.filters import STAGES, Sifted, Stage
from o3v.schema import Example


@dataclass(frozen=True)
class Step:
    """One stage of a run: its name, how many rows it got, and what it left."""

    stage: str
    rows_before: int
    result: Sifted


def run(examples: Iterable[Example], stages: Mapping[str, Stage] = STAGES) -> list[Step]:
    """Runs the stages in order, each on what the one before it kept."""
    steps, kept = [], list(examples)
    for name, stage in stages.items():
        steps.append(Step(name, len(kept), stage(kept)))
        kept = steps[-1].result.kept
    return steps


def table(steps: Iterable[Step]) -> list[dict]:
    """Counts by stage, reason and source, with the rows before and after."""
    lines = []
    for step in steps:
        counts = Counter((drop.reason, drop.source) for drop in step.result.dropped) or {("nothing", "all"): 0}
        rows = {"rows_before": step.rows_before, "rows_after": len(step.result.kept)}
        lines += [
            {"stage": step.stage, "reason": r, "source": s, "count": n} | rows for (r, s), n in sorted(counts.items())
        ]
    return lines


def sift(examples: Sequence[Example], stages: Mapping[str, Stage] = STAGES) -> tuple[list[Example], list[dict]]:
    """Runs the stages in order. Returns the kept rows and the audit."""
    steps = run(examples, stages)
    return (steps[-1].result.kept if steps else list(examples)), table(steps)
