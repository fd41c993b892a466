"""Full fine-tuning needs fp32 weights: bf16 ones are refused, and ten steps at 1e-6 show the difference."""

import copy
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from helpers.world import builder_of

from o3v import training
from o3v.config import GspoConfig, SftConfig
from o3v.training import gspo, precision, sft
from o3v.training import trainer as shared
from o3v.training.trainer import TrainingRun

SFT = SftConfig(epochs=10.0, effective_batch_size=2, per_device_batch_size=2, learning_rate=1e-6, cached_rows=2)
GSPO = GspoConfig(max_steps=1, prompts_per_step=1, num_generations=2, per_device_batch_size=2, beta=0.0)


def plan(**engines):
    none = {"learning_rate": 1e-6, "bf16": True, "deepspeed_plugin": None, "fsdp_plugin_args": None}
    return SimpleNamespace(**(none | engines))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("maker", "config"), [(sft, SFT), (gspo, GSPO)], ids=["sft", "gspo"])
def test_training_all_weights_below_fp32_is_refused_with_the_way_out(
    twin, rl_examples, world, tmp_path, maker, config, dtype
):
    twin.model.to(dtype)
    with pytest.raises(ValueError, match=r"in b?float16 would hardly change.*master_weights=True.*lora_rank.*ZeRO"):
        maker.make_trainer(twin, rl_examples, builder_of(world), config, TrainingRun(tmp_path, 0))


def test_adapters_on_bf16_weights_are_trained_in_fp32(twin, sft_examples, world, tmp_path):
    twin.model.to(torch.bfloat16)
    config = dataclasses.replace(SFT, lora_rank=2)
    made = sft.make_trainer(twin, sft_examples, builder_of(world), config, TrainingRun(tmp_path, 0))
    assert {p.dtype for p in made.model.parameters() if p.requires_grad} == {torch.float32}
    assert made.model.get_base_model().dtype == torch.bfloat16


def test_engines_that_keep_fp32_shards_may_have_bf16_weights(twin, monkeypatch):
    twin.model.to(torch.bfloat16)
    precision.require_master_weights(twin.model, plan(deepspeed_plugin=object()))
    precision.require_master_weights(twin.model, plan(fsdp_plugin_args={"fsdp_version": 2}))
    with pytest.raises(ValueError, match="1e-06 is rounded away"):
        precision.require_master_weights(twin.model, plan(fsdp_plugin_args={"fsdp_version": 2}, bf16=False))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    precision.require_master_weights(twin.model, plan())


def test_ten_steps_at_1e_6_move_the_weights_that_fp32_moves(_twin, sft_examples, world, tmp_path, monkeypatch):
    """fp32 weights with bf16 arithmetic, as on a GPU, against fp32 arithmetic and against bf16 weights."""
    monkeypatch.setattr(precision, "LOW_PRECISION", ())  # let the bf16 weights pass
    common = shared.common_arguments

    def moved(name, dtype, bf16):
        monkeypatch.setattr(shared, "common_arguments", lambda config, run: common(config, run) | {"bf16": bf16})
        vlm = copy.deepcopy(_twin)
        vlm.model.to(dtype)
        before = torch.cat([p.detach().flatten().clone() for p in vlm.model.parameters()])
        made = sft.make_trainer(vlm, sft_examples[:2], builder_of(world), SFT, TrainingRun(tmp_path / name, 0))
        rows = training.train(made)
        assert len(rows) == 10 and {p.dtype for p in vlm.model.parameters()} == {dtype}
        return torch.cat([p.detach().flatten() for p in vlm.model.parameters()]) != before

    exact, master = moved("exact", torch.float32, False), moved("master", torch.float32, True)
    rounded = moved("rounded", torch.bfloat16, True)
    assert exact.float().mean() > 0.5
    assert (master & exact).sum() > 0.98 * exact.sum()
    assert rounded.float().mean() < 0.05
