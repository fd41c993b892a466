"""A cache of sampled frames on disk, so that training decodes each video once.

One file an entry: the frames of one video for one sampling, as JPEG of quality 95 without chroma subsampling, at the
model's size, with a checksum. The key is the content of the video and the sampling, so a video that changes, or other
frame settings, are other entries. Files come into being under another name, and a process that decodes holds the lock
of its shard: readers never see half an entry, two processes do not decode the same video, and the lock of a killed
process is free. A damaged entry is made again. Frames come out of the codec also when they are not stored, so pixels do
not depend on the state of the cache. When the cache is full or the disk is, further videos are decoded at each use.

JPEG changes pixels: it is off unless a folder is given. This module does not know models.
"""

import json
import logging
import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from o3v import files
from o3v.processes import start_pool
from o3v.video.frames import Frames, sample_frames
from o3v.video.opening import PathLike, VideoError

log = logging.getLogger(__name__)

MAGIC, DIGEST_BYTES = b"o3v frames 1\n", 16
QUALITY = 95  # of JPEG; with 4:4:4 chroma
LOCK_WAIT_S = 120.0  # for another process that decodes into the same shard; then decode without storing
READ_AT_ONCE = 1 << 22  # bytes


class Request(NamedTuple):
    """A video with the arguments of `frames.sample_frames`."""

    path: str
    n: int
    max_pixels: int
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(eq=False)
class FrameCache:
    """Sampled frames in `folder`, at most `max_bytes` in all. Several processes and machines may share the folder.

    `counts` says what this process did: hits, decoded, stored, full (no room in the cache), failed (a write error),
    damaged (entries made again).
    """

    folder: Path
    max_bytes: int = 200 * 10**9
    shards: int = 256  # folders; a power of 16
    counts: Counter[str] = field(default_factory=Counter)

    def sample(self, path: PathLike, n: int, max_pixels: int, **options: Any) -> Frames:
        """As `frames.sample_frames`, whose arguments it takes, from the cache if it has the frames.

        Raises the errors of `sample_frames`; errors of the cache's own files only cost time.
        """
        request = Request(os.fsdecode(path), n, max_pixels, tuple(sorted(options.items())))
        try:
            entry = self.entry_path(request)
        except (OSError, ValueError):
            return sample_frames(path, n, max_pixels, **options)  # which says what is wrong with the file
        if (frames := self._read(entry)) is not None:
            self.counts["hits"] += 1
            return frames
        with self._locked_shard(entry.parent) as locked:
            if locked and (frames := self._read(entry)) is not None:  # another process has made it meanwhile
                self.counts["hits"] += 1
                return frames
            decoded = sample_frames(request.path, n, max_pixels, **options)
            self.counts["decoded"] += 1
            data = pack(decoded)
            if locked:
                self._write(entry, data)
        return unpack(data)

    def entry_path(self, request: Request) -> Path:
        """Where the entry of a request is, whether it exists or not. Raises OSError for a video that does not."""
        asked = repr((content_digest(request.path), request.n, request.max_pixels, _plain(request.options), QUALITY))
        key = blake2b(asked.encode(), digest_size=DIGEST_BYTES).hexdigest()
        return self.folder / f"{int(key[:8], 16) % self.shards:03x}" / f"{key}.frames"

    @contextmanager
    def fill_ahead(self, requests: Sequence[Request], workers: int) -> Iterator[list[Future]]:
        """Decodes in `workers` processes, in the order of the requests, while the block runs; its end stops them.

        A future's result is None, or the reason why a video cannot be read.
        """
        settings = (str(self.folder), self.max_bytes, self.shards)
        pool = start_pool(workers, nice=5)
        try:
            yield [pool.submit(_fill_one, settings, request) for request in requests]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def fill(self, requests: Sequence[Request], workers: int) -> list[str]:
        """Decodes what is missing, and waits for it. Returns the reasons of videos that cannot be read."""
        with self.fill_ahead(requests, workers) as futures:
            return [reason for reason in (future.result() for future in futures) if reason]

    def _read(self, entry: Path) -> Frames | None:
        try:
            data = entry.read_bytes()
        except OSError:
            return None
        try:
            return unpack(data)
        except ValueError:
            self.counts["damaged"] += 1
            log.warning("%s is damaged; its video is decoded again", entry)
            with suppress(OSError):
                entry.unlink()
            return None

    @contextmanager
    def _locked_shard(self, shard: Path) -> Iterator[bool]:
        """Holds the lock of a shard. Yields False if that fails (a full or read-only disk, a process that hangs)."""
        try:
            lock = files.locked(shard, LOCK_WAIT_S, "frame cache")
            lock.__enter__()
        except OSError as error:
            self._warn(error)
            yield False
            return
        try:
            yield True
        finally:
            lock.__exit__(None, None, None)

    def _write(self, entry: Path, data: bytes) -> None:
        """Stores an entry if there is room in its shard; the caller holds the lock, so the bound is exact."""
        try:
            used = sum(found.stat().st_size for found in os.scandir(entry.parent))
            if used + len(data) > self.max_bytes // self.shards:
                self.counts["full"] += 1
                return
            with files.atomic_path(entry) as unfinished:
                unfinished.write_bytes(data)
            self.counts["stored"] += 1
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self.counts["failed"]:
            log.warning("the frame cache %s cannot be written (%s); videos are decoded at each use", self.folder, error)
        self.counts["failed"] += 1


