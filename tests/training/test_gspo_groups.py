"""GSPO under activation checkpointing: a prompt and its completions are one row, with the same gradients."""

import copy
import dataclasses

import pytest
import torch
from helpers.small_qwen3 import small_qwen3
from helpers.world import builder_of
from trl.trainer.utils import shuffle_sequence_dict

from o3v import models, training
from o3v.config import GspoConfig
from o3v.training import gspo, gspo_trainer
from o3v.training import trainer as shared
from o3v.training.trainer import TrainingRun

CONFIG = GspoConfig(
    max_steps=2,
    prompts_per_step=2,
    num_generations=4,
    per_device_batch_size=8,
    learning_rate=1e-3,
    beta=0.0,
    max_new_tokens=6,
    save_steps=100,
)


@pytest.fixture
def make(rl_examples, world, tmp_path, monkeypatch):
    common = shared.common_arguments

    def trainer(vlm, checkpointing, **changes):
        options = {"gradient_checkpointing": checkpointing}
        monkeypatch.setattr(shared, "common_arguments", lambda config, run: common(config, run) | options)
        config, run = dataclasses.replace(CONFIG, **changes), TrainingRun(tmp_path / str(checkpointing), seed=1)
        made = gspo.make_trainer(vlm, rl_examples, builder_of(world), config, run)
        made.state.max_steps, made.current_gradient_accumulation_steps = 2, made.args.gradient_accumulation_steps
        return made

    return trainer


def gradients(made, batch):
    made.model.train()
    made.model.zero_grad()
    if made.args.gradient_checkpointing:
        made.model.gradient_checkpointing_enable()
    made._compute_loss(made.model, batch).backward()
    return {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2, "beta": 0.1}], ids=["all_weights", "adapters_and_kl"])
def test_the_gradient_under_checkpointing_is_that_of_separate_rows(twin, make, family, changes):
    vlm = twin if family == "qwen2_5_vl" else small_qwen3(twin.processor.tokenizer)
    packed, plain = make(copy.deepcopy(vlm), True, **changes), make(copy.deepcopy(vlm), False, **changes)
    assert packed.packs_groups and not packed.shares_prefix
    plain.shares_prefix = plain.packs_groups = False  # TRL's own rows
    plain.model.load_state_dict(packed.model.state_dict())
    torch.manual_seed(0)
    batch = packed._generate_and_score_completions([packed.train_dataset[i] for i in (0,) * 4 + (1,) * 4])
    batch = gspo_trainer.split_pixel_values_by_grid(batch | {"advantages": torch.linspace(-1, 1, 8)})
    batch = shuffle_sequence_dict(batch)  # as TRL does it
    batch = gspo_trainer.unsplit_pixel_values_by_grid(batch)
    ours, theirs = gradients(packed, batch), gradients(plain, batch)
    torch.testing.assert_close(packed.last_logps, plain.last_logps, rtol=0, atol=1e-5)
    assert ours.keys() == theirs.keys() and max(value.abs().max() for value in theirs.values()) > 1e-3
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-5), name


def test_a_run_under_checkpointing_reads_each_prompt_once_a_step(twin, make, monkeypatch):
    """Two prompts with four completions each, in passes of four completions: each pass has one prompt."""
    made = make(twin, True, per_device_batch_size=4, steps_per_generation=1)
    rows = []
    pack = gspo_trainer.group_rows.pack

    def counted(*arguments):
        rows.append(pack(*arguments))
        return rows[-1]

    monkeypatch.setattr(gspo_trainer.group_rows, "pack", counted)
    before = copy.deepcopy(made.model.state_dict())
    log = training.train(made)
    assert len(log) == 2 and [row.inputs["input_ids"].shape[0] for row in rows] == [1] * 4
    assert all(len(row.completion) > 4 for row in rows)
    moved = [name for name, value in made.model.state_dict().items() if not torch.equal(value, before[name])]
    assert len(moved) > 10


def test_the_reference_model_of_a_kl_term_reads_groups_too(twin, make, tmp_path):
    models.save(twin, tmp_path / "start")
    made = make(models.load(tmp_path / "start"), True, beta=0.04, max_steps=1)
    (row,) = training.train(made)
    assert row["kl"] == pytest.approx(0.0, abs=1e-5)  # the reference is the start itself


def test_rows_of_a_prompt_come_together_and_none_is_lost():
    def batch(*rows):
        prompts = {0: [5, 6], 1: [7, 8], 2: [9, 9]}
        number = torch.tensor([row for row, _ in rows])
        images = {"num_images": [1] * len(rows), "image_grid_thw": torch.tensor([[1, 1, 1]] * len(rows))}
        ids = torch.tensor([prompts[prompt] for _, prompt in rows])
        return {"prompt_ids": ids, "row": number, "pixel_values": number[:, None].float(), **images, "none": None}

    shuffled = [batch((0, 1), (1, 0), (2, 2)), batch((3, 0), (4, 2), (5, 1))]
    first, second = gspo_trainer.whole_groups(shuffled)
    assert first["row"].tolist() == [0, 5, 1] and second["row"].tolist() == [3, 2, 4]
    assert first["pixel_values"].tolist() == [[0.0], [5.0], [1.0]] and first["num_images"] == [1] * 3
    assert second["prompt_ids"].tolist() == [[5, 6], [9, 9], [9, 9]] and second["none"] is None
