"""Content hashes that are computed once: a cache beside the runs, and lists of media outside of a run.

A hash in the cache is valid while size, time of modification and time of change of its file are the same. A file that
was written in the last two seconds is not cached, because a further write might not change its times. Small files are
hashed each time, unless they are in a list of media. Files of the cache may be lost at any time.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from o3v.files import hash_file, hash_path, read_json, write_json

log = logging.getLogger(__name__)

MEDIA_LIST = ".media.json"  # ending of a file that lists media; its hash covers their content
CACHE = ".hashes.json"
MIN_BYTES = 1 << 20  # of a file that is cached, outside of lists
SETTLED_S = 2.0
THREADS = 4  # hashing does not hold Python's lock
LOGGED_BYTES = 10**9


def cache_of(run_dir: Path) -> Path:
    """The cache that the runs of a folder share."""
    return run_dir.parent / CACHE


def cached_hash(path: Path, cache: Path) -> str:
    """As `files.hash_path`, with large files from the cache. For a list of media, a hash of all that it lists.

    The place of listed folders is not part of the hash: data may be moved. A listed file that is missing changes it.
    Raises FileNotFoundError if `path` does not exist.
    """
    known = _Cache(cache)
    if path.name.endswith(MEDIA_LIST) and path.is_file():
        listed = read_json(path)
        media = [(name, file) for name, paths in sorted(listed["media"].items()) for file in paths]
        folders = {name: _run_dir(path) / folder for name, folder in listed["folders"].items()}
        hashes = known.hashes([folders[name] / file for name, file in media])
        lines = [[*pair, digest] for pair, digest in zip(media, hashes, strict=True)]
        digest = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    else:
        digest = hash_path(path, known.large_file)
    known.save()
    return digest


def write_media_list(
    path: Path, folders: Mapping[str, Path | str], media: Mapping[str, Iterable[str]]
) -> dict[str, Path]:
    """Lists the media that later stages read, and the folders that their paths start from. Returns the folders.

    Args:
        path: the list, `<run>/<stage>/<name>.media.json`.
        folders: folder by name; one inside the run is written relative to it, so that the run can be moved.
        media: paths relative to the folder of the same name.
    """
    run_dir = _run_dir(path)
    places = {name: Path(os.path.abspath(folder)) for name, folder in folders.items()}
    written = {n: f.relative_to(run_dir).as_posix() if f.is_relative_to(run_dir) else str(f) for n, f in places.items()}
    write_json(path, {"folders": written, "media": {name: sorted(set(paths)) for name, paths in media.items()}})
    return places


def read_media_folders(path: Path) -> dict[str, Path]:
    """The folders of a list of media, by name."""
    return {name: _run_dir(path) / folder for name, folder in read_json(path)["folders"].items()}


def _run_dir(media_list: Path) -> Path:
    return Path(os.path.abspath(media_list)).parents[1]


class _Cache:
    """Hashes by absolute path, each with the status of its file when it was hashed."""

    def __init__(self, path: Path) -> None:
        self.path, self.changed = path, False
        self.entries: dict[str, list[Any]] = {}
        with suppress(FileNotFoundError, ValueError):
            entries = read_json(path)
            self.entries = entries if isinstance(entries, dict) else {}

    def large_file(self, path: Path) -> str:
        """The hash of a file, from the cache if the file is large."""
        return hash_file(path) if path.stat().st_size < MIN_BYTES else self.hashes([path])[0]

    def hashes(self, paths: list[Path]) -> list[str]:
        """The hash of each file; "missing" for one that does not exist."""
        found = {path: self._known(path) for path in dict.fromkeys(paths)}
        unknown = [path for path, digest in found.items() if digest is None]
        size = sum(path.stat().st_size for path in unknown)
        if size > LOGGED_BYTES:
            log.info("hashing %d files, %.1f GB; this happens once", len(unknown), size / 1e9)
        with ThreadPoolExecutor(THREADS) as pool:
            found |= zip(unknown, pool.map(self._hash, unknown), strict=True)
        return [found[path] or "missing" for path in paths]

    def _known(self, path: Path) -> str | None:
        """The cached hash; None if it must be computed."""
        try:
            status = _status(path)
        except OSError:
            return "missing"
        *facts, digest = self.entries.get(os.path.abspath(path), [None])
        return digest if facts == status else None

    def _hash(self, path: Path) -> str:
        status, digest = _status(path), hash_file(path)
        if time.time_ns() - max(status[1:]) > SETTLED_S * 1e9 and _status(path) == status:
            self.entries[os.path.abspath(path)] = [*status, digest]
            self.changed = True
        return digest

    def save(self) -> None:
        """Writes the cache if it has changed. A folder that cannot be written to has none."""
        if self.changed:
            with suppress(OSError):
                write_json(self.path, self.entries)


def _status(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
