"""GSPO: the formulas by hand, TRL held to them, exact resume."""

import copy
import dataclasses
import json

import pytest
import torch
from helpers.training import StopAfter
from helpers.world import FRAMES

from o3v import training
from o3v.config import GspoConfig
from o3v.training import gspo, objective

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
    return gspo.make_trainer(vlm, examples, world, FRAMES, dataclasses.replace(CONFIG, **changes), out, seed=1)


@pytest.mark.parametrize(("count", "trained"), [(0, 9), (1, 9), (2, 8), (200, 8)])
def test_a_fifth_at_most_and_one_at_least_is_held_back(count, trained):
    assert gspo.split_heldout(range(10), count) == (range(trained), range(trained, 10))
    assert gspo.split_heldout(range(3), count) == (range(2), range(2, 3))
    with pytest.raises(ValueError, match=r"three questions at least.*: 2"):
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
    pictures = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    kept = batch["completion_ids"].shape[1]

    def logp():
        logits = ours.model(input_ids=ids, attention_mask=mask, **pictures).logits[:, -kept - 1 : -1]
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


def test_rewards_are_each_rows_own_and_rollouts_are_kept(tmp_path):
    logged = {}
    reward = gspo.grounded_reward(gspo.RewardConfig.paper(), tmp_path)
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
def test_a_run_that_was_done_takes_no_step_more(twin, _twin, rl_examples, world, tmp_path, rank):
    whole = trainer(twin, rl_examples, world, tmp_path, lora_rank=rank)
    expected = training.train(whole)
    again = trainer(copy.deepcopy(_twin), rl_examples, world, tmp_path, lora_rank=rank)
    assert training.train(again) == expected and len(expected) == CONFIG.max_steps
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("rank", [0, 2])
def test_the_best_checkpoint_is_what_is_left_also_after_a_stop(twin, _twin, rl_examples, world, tmp_path, rank):
    def made(vlm, out, scores):
        config = dataclasses.replace(CONFIG, lora_rank=rank)
        return gspo.make_trainer(vlm, rl_examples, world, FRAMES, config, out, 1, held_out=lambda: scores.pop(0))

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


def test_a_kl_term_needs_a_saved_start_and_starts_at_zero(twin, rl_examples, world, tmp_path):
    from o3v import models

    models.save(twin, tmp_path / "start")
    with_kl = trainer(models.load(tmp_path / "start"), rl_examples, world, tmp_path / "run", beta=0.04, max_steps=1)
    (row,) = training.train(with_kl)
    assert row["kl"] == pytest.approx(0.0, abs=1e-5)  # the reference is the start itself


def test_tensorboard_can_read_every_measure(twin, rl_examples, world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(CONFIG, max_steps=2)
    made = gspo.make_trainer(twin, rl_examples, world, FRAMES, config, tmp_path / "run", 1, report_to="tensorboard")
    rows = training.train(made)
    (events,) = {path.parent for path in (tmp_path / "run").rglob("events.*")}
    read = EventAccumulator(str(events)).Reload()
    for name in ("reward", "terms/format", "terms/total_at_start", "frac_reward_zero_std", "entropy"):
        assert [scalar.step for scalar in read.Scalars(f"train/{name}")] == [1, 2]
        assert [scalar.value for scalar in read.Scalars(f"train/{name}")] == pytest.approx([row[name] for row in rows])


def test_the_parts_of_a_step_make_up_its_time(twin, rl_examples, world, tmp_path):
    made = trainer(twin, rl_examples, world, tmp_path)
    rows = training.train(made)
    assert not any("clock" in name for row in rows for name in row)  # a clock differs between runs
    timed = [row for row in made.state.log_history if "clock/step" in row]
    assert len(timed) == CONFIG.max_steps
    parts = gspo.seconds_by_part(made)
    assert set(parts) == {"generation", "reward", "forward", "backward"}
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) == pytest.approx(sum(row["clock/step"] for row in timed[1:]) / (len(timed) - 1))


def said(monkeypatch, texts):
    """Makes the model say these texts in turn."""
    turns = iter(texts * 100)
    monkeypatch.setattr(gspo, "generate", lambda *told: [next(turns) for _ in range(told[-1])])


RIGHT, NO_FORMAT = "<think>So.</think><answer>A</answer>", "A red car"


def preflight(twin, rl_examples, world):
    return gspo.preflight(twin, rl_examples, world, FRAMES, dataclasses.replace(CONFIG, num_preflight=2))


def test_preflight_lets_a_run_begin_that_can_learn(twin, rl_examples, world, monkeypatch):
    said(monkeypatch, [RIGHT, NO_FORMAT])
    first, second = preflight(twin, rl_examples, world)
    assert first["format"] == second["format"] == 0.5
    assert first["spread"] > 0 and first["task"] == rl_examples[0].task


@pytest.mark.parametrize(
    ("texts", "message"), [([RIGHT], "in no group do rewards differ"), ([NO_FORMAT], "in no group do rewards differ")]
)
def test_preflight_stops_where_no_group_differs(twin, rl_examples, world, monkeypatch, texts, message):
    said(monkeypatch, texts)
    with pytest.raises(gspo.NothingToLearn, match=message):
        preflight(twin, rl_examples, world)


def test_preflight_stops_without_format(twin, rl_examples, world, monkeypatch):
    """Rewards differ, though only by chance of words, while no completion has any form."""
    said(monkeypatch, [NO_FORMAT, "B red"])
    monkeypatch.setattr(gspo, "score_completion", lambda text, *_: {"total": float(len(text)), "format": 0.0})
    with pytest.raises(gspo.NothingToLearn, match="have any format; start from a checkpoint of SFT"):
        preflight(twin, rl_examples, world)
