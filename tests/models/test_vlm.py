"""The model: processor, attention, saving, generation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from o3v import models
from o3v.geometry import MIN_PIXELS, PATCH_FACTOR, fit_size
from o3v.models import qwen_speedups
from o3v.prompts import Prompt, conversation, frame_parts
from o3v.schema import Task
from o3v.tinybase.detection_head import patches


def frames(count, size=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def prompt(images, question="Where is the red car?"):
    times_s = tuple(range(len(images)))
    return Prompt(
        conversation(Task.SPATIO_TEMPORAL, question, frame_parts(times_s, 9.0)), list(images), times_s, (56, 56), {}
    )


def test_an_unknown_model_is_named():
    with pytest.raises(OSError, match="no-such-folder"):
        models.load("./no-such-folder")


def test_cached_frames_equal_those_of_the_parent_class(twin):
    images = [Image.fromarray(f) for f in frames(3)] * 2
    ours = twin.processor.image_processor
    plain = Qwen2VLImageProcessorPil(size=dict(ours.size))
    for _ in range(2):
        got, expected = (p(images=images, return_tensors="pt") for p in (ours, plain))
        assert torch.equal(got["pixel_values"], expected["pixel_values"])
        assert torch.equal(got["image_grid_thw"], expected["image_grid_thw"])


def test_pretraining_patches_are_those_of_the_processor(twin):
    drawn = frames(2, 84)
    expected = twin.processor.image_processor(images=[Image.fromarray(f) for f in drawn], return_tensors="pt")
    values, grid = patches(drawn)
    torch.testing.assert_close(values, expected["pixel_values"], rtol=0, atol=1e-6)
    assert torch.equal(grid, expected["image_grid_thw"])


@pytest.mark.parametrize("sizes", [[56, 56, 56], [56, 84]])
def test_equal_frames_attention_gives_the_parents_result(twin, sizes):
    inputs = twin.processor.image_processor(
        images=[Image.fromarray(frames(1, s)[0]) for s in sizes], return_tensors="pt"
    )
    tower = twin.model.model.visual
    with torch.no_grad():
        ours = tower(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        for block in tower.blocks:
            block.attn.__class__ = Qwen2_5_VLVisionAttention
        theirs = tower(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_patches_through_a_product_equal_the_convolution_with_its_gradient(twin):
    layer, results = twin.model.model.visual.patch_embed, []
    pixels = torch.randn(20, layer.proj.weight[0].numel(), generator=torch.Generator().manual_seed(0))
    assert type(layer) is qwen_speedups.LinearPatchEmbed
    for kind in (qwen_speedups.LinearPatchEmbed, qwen_speedups.Qwen2_5_VisionPatchEmbed):
        layer.__class__ = kind
        layer.zero_grad()
        out = layer(pixels)
        (out * torch.arange(20.0).unsqueeze(1)).sum().backward()
        results.append((out.detach(), layer.proj.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("sizes", [[56, 56, 56, 56], [56, 84, 56, 84, 56]])
def test_repeated_frames_are_encoded_once_with_the_parents_result_and_gradient(twin, sizes, monkeypatch):
    images = [Image.fromarray(frames(1, size)[0]) for size in sizes]  # equal sizes give equal images
    inputs = twin.processor.image_processor(images=images, return_tensors="pt")
    tower, encoded = twin.model.model.visual, []
    tower.patch_embed.register_forward_hook(lambda module, args, out: encoded.append(len(args[0])))
    results = {}
    for kind in (qwen_speedups.DedupVisionTower, qwen_speedups.Qwen2_5_VisionTransformerPretrainedModel):
        tower.__class__ = kind
        tower.zero_grad()
        out = tower(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        (out * torch.arange(len(out)).unsqueeze(1)).sum().backward()
        results[kind] = [out.detach(), *(p.grad.clone() for p in tower.parameters())]
    for ours, theirs in zip(*results.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    assert encoded[0] == sum((size // 14) ** 2 for size in set(sizes)) < encoded[1]


def test_saved_and_loaded_is_the_same(twin, tmp_path):
    models.save(twin, tmp_path)
    loaded = models.load(tmp_path)
    ours, theirs = twin.model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    text = "Frame 3 at 12.5s: <think><obj>red car</obj><box>[10,2,3,40]</box>at<t>12.5</t>s é</think><|im_end|>"
    assert twin.processor.tokenizer(text)["input_ids"] == loaded.processor.tokenizer(text)["input_ids"]
    assert loaded.box_space == "pixels"


@pytest.mark.parametrize(
    "text", ["<think>a</think>", "<obj>x</obj><box>[1,22,3,4]</box>at<t>12.5</t>s", "日本 ñ\n\t  z"]
)
def test_any_text_survives_the_tokenizer_tags_included(twin, text):
    tokenizer = twin.processor.tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_response_holds_no_vision_token(twin):
    tokenizer = twin.processor.tokenizer
    image_token = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    with torch.no_grad():  # a model that would generate only this token
        twin.model.lm_head.weight[image_token] = 50 * twin.model.lm_head.weight.norm(dim=1).max()
    inputs = models.encode(twin.processor, [prompt(frames(2))])
    tokens = twin.model.generate(**inputs, max_new_tokens=8, do_sample=True)[0, inputs["input_ids"].shape[1] :]
    assert not set(tokens.tolist()) & set(tokenizer.convert_tokens_to_ids(list(models.VISION_TOKENS)))


def test_generation_is_seeded_and_padding_changes_nothing(twin):
    long, short = prompt(frames(3)), prompt(frames(1, seed=1), "Where?")
    alone = models.generate(twin, [short], 6)
    assert models.generate(twin, [short, long], 6)[0] == alone[0]
    hot = [models.generate(twin, [short, long], 6, temperature=1.0, seed=3) for _ in range(2)]
    assert hot[0] == hot[1] != models.generate(twin, [short, long], 6, temperature=1.0, seed=4)


def test_a_template_that_opens_the_thinking_gives_complete_responses(twin):
    """Qwen3-VL-Thinking's template ends with <think>: its completions only close the tag."""
    ordinary = models.generate(twin, [prompt(frames(1))], 4)
    tokenizer = twin.processor.tokenizer
    opening = "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    tokenizer.chat_template += opening
    assert models.response_opening(twin.processor) == "<think>"
    (text,) = models.generate(twin, [prompt(frames(1))], 4)
    assert text.startswith("<think>") and not ordinary[0].startswith("<think>")
    started = replace(prompt(frames(1)), response_prefix="<think>I see.</think><answer>")
    (continued,) = models.generate(twin, [started], 4)
    assert not continued.startswith("<think>")
    inputs = models.encode(twin.processor, [started])
    assert tokenizer.decode(inputs["input_ids"][0]).rsplit("assistant", 1)[1].count("<think>") == 1


@given(st.integers(1, 700), st.integers(1, 700), st.integers(MIN_PIXELS, 200_000))
def test_the_processor_does_not_resize_a_fitted_frame_again(width, height, max_pixels):
    """Boxes are written in pixels of the fitted size, so the model must see it, for tiny images and strips too."""
    assume(max(width, height) < 200 * min(width, height))
    fitted_w, fitted_h = fit_size((width, height), max_pixels)
    assert MIN_PIXELS <= fitted_w * fitted_h <= max_pixels
    assert smart_resize(fitted_h, fitted_w, PATCH_FACTOR, MIN_PIXELS, 12_845_056) == (fitted_h, fitted_w)
