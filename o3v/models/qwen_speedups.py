"""Qwen2.5-VL's image processor and vision tower without repeated work; same numbers."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


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


class BatchedWindowAttention(Qwen2_5_VLVisionAttention):
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


class DedupVisionTower(Qwen2_5_VisionTransformerPretrainedModel):
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


def apply_speedups(model: Any) -> Any:
    """Gives a Qwen2.5-VL the tower and attention that work a frame out once; weights and results stay as they are."""
    tower = model.model.visual
    if type(tower) is Qwen2_5_VisionTransformerPretrainedModel:
        tower.__class__ = DedupVisionTower
    for block in tower.blocks:
        if type(block.attn) is Qwen2_5_VLVisionAttention:
            block.attn.__class__ = BatchedWindowAttention
    return model
