"""Folder of one notebook in a run, with content hashes of what the notebook reads and writes.

A notebook opens its folder `runs/<run_id>/<notebook>/` with `open_stage`, gets files of earlier notebooks with
`require`, and ends with `record`. The driver skips a notebook while the recorded hashes match.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from o3v.code_digest import code_digest
from o3v.files import read_json, write_json
from o3v.runner.fingerprint import base_digest
from o3v.runner.hashes import cache_of, cached_hash, read_media_folders, write_media_list
from o3v.runner.paths import display_path
from o3v.runner.shipped import DATA, TRAINED, shipped_path

log = logging.getLogger(__name__)

RESULTS = "results.json"
STAGE = "stage.json"
HEADLESS = "O3V_HEADLESS"  # `o3v run` sets this variable for its kernels


@dataclass
class Stage:
    """Part of a run that belongs to one notebook."""

    run_dir: Path
    name: str  # the notebook's file name without `.ipynb`
    inputs: set[str] = field(default_factory=set)
    shipped: bool = False  # files of earlier notebooks come from the shipped run (`shipped`)

    @property
    def folder(self) -> Path:
        """Folder that this notebook writes to."""
        return self.run_dir / self.name

    @property
    def origin(self) -> str:
        """One sentence that says where the files of earlier notebooks come from."""
        run = self.run_dir.name
        if not self.shipped:
            return f"The files of earlier notebooks are those of the run {run}."
        return (
            f"Model and rows are the shipped ones of {display_path(DATA)}/: the run {run} has no trained model. "
            "They are few; docs/tour/ shows a whole run."
        )

    def path(self, relative: str) -> Path:
        """Returns the path of a file that this notebook writes, and creates the folders above it."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def require(self, relative: str) -> Path:
        """Returns the path of a file or folder of an earlier notebook and records it as an input.

        `relative` is `<notebook>/<path>`. Raises FileNotFoundError, which names the notebook to run first.
        """
        path = shipped_path(relative) if self.shipped else self.run_dir / relative
        if not path.exists():
            notebook = f"notebooks/{relative.split('/')[0]}.ipynb"
            raise FileNotFoundError(f"{display_path(path)} does not exist: run {notebook} with the same run_dir first")
        self.inputs.add(str(path) if self.shipped else relative)
        return path

    def list_media(
        self, name: str, folders: Mapping[str, Path | str], media: Mapping[str, Iterable[str]]
    ) -> dict[str, Path]:
        """Writes `<name>.media.json`, by which later stages find the folders of media (`hashes.write_media_list`).

        The hash of the list covers the content of all listed files, so it is the one record of them.
        """
        return write_media_list(self.path(f"{name}.media.json"), folders, media)

    def use(self, *paths: Path) -> None:
        """Records files and folders outside of this notebook's folder as inputs: a change of them runs it again."""
        outside = [Path(os.path.abspath(path)) for path in paths]
        self.inputs |= {str(path) for path in outside if not path.is_relative_to(self.folder)}

    def require_media(self, relative: str) -> dict[str, Path]:
        """The folders of a list of media, by name. As `require`, with the content of the listed files as the input."""
        return read_media_folders(self.require(relative))

    def base_digest(self, base: str) -> str:
        """`fingerprint.base_digest` of a base model, from the cache of the runs."""
        return base_digest(base, cache_of(self.run_dir))

    def _hash(self, path: Path) -> str:
        return cached_hash(path, cache_of(self.run_dir))

    def work_folder(self, name: str, *facts: Any, code: Sequence[ModuleType]) -> Path:
        """Returns a folder for unfinished work (checkpoints, partial answers), and creates it.

        Its name contains a hash of `facts` (settings), of the inputs so far, and of the modules `code` with all that
        they import, so only the same work continues. Removes folders of this `name` with another hash, with a warning.
        """
        inputs = {relative: self._hash(self.run_dir / relative) for relative in sorted(self.inputs)}
        digest = hashlib.sha256(repr((facts, inputs, code_digest(*code))).encode()).hexdigest()[:12]
        folder = self.folder / f"{name}-{digest}"
        for other in self.folder.glob(f"{name}-*"):
            if other != folder:
                log.warning("removing unfinished work %s: settings, inputs or code have changed", display_path(other))
                shutil.rmtree(other)
        folder.mkdir(exist_ok=True)
        return folder

    def record(self, results: Mapping[str, Any], outputs: list[str]) -> None:
        """Writes `results.json`, then `stage.json` with the hashes of inputs and outputs.

        `outputs` are paths relative to this notebook's folder. Raises FileNotFoundError if one of them does not exist.
        """
        write_json(self.path(RESULTS), results)
        hashes = {
            "inputs": {name: self._hash(self.run_dir / name) for name in self.inputs},
            "outputs": {name: self._hash(self.folder / name) for name in (RESULTS, *outputs)},
        }
        write_json(self.path(STAGE), hashes)
        log.info("%s: recorded %d outputs", self.name, len(outputs) + 1)


def open_stage(run_dir: Path | str, name: str, may_be_shipped: bool = False) -> Stage:
    """Opens the folder of notebook `name` in a run and removes the record of an earlier execution.

    With `may_be_shipped`, a notebook that is opened by hand, in a run that has not finished 03, reads the shipped model
    and rows instead of the run's; `Stage.origin` says so. Under O3V_HEADLESS (`o3v run`) this never happens.
    """
    run_dir = Path(run_dir).resolve()
    by_hand = os.environ.get(HEADLESS, "0") in ("", "0")
    shipped = may_be_shipped and by_hand and not (run_dir / TRAINED / STAGE).exists()
    stage = Stage(run_dir, name, shipped=shipped)
    stage.folder.mkdir(parents=True, exist_ok=True)
    (stage.folder / STAGE).unlink(missing_ok=True)
    return stage


def read_stage(run_dir: Path, name: str) -> dict[str, dict[str, str]] | None:
    """Returns the hashes of `inputs` and `outputs` by path that a notebook recorded, or None without a valid record."""
    record = run_dir / name / STAGE
    try:
        stage = read_json(record) if record.exists() else None
        if stage is not None and not (isinstance(stage, dict) and set(map(type, stage.values())) <= {dict}):
            raise ValueError(f"{record} is not the record of a stage")
        return stage if stage is None else {part: stage.get(part, {}) for part in ("inputs", "outputs")}
    except ValueError as error:  # damaged from outside: records are written atomically
        log.warning("%s; treating %s as not run", error, name)
        return None


def unchanged(run_dir: Path, name: str) -> bool:
    """Returns True if the notebook has a record and all recorded inputs and outputs still have the same hashes."""
    stage = read_stage(run_dir, name)
    if stage is None:
        return False
    digests = {run_dir / path: digest for path, digest in stage["inputs"].items()}
    digests |= {run_dir / name / path: digest for path, digest in stage["outputs"].items()}
    return all(path.exists() and cached_hash(path, cache_of(run_dir)) == digest for path, digest in digests.items())
