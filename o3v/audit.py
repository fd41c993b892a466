"""The filters one after another, and what became of every row: counts by stage and reason, and the cases to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from matplotlib.figure import Figure

from o3v import plots, video
from o3v.curate import STAGES, Dropped, Sifted, Stage
from o3v.drawing import LabelledBox
from o3v.geometry import rescale_box
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


def gallery(steps: Iterable[Step], examples: Iterable[Example], root: Path | str, most: int = 8) -> Figure | None:
    """Up to `most` rows that lost a box, each reason in turn, each frame with the offender; None when there are none.

    `root` is the folder that the rows' paths start from. Frames must be shaped alike.
    """
    by_id = {example.id: example for example in examples}
    drops = {drop.id: drop for step in steps for drop in step.result.dropped if drop.box}
    reasons: dict[str, list[Dropped]] = {}
    for drop in drops.values():
        reasons.setdefault(drop.reason, []).append(drop)
    in_turn = [drop for turn in zip_longest(*reasons.values()) for drop in turn if drop]
    images, boxes, captions = [], [], []
    for drop in in_turn[:most]:
        keys = sorted(by_id[drop.id].key_frames, key=lambda frame: frame.idx != drop.frame_idx)
        frames = video.frames_at(inside(root, by_id[drop.id].media_path), [keys[0].time_s], PICTURE_PX)
        images.append(frames.images[0])
        box_px = rescale_box(drop.box, (1, 1), (frames.images.shape[2], frames.images.shape[1]))
        boxes.append([LabelledBox(drop.detail.split(" in frame")[0][:30], box_px)])
        captions.append(drop.reason)
    return plots.filmstrip(images, [0.0] * len(images), boxes, columns=4, captions=captions) if images else None
