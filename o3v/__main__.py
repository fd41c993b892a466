"""The command line `o3v`. Wrong arguments print one line to stderr and give exit code 2. A failed notebook gives 1."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import o3v
from o3v.cli import ablate, answers, data, evaluate, parity, plan, review, run, train
from o3v.text import printable, redact


class Parser(argparse.ArgumentParser):
    """An argument parser that prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends the program with exit code 2."""
        self.exit(2, f"{self.prog}: {_one_line(message)} (see {self.prog} --help)\n")


class Output(logging.StreamHandler):
    """Prints messages with escape codes for what would act on the terminal. After a closed pipe, prints nothing more.

    Characters that the encoding of the output lacks are printed as escape codes too.
    """

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

    def format(self, record: logging.LogRecord) -> str:
        """The message without level or name of the logger."""
        return printable(record.getMessage())

    def handleError(self, record: logging.LogRecord) -> None:
        """Lets the command finish its work when the reader of its output has gone (`o3v … | head`)."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(message: object) -> str:
    return printable(redact(" ".join(str(message).split())))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code. Expected errors become one line on stderr and exit code 2."""
    parser = Parser(prog="o3v", description="Open-o3 Video: answers about videos, with boxes and times as evidence.")
    parser.add_argument("--version", action="version", version=f"o3v {o3v.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run.add_command(commands)
    plan.add_command(commands)
    train.add_command(commands)
    parity.add_command(commands)
    data.add_commands(commands)
    answers.add_commands(commands)
    evaluate.add_command(commands)
    review.add_commands(commands)
    ablate.add_command(commands)
    options = parser.parse_args(arguments)
    logger = logging.getLogger("o3v")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [Output()], False
    try:
        return options.command(options)
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"o3v: {_one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("o3v: interrupted; run the same command again to continue\n")
        return 130
    finally:
        logger.handlers, logger.propagate = [], True


if __name__ == "__main__":
    sys.exit(main())
