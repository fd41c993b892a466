"""The files of cells: one JSON for each cell and seed, and the file that holds all of them.

`OUT/cells/NAME-SEED.json` exists from the moment when the cell starts, with `status` "started", "failed" or "finished".
`OUT/ablations.json` is made from them and is what is committed. Cells of another machine are added by copying their
files. This module does not know models.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from o3v import files

CELL_FOLDER, ASSEMBLED = "cells", "ablations.json"
STATUSES = ("started", "failed", "finished")
REQUIRED = ("cell", "seed", "status", "settings", "inputs")

Record = dict[str, Any]


def cell_path(out: Path, name: str, seed: int) -> Path:
    """The file of a cell."""
    return out / CELL_FOLDER / f"{name}-{seed}.json"


def read_cell(out: Path, name: str, seed: int) -> Record | None:
    """The record of a cell, None if it was never started. Raises ValueError for a damaged file."""
    path = cell_path(out, name, seed)
    return checked(files.read_json(path), str(path)) if path.exists() else None


def is_finished(out: Path, name: str, seed: int) -> bool:
    """Whether a cell has its scores."""
    record = read_cell(out, name, seed)
    return record is not None and record["status"] == "finished"


def checked(record: Any, place: str) -> Record:
    """The record itself. Raises ValueError, which names the place and the field, if it is not that of a cell."""
    if not isinstance(record, dict):
        raise ValueError(f"{place} is not the record of a cell; remove the file, and the cell runs again")
    if missing := [name for name in REQUIRED if name not in record]:
        raise ValueError(f"{place} lacks {', '.join(missing)}; remove the file, and the cell runs again")
    if record["status"] not in STATUSES:
        raise ValueError(f"{place}: status {record['status']!r:.40} is none of {', '.join(STATUSES)}")
    if record["status"] == "finished" and not isinstance(record.get("scores"), dict):
        raise ValueError(f"{place} is finished and has no scores; remove the file, and the cell runs again")
    return record


def write_cell(out: Path, record: Mapping[str, Any]) -> None:
    """Writes the record of a cell, on one line for each of its fields."""
    files.write_text(cell_path(out, record["cell"], record["seed"]), _lines(record) + "\n")


def _lines(record: Mapping[str, Any]) -> str:
    fields = (f"{json.dumps(key)}: {_compact(record[key])}" for key in sorted(record))
    return "{\n" + ",\n".join(fields) + "\n}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def read_folder(out: Path) -> list[Record]:
    """All cells of a folder, by name and seed. Raises ValueError for a damaged file."""
    paths = sorted((out / CELL_FOLDER).glob("[!.]*.json"))
    records = [checked(files.read_json(path), str(path)) for path in paths]
    return sorted(records, key=lambda record: (record["cell"], record["seed"]))


def assemble(out: Path) -> Path:
    """Writes all cells of a folder to one file, a line for each cell, and returns its path."""
    lines = ",\n".join(_compact(record) for record in read_folder(out))
    files.write_text(out / ASSEMBLED, f"[\n{lines}\n]\n")
    return out / ASSEMBLED


def read_assembled(path: Path | str) -> list[Record]:
    """The cells of an assembled file, started and failed ones too.

    Raises ValueError, which names file and entry, for anything else, and for two records of a cell and seed.
    """
    records = files.read_json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path} is not a list of cells; `o3v ablate` writes such a file")
    checked_records = [checked(record, f"{path}, entry {number}") for number, record in enumerate(records, 1)]
    names = [(record["cell"], record["seed"]) for record in checked_records]
    if twice := _repeated(names):
        raise ValueError(f"{path} has two records of cell {twice[0]}, seed {twice[1]}; remove one")
    return checked_records


def _repeated(names: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    seen: set[tuple[str, int]] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def plain(value: Any) -> Any:
    """The value as it is read back from JSON: tuples become lists, keys become texts."""
    return json.loads(json.dumps(value, allow_nan=False))
