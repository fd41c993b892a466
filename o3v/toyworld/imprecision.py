"""Imprecise annotations: loose boxes, moments that are late or early, spans that are too wide.

Large models and hurried people see the right thing and mark it imprecisely. A filter that asks "Is this a red car?"
cannot see it, so this imprecision stays in the rows of the cold start, and reinforcement learning with exact ground
truth can remove it. Gross faults are in `scripted_annotator`.

Sources. Spans: the spans of a second annotator agree with the labels with a mean IoU of 0.725 on Charades and of 0.587
on MultiTHUMOS (Sigurdsson et al., "What Actions are Needed for Understanding Human Actions in Videos?", ICCV 2017);
`SPAN_MARGIN` gives 0.67. TimeLens (arXiv:2512.14698) finds imprecise spans in 35% of Charades-STA. Boxes and moments:
the distributions are ours. The paper drops boxes over 80% of the frame and verifies crops because the boxes of its
annotator are unreliable, but reports no distribution. This module does not know rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from o3v.evidence import map_boxes, map_times
from o3v.geometry import Box, Size
from o3v.schema import Example, KeyFrame, Task

BOX_MARGIN = 0.35  # each side of a box moves outwards by U(0, BOX_MARGIN) of the width or height
SPAN_MARGIN = 0.5  # each end of a span moves outwards by U(0, SPAN_MARGIN) of its length
LATE, EARLY = 0.15, 0.05  # shares of key frames that are one described frame late or early


def row_rng(row_id: str, seed: int) -> np.random.Generator:
    """The random numbers of one row: the same for the same id and seed."""
    return np.random.default_rng([seed, *sha256(row_id.encode()).digest()[:8]])


def loosen_box(box: Box, size_wh: Size, rng: np.random.Generator) -> Box:
    """The box with every side moved outwards by U(0, BOX_MARGIN) of its size, within a frame of `size_wh`."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = rng.uniform(0, BOX_MARGIN, 4).tolist()
    width, height = x1 - x0, y1 - y0
    return (
        max(0.0, x0 - left * width),
        max(0.0, y0 - top * height),
        min(float(size_wh[0]), x1 + right * width),
        min(float(size_wh[1]), y1 + bottom * height),
    )


def imprecise(example: Example, duration_s: float, frames: Sequence[tuple[int, float]], seed: int) -> Example:
    """The row as an imprecise annotator writes it; rows of general questions are returned unchanged.

    Args:
        example: a row with exact evidence. Boxes are 0–1, those of `visual QA` pixels of its image.
        duration_s: length of the video in seconds; ends of spans stay within it.
        frames: index and time in seconds of the frames to which late and early moments move.
        seed: seed of the random numbers, which also depend on the id of the row.
    """
    rng = row_rng(example.id, seed)
    if example.task in (Task.TEMPORAL, Task.TEMPORAL_MCQ):
        return _widened(example, duration_s, rng)
    if example.task is Task.SPATIAL:
        return _loosened(example, example.image_size_wh or (1, 1), 0, rng)
    if example.task is Task.SPATIO_TEMPORAL:
        return _moved(_loosened(example, (1, 1), 3, rng), frames, rng)
    return example


def _widened(example: Example, duration_s: float, rng: np.random.Generator) -> Example:
    assert example.span_s is not None
    (start_s, end_s), margins = example.span_s, rng.uniform(0, SPAN_MARGIN, 2)
    length_s = end_s - start_s
    new = max(0.0, start_s - margins[0] * length_s), min(duration_s, end_s + margins[1] * length_s)
    head = example.answer.rpartition("[")[0]
    return replace(example, answer=f"{head}[{new[0]:.1f}, {new[1]:.1f}]")


def _loosened(example: Example, size_wh: Size, decimals: int, rng: np.random.Generator) -> Example:
    """All boxes of the row made loose; equal boxes stay equal."""
    loose: dict[Box, Box] = {}

    def loosen(box: Box) -> Box:
        key = tuple(round(side, 3) for side in box)
        if key not in loose:
            loose[key] = tuple(round(side, decimals) for side in loosen_box(box, size_wh, rng))
        return loose[key]

    key_frames = tuple(
        replace(key, items={name: tuple(map(loosen, boxes)) for name, boxes in key.items.items()})
        for key in example.key_frames
    )
    texts = {
        "answer": map_boxes(example.answer, loosen, decimals),
        "reasoning_process": example.reasoning_process and map_boxes(example.reasoning_process, loosen, decimals),
    }
    return replace(example, key_frames=key_frames, **texts)


def _moved(example: Example, frames: Sequence[tuple[int, float]], rng: np.random.Generator) -> Example:
    """Some key frames moved to the frame after or before, with the times of their claims; boxes stay."""
    numbers = {round(time_s, 1): number for number, (_, time_s) in enumerate(frames)}
    taken = {numbers.get(round(key.time_s, 1)) for key in example.key_frames}
    moved: dict[float, float] = {}
    key_frames: list[KeyFrame] = []
    for key in example.key_frames:
        step, old = int(rng.choice([0, 1, -1], p=[1 - LATE - EARLY, LATE, EARLY])), numbers.get(round(key.time_s, 1))
        new = None if old is None else old + step
        if step and new is not None and 0 <= new < len(frames) and new not in taken:
            taken.add(new)
            moved[round(key.time_s, 1)] = round(frames[new][1], 1)
            key = replace(key, idx=frames[new][0], time_s=round(frames[new][1], 3), path=None)
        key_frames.append(key)
    chain = example.reasoning_process
    chain = chain and map_times(chain, lambda time_s: moved.get(round(time_s, 1), time_s))
    return replace(example, key_frames=tuple(sorted(key_frames, key=lambda key: key.idx)), reasoning_process=chain)
