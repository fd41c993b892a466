"""Reading frames: the right ones of every kind of file, by both backends, in processes and threads."""

import logging
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import BACKENDS, HEIGHT, MAX_PIXELS, WIDTH, encode, in_child, read_numbers
from hypothesis import given
from hypothesis import strategies as st

from o3v import toyworld, video
from o3v.video import VideoError, frames_at, nearest_frame, probe, sample_frames
from o3v.video import frames as frames_module

pytestmark = pytest.mark.timeout(60)

REAL = Path(__file__).parents[3] / "shared" / "real"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.mark.parametrize("n", [0, -1, True, 2.0, None, float("nan")])
def test_a_bad_number_of_frames_is_an_error(clip, n):
    with pytest.raises(ValueError, match="n must be"):
        sample_frames(clip, n, MAX_PIXELS)


@pytest.mark.parametrize("arguments", [{"max_fps": 0}, {"max_fps": float("nan")}, {"backend": "opencv"}])
def test_bad_options_are_errors(clip, arguments):
    with pytest.raises(ValueError, match=r"max_fps|backend"):
        sample_frames(clip, 4, MAX_PIXELS, **arguments)


def test_too_few_pixels_are_an_error(clip):
    with pytest.raises(ValueError, match="max_pixels"):
        sample_frames(clip, 4, 28 * 28 - 1)


@pytest.mark.parametrize("times_s", [[], [float("nan")], [-0.01], [4.01], [float("inf")], [[0.0]], 1.0])
def test_bad_times_are_errors(clip, times_s):
    with pytest.raises(ValueError, match="time"):
        frames_at(clip, times_s, MAX_PIXELS)
    if np.size(times_s):
        with pytest.raises(ValueError, match="time"):
            sample_frames(clip, 4, MAX_PIXELS, key_times_s=times_s)


