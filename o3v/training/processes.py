"""The processes of a training run: who writes, what all of them know, and how many rows each takes.

A global batch belongs to the run and not to its processes. Without a process group all functions answer as for one
process. This module does not know models or trainers.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

Item = TypeVar("Item")
TIMEOUT_S = 7_200  # a process may wait this long for another one: for a long video, or for a checkpoint to be written


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _grouped() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _grouped() else 1


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def wait_for_all() -> None:
    """Returns when every process has called it."""
    if _grouped():
        dist.barrier()


def share(items: Sequence[Item]) -> Sequence[Item]:
    """The items of this process, consecutive ones: the results of all processes, joined, are in the order of items."""
    start, end = (len(items) * number // world_size() for number in (rank(), rank() + 1))
    return items[start:end]


def joined(rows: Sequence[Item]) -> list[list[Item]]:
    """The rows of every process, in the order of the processes; all processes must call it."""
    if not _grouped():
        return [list(rows)]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(rows))
    return parts


def from_first(make: Callable[[], Item]) -> Item:
    """The result of `make` in process 0, in all processes; only process 0 calls `make`."""
    made = [make() if rank() == 0 else None]
    if _grouped():
        dist.broadcast_object_list(made, src=0)
    return made[0]  # type: ignore[return-value]


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restores the random numbers of Python, numpy and torch after the block, which may set seeds or draw."""
    python, arrays = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
    random.setstate(python)
    np.random.set_state(arrays)


def accumulation_steps(
    batch_size: int, per_device_batch_size: int, num_processes: int, groups: int | None = None
) -> tuple[int, int]:
    """Splits a global batch into forward passes: rows of one pass, and passes of a process for an optimizer step.

    Args:
        batch_size: rows of an optimizer step, of all processes together.
        per_device_batch_size: largest number of rows in a forward pass; a process with fewer rows takes fewer.
        num_processes: processes that share the batch.
        groups: prompts of the batch, if a process must have whole groups of completions.

    Raises ValueError, which names what is possible, if the batch does not divide.

    >>> accumulation_steps(batch_size=8, per_device_batch_size=8, num_processes=2)
    (4, 1)
    >>> accumulation_steps(batch_size=64, per_device_batch_size=4, num_processes=8, groups=8)
    (4, 2)
    """
    if batch_size % per_device_batch_size:
        raise ValueError(
            f"a batch of {batch_size} cannot be split into forward passes of {per_device_batch_size} "
            f"(per_device_batch_size); choose one of {_divisors(batch_size)}"
        )
    units, unit = (batch_size, "rows") if groups is None else (groups, "questions, each with all its completions,")
    if units % num_processes:
        raise ValueError(
            f"a global batch of {units} {unit} cannot be split over {num_processes} processes; "
            f"num_processes can be {_divisors(units)}, or choose a batch that {num_processes} divides"
        )
    rows = batch_size // num_processes
    at_once = math.gcd(per_device_batch_size, rows)
    return at_once, rows // at_once


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
