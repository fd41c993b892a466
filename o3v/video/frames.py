"""Frames of a video with their true times.

Every function opens the file itself and keeps nothing open, so processes and threads can read in parallel; store paths
in data sets, not readers. `frame_table.probe` decides which frames exist and when. PyAV reads them. decord reads them
if it is asked for, that table proves it exact, and a decoding pass finds no damage (decord hides damage). The result is
the right frames or a VideoError, except for damage that no decoder notices (often in VP9 and HEVC, seldom in H.264;
lost packets). This module does not know tasks, prompts or models.
"""

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import numpy as np

from o3v.geometry import MIN_PIXELS, PATCH_FACTOR, Size, fit_size
from o3v.video.decoding import decode_frames, plan_requests
from o3v.video.frame_table import VideoInfo, orientation, probe
from o3v.video.opening import PathLike, VideoError, open_stream

Backend = Literal["auto", "decord", "pyav"]

logger = logging.getLogger(__name__)

# Videos of at most this size that decord may read are scaled as decord scales them, to the same pixels: the synthetic
# ones, since the recorded results of `smoke` and `tiny` depend on them.
DECORD_PIXELS = 256 * 256
# Decoder options that are enough to find damage, in about 0.7 of the time. The decoded images are not usable.
_CHECK_ONLY = {"skip_loop_filter": "all", "skip_idct": "all"}


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one video, resized and upright.

    `images` is (n, height, width, 3) uint8 RGB. `times_s` (n,) float64 are the frames' own times since the first shown
    frame of the file; `indices` (n,) int64 index the frame table. `source_size_wh` is the upright size in the file,
    `duration_s` that of the whole video. `backend` read the frames.
    """

    images: np.ndarray
    times_s: np.ndarray
    indices: np.ndarray
    source_size_wh: Size
    duration_s: float
    backend: Literal["decord", "pyav"]

    def __len__(self) -> int:
        return len(self.images)


def uniform_indices(n_total: int, n: int) -> np.ndarray:
    """At most `n` of `n_total` indices, evenly spaced, with the first and the last; (n,) int64, ascending.

    >>> uniform_indices(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.linspace(0, n_total - 1, min(n, n_total)).round().astype(np.int64)


def sample_frames(
    path: PathLike,
    n: int,
    max_pixels: int,
    *,
    key_times_s: Sequence[float] = (),
    max_fps: float | None = None,
    fixed_rate: bool = False,
    min_pixels: int = MIN_PIXELS,
    grid_px: int = PATCH_FACTOR,
    backend: Backend = "auto",
) -> Frames:
    """Reads `n` frames, evenly spaced in the frame table, with the first and the last; all frames if there are fewer.

    Adds the frames shown at key times, in time order and none twice; the paper does so in training.

    Args:
        path: A video file. Raises VideoError if it cannot be read correctly.
        n: Number of evenly spaced frames. Raises ValueError below 1.
        max_pixels: Most pixels of a frame; `geometry.fit_size` gives the size. Raises ValueError if too small.
        key_times_s: Times of key frames in seconds, any number. Raises ValueError as `frames_at` does.
        max_fps: At most `duration_s * max_fps` frames, but at least one; the paper's code uses 2. Must be positive.
        fixed_rate: Reads the frames at 0, 1 / max_fps, 2 / max_fps, … s if these are at most `n`; needs `max_fps`.
        min_pixels, grid_px: As in `geometry.fit_size`; they depend on the model's family.
        backend: "auto" is PyAV, with decord's pixels for small videos (`DECORD_PIXELS`). "decord" raises VideoError for
            a file that it must not read.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n must be a whole number of frames, at least 1, found {n!r}")
    if max_fps is not None and not max_fps > 0:
        raise ValueError(f"max_fps must be positive, found {max_fps}")
    times = np.asarray(key_times_s, dtype=np.float64)
    rest = (n, max_pixels, max_fps, fixed_rate, min_pixels, grid_px, backend)
    try:
        status = os.stat(path) if times.ndim == 1 else None
    except (OSError, ValueError):  # `probe` names the problem
        status = None
    if status is None:
        return _sample(path, (), key_times_s, *rest)
    return _sample_once(os.fsdecode(path), (status.st_ino, status.st_size, status.st_mtime_ns), tuple(times), *rest)


def _sample(
    path: PathLike,
    status: tuple[int, ...],
    key_times_s: Sequence[float],
    n: int,
    max_pixels: int,
    max_fps: float | None,
    fixed_rate: bool,
    min_pixels: int,
    grid_px: int,
    backend: Backend,
) -> Frames:
    """As `sample_frames`. `status` tells `_sample_once` whether the file has changed."""
    info = probe(path)
    if fixed_rate and max_fps is None:
        raise ValueError("fixed_rate needs max_fps")
    indices = uniform_indices(len(info.pts), n)
    if max_fps is not None and max_fps < math.inf:
        allowed = max(1, math.floor(info.duration_s * max_fps + 1e-6))
        spaced = uniform_indices(len(info.pts), min(n, allowed))
        indices = info.shown_at(np.arange(allowed) / max_fps) if fixed_rate and allowed <= n else spaced
    indices = np.union1d(indices, info.shown_at(key_times_s))
    frames = _read(info, indices, fit_size(info.size_wh, max_pixels, grid_px, min_pixels), backend)
    for array in (frames.images, frames.times_s, frames.indices):
        array.setflags(write=False)  # the next caller gets the same
    return frames


_sample_once = lru_cache(maxsize=1)(_sample)  # questions about a video follow each other; more would take memory


def frames_at(path: PathLike, times_s: Sequence[float], max_pixels: int, *, backend: Backend = "auto") -> Frames:
    """Reads the frame shown at each time in seconds, in the order of the times; a frame can appear twice.

    Raises ValueError for no times and for times that are NaN or outside the video (0 to the end of the last frame),
    and the errors of `sample_frames`.
    """
    if len(np.atleast_1d(times_s)) == 0:
        raise ValueError("no times given")
    info = probe(path)
    return _read(info, info.shown_at(times_s), fit_size(info.size_wh, max_pixels), backend)


def _read(info: VideoInfo, indices: np.ndarray, size_wh: Size, backend: Backend) -> Frames:
    """Reads frames by index, in the given order and this size. Decodes each distinct frame once."""
    if backend not in ("auto", "decord", "pyav"):
        raise ValueError(f"backend must be auto, decord or pyav, found {backend!r}")
    if backend == "decord" and info.decord_objection:
        raise VideoError(info.path, "open", f"decord would read it wrongly: {info.decord_objection}")
    distinct, inverse = np.unique(indices, return_inverse=True)
    if backend == "decord":
        _decode(info, distinct, lambda _: None, _CHECK_ONLY)
        try:
            images = _read_decord(info, distinct, size_wh)
        except (ImportError, RuntimeError) as error:
            raise VideoError(info.path, "frame-decode", f"decord: {error}") from None
    else:
        small = info.size_wh[0] * info.size_wh[1] <= DECORD_PIXELS
        scale = _scale_as_decord if backend == "auto" and small and not info.decord_objection else _scaler
        images = _read_pyav(info, distinct, size_wh, scale())
    used = "decord" if backend == "decord" else "pyav"
    reason = info.decord_objection or "no objection to decord"
    logger.debug("%s: %d frames with %s (%s)", info.path, len(distinct), used, reason)
    images = images if np.array_equal(distinct, indices) else images[inverse]
    return Frames(images, info.times_s[indices], indices, info.size_wh, info.duration_s, used)


def _read_decord(info: VideoInfo, indices: np.ndarray, size_wh: Size) -> np.ndarray:
    """Reads distinct frames, ascending. Raises RuntimeError if decord fails."""
    import decord

    try:
        reader = decord.VideoReader(os.path.abspath(info.path), num_threads=1, width=size_wh[0], height=size_wh[1])
        if len(reader) != len(info.pts):
            raise RuntimeError(f"it counts {len(reader)} frames, the table {len(info.pts)}")
        return reader.get_batch(indices).asnumpy()
    except decord.DECORDError as error:
        raise RuntimeError(str(error).partition("\n")[0]) from None


Scale = Callable[[Any, int, int], np.ndarray]  # frame, width, height → RGB image


def _scaler() -> Scale:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # not shared: its scaler is not thread-safe
    options = {"format": "rgb24", "interpolation": "BILINEAR", "threads": 1}
    return lambda frame, width, height: reformatter.reformat(frame, width, height, **options).to_ndarray()


def _scale_as_decord() -> Scale:
    """FFmpeg's scale filter, which decord uses: it knows where chroma samples lie, the reformatter does not."""
    import av

    graphs: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}

    def scale(frame: Any, width: int, height: int) -> np.ndarray:
        key = (frame.width, frame.height, frame.format.name, width, height)
        if key not in graphs:
            graph = av.filter.Graph()
            own = {"width": frame.width, "height": frame.height, "format": frame.format, "time_base": frame.time_base}
            source, sink = graph.add_buffer(**own), graph.add("buffersink")
            graph.link_nodes(
                source, graph.add("scale", f"{width}:{height}:flags=bilinear"), graph.add("format", "rgb24"), sink
            )
            graph.configure()
            graphs[key] = graph, source, sink
        graph, source, sink = graphs[key]
        source.push(frame)
        return sink.pull().to_ndarray()

    return scale


