"""Many questions about the same pictures: the pictures once, and behind them each question by itself.

A film's frames take most of a prompt. The language model reads them once; every question with its answer is then a
row of its own that sees the film through its keys and values, so the numbers are those of separate prompts at a
fraction of the work. Rows of like length go together. Works on token ids and finished picture tokens; knows nothing
of what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from o3v import prompts
from o3v.geometry import PATCH_FACTOR, Size
from o3v.models.vlm import VideoModel

PLAIN = "plain"  # the name of `plain_attention` among a model's implementations
PADDED_TO = 16  # tokens; few different shapes keep the allocator's memory small
UNLABELLED = -100
GROUPS = 6  # of questions, by length: one long answer does not pad all others


@dataclass(frozen=True)
class Turns:
    """Questions with their answers. input_ids and labels are (questions, length), padded on the right.

    Labels are UNLABELLED but for the answers. film and first (questions,): the row of each question's film, and the
    position of its first token.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    film: torch.Tensor
    first: torch.Tensor


@dataclass(frozen=True)
class Packed:
    """A batch. input_ids and seen (films, length), padded on the right, `seen` where a token stands.

    positions (3, films, length) for multimodal RoPE; turns are the questions in groups of like length.
    """

    input_ids: torch.Tensor
    seen: torch.Tensor
    positions: torch.Tensor
    turns: list[Turns]


