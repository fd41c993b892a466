"""Every clip carries its frame number in the picture, ten bits in ten blocks, so a wrong frame cannot hide."""

from __future__ import annotations

import logging
import multiprocessing
import os
import struct
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from o3v import video
from o3v.video import MissingVideoError, VideoError, frames_at, probe, sample_frames, sample_with_key_frames

pytestmark = pytest.mark.timeout(60)

WIDTH, HEIGHT = 168, 84  # already on the grid of 28: reading at PIXELS does not resize
PIXELS = WIDTH * HEIGHT
BACKENDS = ("auto", "pyav")
REAL = Path(__file__).parents[3] / "shared" / "real"


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Ten blocks in the upper half, white for a set bit; below them a moving texture that gives a codec work."""
    y, x = np.mgrid[:height, :width]
    image = np.repeat((128 + 60 * np.sin((x + 3 * number) / 9) * np.cos(y / 7))[..., None], 3, axis=2)
    for bit in range(10):
        image[: height // 2, bit * width // 10 : (bit + 1) * width // 10] = 235 if number >> bit & 1 else 20
    return image.astype(np.uint8)


def numbers(images: np.ndarray) -> list[int]:
    height, width = images.shape[1:3]
    read = []
    for image in images:
        centres = [image[height // 8 : height * 3 // 8, int((bit + 0.5) * width / 10)].mean() for bit in range(10)]
        read.append(sum(1 << bit for bit, light in enumerate(centres) if light > 128))
    return read


def encode(path, n=40, codec="libx264", *, pts=None, base=None, gop=10, bframes=2, rotate=None, size=None, **options):
    """`n` numbered frames, 10 a second unless `pts` says otherwise; `mux_`-options go to the container."""
    width, height = size or (WIDTH, HEIGHT)
    muxing = {name[4:]: options.pop(name) for name in list(options) if name.startswith("mux_")}
    base = base or Fraction(1, 10)
    with av.open(str(path), "w", options=muxing) as out:
        stream = out.add_stream(codec, rate=10, options={name.replace("_", "-"): v for name, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.thread_count, context.time_base = gop, 1, base
        if bframes is not None:
            context.max_b_frames = bframes
        if rotate:
            stream.set_display_rotation(**rotate)
        for k in range(n):
            frame = av.VideoFrame.from_ndarray(picture(k, width, height), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (pts[k] if pts else k), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def copy_from(source: Path, target: Path, shift_frames: int, first_packet: int) -> Path:
    """A stream copy whose time zero is `shift_frames` in, cut at a packet: what a lossless trimmer does."""
    with av.open(str(source)) as inp, av.open(str(target), "w") as out:
        old = inp.streams.video[0]
        new = out.add_stream_from_template(old)
        tick = round(Fraction(1, 10) / old.time_base)
        for packet in [p for p in inp.demux(old) if p.size][first_packet:]:
            packet.pts -= shift_frames * tick
            packet.dts -= shift_frames * tick
            packet.stream = new
            out.mux(packet)
    return target


def packet_spans(path: Path) -> list[tuple[int, int]]:
    """(first byte, byte after) of each video packet."""
    with av.open(str(path)) as container:
        return [(p.pos, p.pos + p.size) for p in container.demux(video=0) if p.size]


def spoil(path: Path, packet: int, seed: int = 0) -> Path:
    """Overwrites three quarters of a packet with noise."""
    data = bytearray(path.read_bytes())
    begin, end = packet_spans(path)[packet]
    begin += (end - begin) // 4
    data[begin:end] = np.random.default_rng(seed).bytes(end - begin)
    bad = path.with_name(f"spoilt_{path.name}")
    bad.write_bytes(data)
    return bad


def in_child(function, *args, **kwargs):
    """The result or error of a call in a process of its own, which is killed when it hangs."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply_async(function, args, kwargs).get(timeout=20)


