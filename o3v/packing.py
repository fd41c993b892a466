"""Many questions about the same pictures in one row: the pictures once, and behind them each question by itself.

A film's frames take most of a prompt. Packed, a dozen questions share them: every question with its answer sees
the frames and itself, none sees another, and each stands at the same position, so the numbers are those of a dozen
separate rows at a fraction of the work. Works on token ids and finished picture tokens; knows nothing of what is
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from o3v import prompts
from o3v.geometry import PATCH_FACTOR, Size
from o3v.model import VideoModel

PADDED_TO = 32  # tokens; few different shapes keep the allocator's memory small
UNLABELLED = -100


@dataclass(frozen=True)
class Packed:
    """A batch. input_ids, labels and segment are (rows, length): segment 0 is what all see, -1 padding.

    positions (3, rows, length) for multimodal RoPE. Labels are UNLABELLED but for the answers.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    segment: torch.Tensor
    positions: torch.Tensor

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Which token sees which, as numbers to add to attention scores: (rows, 1, length, length)."""
        length = self.segment.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        same = self.segment[:, :, None] == self.segment[:, None, :]
        sees = earlier & (same | (self.segment[:, None, :] == 0))
        return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min).unsqueeze(1)


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
        shared = [next(ids) for _ in films]
        rows = [(head, [(next(ids), next(ids)) for _ in row]) for head, row in zip(shared, asked, strict=True)]
        length = max(len(head) + sum(len(q) + len(a) for q, a in turns) for head, turns in rows)
        return self._batch(rows, -(-length // PADDED_TO) * PADDED_TO)

    def _batch(self, rows: list[tuple[list[int], list[tuple[list[int], list[int]]]]], length: int) -> Packed:
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels, segment = torch.full_like(ids, UNLABELLED), torch.full_like(ids, -1)
        positions = torch.zeros(3, *ids.shape, dtype=torch.long)
        for row, (head, turns) in enumerate(rows):
            end = len(head)
            ids[row, :end], segment[row, :end] = torch.tensor(head), 0
            positions[:, row, :end] = self._positions(ids[row, :end])
            first = int(positions[:, row, :end].max()) + 1
            for number, (question, answer) in enumerate(turns, 1):
                start, middle, end = end, end + len(question), end + len(question) + len(answer)
                ids[row, start:end] = torch.tensor(question + answer)
                labels[row, middle:end] = torch.tensor(answer)
                segment[row, start:end] = number
                positions[:, row, start:end] = first + torch.arange(end - start)
        return Packed(ids, labels, segment, positions)

    def _positions(self, ids: torch.Tensor) -> torch.Tensor:
        """(3, length): the model's own multimodal positions of one unpadded row."""
        kinds = (ids == self.model.config.image_token_id).long()
        grid = self.grid.expand(int(kinds.sum()) // len(self.picture.split("><")), 3)
        found, _ = self.model.model.get_rope_index(ids[None], kinds[None], image_grid_thw=grid)
        return found[:, 0]


def answer_loss(vlm: VideoModel, batch: Packed, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens, and the share of them that the model puts first.

    seen: (picture tokens of the batch in order, width), from the tower.
    """
    model = vlm.model
    embedded = model.get_input_embeddings()(batch.input_ids)
    pictures = (batch.input_ids == model.config.image_token_id).unsqueeze(-1)
    embedded = embedded.masked_scatter(pictures, seen.to(embedded.dtype))
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else embedded.dtype
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask={"full_attention": batch.mask(dtype)},
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state[:, :-1]
    labels = batch.labels[:, 1:]
    wanted = labels != UNLABELLED
    logits = model.lm_head(hidden[wanted]).float()
    return F.cross_entropy(logits, labels[wanted]), (logits.argmax(-1) == labels[wanted]).float().mean().detach()
