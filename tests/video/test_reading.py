"""Reading any file gives the right frames or a VideoError: a property over random files, and known difficult ones."""

from __future__ import annotations

import collections

import av
import numpy as np
import pytest
from helpers.clips import MAX_PIXELS, encode, read_numbers
from helpers.random_clips import check_clip, damage_clip, draw_clip
from PIL import Image

from o3v.video import VideoError, frames_at, probe, read_image, sample_frames

FILES = 300  # 3,000 by benchmarks/video_reading.py


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", range(10))
def test_random_files_show_the_right_frames(part, tmp_path):
    """Codec, container, GOP, B-frames, open or closed, rate, start, trims and the frames to read are random."""
    for number in range(part, FILES, 10):
        rng = np.random.default_rng([7, number])
        clip = draw_clip(rng, tmp_path)
        result = check_clip(clip, rng)
        assert result == "right" or (clip.trimmed and result.startswith("refused")), f"file {number}: {clip} {result}"


@pytest.mark.timeout(120)
def test_damaged_files_give_the_right_frames_or_an_error_except_what_no_decoder_notices(tmp_path):
    results: collections.Counter[str] = collections.Counter()
    for number in range(60):
        rng = np.random.default_rng([8, number])
        clip = damage_clip(draw_clip(rng, tmp_path), rng)
        results[check_clip(clip, rng).split(":")[0]] += 1
    assert results["refused"] > 20
    assert results["wrong"] <= 6  # damage that the decoder conceals without an error; see benchmarks/video_reading.py


def test_an_open_gop_shows_no_concealed_frames(tmp_path):
    """Decoding from a recovery point that is not an IDR picture showed frame 87 under the time stamp of frame 89."""
    path = encode(tmp_path / "open.mp4", 90, gop=12, bframes=2, x264_params="open-gop=1")
    for backend in ("auto", "pyav"):
        frames = sample_frames(path, 16, MAX_PIXELS, backend=backend)
        assert read_numbers(frames.images) == frames.indices.tolist()
    assert "open group" in probe(path).decord_objection


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_intra_refresh_without_further_key_frames(tmp_path, container):
    path = encode(tmp_path / f"refresh.{container}", 60, gop=15, bframes=0, x264_params="intra-refresh=1")
    frames = frames_at(path, probe(path).times_s[[3, 20, 33, 59]], MAX_PIXELS)
    assert read_numbers(frames.images) == [3, 20, 33, 59]


def test_joined_transport_streams_are_read(tmp_path):
    """FFmpeg marks the last packet before the join as corrupt, though every frame decodes."""
    first = encode(tmp_path / "1.ts", 40, bframes=0)
    second = encode(tmp_path / "2.ts", 40, bframes=0, pts=list(range(40, 80)))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = sample_frames(joined, 100, MAX_PIXELS)
    assert read_numbers(frames.images) == [*range(40), *range(40)]


@pytest.mark.parametrize(("name", "codec"), [("a.mpg", "mpeg1video"), ("a.vob", "libx264"), ("a.asf", "libx264")])
def test_containers_without_exact_times_are_refused(tmp_path, name, codec):
    """Frames were wrong after a seek (MPEG-PS), 9 in 10 had no time (H.264 in it), or came in decoding order (ASF)."""
    with av.open(str(tmp_path / name), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux([*stream.encode(av.VideoFrame(64, 48, "yuv420p")), *stream.encode(None)])
    with pytest.raises(VideoError, match=rf"{name}: the times in this \w+ file are not exact; convert it first"):
        probe(tmp_path / name)


def test_joined_recordings_that_both_start_at_zero_are_refused(tmp_path):
    """The second recording replaced frames of the first: 20 frames, half of each."""
    path = encode(tmp_path / "a.ts", 20)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(VideoError, match=r"a\.ts: its times go back, as in joined recordings; convert"):
        probe(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_a_second_file_behind_the_first_is_not_ignored(tmp_path, name):
    first, second = encode(tmp_path / name, 20), encode(tmp_path / f"2{name}", 30)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(VideoError, match=r"another file follows|times go back"):
        probe(first)


def test_a_rotated_matroska_file_is_upright(tmp_path):
    """decord does not know the rotation of Matroska."""
    options = {"n": 5, "size": (336, 168), "rotate": {"degrees": 90}}
    mkv, mp4 = (
        sample_frames(encode(tmp_path / name, **options), 5, 336 * 168, backend=backend)
        for name, backend in (("a.mkv", "auto"), ("a.mp4", "pyav"))
    )
    assert mkv.backend == "pyav" and mkv.source_size_wh == (168, 336) and mkv.images.shape == (5, 336, 168, 3)
    assert np.abs(mkv.images.astype(int) - mp4.images).mean() < 1


def test_an_avi_with_dropped_frames_is_whole_and_a_cut_one_is_not(tmp_path):
    shown = [*range(10), 12, 13, 16, *range(20, 40)]
    path = encode(tmp_path / "drops.avi", len(shown), "mpeg4", bframes=0, pts=shown)
    frames = sample_frames(path, 100, MAX_PIXELS)
    assert read_numbers(frames.images) == list(range(len(shown)))
    assert (frames.times_s * 10).round().astype(int).tolist() == shown
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError, match="truncated"):
        probe(path)


def test_a_single_frame_without_a_duration_lasts_one_frame(tmp_path):
    path = encode(tmp_path / "one.webm", 1, "libvpx-vp9", bframes=None)
    data = path.read_bytes()
    at = data.find(b"\x23\xe3\x83\x84")  # DefaultDuration, replaced by a void element of the same length
    path.write_bytes(data[:at] + b"\xec\x86" + b"\0" * 6 + data[at + 8 :])
    assert probe(path).duration_s == pytest.approx(0.04)


def test_a_trim_without_a_key_frame_is_refused_not_guessed(tmp_path):
    source = encode(tmp_path / "source.mp4", 30, "mpeg4", gop=40, bframes=0)
    target = tmp_path / "trim.mp4"
    with av.open(str(source)) as original, av.open(str(target), "w") as out:
        new = out.add_stream_from_template(original.streams.video[0])
        for packet in [p for p in original.demux(video=0) if p.size][9:]:
            packet.stream = new
            out.mux(packet)
    with pytest.raises(VideoError, match="depends on frames that are not in the file"):
        sample_frames(target, 4, MAX_PIXELS)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.tile(np.linspace(0, 65_535, 320).astype(np.uint16), (240, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    image, _ = read_image(tmp_path / "ramp.png", 10**6)
    assert image.mean() == pytest.approx(127, abs=2)
    assert image[5, :, 0].min() < 3 and image[5, :, 0].max() > 252


def test_an_image_of_floating_point_numbers_is_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1e6, 900, dtype=np.float32).reshape(30, 30)).save(tmp_path / "depth.tiff")
    with pytest.raises(VideoError, match="floating-point"):
        read_image(tmp_path / "depth.tiff", 10**5)


@pytest.mark.parametrize("ending", ["jpg", "bmp", "png", "webp"])
def test_half_an_image_is_refused(tmp_path, ending):
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="not a readable image"):
        read_image(path, 10**5)
