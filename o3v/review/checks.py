"""What `verify` reports: one check with its problems. A file that cannot be read is a problem of its check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Problems = Iterator[str]
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Check:
    """One checked thing, for example `05_evaluation/metrics.json: hash`, and its problems; none if it holds.

    `skipped` says why something could not be checked, which is no problem.
    """

    name: str
    problems: tuple[str, ...] = ()
    skipped: str = ""


def run_check(name: str, function: Callable[..., Problems], *arguments: Any) -> Check:
    """Runs a check. A file that is missing or cannot be read is a problem, not an error."""
    try:
        return Check(name, tuple(function(*arguments)))
    except UNREADABLE as error:
        return Check(name, (f"cannot be checked: {type(error).__name__}: {error!s:.200}",))
