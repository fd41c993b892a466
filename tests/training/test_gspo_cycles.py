"""Off-policy GSPO: the gradient at every update of a cycle, resume within a cycle, and what is logged."""

import copy
import dataclasses

import pytest
import torch
from helpers.training import StopAfter
from helpers.world import builder_of
from transformers import TrainerCallback

from o3v import models, training
from o3v.config import GspoConfig
from o3v.training import gspo, objective, reward_function
from o3v.training.callbacks import StopOnCollapse
from o3v.training.trainer import TrainingRun

CONFIG = GspoConfig(
    max_steps=4,
    prompts_per_step=2,
    num_generations=4,
    per_device_batch_size=8,
    learning_rate=2e-4,
    lr_scheduler="constant",
    beta=0.0,
    max_new_tokens=6,
    max_grad_norm=0.0,  # gradients as they are
    save_steps=100,
)


def make(vlm, examples, world, out, **changes):
    made = gspo.make_trainer(
        vlm, examples, builder_of(world), dataclasses.replace(CONFIG, **changes), TrainingRun(out, seed=1)
    )
    made.remove_callback(StopOnCollapse)  # the untrained twin never ends a completion
    return made


@pytest.fixture
def digits(monkeypatch):
    """The reward is the share of digits in a completion, so that rewards differ between the answers of the twin."""

    def score(text, *_):
        return {"total": sum(c.isdigit() for c in text) / max(1, len(text)), "format": 1.0}

    monkeypatch.setattr(reward_function, "score_completion", score)


