"""Prompts that several completions share: each is read once, and its keys and values are lent to all of them.

A film fills most of a prompt, and a step of GSPO or a vote at inference wants G completions of each. The numbers are
those of G separate rows. For the Qwen-VL classes, whose positions continue after a prompt's pictures. Knows nothing of
rewards or losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional as F
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

Inputs = Mapping[str, torch.Tensor]


class PreallocatedCacheLayer(DynamicLayer):
    """A layer's keys and values (rows, heads, tokens, width) with room for more: upstream copies all of them for each
    token that is written, which is most of the time a small model takes. For generation; no gradient passes."""

    spare = 64  # tokens
    rooms: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        here = bool(self.rooms) and self.keys.data_ptr() == self.rooms[0].data_ptr()  # not so when rows were chosen
        if not here or self.rooms[0].shape[-2] < length:
            size, new = length + self.spare, (key_states, value_states)
            self.rooms = tuple(part.new_empty((*part.shape[:2], size, part.shape[-1])) for part in new)
            for room, old in zip(self.rooms, (self.keys, self.values), strict=True):
                room[..., :held, :] = old if held else 0  # nothing held: an empty place
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            room[..., held:length, :] = new
        self.keys, self.values = (room[..., :length, :] for room in self.rooms)
        return self.keys, self.values


@dataclass(frozen=True)
class PrefixCache:
    """Distinct prompts, read. `index` (rows,) says which of them each row has.

    cache holds their keys and values, last (prompts, width) the hidden state at the end of each, mask (prompts,
    length) where a token stands, next (prompts,) the position after each.
    """

    index: torch.Tensor
    cache: DynamicCache
    last_hidden: torch.Tensor
    mask: torch.Tensor
    next_position: torch.Tensor

    def expanded_cache(self, rows: slice = slice(None)) -> DynamicCache:
        """A cache for these rows that can be written to; gradients reach the prompts through it."""
        index = self.index[rows]
        return DynamicCache([(layer.keys[index], layer.values[index]) for layer in self.cache.layers])


def supports_prefix_cache(model: Any) -> bool:
    """Whether prompts of this model can be shared: Qwen2.5-VL."""
    return unwrap_lora(model).config.model_type == "qwen2_5_vl"


def unwrap_lora(model: Any) -> Any:
    """The model itself, out of its LoRA wrapping if it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def distinct_prompts(inputs: Inputs, config: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The inputs of the distinct prompts among rows, in order, and which of them each row has (rows,).

    inputs: input_ids, attention_mask, mm_token_type_ids (rows, length); pixel_values and image_grid_thw of all rows.
    Rows are the same when their tokens and their pictures are.
    """
    ids, device = inputs["input_ids"], inputs["input_ids"].device
    merged = config.vision_config.spatial_merge_size**2
    patches = ((ids == config.image_token_id).sum(1) * merged).tolist()
    pixels, sizes = inputs["pixel_values"].split(patches), inputs["image_grid_thw"].prod(1).cumsum(0).tolist()
    ends = [0, *torch.tensor(patches).cumsum(0).tolist()]
    counts = [sum(start < size <= end for size in sizes) for start, end in pairwise(ends)]
    grids = inputs["image_grid_thw"].split(counts)
    keys = [_key(row, picture) for row, picture in zip(ids, pixels, strict=True)]
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    kept = sorted(first.values())
    index = torch.tensor([kept.index(first[key]) for key in keys], device=device)
    found = {name: inputs[name][kept] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    found["pixel_values"] = torch.cat([pixels[row] for row in kept])
    found["image_grid_thw"] = torch.cat([grids[row] for row in kept])
    return found, index


def _key(ids: torch.Tensor, pixels: torch.Tensor) -> bytes:
    told = (ids.cpu().numpy().tobytes(), pixels.detach().float().cpu().numpy().tobytes())
    return b"".join(blake2b(part, digest_size=16).digest() for part in told)


def prefill(model: Any, inputs: Inputs) -> PrefixCache:
    """Reads the distinct prompts among rows. inputs as in `distinct_prompts`, padded on the left."""
    core = unwrap_lora(model).model
    prompts, index = distinct_prompts(inputs, core.config)
    cache = DynamicCache()
    hidden = core(**prompts, past_key_values=cache, use_cache=True).last_hidden_state
    positions, _ = core.get_rope_index(
        prompts["input_ids"],
        prompts["mm_token_type_ids"],
        image_grid_thw=prompts["image_grid_thw"],
        attention_mask=prompts["attention_mask"],
    )
    return PrefixCache(index, cache, hidden[:, -1], prompts["attention_mask"], positions.amax((0, 2)) + 1)


def log_probs(
    model: Any,
    prefix: PrefixCache,
    ids: torch.Tensor,
    mask: torch.Tensor,
    temperature: float,
    rows: slice = slice(None),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token of the rows' completions, and the entropy there: both (rows, length).

    ids and mask (rows, length) are padded on the right; where the mask is 0 the numbers mean nothing.
    """
    base, index = unwrap_lora(model), prefix.index[rows]
    core = base.model
    positions = prefix.next_position[index][:, None] + torch.arange(ids.shape[1], device=ids.device)
    hidden = core.language_model(
        inputs_embeds=core.get_input_embeddings()(ids),
        attention_mask=torch.cat([prefix.mask[index], mask.to(prefix.mask.dtype)], dim=1),
        position_ids=positions.expand(3, -1, -1),
        past_key_values=prefix.expanded_cache(rows),
        use_cache=True,
    ).last_hidden_state
    before = torch.cat([prefix.last_hidden[index][:, None], hidden[:, :-1]], dim=1)
    spread = F.log_softmax(base.lm_head(before).float() / temperature, dim=-1)
    entropy = -(spread.detach().exp() * spread.detach()).sum(-1)
    return spread.gather(-1, ids[..., None]).squeeze(-1), entropy


@torch.no_grad()
def generate(model: Any, repeats: int = 1, **inputs: Any) -> torch.Tensor:
    """As the model's own `generate`, (rows · repeats, prompt + completion), but equal prompts are read once.

    `repeats` completions of each row follow one another. Takes what `generate` takes.
    """
    base = unwrap_lora(model)
    given = {name: inputs.pop(name) for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    told = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
    prefix = prefill(model, told | given)
    prefix = replace(prefix, index=prefix.index.repeat_interleave(repeats))
    told = {name: value.repeat_interleave(repeats, 0) for name, value in told.items()}
    cache = Cache(layers=[PreallocatedCacheLayer() for _ in prefix.cache.layers])
    for number, layer in enumerate(prefix.cache.layers):
        cache.update(layer.keys[prefix.index], layer.values[prefix.index], number)
    cache.crop(-1)  # `generate` reads the last token again, to begin from its logits
    length = told["attention_mask"].sum(1, keepdim=True)
    base.model.rope_deltas = prefix.next_position[prefix.index][:, None] - length
    return type(base).generate(base, **told, past_key_values=cache, **inputs)
