"""Pools of worker processes that end with the process that started them.

A worker ends when its parent is gone, also after a SIGTERM or a kill of the parent, and ignores Ctrl-C: the parent
decides. Processes are spawned, since a notebook's process has threads and cannot fork safely.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any


def start_pool(workers: int, variables: Sequence[Mapping[str, str]] = (), nice: int = 0) -> ProcessPoolExecutor:
    """Returns a pool whose processes start with its first tasks.

    Args:
        workers: number of processes. Raises ValueError below 1.
        variables: environment variables of the first worker, of the second, …, set before its first task is read.
        nice: lowers the priority of the workers.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers: at least 1 is needed")
    context = get_context("spawn")
    arguments = (context.Value("i", 0), [dict(v) for v in variables], nice)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=arguments)


def visible_gpus(count: int) -> list[str]:
    """The names of the GPUs that this process sees, of which there are `count`, as CUDA_VISIBLE_DEVICES takes them."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def one_gpu_each(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """The variables of `start_pool` that give each worker one of these GPUs, in turn; empty ones without GPUs."""
    return [{"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} if gpus else {} for n in range(workers)]


def stop_pool(pool: ProcessPoolExecutor) -> None:
    """Ends the workers at once, whatever they do. Open futures raise BrokenProcessPool or CancelledError."""
    for process in list((pool._processes or {}).values()):  # public from Python 3.14 on: kill_workers
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def worker_pool(
    workers: int, nice: int = 0, variables: Sequence[Mapping[str, str]] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool for a block. Its end waits for the tasks; an error or an interrupt in the block stops them at once."""
    pool = start_pool(workers, variables, nice)
    try:
        yield pool
    except BaseException:
        stop_pool(pool)
        raise
    pool.shutdown()


def in_worker() -> bool:
    """Whether this process was started by `multiprocessing`, so that it should not start workers of its own."""
    return parent_process() is not None


def _start(started: Any, variables: Sequence[Mapping[str, str]], nice: int) -> None:
    """Prepares a new worker. `started` counts them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if nice:
        os.nice(nice)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if variables:
        os.environ.update(variables[number % len(variables)])


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)
