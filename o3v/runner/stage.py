"""The run folder: what a notebook reads and writes, with content hashes.

`runs/<run_id>/<notebook>/` belongs to one notebook. A notebook opens its folder with `open_stage`, asks for
the files of earlier notebooks with `require`, and ends with `record`, which leaves two files: `results.json` (its
findings) and `stage.json` (hashes of everything it read and wrote). The driver skips a notebook while those
hashes still hold. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from o3v.code_digest import code_digest
from o3v.files import hash_path, read_json, write_json

log = logging.getLogger(__name__)

RESULTS = "results.json"
STAGE = "stage.json"


class MissingInput(FileNotFoundError):
    """A notebook was started before the one that makes its input."""


@dataclass
class Stage:
    """One notebook's part of a run. `name` is the notebook's file name without its ending."""

    run_dir: Path
    name: str
    inputs: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.run_dir / self.name

    def path(self, relative: str) -> Path:
        """Where this notebook writes a file; the folders above it exist."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def require(self, relative: str) -> Path:
        """A file or folder that an earlier notebook made, as `<notebook>/<path>`, noted as an input.

        Raises MissingInput naming the notebook to run first.
        """
        path = self.run_dir / relative
        if not path.exists():
            maker = relative.split("/")[0]
            raise MissingInput(f"{path} does not exist: run notebooks/{maker}.ipynb with the same run_dir first")
        if relative not in self.inputs:
            self.inputs.append(relative)
        return path

    def work_folder(self, name: str, *facts: Any, code: Sequence[ModuleType]) -> Path:
        """A folder for unfinished work (checkpoints, partial answers) that only the same work continues.

        Its name holds a hash of `facts`, of the inputs so far and of the source of the modules `code` with all that
        they import (`code_digest`). Unfinished work of another hash is removed, with a warning.
        """
        inputs = {relative: hash_path(self.run_dir / relative) for relative in sorted(self.inputs)}
        digest = hashlib.sha256(repr((facts, inputs, code_digest(*code))).encode()).hexdigest()[:12]
        folder = self.folder / f"{name}-{digest}"
        for other in self.folder.glob(f"{name}-*"):
            if other != folder:
                log.warning("removed unfinished work %s: settings, inputs or code have changed", other.name)
                shutil.rmtree(other)
        folder.mkdir(exist_ok=True)
        return folder

    def record(self, results: Mapping[str, Any], outputs: list[str]) -> None:
        """Writes `results.json`, then `stage.json` with the hashes of inputs and outputs.

        `outputs` are paths in this notebook's folder; FileNotFoundError when one was not written.
        """
        write_json(self.path(RESULTS), results)
        listed = [RESULTS, *outputs]
        stage = {
            "inputs": {name: hash_path(self.run_dir / name) for name in sorted(self.inputs)},
            "outputs": {name: hash_path(self.folder / name) for name in sorted(listed)},
        }
        write_json(self.path(STAGE), stage)
        log.info("%s: recorded %d outputs", self.name, len(listed))


def open_stage(run_dir: Path | str, name: str) -> Stage:
    """Opens the folder of notebook `name` in a run; what an earlier run recorded there no longer counts."""
    stage = Stage(Path(run_dir).resolve(), name)
    stage.folder.mkdir(parents=True, exist_ok=True)
    (stage.folder / STAGE).unlink(missing_ok=True)
    return stage


def read_stage(run_dir: Path, name: str) -> dict[str, dict[str, str]] | None:
    """What a notebook recorded in this run: hashes of its `inputs` and `outputs` by path; None before it has."""
    record = run_dir / name / STAGE
    try:
        return read_json(record) if record.exists() else None
    except ValueError as error:  # not ours: a record is written whole
        log.warning("%s; %s counts as not run", error, name)
        return None


def unchanged(run_dir: Path, name: str) -> bool:
    """True when a notebook recorded itself in this run and all that it read and wrote still has those hashes."""
    stage = read_stage(run_dir, name)
    if stage is None:
        return False
    paths = {run_dir / p: h for p, h in stage["inputs"].items()}
    paths |= {run_dir / name / p: h for p, h in stage["outputs"].items()}
    return all(path.exists() and hash_path(path) == digest for path, digest in paths.items())
