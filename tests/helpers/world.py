"""Sizes of the small world that the tests of training read."""

from o3v.config import FrameConfig

FRAMES = FrameConfig(n_frames=3, max_pixels=56 * 56)
