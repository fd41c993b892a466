"""The command `o3v ablate`: runs the cells of the ablations and assembles their results."""

import logging
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from o3v.ablations import pool, store
from o3v.ablations.cells import CELLS, chosen_cells, sizes_of
from o3v.ablations.shared_run import SharedRun
from o3v.cli import add_parser

log = logging.getLogger("o3v.ablate")


def add_command(commands: Any) -> None:
    """Adds `ablate` to the subcommands of a parser."""
    summary = "run the ablations, cell by cell; finished cells are skipped, a killed one continues when repeated"
    add = add_parser(commands, "ablate", ablate, summary)
    names = {"nargs": "+", "default": [], "metavar": "CELL", "choices": list(CELLS)}
    add("--cells", **names, help=f"cells to run, with those that they start from (default: all): {', '.join(CELLS)}")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="seeds of the runs (default: 0 1 2)")
    run_help = "folder with the runs <profile>-<seed>, of which notebooks 01 and 02 are needed (default: runs)"
    add("--from", dest="runs", type=Path, default=Path("runs"), metavar="DIR", help=run_help)
    add("--out", type=Path, default=Path("runs/ablations"), metavar="DIR", help="folder of the cells and their work")
    add("--profile", default="tiny", help="size of the work: tiny or smoke (default: tiny)")
    jobs_help = "processes at the same time (default: one a core); 0: one cell after the other in this process"
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help=jobs_help)
    add("--list", action="store_true", help="only list the state of the cells in --out and assemble their file")


def ablate(options: Namespace) -> int:
    """Runs the cells. Returns 1 if any failed, after all others have run."""
    if options.jobs < 0 or min(options.seeds) < 0:
        raise ValueError(f"--jobs and --seeds must not be negative, found {options.jobs} and {options.seeds}")
    sizes_of(options.profile)
    runs, out, chosen = options.runs.resolve(), options.out.resolve(), chosen_cells(options.cells)
    matrix = pool.Matrix(chosen, list(dict.fromkeys(options.seeds)), runs, out, options.profile)
    failures = [] if options.list else _run(matrix, options.jobs)
    for failure in failures:
        sys.stderr.write(f"o3v: {failure}\n")
    if options.list or options.jobs:
        _report(matrix)
    return int(bool(failures))


def check_runs(matrix: pool.Matrix) -> None:
    """Raises FileNotFoundError if the run of a seed with unfinished cells is not there, with the command for it."""
    for seed in sorted({seed for _, seed in matrix.jobs()}):
        SharedRun(matrix.runs / f"{matrix.profile}-{seed}").inputs()


def _run(matrix: pool.Matrix, jobs: int) -> list[str]:
    check_runs(matrix)
    if jobs:
        return pool.run_matrix(matrix, jobs)
    from o3v.ablations.work import run_cell  # imports torch

    for cell, seed in matrix.jobs():
        run_cell(cell, seed, matrix.runs, matrix.out, matrix.profile)
    return []


def _report(matrix: pool.Matrix) -> None:
    records = store.read_folder(matrix.out)
    for record in records:
        seconds = record.get("seconds", {}).get("all")
        time_text = f", {seconds / 60:.1f} min" if seconds is not None else ""
        log.info("%s, seed %d: %s%s", record["cell"], record["seed"], record["status"], time_text)
    hours = sum(record.get("seconds", {}).get("all", 0.0) for record in records) / 3600
    log.info("%d cells, %.1f hours of one core: %s", len(records), hours, store.assemble(matrix.out))
