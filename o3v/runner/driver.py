"""Runs the numbered notebooks in order into `runs/<run_id>/`.

The part of a run that belongs to one notebook is called a stage. A stage is skipped if its notebook, parameters, code
and files have not changed since it ran. An interrupted stage continues from the checkpoints in its folder, if nothing
that it depends on has changed. Any other stage starts with an empty folder. The driver may be killed at any moment,
because all files that it relies on are written atomically.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from o3v.config import load_profile
from o3v.files import read_json, write_json
from o3v.runner.execution import execute
from o3v.runner.fingerprint import base_digest, environment, git_state, stage_key
from o3v.runner.notebook import Notebook, UsageError
from o3v.runner.paths import display_path, path_from
from o3v.runner.plan import MANIFEST, Plan, plan_run, read_manifest
from o3v.runner.stage import STAGE, read_stage, unchanged

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10.0  # seconds; after its driver was killed, a kernel ends itself within two seconds
METRICS = "05_evaluation/metrics.json"
MODELS = {"base": "base", "sft": "SFT", "sft_gspo": "SFT+GSPO"}
COLUMNS = {
    "accuracy": "accuracy",
    "m_tiou": "m_tIoU",
    "m_viou": "m_vIoU",
    "mam": "mAM",
    "mlgm": "mLGM",
    "format_rate": "format rate",
}
# What a stage starts from, and the reason to start again if it differs.
CHANGES = {
    "key": "the notebook, its parameters, the code or the packages have changed",
    "earlier": "results of earlier notebooks have changed",
}


@dataclass(frozen=True)
class Summary:
    """Result of a run. Duration and memory cover all stages so far.

    `error` is None or one line. `metrics` are those of notebook 05: model (`base`, `sft`, `sft_gspo`) to metric to
    value.
    """

    run_id: str
    run_dir: Path
    error: str | None
    duration_s: float
    peak_memory_mb: float
    metrics: Mapping[str, Mapping[str, float | None]] | None


def run(
    profile: str | None, seed: int | None, out: Path | str, *, timeout_s: int | None = None, **options: Any
) -> Summary:
    """Plans and runs the notebooks. Arguments as in `plan_run` and `run_plan`. Raises UsageError."""
    return run_plan(plan_run(profile, seed, out, **options), timeout_s=timeout_s)


def run_plan(plan: Plan, *, timeout_s: int | None = None) -> Summary:
    """Runs the selected notebooks of a plan up to the first failure. `timeout_s` limits each cell, in seconds.

    Raises UsageError if another process uses the same run.
    """
    plan.run_dir.mkdir(parents=True, exist_ok=True)
    with _locked(plan.run_dir) as lock_fd:
        manifest = _open_manifest(plan)
        error = None
        for notebook in plan.selected:
            error = _run_stage(plan, notebook, manifest, timeout_s, lock_fd)
            if error:
                break
        stages = manifest["stages"].values()
        metrics = plan.run_dir / METRICS
        return Summary(
            run_id=plan.run_id,
            run_dir=plan.run_dir,
            error=error,
            duration_s=sum(stage.get("duration_s", 0.0) for stage in stages),
            peak_memory_mb=max((stage.get("peak_memory_mb", 0.0) for stage in stages), default=0.0),
            metrics=read_json(metrics) if metrics.exists() else None,
        )


def results_table(summary: Summary) -> str:
    """Returns the text shown at the end of a run: metrics of the models, total time, memory and folder."""
    rows = []
    if summary.metrics:
        rows.append(["", *COLUMNS.values()])
        present = [model for model in MODELS if model in summary.metrics]
        rows += [[MODELS[model], *_cells(summary.metrics[model])] for model in present]
    total = f"total {format_duration(summary.duration_s)}, peak memory {summary.peak_memory_mb:,.0f} MB"
    folder = f"pages are in {display_path(summary.run_dir)}/*.html, with figures, metrics and manifest.json beside them"
    return "\n".join([*align_columns(rows), total, folder])


def matrix_table(summaries: Sequence[Summary]) -> str:
    """Returns a table with one row per run: status, time, and the metrics of the last model that it evaluated."""
    rows = [["run", "status", "time", *COLUMNS.values()]]
    for summary in summaries:
        present = [model for model in MODELS if model in (summary.metrics or {})]
        cells = _cells(summary.metrics[present[-1]] if present else {})
        status = "failed" if summary.error else "done"
        rows.append([summary.run_id, status, format_duration(summary.duration_s), *cells])
    return "\n".join(align_columns(rows))


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table. The first column is aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def format_duration(seconds: float) -> str:
    """Returns a duration as readable text.

    >>> format_duration(7.25), format_duration(185)
    ('7.2 s', '3 min 05 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _cells(metrics: Mapping[str, float | None]) -> list[str]:
    return ["–" if metrics.get(name) is None else f"{metrics[name]:.3f}" for name in COLUMNS]


@contextmanager
def _locked(run_dir: Path) -> Iterator[int]:
    """Holds the run's lock and yields its file descriptor. The lock is free again when all kernels have ended too."""
    descriptor = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UsageError(f"{display_path(run_dir)} is used by another `o3v run`") from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_manifest(plan: Plan) -> dict[str, Any]:
    """Returns the manifest with the stages of earlier calls and the facts of this call, and writes it."""
    for leftover in plan.run_dir.glob(".manifest-*"):  # from a driver that was killed while it wrote the manifest
        leftover.unlink()
    manifest = {
        "run_id": plan.run_id,
        "profile": plan.profile,
        "seed": plan.seed,
        "overrides": plan.overrides,
        "git": git_state(plan.notebooks[0].path.parent),
        **environment(),
        "stages": read_manifest(plan.run_dir)["stages"] if (plan.run_dir / MANIFEST).exists() else {},
    }
    write_json(plan.run_dir / MANIFEST, manifest)
    return manifest


def _run_stage(
    plan: Plan, notebook: Notebook, manifest: dict[str, Any], timeout_s: int | None, lock_fd: int
) -> str | None:
    """Runs or skips one notebook and updates the manifest. Returns an error message if the notebook failed."""
    name, parameters, stages = notebook.name, plan.parameters(notebook), manifest["stages"]
    key = stage_key(notebook.cells, parameters, base_digest(load_profile(plan.profile).base))
    if _is_done(plan, notebook, key, stages.get(name, {})):
        log.info("%-16s skipped: nothing has changed since it ran", name)
        return None
    stage = stages[name] = {
        **_prepare_folder(plan, notebook, key, manifest),
        "status": "running",
        "notebook": f"{name}.ipynb",
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": manifest["git"],
        "parameters": {p.name: p.default for p in notebook.parameters.values() if p.name != "run_dir"} | parameters,
    }
    write_json(plan.run_dir / MANIFEST, manifest)
    executed = plan.run_dir / f"{name}.ipynb"
    parameters |= {"run_dir": path_from(notebook.path.parent, plan.run_dir)}
    execution = execute(notebook.path, executed, parameters, timeout_s=timeout_s, lock_fd=lock_fd)
    recorded = read_stage(plan.run_dir, name)
    problem = execution.error or (None if recorded else "its end: it recorded no results")
    stage |= {"duration_s": round(execution.duration_s, 1), "peak_memory_mb": round(execution.peak_memory_mb)}
    stage |= {"status": "failed", "error": problem} if problem else {"status": "done", **recorded}
    write_json(plan.run_dir / MANIFEST, manifest)
    if problem:
        return f"{name}.ipynb failed at {problem} (see {display_path(executed.with_suffix('.html'))})"
    duration = format_duration(stage["duration_s"])
    log.info("%-16s ran in %s, peak memory %s MB", name, duration, f"{stage['peak_memory_mb']:,}")
    return None


def _is_done(plan: Plan, notebook: Notebook, key: str, stage: Mapping[str, Any]) -> bool:
    """Returns True if running the stage again would give the same files as those in its folder."""
    return (
        stage.get("status") == "done"
        and stage["key"] == key
        and all((plan.run_dir / f"{notebook.name}{ending}").exists() for ending in (".ipynb", ".html"))
        and read_stage(plan.run_dir, notebook.name) == {"inputs": stage["inputs"], "outputs": stage["outputs"]}
        and unchanged(plan.run_dir, notebook.name)
    )


def _prepare_folder(plan: Plan, notebook: Notebook, key: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Removes the stage's folder, unless it holds unfinished work that the stage can continue.

    Returns what the stage starts from: its key, and a hash of the records of all earlier notebooks.
    """
    names = [book.name for book in plan.notebooks if book.name < notebook.name]
    earlier = {name: read_stage(plan.run_dir, name) for name in names}
    digest = hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()
    start = {"key": key, "earlier": digest}
    folder, previous = plan.run_dir / notebook.name, manifest["stages"].pop(notebook.name, {})
    unfinished = previous.get("status") in ("running", "failed")
    changes = [reason for name, reason in CHANGES.items() if previous.get(name) != start[name]]
    if unfinished and not changes:
        (folder / STAGE).unlink(missing_ok=True)
    elif folder.exists():
        if unfinished:
            reasons = " and ".join(changes)
            log.warning("%-16s removing unfinished work in %s: %s", notebook.name, display_path(folder), reasons)
        write_json(plan.run_dir / MANIFEST, manifest)  # first: if killed while removing, nothing here is trusted
        shutil.rmtree(folder)
    return start
