"""Writing videos."""

import numpy as np
import pytest
from helpers.clips import MAX_PIXELS, numbered_image, read_numbers

from o3v.toyworld.writing import write_video
from o3v.video import sample_frames


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [numbered_image(0)[:-1]],
        [numbered_image(0), numbered_image(1)[:-2]],
        [numbered_image(0).astype(float)],
        [numbered_image(0)[..., 0]],
        [np.zeros((0, 4, 3), np.uint8)],
    ],
)
def test_bad_frames_are_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="frame"):
        write_video(tmp_path / "a.mp4", frames, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-9])
def test_a_bad_fps_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="fps"):
        write_video(tmp_path / "a.mp4", [numbered_image(0)], fps)


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    def failing_frames():
        yield numbered_image(0)
        raise RuntimeError("no more")

    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more"):
        write_video(path, failing_frames(), 10)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fps", [8, 12.5, 29.97, np.int64(10)])
def test_a_written_video_reads_back_and_its_bytes_are_reproducible(tmp_path, fps):
    for name in ("one.mp4", "two.mp4"):
        write_video(tmp_path / name, (numbered_image(k) for k in range(30)), fps)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    frames = sample_frames(tmp_path / "one.mp4", 30, MAX_PIXELS)
    assert read_numbers(frames.images) == list(range(30))
    assert np.allclose(frames.times_s, np.arange(30) / fps, atol=1e-3)
    assert frames.duration_s == pytest.approx(30 / fps, abs=1e-3)