class CompareGradients(TrainerCallback):
    """Before each optimizer step, computes the gradient of the readable formula on whole rows, without a cache."""

    def __init__(self, trainer, config):
        self.trainer, self.config, self.sampler, self.batch = trainer, config, None, None
        self.differences, self.clipped, self.largest = [], [], []
        compute = trainer._compute_loss

        def remember(model, inputs):
            self.batch = inputs
            return compute(model, inputs)

        trainer._compute_loss = remember

    def logps(self, model):
        ids = torch.cat([self.batch["prompt_ids"], self.batch["completion_ids"]], 1)
        mask = torch.cat([self.batch["prompt_mask"], self.batch["completion_mask"]], 1)
        media = {name: self.batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
        kept = self.batch["completion_ids"].shape[1]
        logits = model(input_ids=ids, attention_mask=mask, **media).logits[:, -kept - 1 : -1]
        return logits.log_softmax(-1).gather(-1, self.batch["completion_ids"].unsqueeze(-1)).squeeze(-1)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        if state.global_step % self.config.cycle == 0:
            self.sampler = weights  # the policy that sampled the completions of this cycle
        mask, advantage, config = self.batch["completion_mask"], self.batch["advantages"], self.config
        with torch.no_grad():
            model.load_state_dict(self.sampler)
            old = self.logps(model)
            model.load_state_dict(weights)
        new = self.logps(model)
        loss = objective.gspo_loss(new, old, mask, advantage, config.epsilon, config.epsilon_high)
        if config.beta:
            with torch.no_grad(), model.disable_adapter():
                reference = self.logps(model)
            loss = loss + config.beta * objective.kl_penalty(new, reference, mask)
        ratio = objective.sequence_ratio(new.detach(), old, mask)
        high = config.epsilon if config.epsilon_high is None else config.epsilon_high
        outside = ((advantage > 0) & (ratio > 1 + high)) | ((advantage < 0) & (ratio < 1 - config.epsilon))
        self.clipped.append(outside.float().mean().item())
        trained = [p for p in model.parameters() if p.grad is not None]
        gradients = torch.autograd.grad(loss, trained)  # leaves the gradients of the trainer as they are
        pairs = list(zip(trained, gradients, strict=True))
        self.differences.append(max((p.grad - gradient).abs().max().item() for p, gradient in pairs))
        self.largest.append(max(gradient.abs().max().item() for gradient in gradients))


@pytest.mark.parametrize("cycle", [(1, 4), (4, 1), (2, 2)], ids=["four_uses", "four_minibatches", "two_by_two"])
@pytest.mark.parametrize(
    ("changes", "clips"),
    [
        ({"epsilon": 0.5, "learning_rate": 2e-6}, False),
        ({"epsilon": 1e-4, "epsilon_high": 2e-4}, True),
        ({"epsilon": 0.5, "learning_rate": 2e-6, "lora_rank": 2, "beta": 0.1}, False),
        ({"epsilon": 1e-4, "lora_rank": 2, "beta": 0.1}, True),
    ],
    ids=["all_weights", "clipped", "adapters_and_kl", "clipped_adapters_and_kl"],
)
def test_every_update_of_a_cycle_has_the_gradient_of_the_formula(
    twin, rl_examples, world, tmp_path, digits, cycle, changes, clips
):
    models.save(twin, tmp_path / "start")
    changes = changes | {"steps_per_generation": cycle[0], "num_iterations": cycle[1]}
    config = dataclasses.replace(CONFIG, **changes)
    made = make(models.load(tmp_path / "start"), rl_examples, world, tmp_path / "run", **changes)
    compared = CompareGradients(made, config)
    made.add_callback(compared)
    rows = training.train(made)
    assert [row["staleness"] for row in rows] == [0, 1, 2, 3]
    assert len(compared.differences) == 4
    assert max(compared.differences) < 1e-6 and max(compared.largest) > 1e-4
    assert compared.clipped[0] == 0 and (max(compared.clipped[1:]) > 0) == clips
    for row, share in zip(rows, compared.clipped, strict=True):
        low_and_high = row["clip_ratio/low_mean"] + row["clip_ratio/high_mean"]
        assert low_and_high == pytest.approx(share, abs=1e-6)
    assert rows[0]["ratio/q00"] == pytest.approx(1, abs=1e-5) and rows[0]["ratio/q100"] == pytest.approx(1, abs=1e-5)
    assert rows[3]["ratio/q00"] < rows[3]["ratio/q50"] < rows[3]["ratio/q100"]


@pytest.mark.parametrize("cycle", [(1, 2), (2, 1)])
def test_a_run_that_stops_within_a_cycle_ends_bit_identical(twin, _twin, rl_examples, world, tmp_path, digits, cycle):
    """The checkpoint is the end of the first cycle, after step 2; steps 3 and 4 sample again."""
    changes = {"steps_per_generation": cycle[0], "num_iterations": cycle[1], "save_steps": 1, "max_steps": 6}
    whole = make(twin, rl_examples, world, tmp_path / "whole", **changes)
    expected = training.train(whole)
    broken = make(copy.deepcopy(_twin), rl_examples, world, tmp_path / "broken", **changes)
    broken.add_callback(StopAfter(3))
    with pytest.raises(KeyboardInterrupt):
        training.train(broken)
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint-*")] == ["checkpoint-2"]
    again = make(copy.deepcopy(_twin), rl_examples, world, tmp_path / "broken", **changes)
    assert training.train(again) == expected
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    parts = [sorted(p.read_text() for p in (tmp_path / f / "rollouts").iterdir()) for f in ("whole", "broken")]
    assert parts[0] == parts[1] and len(parts[0]) == 3


def test_presets_name_their_values():
    paper, official = GspoConfig.gspo_paper(), GspoConfig.official()
    assert (paper.steps_per_generation, paper.beta, paper.epsilon, paper.epsilon_high) == (4, 0.0, 3e-4, 4e-4)
    assert (official.cycle, official.beta, official.epsilon, official.importance_sampling) == (1, 0.04, 0.2, "sequence")
    with pytest.raises(ValueError, match="reward_scale 'task' needs"):
        GspoConfig(reward_scale="task", reward_aggregation="normalize_then_sum")


def test_grpo_is_one_field(twin, rl_examples, world, tmp_path, digits):
    """With token ratios the second update of the same completions clips other shares than with sequence ratios."""
    made = make(twin, rl_examples, world, tmp_path, importance_sampling="token", num_iterations=2, epsilon=1e-4)
    rows = training.train(made)
    assert made.importance_sampling_level == "token" and rows[1]["clip_ratio/region_mean"] > 0


def test_the_scale_of_a_task_is_a_moving_average_of_its_groups_spreads(tmp_path, monkeypatch):
    totals = iter([[1.0, 3.0, 0.0, 0.2], [1.0, 1.0, 0.0, 0.2], [1.0, 1.0, 0.0, 0.2]])
    monkeypatch.setattr(reward_function, "score_completion", lambda text, row, progress, config: {"total": float(text)})
    reward = reward_function.GroundedReward(None, tmp_path, num_generations=2)

    def step(number, values):
        state = type("State", (), {"global_step": number, "max_steps": 9})()
        completions = [[{"role": "assistant", "content": str(value)}] for value in values]
        rows = [{"task": "a"}, {"task": "a"}, {"task": "b"}, {"task": "b"}]
        return reward.by_task(completions, rows, state, lambda *_: None)

    first = step(0, next(totals))  # spreads √2 and 0.1·√2
    assert first == pytest.approx(
        [v / (s + 1e-4) for v, s in zip((1, 3, 0, 0.2), (2**0.5,) * 2 + (0.02**0.5,) * 2, strict=True)]
    )
    second = step(1, next(totals))
    assert second[0] == pytest.approx(1 / (0.99 * 2**0.5 + 1e-4))  # the group of equals has spread 0
    assert step(1, next(totals)) == second  # a repeated step after an interruption


def test_each_term_is_normalised_before_the_sum(twin, rl_examples, world, tmp_path):
    made = make(twin, rl_examples, world, tmp_path, reward_aggregation="normalize_then_sum", max_steps=1)
    names = [function.__name__ for function in made.reward_funcs]
    assert names[0] == "ans_acc" and names[-1] == "format" and len(names) == 7
    (row,) = training.train(made)
    assert "terms/format" in row and row["terms/total"] == pytest.approx(0, abs=1)
