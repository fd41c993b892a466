"""The command line `o3v`. Wrong arguments print one line to stderr and give exit code 2. A failed notebook gives 1."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import o3v
from o3v.cli import data, run


class Parser(argparse.ArgumentParser):
    """An argument parser that prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends the program with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code. Expected errors become one line on stderr and exit code 2."""
    parser = Parser(prog="o3v", description="Open-o3 Video: answers about videos, with boxes and times as evidence.")
    parser.add_argument("--version", action="version", version=f"o3v {o3v.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run.add_command(commands)
    data.add_commands(commands)
    options = parser.parse_args(arguments)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("o3v")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [handler], False
    try:
        return options.command(options)
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"o3v: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("o3v: interrupted; run the same command again to continue\n")
        return 130
    finally:
        logger.handlers, logger.propagate = [], True


if __name__ == "__main__":
    sys.exit(main())
