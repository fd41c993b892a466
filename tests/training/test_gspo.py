"""GSPO: the formulas by hand, TRL compared with them, exact resume."""

import copy
import dataclasses
import json

import pytest
import torch
from helpers.training import StopAfter
from helpers.world import builder_of

from o3v import training
from o3v.config import GspoConfig
from o3v.rewards import RewardConfig
from o3v.training import gspo, gspo_trainer, objective, reward_function
from o3v.training.callbacks import StopOnCollapse
from o3v.training.trainer import TrainingRun

CONFIG = GspoConfig(
    max_steps=3,
    prompts_per_step=2,
    num_generations=2,
    per_device_batch_size=4,
    learning_rate=1e-3,
    beta=0.0,
    max_new_tokens=6,
    save_steps=1,
)


def trainer(vlm, examples, world, out, **changes):
    return gspo.make_trainer(
        vlm, examples, builder_of(world), dataclasses.replace(CONFIG, **changes), TrainingRun(out, seed=1)
    )


@pytest.mark.parametrize(("count", "trained"), [(0, 9), (1, 9), (2, 8), (200, 8)])
def test_at_least_one_and_at_most_a_fifth_is_held_out(count, trained):
    assert gspo.split_heldout(range(10), count) == (range(trained), range(trained, 10))
    assert gspo.split_heldout(range(3), count) == (range(2), range(2, 3))
    with pytest.raises(ValueError, match=r"at least three questions.*found 2"):
        gspo.split_heldout(range(2), count)