class Packer:
    """Packs conversations for one model and one size of pictures. Tokens of repeated text are looked up."""

    def __init__(self, vlm: VideoModel, size_wh: Size) -> None:
        self.tokenizer, self.model = vlm.processor.tokenizer, vlm.model
        self.grid = torch.tensor([[1, size_wh[1] // 14, size_wh[0] // 14]])
        self.picture = "<|image_pad|>" * (size_wh[0] // PATCH_FACTOR * (size_wh[1] // PATCH_FACTOR))
        mark = "\N{OBJECT REPLACEMENT CHARACTER}"
        parts = [{"type": "image"}, {"type": "text", "text": mark}]
        whole = self._conversation(parts)
        self.frame = whole[whole.index("<|vision_start|>") : whole.index(mark)]
        self.before, self.after = whole[: whole.index("<|vision_start|>")], whole[whole.index(mark) + 1 :]

    def _conversation(self, parts: list[dict[str, Any]]) -> str:
        messages = [{"role": "user", "content": parts}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _shared(self, times_s: Sequence[float], duration_s: float) -> str:
        """What all questions of a row share: a film's frames, or one picture when there are no times."""
        if not times_s:
            return self.before + self.frame.replace("<|image_pad|>", self.picture)
        parts = prompts.frame_parts(times_s, duration_s)
        said = "".join(self.frame if part["type"] == "image" else part["text"] for part in parts)
        return self.before + said.replace("<|image_pad|>", self.picture)

    def pack(
        self, films: Sequence[tuple[Sequence[float], float]], asked: Sequence[Sequence[tuple[str, str]]]
    ) -> Packed:
        """Rows of `films` (times_s, duration_s) with their questions and answers."""
        texts = [self._shared(*film) for film in films]
        for row in asked:
            for question, answer in row:
                texts += [question + self.after, answer + "<|im_end|>"]
        ids = iter(self.tokenizer(texts)["input_ids"])
        heads = [next(ids) for _ in films]
        pairs = [(film, next(ids), next(ids)) for film, row in enumerate(asked) for _ in row]
        input_ids = self._padded(heads)
        seen = torch.arange(input_ids.shape[1]) < torch.tensor([[len(head)] for head in heads])
        positions = torch.zeros(3, *input_ids.shape, dtype=torch.long)
        for row, head in enumerate(heads):
            positions[:, row, : len(head)] = self._positions(input_ids[row, : len(head)])
        first = positions.amax((0, 2)) + 1
        pairs.sort(key=lambda pair: len(pair[1]) + len(pair[2]))
        size = -(-len(pairs) // GROUPS)
        groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        return Packed(input_ids, seen, positions, [self._turns(group, first) for group in groups])

    def _padded(self, rows: Sequence[list[int]]) -> torch.Tensor:
        length = -(-max(map(len, rows)) // PADDED_TO) * PADDED_TO
        return torch.tensor([row + [self.tokenizer.pad_token_id] * (length - len(row)) for row in rows])

    def _turns(self, group: list[tuple[int, list[int], list[int]]], first: torch.Tensor) -> Turns:
        ids = self._padded([question + answer for _, question, answer in group])
        labels = torch.full_like(ids, UNLABELLED)
        for row, (_, question, answer) in enumerate(group):
            labels[row, len(question) : len(question) + len(answer)] = torch.tensor(answer)
        film = torch.tensor([film for film, _, _ in group])
        return Turns(ids, labels, film, first[film])

    def _positions(self, ids: torch.Tensor) -> torch.Tensor:
        """(3, length): the model's own multimodal positions of one unpadded row."""
        kinds = (ids == self.model.config.image_token_id).long()
        grid = self.grid.expand(int(kinds.sum()) // len(self.picture.split("><")), 3)
        found, _ = self.model.model.get_rope_index(ids[None], kinds[None], image_grid_thw=grid)
        return found[:, 0]


def plain_attention(
    module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scaling: float, **_: Any
) -> tuple[torch.Tensor, None]:
    """Attention as two products and a softmax: for short rows on a CPU quicker than the fused kernel.

    q (rows, heads, length, width), k and v with as many or fewer heads; mask is added to the scores.
    """
    rows, heads, length, width = q.shape
    q = (q * scaling).reshape(rows, k.shape[1], -1, width)
    scores = (q @ k.transpose(-1, -2)).view(rows, k.shape[1], -1, length, k.shape[2]) + mask[:, :, None]
    mixed = scores.softmax(-1).view(rows, k.shape[1], -1, k.shape[2]).to(v.dtype) @ v
    return mixed.view(rows, heads, length, width).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(PLAIN, plain_attention)


def answer_loss(vlm: VideoModel, batch: Packed, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens, and the share of them that the model puts first.

    seen: (picture tokens of the batch in order, width), from the tower.
    """
    model, embed = vlm.model, vlm.model.get_input_embeddings()
    embedded = embed(batch.input_ids)
    pictures = (batch.input_ids == model.config.image_token_id).unsqueeze(-1)
    embedded = embedded.masked_scatter(pictures, seen.to(embedded.dtype))
    film = DynamicCache()
    _read(model, embedded, _earlier(batch.seen), batch.positions, film)
    logits, labels = [], []
    for turns in batch.turns:
        length = turns.input_ids.shape[1]
        sees = torch.cat(
            [
                batch.seen[turns.film, None, :].expand(-1, length, -1),
                _earlier(torch.ones_like(turns.input_ids, dtype=torch.bool)),
            ],
            dim=-1,
        )
        positions = (turns.first[:, None] + torch.arange(length)).expand(3, -1, -1)
        shared = DynamicCache([(layer.keys[turns.film], layer.values[turns.film]) for layer in film.layers])
        hidden = _read(model, embed(turns.input_ids), sees, positions, shared)[:, :-1]
        wanted = turns.labels[:, 1:] != UNLABELLED
        logits.append(model.lm_head(hidden[wanted]).float())
        labels.append(turns.labels[:, 1:][wanted])
    said, right = torch.cat(logits), torch.cat(labels)
    return F.cross_entropy(said, right), (said.argmax(-1) == right).float().mean().detach()


def _earlier(there: torch.Tensor) -> torch.Tensor:
    """Which token sees which: those before it that are there. (rows, length) to (rows, length, length)."""
    length = there.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril() & there[:, None, :]


def _read(
    model: Any, embedded: torch.Tensor, sees: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Hidden states of rows that see `sees` (rows, length, cached + length); what was read is added to the cache."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else embedded.dtype
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min).unsqueeze(1)
    return model.model.language_model(
        inputs_embeds=embedded,
        attention_mask={"full_attention": mask},
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
