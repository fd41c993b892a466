"""Cases of the filters to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from o3v import video
from o3v.data.filter_report import FilterStep
from o3v.geometry import Box, rescale_box
from o3v.schema import DroppedRow, Example, resolve_inside
from o3v.viz.boxes import LabelledBox

PICTURE_PX = 224 * 224


@dataclass(frozen=True)
class FilterCase:
    """A row to look at: what became of it, in words, and its frame (height, width, 3) with the boxes in question."""

    reason: str
    words: str
    image: np.ndarray
    boxes: tuple[LabelledBox, ...]


def filter_cases(
    steps: Sequence[FilterStep], examples: Iterable[Example], root: Path | str, most: int = 8
) -> list[FilterCase]:
    """Up to `most` rows that lost a box, each reason in turn, then half as many that were kept.

    `root` is the folder that the rows' paths start from.
    """
    by_id = {example.id: example for example in examples}
    drops = {drop.id: drop for step in steps for drop in step.result.dropped if drop.box}
    reasons: dict[str, list[DroppedRow]] = {}
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
) -> FilterCase:
    image = video.frames_at(resolve_inside(root, example.media_path), [time_s], PICTURE_PX).images[0]
    size_wh = (image.shape[1], image.shape[0])
    drawn = tuple(LabelledBox(name, rescale_box(box, (1, 1), size_wh)) for name, box in boxes)
    return FilterCase(reason, f"{reason}: {words} ({example.source}, row {example.id})", image, drawn)
