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
    ratio, advantage = token_ratios(logp, logp_old), advantage[:, None]
    high = epsilon if epsilon_high is None else epsilon_high
    gained = torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + high) * advantage)
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
    ratio = sequence_ratio(logp, logp_old, mask)
    high = epsilon if epsilon_high is None else epsilon_high
    return -torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + high) * advantage).mean()
