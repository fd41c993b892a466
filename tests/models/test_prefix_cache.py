"""Prompts that are prefilled once give the same numbers as separate rows."""

import copy

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers.cache_utils import DynamicLayer

from o3v import prompts
from o3v.config import FrameConfig
from o3v.models import prefix_cache
from o3v.models.qwen_speedups import frame_fingerprints
from o3v.models.vlm import encode, generate
from o3v.tinybase import architecture
from o3v.tinybase.batches import tokenizer_texts
from o3v.tinybase.clips import draw_clips
from o3v.training.trainer import lora_config

FRAMES = FrameConfig(n_frames=3, max_pixels=84 * 84)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(3, FRAMES, seed=1, workers=1, progress=False)


@pytest.fixture(scope="module")
def vlm(clips):
    return architecture.build(tokenizer_texts(clips, 0), 0)


@pytest.fixture(scope="module")
def inputs(vlm, clips):
    """Two videos with one question, and one of them with another. Rows 0 and 2 have the same prompt."""
    questions = [(0, "What is it?"), (1, "What is it?"), (0, "What is it?"), (1, "Where is the red car now?")]
    batch = [prompts.plain_prompt(clips[n].images[: 3 - n], clips[n].times_s[: 3 - n], 9.0, q) for n, q in questions]
    return dict(encode(vlm.processor, batch))


def test_equal_tokens_with_other_images_are_another_prompt(vlm, inputs):
    distinct, index = prefix_cache.distinct_prompts(inputs, vlm.model.config)
    assert index.tolist() == [0, 1, 0, 2]
    assert distinct["image_grid_thw"].shape[0] == 3 + 2 + 2 and len(distinct["pixel_values"]) == 7 * 36
    twisted = inputs | {"pixel_values": inputs["pixel_values"].clone()}
    twisted["pixel_values"][-1] += 1
    twisted["pixel_values"][0] += 1
    assert prefix_cache.distinct_prompts(twisted, vlm.model.config)[1].tolist() == [0, 1, 2, 3]


def test_a_preallocated_layer_has_the_contents_of_a_dynamic_layer():
    """Writes of many lengths: beyond the preallocated space, after a crop, over old values, with other rows."""
    torch.manual_seed(0)
    ours, theirs = prefix_cache.PreallocatedCacheLayer(), DynamicLayer()

    def write(rows, length):
        keys, values = torch.randn(rows, 2, length, 4), torch.randn(rows, 2, length, 3)
        for got, expected in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            assert torch.equal(got, expected)

    for length in (
        5,
        1,
        1,
        prefix_cache.PreallocatedCacheLayer.spare_tokens,
        2,
        3 * prefix_cache.PreallocatedCacheLayer.spare_tokens,
        1,
    ):
        write(3, length)
    before = ours.keys.data_ptr()
    write(3, 1)
    assert ours.keys.data_ptr() == before  # nothing was copied
    for change in (lambda layer: layer.crop(-4), lambda layer: layer.batch_select_indices(torch.tensor([2, 0, 1]))):
        for layer in (ours, theirs):
            change(layer)
        write(3, 2)
    for layer in (ours, theirs):
        layer.batch_repeat_interleave(2)
    write(6, 1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_and_gradients_are_those_of_whole_rows(vlm, inputs, temperature):
    model = vlm.model.train()
    ids = torch.from_numpy(np.random.default_rng(0).integers(20, 300, (4, 6)))
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 5 + [0], [1] + [0] * 5])
    whole = {
        "input_ids": torch.cat([inputs["input_ids"], ids], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], mask], 1),
        "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1),
    }
    logits = model(**(inputs | whole)).logits[:, -7:-1] / temperature
    spread = logits.log_softmax(-1)
    expected = spread.gather(-1, ids[..., None]).squeeze(-1) * mask
    (expected.exp().sum()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    found, entropy = prefix_cache.log_probs(model, prefix_cache.prefill(model, inputs), ids, mask, temperature)
    assert torch.allclose(found * mask, expected, atol=2e-5)
    assert torch.allclose(entropy * mask, -(spread.exp() * spread).sum(-1) * mask, atol=2e-5)
    ((found * mask).exp().sum()).backward()
    for name, parameter in model.named_parameters():
        if name in gradients:
            assert torch.allclose(parameter.grad, gradients[name], atol=1e-5), name
    model.zero_grad()


def test_generation_is_that_of_the_model(vlm, inputs):
    model, settings = vlm.model.eval(), {"max_new_tokens": 8, "do_sample": False}
    model.generation_config.eos_token_id = None
    expected = model.generate(**inputs, **settings)
    assert torch.equal(prefix_cache.generate(model, **inputs, **settings), expected)
    assert expected.shape == (4, inputs["input_ids"].shape[1] + 8) and torch.equal(expected[0], expected[2])


def test_a_model_with_adapters_generates_the_same_with_and_without_its_wrapper(vlm, inputs):
    """The wrapper is used in training, the model inside it for the answers to held-out questions."""
    model, settings = copy.deepcopy(vlm.model.eval()), {"max_new_tokens": 3, "do_sample": False}
    adapted = get_peft_model(model, lora_config(2))
    expected = prefix_cache.generate(vlm.model, **inputs, **settings)
    assert torch.equal(prefix_cache.generate(adapted, **inputs, **settings), expected)  # adapters start at zero
    assert torch.equal(prefix_cache.generate(model, **inputs, **settings), expected)


def test_repeats_follow_one_another(vlm, inputs):
    settings = {"max_new_tokens": 4, "do_sample": False}
    once = prefix_cache.generate(vlm.model.eval(), **inputs, **settings)
    assert torch.equal(prefix_cache.generate(vlm.model, 3, **inputs, **settings), once.repeat_interleave(3, 0))


def test_repeated_prompts_of_a_model(vlm, clips):
    batch = [prompts.plain_prompt(clips[n].images[:2], clips[n].times_s[:2], 9.0, "What is it?") for n in (0, 1)]
    once = generate(vlm, batch, 4)
    assert generate(vlm, batch, 4, repeats=2) == [once[0], once[0], once[1], once[1]]
    sampled = generate(vlm, batch, 12, temperature=1.0, seed=3, repeats=4)
    assert sampled == generate(vlm, batch, 12, temperature=1.0, seed=3, repeats=4) and len(set(sampled)) > 2


def test_fingerprints_tell_frames_apart_by_one_value_and_by_order():
    pixels = torch.randn(3, 4, 6)  # frames of four patches
    changed = pixels[0].clone()
    changed[3, 5] += 1e-6 * changed[3, 5].abs().clamp(min=1)
    frames = [pixels[0], pixels[1], pixels[0], changed, pixels[0].flip(0), pixels[0][:2]]
    found = frame_fingerprints(torch.cat(frames), [len(frame) for frame in frames])
    assert found[0] == found[2] and len(set(found)) == 5
    halves = frame_fingerprints(torch.cat(frames).bfloat16(), [len(frame) for frame in frames])
    assert halves[0] == halves[2] and len({halves[0], halves[1], halves[4], halves[5]}) == 4
