"""Answers that need no model, so that a reader knows what a score of 0.25 means.

All of them know which seconds are annotated (as the public scorer's whole-frame row does), so their vIoU is an upper
bound of what such boxes reach.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from o3v.evaluation.vstar_items import CHAINS, annotated_boxes
from o3v.geometry import Box, Span
from o3v.schema import Row

Shape = tuple[Span, Box]  # a span and a box as shares of the video and of the frame


def _random(rng: np.random.Generator) -> Shape:
    start, end, left, right, top, bottom = np.sort(rng.random((3, 2)), axis=1).ravel().tolist()
    return (start, end), (left, top, right, bottom)


SHAPES: Mapping[str, Callable[[np.random.Generator], Shape]] = {
    "random": _random,
    "whole frame": lambda rng: ((0.0, 1.0), (0.0, 0.0, 1.0, 1.0)),
    "centre box": lambda rng: ((0.25, 0.75), (0.25, 0.25, 0.75, 0.75)),
}


def baseline_predictions(items: Sequence[Row], name: str, seed: int = 0) -> list[Row]:
    """The items with the results of the baseline `name` of SHAPES, drawn anew for each chain and second.

    "random" answers as a random item of the file would be right, the others give the file's most frequent answer.
    "whole frame": the whole video and frame. "centre box": half of each side and of the video, in the middle.
    """
    rng, frequent = np.random.default_rng(seed), Counter(item["answer"] for item in items).most_common(1)[0][0]
    rows = []
    for item in items:
        other = items[int(rng.integers(len(items)))]["answer"] if name == "random" else frequent
        row: Row = {**item, "answer_vqa": other}
        row.pop("judge_score", None)  # of another answer
        duration_s, width, height = item["frame_count"] / item["fps"], item["width"], item["height"]
        for chain in CHAINS:
            (start, end), _ = SHAPES[name](rng)
            row[f"answer_temporal{chain}"] = [start * duration_s, end * duration_s]
            boxes = {second: SHAPES[name](rng)[1] for second, _ in annotated_boxes(item)}
            row[f"answer_spatial{chain}"] = {
                second: [x0 * width, y0 * height, x1 * width, y1 * height] for second, (x0, y0, x1, y1) in boxes.items()
            }
        rows.append(row)
    return rows
