"""The small world that the tests of training and inference read."""

from __future__ import annotations

from pathlib import Path

from o3v.config import FrameConfig
from o3v.prompts import PromptBuilder

FRAMES = FrameConfig(n_frames=3, max_pixels=56 * 56)


def builder_of(root: Path, box_space: str = "pixels") -> PromptBuilder:
    """Prompts from the rows of a small world."""
    return PromptBuilder(root, FRAMES, box_space)
