"""Several updates on the same rollouts: where GSPO and GRPO part.

On the first update the policy is the one that wrote the completions, every ratio is 1, and both have the same
gradient. After it the ratios spread: GRPO clips tokens, GSPO whole completions. Plain gradient steps on a few
questions, to look at; training is `gspo`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from o3v.models import prefix_cache
from o3v.models.vlm import VideoModel, encode
from o3v.prompts import Prompt
from o3v.rewards.grounded import RewardConfig, score_completion
from o3v.training import objective

LOSSES: Mapping[str, Callable[..., torch.Tensor]] = {"GRPO": objective.grpo_loss, "GSPO": objective.gspo_loss}


@dataclass(frozen=True)
class Rollouts:
    """Completions of a few questions, G each: ids and mask (rows, tokens), advantages (rows,), what was asked."""

    inputs: dict[str, torch.Tensor]
    ids: torch.Tensor
    mask: torch.Tensor
    advantage: torch.Tensor


@dataclass(frozen=True)
class Update:
    """One update: loss, the ratios before it as its loss takes them, how many of them are clipped, the gradient."""

    loss_name: str
    number: int
    loss: float
    ratios: torch.Tensor
    clipped: float
    gradient: torch.Tensor

    def row(self) -> dict[str, float | str]:
        """The update as a line of a table."""
        ends = {"lowest ratio": self.ratios.min().item(), "highest ratio": self.ratios.max().item()}
        return {"loss": self.loss_name, "update": self.number + 1, **ends, "clipped": self.clipped}


def sample_rollouts(
    vlm: VideoModel, asked: Sequence[Prompt], num_generations: int, longest: int, reward: RewardConfig, seed: int
) -> Rollouts:
    """Samples `num_generations` completions of each question and scores them at the start of training."""
    inputs = dict(encode(vlm.processor, [prompt for prompt in asked for _ in range(num_generations)]))
    torch.manual_seed(seed)
    tokens = prefix_cache.generate(vlm.model.eval(), **inputs, max_new_tokens=longest, do_sample=True)
    ids = tokens[:, inputs["input_ids"].shape[1] :]
    ended = (ids == vlm.model.generation_config.eos_token_id).long()
    mask = (ended.cumsum(1) - ended == 0).long()
    texts = vlm.processor.batch_decode(ids, skip_special_tokens=True)
    rows = [prompt.row for prompt in asked for _ in range(num_generations)]
    totals = [score_completion(text, row, 0.0, reward)["total"] for text, row in zip(texts, rows, strict=True)]
    return Rollouts(inputs, ids, mask, objective.advantages(torch.tensor(totals).view(-1, num_generations)).flatten())


def repeated_updates(
    vlm: VideoModel, rolled: Rollouts, loss_name: str, count: int, rate: float, epsilon: float
) -> list[Update]:
    """`count` AdamW steps on the same rollouts with the loss of that name in LOSSES; the model given stays as it is."""
    model = copy.deepcopy(vlm.model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    old, done = None, []
    for number in range(count):
        optimizer.zero_grad()
        logp, _ = prefix_cache.log_probs(
            model, prefix_cache.prefill(model, rolled.inputs), rolled.ids, rolled.mask, 1.0
        )
        old = logp.detach() if old is None else old
        loss = LOSSES[loss_name](logp, old, rolled.mask, rolled.advantage, epsilon)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        ratios, side = _ratios(loss_name, logp.detach(), old, rolled)
        clipped = ((side > 0) & (ratios > 1 + epsilon)) | ((side < 0) & (ratios < 1 - epsilon))
        done.append(Update(loss_name, number, loss.item(), ratios, clipped.float().mean().item(), gradient))
        optimizer.step()
    return done


def _ratios(
    loss_name: str, logp: torch.Tensor, old: torch.Tensor, rolled: Rollouts
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ratios that a loss clips, and the advantage that each is weighted with."""
    if loss_name == "GSPO":
        return objective.sequence_ratio(logp, old, rolled.mask), rolled.advantage
    there = rolled.mask.bool()
    return objective.token_ratios(logp, old)[there], rolled.advantage[:, None].expand_as(there)[there]
