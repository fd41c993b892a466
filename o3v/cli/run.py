"""The command `o3v run`: runs the notebooks in order, without a browser, and prints a table of their results."""

import logging
import os
import sys
from argparse import Namespace
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from o3v.cli import add_parser, table_text
from o3v.config import load_profile
from o3v.files import open_text, read_json
from o3v.planning.check import missing_for
from o3v.runner import driver
from o3v.runner.paths import display_path
from o3v.runner.plan import NOTEBOOKS, Plan, plan_matrix, plan_resumed, plan_run, read_manifest

log = logging.getLogger("o3v.run")

MAX_GRID_CHARS, MAX_GRID_DEPTH = 100_000, 20
ROOTS = ("base", "data_root", "vstar_root")
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
    repeated = {"action": "append", "default": [], "metavar": "[NOTEBOOK.]PARAMETER=VALUE"}
    add("-p", dest="overrides", **repeated, help="set a parameter of one notebook, or of all that have it; repeatable")
    add("--config", type=Path, metavar="RUN.yaml", help="parameters by name, also profile and seed; options above win")
    add("--matrix", type=Path, metavar="GRID.yaml", help="run all combinations of the parameter values in a YAML file")
    add("--resume", metavar="RUN_ID", help="continue a run with the options it was started with")
    add("--timeout", type=int, metavar="SECONDS", help="time limit of each cell (default: no limit)")
    add("--notebooks", **folder, default=NOTEBOOKS, help="folder of the notebooks (default: notebooks)")


def run_notebooks(options: Namespace) -> int:
    """Checks all arguments, runs one plan or all plans of a grid, and prints the results. Returns 1 after a failure.

    First checks what the plans need (`planning.check`); if anything is missing, lists it and returns 2.
    """
    rows, errors, plans = [], [], _plans(options)
    if missing := dict.fromkeys(message for plan in plans for message in _missing(plan)):
        sys.stderr.write("\n  - ".join(["o3v: the run cannot start; it lacks:", *missing]) + "\n")
        return 2
    for plan in plans:
        log.info("run %s: pages in %s/*.html, metrics beside them", plan.run_dir.name, display_path(plan.run_dir))
        error = driver.run(plan, options.timeout)
        if error:
            sys.stderr.write(f"o3v: {error}\n")
        errors.append(error)
        rows += _table_rows(plan.run_dir, "failed" if error else "done")
    log.info("\n%s", table_text(rows))
    return int(any(errors))


def _missing(plan: Plan) -> list[str]:
    """What a plan lacks. Its overrides decide base model, data roots, adapters and processes."""
    given = {book.name: plan.parameters(book) for book in plan.notebooks}
    profile = load_profile(plan.profile)
    for part, name in (("sft", "02_sft"), ("gspo", "03_gspo")):
        own, config = given.get(name, {}), getattr(profile, part)
        count = own.get("num_processes") or config.num_processes
        config = replace(config.with_rank(own.get("lora_rank")), num_processes=count)
        profile = replace(profile, **{part: config})
    named = {name: value for own in given.values() for name, value in own.items() if name in ROOTS and value}
    named.setdefault("data_root", os.environ.get("O3V_DATA", ""))
    return missing_for(profile, plan.run_dir, {book.name.partition("_")[0] for book in plan.selected}, **named)


def _table_rows(run_dir: Path, status: str) -> list[dict[str, Any]]:
    """Returns one row for each evaluated model of a run, or one row without metrics. Time and memory are in total."""
    stages, metrics = read_manifest(run_dir)["stages"].values(), run_dir / "05_evaluation/metrics.json"
    duration = timedelta(seconds=round(sum(stage.get("duration_s", 0) for stage in stages)))
    memory = max(stage.get("peak_memory_mb", 0) for stage in stages)
    totals = {"run": run_dir.name, "status": status, "time": duration, "peak MB": memory}
    models = read_json(metrics) if metrics.exists() else {None: {}}
    return [{**totals, "model": name, **{m: models[name].get(m) for m in METRICS}} for name in models]


def _plans(options: Namespace) -> list[Plan]:
    selection = {"start_from": options.start_from, "only": options.only, "notebooks": options.notebooks}
    fixed, out, run_id = {"profile": options.profile, "seed": options.seed}, options.out, options.resume
    if options.timeout is not None and options.timeout <= 0:
        raise ValueError(f"--timeout must be at least 1 second, found {options.timeout}")
    if run_id is not None:
        if options.matrix or options.config or options.overrides or fixed != {"profile": None, "seed": None}:
            raise ValueError(
                f"--resume takes all values from {run_id}; remove --profile, --seed, -p, --config and --matrix"
            )
        return [plan_resumed(run_id, out, **selection)]
    pairs = [argument.partition("=")[::2] for argument in options.overrides if "=" in argument]
    overrides = dict(pairs)
    if len(overrides) < len(options.overrides):
        found = " ".join(options.overrides)
        raise ValueError(f"-p takes NOTEBOOK.PARAMETER=VALUE, each parameter once; found {found}")
    if options.config is not None:
        config = _read_yaml(options.config, "configuration")
        if not isinstance(config, dict):
            raise ValueError(f"{options.config} must map names of parameters to values")
        given = {name: config.pop(name, None) for name in fixed}
        fixed = {name: given[name] if value is None else value for name, value in fixed.items()}
        overrides = config | overrides
    if options.matrix is None:
        return [plan_run(**fixed, out=out, overrides=overrides, **selection)]
    grid = _read_yaml(options.matrix, "grid of parameters")
    return plan_matrix(grid, out, fixed | overrides, **selection)


def _read_yaml(path: Path, kind: str) -> Any:
    """Reads a small YAML file. Raises ValueError, which names the file and the `kind` that it should be."""
    try:
        with open_text(path) as file:
            return _parse_yaml(file.read(MAX_GRID_CHARS + 1))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no {kind} in YAML: {error!s:.300}") from None


def _parse_yaml(text: str) -> Any:
    """Raises ValueError for aliases, which can stand for gigabytes, and for deep nesting."""
    if len(text) > MAX_GRID_CHARS:
        raise ValueError(f"it has more than {MAX_GRID_CHARS:,} characters")
    depth = 0
    for event in yaml.parse(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_GRID_DEPTH:
            raise ValueError(f"it has aliases (*name) or more than {MAX_GRID_DEPTH} levels")
    return yaml.safe_load(text)