def all_numbers(path, backend="auto"):
    return numbers(sample_frames(path, 10_000, PIXELS, backend=backend).images)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clips") / "clip.mp4")


# Files that are no videos


def test_missing_file_is_both_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4: no such file") as caught:
        sample_frames(tmp_path / "gone.mp4", 4, PIXELS)
    assert isinstance(caught.value, VideoError) and caught.value.kind == "open"
    assert caught.value.path == str(tmp_path / "gone.mp4")


def _text(path):
    path.write_text("It is not a video.\n" * 300)


def _sound(path, cover=False):
    with av.open(str(path), "w") as out:
        tone = out.add_stream("libmp3lame", rate=44100)
        art = out.add_stream("png") if cover else None
        if art is not None:
            art.width, art.height, art.pix_fmt = 32, 32, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
            out.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        for k in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.pts, frame.sample_rate = k * 1152, 44100
            out.mux(tone.encode(frame))
        out.mux(tone.encode(None))


@pytest.mark.parametrize(
    ("name", "make", "kind", "reason"),
    [
        ("empty.mp4", Path.touch, "open", "empty"),
        ("folder.mp4", Path.mkdir, "open", "directory"),
        ("pipe.mp4", os.mkfifo, "open", "not a regular file"),
        ("text.mp4", _text, "open", "not a readable video"),
        ("text.txt", _text, "open", "not a video"),  # FFmpeg would draw it
        ("sound.mp4", _sound, "no-video-stream", "no video stream"),
        ("cover.mp3", lambda path: _sound(path, cover=True), "no-video-stream", "no video stream"),
    ],
)
def test_no_video(tmp_path, name, make, kind, reason):
    make(tmp_path / name)
    with pytest.raises(VideoError, match=f"{name}.*{reason}") as caught:
        in_child(sample_frames, tmp_path / name, 4, PIXELS)  # the error crosses the process border whole
    assert caught.value.kind == kind


def test_name_that_is_no_name():
    with pytest.raises(VideoError, match="cannot be opened"):
        probe("a\0b.mp4")
    with pytest.raises(TypeError):
        probe(3)


# Files that are no longer whole