def test_advantages_by_hand():
    # mean 2, sample std √2 for [1, 3]; a group of equals has none
    got = objective.advantages(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    torch.testing.assert_close(got, torch.tensor([[-0.70706, 0.70706], [0.0, 0.0]]), rtol=0, atol=1e-4)


def test_sequence_ratio_is_the_geometric_mean_over_unmasked_tokens():
    old = torch.zeros(2, 3)
    new = torch.log(torch.tensor([[2.0, 8.0, 1.0], [2.0, 8.0, 100.0]]))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    torch.testing.assert_close(objective.sequence_ratio(new, old, mask), torch.tensor([16 ** (1 / 3), 4.0]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.5, 1.0, -1.2), (1.5, -1.0, 1.5), (0.5, 1.0, -0.5), (0.5, -1.0, 0.8), (1.1, 2.0, -2.2)],
)
def test_clipping_by_hand(ratio, advantage, loss):
    logp = torch.log(torch.tensor([[ratio, ratio]]))
    got = objective.gspo_loss(logp, torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([advantage]), epsilon=0.2)
    assert got.item() == pytest.approx(loss)


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.5])
def test_trl_gives_the_gradient_of_the_formula(twin, rl_examples, world, tmp_path, drift):
    """On-policy (drift 0) and off-policy, with ratios on both sides of the clip."""
    ours = trainer(twin, rl_examples, world, tmp_path)
    torch.manual_seed(0)
    rows = [ours.train_dataset[i] for i in (0, 0, 1, 1)]
    ours.state.max_steps, ours.current_gradient_accumulation_steps = 3, 1
    batch = ours._generate_and_score_completions(rows)
    batch["advantages"] = torch.tensor([1.0, -1.0, 0.5, -2.0])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    image_inputs = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    kept = batch["completion_ids"].shape[1]

    def logp():
        logits = ours.model(input_ids=ids, attention_mask=mask, **image_inputs).logits[:, -kept - 1 : -1]
        return logits.log_softmax(-1).gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)

    old = logp().detach() - drift * torch.randn(len(rows), 1)
    batch["old_per_token_logps"] = old
    ours.model.zero_grad()
    ours._compute_loss(ours.model, batch).backward()
    theirs = {n: p.grad.clone() for n, p in ours.model.named_parameters() if p.grad is not None}
    ours.model.zero_grad()
    objective.gspo_loss(logp(), old, batch["completion_mask"], batch["advantages"], CONFIG.epsilon).backward()
    assert theirs
    for name, parameter in ours.model.named_parameters():
        if name in theirs:
            torch.testing.assert_close(theirs[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_each_row_gets_its_own_reward_and_rollouts_are_stored(tmp_path):
    logged = {}
    reward = reward_function.GroundedReward(RewardConfig.paper(), tmp_path).total
    state = type("State", (), {"global_step": 2, "max_steps": 4})()
    rows = [
        {"id": "a", "task": "General video QA MCQ", "answer": "B"},
        {"id": "b", "task": "temporal QA", "answer": "[1.0, 3.0]"},
    ]
    texts = ["<think>x</think><answer>B</answer>", "<think>no</think><answer>B</answer>"]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    totals = reward(completions=completions, row=rows, trainer_state=state, log_metric=logged.__setitem__)
    assert totals == [2.0, 0.5]  # answer and format; thinking and answer alone
    assert logged["terms/ans_acc"] == 1.0 and logged["terms/ans_tiou"] == 0.0
    kept = [json.loads(line) for line in (tmp_path / "step_00002.jsonl").read_text().splitlines()]
    assert [k["id"] for k in kept] == ["a", "b"] and kept[0]["total"] == 2.0


def test_a_completion_that_only_closes_its_thinking_is_scored_with_the_prompts_opening(tmp_path):
    reward = reward_function.GroundedReward(RewardConfig.paper(), tmp_path, opening="<think>").total
    state = type("State", (), {"global_step": 0, "max_steps": 4})()
    row = {"id": "a", "task": "General video QA MCQ", "answer": "B"}
    completion = [{"role": "assistant", "content": "It is red.</think><answer>B</answer>"}]
    assert reward(completions=[completion], row=[row], trainer_state=state, log_metric=lambda *_: None) == [2.0]


def test_a_stopped_run_ends_bit_identical(twin, _twin, rl_examples, world, tmp_path):
    whole = trainer(twin, rl_examples, world, tmp_path / "whole")
    expected = training.train(whole)
    broken = trainer(copy.deepcopy(_twin), rl_examples, world, tmp_path / "broken")
    broken.add_callback(StopAfter(2))
    with pytest.raises(KeyboardInterrupt):
        training.train(broken)
    again = trainer(copy.deepcopy(_twin), rl_examples, world, tmp_path / "broken")
    got = training.train(again)
    assert [row["completions/mean_length"] for row in got] == [row["completions/mean_length"] for row in expected]
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    parts = [sorted(p.read_text() for p in (tmp_path / f / "rollouts").iterdir()) for f in ("whole", "broken")]
    assert parts[0] == parts[1]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_finished_run_makes_no_further_step(twin, _twin, rl_examples, world, tmp_path, rank):
    whole = trainer(twin, rl_examples, world, tmp_path, lora_rank=rank)
    expected = training.train(whole)
    again = trainer(copy.deepcopy(_twin), rl_examples, world, tmp_path, lora_rank=rank)
    assert training.train(again) == expected and len(expected) == CONFIG.max_steps
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("rank", [0, 2])
def test_the_best_weights_are_loaded_also_after_an_interruption(twin, _twin, rl_examples, world, tmp_path, rank):
    def made(vlm, out, scores):
        config = dataclasses.replace(CONFIG, lora_rank=rank)
        return gspo.make_trainer(
            vlm, rl_examples, builder_of(world), config, TrainingRun(out, 1), heldout_score=lambda: scores.pop(0)
        )

    whole = made(twin, tmp_path / "whole", [0.1, 0.3, 0.2])
    training.train(whole)
    assert training.load_best(whole) == {1: 0.1, 2: 0.3, 3: 0.2}
    broken = made(copy.deepcopy(_twin), tmp_path / "broken", [0.1, 0.3])
    broken.add_callback(StopAfter(3))
    with pytest.raises(KeyboardInterrupt):
        training.train(broken)
    again = made(copy.deepcopy(_twin), tmp_path / "broken", [0.2])
    training.train(again)
    assert training.load_best(again) == {1: 0.1, 2: 0.3, 3: 0.2}
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert training.read_best(tmp_path / "whole")["step"] == 2


def test_held_out_rows_are_kept_at_each_checkpoint_and_change_nothing(twin, _twin, rl_examples, world, tmp_path):
    rows = [{"id": "a", "total": 1.0}]
    place = (rl_examples, builder_of(world), CONFIG)
    training.train(gspo.make_trainer(twin, *place, TrainingRun(tmp_path / "scored", 1), heldout_rows=lambda: rows))
    training.train(gspo.make_trainer(copy.deepcopy(_twin), *place, TrainingRun(tmp_path / "plain", 1)))
    parts = [sorted(p.read_text() for p in (tmp_path / f / "rollouts").iterdir()) for f in ("scored", "plain")]
    assert parts[0] == parts[1]
    assert training.read_heldout(tmp_path / "scored") == {1: rows, 2: rows, 3: rows}
    assert training.read_heldout(tmp_path / "plain") == {}


def test_a_kl_term_needs_a_saved_start_and_starts_at_zero(twin, rl_examples, world, tmp_path):
    from o3v import models

    models.save(twin, tmp_path / "start")
    with_kl = trainer(models.load(tmp_path / "start"), rl_examples, world, tmp_path / "run", beta=0.04, max_steps=1)
    (row,) = training.train(with_kl)
    assert row["kl"] == pytest.approx(0.0, abs=1e-5)  # the reference is the start itself


def test_tensorboard_can_read_every_measure(twin, rl_examples, world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(CONFIG, max_steps=2)
    made = gspo.make_trainer(
        twin, rl_examples, builder_of(world), config, TrainingRun(tmp_path / "run", 1, "tensorboard")
    )
    rows = training.train(made)
    (events,) = {path.parent for path in (tmp_path / "run").rglob("events.*")}
    read = EventAccumulator(str(events)).Reload()
    for name in ("reward", "terms/format", "terms/total_at_start", "frac_reward_zero_std", "entropy"):
        assert [scalar.step for scalar in read.Scalars(f"train/{name}")] == [1, 2]
        assert [scalar.value for scalar in read.Scalars(f"train/{name}")] == pytest.approx([row[name] for row in rows])


def test_the_seconds_of_a_step_are_logged_by_part_and_left_out_of_the_results(twin, rl_examples, world, tmp_path):
    made = trainer(twin, rl_examples, world, tmp_path)
    rows = training.train(made)
    assert not any("clock" in name for row in rows for name in row)  # times differ between runs
    made.state.log_history = [
        {"clock/step": 90.0, "clock/generation": 80.0},  # the first step warms up
        {"clock/step": 10.0, "clock/generation": 4.0, "clock/reward": 1.0, "clock/loss": 2.0},
        {"clock/step": 20.0, "clock/generation": 8.0, "clock/reward": 1.0, "clock/loss": 4.0},
    ]
    assert gspo_trainer.seconds_by_part(made) == {"generation": 6.0, "reward": 1.0, "forward": 3.0, "backward": 5.0}


def test_twenty_steps_raise_a_trivial_reward(twin, rl_examples, world, tmp_path, monkeypatch):
    """The reward is the share of digits in a completion, which a policy can raise within a few steps."""

    def digits(text, *_):
        return {"total": sum(c.isdigit() for c in text) / max(1, len(text)), "format": 1.0}

    monkeypatch.setattr(reward_function, "score_completion", digits)
    sizes = {"prompts_per_step": 2, "num_generations": 8, "per_device_batch_size": 16, "cached_rows": 12}
    made = trainer(twin, rl_examples, world, tmp_path, max_steps=20, save_steps=100, learning_rate=3e-3, **sizes)
    made.remove_callback(StopOnCollapse)  # the untrained twin never ends a completion
    rewards = [row["reward"] for row in training.train(made)]
    assert len(rewards) == 20
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


@pytest.mark.parametrize(("generations", "per_device"), [(2, 3), (4, 16), (6, 8)])
def test_completions_that_do_not_divide_are_refused(twin, rl_examples, world, tmp_path, generations, per_device):
    count = 2 * generations
    with pytest.raises(ValueError, match=f"batch of {count} cannot be split into forward passes of {per_device}"):
        trainer(twin, rl_examples, world, tmp_path, num_generations=generations, per_device_batch_size=per_device)


def respond_with(monkeypatch, texts):
    """Makes the model answer with these texts in turn."""
    turns = iter(texts * 100)
    monkeypatch.setattr(gspo, "generate", lambda *arguments: [next(turns) for _ in range(arguments[5])])


RIGHT, NO_FORMAT = "<think>So.</think><answer>A</answer>", "A red car"


def preflight(twin, rl_examples, world):
    return gspo.preflight(twin, rl_examples, builder_of(world), dataclasses.replace(CONFIG, num_preflight=2))


def test_preflight_accepts_a_run_that_can_learn(twin, rl_examples, world, monkeypatch):
    respond_with(monkeypatch, [RIGHT, NO_FORMAT])
    first, second = preflight(twin, rl_examples, world)
    assert first["format"] == second["format"] == 0.5
    assert first["spread"] > 0 and first["task"] == rl_examples[0].task


@pytest.mark.parametrize(
    ("texts", "message"), [([RIGHT], "rewards differ in no group"), ([NO_FORMAT], "rewards differ in no group")]
)
def test_preflight_stops_where_no_group_differs(twin, rl_examples, world, monkeypatch, texts, message):
    respond_with(monkeypatch, texts)
    with pytest.raises(gspo.NothingToLearn, match=message):
        preflight(twin, rl_examples, world)


def test_preflight_stops_without_format(twin, rl_examples, world, monkeypatch):
    """Rewards differ, but only by chance, and no completion has any format."""
    respond_with(monkeypatch, [NO_FORMAT, "B red"])
    monkeypatch.setattr(gspo, "score_completion", lambda text, *_: {"total": float(len(text)), "format": 0.0})
    with pytest.raises(gspo.NothingToLearn, match="have any format; start from a checkpoint of SFT"):
        preflight(twin, rl_examples, world)
