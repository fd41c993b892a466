"""The frame table of a video file: its shown frames and their times, from one pass over the packets.

Frame counts and times never come from the header: a stream-copied trim hides packets, a phone records at a variable
rate, a broken download ends early. The table says whether decord, which builds its own, would agree, and
`decode_frames` reads exactly its frames with PyAV. This module does not know sampling or sizes.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

PathLike = str | os.PathLike[str]

TIME_SLACK_S = 1e-3  # times are written with few digits: 0.333 means the frame at 1/3
_TEXT_ART_CODECS = frozenset({"ansi", "xbin", "idf"})  # FFmpeg draws any .txt as a video
_PACKET = np.dtype([("pts", "i8"), ("dts", "i8"), ("end", "i8"), ("key", "?"), ("hidden", "?"), ("corrupt", "?")])


class VideoError(ValueError):
    """A file that cannot be read correctly. `kind` is the stage that failed; the message names file and reason."""

    def __init__(self, path: PathLike, kind: Literal["open", "no-video-stream", "frame-decode"], reason: str) -> None:
        super().__init__(f"{os.fsdecode(path)}: {reason}")
        self.path, self.kind, self.reason = os.fsdecode(path), kind, reason

    def __reduce__(self) -> tuple[Any, ...]:  # for pickling across process pools
        return type(self), (self.path, self.kind, self.reason)


class MissingVideoError(VideoError, FileNotFoundError):
    """The file does not exist (kind "open"). Both a VideoError and a FileNotFoundError."""


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """The frame table of one file.

    `times_s` (n,) float64 are the seconds of the shown frames since the first one, ascending; `pts` (n,) int64 their
    time stamps in the time base of the stream. `size_wh` is the upright size in stored pixels, without the sample
    aspect ratio. `duration_s` ends with the last frame. `decord_objection` says why decord must not read the file;
    None if it may. `packets` are in decoding order (`_PACKET`), `seek_by` is the stamp that the container seeks by.
    """

    path: str
    times_s: np.ndarray
    size_wh: tuple[int, int]
    duration_s: float
    decord_objection: str | None
    pts: np.ndarray
    packets: np.ndarray
    seek_by: Literal["pts", "dts"]

    @cached_property
    def position_of(self) -> dict[int, int]:
        return {pts: position for position, pts in enumerate(self.packets["pts"].tolist())}

    def frame_name(self, index: int) -> str:
        return f"frame {index} ({self.times_s[index]:.3f} s)"

    def shown_at(self, times_s: Sequence[float]) -> np.ndarray:
        """Index of the frame shown at each time in seconds, (n,) int64. ValueError for NaN or outside the video."""
        times = np.asarray(times_s, dtype=np.float64)
        if times.ndim != 1:
            raise ValueError(f"times must be a list of seconds, found {times_s!r:.80}")
        outside = ~((times >= 0) & (times <= self.duration_s + TIME_SLACK_S))  # NaN is outside too
        if outside.any():
            raise ValueError(f"{self.path}: time {times[outside][0]} s is outside its {self.duration_s:.3f} s")
        return np.searchsorted(self.times_s, times + TIME_SLACK_S, side="right") - 1


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
    """Yields the decoding request of each frame index."""
    stamps, keys = info.packets["pts"], np.flatnonzero(info.packets["key"])
    for index in map(int, indices):
        pts = int(info.pts[index])
        position = info.position_of[pts]
        before = keys[(keys <= position) & (stamps[keys] <= pts)]  # first B-frames of an open GOP need the key before
        start = int(before[-1]) if len(before) else 0
        yield FrameRequest(index, pts, position, start, until=int(stamps[start : position + 1].max()))


@contextmanager
def open_stream(path: PathLike) -> Iterator[tuple[Any, Any]]:
    """Opens a PyAV container and its first video stream that is not cover art, single-threaded.

    Raises MissingVideoError; VideoError of kind "open" (a directory, empty, not a video) or "no-video-stream".
    """
    import av

    name = _regular_file(path)
    try:
        container = av.open(os.path.abspath(name), metadata_errors="ignore")
    except (av.FFmpegError, UnicodeError, MemoryError) as error:
        raise VideoError(name, "open", f"not a readable video ({error})") from None
    with container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError(name, "no-video-stream", f"no video stream in this {container.format.name} file")
        codec = streams[0].codec_context
        if codec is None or codec.name in _TEXT_ART_CODECS:
            raise VideoError(name, "open", "not a video" if codec else "no decoder for its video stream")
        codec.thread_count, codec.thread_type = 1, "SLICE"
        yield container, streams[0]


def probe(path: PathLike) -> VideoInfo:
    """Reads the frame table of a video file, with upright size, duration and whether decord can read it.

    Takes one pass over the packets (about 20 ms for 18 s of 640x360) and decodes one frame. Packets that are empty,
    hidden by an edit list or without a time stamp show no frame. Raises VideoError, also for a truncated file.
    """
    name = os.fsdecode(path)
    with open_stream(name) as (container, stream):
        packets, demuxed, first = _demux(name, container, stream)
        _refuse_truncated(name, container, stream, packets, demuxed)
        shown = packets[~packets["hidden"]]
        pts = np.unique(shown["pts"])
        end = int(shown["end"][shown["pts"].argmax()])
        if end == pts[-1] and len(pts) > 1:  # the last packet has no duration
            end += int(np.median(np.diff(pts)))
        swap_axes, base = orientation(first)[0], stream.time_base
        return VideoInfo(
            path=name,
            times_s=(pts - pts[0]) * base.numerator / base.denominator,
            size_wh=(first.height, first.width) if swap_axes else (first.width, first.height),
            duration_s=float((end - int(pts[0])) * base),
            decord_objection=_against_decord(container, stream, packets, demuxed, first),
            pts=pts,
            packets=packets,
            seek_by="pts" if container.format.name.startswith("matroska") else "dts",  # the stamps in its index
        )


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Whether to swap the axes of a decoded frame, then mirror x, then mirror y, to make it upright."""
    from av.sidedata.sidedata import SideDataContainer

    # not frame.side_data, whose reference cycle keeps decoded frames in memory until garbage collection
    matrix = next((data for data in SideDataContainer(frame) if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "=i4")[:5]  # (x, y) goes to (ax + cy, bx + dy)
    swap_axes = abs(b) > abs(a)  # to the nearest quarter turn
    return bool(swap_axes), bool((c if swap_axes else a) < 0), bool((b if swap_axes else d) < 0)


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
        broken = [packet.pts] if packet.is_corrupt else []
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


def _regular_file(path: PathLike) -> str:
    name = os.fsdecode(path)
    try:
        status = os.stat(name)
    except FileNotFoundError:
        raise MissingVideoError(name, "open", "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError(name, "open", f"cannot be opened ({error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(name, "open", "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if not status.st_size:
        raise VideoError(name, "open", "the file is empty")
    return name


def _demux(name: str, container: Any, stream: Any) -> tuple[np.ndarray, int, Any]:
    """Packets with a time stamp in decoding order, the number of all packets, and the first decoded frame."""
    import av

    rows, demuxed, first = [], 0, None
    try:
        for packet in container.demux(stream):
            if first is None:
                with suppress(av.FFmpegError):  # the reader judges damage, not the table
                    first = next(iter(packet.decode()), None)
            demuxed += packet.size > 0 or packet.dts is not None  # the closing flush packet has neither
            if packet.pts is not None and packet.size > 0:
                dts = packet.pts if packet.dts is None else packet.dts
                end = packet.pts + (packet.duration or 0)
                rows.append((packet.pts, dts, end, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
    except (av.FFmpegError, MemoryError) as error:
        raise VideoError(name, "frame-decode", f"breaks off after {demuxed} packets ({error})") from None
    packets = np.array(rows, dtype=_PACKET)
    if packets["hidden"].all() or first is None:
        raise VideoError(name, "frame-decode", f"none of its {demuxed} packets gives a frame with a time stamp")
    return packets, demuxed, first


def _refuse_truncated(name: str, container: Any, stream: Any, packets: np.ndarray, demuxed: int) -> None:
    """Raises VideoError if the header states more frames than are in the file, or if there are no usable times."""
    expected, end_s = stream.frames, float(int(packets["end"].max()) * stream.time_base)
    if container.format.name.startswith("mov,mp4"):  # its index leaves out what an edit list cuts off the end
        expected = len(stream.index_entries)
    if expected > demuxed:
        raise VideoError(name, "frame-decode", f"truncated: {demuxed} of {expected} frames are in the file")
    stated_s = _stated_end_s(container, stream)
    if stated_s is not None and stated_s - end_s > 0.5:  # writers round and pad by a frame or two
        raise VideoError(name, "frame-decode", f"truncated: ends at {end_s:.2f} s, not at {stated_s:.2f} s (header)")
    if container.format.name == "avi" and stream.codec_context.reorder_depth and (np.diff(packets["pts"]) > 0).all():
        raise VideoError(name, "frame-decode", "an AVI with reordered frames (B-frames) but without their times")


def _stated_end_s(container: Any, stream: Any) -> float | None:
    """The end of the video in seconds as the header of a Matroska or FLV file states it."""
    if not container.format.name.startswith(("matroska", "flv")):
        return None
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:  # no tag: use the duration of the file, unless a longer sound track may determine it
        return (container.duration or 0) / 1e6 if len(container.streams) == 1 else None


def _against_decord(container: Any, stream: Any, packets: np.ndarray, demuxed: int, first: Any) -> str | None:
    """Why decord must not read this file; None if the table proves that decord counts the same frames."""
    latest_key = np.maximum.accumulate(np.where(packets["key"], packets["pts"], np.iinfo("i8").min))
    objections = {
        f"container {container.format.name}": not container.format.name.startswith(("mov,mp4", "matroska")),
        f"codec {stream.codec_context.name}": stream.codec_context.name != "h264",
        "several video streams": len(container.streams.video) != 1,
        "packets hidden by an edit list": packets["hidden"].any(),
        "empty packets or packets without a time stamp": demuxed != len(packets),
        "two packets with one time stamp": len(np.unique(packets["pts"])) != len(packets),
        "it does not start with a key frame": not packets["key"][0],
        "an open group of pictures": (packets["pts"] < latest_key).any(),
        "incomplete packets": packets["corrupt"].any(),
        "a mirrored image": sum(orientation(first)) % 2,  # an odd number of flips is not a rotation
    }
    return "; ".join(reason for reason, holds in objections.items() if holds) or None
