"""The filters one after another, and what became of every row: counts by stage and reason, and the cases to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from o3v import video
from o3v.curate import STAGES, Dropped, Sifted, Stage
from o3v.drawing import LabelledBox
from o3v.geometry import Box, rescale_box
from o3v.schema import Example, inside

PICTURE_PX = 224 * 224


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


@dataclass(frozen=True)
class Case:
    """A row to look at: what became of it, in words, and its frame (height, width, 3) with the boxes in question."""

    reason: str
    words: str
    image: np.ndarray
    boxes: tuple[LabelledBox, ...]


def cases(steps: Sequence[Step], examples: Iterable[Example], root: Path | str, most: int = 8) -> list[Case]:
    """Up to `most` rows that lost a box, each reason in turn, then half as many that were kept.

    `root` is the folder that the rows' paths start from.
    """
    by_id = {example.id: example for example in examples}
    drops = {drop.id: drop for step in steps for drop in step.result.dropped if drop.box}
    reasons: dict[str, list[Dropped]] = {}
    for drop in drops.values():
        reasons.setdefault(drop.reason, []).append(drop)
    in_turn = [drop for turn in zip_longest(*reasons.values()) for drop in turn if drop]
    found = []
    for drop in in_turn[:most]:
        example = by_id[drop.id]
        keys = sorted(example.key_frames, key=lambda frame: frame.idx != drop.frame_idx)
        offender = (drop.detail.split(" in frame")[0][:30], drop.box)
        found.append(_case(example, keys[0].time_s, [offender], drop.reason, drop.detail, root))
    kept = [example for example in steps[-1].result.kept if example.key_frames] if steps else []
    for example in kept[: most // 2]:
        key = example.key_frames[0]
        boxes = [(name, box) for name, some in key.items.items() for box in some]
        found.append(_case(example, key.time_s, boxes, "kept", example.question, root))
    return found


def _case(
    example: Example, time_s: float, boxes: Sequence[tuple[str, Box]], reason: str, words: str, root: Path | str
) -> Case:
    image = video.frames_at(inside(root, example.media_path), [time_s], PICTURE_PX).images[0]
    size_wh = (image.shape[1], image.shape[0])
    drawn = tuple(LabelledBox(name, rescale_box(box, (1, 1), size_wh)) for name, box in boxes)
    return Case(reason, f"{reason}: {words} ({example.source}, row {example.id})", image, drawn)
