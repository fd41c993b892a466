"""A prompt and its completions as one row: the prompt is read once, through the model's own forward pass.

`prefix_cache` reads a prompt once, too, but its KV cache does not go together with activation checkpointing, and it
calls parts of the model, which DDP, ZeRO and FSDP do not allow. Here a row holds the prompt without its last token, and
then a branch for each completion: that last token again, and the completion. A 4-D mask lets a branch see the prompt
and itself, and every branch has the positions that follow the prompt. Log-probabilities and gradients equal those of
separate rows. The logits are computed only where a token of a completion is predicted, some at a time. This module
does not know rewards or losses.
"""

import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from o3v.models.families import FAMILIES
from o3v.models.prefix_cache import distinct_prompts, unwrap_lora

ATTENTION = ("sdpa", "eager")  # implementations that take a 4-D mask
NOT_SCORED = -100
SCORED_AT_ONCE = 1_024  # tokens whose logits are in memory at a time


@dataclass(frozen=True)
class GroupRows:
    """r distinct prompts with the completions of n rows."""

    inputs: dict[str, torch.Tensor]  # for the model: token ids (r, length), mask (r, 1, length, length), frames, …
    labels: torch.Tensor  # the token that each position predicts, NOT_SCORED for none, (r, length)
    completion: torch.Tensor  # the row and the index of the completion's token of each label, in order, (labels, 2)

    def unpack(self, values: torch.Tensor, width: int) -> torch.Tensor:
        """Values of the labels in order, (labels,), as (n, width); 0 elsewhere."""
        rows = int(self.completion[:, 0].max()) + 1
        empty = values.new_zeros(rows, width)
        return empty.index_put((self.completion[:, 0], self.completion[:, 1]), values)


def supports_group_rows(model: Any) -> bool:
    """Whether the prompts of this model can be read once a group: a known family, and attention with a 4-D mask."""
    config = unwrap_lora(model).config
    return config.model_type in FAMILIES and config.get_text_config()._attn_implementation in ATTENTION


def pack(model: Any, prompts: Mapping[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor) -> GroupRows:
    """Packs n rows that share prompts.

    Args:
        model: the model without wrappers of accelerate; gives the positions.
        prompts: input_ids, attention_mask, mm_token_type_ids (n, length), padded on the left; pixel_values and
            image_grid_thw of all rows. A prompt ends with text.
        ids: token ids of the completions, (n, width), padded on the right.
        mask: 1 for tokens of a completion, (n, width); every completion has a token.
    """
    core = unwrap_lora(model).model
    distinct, index = distinct_prompts(prompts, core.config)
    positions, _ = core.get_rope_index(
        distinct["input_ids"],
        distinct["mm_token_type_ids"],
        image_grid_thw=distinct["image_grid_thw"],
        attention_mask=distinct["attention_mask"],
    )
    count, prefix = distinct["input_ids"].shape[0], distinct["input_ids"].shape[1] - 1
    lengths = mask.sum(1).tolist()
    used = [prefix + sum(1 + lengths[row] for row in _rows(index, prompt)) for prompt in range(count)]
    layout = _Layout.empty(count, max(used), ids)
    layout.ids[:, :prefix] = distinct["input_ids"][:, :-1]
    layout.positions[:, :, :prefix] = positions[:, :, :-1]
    layout.segments[:, :prefix] = distinct["attention_mask"][:, :-1].long() - 1
    completion = []
    for prompt in range(count):
        at, first = prefix, int(positions[:, prompt].max())
        for branch, row in enumerate(_rows(index, prompt), 1):
            end = at + 1 + lengths[row]
            layout.ids[prompt, at] = distinct["input_ids"][prompt, -1]
            layout.ids[prompt, at + 1 : end] = ids[row, : lengths[row]]
            layout.labels[prompt, at : end - 1] = ids[row, : lengths[row]]
            layout.segments[prompt, at:end] = branch
            layout.positions[:, prompt, at:end] = first + torch.arange(end - at, device=ids.device)
            completion += [(row, token) for token in range(lengths[row])]
            at = end
    inputs = {name: distinct[name] for name in ("pixel_values", "image_grid_thw")}
    inputs["attention_mask"] = attention_mask(layout.segments, core.config.get_text_config()._attn_implementation)
    inputs["mm_token_type_ids"] = F.pad(distinct["mm_token_type_ids"][:, :-1], (0, max(used) - prefix))
    inputs |= {"input_ids": layout.ids, "position_ids": layout.positions}
    return GroupRows(inputs, layout.labels, torch.tensor(completion, device=ids.device))


def _rows(index: torch.Tensor, prompt: int) -> list[int]:
    return (index == prompt).nonzero()[:, 0].tolist()


@dataclass(frozen=True)
class _Layout:
    """The tokens of packed rows while they are filled in; a segment is 0 in the prompt, 1, 2, … in the branches."""

    ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor  # -1 for padding
    positions: torch.Tensor  # (3, rows, length)

    @classmethod
    def empty(cls, rows: int, length: int, ids: torch.Tensor) -> "_Layout":
        new = functools.partial(torch.full, dtype=torch.long, device=ids.device)
        return cls(
            new((rows, length), 0), new((rows, length), NOT_SCORED), new((rows, length), -1), new((3, rows, length), 1)
        )


def attention_mask(segments: torch.Tensor, implementation: str = "sdpa") -> torch.Tensor:
    """Which token attends to which, (rows, 1, length, length), from the segments (rows, length) of the tokens.

    A token sees the earlier ones of its own segment and of segment 0, the prompt; padding (-1) only itself. Boolean, or
    for "eager" attention a float that is added to the scores.

    >>> attention_mask(torch.tensor([[0, 1, 1, 2]]))[0, 0].int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 0, 0, 1]], dtype=torch.int32)
    """
    length = segments.shape[1]
    seen = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    seen &= (segments[:, None, :] >= 0) & torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    seen |= torch.eye(length, dtype=torch.bool, device=segments.device)
    if implementation == "eager":
        added = torch.zeros(seen.shape, device=segments.device)
        return added.masked_fill_(~seen, torch.finfo(added.dtype).min)[:, None]
    return seen[:, None]


def add_scoring(model: Any) -> None:
    """Lets `model(**rows.inputs, scored_labels=rows.labels, temperature=1.0)` return log-probabilities and entropies.

    Both (labels,), in order. All else stays as it is. The forward pass of the whole model runs, as the hooks of DDP,
    ZeRO, FSDP and LoRA need it. TRL 1.16's fused head computes the logits of all positions where there is no Triton.
    """
    base = unwrap_lora(model)
    original = base.forward

    @functools.wraps(type(base).forward)  # `generate` reads the signature
    def forward(
        self: Any, *args: Any, scored_labels: torch.Tensor | None = None, temperature: float = 1.0, **kwargs: Any
    ) -> Any:
        if scored_labels is None:
            return original(*args, **kwargs)
        hidden = self.model(*args, use_cache=False, **kwargs).last_hidden_state
        wanted = scored_labels != NOT_SCORED
        parts = zip(hidden[wanted].split(SCORED_AT_ONCE), scored_labels[wanted].split(SCORED_AT_ONCE), strict=True)
        scored = [
            checkpoint(_log_probs, self.get_output_embeddings(), *part, temperature, use_reentrant=False)
            for part in parts
        ]
        return tuple(torch.cat(values) for values in zip(*scored, strict=True))

    base.forward = types.MethodType(forward, base)


def _log_probs(
    head: Any, hidden: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each label and entropy, both (labels,)."""
    log_p = (head(hidden).float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, labels[:, None]).squeeze(-1), entropy