def _read_pyav(info: VideoInfo, indices: np.ndarray, size_wh: Size, scale: Scale) -> np.ndarray:
    def to_upright(frame: Any) -> np.ndarray:
        """Resizes a decoded frame to `size_wh`, upright."""
        swap_axes, mirror_x, mirror_y = orientation(frame)
        width, height = size_wh[::-1] if swap_axes else size_wh
        image = scale(frame, width, height)
        image = image.swapaxes(0, 1) if swap_axes else image
        return image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]

    images = np.empty((len(indices), size_wh[1], size_wh[0], 3), np.uint8)
    for row, image in enumerate(_decode(info, indices, to_upright, {})):
        images[row] = image
    return images


def _decode(
    info: VideoInfo, indices: Sequence[int], convert: Callable[[Any], Any], options: dict[str, str]
) -> list[Any]:
    """Returns `convert(frame)` for the frames at ascending `indices`. Raises VideoError unless all are intact."""
    import av

    converted: dict[int, Any] = {}
    try:
        with open_stream(info.path) as (container, stream):
            stream.codec_context.options |= options
            for start, group in groupby(plan_requests(info, indices), key=lambda request: request.start):
                if start or converted:
                    with suppress(av.FFmpegError):  # a format without seeking: its frames are missing, not wrong
                        container.seek(int(info.packets[info.seek_by][start]), stream=stream)
                converted |= decode_frames(info, container.demux(stream), group, convert)
        missing = [index for index in indices if index not in converted]
        if missing:  # a seek can land too late: decode again from the start
            with open_stream(info.path) as (container, stream):
                converted |= decode_frames(info, container.demux(stream), plan_requests(info, missing), convert)
    except (av.FFmpegError, MemoryError, IndexError) as error:
        raise VideoError(info.path, "frame-decode", f"decoding failed ({error})") from None
    for index in missing:
        if index not in converted:
            raise VideoError(info.path, "frame-decode", f"{info.frame_name(index)} cannot be decoded")
    return [converted[index] for index in indices]


def nearest_frame(times_s: Sequence[float], time_s: float, duration_s: float | None = None) -> int | None:
    """Index of the frame nearest to a time; the earlier of two equally near frames.

    `times_s` (n,) are ascending. None without frames, and for a time that is not finite, below 0 or after `duration_s`,
    by default the time of the last frame plus the widest gap between two frames (1 s for a single frame).

    >>> nearest_frame([0.0, 1.0, 4.0], 2.5), nearest_frame([0.0, 1.0, 4.0], 7.0), nearest_frame([0.0, 1.0, 4.0], 7.5)
    (1, 2, None)
    """
    times = np.asarray(times_s, dtype=float)
    if not len(times) or not math.isfinite(time_s):
        return None
    if duration_s is None:
        duration_s = times[-1] + (np.diff(times).max() if len(times) > 1 else 1.0)
    return int(np.abs(times - time_s).argmin()) if 0 <= time_s <= duration_s else None
