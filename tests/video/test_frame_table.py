"""The frame table: files that are not videos, truncated or damaged files, and trims."""

import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import (
    BACKENDS,
    MAX_PIXELS,
    all_numbers,
    copy_from,
    damage_packet,
    encode,
    in_child,
    numbered_image,
    read_numbers,
)
from PIL import Image

from o3v.video import VideoError, frames_at, probe, sample_frames

pytestmark = pytest.mark.timeout(60)


def test_a_missing_file_raises_both_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4: no such file") as caught:
        sample_frames(tmp_path / "gone.mp4", 4, MAX_PIXELS)
    assert isinstance(caught.value, VideoError) and caught.value.kind == "open"
    assert caught.value.path == str(tmp_path / "gone.mp4")


def write_text(path):
    path.write_text("It is not a video.\n" * 300)


def write_sound(path, cover=False):
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
        ("text.mp4", write_text, "open", "not a readable video"),
        ("text.txt", write_text, "open", "not a readable video"),  # FFmpeg would render the text
        ("sound.mp4", write_sound, "no-video-stream", "no video stream"),
        ("cover.mp3", lambda path: write_sound(path, cover=True), "no-video-stream", "no video stream"),
    ],
)
def test_a_file_that_is_not_a_video_is_refused(tmp_path, name, make, kind, reason):
    make(tmp_path / name)
    with pytest.raises(VideoError, match=f"{name}.*{reason}") as caught:
        in_child(sample_frames, tmp_path / name, 4, MAX_PIXELS)  # the error is pickled
    assert caught.value.kind == kind


def test_an_impossible_file_name():
    with pytest.raises(VideoError, match="cannot be opened"):
        probe("a\0b.mp4")
    with pytest.raises(TypeError):
        probe(3)


@pytest.mark.parametrize("name", ["end.mp4", "front.mp4", "pieces.mp4", "a.mkv", "a.webm", "a.avi"])
def test_a_truncated_file_is_refused(tmp_path, name):
    options = {
        "front.mp4": {"mux_movflags": "faststart"},  # the index comes first and is complete
        "pieces.mp4": {"mux_movflags": "frag_keyframe+empty_moov"},
        "a.webm": {"codec": "libvpx-vp9", "bframes": None},
        "a.avi": {"codec": "mpeg4", "bframes": 0},
    }
    path = encode(tmp_path / name, **options.get(name, {}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(VideoError, match=name):
        in_child(sample_frames, path, 4, MAX_PIXELS)


def add_sound(source, target, duration_s):
    with av.open(str(source)) as original, av.open(str(target), "w") as out:
        new, tone = out.add_stream_from_template(original.streams.video[0]), out.add_stream("libmp3lame", rate=44100)
        for k in range(int(duration_s * 44100 / 1152)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.pts, frame.sample_rate = k * 1152, 44100
            out.mux(tone.encode(frame))
        out.mux(tone.encode(None))
        for packet in [p for p in original.demux(video=0) if p.size]:
            packet.stream = new
            out.mux(packet)
    return target


@pytest.mark.parametrize("name", ["a.flv", "a.mkv"])
def test_a_truncated_file_with_sound_is_refused(tmp_path, name):
    """Only the file states a duration, that of the longest track; mkvmerge writes no DURATION tag for each."""
    path = add_sound(encode(tmp_path / "silent.mp4"), tmp_path / name, duration_s=6)
    data = path.read_bytes().replace(b"DURATION", b"DURATIOM")
    path.write_bytes(data)
    assert all_numbers(path) == list(range(40)) and probe(path).duration_s == pytest.approx(4.0, abs=0.01)
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(VideoError, match="truncated: ends at"):
        probe(path)


def test_a_truncated_gif_is_refused(tmp_path):
    path = tmp_path / "a.gif"
    images = [Image.fromarray(numbered_image(k)) for k in range(10)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    assert len(probe(path).pts) == 10
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="truncated: the GIF has no end mark"):
        probe(path)


def test_an_incomplete_last_packet_is_damage(tmp_path):
    path = encode(tmp_path / "a.mp4", bframes=0, mux_movflags="faststart")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VideoError, match="damaged"):
        in_child(sample_frames, path, 4, MAX_PIXELS)
    assert read_numbers(in_child(frames_at, path, [0.0, 3.8], MAX_PIXELS).images) == [0, 38]


def test_a_truncated_transport_stream_keeps_its_first_frames(tmp_path):
    path = encode(tmp_path / "a.ts", bframes=0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # the file does not state its length
    numbers = in_child(all_numbers, path)
    assert numbers == list(range(len(numbers))) and 10 < len(numbers) < 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_affects_only_its_group_of_pictures(tmp_path, name, backend):
    path = damage_packet(encode(tmp_path / name), packet=20)  # the key frame that opens frames 20-29
    with pytest.raises(VideoError, match="damaged at or before frame 2"):
        in_child(all_numbers, path, backend)
    for index in (0, 9, 10, 17, 30, 39):
        assert read_numbers(in_child(frames_at, path, [index / 10], MAX_PIXELS, backend=backend).images) == [index]
    for index in (20, 21, 25, 29):
        with pytest.raises(VideoError, match=f"frame {index}"):
            in_child(frames_at, path, [index / 10], MAX_PIXELS, backend=backend)


def test_a_frame_that_depends_on_a_later_damaged_one_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", x264_params="b-adapt=0:b-pyramid=none:scenecut=0")
    with av.open(str(path)) as container:
        shown = [round(float(p.pts * p.time_base) * 10) for p in container.demux(video=0) if p.size]
    assert shown[:4] == [0, 3, 1, 2]  # decoded second, shown fourth
    damaged = damage_packet(path, packet=1)
    for index in (1, 2, 3, 5):
        with pytest.raises(VideoError, match=f"frame {index} "):
            in_child(frames_at, damaged, [index / 10], MAX_PIXELS, backend="pyav")
    assert read_numbers(in_child(frames_at, damaged, [0.0, 1.0], MAX_PIXELS).images) == [0, 10]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9"])
def test_damage_anywhere_neither_hangs_nor_crashes(tmp_path, codec):
    """Not every decoder notices damage (VP9 rarely does), but reading must always end."""
    path = encode(tmp_path / "a.mkv", 20, codec, bframes=None)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    paths = [tmp_path / f"{k}.mkv" for k in range(8)]
    for damaged in paths:
        begin = int(rng.integers(len(data) // 8, len(data) - 50))
        damaged.write_bytes(data[:begin] + rng.bytes(40) + data[begin + 40 :])
    assert len(in_child(_outcomes, paths)) == 8


def _outcomes(paths):
    def outcome(path):
        try:
            return len(all_numbers(path))
        except VideoError as error:
            return error.kind

    return [outcome(path) for path in paths]


def test_matroska_with_the_times_of_b_frames_in_decoding_order_is_refused(tmp_path):
    """As a remux of an AVI gives."""
    path = tmp_path / "a.mkv"
    with av.open(str(encode(tmp_path / "a.avi", bframes=2))) as avi, av.open(str(path), "w") as out:
        new = out.add_stream_from_template(avi.streams.video[0])
        for packet in [p for p in avi.demux(video=0) if p.size]:
            packet.pts, packet.stream = packet.dts, new
            out.mux(packet)
    with pytest.raises(VideoError, match="reordered frames"):
        probe(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_stream_without_times_is_refused(tmp_path, codec):
    path = tmp_path / ("a.h264" if codec == "libx264" else "a.hevc")
    with pytest.raises(VideoError, match=r"20 of its 20 packets have no time; convert it first"):
        probe(encode(path, 20, codec, bframes=None))


def test_an_avi_with_b_frames_is_refused(tmp_path):
    with pytest.raises(VideoError, match="reordered frames"):
        probe(encode(tmp_path / "a.avi", bframes=2))  # FFmpeg would give B-frames times in decoding order


def test_a_trim_that_hides_the_first_frames(tmp_path):
    """Trimmed at frame 15, copied from key frame 10: an edit list hides five frames that decord would count."""
    path = copy_from(encode(tmp_path / "a.mp4"), tmp_path / "trim.mp4", shift_frames=15, first_packet=10)
    info = probe(path)
    assert info.packets["hidden"].sum() == 5 and "edit list" in info.decord_objection
    frames = sample_frames(path, 100, MAX_PIXELS)
    assert frames.backend == "pyav" and read_numbers(frames.images) == list(range(15, 40))
    assert np.allclose(frames.times_s, np.arange(25) / 10)
    assert read_numbers(frames_at(path, [0.0, 0.4, 0.5, 2.4], MAX_PIXELS).images) == [15, 19, 20, 39]


def test_a_trim_that_hides_the_last_frames(tmp_path):
    """The edit list ends after 3 of 4 seconds, which is not a truncation."""
    path = encode(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    where = data.find(b"elst") + 12
    assert struct.unpack(">I", data[where : where + 4]) == (4000,)
    data[where : where + 4] = struct.pack(">I", 3000)
    path.write_bytes(data)
    assert all_numbers(path) == list(range(30))
    assert probe(path).duration_s == pytest.approx(3.0)
