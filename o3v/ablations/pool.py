"""Runs many cells, each in a process of its own with one thread, some at the same time.

The order is that of the table of cells, with all seeds of a cell before the next cell. A cell waits for the cell that
it starts from. Finished cells are skipped, so a killed call goes on when it is repeated. This module does not know
models.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from o3v.ablations import store
from o3v.ablations.cells import CELLS, Cell, sizes_of, steps_of

log = logging.getLogger("o3v.ablate")

POLL_S = 0.5
# seconds of a step and of an answer, measured on `tiny` with one thread; they only weigh the cells for the time left
STEP_S, UPDATE_S, QUESTION_S, ITEM_S, LOADING_S = 2.3, 7.0, 0.16, 0.95, 10.0


@dataclass(frozen=True)
class Matrix:
    """What to run: the cells (`cells.chosen_cells`) over seeds, from `runs` to `out`."""

    cells: Sequence[Cell]
    seeds: Sequence[int]
    runs: Path
    out: Path
    profile: str = "tiny"

    def jobs(self) -> list[tuple[Cell, int]]:
        """All cells and seeds that are not finished, in order."""
        pairs = [(cell, seed) for cell in self.cells for seed in self.seeds]
        return [(cell, seed) for cell, seed in pairs if not store.is_finished(self.out, cell.name, seed)]

    def command(self, cell: Cell, seed: int) -> list[str]:
        """The command that runs one cell in its own process."""
        places = ["--from", str(self.runs), "--out", str(self.out), "--profile", self.profile]
        chosen = ["--cells", cell.name, "--seeds", str(seed), "--jobs", "0"]
        return [sys.executable, "-m", "o3v", "ablate", *chosen, *places]


def estimated_s(cell: Cell, profile: str) -> float:
    """Roughly how long a cell takes, in seconds on one core."""
    sizes = sizes_of(profile)
    training = steps_of(cell, sizes) * (UPDATE_S if cell.train == "gspo" else STEP_S)
    answers = sizes.questions * QUESTION_S + sizes.items * ITEM_S
    by_measure = {"scores": answers, "removal": 7 * sizes.items * ITEM_S / 5, "voting": sizes.voted * 4.0}
    return LOADING_S + training + by_measure[cell.measure]


@dataclass
class Progress:
    """How much is done, and how long the rest takes at the speed so far."""

    left_s: float  # estimated seconds of the cells that are left
    begun_s: float  # by the clock `time.monotonic`
    done_s: float = 0.0  # estimated seconds of the cells that this call has finished

    def add(self, estimate_s: float) -> str:
        """Counts a cell. Returns the remaining time."""
        self.left_s, self.done_s = self.left_s - estimate_s, self.done_s + estimate_s
        speed = self.done_s / max(time.monotonic() - self.begun_s, 1e-9)
        return str(timedelta(seconds=round(max(self.left_s, 0.0) / max(speed, 1e-9))))


def run_matrix(matrix: Matrix, jobs: int) -> list[str]:
    """Runs all cells that are not finished, `jobs` at a time. Returns the failures, each as one message.

    A cell whose start fails is not run, and named. The assembled file is written after each cell. Ctrl-C ends the
    processes; what they have done is kept.
    """
    waiting, running, failures = matrix.jobs(), {}, []
    total, failed = len(waiting), set()
    progress = Progress(sum(estimated_s(cell, matrix.profile) for cell, _ in waiting), time.monotonic())
    log.info("%d cells to run, %d at a time; roughly %.1f h on idle cores", total, jobs, progress.left_s / jobs / 3600)
    try:
        while waiting or running:
            for name, seed in [pair for pair, process in running.items() if process.poll() is not None]:
                code, cell = running.pop((name, seed)).returncode, CELLS[name]
                left = progress.add(estimated_s(cell, matrix.profile))
                if code:
                    failed.add((name, seed))
                    failures.append(f"{name}, seed {seed}: {_last_line(matrix.out, name, seed)}")
                done = total - len(waiting) - len(running)
                state = "failed" if code else "finished"
                log.info("%d of %d: %s, seed %d %s; about %s left", done, total, name, seed, state, left)
                store.assemble(matrix.out)
            for cell, seed in [job for job in waiting if (job[0].start, job[1]) in failed]:
                waiting.remove((cell, seed))
                failed.add((cell.name, seed))
                failures.append(f"{cell.name}, seed {seed}: not run, because {cell.start} failed")
            while len(running) < jobs and (job := _next_job(waiting, matrix, set(running))):
                waiting.remove(job)
                running[job[0].name, job[1]] = _started(matrix, *job)
            time.sleep(POLL_S)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failures


def _next_job(
    waiting: Sequence[tuple[Cell, int]], matrix: Matrix, running: set[tuple[str, int]]
) -> tuple[Cell, int] | None:
    """The first cell whose start is there."""
    unfinished = {(cell.name, seed) for cell, seed in waiting} | running
    return next((job for job in waiting if (job[0].start, job[1]) not in unfinished), None)


def log_path(out: Path, name: str, seed: int) -> Path:
    """The file with the output of a cell's process."""
    return out / "logs" / f"{name}-{seed}.log"


def _started(matrix: Matrix, cell: Cell, seed: int) -> subprocess.Popen:
    path = log_path(matrix.out, cell.name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with path.open("a") as output:
        command = matrix.command(cell, seed)
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **threads})


def _last_line(out: Path, name: str, seed: int) -> str:
    """The error of a failed cell: the last line that its process wrote."""
    lines = log_path(out, name, seed).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it ended without a message")
