"""GRPO and GSPO compared, by hand. `test_gspo` tests GSPO alone, and TRL against its formula."""

import pytest
import torch

from o3v.training import objective

OLD = torch.zeros(2, 2)
MASK = torch.tensor([[1, 1], [1, 0]])


def test_grpo_clips_tokens():
    """Ratios 1.5 and 0.5, then 1.1; A = 1 and 2, ε = 0.2: (1.2 + 0.5)/2 and 2.2."""
    logp = torch.log(torch.tensor([[1.5, 0.5], [1.1, 9.0]]))
    got = objective.grpo_loss(logp, OLD, MASK, torch.tensor([1.0, 2.0]), epsilon=0.2)
    assert got.item() == pytest.approx(-(0.85 + 2.2) / 2)


@pytest.mark.parametrize("drift", [0.0, 0.1])
def test_gradients_agree_before_the_first_update_only(drift):
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 6, generator=generator)
    mask, advantage = torch.ones(4, 6), torch.tensor([1.0, -1.0, 0.5, -0.5])
    gradients = []
    for loss in (objective.grpo_loss, objective.gspo_loss):
        logp = (old + drift * torch.randn(4, 6, generator=torch.Generator().manual_seed(1))).requires_grad_()
        loss(logp, old, mask, advantage, 0.2).backward()
        gradients.append(logp.grad)
    assert torch.allclose(*gradients, atol=1e-7) == (drift == 0.0)


@pytest.mark.parametrize(
    ("advantage", "high", "gains", "slopes"),
    [
        (1.0, None, [0.5, 1.0, 1.2], [1, 1, 0]),
        (-1.0, None, [-0.8, -1.0, -1.25], [0, -1, -1]),
        (1.0, 0.3, [0.5, 1.0, 1.25], [1, 1, 1]),
    ],
)
def test_the_clipped_gain_and_its_slope_by_hand(advantage, high, gains, slopes):
    """ε = 0.2 at the ratios 0.5, 1 and 1.25; above 1 it is `high`."""
    ratio = torch.tensor([0.5, 1.0, 1.25], requires_grad=True)
    gain = objective.clipped_gain(ratio, advantage, 0.2, high)
    assert gain.tolist() == pytest.approx(gains)
    assert torch.autograd.grad(gain.sum(), ratio)[0].tolist() == pytest.approx(slopes)
    assert objective.clipped_share(ratio, advantage, 0.2, high) == pytest.approx(slopes.count(0) / 3)


def test_a_clipped_share_takes_one_advantage_for_each_ratio():
    """1.5 is clipped for A > 0 only, 0.5 for A < 0 only, and nothing for A = 0."""
    ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5, 9.0]), torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])
    assert objective.clipped_share(ratio, advantage, 0.2) == pytest.approx(2 / 5)


def test_losses_have_their_own_upper_limit():
    logp = torch.log(torch.tensor([[1.5, 1.5]]))
    for loss in (objective.grpo_loss, objective.gspo_loss):
        assert loss(logp, OLD[:1], MASK[:1], torch.tensor([1.0]), 0.2, 0.4).item() == pytest.approx(-1.4)
