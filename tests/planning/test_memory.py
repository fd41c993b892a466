"""Tests of planned memory: the arithmetic for 7B, and each part against what torch's CPU allocator gives a small model.

The figures for 7B are worked out by hand: P = 8,292,166,656, n = 8 GPUs.
"""

import pytest
import torch
from helpers.real_family import IMAGE, family_batch, family_model, peak_bytes

from o3v.planning import memory
from o3v.planning.memory import Setup
from o3v.planning.shapes import model_shape, shape_of

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
NEAR = 0.15  # the plan may be this far from what is measured


@pytest.fixture(scope="module")
def seven():
    return model_shape("Qwen/Qwen2.5-VL-7B-Instruct")


def gigabytes(shape, **changes) -> float:
    setup = Setup("ddp", gpus=1, rows=1, prompt_tokens=2500, image_tokens=2160, completion_tokens=768)
    setup = Setup(**{**setup.__dict__, **changes})
    return round(sum(memory.state_parts(shape, setup).values()) / 1e9, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "bf16"}, 66.3),  # 8 P
        ({"precision": "bf16", "reference": True}, 82.9),  # 10 P
        ({}, 132.7),  # 16 P: fp32 masters on one GPU
        ({"lora_rank": 8, "reference": True}, 16.7),  # 2 P + 16 · 5,046,272; the reference costs nothing
        ({"engine": "zero2", "gpus": 8}, 31.1),  # 2 P + 14 P / 8
        ({"engine": "zero3", "gpus": 8}, 16.6),  # 16 P / 8
        ({"engine": "fsdp2", "gpus": 8, "reference": True}, 18.7),  # 18 P / 8
        ({"engine": "zero3_offload", "gpus": 8}, 4.1),  # 4 P / 8
        ({"optimizer": "adamw_8bit"}, 86.2),  # 10 P and 6 · 152,064 · 3,584 of the embeddings
        ({"trains": False}, 16.6),  # 2 P
    ],
)
def test_states_of_the_7b_are_those_of_the_arithmetic(changes, expected, seven):
    assert gigabytes(seven, **changes) == expected


def test_offload_moves_masters_and_moments_to_main_memory(seven):
    setup = Setup("zero3_offload", 8, 4, 2500, 2160, 768)
    assert round(memory.offloaded_bytes(seven, setup) / 1e9, 1) == 132.7  # 16 P
    assert memory.offloaded_bytes(seven, Setup("zero3", 8, 4, 2500, 2160, 768)) == 0


def test_rl_of_the_7b_under_zero3_has_the_reference_and_the_gathered_weights(seven):
    setup = Setup("zero3", 8, 4, 2500, 2160, 768, reference=True, generated_rows=4)
    parts = memory.memory_parts(seven, setup)
    assert round(parts["reference model"] / 1e9, 1) == 2.1
    assert round(parts["weights gathered"] / 1e9, 1) == 16.6
    assert parts["KV cache"] == 4 * 3268 * 2 * 2 * 28 * 4 * 128  # sequences · tokens · (K, V) · bf16 · layers · width
    once = parts["weights"] + parts["fp32 masters"] + parts["gradients"] + parts["optimizer"]
    generation = parts["KV cache"] + parts["weights gathered"]
    training = parts["activations"] + parts["logits"] + parts["engine buffers"]
    assert parts["peak"] == pytest.approx(
        once + parts["reference model"] + max(generation, training) + parts["CUDA context"]
    )


def test_a_plan_fits_up_to_the_usable_share():
    assert memory.fits({"peak": 73.6e9}, 80e9)
    assert not memory.fits({"peak": 73.7e9}, 80e9)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_a_real_step(family):
    model = family_model(family, vocabulary=2000)
    optimizer = torch.optim.AdamW(model.parameters())
    model(**family_batch(model, 1, 2, (4, 4), 8)).loss.backward()
    optimizer.step()
    tensors = [t for state in optimizer.state.values() for t in state.values()]
    planned = memory.state_parts(shape_of(model), Setup("ddp", 1, 1, 0, 0, 0, precision="fp32"))
    assert planned["weights"] == sum(p.nbytes for p in model.parameters())
    assert planned["gradients"] == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert planned["optimizer"] == pytest.approx(sum(t.nbytes for t in tensors), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("frames", "grid_hw", "text"), [(1, (4, 4), 1200), (12, (12, 24), 40)])
def test_activations_are_near_those_of_a_real_step(family, frames, grid_hw, text):
    model = family_model(family, vocabulary=64)  # logits take next to nothing
    batch = family_batch(model, 1, frames, grid_hw, text)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    measured = peak_bytes(lambda: model(**batch, use_cache=False).loss.backward())
    tokens, image_tokens = batch["input_ids"].shape[1], int((batch["input_ids"] == IMAGE).sum())
    planned = memory.activation_bytes(shape_of(model), 1, tokens, image_tokens, element=4)
    assert planned == pytest.approx(measured, rel=NEAR)


@pytest.mark.parametrize("tokens", [16, 128])
def test_logits_are_near_those_of_the_fused_head(tokens):
    from trl.trainer import utils

    model = family_model("qwen2_5_vl", vocabulary=40_000)
    weight, hidden = model.lm_head.weight, torch.randn(tokens, 256, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    targets, settings = torch.arange(tokens), (1.0, utils._CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs",))

    def step() -> None:
        utils._ChunkedLogProbFunction.apply(hidden, weight, None, targets, *settings)[0].sum().backward()

    planned = memory.logit_bytes(shape_of(model), tokens, trains_head=True, element=4, tile_copies=8.25)
    assert planned == pytest.approx(peak_bytes(step), rel=NEAR)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kv_cache_is_that_of_a_forward_pass(family):
    model = family_model(family, vocabulary=64).eval()
    batch = family_batch(model, 2, 1, (4, 4), 30)
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert memory.kv_cache_bytes(shape_of(model), 2, batch["input_ids"].shape[1], element=4) == measured
