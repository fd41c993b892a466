"""Token-by-token generation that drops rows as they end.

transformers 5.23 keeps ended rows in the batch until the longest row ends. Here batch and KV cache shrink instead,
which saves about half of the time when the lengths of completions differ. Greedy tokens equal those of transformers;
sampled ones have the same distribution. This module does not know prompts or rewards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers import Cache, GenerationConfig

# settings that `Decoding` follows or that do not concern it; any other one needs transformers' loop
FOLLOWED = (
    *("max_new_tokens", "min_new_tokens", "do_sample", "temperature", "top_p", "top_k", "suppress_tokens"),
    *("eos_token_id", "pad_token_id", "bos_token_id", "use_cache", "disable_compile", "max_length"),
    *("transformers_version", "_from_model_config"),
)
# values of other settings that change nothing
NEUTRAL = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "min_p": 0.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "typical_p": 1.0,
}
SHRINK_BELOW = 0.85  # of the rows still running: below it, copying the cache costs less than computing ended rows


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen and when a row ends. `temperature` 0 is greedy, `top_k` 0 allows all tokens."""

    max_new_tokens: int
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    suppressed: tuple[int, ...] = ()
    min_new_tokens: int = 0  # no row ends before

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        """The settings of a GenerationConfig, None if it has settings that are not implemented here."""
        others = {name: value for name, value in config.to_diff_dict().items() if name not in FOLLOWED}
        if config.max_new_tokens is None or any(
            value not in (None, False, NEUTRAL.get(name)) for name, value in others.items()
        ):
            return None
        eos = config.eos_token_id
        eos_ids = () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)
        sampled = {"temperature": config.temperature or 1.0, "top_p": config.top_p or 1.0, "top_k": config.top_k or 0}
        return cls(
            config.max_new_tokens,
            eos_ids,
            eos_ids[0] if config.pad_token_id is None and eos_ids else config.pad_token_id or 0,
            **(sampled if config.do_sample else {}),
            suppressed=tuple(config.suppress_tokens or ()),
            min_new_tokens=config.min_new_tokens or 0,
        )

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row, (rows,), from logits (rows, vocabulary)."""
        logits = logits.float()
        if self.suppressed:
            logits[:, list(self.suppressed)] = -torch.inf
        if not self.temperature:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], -torch.inf)
        probabilities = logits.softmax(-1)
        if self.top_p < 1:
            ordered, tokens = probabilities.sort(descending=True)
            ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= self.top_p, 0)
            return tokens.gather(1, ordered.multinomial(1))[:, 0]
        return probabilities.multinomial(1)[:, 0]


@torch.no_grad()
def decode(
    next_logits: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    logits: torch.Tensor,
    cache: Cache,
    mask: torch.Tensor,
    positions: torch.Tensor,
    settings: Decoding,
) -> torch.Tensor:
    """Generates tokens after a prefill, (rows, at most max_new_tokens), padded after the end of a row.

    Args:
        next_logits: runs the model on new tokens (rows,) with the attention mask (rows, length so far) and their
            positions (rows,); extends `cache`; returns logits (rows, vocabulary).
        logits: at the last token of each prompt, (rows, vocabulary).
        cache: keys and values of the prompts, one row each.
        mask: attention mask of the prompts, (rows, length).
        positions: position of the first new token, (rows,).
        settings: how tokens are chosen.
    """
    rows, eos = torch.arange(len(mask), device=mask.device), torch.tensor(settings.eos_ids, device=mask.device)
    new = torch.full((len(mask), settings.max_new_tokens), settings.pad_id, device=mask.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    for number in range(settings.max_new_tokens):
        if number < settings.min_new_tokens:
            logits[:, eos] = -torch.inf
        tokens = settings.choose(logits)
        new[rows[running], number] = tokens[running]
        running = running & ~torch.isin(tokens, eos)
        if not running.any() or number + 1 == settings.max_new_tokens:
            return new[:, : number + 1]
        if running.sum() <= SHRINK_BELOW * len(rows):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, mask, positions, tokens, running = (x[kept] for x in (rows, mask, positions, tokens, running))
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        logits = next_logits(tokens, mask, positions)
        positions = positions + 1
    return new


def read_settings(model: Any, options: dict[str, Any]) -> Decoding | None:
    """The settings of a call of `model.generate` with `options`, None if they need transformers' own loop."""
    config = GenerationConfig.from_dict((options.get("generation_config") or model.generation_config).to_dict())
    unused = config.update(**{name: value for name, value in options.items() if name != "generation_config"})
    return None if any(value is not None for value in unused.values()) else Decoding.from_config(config)
