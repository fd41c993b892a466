"""Examples of what the data filters dropped and kept, for a viewer."""

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

MAX_PIXELS = 224 * 224


@dataclass(frozen=True)
class FilterCase:
    """A row that a filter dropped or kept: why, a caption, and a frame (height, width, 3) with the boxes concerned."""

    reason: str
    caption: str
    image: np.ndarray
    boxes: tuple[LabelledBox, ...]


def filter_cases(
    steps: Sequence[FilterStep], examples: Iterable[Example], root: Path | str, max_cases: int = 8
) -> list[FilterCase]:
    """Up to `max_cases` dropped rows with a box, each reason in turn, then up to half as many kept rows.

    `root` is the folder that the media paths of the rows are relative to.
    """
    by_id = {example.id: example for example in examples}
    drops = {drop.id: drop for step in steps for drop in step.result.dropped if drop.box}
    reasons: dict[str, list[DroppedRow]] = {}
    for drop in drops.values():
        reasons.setdefault(drop.reason, []).append(drop)
    in_turn = [drop for turn in zip_longest(*reasons.values()) for drop in turn if drop]
    cases = []
    for drop in in_turn[:max_cases]:
        example = by_id[drop.id]
        keys = sorted(example.key_frames, key=lambda frame: frame.idx != drop.frame_idx)
        boxes = [(drop.detail.split(" in frame")[0][:30], drop.box)]
        cases.append(_case(example, keys[0].time_s, boxes, drop.reason, drop.detail, root))
    kept = [example for example in steps[-1].result.kept if example.key_frames] if steps else []
    for example in kept[: max_cases // 2]:
        key = example.key_frames[0]
        boxes = [(name, box) for name, key_boxes in key.items.items() for box in key_boxes]
        cases.append(_case(example, key.time_s, boxes, "kept", example.question, root))
    return cases


def _case(
    example: Example, time_s: float, boxes: Sequence[tuple[str, Box]], reason: str, detail: str, root: Path | str
) -> FilterCase:
    image = video.frames_at(resolve_inside(root, example.media_path), [time_s], MAX_PIXELS).images[0]
    size_wh = (image.shape[1], image.shape[0])
    drawn = tuple(LabelledBox(name, rescale_box(box, (1, 1), size_wh)) for name, box in boxes)
    return FilterCase(reason, f"{reason}: {detail} ({example.source}, row {example.id})", image, drawn)
