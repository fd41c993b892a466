"""The objectives of GSPO and GRPO in a few readable lines: advantages, ratios, clipping.

A test compares TRL's trainer with `gspo_loss`. This module does not know models or rewards.
"""

import torch


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """A_i = (r_i − mean_j r_j) / (std_j r_j + 1e-4) in each group, (groups, G) to (groups, G). Source: GSPO; 1e-4: TRL.

    >>> advantages(torch.tensor([[1.0, 3.0]])).round(decimals=3)
    tensor([[-0.7070,  0.7070]])
    """
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def sequence_ratio(logp: torch.Tensor, logp_old: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """s_i = exp( (1/|y_i|) Σ_t log π(y_t)/π_old(y_t) ), from (completions, tokens) to (completions,). Source: GSPO."""
    return torch.exp(((logp - logp_old) * mask).sum(1) / mask.sum(1).clamp(min=1))


def token_ratios(logp: torch.Tensor, logp_old: torch.Tensor) -> torch.Tensor:
    """π(y_t)/π_old(y_t) of each token, (completions, tokens). Source: GRPO."""
    return torch.exp(logp - logp_old)


def clipped_gain(
    ratio: torch.Tensor, advantage: torch.Tensor | float, epsilon: float, epsilon_high: float | None = None
) -> torch.Tensor:
    """min(s A, clip(s, 1−ε, 1+ε) A) of each ratio s, same shape. `epsilon_high` None is ε. Source: PPO.

    >>> clipped_gain(torch.tensor([1.25, 0.5]), 1.0, 0.2), clipped_gain(torch.tensor([1.25, 0.5]), -1.0, 0.2)
    (tensor([1.2000, 0.5000]), tensor([-1.2500, -0.8000]))
    """
    high = epsilon if epsilon_high is None else epsilon_high
    return torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + high) * advantage)


def clipped_share(
    ratio: torch.Tensor, advantage: torch.Tensor | float, epsilon: float, epsilon_high: float | None = None
) -> float:
    """Share of the ratios that have no gradient because they are clipped.

    >>> clipped_share(torch.tensor([1.25, 1.0]), 1.0, 0.2), clipped_share(torch.tensor([1.25, 1.0]), -1.0, 0.2)
    (0.5, 0.0)
    """
    high, weight = epsilon if epsilon_high is None else epsilon_high, torch.as_tensor(advantage)
    clipped = ((weight > 0) & (ratio > 1 + high)) | ((weight < 0) & (ratio < 1 - epsilon))
    return clipped.float().mean().item()


def kl_penalty(logp: torch.Tensor, logp_ref: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over completions of the mean over tokens of π_ref/π − log(π_ref/π) − 1, an estimate of KL(π, π_ref) ≥ 0.

    The loss is `gspo_loss` + β · `kl_penalty`. Inputs (completions, tokens). Source: GRPO, equation 4.
    """
    log_ratio = logp_ref - logp
    return (((log_ratio.exp() - log_ratio - 1) * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def grpo_loss(
    logp: torch.Tensor,
    logp_old: torch.Tensor,
    mask: torch.Tensor,
    advantage: torch.Tensor,
    epsilon: float,
    epsilon_high: float | None = None,
) -> torch.Tensor:
    """GRPO's loss: as `gspo_loss`, with one ratio per token, averaged over tokens, then over completions.

    logp, logp_old and mask: (completions, tokens); advantage: (completions,). Source: GRPO.
    """
    gained = clipped_gain(token_ratios(logp, logp_old), advantage[:, None], epsilon, epsilon_high)
    return -((gained * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def gspo_loss(
    logp: torch.Tensor,
    logp_old: torch.Tensor,
    mask: torch.Tensor,
    advantage: torch.Tensor,
    epsilon: float,
    epsilon_high: float | None = None,
) -> torch.Tensor:
    """GSPO's loss, −mean_i min(s_i A_i, clip(s_i, 1−ε, 1+ε_high) A_i); ε_high None is ε.

    logp, logp_old and mask: (completions, tokens); advantage: (completions,). Source: paper, GSPO objective.
    """
    return -clipped_gain(sequence_ratio(logp, logp_old, mask), advantage, epsilon, epsilon_high).mean()
