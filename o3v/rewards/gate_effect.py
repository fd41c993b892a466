"""What the temporal gate of the spatial term does to sampled completions.

The gate pays a box only if its time is near a key time. This module does not know trainers or figures.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import score_completion
from o3v.schema import Task

TOLERANCE = 1e-9


def gate_effect(
    rollouts: Iterable[Mapping[str, Any]], truth: Mapping[str, Mapping[str, Any]], config: RewardConfig
) -> list[dict[str, Any]]:
    """r_s of each rollout of a spatio-temporal question, with the gate of `config` and without a gate.

    Args:
        rollouts: rows with `id`, `task`, `completion`, `image_size_refine` and terms, as `GroundedReward` keeps them.
        truth: STGR rows by id.
        config: reading of the reward.

    Returns one row per rollout: `id`, `completion`, `space_wh`, `with gate`, `without gate`, and `lowered`.
    """
    timed = [r for r in rollouts if r["task"] == Task.SPATIO_TEMPORAL and r.get("thk_spatial") is not None]
    table = []
    for row in timed:
        full = {**truth[row["id"]], "image_size_refine": row["image_size_refine"]}
        gated, free = (
            score_completion(row["completion"], full, 1.0, replace(config, gate_s=gate_s))["thk_spatial"] or 0.0
            for gate_s in (config.gate_s, math.inf)
        )
        kept = {"id": row["id"], "completion": row["completion"], "space_wh": row["image_size_refine"]}
        table.append({**kept, "with gate": gated, "without gate": free, "lowered": free > gated + TOLERANCE})
    return table
