"""Writes videos from frames, for the synthetic world, tests and benchmarks."""

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from o3v import files
from o3v.video.opening import PathLike


def write_video(path: PathLike, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes (height, width, 3) uint8 RGB frames as H.264 in mp4, at a constant `fps` frames per second.

    Closed GOPs of about a second, no B-frames, one thread: the same frames give the same bytes on one machine.
    The file is written atomically. Width and height must be even (yuv420p halves the colour
    planes). Raises ValueError for no frames, a wrong shape or dtype, odd or changing sizes, and a bad `fps`.
    """
    import av
    from av.video.reformatter import VideoReformatter

    rate = Fraction(float(fps)).limit_denominator(1001) if 0 < fps < math.inf else 0
    if not rate:
        raise ValueError(f"fps must be a positive number, found {fps}")
    # no mbtree: it reads uninitialised memory in x264, so the bytes would differ between runs
    options = {"preset": "veryfast", "crf": "20", "threads": "1", "flags": "+cgop+bitexact", "x264-params": "mbtree=0"}
    muxing = {"format": "mp4", "container_options": {"fflags": "+bitexact"}}
    with files.atomic_path(path) as unfinished, av.open(str(unfinished.absolute()), "w", **muxing) as out:
        stream, shape, previous, to_yuv = None, None, None, VideoReformatter()
        for number, image in enumerate(frames):
            shape = shape or image.shape
            _check_writable(image, shape, number)
            if stream is None:
                stream = out.add_stream("libx264", rate=rate, options=options)
                stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
                codec = stream.codec_context
                codec.gop_size, codec.max_b_frames, codec.thread_count = max(1, round(rate)), 0, 1
            if image is not previous:  # a generator may yield the same array again
                rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame, previous = to_yuv.reformat(rgb, format="yuv420p", threads=1), image
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"{path}: no frames to write")
        out.mux(stream.encode(None))


def _check_writable(image: np.ndarray, shape: tuple[int, ...], number: int) -> None:
    if image.dtype != np.uint8 or image.shape != shape or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frame {number}: {image.dtype} {image.shape} is not uint8 RGB of the first frame's size")
    if shape[0] % 2 or shape[1] % 2 or 0 in shape:
        raise ValueError(f"frame {number}: {shape[1]}x{shape[0]}, but both sides must be even")
