"""Writes files atomically (complete or not at all), reads JSON, locks folders, hashes the content of files and folders.

Outputs follow links, keep the mode of the file that they replace, and never replace an input, a device or a pipe.
Inputs are regular files: opening a pipe could wait forever.
"""

import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PathLike = Path | str
UNFINISHED = ".o3v-"  # beginning of the names of unfinished files
MAX_LINE_CHARS = 1 << 22  # of a row; the rows of the public files have some 10,000
STALE_S = 3_600.0  # age of an unfinished file that nobody writes any more


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` at the end of the block. It is removed if the block raises.

    Follows links. Raises FileExistsError if `path` is a device, pipe or folder.
    """
    target = Path(os.path.realpath(path))
    mode = stat.S_IMODE(regular(target).st_mode) if os.path.lexists(target) else None
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{UNFINISHED}{secrets.token_hex(6)}{target.suffix[:20]}")
    created = 0o666 if mode is None else mode & 0o666 | 0o600  # the umask applies too
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, created))
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def regular(path: PathLike) -> os.stat_result:
    """The status of a regular file. Raises FileNotFoundError, and FileExistsError for a folder, device or pipe."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise FileExistsError(f"{path} is {kind}; give a regular file")
    return status


def open_text(path: PathLike, encoding: str = "utf-8", **options: Any) -> IO[str]:
    """Opens a regular file for reading. Raises FileExistsError for a folder, device or pipe."""
    regular(path)
    return open(path, encoding=encoding, **options)


def refuse_overwriting(output: PathLike, *inputs: PathLike) -> None:
    """Raises FileExistsError if `output` is an input, by any name or link, or if one of them lies in the other.

    Also for an output that is a device or pipe.
    """
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_dir():
        regular(target)
    for given in inputs:
        source = Path(os.path.realpath(given))
        same = target == source or (target.exists() and source.exists() and target.samefile(source))
        if same or target.is_relative_to(source) or source.is_relative_to(target):
            raise FileExistsError(f"the output {output} would overwrite the input {given}; choose another place")


def free_path(path: Path) -> Path:
    """The path itself if it does not exist, else with the first free number: `a.html`, `a-2.html`, `a-3.html`."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


@contextmanager
def as_private_as(*inputs: PathLike) -> Iterator[None]:
    """In this block, new files are readable by no more people than the inputs that exist. Not for use in threads."""
    modes = [os.stat(path).st_mode for path in inputs if os.path.isfile(path)]
    umask = os.umask(0o077)
    os.umask(umask | sum({bit for mode in modes for bit in (0o040, 0o020, 0o004, 0o002) if not mode & bit}))
    try:
        yield
    finally:
        os.umask(umask)


@contextmanager
def locked(folder: Path, wait_s: float, user: str) -> Iterator[int]:
    """Holds the lock of a folder, creates it and removes unfinished files in it. Yields the lock's file descriptor.

    Raises BlockingIOError after `wait_s` seconds; `user` names the command that may hold the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (folder / ".lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BlockingIOError(f"{folder} is used by another `{user}`; wait until it has ended") from None
                time.sleep(0.2)
        for leftover in folder.rglob(f"{UNFINISHED}*"):  # of a killed process
            leftover.unlink(missing_ok=True)
        yield lock.fileno()


def sweep(folder: Path) -> None:
    """Removes unfinished files in a folder (not below it) that were not written to for an hour."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):  # another process has removed it
            if time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()


def write_text(path: PathLike, text: str) -> None:
    """Writes a UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, value: Any) -> None:
    """Writes JSON atomically. Keys are sorted, so equal values give equal bytes. Raises ValueError for NaN."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Reads JSON. Raises ValueError with the file's name if it is not JSON."""
    try:
        with open_text(path) as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def write_jsonl(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line, atomically. Keys stay in their order. Raises ValueError for NaN."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def read_lines(file: IO[str]) -> Iterator[str | None]:
    """Yields each line of a file, or None for a line of more than MAX_LINE_CHARS, which is never held in memory."""
    while line := file.readline(MAX_LINE_CHARS):
        if len(line) < MAX_LINE_CHARS or line.endswith("\n"):
            yield line
            continue
        while line and not line.endswith("\n"):
            line = file.readline(MAX_LINE_CHARS)
        yield None


def read_jsonl(path: PathLike, errors: list[str] | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, value) for each line of a JSON lines file. Skips empty lines.

    Lines end at "\\n" only, because U+2028, U+2029 and U+0085 may be part of a JSON string. A line that is not JSON in
    UTF-8 (nested too deep, too long) raises ValueError with file and line, or, with `errors`, adds this message there
    and is skipped.
    """
    with open_text(path, "utf-8-sig", newline="\n", errors="surrogateescape") as file:
        for number, line in enumerate(read_lines(file), 1):
            if line is not None and not line.strip():
                continue
            try:
                if line is None:
                    raise ValueError(f"it has more than {MAX_LINE_CHARS:,} characters")
                value = json.loads(line)
                line.encode()  # UnicodeEncodeError, a ValueError, where a byte was not UTF-8
            except (ValueError, RecursionError) as error:
                message = f"{path}, line {number}: not JSON: {error}"
                if errors is None:
                    raise ValueError(message) from None
                errors.append(message)
            else:
                yield number, value


def hash_path(path: PathLike, hash_one: Callable[[Path], str] | None = None) -> str:
    """Returns the sha256 of a file, or of a folder's sorted list of file names and hashes. Skips hidden files.

    `hash_one` hashes each file, default `hash_file`.
    """
    path, hash_one = Path(path), hash_one or hash_file
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        listing = "".join(f"{p.relative_to(path).as_posix()} {hash_one(p)}\n" for p in files)
        return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
    return hash_one(path)


def hash_file(path: PathLike) -> str:
    """Returns the sha256 of a file. Raises FileNotFoundError, and FileExistsError for a device or pipe."""
    regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
