"""The video-language model: load, prepare, generate.

The same functions serve Qwen2.5-VL, Qwen3-VL and the tiny stand-in of the same classes. Frames reach a model as
single images, so that every one can carry its time; the processor therefore needs no video part (and no
torchvision). Knows nothing of rewards or training.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, set_seed
from transformers.models.auto import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from o3v import prefix
from o3v.prompts import Prompt

# how each family writes boxes (shared facts of the model cards)
BOX_SPACE = {"qwen2_5_vl": "pixels", "qwen3_vl": "thousandths"}
# tokens that open or stand for pictures: a response must never hold one
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class FrameImageProcessor(Qwen2VLImageProcessorPil):
    """Qwen's image processor, remembering the patches of the last few hundred frames it saw.

    A GSPO step shows each prompt's frames to the processor once a completion and again for the loss; they are
    worked out once. Same numbers as the parent's; frames are told apart by a hash of their bytes.
    """

    remembered = 512

    def _preprocess(self, images: list[Any], return_tensors: Any = None, **kwargs: Any) -> Any:
        memory: OrderedDict = self.__dict__.setdefault("_memory", OrderedDict())
        settings = repr(sorted((k, str(v)) for k, v in kwargs.items())).encode()
        found = []
        for image in images:
            key = blake2b(image.tobytes() + repr(image.shape).encode() + settings, digest_size=16).digest()
            if key not in memory:
                memory[key] = super()._preprocess([image], return_tensors="pt", **kwargs)
                if len(memory) > self.remembered:
                    memory.popitem(last=False)
            memory.move_to_end(key)
            found.append(memory[key])
        joined = {name: torch.cat([f[name] for f in found]) for name in ("pixel_values", "image_grid_thw")}
        return type(found[0])(data=joined, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "_memory"}

    def __deepcopy__(self, memo: dict) -> FrameImageProcessor:
        return type(self)(**self.to_dict())


class FrameProcessor(Qwen2_5_VLProcessor):
    """Qwen's processor without its video part."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


