"""The command line `o3v`."""

import math
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE, FOLDER = {"type": Path, "metavar": "FILE"}, {"type": Path, "metavar": "DIR"}  # settings of an argument


def add_parser(commands: Any, name: str, command: Callable[[Namespace], int], summary: str) -> Callable[..., Any]:
    """Adds a subcommand, which calls `command`. Returns the function that adds its arguments."""
    parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.set_defaults(command=command)
    return parser.add_argument


def table_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns a table as text. The keys of the first row are the header. None becomes a dash.

    >>> print(table_text([{"model": "base", "accuracy": 0.5}, {"model": "sft", "accuracy": None}]))
    model  accuracy
    base      0.500
    sft           –
    """
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, [line[0].ljust(widths[0]), *line[1:]], widths)) for line in lines)


def _cell(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else "–" if value is None else str(value)
    return " ".join(text.split())  # a cell is one line


def number_above_0(text: str) -> float:
    """Reads an argument that is a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"must be a number above 0, found {text!r:.40}")
    return number


def count_above_0(text: str) -> int:
    """Reads an argument that is a whole number above 0."""
    if not text.isdecimal() or not 0 < float(text) < 1e9:
        raise ArgumentTypeError(f"must be a whole number above 0, found {text!r:.40}")
    return int(text)
