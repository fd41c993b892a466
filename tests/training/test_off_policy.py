"""Several updates on the same rollouts: equal at first, apart later, clipped by their own ratios."""

import numpy as np
import pytest
import torch
from helpers.world import FRAMES

from o3v.prompts import example_prompt
from o3v.rewards.grounded import RewardConfig
from o3v.training import off_policy


@pytest.fixture
def rolled(twin, rl_examples, world):
    asked = [example_prompt(e, world, FRAMES, twin.box_space, training=True) for e in rl_examples[:2]]
    rolled = off_policy.sample_rollouts(twin, asked, num_generations=3, longest=6, reward=RewardConfig.paper(), seed=0)
    assert rolled.ids.shape == rolled.mask.shape and len(rolled.ids) == len(rolled.advantage) == 6
    return off_policy.Rollouts(rolled.inputs, rolled.ids, rolled.mask, torch.tensor([1.0, 0.0, -1.0] * 2))


def test_gspo_is_grpo_on_the_first_update_only(twin, rolled):
    before = {name: value.clone() for name, value in twin.model.state_dict().items()}
    grpo, gspo = (
        off_policy.repeated_updates(twin, rolled, name, 3, rate=1e-2, epsilon=0.02) for name in ("GRPO", "GSPO")
    )
    assert torch.allclose(grpo[0].gradient, gspo[0].gradient, atol=1e-6)
    assert not torch.allclose(grpo[2].gradient, gspo[2].gradient, atol=1e-6)
    for first, last, count in ((grpo[0], grpo[2], int(rolled.mask.sum())), (gspo[0], gspo[2], 6)):
        assert first.ratios.tolist() == pytest.approx([1.0] * count) and first.clipped == 0.0
        assert np.ptp(last.ratios.numpy()) > 0.01 and 0 < last.clipped <= 1
    assert np.ptp(gspo[2].ratios.numpy()) < np.ptp(grpo[2].ratios.numpy())  # a mean over tokens moves less
    assert all(torch.equal(value, before[name]) for name, value in twin.model.state_dict().items())
