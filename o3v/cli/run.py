"""`o3v run`: the notebooks in order, headlessly."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Adds `run` to a parser's subcommands."""
    run = commands.add_parser(
        "run", help="run the notebooks in order", description="Runs the notebooks in order into runs/<run_id>/."
    )
    run.set_defaults(command=run_notebooks)
    run.add_argument("--profile", help="size of the work: smoke, tiny or full (default: tiny)")
    run.add_argument("--seed", type=int, help="seed of everything random (default: 0)")
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where runs lie (default: runs)")
    run.add_argument("--from", dest="start_from", metavar="NOTEBOOK", help="start at this notebook, as 03 or 03_gspo")
    run.add_argument("--only", metavar="NOTEBOOK", help="run this notebook alone")
    run.add_argument(
        "-p",
        dest="overrides",
        action="append",
        default=[],
        metavar="NOTEBOOK.PARAMETER=VALUE",
        help="change a parameter of a notebook; may be repeated",
    )
    run.add_argument("--matrix", type=Path, metavar="GRID.yaml", help="run every combination of a grid of parameters")
    run.add_argument("--resume", metavar="RUN_ID", help="go on with a run as it was started")
    run.add_argument("--timeout", type=int, metavar="SECONDS", help="time limit of each cell (default: none)")
    run.add_argument("--notebooks", type=Path, metavar="DIR", help="folder of the notebooks (default: the project's)")


def run_notebooks(options: argparse.Namespace) -> int:
    """`o3v run`: checks everything, then runs one plan or the grid's, and shows what came out."""
    from o3v.runner import driver
    from o3v.runner.notebook import UsageError

    log = logging.getLogger("o3v.run")
    try:
        summaries = []
        for plan in _plans(options):
            log.info("run %s in %s", plan.run_id, driver.display_path(plan.run_dir))
            summaries.append(driver.run_plan(plan, timeout_s=options.timeout))
            if summaries[-1].error:
                _complain(summaries[-1].error)
            elif not options.matrix:
                log.info("\n%s", driver.results_table(summaries[-1]))
    except (UsageError, OSError) as error:
        _complain(error)
        return 2
    if options.matrix:
        log.info("\n%s", driver.matrix_table(summaries))
    return int(any(summary.error for summary in summaries))


def _plans(options: argparse.Namespace) -> list[Any]:
    from o3v.runner.notebook import UsageError
    from o3v.runner.plan import NOTEBOOKS, plan_matrix, plan_run

    if options.timeout is not None and options.timeout <= 0:
        raise UsageError(f"the time limit must be at least a second, found {options.timeout}")
    chosen = {"start_from": options.start_from, "only": options.only, "overrides": _overrides(options.overrides)}
    chosen |= {"notebooks": options.notebooks or NOTEBOOKS}
    if options.matrix is None:
        return [plan_run(options.profile, options.seed, options.out, resume=options.resume, **chosen)]
    if options.resume is not None:
        raise UsageError("--resume names one run, --matrix many: the same --matrix goes on with all of them")
    return plan_matrix(_read_grid(options.matrix), options.profile, options.seed, options.out, **chosen)


def _overrides(given: Sequence[str]) -> dict[str, str]:
    from o3v.runner.notebook import UsageError

    overrides: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"-p {text}: expected NOTEBOOK.PARAMETER=VALUE")
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


def _complain(message: object) -> None:
    sys.stderr.write(f"o3v: {message}\n")
