"""Decoding exactly the frames of a frame table with PyAV: from where they can be decoded, each known to be intact."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from o3v.video.frame_table import VideoInfo
from o3v.video.opening import VideoError


class FrameRequest(NamedTuple):
    """A frame to decode: its table index, its stamp, the position of its packet and the packet to start decoding at.

    `until` is the highest stamp of the packets from `start` to `position`. All frames up to it must be intact before
    this one is trusted, because a B-frame may depend on a damaged frame that is shown later.
    """

    index: int
    pts: int
    position: int
    start: int
    until: int


def plan_requests(info: VideoInfo, indices: Iterable[int]) -> Iterator[FrameRequest]:
    """Yields the decoding request of each frame index. Raises VideoError for a frame without a key frame before it."""
    stamps, keys = info.packets["pts"], np.flatnonzero(info.packets["key"])
    for index in map(int, indices):
        pts = int(info.pts[index])
        position = info.position_of[pts]
        before = keys[(keys <= position) & (stamps[keys] <= pts)]  # first B-frames of an open GOP need the key before
        if not len(before):
            reason = "depends on frames that are not in the file (it does not start with a key frame)"
            raise VideoError(info.path, "frame-decode", f"{info.frame_name(index)} {reason}")
        start = int(before[-1])
        yield FrameRequest(index, pts, position, start, until=int(stamps[start : position + 1].max()))


def decode_frames(
    info: VideoInfo, packets: Iterable[Any], requests: Iterable[FrameRequest], convert: Callable[[Any], Any]
) -> dict[int, Any]:
    """Returns `convert(frame)` by index for the requested frames that come out of `packets`, each known to be intact.

    Stops at the last one. Omits frames whose exact stamp never appears. Raises VideoError if a packet or frame that a
    requested one depends on is damaged.
    """
    import av

    pending, stamps = list(requests), info.packets["pts"]
    index_of = {request.pts: request.index for request in pending}
    converted: dict[int, Any] = {}
    damaged: list[int] = []  # positions of packets

    def check_intact(request: FrameRequest) -> None:
        """Ignores damage shown before the key frame (first B-frames of an open GOP): later frames do not need it."""
        if any(request.start <= p <= request.position and stamps[p] >= stamps[request.start] for p in damaged):
            raise VideoError(info.path, "frame-decode", f"damaged at or before {info.frame_name(request.index)}")

    for packet in packets:
        position = info.position_of.get(packet.pts)
        broken = [packet.pts] if packet.is_corrupt and (position is None or info.packets["corrupt"][position]) else []
        try:
            frames = packet.decode()
        except av.FFmpegError:
            frames, broken = [], [packet.pts]
        broken += [frame.pts for frame in frames if frame.is_corrupt]
        damaged += [info.position_of.get(pts, pending[0].start) for pts in broken]
        for frame in frames:
            if frame.pts in index_of:
                converted[index_of[frame.pts]] = convert(frame)
            for request in [r for r in pending if frame.pts is not None and r.until <= frame.pts]:
                check_intact(request)
                pending.remove(request)
            if not pending:
                return converted
    for request in pending:
        check_intact(request)
    return converted
