"""The command `o3v run`: runs the notebooks in order, without a browser."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Adds `run` to the subcommands of a parser."""
    parser = commands.add_parser(
        "run",
        help="run the notebooks in order",
        description="Run the notebooks in order and write all files to runs/RUN_ID/. Notebooks that have not changed "
        "since they ran are skipped; an interrupted run continues with the same command.",
    )
    parser.set_defaults(command=run_notebooks)
    add, folder = parser.add_argument, {"type": Path, "metavar": "DIR"}
    add("--profile", help="size of the work: smoke, tiny or full (default: tiny)")
    add("--seed", type=int, help="seed of all random numbers (default: 0)")
    add("--out", dest="runs_folder", **folder, default=Path("runs"), help="folder of all runs (default: runs)")
    add("--from", dest="start_from", metavar="NOTEBOOK", help="first notebook to run, for example 03 or 03_gspo")
    add("--only", metavar="NOTEBOOK", help="run only this notebook")
    repeated = {"action": "append", "default": [], "metavar": "NOTEBOOK.PARAMETER=VALUE"}
    add("-p", dest="overrides", **repeated, help="set a parameter of a notebook; can be repeated")
    grid = {"dest": "grid_path", "type": Path, "metavar": "GRID.yaml"}
    add("--matrix", **grid, help="run all combinations of the parameter values in a YAML file")
    add("--resume", dest="resume_run_id", metavar="RUN_ID", help="continue a run with the options it was started with")
    seconds = {"dest": "cell_timeout_s", "type": int, "metavar": "SECONDS"}
    add("--timeout", **seconds, help="time limit of each cell (default: no limit)")
    add("--notebooks", dest="notebooks_folder", **folder, help="folder of the notebooks (default: notebooks)")


def run_notebooks(options: argparse.Namespace) -> int:
    """Checks all arguments, runs one plan or all plans of a grid, and prints the results."""
    from o3v.runner import driver
    from o3v.runner.notebook import UsageError
    from o3v.runner.paths import display_path

    log = logging.getLogger("o3v.run")
    try:
        summaries = []
        for plan in _plans(options):
            log.info("run %s in %s", plan.run_id, display_path(plan.run_dir))
            summaries.append(driver.run_plan(plan, timeout_s=options.cell_timeout_s))
            if summaries[-1].error:
                _print_error(summaries[-1].error)
            elif not options.grid_path:
                log.info("\n%s", driver.results_table(summaries[-1]))
    except (UsageError, OSError) as error:
        _print_error(error)
        return 2
    if options.grid_path:
        log.info("\n%s", driver.matrix_table(summaries))
    return int(any(summary.error for summary in summaries))


def _plans(options: argparse.Namespace) -> list[Any]:
    from o3v.runner.notebook import UsageError
    from o3v.runner.plan import NOTEBOOKS, plan_matrix, plan_resumed, plan_run

    profile, seed, run_id = options.profile, options.seed, options.resume_run_id
    if options.cell_timeout_s is not None and options.cell_timeout_s <= 0:
        raise UsageError(f"--timeout must be at least 1 second, found {options.cell_timeout_s}")
    selection = {"start_from": options.start_from, "only": options.only}
    selection["notebooks"] = options.notebooks_folder or NOTEBOOKS
    if run_id is not None:
        if options.grid_path is not None:
            raise UsageError("--resume continues one run; to continue the runs of a --matrix, repeat its command")
        if profile is not None or seed is not None or options.overrides:
            raise UsageError(f"--resume takes profile, seed and parameters from {run_id}; remove --profile, --seed, -p")
        return [plan_resumed(run_id, options.runs_folder, **selection)]
    overrides = _parse_overrides(options.overrides)
    if options.grid_path is None:
        return [plan_run(profile, seed, options.runs_folder, overrides=overrides, **selection)]
    grid = _read_grid(options.grid_path)
    return plan_matrix(grid, profile, seed, options.runs_folder, overrides=overrides, **selection)


def _parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    from o3v.runner.notebook import UsageError

    overrides: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"-p {argument}: expected NOTEBOOK.PARAMETER=VALUE")
        if name in overrides:
            raise UsageError(f"-p {name} is given twice")
        overrides[name] = value
    return overrides


def _read_grid(path: Path) -> Any:
    import yaml

    from o3v.runner.notebook import UsageError

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _print_error(message: object) -> None:
    sys.stderr.write(f"o3v: {message}\n")
