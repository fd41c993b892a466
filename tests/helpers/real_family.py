"""Small models with random weights and the classes of the real families, a batch for them, and the peak of a step."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig
from transformers.models.auto import AutoModelForImageTextToText

IMAGE, START, END, TEXT = 10, 12, 13, 20  # token ids


def family_model(family: str, vocabulary: int) -> Any:
    """A model of `qwen2_5_vl` or `qwen3_vl`, fp32, with activation checkpointing."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [6, 5, 5]}
    text = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 8}
    text |= {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": vocabulary, "rope_parameters": rope}
    vision = {"depth": 4, "hidden_size": 160, "intermediate_size": 430, "num_heads": 4, "out_hidden_size": 256}
    last = {"fullatt_block_indexes": [3]} if family == "qwen2_5_vl" else {"deepstack_visual_indexes": [0, 1, 2]}
    ids = {"image_token_id": IMAGE, "video_token_id": 11, "vision_start_token_id": START, "vision_end_token_id": END}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(
        family, text_config=text, vision_config=vision | last, tie_word_embeddings=False, **ids
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).train()
    model.activation_checkpointing_enable()
    return model


def family_batch(model: Any, rows: int, frames: int, grid_hw: tuple[int, int], text: int) -> dict[str, torch.Tensor]:
    """Rows of `frames` images of `grid_hw` patches and `text` tokens, half of which have labels."""
    height, width = grid_hw
    row = [START, *[IMAGE] * (height * width // 4), END] * frames + [TEXT] * text
    ids = torch.tensor([row] * rows)
    labels = ids.clone()
    labels[:, : -text // 2] = -100
    patch = 3 * 2 * model.config.vision_config.patch_size**2
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.randn(rows * frames * height * width, patch),
        "image_grid_thw": torch.tensor([[1, height, width]] * (rows * frames)),
        "labels": labels,
    }


def peak_bytes(step: Callable[[], object]) -> int:
    """The largest sum of bytes that torch's CPU allocator gave out during a call and had not got back."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak
