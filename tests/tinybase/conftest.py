"""Clips for the tests of the tiny base. No test changes them."""

import pytest

from o3v.config import FrameConfig
from o3v.tinybase.clips import draw_clips


@pytest.fixture(scope="session")
def clips():
    """Ten clips of four frames, 84×84 pixels."""
    return draw_clips(10, FrameConfig(n_frames=4, max_pixels=84 * 84), seed=0, workers=1, progress=False)
