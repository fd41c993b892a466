"""Writes files atomically (complete or not at all), reads JSON, and hashes the content of files and folders."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` at the end of the block. It is removed if the block raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes a UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Writes JSON atomically. Keys are sorted, so equal values give equal bytes. Raises ValueError for NaN."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Reads JSON. Raises ValueError with the file's name if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line, atomically. Keys stay in their order. Raises ValueError for NaN."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def read_jsonl(path: Path | str, errors: list[str] | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, value) for each line of a JSON lines file. Skips empty lines.

    Lines end at "\\n" only, because U+2028, U+2029 and U+0085 may be part of a JSON string. A line that is not JSON in
    UTF-8 (or nested too deep) raises ValueError with file and line, or, with `errors`, adds this message there and is
    skipped.
    """
    with open(path, encoding="utf-8-sig", newline="\n", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                    line.encode()  # UnicodeEncodeError, a ValueError, where a byte was not UTF-8
                except (ValueError, RecursionError) as error:
                    message = f"{path}, line {number}: not JSON: {error}"
                    if errors is None:
                        raise ValueError(message) from None
                    errors.append(message)
                else:
                    yield number, value


def hash_path(path: Path | str) -> str:
    """Returns the sha256 of a file, or of a folder's sorted list of file names and hashes. Skips hidden files."""
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        listing = "".join(f"{p.relative_to(path).as_posix()} {hash_path(p)}\n" for p in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
