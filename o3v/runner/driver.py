"""Runs the numbered notebooks in order into `runs/<run_id>/`.

A stage is the part of a run that belongs to one notebook. It is skipped if its notebook, parameters, code and files
have not changed since it ran. An interrupted stage continues from the checkpoints in its folder, if nothing that it
depends on has changed. Any other stage starts with an empty folder. The driver may be killed at any moment, because
all files that it relies on are written atomically.
"""

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import o3v
from o3v.config import load_profile
from o3v.files import hash_path, locked, write_json
from o3v.runner.execution import Execution, execute
from o3v.runner.fingerprint import base_digest, git_state, machine, package_versions, stage_key
from o3v.runner.hashes import cache_of
from o3v.runner.notebook import Notebook
from o3v.runner.paths import display_path, path_from
from o3v.runner.plan import MANIFEST, Plan, read_manifest
from o3v.runner.stage import STAGE, read_stage, unchanged

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10.0  # seconds; after its driver was killed, a kernel ends at once (Linux) or within two seconds
# What a stage starts from, and the reason to start again if it differs.
CHANGES = {
    "key": "the notebook, its parameters, the code or the packages have changed",
    "earlier": "results of earlier notebooks have changed",
}


def run(plan: Plan, timeout_s: int | None = None) -> str | None:
    """Runs the selected notebooks of a plan up to the first failure. Returns the error as one line, or None.

    `timeout_s` limits each cell, in seconds. Raises BlockingIOError if another process uses the same run.
    """
    with locked(plan.run_dir, LOCK_WAIT_S, "o3v run") as lock_fd:  # free when all kernels have ended too
        manifest = _open_manifest(plan)
        errors = (_run_stage(plan, notebook, manifest, timeout_s, lock_fd) for notebook in plan.selected)
        return next(filter(None, errors), None)


def _open_manifest(plan: Plan) -> dict[str, Any]:
    """Returns the manifest with the stages of earlier calls and the facts of this call, and writes it."""
    manifest = {
        "run_id": plan.run_dir.name,
        "profile": plan.profile,
        "seed": plan.seed,
        "overrides": plan.overrides,
        "git": git_state(plan.notebooks[0].path.parent),
        "o3v": o3v.__version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
        "stages": read_manifest(plan.run_dir)["stages"] if (plan.run_dir / MANIFEST).exists() else {},
    }
    write_json(plan.run_dir / MANIFEST, manifest)
    return manifest


def _run_stage(
    plan: Plan, notebook: Notebook, manifest: dict[str, Any], timeout_s: int | None, lock_fd: int
) -> str | None:
    """Runs or skips one notebook and updates the manifest. Returns an error message if the notebook failed."""
    name, parameters, stages = notebook.name, plan.parameters(notebook), manifest["stages"]
    # a notebook without this parameter starts from a checkpoint, which is one of its input files
    base = (parameters.get("base") or load_profile(plan.profile).base) if "base" in notebook.parameters else ""
    key = stage_key(notebook.cells, parameters, base_digest(base, cache_of(plan.run_dir)) if base else None)
    if _is_done(plan.run_dir, name, key, stages.get(name, {})):
        log.info("%-16s skipped: nothing has changed since it ran", name)
        return None
    stage = stages[name] = {
        **_prepare_folder(plan, name, key, manifest),
        "status": "running",
        "notebook": f"{name}.ipynb",
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": manifest["git"],
        "parameters": {n: p.default for n, p in notebook.parameters.items() if n != "run_dir"} | parameters,
    }
    write_json(plan.run_dir / MANIFEST, manifest)
    executed = plan.run_dir / f"{name}.ipynb"
    parameters["run_dir"] = path_from(notebook.path.parent, plan.run_dir)
    try:
        execution = execute(notebook.path, executed, parameters, timeout_s=timeout_s, lock_fd=lock_fd)
    except OSError as error:  # the disk is full, or a page cannot be written
        execution = Execution(f"a file that cannot be written: {error}", 0.0, 0.0)
    recorded = read_stage(plan.run_dir, name)
    problem = execution.error or (None if recorded else "its end: it recorded no results")
    stage |= {"duration_s": round(execution.duration_s, 1), "peak_memory_mb": round(execution.peak_memory_mb)}
    if problem:
        stage |= {"status": "failed", "error": problem}
    else:
        pages = [executed, executed.with_suffix(".html")]
        stage |= {"status": "done", **recorded, "pages": {page.name: hash_path(page) for page in pages}}
    with suppress(*((OSError,) if problem else ())):  # on a full disk it stays "running", which is continued too
        write_json(plan.run_dir / MANIFEST, manifest)
    if problem:
        return f"{name}.ipynb failed at {problem} (see {display_path(executed.with_suffix('.html'))})"
    duration = timedelta(seconds=round(stage["duration_s"]))
    log.info("%-16s ran in %s, peak memory %d MB", name, duration, stage["peak_memory_mb"])
    return None


def _is_done(run_dir: Path, name: str, key: str, stage: Mapping[str, Any]) -> bool:
    """Returns True if running the stage again would give the same files as those in its folder."""
    return (
        stage.get("status") == "done"
        and stage.get("key") == key
        and all((run_dir / f"{name}{ending}").exists() for ending in (".ipynb", ".html"))
        and read_stage(run_dir, name) == {part: stage.get(part) for part in ("inputs", "outputs")}
        and unchanged(run_dir, name)
    )


def _prepare_folder(plan: Plan, name: str, key: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Removes the stage's folder, unless it holds unfinished work that the stage can continue.

    Returns what the stage starts from: its key, and a hash of the records of all earlier notebooks.
    """
    earlier = {book.name: read_stage(plan.run_dir, book.name) for book in plan.notebooks if book.name < name}
    start = {"key": key, "earlier": hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()}
    folder, previous = plan.run_dir / name, manifest["stages"].pop(name, {})
    unfinished = previous.get("status") in ("running", "failed")
    changes = [reason for fact, reason in CHANGES.items() if previous.get(fact) != start[fact]]
    if unfinished and not changes:
        (folder / STAGE).unlink(missing_ok=True)
    elif folder.exists():
        if unfinished:
            log.warning("%-16s removing unfinished work in %s: %s", name, display_path(folder), " and ".join(changes))
        write_json(plan.run_dir / MANIFEST, manifest)  # first, for a kill during the removal
        shutil.rmtree(folder)
    return start
