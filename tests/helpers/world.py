"""Prompts of the small synthetic data set, for the tests of training and inference."""

from __future__ import annotations

from pathlib import Path

from o3v.config import FrameConfig
from o3v.prompts import PromptBuilder

FRAMES = FrameConfig(n_frames=3, max_pixels=56 * 56)


def builder_of(root: Path, box_space: str = "pixels") -> PromptBuilder:
    """Prompts from the rows of a small world."""
    return PromptBuilder(root, FRAMES, box_space)
