"""The command line: `o3v run`. Errors of use are one line on stderr and exit code 2; a notebook that fails gives 1."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import o3v
from o3v import data_commands


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    options = make_parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("o3v")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [handler], False
    try:
        return options.command(options)
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `command` to the function that carries it out."""
    parser = Parser(prog="o3v", description="Open-o3 Video, the method, from one command.")
    parser.add_argument("--version", action="version", version=f"o3v {o3v.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
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
    data_commands.add_to(commands)
    return parser


def run_notebooks(options: argparse.Namespace) -> int:
    """`o3v run`: checks everything, then runs one plan or the grid's, and shows what came out."""
    from o3v import batch
    from o3v.notebook import UsageError

    log = logging.getLogger("o3v.run")
    try:
        summaries = []
        for plan in _plans(options):
            log.info("run %s in %s", plan.run_id, batch.shown(plan.run_dir))
            summaries.append(batch.carry_out(plan, timeout_s=options.timeout))
            if summaries[-1].error:
                _complain(summaries[-1].error)
            elif not options.matrix:
                log.info("\n%s", batch.results_table(summaries[-1]))
    except (UsageError, OSError) as error:
        _complain(error)
        return 2
    if options.matrix:
        log.info("\n%s", batch.matrix_table(summaries))
    return int(any(summary.error for summary in summaries))


def _plans(options: argparse.Namespace) -> list[Any]:
    from o3v import runs
    from o3v.notebook import UsageError

    if options.timeout is not None and options.timeout <= 0:
        raise UsageError(f"the time limit must be at least a second, found {options.timeout}")
    chosen = {"start_from": options.start_from, "only": options.only, "overrides": _overrides(options.overrides)}
    chosen |= {"notebooks": options.notebooks or runs.NOTEBOOKS}
    if options.matrix is None:
        return [runs.plan_run(options.profile, options.seed, options.out, resume=options.resume, **chosen)]
    if options.resume is not None:
        raise UsageError("--resume names one run, --matrix many: the same --matrix goes on with all of them")
    return runs.plan_matrix(_read_grid(options.matrix), options.profile, options.seed, options.out, **chosen)


def _overrides(given: Sequence[str]) -> dict[str, str]:
    from o3v.notebook import UsageError

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

    from o3v.notebook import UsageError

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _complain(message: object) -> None:
    sys.stderr.write(f"o3v: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
