"""One optimizer step of pretraining: Muon and AdamW, the learning rate, gradients of a batch in two threads.

This module does not know about clips or stages. Not part of the paper.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

# loss(step, rng) of one part of a step's batch → its value and numbers for the history
Loss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]

PARTS = 2  # per batch, each in its own thread: two threads on half of the cores are faster than one on all cores


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings, patches, norms and biases.

    `parameters` are given by name, `rate` is the learning rate of AdamW, `muon` that of Muon in units of `rate`.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], rate: float, muon: float) -> None:
        inner = [p for n, p in parameters.items() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        inner_ids = set(map(id, inner))
        outer = [p for p in parameters.values() if id(p) not in inner_ids]
        self.parts = [
            torch.optim.Muon(inner, lr=muon * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]
        self.parameters, self.rates = list(parameters.values()), (muon * rate, rate)

    def step(self, factor: float) -> None:
        """Clips the gradients and makes one step at `factor` times the full learning rate."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * factor
            part.step()
            part.zero_grad()


def rate_factor(step: int, steps: int, decay: float, warmup: int = 50) -> float:
    """Factor of the learning rate in a step, from 0: it rises over `warmup` steps, stays at 1, and then falls to 0.

    It falls over the last share `decay` of all steps; 0 means that it does not fall.
    """
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps) if decay else 1.0)


@contextmanager
def shared_cores() -> Iterator[ThreadPoolExecutor]:
    """A thread pool with one thread per part of a batch. The threads share the cores of torch equally."""
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // PARTS))
    try:
        with ThreadPoolExecutor(PARTS) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)


def backward(
    loss: Loss, parameters: Sequence[nn.Parameter], step: int, seed: tuple[int, ...], pool: ThreadPoolExecutor
) -> dict[str, float]:
    """Sets the gradient of each parameter to its mean over the parts of a step's batch. Returns the mean numbers.

    Args:
        loss: computes the loss of a part, in bf16 autocast.
        parameters: parameters to differentiate by; one that the loss does not use gets None.
        step: number of the step, from 0.
        seed: the random draws of a part start from (*seed, number of the part).
        pool: the threads of `shared_cores`.
    """

    def of_part(part: int) -> tuple[tuple[torch.Tensor | None, ...], dict[str, float]]:
        """The gradients and the numbers of one part."""
        # threads would share the cache of autocast, and the order in which they fill it changes the sums of gradients
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            value, numbers = loss(step, np.random.default_rng([*seed, part]))
        return torch.autograd.grad(value, parameters, allow_unused=True), {"loss": value.item(), **numbers}

    by_part, numbers = zip(*pool.map(of_part, range(PARTS)), strict=True)
    for parameter, *gradients in zip(parameters, *by_part, strict=True):
        parameter.grad = None if gradients[0] is None else torch.stack(gradients).mean(0)
    return {name: sum(part[name] for part in numbers) / len(numbers) for name in numbers[0]}
