"""Qwen2.5-VL's image processor and vision tower without repeated work. Weights and results stay the same.

The G completions of a prompt, and the questions about one video, contain the same frames many times: each distinct
frame is processed and encoded once. Attention over many small windows is one batched product, and so is the
convolution of the patches.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Self

import torch
from torch.nn.functional import linear
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

FINGERPRINTED_AT_ONCE = 4_096  # patches; bounds the memory of `frame_fingerprints`


class FrameImageProcessor(Qwen2VLImageProcessorPil):
    """Qwen's image processor with a cache of the last few hundred frames. Same numbers as the parent's.

    TRL 1.16 passes each prompt's frames once a completion and once more for the loss.
    """

    max_cached = 512

    def _preprocess(self, images: list[Any], return_tensors: Any = None, **kwargs: Any) -> Any:
        cache: OrderedDict = self.__dict__.setdefault("_memory", OrderedDict())
        settings = repr(sorted((k, str(v)) for k, v in kwargs.items())).encode()
        processed = []
        for image in images:
            key = blake2b(image.tobytes() + repr(image.shape).encode() + settings, digest_size=16).digest()
            if key not in cache:
                cache[key] = super()._preprocess([image], return_tensors="pt", **kwargs)
                if len(cache) > self.max_cached:
                    cache.popitem(last=False)
            cache.move_to_end(key)
            processed.append(cache[key])
        joined = {name: torch.cat([p[name] for p in processed]) for name in ("pixel_values", "image_grid_thw")}
        return type(processed[0])(data=joined, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "_memory"}

    def __deepcopy__(self, memo: dict) -> Self:
        return type(self)(**self.to_dict())


class BatchedWindowAttention(Qwen2_5_VLVisionAttention):
    """Qwen2.5-VL's vision attention as one product over all windows, if they have one small size.

    transformers 5.23 calls attention once a window, which on many small frames costs more than the arithmetic. Other
    windows take the parent's path. hidden_states: (patches, width).
    """

    max_window = 64  # patches; above it a fused kernel is faster

    def forward(self, hidden_states, cu_seqlens, position_embeddings=None, max_seqlen=None, **kwargs):
        """As the parent class; equal small windows go through one batched product."""
        lengths = cu_seqlens.diff()
        patches = hidden_states.shape[0]
        length = int(lengths[0])
        if length > self.max_window or bool((lengths != length).any()):
            return super().forward(hidden_states, cu_seqlens, position_embeddings, max_seqlen, **kwargs)
        q, k, v = self.qkv(hidden_states).reshape(patches, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.reshape(-1, length, self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * self.scaling).softmax(-1)
        mixed = weights.to(v.dtype) @ v
        return self.proj(mixed.transpose(1, 2).reshape(patches, -1))


class LinearPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """The first layer of the vision tower as a matrix product: its convolution has one position a patch.

    PyTorch's 3D convolution on a CPU takes about ten times as long. hidden_states: (patches, values of a patch).
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """As the parent class; (patches, width)."""
        weight = self.proj.weight
        return linear(hidden_states.to(weight.dtype), weight.reshape(weight.shape[0], -1))


class DedupVisionTower(Qwen2_5_VisionTransformerPretrainedModel):
    """Qwen2.5-VL's vision tower, which encodes each distinct frame of a batch once.

    Same `pooler_output` and gradients as the parent's (transformers 5.23 encodes every frame);
    `last_hidden_state` is that of the distinct frames.
    """

    def forward(self, hidden_states, grid_thw, **kwargs):
        """As the parent class; equal frames are encoded once."""
        sizes = grid_thw.prod(1).tolist()
        frames, keys = hidden_states.split(sizes), frame_fingerprints(hidden_states, sizes)
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        distinct = sorted(first.values())
        if len(distinct) == len(keys):
            return super().forward(hidden_states, grid_thw, **kwargs)
        out = super().forward(torch.cat([frames[i] for i in distinct]), grid_thw[distinct], **kwargs)
        tokens = grid_thw[distinct].prod(1) // self.spatial_merge_unit
        encoded = dict(zip(distinct, out.pooler_output.split(tokens.tolist()), strict=True))
        out.pooler_output = torch.cat([encoded[first[key]] for key in keys])
        return out


@torch.no_grad()
def frame_fingerprints(pixel_values: torch.Tensor, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Fingerprints of frames, equal for equal pixels: on a CPU Python's 64-bit hash of the pixels' bytes.

    On a GPU two 64-bit sums of the pixels' bits with random odd weights, computed there, so that 16 bytes a frame reach
    the CPU instead of the pixels. pixel_values: patches of all frames, (patches, width); sizes: number of patches of
    each frame.
    """
    if pixel_values.device.type == "cpu":  # a tenth of the time of the sums
        return [(hash(frame.float().numpy().tobytes()),) for frame in pixel_values.split(list(sizes))]
    device, counts = pixel_values.device, torch.tensor(list(sizes), device=pixel_values.device)
    frame = torch.arange(len(counts), device=device).repeat_interleave(counts)
    position = torch.arange(len(frame), device=device) - (counts.cumsum(0) - counts)[frame]
    fingerprints = []
    for salt in (0, 1):
        column_weights = _odd_weights(pixel_values.shape[1], salt, device)
        row_weights = _odd_weights(max(sizes, default=0), salt + 2, device)
        parts = pixel_values.split(FINGERPRINTED_AT_ONCE)
        patches = torch.cat([(p.float().contiguous().view(torch.int32) * column_weights).sum(1) for p in parts])
        total = torch.zeros(len(counts), dtype=torch.int64, device=device)
        fingerprints.append(total.index_add_(0, frame, patches * row_weights[position]).tolist())
    return list(zip(*fingerprints, strict=True))


@lru_cache(64)
def _odd_weights(count: int, salt: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(salt)
    return (2 * torch.randint(-(2**62), 2**62, (count,), generator=generator) + 1).to(device)


def apply_speedups(model: Any) -> Any:
    """Replaces a Qwen2.5-VL's vision tower and attention by the faster classes, in place. Returns the model.

    Models of other classes stay as they are.
    """
    tower = model.model.visual
    if type(tower) is Qwen2_5_VisionTransformerPretrainedModel:
        tower.__class__ = DedupVisionTower
    if type(tower.patch_embed) is Qwen2_5_VisionPatchEmbed:
        tower.patch_embed.__class__ = LinearPatchEmbed
    for block in tower.blocks:
        if type(block.attn) is Qwen2_5_VLVisionAttention:
            block.attn.__class__ = BatchedWindowAttention
    return model
