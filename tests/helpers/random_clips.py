"""Random video files whose frames show their own number: codec, container, GOP, B-frames, rate, offsets, trims."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from helpers.clips import HEIGHT, MAX_PIXELS, WIDTH, encode, read_numbers
from o3v.video import VideoError, frames_at, probe

CONTAINERS = {
    "libx264": ("mp4", "mkv", "mov", "ts", "avi"),
    "libx265": ("mp4", "mkv", "ts"),
    "libvpx-vp9": ("webm", "mkv", "mp4"),
    "libsvtav1": ("mp4", "mkv", "webm"),
    "mpeg4": ("mp4", "avi", "mkv"),
    "mpeg2video": ("ts", "mkv"),
}
WEIGHTS = {"libx264": 10, "libx265": 3, "libvpx-vp9": 3, "libsvtav1": 1, "mpeg4": 2, "mpeg2video": 2}


@dataclass(frozen=True)
class Clip:
    """A file, the time of each numbered frame in seconds before any trim, and whether it has been trimmed."""

    path: Path
    codec: str
    times_s: tuple[float, ...]
    trimmed: bool
    settings: str


def draw_clip(rng: np.random.Generator, folder: Path) -> Clip:
    """Writes a random file of 1 to 90 frames."""
    names = list(WEIGHTS)
    codec = str(rng.choice(names, p=np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())))
    container, n = str(rng.choice(CONTAINERS[codec])), int(rng.integers(1, 91))
    gop, bframes = int(rng.integers(1, 41)), int(rng.integers(0, 4))
    bframes = 0 if codec not in ("libx264", "libx265", "mpeg4", "mpeg2video") or container == "avi" else bframes
    options = _options(codec, rng)
    variable = container in ("mp4", "mkv", "mov", "webm") and codec != "libsvtav1" and rng.random() < 0.4
    steps = rng.integers(1, 8, n) if variable else np.full(n, 3)
    start = int(rng.integers(0, 40)) if rng.random() < 0.3 and container in ("mp4", "mkv", "mov", "ts") else 0
    pts = (start + np.cumsum(steps) - steps[0]).tolist() if container != "avi" else list(range(n))
    base = Fraction(1, 30) if container != "avi" else Fraction(1, 10)
    path = folder / f"clip.{container}"
    encode(path, n, codec, pts=pts, base=base, gop=gop, bframes=bframes, **options)
    trimmed = container in ("mp4", "mkv", "mov") and codec != "libsvtav1" and n > 12 and rng.random() < 0.3
    if trimmed:
        path = _trim(path, folder / f"trimmed.{container}", rng)
    times_s = tuple(float(p * base) for p in pts)
    return Clip(
        path, codec, times_s, trimmed, f"{codec} {container} n={n} gop={gop} bf={bframes} {options} vfr={variable}"
    )


def _options(codec: str, rng: np.random.Generator) -> dict[str, str]:
    if codec == "libx264":
        params = (
            f"open-gop={rng.integers(2)}:b-pyramid={rng.choice(['none', 'strict', 'normal'])}:ref={rng.integers(1, 6)}"
        )
        if rng.random() < 0.1:
            params += ":intra-refresh=1"
        return {"preset": str(rng.choice(["ultrafast", "veryfast", "medium"])), "x264_params": params}
    if codec == "libx265":
        return {"preset": "ultrafast", "x265_params": f"log-level=none:pools=1:open-gop={rng.integers(2)}"}
    if codec == "libvpx-vp9":
        return {"deadline": "realtime", "cpu_used": "8", "auto_alt_ref": str(rng.integers(2)), "lag_in_frames": "12"}
    if codec == "libsvtav1":
        return {"preset": "8", "crf": "12", "svtav1_params": f"lp=1:irefresh-type={rng.integers(1, 3)}"}
    return {"q:v": "3"}


def _trim(source: Path, target: Path, rng: np.random.Generator) -> Path:
    """Copies the packets from a random one on; the first frames may depend on packets that are gone."""
    with av.open(str(source)) as original, av.open(str(target), "w") as out:
        old = original.streams.video[0]
        new = out.add_stream_from_template(old)
        packets = [p for p in original.demux(old) if p.size]
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe and 0 < i < len(packets) - 2]
        anywhere = int(rng.integers(1, len(packets) // 2))
        first = int(rng.choice(keys)) if keys and rng.random() < 0.8 else anywhere
        shift = packets[first].pts if rng.random() < 0.5 else 0
        for packet in packets[first:]:
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = new
            out.mux(packet)
    return target


def check_clip(clip: Clip, rng: np.random.Generator) -> str:
    """Reads random frames: "right", "wrong: …" with what was read, or "refused: …" with the VideoError.

    A frame is right if its time minus that of its file's first shown frame is that of its number.
    """
    try:
        info = probe(clip.path)
        count = int(rng.integers(1, min(len(info.pts), 16) + 1))
        indices = np.sort(rng.choice(len(info.pts), count, replace=bool(rng.random() < 0.2)))
        frames = frames_at(clip.path, info.times_s[indices], MAX_PIXELS, backend=str(rng.choice(["auto", "pyav"])))
    except VideoError as error:
        return f"refused: {error.reason}"
    numbers = read_numbers(frames.images)
    if frames.images.shape[1:3] != (HEIGHT, WIDTH) or max(numbers) >= len(clip.times_s):
        return f"wrong: {numbers}"
    offsets = [clip.times_s[number] - time_s for number, time_s in zip(numbers, frames.times_s, strict=True)]
    return "right" if max(offsets) - min(offsets) < 0.02 else f"wrong: frames {indices.tolist()} show {numbers}"


def damage_clip(clip: Clip, rng: np.random.Generator) -> Clip:
    """Cuts the file, flips some of its bytes, or drops a stretch of them."""
    data = bytearray(clip.path.read_bytes())
    kind = rng.integers(3)
    at = int(rng.integers(len(data) // 10, len(data)))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        for position in rng.integers(len(data) // 10, len(data), int(rng.integers(1, 6))):
            data[position] ^= int(rng.integers(1, 256))
    else:
        del data[at : at + int(rng.integers(1, 2_000))]
    path = clip.path.with_name(f"damaged{clip.path.suffix}")
    path.write_bytes(data)
    return replace(clip, path=path)