@pytest.mark.parametrize("name", ["end.mp4", "front.mp4", "pieces.mp4", "a.mkv", "a.webm", "a.avi"])
def test_truncated(tmp_path, name):
    how = {
        "front.mp4": {"mux_movflags": "faststart"},  # the table stands first and survives
        "pieces.mp4": {"mux_movflags": "frag_keyframe+empty_moov"},
        "a.webm": {"codec": "libvpx-vp9", "bframes": None},
        "a.avi": {"codec": "mpeg4", "bframes": 0},
    }
    path = encode(tmp_path / name, **how.get(name, {}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(VideoError, match=name):
        in_child(sample_frames, path, 4, PIXELS)


def test_last_packet_cut_short(tmp_path):
    path = encode(tmp_path / "a.mp4", bframes=0, mux_movflags="faststart")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VideoError, match="damaged"):
        in_child(sample_frames, path, 4, PIXELS)
    assert numbers(in_child(frames_at, path, [0.0, 3.8], PIXELS).images) == [0, 38]


def test_transport_stream_cut_short_keeps_its_frames(tmp_path):
    path = encode(tmp_path / "a.ts", bframes=0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # nothing in the file says that more was there
    found = in_child(all_numbers, path)
    assert found == list(range(len(found))) and 10 < len(found) < 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_spoils_its_own_group_only(tmp_path, name, backend):
    path = spoil(encode(tmp_path / name), packet=20)  # the key frame that opens frames 20-29
    with pytest.raises(VideoError, match="damaged at or before frame 2"):
        in_child(all_numbers, path, backend)
    for index in (0, 9, 10, 17, 30, 39):
        assert numbers(in_child(frames_at, path, [index / 10], PIXELS, backend=backend).images) == [index]
    for index in (20, 21, 25, 29):
        with pytest.raises(VideoError, match=f"frame {index}"):
            in_child(frames_at, path, [index / 10], PIXELS, backend=backend)


def test_frame_built_on_a_later_damaged_one_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", x264_params="b-adapt=0:b-pyramid=none:scenecut=0")
    with av.open(str(path)) as container:
        shown = [round(float(p.pts * p.time_base) * 10) for p in container.demux(video=0) if p.size]
    assert shown[:4] == [0, 3, 1, 2]  # decoded second, shown fourth
    bad = spoil(path, packet=1)
    for index in (1, 2, 3, 5):
        with pytest.raises(VideoError, match=f"frame {index} "):
            in_child(frames_at, bad, [index / 10], PIXELS, backend="pyav")
    assert numbers(in_child(frames_at, bad, [0.0, 1.0], PIXELS).images) == [0, 10]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9"])
def test_damage_anywhere_ends(tmp_path, codec):
    """Right frames cannot be promised for every codec (VP9 notices little), an end can: never a hang or a crash."""
    path = encode(tmp_path / "a.mkv", 20, codec, bframes=None)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    bad = [tmp_path / f"{k}.mkv" for k in range(8)]
    for each in bad:
        begin = int(rng.integers(len(data) // 8, len(data) - 50))
        each.write_bytes(data[:begin] + rng.bytes(40) + data[begin + 40 :])
    assert len(in_child(_outcomes, bad)) == 8


def _outcomes(paths):
    def outcome(path):
        try:
            return len(all_numbers(path))
        except VideoError as error:
            return error.kind

    return [outcome(path) for path in paths]


def test_avi_that_only_counts_packets(tmp_path):
    with pytest.raises(VideoError, match="AVI with reordered frames"):
        probe(encode(tmp_path / "a.avi", bframes=2))  # FFmpeg would stamp its B-frames in decoding order


# Arguments


@pytest.mark.parametrize("n", [0, -1, True, 2.0, None, float("nan")])
def test_bad_number_of_frames(clip, n):
    with pytest.raises(ValueError, match="n must be"):
        sample_frames(clip, n, PIXELS)


@pytest.mark.parametrize("arguments", [{"max_fps": 0}, {"max_fps": float("nan")}, {"backend": "opencv"}])
def test_bad_options(clip, arguments):
    with pytest.raises(ValueError, match=r"max_fps|backend"):
        sample_frames(clip, 4, PIXELS, **arguments)


def test_too_few_pixels(clip):
    with pytest.raises(ValueError, match="max_pixels"):
        sample_frames(clip, 4, 28 * 28 - 1)


@pytest.mark.parametrize("times_s", [[], [float("nan")], [-0.01], [4.01], [float("inf")], [[0.0]], 1.0])
def test_bad_times(clip, times_s):
    with pytest.raises(ValueError, match="time"):
        frames_at(clip, times_s, PIXELS)
    if np.size(times_s):
        with pytest.raises(ValueError, match="time"):
            sample_with_key_frames(clip, 4, times_s, PIXELS)


# The right frames of every kind of file

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
    how, backend = KINDS[name]
    path = encode(tmp_path / name, **how)
    info = probe(path)
    assert info.safe_for_decord == (backend == "decord"), info.why
    assert np.allclose(info.times_s, np.arange(40) / 10, atol=1e-3)
    assert info.duration_s == pytest.approx(4.0, abs=1e-3)
    for asked in ("auto", "pyav"):
        frames = in_child(sample_frames, path, 40, PIXELS, backend=asked)
        assert numbers(frames.images) == list(range(40))
        assert frames.backend == (backend if asked == "auto" else "pyav")
    sparse = [37, 8, 9, 31, 8, 10, 19, 20]  # seeks, around the key frames
    assert numbers(in_child(frames_at, path, [k / 10 for k in sparse], PIXELS).images) == sparse


def test_variable_frame_rate(tmp_path):
    path = encode(tmp_path / "a.mp4", len(VFR_MS), pts=VFR_MS, base=Fraction(1, 1000), gop=5)
    frames = sample_frames(path, 100, PIXELS)
    assert frames.backend == "decord" and numbers(frames.images) == list(range(16))
    assert np.allclose(frames.times_s * 1000, VFR_MS)
    shown = frames_at(path, [0.0, 0.198, 0.2, 1.398, 1.4045, 2.598, 3.4, 3.5], PIXELS)
    assert numbers(shown.images) == [0, 2, 3, 7, 9, 11, 14, 15]  # 1.4045 is within a thousandth of frame 9
    assert np.allclose(shown.times_s, [0.0, 0.05, 0.2, 1.0, 1.405, 2.0, 2.7, 3.5])


def test_trim_that_hides_its_first_frames(tmp_path):
    """Cut at frame 15, copied from the key frame 10: an edit list hides five frames that decord counts."""
    path = copy_from(encode(tmp_path / "a.mp4"), tmp_path / "trim.mp4", shift_frames=15, first_packet=10)
    info = probe(path)
    assert info.packets["hidden"].sum() == 5 and "edit list" in info.why
    frames = sample_frames(path, 100, PIXELS)
    assert frames.backend == "pyav" and numbers(frames.images) == list(range(15, 40))
    assert np.allclose(frames.times_s, np.arange(25) / 10)
    assert numbers(frames_at(path, [0.0, 0.4, 0.5, 2.4], PIXELS).images) == [15, 19, 20, 39]


def test_trim_that_hides_its_last_frames(tmp_path):
    """The edit list is made to end after 3 of 4 seconds: what is cut off is not taken for a truncation."""
    path = encode(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    where = data.find(b"elst") + 12
    assert struct.unpack(">I", data[where : where + 4]) == (4000,)
    data[where : where + 4] = struct.pack(">I", 3000)
    path.write_bytes(data)
    assert all_numbers(path) == list(range(30))
    assert probe(path).duration_s == pytest.approx(3.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rotation(tmp_path, backend):
    flat = sample_frames(encode(tmp_path / "flat.mp4", 5), 5, PIXELS).images[3].astype(int)
    for degrees in (90, 180, 270):
        path = encode(tmp_path / f"{degrees}.mp4", 5, rotate={"degrees": degrees})
        frames = sample_frames(path, 5, PIXELS, backend=backend)
        assert frames.backend == ("decord" if backend == "auto" else "pyav")
        assert frames.source_size_wh == ((HEIGHT, WIDTH) if degrees % 180 else (WIDTH, HEIGHT)) == probe(path).size_wh
        assert np.abs(frames.images[3] - np.rot90(flat, degrees // 90)).mean() < 1


def test_mirrored_picture(tmp_path):
    flat = sample_frames(encode(tmp_path / "flat.mp4", 5), 5, PIXELS).images[3].astype(int)
    path = encode(tmp_path / "mirror.mp4", 5, rotate={"degrees": 0, "hflip": True})
    frames = sample_frames(path, 5, PIXELS)
    assert frames.backend == "pyav" and "mirrored" in probe(path).why
    assert np.abs(frames.images[3] - flat[:, ::-1]).mean() < 1


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_one_frame(tmp_path, name):
    path = encode(tmp_path / name, 1, "libx264" if name == "a.mp4" else "libvpx-vp9", bframes=None)
    frames = sample_frames(path, 16, PIXELS, max_fps=2)
    assert numbers(frames.images) == [0] and frames.times_s.tolist() == [0.0]
    assert frames.duration_s == pytest.approx(0.1)
    assert numbers(frames_at(path, [0.0, 0.09], PIXELS).images) == [0, 0]


def test_decord_and_pyav_agree(tmp_path):
    path = encode(tmp_path / "a.mp4", size=(640, 360))
    one, other = (sample_frames(path, 12, 128 * 784, backend=backend) for backend in ("decord", "pyav"))
    assert one.images.shape == other.images.shape == (12, 224, 420, 3)  # fit_size((640, 360), 128 * 784)
    assert np.array_equal(one.times_s, other.times_s) and numbers(one.images) == numbers(other.images)
    assert one.source_size_wh == other.source_size_wh == (640, 360)
    assert np.abs(one.images.astype(int) - other.images).mean() < 1


def test_forced_decord_refuses_what_it_would_get_wrong(tmp_path, caplog):
    path = encode(tmp_path / "a.ts")
    with pytest.raises(VideoError, match="decord would not read it rightly: container mpegts"):
        sample_frames(path, 4, PIXELS, backend="decord")
    with caplog.at_level(logging.DEBUG, logger="o3v.video"):
        sample_frames(path, 4, PIXELS)
    assert "4 frames with pyav (container mpegts)" in caplog.text


# Which frames


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_uniform_indices(n_total, n):
    indices = video.uniform_indices(n_total, n)
    assert len(indices) == min(n, n_total) and indices[0] == 0
    assert indices[-1] == n_total - 1 or n == 1
    gaps = np.diff(indices)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_sample(clip):
    frames = sample_frames(clip, 4, PIXELS)
    assert frames.indices.tolist() == [0, 13, 26, 39] == numbers(frames.images)
    assert np.allclose(frames.times_s, [0.0, 1.3, 2.6, 3.9]) and frames.duration_s == pytest.approx(4.0)
    assert frames.images.dtype == np.uint8 and frames.images.shape == (4, HEIGHT, WIDTH, 3)
    assert len(sample_frames(clip, 1000, PIXELS).images) == 40
    assert sample_frames(clip, 1, PIXELS).indices.tolist() == [0]
    assert len(sample_frames(clip, 16, PIXELS, max_fps=2).images) == 8  # 4 s
    assert len(sample_frames(clip, 16, PIXELS, max_fps=0.1).images) == 1


def test_key_frames_are_inserted(clip):
    frames = sample_with_key_frames(clip, 4, [2.05, 1.3, 0.5, 2.0], PIXELS)  # 2.05 and 2.0 show the same frame
    assert numbers(frames.images) == [0, 5, 13, 20, 26, 39]
    assert np.allclose(frames.times_s, [0.0, 0.5, 1.3, 2.0, 2.6, 3.9])
    assert numbers(sample_with_key_frames(clip, 4, [], PIXELS).images) == [0, 13, 26, 39]
    assert numbers(sample_with_key_frames(clip, 16, [0.1], PIXELS, max_fps=1).images) == [0, 1, 13, 26, 39]


def test_frames_at_keeps_order_and_repeats(clip):
    frames = frames_at(clip, [3.99, 0.0, 1.2995, 0.04], PIXELS)
    assert numbers(frames.images) == [39, 0, 13, 0]  # 1.2995 is within a thousandth of 1.3
    assert frames.indices.tolist() == [39, 0, 13, 0]


# Processes, threads


def _read(job):
    path, backend = job
    return numbers(sample_frames(path, 4, PIXELS, backend=backend).images)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes(clip, start):
    _read((clip, "decord"))  # decord has been at work in the parent
    with ProcessPoolExecutor(2, multiprocessing.get_context(start)) as pool:
        found = list(pool.map(_read, [(clip, backend) for backend in BACKENDS * 2], timeout=40))
    assert found == [[0, 13, 26, 39]] * 4


def test_threads(clip):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_read, [(clip, backend) for backend in BACKENDS * 10], timeout=40))
    assert found == [[0, 13, 26, 39]] * 20


# Writing, crops, pictures


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [picture(0)[:-1]],
        [picture(0), picture(1)[:-2]],
        [picture(0).astype(float)],
        [picture(0)[..., 0]],
        [np.zeros((0, 4, 3), np.uint8)],
    ],
)
def test_write_refuses(tmp_path, frames):
    with pytest.raises(ValueError, match="frame"):
        video.write_video(tmp_path / "a.mp4", frames, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-9])
def test_write_refuses_fps(tmp_path, fps):
    with pytest.raises(ValueError, match="fps"):
        video.write_video(tmp_path / "a.mp4", [picture(0)], fps)


def test_interrupted_write_leaves_the_old_file(tmp_path):
    def breaks():
        yield picture(0)
        raise RuntimeError("no more")

    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more"):
        video.write_video(path, breaks(), 10)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fps", [8, 12.5, 29.97, np.int64(10)])
def test_written_video_reads_back(tmp_path, fps):
    for name in ("one.mp4", "two.mp4"):
        video.write_video(tmp_path / name, (picture(k) for k in range(30)), fps)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    frames = sample_frames(tmp_path / "one.mp4", 30, PIXELS)
    assert frames.backend == "decord" and numbers(frames.images) == list(range(30))
    assert np.allclose(frames.times_s, np.arange(30) / fps, atol=1e-3)
    assert frames.duration_s == pytest.approx(30 / fps, abs=1e-3)


def test_crop():
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(video.crop(image, (1, 2, 3, 4)), image[2:4, 1:3])
    assert np.array_equal(video.crop(image, (0.9, 0.2, 1.1, 0.4)), image[0:1, 0:2])  # every pixel touched
    assert np.array_equal(video.crop(image, (-9, -9, 99, 1)), image[:1])
    whole = video.crop(image, (0, 0, 5, 4))
    whole[:] = 0
    assert image.any()  # a copy
    for nothing in [(5, 0, 9, 4), (3, 0, 3, 4), (3, 0, 1, 4), (0, float("nan"), 1, 1), (-3, 0, 0, 4)]:
        with pytest.raises(ValueError, match="picture of 5x4"):
            video.crop(image, nothing)


def test_read_image(tmp_path):
    picture_file = Image.new("RGB", (300, 100), (10, 20, 30))
    picture_file.paste((200, 20, 30), (0, 0, 60, 100))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise: left becomes top
    picture_file.save(tmp_path / "a.png", exif=turned)
    image, size_wh = video.read_image(tmp_path / "a.png", 128 * 784)
    assert size_wh == (100, 300) and image.shape == (308, 112, 3) and image.dtype == np.uint8
    assert image[5, 50].tolist() == [200, 20, 30] and image[300, 50].tolist() == [10, 20, 30]
    Image.new("P", (56, 56)).save(tmp_path / "b.gif")
    assert video.read_image(tmp_path / "b.gif", 128 * 784)[0].shape == (56, 56, 3)


def test_read_image_refuses(tmp_path):
    _text(tmp_path / "text.jpg")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    for name in ("text.jpg", "cut.png", ""):
        with pytest.raises(VideoError, match="not a readable picture"):
            video.read_image(tmp_path / name, 784)
    with pytest.raises(MissingVideoError):
        video.read_image(tmp_path / "gone.jpg", 784)


# Real clips


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not here")
@pytest.mark.parametrize(
    ("name", "size_wh", "n_frames"), [("5587257558.mp4", (640, 360), 540), ("5804131706.mp4", (640, 480), 553)]
)
def test_real_clip(name, size_wh, n_frames):
    info = probe(REAL / name)
    assert info.size_wh == size_wh and len(info.times_s) == n_frames and info.safe_for_decord
    assert np.allclose(info.times_s, np.arange(n_frames) * 1001 / 30000)
    read = {backend: sample_frames(REAL / name, 16, 128 * 784, backend=backend) for backend in ("auto", "pyav")}
    assert read["auto"].backend == "decord"
    assert np.abs(read["auto"].images.astype(int) - read["pyav"].images).mean() < 1
    assert read["auto"].times_s[-1] == pytest.approx((n_frames - 1) * 1001 / 30000)
