"""Several updates on the same rollouts: GSPO and GRPO are equal at first, differ later and clip their own ratios."""

import numpy as np
import pytest
import torch
from helpers.world import builder_of

from o3v.config import GspoConfig
from o3v.models import prefix_cache
from o3v.rewards.config import RewardConfig
from o3v.training import objective, off_policy


@pytest.fixture
def rollouts(twin, rl_examples, world):
    prompts = [builder_of(world).for_example(e, training=True) for e in rl_examples[:2]]
    rollouts = off_policy.sample_rollouts(
        twin, prompts, GspoConfig(num_generations=3, max_new_tokens=6), RewardConfig.paper(), seed=0
    )
    assert rollouts.ids.shape == rollouts.mask.shape and len(rollouts.ids) == len(rollouts.advantage) == 6
    return off_policy.Rollouts(rollouts.inputs, rollouts.ids, rollouts.mask, torch.tensor([1.0, 0.0, -1.0] * 2))


def updates(model, rollouts, name, epsilon):
    """Three updates as in notebook 03: of each, norm of the gradient, ratios, and share of them that is clipped."""
    model = off_policy.trial_model(model, rank=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    old, made = None, []
    for _ in range(3):
        optimizer.zero_grad()
        prefix = prefix_cache.prefill(model, rollouts.inputs)
        logp, _ = prefix_cache.log_probs(model, prefix, rollouts.ids, rollouts.mask, temperature=1.0)
        old = logp.detach() if old is None else old
        off_policy.LOSSES[name](logp, old, rollouts.mask, rollouts.advantage, epsilon).backward()
        ratios, advantage = off_policy.clipped_ratios(name, logp.detach(), old, rollouts)
        made.append((off_policy.gradient_norm(model), ratios, objective.clipped_share(ratios, advantage, epsilon)))
        optimizer.step()
    return made


def test_gspo_is_grpo_on_the_first_update_only(twin, rollouts):
    before = {name: value.clone() for name, value in twin.model.state_dict().items()}
    grpo, gspo = (updates(twin.model, rollouts, name, epsilon=0.02) for name in ("GRPO", "GSPO"))
    norms = off_policy.first_gradient_norms(twin.model, rollouts, epsilon=0.02)
    assert norms["GRPO"] == pytest.approx(grpo[0][0], rel=1e-4) and norms["GRPO"] > 1e-3
    assert norms["GSPO"] == pytest.approx(gspo[0][0], rel=1e-4)
    assert norms["difference"] < 1e-4 * norms["GRPO"]
    assert grpo[2][0] != pytest.approx(gspo[2][0], rel=1e-3)
    for made, count in ((grpo, int(rollouts.mask.sum())), (gspo, 6)):
        (_, first, none), (_, last, clipped) = made[0], made[2]
        assert first.tolist() == pytest.approx([1.0] * count) and none == 0.0
        assert np.ptp(last.numpy()) > 0.01 and 0 < clipped <= 1
    assert np.ptp(gspo[2][1].numpy()) < np.ptp(grpo[2][1].numpy())  # a mean over tokens changes less
    assert all(torch.equal(value, before[name]) for name, value in twin.model.state_dict().items())
