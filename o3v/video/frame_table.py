"""The frame table of a video file: which frames it shows and when, from one pass over its packets.

Frame counts and times come from here alone, never from the frame rate or the counts that a header states: a stream-
copied trim hides packets, a phone records at a changing rate, a broken download ends early. The table says whether
decord, which builds its own, would agree with it, and `decode_wanted` takes from PyAV the frames of the table and no
others. This module knows nothing of sampling or sizes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["open", "no-video-stream", "frame-decode"]
PathLike = str | os.PathLike[str]

TIME_SLACK_S = 1e-3  # times are written with few digits: 0.333 means the frame at 1/3
_TEXT_ART_CODECS = frozenset({"ansi", "xbin", "idf"})  # FFmpeg draws any .txt as a video
_PACKET = np.dtype([("pts", "i8"), ("dts", "i8"), ("end", "i8"), ("key", "?"), ("hidden", "?"), ("corrupt", "?")])


class VideoError(ValueError):
    """A file that cannot be read rightly. `path` is the file, `kind` the stage, the message names file and reason."""

    def __init__(self, path: PathLike, kind: Kind, reason: str) -> None:
        super().__init__(f"{os.fsdecode(path)}: {reason}")
        self.path, self.kind, self.reason = os.fsdecode(path), kind, reason

    def __reduce__(self) -> tuple[Any, ...]:  # so that it crosses process pools whole
        return type(self), (self.path, self.kind, self.reason)


class MissingVideoError(VideoError, FileNotFoundError):
    """No file under that name (kind "open"); caught as VideoError or as FileNotFoundError."""


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """`times_s` (n,) float64: seconds of every shown frame since the first shown frame, ascending.

    `size_wh` of the upright picture in stored pixels (a sample aspect ratio is not applied); `duration_s` from the
    first frame to the end of the last one; `safe_for_decord`, and `why` when it is not. `pts` (n,) int64 are the
    frames' stamps in the stream's time base, `packets` its packets in decoding order (`_PACKET`).
    """

    path: str
    times_s: np.ndarray
    size_wh: tuple[int, int]
    duration_s: float
    safe_for_decord: bool
    why: str
    pts: np.ndarray
    packets: np.ndarray
    seek_by: Literal["pts", "dts"]

    @cached_property
    def position_of(self) -> dict[int, int]:
        return {pts: position for position, pts in enumerate(self.packets["pts"].tolist())}

    def frame_name(self, index: int) -> str:
        return f"frame {index} ({self.times_s[index]:.3f} s)"

    def shown_at(self, times_s: Sequence[float]) -> np.ndarray:
        """Index of the frame shown at each time, (n,) int64.

        Raises ValueError for a time that is NaN or outside the video: 0 to the end of the last frame.
        """
        times = np.asarray(times_s, dtype=np.float64)
        if times.ndim != 1:
            raise ValueError(f"times must be a list of seconds, found {times_s!r:.80}")
        outside = ~((times >= 0) & (times <= self.duration_s + TIME_SLACK_S))  # NaN is outside too
        if outside.any():
            raise ValueError(f"{self.path}: time {times[outside][0]} s is outside its {self.duration_s:.3f} s")
        return np.searchsorted(self.times_s, times + TIME_SLACK_S, side="right") - 1


class Wanted(NamedTuple):
    """A frame to be read. `position` is its packet, decoding starts at packet `start`.

    `until` is the highest stamp of the packets from there to its own: frames up to that stamp must come out whole
    before this one is trusted, for a B-frame may be built on a damaged frame that is shown after it.
    """

    index: int
    pts: int
    position: int
    start: int
    until: int


def plan(info: VideoInfo, indices: Iterable[int]) -> Iterator[Wanted]:
    """What decoding needs to know of each frame of the table."""
    stamps, keys = info.packets["pts"], np.flatnonzero(info.packets["key"])
    for index in map(int, indices):
        pts = int(info.pts[index])
        position = info.position_of[pts]
        before = keys[(keys <= position) & (stamps[keys] <= pts)]  # an open GOP's first B-frames need the key before
        start = int(before[-1]) if len(before) else 0
        yield Wanted(index, pts, position, start, until=int(stamps[start : position + 1].max()))


@contextmanager
def open_stream(path: PathLike) -> Iterator[tuple[Any, Any]]:
    """The open PyAV container and its first moving-picture stream, single-threaded.

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
    """Frame times, upright size and duration of a video, and whether decord can be trusted with it.

    One pass over the packets (about 20 ms for 18 s of 640x360) and one decoded picture. Packets that are empty, hidden
    by an edit list or without a time stamp show no frame. Raises VideoError, also for a file that ends early.
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
        why = _against_decord(container, stream, packets, demuxed, first)
        turned, base = orientation(first)[0], stream.time_base
        return VideoInfo(
            path=name,
            times_s=(pts - pts[0]) * base.numerator / base.denominator,
            size_wh=(first.height, first.width) if turned else (first.width, first.height),
            duration_s=float((end - int(pts[0])) * base),
            safe_for_decord=not why,
            why=why,
            pts=pts,
            packets=packets,
            seek_by="pts" if container.format.name.startswith("matroska") else "dts",  # what its index holds
        )


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How a decoded frame becomes upright: swap its axes first, then mirror x, then mirror y.

    From the display matrix (a b u / c d v / ...): (x, y) goes to (ax + cy, bx + dy), to the nearest quarter turn.
    """
    from av.sidedata.sidedata import SideDataContainer

    # not frame.side_data: that ties frame and container into a cycle, and decoded frames pile up until a collection
    matrix = next((data for data in SideDataContainer(frame) if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "=i4")[:5]
    turned = abs(b) > abs(a)
    return bool(turned), bool((c if turned else a) < 0), bool((b if turned else d) < 0)


def decode_wanted(
    info: VideoInfo, packets: Iterable[Any], group: list[Wanted], convert: Callable[[Any], Any]
) -> dict[int, Any]:
    """`convert(frame)` by index of the wanted frames that come out of `packets`, each proven whole.

    Stops at the last one. Only a frame with exactly the wanted stamp counts; those that never come are left out.
    Raises VideoError when a packet or frame that a wanted one is built on is damaged.
    """
    import av

    wanted, stamps = {w.pts: w.index for w in group}, info.packets["pts"]
    found: dict[int, Any] = {}
    damaged: list[int] = []  # positions of packets

    def refuse_damage(w: Wanted) -> None:
        # what is shown before the key frame (an open GOP's first B-frames) is nothing that later frames are built on
        if any(w.start <= p <= w.position and stamps[p] >= stamps[w.start] for p in damaged):
            raise VideoError(info.path, "frame-decode", f"damaged at or before {info.frame_name(w.index)}")

    for packet in packets:
        broken = [packet.pts] if packet.is_corrupt else []
        try:
            frames = packet.decode()
        except av.FFmpegError:
            frames, broken = [], [packet.pts]
        broken += [frame.pts for frame in frames if frame.is_corrupt]
        damaged += [info.position_of.get(pts, group[0].start) for pts in broken]
        for frame in frames:
            if frame.pts in wanted:
                found[wanted[frame.pts]] = convert(frame)
            if frame.pts is not None:
                for w in [w for w in group if w.until <= frame.pts]:
                    refuse_damage(w)
                    group.remove(w)
                if not group:
                    return found
    for w in group:
        refuse_damage(w)
    return found


def _regular_file(path: PathLike) -> str:
    name = os.fsdecode(path)
    try:
        status = os.stat(name)
    except FileNotFoundError:
        raise MissingVideoError(name, "open", "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError(name, "open", f"cannot be opened ({error})") from None
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return name
    what = "the file is empty" if stat.S_ISREG(status.st_mode) else "not a regular file"
    raise VideoError(name, "open", "a directory" if stat.S_ISDIR(status.st_mode) else what)


def _demux(name: str, container: Any, stream: Any) -> tuple[np.ndarray, int, Any]:
    """Packets with a stamp in decoding order, the number of all packets, and the first picture."""
    import av

    rows, demuxed, first = [], 0, None
    try:
        for packet in container.demux(stream):
            if first is None:
                with suppress(av.FFmpegError):  # damage is the reader's to judge, not the table's
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
    """Raises VideoError when the header promises more than is there, or has no times to go by."""
    expected, end_s = stream.frames, float(int(packets["end"].max()) * stream.time_base)
    if container.format.name.startswith("mov,mp4"):  # its index leaves out what an edit list cuts off the end
        expected = len(stream.index_entries)
    stated_s = _stated_end_s(container, stream)
    reason = ""
    if expected > demuxed:
        reason = f"truncated: {demuxed} of {expected} frames are in the file"
    elif stated_s - end_s > 0.5:  # writers round and pad by a frame or two
        reason = f"truncated: its video ends at {end_s:.2f} s, its header says {stated_s:.2f} s"
    elif container.format.name == "avi" and stream.codec_context.reorder_depth and (np.diff(packets["pts"]) > 0).all():
        reason = "an AVI with reordered frames (B-frames) and no times for them: FFmpeg only counts its packets"
    if reason:
        raise VideoError(name, "frame-decode", reason)


def _stated_end_s(container: Any, stream: Any) -> float:
    """The end of the video in seconds as a Matroska or FLV header states it; 0 when it does not."""
    if not container.format.name.startswith(("matroska", "flv")):
        return 0.0
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:  # no tag: the file's own duration, when no longer sound track can be behind it
        return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _against_decord(container: Any, stream: Any, packets: np.ndarray, demuxed: int, first: Any) -> str:
    """Why decord must not read this file; "" when the table proves that it counts the same frames."""
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
        "a mirrored picture": sum(orientation(first)) % 2,  # an odd number of flips: no rotation does it
    }
    return "; ".join(reason for reason, holds in objections.items() if holds)
