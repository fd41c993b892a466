"""Rows that cannot be read while a model trains or answers: left out, named in a file, and at most a stated share.

One damaged video must not end a run of hours, and many must not pass unseen. A row in the file is not tried again while
its medium is the same file, so a resumed run leaves out the same rows as the interrupted one.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from o3v import files
from o3v.text import printable

log = logging.getLogger(__name__)

MAX_SHARE = 0.05  # ours
RETRY_S = 1.0  # before the second and last try, for a file system that was away
READ_ERRORS = (ValueError, OSError)  # those of `video`, of a path that leaves its root, of a time beyond a video
Item = TypeVar("Item")
Made = TypeVar("Made")


class TooManyUnreadableError(RuntimeError):
    """More rows than allowed cannot be read. The message names the last one, the limit and the file of the others."""


class Quarantine:
    """The unreadable rows of a stage.

    Several processes may share the file: each adds whole lines.

    Args:
        path: JSON lines, one for each row that is left out; created empty.
        num_rows: number of rows that the stage reads.
        max_share: largest share of them that may be left out; one row always may.
        retry_s: seconds before a row is tried again.
    """

    def __init__(self, path: Path, num_rows: int, max_share: float = MAX_SHARE, retry_s: float = RETRY_S) -> None:
        self.path, self.limit, self.retry_s = path, max(1, math.floor(max_share * num_rows)), retry_s
        self.num_rows, self.max_share = num_rows, max_share
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.names = self._read()

    def refresh(self) -> None:
        """Reads again the rows that other processes have added to the file."""
        self.names |= self._read()

    def _read(self) -> set[str]:
        """The names of the rows in the file whose media have not changed since."""
        errors: list[str] = []  # a line that a killed process has not finished
        lines = [line for _, line in files.read_jsonl(self.path, errors)]
        return {line["row"] for line in lines if line["status"] == _status(Path(line["medium"]))}

    def read(self, name: str, medium: Path, make: Callable[[], Made]) -> Made | None:
        """The result of `make`, or None for a row that cannot be read, now or before.

        Args:
            name: of the row, the same in each process and run.
            medium: its file.
            make: reads the row; `READ_ERRORS` mean that it cannot be read.

        Raises TooManyUnreadableError if the row would be one too many.
        """
        if name in self.names:
            return None
        try:
            return make()
        except READ_ERRORS:
            time.sleep(self.retry_s)
        try:
            return make()
        except READ_ERRORS as error:
            self._add(name, medium, error)
        return None

    def _add(self, name: str, medium: Path, error: Exception) -> None:
        self.refresh()
        if name in self.names:
            return
        reason = printable(" ".join(str(error).split()))[:300]
        if len(self.names) >= self.limit:
            raise TooManyUnreadableError(
                f"row {name} cannot be read ({reason}), and {self.limit} of {self.num_rows} rows have been left out "
                f"already, the most that max_unreadable = {self.max_share:.0%} allows; they are listed in {self.path}. "
                "Mend the files or check the root with `o3v check-data`, then run again"
            )
        self.names.add(name)
        line = {"row": name, "medium": os.path.abspath(medium), "status": _status(medium), "reason": reason}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        log.warning("left out, %d of at most %d: %s: %s", len(self.names), self.limit, name, reason)

    def first(
        self,
        items: Iterable[Item],
        count: int,
        describe: Callable[[Item], tuple[str, Path]],
        make: Callable[[Item], Made],
    ) -> list[tuple[Item, Made]]:
        """The first `count` items that can be read, each with what was made of it.

        Args:
            items: rows or questions.
            count: how many are wanted; fewer if there are no more.
            describe: name and medium of an item.
            make: reads an item.
        """
        found: list[tuple[Item, Made]] = []
        for item in items:
            if len(found) >= count:
                break
            made = self.read(*describe(item), lambda item=item: make(item))
            found += [] if made is None else [(item, made)]
        return found


def read_row(
    rows: Sequence[Item],
    index: int,
    make: Callable[[Item], Made],
    describe: Callable[[Item], tuple[str, Path]],
    quarantine: Quarantine | None,
) -> Made:
    """What is made of a row, or of the next row that can be read, so that a batch keeps its size.

    Args:
        rows: all rows.
        index: position of the wanted row.
        make: reads a row.
        describe: name and medium of a row.
        quarantine: takes the rows that cannot be read; None raises their errors.

    Raises ValueError if none of the rows can be read.
    """
    if quarantine is None:
        return make(rows[index])
    following = (rows[(index + step) % len(rows)] for step in range(len(rows)))
    found = quarantine.first(following, 1, describe, make)
    if not found:
        raise ValueError(f"none of {len(rows)} rows can be read; see {quarantine.path}")
    return found[0][1]


def _status(path: Path) -> list[Any] | None:
    """Size and time of modification of a file, None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
