"""The command `o3v run`: runs the notebooks in order, without a browser, and prints a table of their results."""

import logging
import sys
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from o3v.cli import add_parser, table_text
from o3v.runner import driver
from o3v.runner.paths import display_path
from o3v.runner.plan import NOTEBOOKS, Plan, plan_matrix, plan_resumed, plan_run

log = logging.getLogger("o3v.run")

METRICS = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm", "format_rate")


def add_command(commands: Any) -> None:
    """Adds `run` to the subcommands of a parser."""
    summary = "run the notebooks in order; unchanged ones are skipped, an interrupted run continues when repeated"
    add, folder = add_parser(commands, "run", run_notebooks, summary), {"type": Path, "metavar": "DIR"}
    add("--profile", help="size of the work: smoke, tiny or full (default: tiny)")
    add("--seed", type=int, help="seed of all random numbers (default: 0)")
    add("--out", **folder, default=Path("runs"), help="folder of all runs (default: runs)")
    add("--from", dest="start_from", metavar="NOTEBOOK", help="first notebook to run, for example 03 or 03_gspo")
    add("--only", metavar="NOTEBOOK", help="run only this notebook")
    repeated = {"action": "append", "default": [], "metavar": "NOTEBOOK.PARAMETER=VALUE"}
    add("-p", dest="overrides", **repeated, help="set a parameter of a notebook; can be repeated")
    add("--matrix", type=Path, metavar="GRID.yaml", help="run all combinations of the parameter values in a YAML file")
    add("--resume", metavar="RUN_ID", help="continue a run with the options it was started with")
    add("--timeout", type=int, metavar="SECONDS", help="time limit of each cell (default: no limit)")
    add("--notebooks", **folder, default=NOTEBOOKS, help="folder of the notebooks (default: notebooks)")


def run_notebooks(options: Namespace) -> int:
    """Checks all arguments, runs one plan or all plans of a grid, and prints the results. Returns 1 after a failure."""
    summaries = []
    for plan in _plans(options):
        log.info("run %s: pages in %s/*.html, metrics beside them", plan.run_dir.name, display_path(plan.run_dir))
        summaries.append(driver.run(plan, options.timeout))
        if summaries[-1].error:
            sys.stderr.write(f"o3v: {summaries[-1].error}\n")
    log.info("\n%s", table_text([row for summary in summaries for row in _table_rows(summary)]))
    return int(any(summary.error for summary in summaries))


def _table_rows(summary: driver.Summary) -> list[dict[str, Any]]:
    """Returns one row for each evaluated model of a run, or one row without metrics."""
    totals = {
        "run": summary.run_dir.name,
        "status": "failed" if summary.error else "done",
        "time": timedelta(seconds=round(summary.duration_s)),
        "peak MB": round(summary.peak_memory_mb),
    }
    models = summary.metrics or {None: {}}
    return [{**totals, "model": name, **{m: models[name].get(m) for m in METRICS}} for name in models]


def _plans(options: Namespace) -> list[Plan]:
    selection = {"start_from": options.start_from, "only": options.only, "notebooks": options.notebooks}
    fixed, out, run_id = {"profile": options.profile, "seed": options.seed}, options.out, options.resume
    if options.timeout is not None and options.timeout <= 0:
        raise ValueError(f"--timeout must be at least 1 second, found {options.timeout}")
    if run_id is not None:
        if options.matrix is not None:
            raise ValueError("--resume continues one run; to continue the runs of a --matrix, repeat its command")
        if fixed != {"profile": None, "seed": None} or options.overrides:
            raise ValueError(f"--resume takes profile, seed and parameters from {run_id}; remove --profile, --seed, -p")
        return [plan_resumed(run_id, out, **selection)]
    pairs = [argument.partition("=")[::2] for argument in options.overrides if "=" in argument]
    overrides = dict(pairs)
    if len(overrides) < len(options.overrides):
        found = " ".join(options.overrides)
        raise ValueError(f"-p takes NOTEBOOK.PARAMETER=VALUE, each parameter once; found {found}")
    if options.matrix is None:
        return [plan_run(**fixed, out=out, overrides=overrides, **selection)]
    try:
        grid = yaml.safe_load(options.matrix.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{options.matrix} is not YAML: {error}") from None
    return plan_matrix(grid, out, fixed | overrides, **selection)
