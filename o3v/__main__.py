"""The command line `o3v`. An error of use is one line on stderr and exit code 2; a notebook that fails gives 1."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import o3v
from o3v.cli import data, run


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
        sys.stderr.write("o3v: interrupted; the same command resumes from here\n")
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `command` to the function that carries it out."""
    parser = Parser(prog="o3v", description="Open-o3 Video: the whole method from one command.")
    parser.add_argument("--version", action="version", version=f"o3v {o3v.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run.add_to(commands)
    data.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
