"""Trains a job in several gloo processes, each forked from a server that has the imports, so that it takes seconds.

`with_fixed_rollouts` replaces sampling and reward: completions depend on the prompt and on the place in its group only,
so that any number of processes trains on the same ones, and rewards differ within each group.
"""

import multiprocessing
import os
import socket
from contextlib import contextmanager

import pytest
import torch

PRELOADED = ["torch", "transformers", "trl", "peft", "o3v.inference", "o3v.training.job", "helpers.gloo_jobs"]
LENGTH = 6


def fixed_completions(input_ids, vocabulary):
    """(rows, LENGTH) token ids above the special ones: a function of the prompt and of how often it came before."""
    seen, rows = {}, []
    for prompt in input_ids.tolist():
        text = tuple(token for token in prompt if token)
        seen[text] = seen.get(text, 0) + 1
        generator = torch.Generator().manual_seed(sum(text) + 1_000 * seen[text])
        rows.append(torch.randint(30, vocabulary, (LENGTH,), generator=generator))
    return torch.stack(rows).to(input_ids.device)


def score(text, *_):
    """A reward that differs between texts."""
    return {"total": sum(map(ord, text)) % 11 / 11, "format": 1.0}


@contextmanager
def with_fixed_rollouts():
    from o3v.training import reward_function
    from o3v.training.gspo_trainer import GspoTrainer

    original = GspoTrainer.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        vocabulary = len(self.processing_class.tokenizer)
        self.model.generate = lambda input_ids, **_: torch.cat([input_ids, fixed_completions(input_ids, vocabulary)], 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GspoTrainer, "__init__", init)
        patch.setattr(reward_function, "score_completion", score)
        yield


def _work(rank, count, port, job, fixed):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    from o3v import inference
    from o3v.training.job import HeldoutScoring, run_job

    scoring = HeldoutScoring(inference.heldout_rewards, inference.heldout_mam)
    if fixed:
        with with_fixed_rollouts():
            run_job(job, scoring)
    else:
        run_job(job, scoring)
    torch.distributed.destroy_process_group()


def run_in_processes(job, fixed=False, timeout_s=1500):
    """Trains the job in as many processes as it names."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    count = job.config.num_processes
    started = [context.Process(target=_work, args=(rank, count, port, job, fixed)) for rank in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout_s)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0] * count
