"""Clips whose frames show their own number, so that a test notices a wrong frame, and ways to damage them."""

from __future__ import annotations

import multiprocessing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from o3v.video import sample_frames

WIDTH, HEIGHT = 168, 84  # multiples of 28: reading with MAX_PIXELS does not resize
MAX_PIXELS = WIDTH * HEIGHT
BACKENDS = ("auto", "pyav")


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """An image with its number as ten blocks in the upper half, white for a 1 bit, above a moving texture."""
    y, x = np.mgrid[:height, :width]
    image = np.repeat((128 + 60 * np.sin((x + 3 * number) / 9) * np.cos(y / 7))[..., None], 3, axis=2)
    for bit in range(10):
        image[: height // 2, bit * width // 10 : (bit + 1) * width // 10] = 235 if number >> bit & 1 else 20
    return image.astype(np.uint8)


def read_numbers(images: np.ndarray) -> list[int]:
    """The numbers that images of `numbered_image` show."""
    height, width = images.shape[1:3]
    numbers = []
    for image in images:
        blocks = [image[height // 8 : height * 3 // 8, int((bit + 0.5) * width / 10)].mean() for bit in range(10)]
        numbers.append(sum(1 << bit for bit, brightness in enumerate(blocks) if brightness > 128))
    return numbers


def encode(path, n=40, codec="libx264", *, pts=None, base=None, gop=10, bframes=2, rotate=None, size=None, **options):
    """Writes `n` numbered frames at 10 fps, or at `pts` in units of `base`. `mux_` options go to the container."""
    width, height = size or (WIDTH, HEIGHT)
    muxing = {name[4:]: options.pop(name) for name in list(options) if name.startswith("mux_")}
    base = base or Fraction(1, 10)
    with av.open(str(path), "w", options=muxing) as out:
        stream = out.add_stream(codec, rate=10, options={name.replace("_", "-"): v for name, v in options.items()})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.thread_count, context.time_base = gop, 1, base
        if bframes is not None:
            context.max_b_frames = bframes
        if rotate:
            stream.set_display_rotation(**rotate)
        for k in range(n):
            image = numbered_image(k, width, height)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (pts[k] if pts else k), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def copy_from(source: Path, target: Path, shift_frames: int, first_packet: int) -> Path:
    """Copies a stream from a packet on, with time 0 at frame `shift_frames`, as a lossless trimmer does."""
    with av.open(str(source)) as original, av.open(str(target), "w") as out:
        old = original.streams.video[0]
        new = out.add_stream_from_template(old)
        tick = round(Fraction(1, 10) / old.time_base)
        for packet in [p for p in original.demux(old) if p.size][first_packet:]:
            packet.pts -= shift_frames * tick
            packet.dts -= shift_frames * tick
            packet.stream = new
            out.mux(packet)
    return target


def packet_spans(path: Path) -> list[tuple[int, int]]:
    """The byte range of each video packet: first byte and first byte after it."""
    with av.open(str(path)) as container:
        return [(p.pos, p.pos + p.size) for p in container.demux(video=0) if p.size]


def damage_packet(path: Path, packet: int, seed: int = 0) -> Path:
    """Copies a file with three quarters of a packet overwritten with noise."""
    data = bytearray(path.read_bytes())
    begin, end = packet_spans(path)[packet]
    begin += (end - begin) // 4
    data[begin:end] = np.random.default_rng(seed).bytes(end - begin)
    damaged = path.with_name(f"damaged_{path.name}")
    damaged.write_bytes(data)
    return damaged


def in_child(function, *args, **kwargs):
    """The result or error of a call in a separate process, which is killed if it hangs."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply_async(function, args, kwargs).get(timeout=20)


def all_numbers(path, backend="auto"):
    """The numbers of all frames of a clip."""
    return read_numbers(sample_frames(path, 10_000, MAX_PIXELS, backend=backend).images)
