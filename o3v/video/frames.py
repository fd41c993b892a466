"""Frames of a video with their true times, crops, pictures, and a writer.

Every function opens the file itself and keeps nothing open, so that processes and threads can read side by side;
keep paths in data sets, not readers. Which frames there are and when is `frame_table.probe`'s to say. decord reads
them where that table proves it exact and a decoding pass finds no damage (decord hides damage); PyAV reads the rest.
Either way the result is the right frames or a VideoError, save for damage that no decoder notices (often in VP9 and
HEVC, seldom in H.264; lost packets). This module knows nothing of tasks, prompts or models.
"""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from o3v.geometry import Size, fit_size
from o3v.video.frame_table import PathLike, VideoError, VideoInfo, decode_wanted, open_stream, orientation, plan, probe

Backend = Literal["auto", "decord", "pyav"]

logger = logging.getLogger(__name__)

# Enough of the decoder to find damage, in about 0.7 of the time: no pictures are kept.
_CHECK_ONLY = {"skip_loop_filter": "all", "skip_idct": "all"}


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one video, resized and upright.

    `images` (n, height, width, 3) uint8 RGB; `times_s` (n,) float64, the frames' own times since the first shown frame
    of the file (whatever stamp that one has); `indices` (n,) int64 into the frame table; `source_size_wh` the upright
    size in the file; `duration_s` of the whole video; `backend` that read them.
    """

    images: np.ndarray
    times_s: np.ndarray
    indices: np.ndarray
    source_size_wh: Size
    duration_s: float
    backend: Literal["decord", "pyav"]

    def __len__(self) -> int:
        return len(self.images)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.images, dtype=dtype, copy=copy)  # np.asarray(frames) is frames.images


def uniform_indices(n_total: int, n: int) -> np.ndarray:
    """At most `n` of `n_total` indices, evenly spread, the first and the last included; (n,) int64, ascending.

    >>> uniform_indices(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.linspace(0, n_total - 1, min(n, n_total)).round().astype(np.int64)


def sample_frames(
    path: PathLike, n: int, max_pixels: int, *, max_fps: float | None = None, backend: Backend = "auto"
) -> Frames:
    """`n` frames spread evenly over the frame list, the first and the last included; all of them when there are fewer.

    `max_fps` bounds their number to `duration_s * max_fps` (at least one); the paper's code uses 2. Each is resized
    to `geometry.fit_size`. Raises ValueError for n < 1 and max_fps <= 0, VideoError for the file.
    """
    _check_request(n, max_fps)
    info = probe(path)
    return _read(info, _uniform(info, n, max_fps), max_pixels, backend)


def frames_at(path: PathLike, times_s: Sequence[float], max_pixels: int, *, backend: Backend = "auto") -> Frames:
    """The frame shown at each time, in the order asked (one for each time, also when two times show the same frame).

    Raises ValueError for no times and for times that are NaN or outside the video (0 to the end of the last frame).
    """
    if len(np.atleast_1d(times_s)) == 0:
        raise ValueError("no times given")
    info = probe(path)
    return _read(info, info.shown_at(times_s), max_pixels, backend)


def sample_with_key_frames(
    path: PathLike,
    n: int,
    key_times_s: Sequence[float],
    max_pixels: int,
    *,
    max_fps: float | None = None,
    backend: Backend = "auto",
) -> Frames:
    """The frames of `sample_frames` and those shown at the annotated times, in time order, none twice.

    The paper inserts the key frames in training. Without key times the same as `sample_frames`; errors of both.
    """
    _check_request(n, max_fps)
    info = probe(path)
    indices = np.union1d(_uniform(info, n, max_fps), info.shown_at(key_times_s))
    return _read(info, indices, max_pixels, backend)


def write_video(path: PathLike, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes (height, width, 3) uint8 RGB frames as H.264 in mp4, `fps` frames a second, constant rate.

    Closed GOPs of about a second, no B-frames, one thread: the same frames give the same bytes on one machine.
    The file appears under its name only when it is complete. Both sides must be even (yuv420p halves the colour
    planes). Raises ValueError for no frames, a wrong shape or dtype, odd or changing sizes, and an fps that is
    not a positive number.
    """
    import av
    from av.video.reformatter import VideoReformatter

    rate = Fraction(float(fps)).limit_denominator(1001) if 0 < fps < math.inf else 0
    if not rate:
        raise ValueError(f"fps must be a positive number, found {fps}")
    path = Path(os.fsdecode(path))
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    # without mbtree, which reads memory that x264 never set: the same frames would not always give the same bytes
    options = {"preset": "veryfast", "crf": "20", "threads": "1", "flags": "+cgop+bitexact", "x264-params": "mbtree=0"}
    try:
        with av.open(str(unfinished.absolute()), "w", format="mp4", container_options={"fflags": "+bitexact"}) as out:
            stream, shape, to_yuv = None, None, VideoReformatter()
            for number, image in enumerate(frames):
                shape = shape or image.shape
                _check_writable(image, shape, number)
                if stream is None:
                    stream = out.add_stream("libx264", rate=rate, options=options)
                    stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
                    codec = stream.codec_context
                    codec.gop_size, codec.max_b_frames, codec.thread_count = max(1, round(rate)), 0, 1
                rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame = to_yuv.reformat(rgb, format="yuv420p", threads=1)
                frame.pts, frame.time_base = number, 1 / rate
                out.mux(stream.encode(frame))
            if stream is None:
                raise ValueError(f"{path}: no frames to write")
            out.mux(stream.encode(None))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_writable(image: np.ndarray, shape: tuple[int, ...], number: int) -> None:
    if image.dtype != np.uint8 or image.shape != shape or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frame {number}: {image.dtype} {image.shape} is not uint8 RGB of the first frame's size")
    if shape[0] % 2 or shape[1] % 2 or 0 in shape:
        raise ValueError(f"frame {number}: {shape[1]}x{shape[0]}, but both sides must be even")


def _check_request(n: int, max_fps: float | None) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n must be a whole number of frames, at least 1, found {n!r}")
    if max_fps is not None and not max_fps > 0:
        raise ValueError(f"max_fps must be positive, found {max_fps}")


def _uniform(info: VideoInfo, n: int, max_fps: float | None) -> np.ndarray:
    if max_fps is not None and max_fps < math.inf:
        n = min(n, max(1, math.floor(info.duration_s * max_fps + 1e-6)))
    return uniform_indices(len(info.pts), n)


def _read(info: VideoInfo, indices: np.ndarray, max_pixels: int, backend: Backend) -> Frames:
    """Frames by index, in the order given; each distinct frame is decoded once."""
    if backend not in ("auto", "decord", "pyav"):
        raise ValueError(f"backend must be auto, decord or pyav, found {backend!r}")
    if backend == "decord" and not info.safe_for_decord:
        raise VideoError(info.path, "open", f"decord would not read it rightly: {info.why}")
    distinct, inverse = np.unique(indices, return_inverse=True)
    size_wh = fit_size(info.size_wh, max_pixels)
    images, used = None, "pyav"
    if backend != "pyav" and info.safe_for_decord:
        _decode(info, distinct, lambda _: None, _CHECK_ONLY)
        try:
            images, used = _read_decord(info, distinct, size_wh), "decord"
        except (ImportError, RuntimeError) as error:
            if backend == "decord":
                raise VideoError(info.path, "frame-decode", f"decord: {error}") from None
            logger.info("%s: decord failed, PyAV reads it (%s)", info.path, error)
    if images is None:
        images = _read_pyav(info, distinct, size_wh)
    logger.debug("%s: %d frames with %s (%s)", info.path, len(distinct), used, info.why or "the table is safe")
    return Frames(
        images=images if np.array_equal(distinct, indices) else images[inverse],
        times_s=info.times_s[indices],
        indices=indices,
        source_size_wh=info.size_wh,
        duration_s=info.duration_s,
        backend=used,
    )


def _read_decord(info: VideoInfo, indices: np.ndarray, size_wh: Size) -> np.ndarray:
    """As `_read_pyav`; RuntimeError for what decord cannot do."""
    import decord

    try:
        reader = decord.VideoReader(os.path.abspath(info.path), num_threads=1, width=size_wh[0], height=size_wh[1])
        if len(reader) != len(info.pts):
            raise RuntimeError(f"it counts {len(reader)} frames, the table {len(info.pts)}")
        return reader.get_batch(indices).asnumpy()
    except decord.DECORDError as error:
        raise RuntimeError(str(error).partition("\n")[0]) from None


def _read_pyav(info: VideoInfo, indices: np.ndarray, size_wh: Size) -> np.ndarray:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one a read: it holds a scaler, which threads must not share

    def upright(frame: Any) -> np.ndarray:
        turned, mirror_x, mirror_y = orientation(frame)
        width, height = size_wh[::-1] if turned else size_wh
        rgb = reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        image = rgb.to_ndarray().swapaxes(0, 1) if turned else rgb.to_ndarray()
        return image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]

    images = np.empty((len(indices), size_wh[1], size_wh[0], 3), np.uint8)
    for row, image in enumerate(_decode(info, indices, upright, {})):
        images[row] = image
    return images


def _decode(
    info: VideoInfo, indices: Sequence[int], convert: Callable[[Any], Any], options: dict[str, str]
) -> list[Any]:
    """`convert(frame)` of the frames at ascending `indices`, exactly those, none of them damaged, or VideoError."""
    import av

    found: dict[int, Any] = {}
    try:
        with open_stream(info.path) as (container, stream):
            stream.codec_context.options = options
            for start, group in groupby(plan(info, indices), key=lambda wanted: wanted.start):
                if start or found:
                    with suppress(av.FFmpegError):  # a format that cannot: its frames are missed, not wrong
                        container.seek(int(info.packets[info.seek_by][start]), stream=stream)
                found |= decode_wanted(info, container.demux(stream), list(group), convert)
        missed = [index for index in indices if index not in found]
        if missed:  # a seek can land too late; then once more from the start
            with open_stream(info.path) as (container, stream):
                found |= decode_wanted(info, container.demux(stream), list(plan(info, missed)), convert)
    except (av.FFmpegError, MemoryError) as error:
        raise VideoError(info.path, "frame-decode", f"decoding failed ({error})") from None
    for index in missed:
        if index not in found:
            raise VideoError(info.path, "frame-decode", f"{info.frame_name(index)} cannot be decoded")
    return [found[index] for index in indices]


def nearest_frame(times_s: Sequence[float], time_s: float, duration_s: float | None = None) -> int | None:
    """Index of the frame nearest to a time; None for a time before 0, after `duration_s`, or not finite.

    Without a duration the frames end after the last one and the widest gap between two (1 s for a single frame).
    """
    times = np.asarray(times_s, dtype=float)
    if not len(times) or not math.isfinite(time_s):
        return None
    if duration_s is None:
        duration_s = times[-1] + (np.diff(times).max() if len(times) > 1 else 1.0)
    return int(np.abs(times - time_s).argmin()) if 0 <= time_s <= duration_s else None