VFR_MS = [0, 40, 50, 200, 230, 600, 610, 1000, 1400, 1405, 1500, 2000, 2600, 2601, 2700, 3500]
KINDS = {
    "h264.mp4": ({}, "decord"),
    "h264.mkv": ({}, "decord"),
    "pieces.mp4": ({"mux_movflags": "frag_keyframe+empty_moov"}, "decord"),
    "long_b.mp4": ({"bframes": 8, "x264_params": "b-adapt=0:b-pyramid=normal", "gop": 20}, "decord"),
    "open_gop.mp4": ({"bframes": 3, "x264_params": "open-gop=1:scenecut=0"}, "pyav"),
    "open_gop.ts": ({"bframes": 3, "x264_params": "open-gop=1:scenecut=0"}, "pyav"),
    "hevc.mp4": ({"codec": "libx265", "x265_params": "log-level=none:open-gop=1:keyint=10"}, "pyav"),
    "vp9.webm": ({"codec": "libvpx-vp9", "bframes": None}, "pyav"),
    "mpeg4.avi": ({"codec": "mpeg4", "bframes": 0}, "pyav"),
    "offset.ts": ({"pts": [1000 + k for k in range(40)]}, "pyav"),
    "offset.mkv": ({"pts": [70 + k for k in range(40)]}, "decord"),
    "one_key.mp4": ({"gop": 1000, "bframes": 3}, "decord"),
    "all_keys.mp4": ({"gop": 1, "bframes": 0}, "decord"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_right_one(tmp_path, name):
    options, backend = KINDS[name]
    path = encode(tmp_path / name, **options)
    info = probe(path)
    assert (info.decord_objection is None) == (backend == "decord"), info.decord_objection
    assert np.allclose(info.times_s, np.arange(40) / 10, atol=1e-3)
    assert info.duration_s == pytest.approx(4.0, abs=1e-3)
    for choice in BACKENDS:
        frames = in_child(sample_frames, path, 40, MAX_PIXELS, backend=choice)
        assert read_numbers(frames.images) == list(range(40))
        assert frames.backend == "pyav"
    sparse = [37, 8, 9, 31, 8, 10, 19, 20]  # seeks to and around key frames
    assert read_numbers(in_child(frames_at, path, [k / 10 for k in sparse], MAX_PIXELS).images) == sparse


def test_variable_frame_rate(tmp_path):
    path = encode(tmp_path / "a.mp4", len(VFR_MS), pts=VFR_MS, base=Fraction(1, 1000), gop=5)
    frames = sample_frames(path, 100, MAX_PIXELS)
    assert read_numbers(frames.images) == list(range(16))
    assert np.allclose(frames.times_s * 1000, VFR_MS)
    shown = frames_at(path, [0.0, 0.198, 0.2, 1.398, 1.4045, 2.598, 3.4, 3.5], MAX_PIXELS)
    assert read_numbers(shown.images) == [0, 2, 3, 7, 9, 11, 14, 15]  # 1.4045 is within 1 ms of frame 9
    assert np.allclose(shown.times_s, [0.0, 0.05, 0.2, 1.0, 1.405, 2.0, 2.7, 3.5])


@pytest.mark.parametrize("backend", BACKENDS)
def test_rotation(tmp_path, backend):
    flat = sample_frames(encode(tmp_path / "flat.mp4", 5), 5, MAX_PIXELS).images[3].astype(int)
    for degrees in (90, 180, 270):
        path = encode(tmp_path / f"{degrees}.mp4", 5, rotate={"degrees": degrees})
        frames = sample_frames(path, 5, MAX_PIXELS, backend=backend)
        assert frames.source_size_wh == ((HEIGHT, WIDTH) if degrees % 180 else (WIDTH, HEIGHT)) == probe(path).size_wh
        assert np.abs(frames.images[3] - np.rot90(flat, degrees // 90)).mean() < 1


def test_a_mirrored_image(tmp_path):
    flat = sample_frames(encode(tmp_path / "flat.mp4", 5), 5, MAX_PIXELS).images[3].astype(int)
    path = encode(tmp_path / "mirror.mp4", 5, rotate={"degrees": 0, "hflip": True})
    frames = sample_frames(path, 5, MAX_PIXELS)
    assert frames.backend == "pyav" and "mirrored" in probe(path).decord_objection
    assert np.abs(frames.images[3] - flat[:, ::-1]).mean() < 1


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_a_single_frame(tmp_path, name):
    path = encode(tmp_path / name, 1, "libx264" if name == "a.mp4" else "libvpx-vp9", bframes=None)
    frames = sample_frames(path, 16, MAX_PIXELS, max_fps=2)
    assert read_numbers(frames.images) == [0] and frames.times_s.tolist() == [0.0]
    assert frames.duration_s == pytest.approx(0.1)
    assert read_numbers(frames_at(path, [0.0, 0.09], MAX_PIXELS).images) == [0, 0]


def test_auto_decodes_a_video_once_and_equal_requests_too(tmp_path, monkeypatch):
    decoded, decode = [], frames_module._decode
    monkeypatch.setattr(frames_module, "_decode", lambda *arguments: decoded.append(1) or decode(*arguments))
    for size in ((640, 360), (224, 224)):
        path = encode(tmp_path / f"{size[0]}.mp4", size=size)
        frames = sample_frames(path, 6, 128 * 784)
        assert sample_frames(str(path), 6, 128 * 784, key_times_s=[]) is frames and decoded == [1]
        with pytest.raises(ValueError, match="read-only"):
            frames.images[:] = 0
        assert np.array_equal(
            sample_frames(path, 6, 128 * 784, key_times_s=[1.0]).times_s, np.union1d(frames.times_s, 1)
        )
        decoded.clear()
    encode(path, 30, size=(224, 224))  # another video of the same name
    assert sample_frames(path, 6, 128 * 784).duration_s == pytest.approx(3.0) and decoded == [1]


def test_small_videos_keep_the_pixels_of_the_recorded_results(tmp_path):
    """PyAV gives the pixels of decord, with which the results of `tiny` were recorded."""
    assert toyworld.SIZE_WH[0] * toyworld.SIZE_WH[1] <= frames_module.DECORD_PIXELS
    path = tmp_path / "scene.mp4"
    toyworld.render(toyworld.make_scene("sft", 3), path)
    for max_pixels in (84 * 84, 56 * 112, 1280 * 720):
        auto, decord, pyav = (sample_frames(path, 9, max_pixels, backend=b) for b in ("auto", "decord", "pyav"))
        assert np.array_equal(auto.images, decord.images) and (auto.backend, decord.backend) == ("pyav", "decord")
        assert np.array_equal(auto.images, pyav.images) == (max_pixels == 1280 * 720)  # chroma lies elsewhere


def test_decord_and_pyav_agree(tmp_path):
    path = encode(tmp_path / "a.mp4", size=(640, 360))
    first, second = (sample_frames(path, 12, 128 * 784, backend=backend) for backend in ("decord", "pyav"))
    assert first.images.shape == second.images.shape == (12, 224, 420, 3)  # fit_size((640, 360), 128 * 784)
    assert np.array_equal(first.times_s, second.times_s) and read_numbers(first.images) == read_numbers(second.images)
    assert first.source_size_wh == second.source_size_wh == (640, 360)
    assert np.abs(first.images.astype(int) - second.images).mean() < 1


def test_decord_refuses_a_file_that_it_would_read_wrongly(tmp_path, caplog):
    path = encode(tmp_path / "a.ts")
    with pytest.raises(VideoError, match="container mpegts"):
        sample_frames(path, 4, MAX_PIXELS, backend="decord")
    with caplog.at_level(logging.DEBUG, logger="o3v.video"):
        sample_frames(path, 4, MAX_PIXELS)
    assert "4 frames with pyav (container mpegts)" in caplog.text


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_uniform_indices(n_total, n):
    indices = video.uniform_indices(n_total, n)
    assert len(indices) == min(n, n_total) and indices[0] == 0
    assert indices[-1] == n_total - 1 or n == 1
    gaps = np.diff(indices)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_frames_are_evenly_spaced(clip):
    frames = sample_frames(clip, 4, MAX_PIXELS)
    assert frames.indices.tolist() == [0, 13, 26, 39] == read_numbers(frames.images)
    assert np.allclose(frames.times_s, [0.0, 1.3, 2.6, 3.9]) and frames.duration_s == pytest.approx(4.0)
    assert frames.images.dtype == np.uint8 and frames.images.shape == (4, HEIGHT, WIDTH, 3)
    assert len(sample_frames(clip, 1000, MAX_PIXELS).images) == 40
    assert sample_frames(clip, 1, MAX_PIXELS).indices.tolist() == [0]
    assert len(sample_frames(clip, 16, MAX_PIXELS, max_fps=2).images) == 8  # 4 s
    assert len(sample_frames(clip, 16, MAX_PIXELS, max_fps=0.1).images) == 1


def test_key_frames_are_inserted(clip):
    frames = sample_frames(clip, 4, MAX_PIXELS, key_times_s=[2.05, 1.3, 0.5, 2.0])  # 2.05 and 2.0 show the same frame
    assert read_numbers(frames.images) == [0, 5, 13, 20, 26, 39]
    assert np.allclose(frames.times_s, [0.0, 0.5, 1.3, 2.0, 2.6, 3.9])
    assert read_numbers(sample_frames(clip, 4, MAX_PIXELS, key_times_s=[]).images) == [0, 13, 26, 39]
    assert read_numbers(sample_frames(clip, 16, MAX_PIXELS, key_times_s=[0.1], max_fps=1).images) == [0, 1, 13, 26, 39]


def test_frames_at_keeps_order_and_repeats(clip):
    frames = frames_at(clip, [3.99, 0.0, 1.2995, 0.04], MAX_PIXELS)
    assert read_numbers(frames.images) == [39, 0, 13, 0]  # 1.2995 is within 1 ms of 1.3
    assert frames.indices.tolist() == [39, 0, 13, 0]


NEAREST = {-0.1: None, 0.0: 0, 0.4: 0, 0.5: 0, 0.6: 1, 2.5: 1, 2.6: 2, 4.0: 2, 6.0: 2, 6.1: None}


@pytest.mark.parametrize(("time_s", "index"), NEAREST.items())
def test_nearest_frame(time_s, index):
    assert nearest_frame([0.0, 1.0, 4.0], time_s, duration_s=6.0) == index  # at equal distance, the earlier frame


def test_nearest_frame_without_duration():
    assert nearest_frame([0, 1, 4], 7.0) == 2 and nearest_frame([0, 1, 4], 7.1) is None  # widest gap: 3 s
    assert nearest_frame([5.0], 6.0) == 0 and nearest_frame([5.0], 6.1) is None  # a single frame: 1 s
    assert nearest_frame([0, 1, 4], 1e9, math.inf) == 2


def test_no_frame_is_nearest_without_frames_or_for_a_time_that_is_not_finite():
    assert nearest_frame([], 0.0, 1.0) is None
    assert [nearest_frame([0.0, 1.0], time_s, math.inf) for time_s in (math.nan, math.inf, -math.inf)] == [None] * 3


def _read(job):
    path, backend = job
    return read_numbers(sample_frames(path, 4, MAX_PIXELS, backend=backend).images)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes(clip, start):
    _read((clip, "decord"))  # decord is already in use in the parent process
    with ProcessPoolExecutor(2, multiprocessing.get_context(start)) as pool:
        results = list(pool.map(_read, [(clip, backend) for backend in BACKENDS * 2], timeout=40))
    assert results == [[0, 13, 26, 39]] * 4


def test_threads(clip):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(_read, [(clip, backend) for backend in BACKENDS * 10], timeout=40))
    assert results == [[0, 13, 26, 39]] * 20


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the clips of shared/real")
@pytest.mark.parametrize(
    ("name", "size_wh", "n_frames"), [("5587257558.mp4", (640, 360), 540), ("5804131706.mp4", (640, 480), 553)]
)
def test_real_clip(name, size_wh, n_frames):
    info = probe(REAL / name)
    assert info.size_wh == size_wh and len(info.times_s) == n_frames and info.decord_objection is None
    assert np.allclose(info.times_s, np.arange(n_frames) * 1001 / 30000)
    frames = {backend: sample_frames(REAL / name, 16, 128 * 784, backend=backend) for backend in ("auto", "decord")}
    assert frames["auto"].backend == "pyav"
    assert np.abs(frames["auto"].images.astype(int) - frames["decord"].images).mean() < 1
    assert frames["auto"].times_s[-1] == pytest.approx((n_frames - 1) * 1001 / 30000)
