"""One optimizer step of pretraining: Muon and AdamW, the learning rate, gradients of a batch in two threads.

This module does not know about clips or stages. Not part of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

# loss(step, rng) of one part of a step's batch → its value and numbers for the history
Loss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]
PartGradients = tuple[tuple[torch.Tensor | None, ...], dict[str, float]]

PARTS = 2  # per batch, each in its own thread: two threads on half of the cores are faster than one on all cores


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings, patches, norms and biases.

    Args:
        parameters: trained parameters by name.
        rate: learning rate of AdamW.
        muon: learning rate of Muon in units of `rate`.
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
    """Factor of the learning rate: it rises over the first steps, stays at 1, and falls to 0 over the last steps.

    Args:
        step: number of the step, from 0.
        steps: number of all steps.
        decay: share of the steps at the end over which the rate falls; 0 for none.
        warmup: number of steps at the beginning over which the rate rises.
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


def compute_gradients(
    loss: Loss, parameters: Sequence[nn.Parameter], step: int, seed: tuple[int, ...], part: int
) -> PartGradients:
    """The gradient of each parameter, and the numbers for the history, on one part of a step's batch.

    Args:
        loss: computes the loss of a part in bf16 autocast.
        parameters: parameters to differentiate by; one that the loss does not use gets None.
        step: number of the step, from 0.
        seed: the random draws of the step start from (*seed, part).
        part: number of the part, from 0.
    """
    # threads would share the cache of autocast, and the order in which they fill it changes the sums of gradients
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        value, numbers = loss(step, np.random.default_rng([*seed, part]))
    return torch.autograd.grad(value, parameters, allow_unused=True), {"loss": value.item(), **numbers}


def average_gradients(parameters: Sequence[nn.Parameter], parts: Sequence[PartGradients]) -> dict[str, float]:
    """Sets the gradient of each parameter to the mean over the parts. Returns the mean of the numbers."""
    for parameter, *gradients in zip(parameters, *(part for part, _ in parts), strict=True):
        parameter.grad = None if gradients[0] is None else torch.stack(gradients).mean(0)
    numbers = [part_numbers for _, part_numbers in parts]
    return {name: sum(part[name] for part in numbers) / len(numbers) for name in numbers[0]}
