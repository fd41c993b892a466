"""The frame nearest to a time, and times outside the video."""

import math

import pytest

from o3v import video


@pytest.mark.parametrize("time_s", [-0.1, 4.1, math.nan, math.inf, -math.inf])
def test_no_frame_is_nearest_to_a_time_outside_the_video(time_s):
    assert video.nearest_frame([0, 1, 2, 3], time_s, 4.0) is None


def test_without_frames_none_is_nearest():
    assert video.nearest_frame([], 1.0) is None


@pytest.mark.parametrize(("time_s", "index"), [(0, 0), (0.4, 0), (0.6, 1), (2.0, 2), (3.9, 3)])
def test_the_nearest_frame(time_s, index):
    assert video.nearest_frame([0, 1, 2, 3], time_s, 4.0) == index


def test_without_a_duration_the_video_ends_one_widest_gap_after_the_last_frame():
    assert video.nearest_frame([0, 1, 4], 7.0) == 2
    assert video.nearest_frame([0, 1, 4], 7.1) is None
    assert video.nearest_frame([5.0], 6.0) == 0
    assert video.nearest_frame([5.0], 6.1) is None
