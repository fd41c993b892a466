"""The frame table of a video file: its shown frames and their times, from one pass over the packets.

Frame counts and times never come from the header: a stream-copied trim hides packets, a phone records at a variable
rate, a broken download ends early. The table says whether decord, which makes its own table, gives the same frames.
`decoding` reads exactly the frames of the table. This module does not know sampling or sizes.
"""

import mmap
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from o3v.video.opening import CONVERT, PathLike, VideoError, open_stream

TIME_SLACK_S = 1e-3  # times are written with few digits: 0.333 means the frame at 1/3
# key: all later frames can be decoded from this packet; flagged: the container calls it a key frame
_FLAGS = ("key", "flagged", "hidden", "corrupt")
# stop: the first byte of the file after this packet
_PACKET = np.dtype([*((stamp, "i8") for stamp in ("pts", "dts", "end", "stop")), *((flag, "?") for flag in _FLAGS)])


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


def probe(path: PathLike) -> VideoInfo:
    """Reads the frame table of a video file, with upright size, duration and whether decord can read it.

    Takes one pass over the packets (about 20 ms for 18 s of 640x360) and decodes one frame. Packets that are empty,
    hidden by an edit list or without a time stamp show no frame. Raises VideoError, also for a truncated file.
    """
    name = os.fsdecode(path)
    with open_stream(name) as (container, stream):
        indexed = len(stream.index_entries)  # before demuxing adds to it
        packets, demuxed, first = _demux(name, container, stream)
        _refuse_joined(name, container, stream, packets)
        _refuse_truncated(name, container, stream, packets, (indexed, demuxed))
        shown = packets[~packets["hidden"]]
        pts = np.unique(shown["pts"])
        end = int(shown["end"][shown["pts"].argmax()])
        if end == pts[-1]:  # the last packet has no duration
            end += int(np.median(np.diff(pts))) if len(pts) > 1 else _stated_frame_ticks(stream)
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


def _demux(name: str, container: Any, stream: Any) -> tuple[np.ndarray, int, Any]:
    """Packets with a time stamp in decoding order, the number of all packets, and the first decoded frame."""
    import av

    rows, demuxed, without_time, first = [], 0, 0, None
    try:
        for packet in container.demux(stream):
            if first is None:
                with suppress(av.FFmpegError):  # the reader judges damage, not the table
                    first = next(iter(packet.decode()), None)
            demuxed += packet.size > 0 or packet.dts is not None  # the closing flush packet has neither
            without_time += packet.pts is None and packet.size > 0
            if packet.pts is not None and packet.size > 0:
                dts = packet.pts if packet.dts is None else packet.dts
                end = packet.pts + (packet.duration or 0)
                key = packet.is_keyframe and _is_full_refresh(stream, packet, first=not rows)
                flags = key, packet.is_keyframe, packet.is_discard, packet.is_corrupt
                rows.append((packet.pts, dts, end, (packet.pos or 0) + packet.size, *flags))
    except (av.FFmpegError, MemoryError, IndexError) as error:  # IndexError: a stream appears that the header lacks
        raise VideoError(name, "frame-decode", f"breaks off after {demuxed} packets ({error})") from None
    if without_time > len(rows):  # fewer are second fields or repeat a frame
        raise VideoError(name, "frame-decode", f"{without_time} of its {demuxed} packets have no time; {CONVERT}")
    packets = np.array(rows, dtype=_PACKET)
    if container.format.name == "mpegts":
        packets["corrupt"] &= ~_before_a_join(packets["flagged"])
    if packets["hidden"].all() or first is None:
        raise VideoError(name, "frame-decode", f"none of its {demuxed} packets gives a frame with a time stamp")
    return packets, demuxed, first


def _before_a_join(flagged: np.ndarray) -> np.ndarray:
    """Packets right before a key frame. Where MPEG-TS segments are joined, the continuity counters restart, and FFmpeg
    marks one of these packets as corrupt although it is whole; the decoder still reports real damage."""
    padded = np.append(flagged, [False, False])
    return padded[1:-1] | padded[2:]


def _is_full_refresh(stream: Any, packet: Any, first: bool) -> bool:
    """Whether all frames after this key packet can be decoded from it.

    False for H.264 recovery points that are not IDR pictures (open GOP, intra refresh): FFmpeg calls them key frames,
    but decoding from one can show concealed or half-refreshed images under the right time stamps. The first packet may
    be one, since the decoder then drops what it cannot decode. In MPEG-4, an mp4 file without any key frame calls all
    packets key frames. In HEVC, VP9, AV1 and MPEG-2 only leading frames depend on earlier ones (`plan_requests`).
    """
    codec, data = stream.codec_context, bytes(packet)
    if codec.name == "h264":
        return first or 5 in _h264_nal_types(data, codec.extradata)
    if codec.name == "mpeg4":
        picture = data.find(b"\0\0\1\xb6")
        return 0 <= picture < len(data) - 4 and data[picture + 4] >> 6 == 0  # coding type I
    return True


def _h264_nal_types(data: bytes, extradata: bytes | None) -> set[int]:
    """Types of the NAL units of an H.264 packet, with lengths (mp4, mkv) or start codes (MPEG-TS, AVI)."""
    if not extradata or extradata[0] != 1:
        return {data[match.end()] & 31 for match in re.finditer(b"\0\0\1(?=.)", data, re.DOTALL)}
    types, at, length_size = set(), 0, (extradata[4] & 3) + 1
    while at + length_size < len(data):
        types.add(data[at + length_size] & 31)
        at += length_size + int.from_bytes(data[at : at + length_size])
    return types