def _fill_one(settings: tuple[str, int, int], request: Request) -> str | None:
    folder, max_bytes, shards = settings
    try:
        FrameCache(Path(folder), max_bytes, shards).sample(*request[:3], **dict(request.options))
    except (VideoError, ValueError) as error:
        return str(error)
    return None


def _plain(options: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    """Options with sequences as lists of numbers, so that equal options have equal texts."""
    return [(key, np.asarray(v).tolist() if isinstance(v, list | tuple | np.ndarray) else v) for key, v in options]


def content_digest(path: PathLike) -> str:
    """A hash of a video's bytes, remembered in this process while its size and time of change stay the same."""
    status = files.regular(os.fsdecode(path))
    return _digest(os.path.realpath(path), status.st_size, status.st_mtime_ns)


@lru_cache(1 << 17)
def _digest(path: str, size: int, changed_ns: int) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb") as file:
        while block := file.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def pack(frames: Frames) -> bytes:
    """The bytes of an entry: magic, length of the header, header (JSON), images (JPEG), checksum."""
    from PIL import Image

    images = []
    for image in frames.images:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        images.append(buffer.getvalue())
    header = {
        "times_s": frames.times_s.tolist(),
        "indices": frames.indices.tolist(),
        "source_size_wh": list(frames.source_size_wh),
        "duration_s": frames.duration_s,
        "backend": frames.backend,
        "lengths": [len(image) for image in images],
    }
    text = json.dumps(header).encode()
    data = b"".join([MAGIC, struct.pack("<I", len(text)), text, *images])
    return data + blake2b(data, digest_size=DIGEST_BYTES).digest()


def unpack(data: bytes) -> Frames:
    """The frames of an entry. Raises ValueError if a byte of it is missing or wrong."""
    from PIL import Image

    body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if not body.startswith(MAGIC) or blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise ValueError("not a whole entry of the frame cache")
    start = len(MAGIC) + 4
    end = start + struct.unpack("<I", body[len(MAGIC) : start])[0]
    header, images = json.loads(body[start:end]), []
    for length in header.pop("lengths"):
        with Image.open(BytesIO(body[end : end + length]), formats=["JPEG"]) as image:
            images.append(np.asarray(image))
        end += length
    return Frames(
        images=np.stack(images),
        times_s=np.array(header["times_s"], np.float64),
        indices=np.array(header["indices"], np.int64),
        source_size_wh=tuple(header["source_size_wh"]),
        duration_s=header["duration_s"],
        backend=header["backend"],
    )
