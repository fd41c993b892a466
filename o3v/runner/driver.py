"""The driver: runs the numbered notebooks in order, each once, into `runs/<run_id>/`.

A stage whose notebook, parameters, code and files are as they were is skipped. One that was cut short goes on in
its folder, where its checkpoints are, if nothing it depends on has changed since; any other starts from an empty
folder. Every file the driver trusts is written whole or not at all, so it may be killed at any moment.
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
from o3v.runner.fingerprint import base_digest, environment, git_state, stage_key
from o3v.runner.notebook import Notebook, UsageError, execute
from o3v.runner.plan import MANIFEST, Plan, plan_run, read_manifest
from o3v.runner.stage import STAGE, read_stage, unchanged

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10.0  # the kernel of a driver that was killed ends itself within a second or two
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


@dataclass(frozen=True)
class Summary:
    """How a run ended. `error` is None or one message; times and memory are over all its stages so far.

    `metrics` is what notebook 05 saved: model (`base`, `sft`, `sft_gspo`) to metric to value.
    """

    run_id: str
    run_dir: Path
    error: str | None
    duration_s: float
    peak_memory_mb: float
    metrics: Mapping[str, Mapping[str, float | None]] | None


def run(
    profile: str | None, seed: int | None, out: Path | str, *, timeout_s: int | None = None, **choices: Any
) -> Summary:
    """Runs the notebooks on one profile and seed. `choices` are those of `runs.plan_run`. Raises UsageError."""
    return run_plan(plan_run(profile, seed, out, **choices), timeout_s=timeout_s)


def run_plan(plan: Plan, *, timeout_s: int | None = None) -> Summary:
    """Runs what a plan selects, up to the first failure. `timeout_s` limits each cell.

    Raises UsageError when the run is in use elsewhere.
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
    """What a person wants to see at the end of a run: the models' metrics, time, memory and where to look."""
    rows = []
    if summary.metrics:
        rows.append(["", *COLUMNS.values()])
        present = [model for model in MODELS if model in summary.metrics]
        rows += [[MODELS[model], *_cells(summary.metrics[model])] for model in present]
    total = f"total {format_duration(summary.duration_s)}, peak memory {summary.peak_memory_mb:,.0f} MB"
    look = f"to look at: {display_path(summary.run_dir)}/*.html, beside them figures, metrics and manifest.json"
    return "\n".join([*align_columns(rows), total, look])


def matrix_table(summaries: Sequence[Summary]) -> str:
    """One row a run: how it ended, its time, and the metrics of the last model it evaluated."""
    rows = [["run", "ended", "time", *COLUMNS.values()]]
    for summary in summaries:
        present = [model for model in MODELS if model in (summary.metrics or {})]
        cells = _cells(summary.metrics[present[-1]] if present else {})
        rows.append(
            [summary.run_id, "failed" if summary.error else "well", format_duration(summary.duration_s), *cells]
        )
    return "\n".join(align_columns(rows))


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(7.25), format_duration(185)
    ('7.2 s', '3 min 05 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def display_path(path: Path) -> str:
    """A path as a person wants it: from the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _cells(metrics: Mapping[str, float | None]) -> list[str]:
    return ["–" if metrics.get(name) is None else f"{metrics[name]:.3f}" for name in COLUMNS]


@contextmanager
def _locked(run_dir: Path) -> Iterator[int]:
    """Holds the run's lock, whose descriptor kernels inherit: it is free once nothing can write there any more."""
    descriptor = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UsageError(f"{display_path(run_dir)} is in use by another o3v run") from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_manifest(plan: Plan) -> dict[str, Any]:
    """The manifest as an earlier call left it, with this call's facts; written at once."""
    for leftover in plan.run_dir.glob(".manifest-*"):  # of a driver killed while it wrote
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
    """Runs or skips one notebook and brings the manifest up to date; the error message if it failed."""
    name, parameters, stages = notebook.name, plan.parameters(notebook), manifest["stages"]
    key = stage_key(notebook.cells, parameters, base_digest(load_profile(plan.profile).base))
    if _is_done(plan, notebook, key, stages.get(name, {})):
        log.info("%-16s skipped: nothing has changed since it ran", name)
        return None
    stage = stages[name] = {
        **_clear_folder(plan, notebook, key, manifest),
        "status": "running",
        "notebook": f"{name}.ipynb",
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": manifest["git"],
        "parameters": {p.name: p.default for p in notebook.parameters.values() if p.name != "run_dir"} | parameters,
    }
    write_json(plan.run_dir / MANIFEST, manifest)
    executed = plan.run_dir / f"{name}.ipynb"
    given = {**parameters, "run_dir": str(plan.run_dir)}
    outcome = execute(notebook.path, executed, given, timeout_s=timeout_s, lock_fd=lock_fd)
    recorded = read_stage(plan.run_dir, name)
    problem = outcome.error or (None if recorded else "its end: it recorded no results")
    stage |= {"duration_s": round(outcome.duration_s, 1), "peak_memory_mb": round(outcome.peak_memory_mb)}
    stage |= {"status": "failed", "error": problem} if problem else {"status": "done", **recorded}
    write_json(plan.run_dir / MANIFEST, manifest)
    if problem:
        return f"{name}.ipynb failed at {problem} (see {display_path(executed.with_suffix('.html'))})"
    log.info(
        "%-16s ran in %s, peak memory %s MB", name, format_duration(stage["duration_s"]), f"{stage['peak_memory_mb']:,}"
    )
    return None


def _is_done(plan: Plan, notebook: Notebook, key: str, stage: Mapping[str, Any]) -> bool:
    """True when the stage as it lies there is what running it again would give."""
    return (
        stage.get("status") == "done"
        and stage["key"] == key
        and all((plan.run_dir / f"{notebook.name}{ending}").exists() for ending in (".ipynb", ".html"))
        and read_stage(plan.run_dir, notebook.name) == {"inputs": stage["inputs"], "outputs": stage["outputs"]}
        and unchanged(plan.run_dir, notebook.name)
    )


def _clear_folder(plan: Plan, notebook: Notebook, key: str, manifest: dict[str, Any]) -> dict[str, str]:
    """Empties the stage's folder, unless it was cut short and would now do the same again.

    Returns what the stage starts from: its key, and a hash of all that earlier notebooks have recorded.
    """
    earlier = {b.name: read_stage(plan.run_dir, b.name) for b in plan.notebooks if b.name < notebook.name}
    digest = hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()
    start = {"key": key, "earlier": digest}
    folder, old = plan.run_dir / notebook.name, manifest["stages"].pop(notebook.name, {})
    if old.get("status") in ("running", "failed") and {name: old.get(name) for name in start} == start:
        (folder / STAGE).unlink(missing_ok=True)
    elif folder.exists():
        write_json(plan.run_dir / MANIFEST, manifest)  # a kill in the next line must not leave half a folder trusted
        shutil.rmtree(folder)
    return start
