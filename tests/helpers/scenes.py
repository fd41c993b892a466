"""Scenes of the synthetic world for its tests, and small geometry on their boxes."""

from __future__ import annotations

from functools import cache

import numpy as np

from o3v.toyworld.scene import SPLITS, Scene, make_scene

IDS = [(split, index) for split in SPLITS for index in range(14)]


@cache
def scenes() -> list[Scene]:
    """The scenes of `IDS`."""
    return [make_scene(*scene_id, seed=3) for scene_id in IDS]


@cache
def short_scenes() -> list[tuple[Scene, list[dict]]]:
    """The scenes under a minute, each with the boxes of the visible objects of every frame."""
    return [(s, [s.boxes_at(i) for i in range(s.n_frames)]) for s in scenes() if s.duration_s < 60]


def frames_showing(boxes_by_frame: list[dict], name: str) -> list[int]:
    return [i for i, boxes in enumerate(boxes_by_frame) if name in boxes]


def center(box: tuple[float, ...]) -> np.ndarray:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def gap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Free space between two boxes along the axis that has more of it; negative when they overlap."""
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
