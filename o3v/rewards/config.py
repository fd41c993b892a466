"""Settings of the reward. Every difference between the article and the public code is a field."""

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True)
class RewardConfig:
    """One reading of the reward."""

    reading: Literal["grammar", "public"] = "grammar"  # which parser reads the text
    gate: Literal["two_sided", "one_sided"] = "two_sided"  # paper: |Δt| ≤ τ; code: key − t < τ, no abs
    gate_s: float = 3.0  # paper: τ = 3 s; code: 1 s (math.inf opens the gate)
    sigma_start_s: float = 4.0  # paper: σ from 4 …
    sigma_end_s: float = 1.0  # … to 1
    sigma_until: float = 0.75  # code: reached at p = 3/4
    # paper: over the M timestamps; code: over the claims; VisionCoach: over the claims that pass the gate ("matched")
    spatial_mean: Literal["timestamps", "claims", "matched"] = "timestamps"
    box_match: Literal["best_pair", "mean_over_truth"] = "best_pair"  # paper: v_m is the best IoU; code: best_object
    words: Literal["unicode", "ascii"] = "unicode"  # tokens of ROUGE; code: a–z and 0–9 only
    spatial_needs_answer: bool = False  # code: no spatial term without a closed answer
    format: Literal["strict", "counting"] = "strict"  # paper: correct tags; code: equal numbers of tags
    not_applicable: float | None = None  # code: 0
    # must a claim name its box? paper and code: no; VisionCoach: soft or strict ("required"), with a gate of 1 s
    names: Literal["ignored", "soft", "required"] = "ignored"
    recall_weight: float = 0.0  # ours: weight of the recall of annotated evidence
    span_distance_weight: float = 0.0  # ours: weight of a temporal term that pays spans near the true one

    def __post_init__(self) -> None:
        if min(self.sigma_start_s, self.sigma_end_s) <= 0 or not 0 <= self.sigma_until <= 1:
            raise ValueError(f"{self}: σ must be positive and sigma_until in 0–1")
        if min(self.gate_s, self.recall_weight, self.span_distance_weight) < 0:
            raise ValueError(f"{self}: gate_s, recall_weight and span_distance_weight must not be negative")

    @classmethod
    def paper(cls) -> Self:
        """The article's reading, the default."""
        return cls()

    @classmethod
    def official(cls) -> Self:
        """The public code's reading, commit 1eb6eca."""
        return cls(
            reading="public",
            gate="one_sided",
            gate_s=1.0,
            spatial_mean="claims",
            box_match="mean_over_truth",
            words="ascii",
            spatial_needs_answer=True,
            format="counting",
            not_applicable=0.0,
        )


def sigma_at(progress: float, config: RewardConfig) -> float:
    """σ of the temporal reward in seconds at a training progress in 0–1: linear, then constant.

    Paper: adaptive temporal proximity; code: σ = 4(1 − p) while p < 3/4, else 1. Raises ValueError below 0 and for nan.

    >>> [sigma_at(p, RewardConfig()) for p in (0, 0.5, 0.75, 1)]
    [4.0, 2.0, 1.0, 1.0]
    """
    if not progress >= 0:
        raise ValueError(f"progress is the share of training done, 0–1, not {progress}")
    if progress >= config.sigma_until:
        return config.sigma_end_s
    return config.sigma_start_s + (config.sigma_end_s - config.sigma_start_s) * progress / config.sigma_until


PAPER = RewardConfig.paper()
