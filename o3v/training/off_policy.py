"""Several updates on the same rollouts, which show where GSPO and GRPO differ.

On the first update the policy is the one that sampled the completions: every ratio is 1, and both losses have the same
gradient. Later the ratios spread: GRPO clips tokens, GSPO clips whole completions. Notebook 03 makes plain AdamW steps
on a few questions in its cells; training is in `training.gspo`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model

from o3v.config import GspoConfig
from o3v.models import prefix_cache
from o3v.models.vlm import VideoModel, decoding_options, encode
from o3v.prompts import Prompt
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import score_completion
from o3v.training import objective
from o3v.training.trainer import lora_config

LOSSES: Mapping[str, Callable[..., torch.Tensor]] = {"GRPO": objective.grpo_loss, "GSPO": objective.gspo_loss}


@dataclass(frozen=True)
class Rollouts:
    """G completions for each of a few questions."""

    inputs: dict[str, torch.Tensor]  # model inputs of the prompts, one row per completion
    ids: torch.Tensor  # token ids of the completions, (rows, tokens), padded on the right
    mask: torch.Tensor  # 1 for tokens up to the end of a completion, (rows, tokens)
    advantage: torch.Tensor  # advantage of each completion in its group, (rows,)
    texts: Sequence[str] = ()  # the completions as text
    scores: Sequence[Mapping[str, float | None]] = ()  # reward of each completion, term by term


def sample_rollouts(
    vlm: VideoModel, prompts: Sequence[Prompt], config: GspoConfig, reward_config: RewardConfig, seed: int
) -> Rollouts:
    """Samples `config.num_generations` completions for each prompt and scores them as at the start of training.

    Args:
        vlm: the model that samples.
        prompts: questions, each with its STGR row.
        config: group size and largest number of tokens.
        reward_config: reading of the reward.
        seed: seed of the sampling.
    """
    repeated = [prompt for prompt in prompts for _ in range(config.num_generations)]
    inputs = {name: value.to(vlm.model.device) for name, value in encode(vlm.processor, repeated).items()}
    torch.manual_seed(seed)
    options = decoding_options(config.max_new_tokens, temperature=1.0)  # log-probabilities are those of all tokens
    tokens = prefix_cache.generate(vlm.model.eval(), **inputs, **options)
    ids = tokens[:, inputs["input_ids"].shape[1] :]
    ends = torch.as_tensor(vlm.model.generation_config.eos_token_id, device=ids.device)  # one id, or a list
    ended = torch.isin(ids, ends).long()
    mask = (ended.cumsum(1) - ended == 0).long()
    texts = vlm.processor.batch_decode(ids, skip_special_tokens=True)
    scores = [score_completion(t, p.row, 0.0, reward_config) for t, p in zip(texts, repeated, strict=True)]
    groups = torch.tensor([score["total"] for score in scores]).view(-1, config.num_generations)
    advantage = objective.advantages(groups).flatten().to(ids.device)
    return Rollouts(inputs, ids, mask, advantage, texts, scores)


def trial_model(model: Any, rank: int) -> Any:
    """A copy of a model to make a few updates on: all weights, or with new LoRA adapters of this rank above 0.

    Adapters need no gradients and optimizer states of the whole model.
    """
    copied = copy.deepcopy(model)
    return (get_peft_model(copied, lora_config(rank)) if rank else copied).eval()


def gradient_norm(model: Any) -> float:
    """Euclidean norm of the gradient of all parameters that have one."""
    squares = [p.grad.float().square().sum() for p in model.parameters() if p.grad is not None]
    return torch.stack(squares).sum().sqrt().item() if squares else 0.0


def first_gradient_norms(model: Any, rollouts: Rollouts, epsilon: float) -> dict[str, float]:
    """Norms of the gradients of all LOSSES on the policy that sampled, and of the difference of the two.

    Only one gradient is in memory at a time. `epsilon` is the clipping range of the ratios.
    """
    prefix = prefix_cache.prefill(model, rollouts.inputs)
    logp, _ = prefix_cache.log_probs(model, prefix, rollouts.ids, rollouts.mask, 1.0)
    given = (logp, logp.detach(), rollouts.mask, rollouts.advantage, epsilon)
    losses = {name: loss(*given) for name, loss in LOSSES.items()}
    losses["difference"] = losses["GRPO"] - losses["GSPO"]
    norms = {}
    for name, loss in losses.items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        norms[name] = gradient_norm(model)
    model.zero_grad()
    return norms


def clipped_ratios(
    loss_name: str, logp: torch.Tensor, old: torch.Tensor, rollouts: Rollouts
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ratios that a loss clips, one per token (GRPO) or completion (GSPO), and the advantage of each."""
    if loss_name == "GSPO":
        return objective.sequence_ratio(logp, old, rollouts.mask), rollouts.advantage
    present = rollouts.mask.bool()
    return objective.token_ratios(logp, old)[present], rollouts.advantage[:, None].expand_as(present)[present]
