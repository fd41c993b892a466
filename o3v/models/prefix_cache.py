"""A prefix cache for prompts that several completions share.

Prefills each distinct prompt once and expands its KV cache to all completions of the group: a video fills most of a
prompt, and a GSPO step or a vote needs G completions of it. Results equal those of G separate rows. For the Qwen-VL
classes, whose positions continue after the images of a prompt. This module does not know rewards or losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional as F
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from o3v.models import decoding
from o3v.models.families import FAMILIES
from o3v.models.qwen_speedups import frame_fingerprints

Inputs = Mapping[str, torch.Tensor]


class PreallocatedCacheLayer(DynamicLayer):
    """A KV cache layer with preallocated space, for generation without gradients.

    transformers 5.23 copies all keys and values (rows, heads, tokens, width) for every new token, which dominates the
    time of a small model.
    """

    spare_tokens = 64
    buffers: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends keys and values, in place where the buffer has room. Returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        ours = bool(self.buffers) and self.keys.data_ptr() == self.buffers[0].data_ptr()  # False after a reorder
        if not ours or self.buffers[0].shape[-2] < length:
            size, new = length + self.spare_tokens, (key_states, value_states)
            self.buffers = tuple(part.new_empty((*part.shape[:2], size, part.shape[-1])) for part in new)
            for buffer, old in zip(self.buffers, (self.keys, self.values), strict=True):
                buffer[..., :held, :] = old if held else 0  # an empty slice if nothing is held
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., held:length, :] = new
        self.keys, self.values = (buffer[..., :length, :] for buffer in self.buffers)
        return self.keys, self.values


@dataclass(frozen=True)
class PrefixCache:
    """Distinct prompts after prefill."""

    index: torch.Tensor  # which prompt each row has, (rows,)
    cache: DynamicCache  # keys and values of the prompts
    last_hidden: torch.Tensor  # hidden state at the last token of each prompt, (prompts, width)
    mask: torch.Tensor  # 1 where a token is, 0 for padding, (prompts, length)
    next_position: torch.Tensor  # position after each prompt, (prompts,)

    def expanded_cache(self, rows: slice | torch.Tensor = slice(None)) -> DynamicCache:
        """Returns a writable KV cache for these rows. Gradients flow through it to the prompts."""
        index = self.index[rows]
        return DynamicCache([(layer.keys[index], layer.values[index]) for layer in self.cache.layers])


def supports_prefix_cache(model: Any) -> bool:
    """Whether the prompts of this model can be shared: those of all families in the table."""
    return unwrap_lora(model).config.model_type in FAMILIES


def unwrap_lora(model: Any) -> Any:
    """The model without its LoRA wrapper, if it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def distinct_prompts(inputs: Inputs, config: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The distinct prompts among rows, in order, and the index of each row's prompt, (rows,).

    Rows have the same prompt if their tokens and their frames are equal. inputs: input_ids, attention_mask and
    mm_token_type_ids (rows, length); pixel_values and image_grid_thw of all rows.
    """
    ids = inputs["input_ids"]
    merged = config.vision_config.spatial_merge_size**2
    patches = ((ids == config.image_token_id).sum(1) * merged).tolist()
    pixels, frame_sizes = inputs["pixel_values"].split(patches), inputs["image_grid_thw"].prod(1)
    ends, frame_ends = [0, *torch.tensor(patches).cumsum(0).tolist()], frame_sizes.cumsum(0).tolist()
    frames = [sum(start < frame_end <= end for frame_end in frame_ends) for start, end in pairwise(ends)]
    grids = inputs["image_grid_thw"].split(frames)
    fingerprints = iter(frame_fingerprints(inputs["pixel_values"], frame_sizes.tolist()))
    keys = [(*row, *(next(fingerprints) for _ in range(n))) for row, n in zip(ids.tolist(), frames, strict=True)]
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    distinct = sorted(first.values())
    index = torch.tensor([distinct.index(first[key]) for key in keys], device=ids.device)
    prompts = {name: inputs[name][distinct] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    prompts["pixel_values"] = torch.cat([pixels[row] for row in distinct])
    prompts["image_grid_thw"] = torch.cat([grids[row] for row in distinct])
    return prompts, index


def prefill(model: Any, inputs: Inputs) -> PrefixCache:
    """Runs the model over the distinct prompts among rows. inputs as in `distinct_prompts`, padded on the left.

    Raises RuntimeError under activation checkpointing in training mode, which would leave the cache empty.
    """
    core = unwrap_lora(model).model
    prompts, index = distinct_prompts(inputs, core.config)
    cache = DynamicCache()
    hidden = core(**prompts, past_key_values=cache, use_cache=True).last_hidden_state
    if not cache.get_seq_length():  # transformers 5.23 drops it without an error
        raise RuntimeError(
            "the prefix cache is empty: activation checkpointing is on in training mode. Use o3v.models.group_rows, "
            "or model.eval() or model.gradient_checkpointing_disable()"
        )
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
    rows: slice | torch.Tensor = slice(None),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy at each token of the rows' completions, both (rows, length).

    Args:
        model: the model that prefilled `prefix`.
        prefix: the prompts.
        ids: token ids of the completions, (rows, length), padded on the right.
        mask: 1 for tokens of a completion, (rows, length); where it is 0 the results are meaningless.
        temperature: divides the logits.
        rows: which rows of `prefix.index` these are.
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
    log_p = F.log_softmax(base.lm_head(before).float() / temperature, dim=-1)
    entropy = -(log_p.detach().exp() * log_p.detach()).sum(-1)
    return log_p.gather(-1, ids[..., None]).squeeze(-1), entropy


def log_probs_by_length(
    model: Any, prefix: PrefixCache, ids: torch.Tensor, mask: torch.Tensor, temperature: float, parts: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    """`log_probs` in `parts` forward passes over rows of similar length, each padded to its own longest row only."""
    width, order = ids.shape[1], mask.sum(1).argsort()
    done: list[tuple[torch.Tensor, ...]] = []
    for rows in order.chunk(parts):
        longest = max(1, int(mask[rows].sum(1).max()))
        values = log_probs(model, prefix, ids[rows, :longest], mask[rows, :longest], temperature, rows)
        done.append(tuple(F.pad(value, (0, width - longest)) for value in values))
    back = order.argsort()
    logps, entropies = (torch.cat(values)[back] for values in zip(*done, strict=True))
    return logps, entropies


@torch.no_grad()
def generate(model: Any, repeats: int = 1, **inputs: Any) -> torch.Tensor:
    """As the model's own `generate`, with each distinct prompt prefilled once: (rows · repeats, prompt + completion).

    The `repeats` completions of a row follow one another. Accepts what `generate` accepts. Rows that end are dropped
    (`decoding`), unless the settings need transformers' own loop.
    """
    base = unwrap_lora(model)
    media = {name: inputs.pop(name) for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    text = {name: inputs.pop(name) for name in ("input_ids", "attention_mask")}
    prefix = prefill(model, text | media)
    prefix = replace(prefix, index=prefix.index.repeat_interleave(repeats))
    ids = text["input_ids"].repeat_interleave(repeats, 0)
    cache = Cache(layers=[PreallocatedCacheLayer() for _ in prefix.cache.layers])
    for number, layer in enumerate(prefix.cache.layers):
        cache.update(layer.keys[prefix.index], layer.values[prefix.index], number)
    settings = decoding.read_settings(base, inputs)
    if settings is None:
        cache.crop(-1)  # `generate` runs the last prompt token again, to start from its logits
        mask = text["attention_mask"].repeat_interleave(repeats, 0)
        base.model.rope_deltas = prefix.next_position[prefix.index][:, None] - mask.sum(1, keepdim=True)
        return type(base).generate(base, input_ids=ids, attention_mask=mask, past_key_values=cache, **inputs)

    def next_logits(tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        hidden = base.model.language_model(
            inputs_embeds=base.model.get_input_embeddings()(tokens[:, None]),
            attention_mask=mask,
            position_ids=positions[None, :, None].expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return base.lm_head(hidden[:, -1])

    first = base.lm_head(prefix.last_hidden)[prefix.index]
    start = (prefix.mask[prefix.index], prefix.next_position[prefix.index])
    return torch.cat([ids, decoding.decode(next_logits, first, cache, *start, settings)], dim=1)
