"""Toy: a synthetic world of coloured objects with exact ground truth. It replaces real videos and annotators."""

from o3v.toyworld.dataset import make_dataset
from o3v.toyworld.make_root import make_root
from o3v.toyworld.scene import (
    COLORS,
    KINDS,
    PLACES,
    SIZE_WH,
    SPLITS,
    Scene,
    draw_frame,
    make_scene,
    mixed_index,
    render,
)

__all__ = [
    "COLORS",
    "KINDS",
    "PLACES",
    "SIZE_WH",
    "SPLITS",
    "Scene",
    "draw_frame",
    "make_dataset",
    "make_root",
    "make_scene",
    "mixed_index",
    "render",
]