def _stated_frame_ticks(stream: Any) -> int:
    """Duration of one frame in ticks at the stated rate; at 25 fps without one, or if it is only the tick rate."""
    rate = stream.average_rate or stream.guessed_rate or 25
    return max(1, round(1 / ((rate if rate <= 240 else 25) * stream.time_base)))


def _refuse_joined(name: str, container: Any, stream: Any, packets: np.ndarray) -> None:
    """Raises VideoError for recordings joined byte by byte of which some frames would hide others or never be read.

    Segments of MPEG-TS that go on in time, as HLS has them, are read.
    """
    restarts = (np.diff(packets["pts"][packets["key"] & ~packets["hidden"]]) <= 0).any()
    if container.format.name == "mpegts":  # segments may overlap by a few frames
        restarts |= (np.diff(packets["dts"]) * float(stream.time_base) < -0.5).any()
    if restarts:
        reason = f"its times go back, as in joined recordings; {CONVERT}"
        raise VideoError(name, "frame-decode", reason)
    if container.format.name.startswith(("mov,mp4", "flv")):
        with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(data[:8], int(packets["stop"].max())) >= 0:
                reason = "another file follows in it that would not be read; separate them, or join them with ffmpeg"
                raise VideoError(name, "frame-decode", reason)


def _refuse_truncated(
    name: str, container: Any, stream: Any, packets: np.ndarray, indexed_demuxed: tuple[int, int]
) -> None:
    """Raises VideoError if the header states more frames than are in the file, or if there are no usable times."""
    indexed, demuxed = indexed_demuxed
    expected, end_s = stream.frames, float(int(packets["end"].max()) * stream.time_base)
    if container.format.name.startswith("mov,mp4"):  # its index leaves out what an edit list cuts off the end
        expected = len(stream.index_entries)
    if container.format.name == "avi" and indexed >= demuxed:  # a whole index leaves out dropped (null) frames
        expected = indexed
    if expected > demuxed:
        raise VideoError(name, "frame-decode", f"truncated: {demuxed} of {expected} frames are in the file")
    if container.format.name == "gif" and not Path(name).read_bytes().rstrip(b"\0").endswith(b";"):
        raise VideoError(name, "frame-decode", "truncated: the GIF has no end mark")
    stated_s = _stated_end_s(name, container, stream, end_s)
    if stated_s is not None and stated_s - end_s > 0.5:  # writers round and pad by a frame or two
        raise VideoError(name, "frame-decode", f"truncated: ends at {end_s:.2f} s, not at {stated_s:.2f} s (header)")
    may_reorder = stream.codec_context.reorder_depth and (np.diff(packets["pts"]) > 0).all()
    if may_reorder and (container.format.name == "avi" or not _decodes_in_order(name)):
        raise VideoError(name, "frame-decode", f"reordered frames (B-frames) but without their times; {CONVERT}")


def _decodes_in_order(name: str) -> bool:
    """Whether the time stamps of the first decoded frames ascend."""
    import av

    stamps: list[int] = []
    with open_stream(name) as (container, stream), suppress(av.FFmpegError):
        stamps.extend(frame.pts for frame in islice(container.decode(stream), 300) if frame.pts is not None)
    return stamps == sorted(stamps)


def _stated_end_s(name: str, container: Any, stream: Any, end_s: float) -> float | None:
    """The end of the video in seconds as the header of a Matroska or FLV file states it, None if it does not."""
    import av

    if not container.format.name.startswith(("matroska", "flv")):
        return None
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:  # no tag: use the duration of the file, unless another track, as of sound, lasts that long
        stated_s = (container.duration or 0) / 1e6
    if len(container.streams) == 1 or stated_s - end_s <= 0.5:
        return stated_s
    with open_stream(name) as (again, _), suppress(av.FFmpegError):
        for packet in again.demux():
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return stated_s if stated_s - end_s > 0.5 else None


def _against_decord(container: Any, stream: Any, packets: np.ndarray, demuxed: int, first: Any) -> str | None:
    """Why decord must not read this file; None if the table proves that decord counts the same frames."""
    latest_key = np.maximum.accumulate(np.where(packets["flagged"], packets["pts"], np.iinfo("i8").min))
    objections = {
        f"container {container.format.name}": not container.format.name.startswith(("mov,mp4", "matroska")),
        f"codec {stream.codec_context.name}": stream.codec_context.name != "h264",
        "several video streams": len(container.streams.video) != 1,
        "packets hidden by an edit list": packets["hidden"].any(),
        "empty packets or packets without a time stamp": demuxed != len(packets),
        "two packets with one time stamp": len(np.unique(packets["pts"])) != len(packets),
        "it does not start with a key frame": not packets["key"][0],
        "an open group of pictures": (packets["pts"] < latest_key).any()
        or (packets["flagged"] & ~packets["key"]).any(),
        "incomplete packets": packets["corrupt"].any(),
        "a mirrored image": sum(orientation(first)) % 2,  # an odd number of flips is not a rotation
        "a rotated image": any(orientation(first)) and not container.format.name.startswith("mov,mp4"),
    }
    return "; ".join(reason for reason, holds in objections.items() if holds) or None
