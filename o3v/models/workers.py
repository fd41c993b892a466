"""Batches of questions in worker processes, each with its own copy of the model: one for each GPU or CPU core.

Batches are dealt out whole, and a worker computes with one thread, so results do not depend on the number of workers
and equal those of one process with one thread. Workers load the model from its folder. They stay for the next call of
the process, since their start takes some ten seconds, and end with it.
"""

import io
import logging
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from o3v.models.source import ModelSource, weights_digest
from o3v.models.vlm import VideoModel, load
from o3v.processes import in_worker, one_gpu_each, start_pool, stop_pool, visible_gpus

log = logging.getLogger(__name__)

Item = Any
Result = Any


@dataclass
class _Pool:
    """The workers of this process."""

    executor: ProcessPoolExecutor | None = None
    workers: int = 0


_POOL = _Pool()
_LOADED: dict[ModelSource, VideoModel] = {}  # in a worker: the last model that it loaded


def run_batches(
    function: Callable[[Item], Result],
    vlm: VideoModel,
    batches: Sequence[Item],
    num_workers: int | None,
    describe: Callable[[Item], str] = repr,
) -> Iterator[Result]:
    """Yields `function(batch)` for each batch, in order, computed in `num_workers` processes.

    This process computes them itself if there are too few batches to start workers for, if it is a worker or one of
    several training processes, or if the weights in memory are not those of a folder.

    Args:
        function: picklable; whatever in it is `vlm` is the worker's own copy there.
        vlm: the model, which `load` or `save` returned.
        batches: what to compute; picklable.
        num_workers: number of processes; None: one for each GPU.
        describe: names a batch in errors.

    Errors of `function` are raised as they are, with a note that names the batch. Raises RuntimeError if a worker dies.
    """
    workers = _useful_workers(vlm, len(batches), num_workers)
    if workers < 2:
        for batch in batches:
            yield _named(lambda batch=batch: function(batch), describe, batch)
        return
    executor, packed = _executor(workers), _pack(function, vlm)
    waiting: deque = deque()
    try:
        for batch in batches:
            waiting.append((executor.submit(_compute, vlm.source, packed, _pack(batch, vlm)), batch))
            if len(waiting) > 2 * workers:
                future, first = waiting.popleft()
                yield _named(future.result, describe, first)
        while waiting:
            future, first = waiting.popleft()
            yield _named(future.result, describe, first)
    except BaseException as error:
        for future, _ in waiting:
            future.cancel()
        if not isinstance(error, Exception) or isinstance(error.__cause__, BrokenProcessPool):
            _forget(stop_pool)  # they are dead, or busy with what nobody waits for
        raise


def close_workers() -> None:
    """Ends the workers of this process and frees their memory; the next call starts new ones."""
    _forget(ProcessPoolExecutor.shutdown)


def _forget(end: Callable[[ProcessPoolExecutor], None]) -> None:
    executor, _POOL.executor = _POOL.executor, None
    if executor:
        end(executor)


def _useful_workers(vlm: VideoModel, num_batches: int, num_workers: int | None) -> int:
    """The number of workers to use; below 2, this process computes itself."""
    wanted = torch.cuda.device_count() if num_workers is None else num_workers
    least = 2 if _POOL.executor else 2 * wanted  # a start pays from some batches on
    if wanted < 2 or num_batches < least or in_worker() or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return 1
    if vlm.source is None or weights_digest(vlm.model) != vlm.source.digest:
        log.info("the weights in memory are not those of a folder: one process answers")
        return 1
    return wanted


def _executor(workers: int) -> ProcessPoolExecutor:
    """The pool of this process, with `workers` processes. Each has its own GPU, or one thread of a CPU."""
    if _POOL.executor is None or _POOL.workers != workers:
        close_workers()
        gpus = visible_gpus(torch.cuda.device_count())
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
        threads = str(max(1, (os.cpu_count() or 1) // workers) if gpus else 1)
        own = [quiet | {"OMP_NUM_THREADS": threads} | each for each in one_gpu_each(workers, gpus)]
        _POOL.executor = start_pool(workers, own)
        _POOL.workers = workers
    return _POOL.executor


def _named(compute: Callable[[], Result], describe: Callable[[Item], str], batch: Item) -> Result:
    """The result of `compute`; an error names the batch."""
    try:
        return compute()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a worker process died while it answered {describe(batch)} or the batches around it, perhaps for lack of "
            "memory; run again with fewer workers (InferenceConfig.num_workers) or smaller batches"
        ) from error
    except Exception as error:
        error.add_note(f"while answering {describe(batch)}")
        raise


class _Pickler(pickle.Pickler):
    """Leaves out the model: the worker has its own."""

    def __init__(self, file: io.BytesIO, vlm: VideoModel) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.vlm = vlm

    def persistent_id(self, value: Any) -> str | None:
        """A mark in place of the model."""
        return "model" if value is self.vlm else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, vlm: VideoModel) -> None:
        super().__init__(io.BytesIO(data))
        self.vlm = vlm

    def persistent_load(self, mark: str) -> VideoModel:
        """The worker's model."""
        return self.vlm


def _pack(value: Any, vlm: VideoModel) -> bytes:
    file = io.BytesIO()
    _Pickler(file, vlm).dump(value)
    return file.getvalue()


def _compute(source: ModelSource, function: bytes, batch: bytes) -> Result:
    """Runs in a worker."""
    vlm = _loaded(source)
    return _Unpickler(function, vlm).load()(_Unpickler(batch, vlm).load())


def _loaded(source: ModelSource) -> VideoModel:
    """The worker's copy of the model. Raises RuntimeError if the folder no longer has the weights of `source`."""
    if source not in _LOADED:
        _LOADED.clear()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        vlm = load(source.name, source.adapter, source.master_weights)
        if weights_digest(vlm.model) != source.digest:
            raise RuntimeError(f"the weights in {source.name} have changed since the model was loaded; load it again")
        _LOADED[source] = vlm
    return _LOADED[source]