class EqualFramesAttention(Qwen2_5_VLVisionAttention):
    """Qwen2.5-VL's vision attention in one product for all windows when they are of one small size.

    The parent calls attention once for each window, which on many small frames costs more than the arithmetic.
    Same result; other windows go the parent's way. hidden_states: (patches, width).
    """

    largest = 64  # patches in a window; above it a fused kernel is quicker than whole products

    def forward(self, hidden_states, cu_seqlens, position_embeddings=None, max_seqlen=None, **kwargs):
        lengths = cu_seqlens.diff()
        patches = hidden_states.shape[0]
        length = int(lengths[0])
        if length > self.largest or bool((lengths != length).any()):
            return super().forward(hidden_states, cu_seqlens, position_embeddings, max_seqlen, **kwargs)
        q, k, v = self.qkv(hidden_states).reshape(patches, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.reshape(-1, length, self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * self.scaling).softmax(-1)
        mixed = weights.to(v.dtype) @ v
        return self.proj(mixed.transpose(1, 2).reshape(patches, -1))


class SharedFramesTower(Qwen2_5_VisionTransformerPretrainedModel):
    """Qwen2.5-VL's vision tower, encoding each distinct picture of a batch once.

    The G completions of a prompt, and the questions about one film, bring the same frames again and again. Same
    `pooler_output` and gradients as the parent's; `last_hidden_state` is that of the distinct pictures.
    """

    def forward(self, hidden_states, grid_thw, **kwargs):
        pictures = hidden_states.split(grid_thw.prod(1).tolist())
        keys = [blake2b(p.detach().float().cpu().numpy().tobytes(), digest_size=16).digest() for p in pictures]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        distinct = sorted(first.values())
        if len(distinct) == len(keys):
            return super().forward(hidden_states, grid_thw, **kwargs)
        out = super().forward(torch.cat([pictures[i] for i in distinct]), grid_thw[distinct], **kwargs)
        tokens = grid_thw[distinct].prod(1) // self.spatial_merge_unit
        encoded = dict(zip(distinct, out.pooler_output.split(tokens.tolist()), strict=True))
        out.pooler_output = torch.cat([encoded[first[key]] for key in keys])
        return out


@dataclass(frozen=True)
class VideoModel:
    """A model with its processor. `box_space` is a key of prompts.BOX_SPACES."""

    model: Any
    processor: Any
    box_space: str


def join_frames(model: Any) -> Any:
    """Gives a Qwen2.5-VL the tower and attention that work a frame out once; weights and results stay as they are."""
    tower = model.model.visual
    if type(tower) is Qwen2_5_VisionTransformerPretrainedModel:
        tower.__class__ = SharedFramesTower
    for block in tower.blocks:
        if type(block.attn) is Qwen2_5_VLVisionAttention:
            block.attn.__class__ = EqualFramesAttention
    return model


def forbid_vision_tokens(model: Any, tokenizer: Any) -> None:
    """A sampled vision token would stand for a picture that is not there: generation never gives one."""
    ids = tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
    model.generation_config.suppress_tokens = sorted({i for i in ids if i is not None and i >= 0})


def load(name: str | Path, adapter: str | Path | None = None) -> VideoModel:
    """Loads a model folder or hub name in evaluation mode, on the GPU in bf16 where there is one, else fp32.

    `adapter` adds a LoRA folder. Raises OSError when the model is not to be found, ValueError for a family whose
    box coordinates are not known here.
    """
    gpu = torch.cuda.is_available()
    model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.bfloat16 if gpu else torch.float32)
    family = model.config.model_type
    if family not in BOX_SPACE:
        raise ValueError(f"{name}: model type {family!r} is none of {sorted(BOX_SPACE)}; add its box space there")
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    processor = FrameProcessor(FrameImageProcessor.from_pretrained(name), tokenizer, tokenizer.chat_template)
    if family == "qwen2_5_vl":
        join_frames(model)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    forbid_vision_tokens(model, tokenizer)
    return VideoModel(model.to("cuda" if gpu else "cpu").eval(), processor, BOX_SPACE[family])


def save(vlm: VideoModel, folder: Path | str, half: bool = False) -> None:
    """Writes weights (safetensors), configs, tokenizer and image processor, so that `load` reads them again.

    `half` stores the weights in half precision, at half the size.
    """
    (copy.deepcopy(vlm.model).half() if half else vlm.model).save_pretrained(folder)
    vlm.processor.tokenizer.save_pretrained(folder)
    vlm.processor.image_processor.save_pretrained(folder)


def encode(processor: Any, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Model inputs of a batch of prompts, padded on the left: input_ids (batch, length), pixel_values, …"""
    template = processor.tokenizer.apply_chat_template
    texts = [template(p.messages, tokenize=False, add_generation_prompt=True) + p.begun for p in prompts]
    images = [[Image.fromarray(image) for image in p.images] for p in prompts]
    return processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")


@torch.inference_mode()
def generate(
    vlm: VideoModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    repeats: int = 1,
) -> list[str]:
    """`repeats` responses a prompt, as text, one prompt after the other. Temperature 0 is greedy; sampling is seeded.

    Prompts of one call are one batch: the caller chooses its size. Where a prompt is repeated it is read once. A
    response that a prompt has begun is returned without its beginning.
    """
    inputs = {k: v.to(vlm.model.device) for k, v in encode(vlm.processor, prompts).items()}
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95} if temperature > 0 else {}
    set_seed(seed)
    settings = {"max_new_tokens": max_new_tokens, **(sampling or {"do_sample": False})}
    if prefix.fits(vlm.model) and "pixel_values" in inputs:
        tokens = prefix.generate(vlm.model, repeats, **inputs, **settings)
    else:
        tokens = vlm.model.generate(**inputs, num_return_sequences=repeats, **settings)
    return vlm.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
