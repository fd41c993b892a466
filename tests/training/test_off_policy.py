"""Several updates on the same rollouts: GSPO and GRPO are equal at first, differ later and clip their own ratios."""

import numpy as np
import pytest
import torch
from helpers.world import builder_of

from o3v.config import GspoConfig
from o3v.rewards.config import RewardConfig
from o3v.training import off_policy


@pytest.fixture
def rollouts(twin, rl_examples, world):
    prompts = [builder_of(world).for_example(e, training=True) for e in rl_examples[:2]]
    rollouts = off_policy.sample_rollouts(
        twin, prompts, GspoConfig(num_generations=3, max_new_tokens=6), RewardConfig.paper(), seed=0
    )
    assert rollouts.ids.shape == rollouts.mask.shape and len(rollouts.ids) == len(rollouts.advantage) == 6
    return off_policy.Rollouts(rollouts.inputs, rollouts.ids, rollouts.mask, torch.tensor([1.0, 0.0, -1.0] * 2))


def test_gspo_is_grpo_on_the_first_update_only(twin, rollouts):
    before = {name: value.clone() for name, value in twin.model.state_dict().items()}
    grpo, gspo = (
        off_policy.repeated_updates(twin, rollouts, name, 3, learning_rate=1e-2, epsilon=0.02)
        for name in ("GRPO", "GSPO")
    )
    norms = off_policy.first_gradient_norms(twin.model, rollouts, epsilon=0.02)
    assert norms["GRPO"] == pytest.approx(grpo[0].gradient_norm, rel=1e-4) and norms["GRPO"] > 1e-3
    assert norms["GSPO"] == pytest.approx(gspo[0].gradient_norm, rel=1e-4)
    assert norms["difference"] < 1e-4 * norms["GRPO"]
    assert grpo[2].gradient_norm != pytest.approx(gspo[2].gradient_norm, rel=1e-3)
    for first, last, count in ((grpo[0], grpo[2], int(rollouts.mask.sum())), (gspo[0], gspo[2], 6)):
        assert first.ratios.tolist() == pytest.approx([1.0] * count) and first.clipped == 0.0
        assert np.ptp(last.ratios.numpy()) > 0.01 and 0 < last.clipped <= 1
    assert np.ptp(gspo[2].ratios.numpy()) < np.ptp(grpo[2].ratios.numpy())  # a mean over tokens changes less
    assert all(torch.equal(value, before[name]) for name, value in twin.model.state_dict().items())
