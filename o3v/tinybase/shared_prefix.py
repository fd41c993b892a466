"""Many questions about the same frames, where the language model reads the frames only once.

The frames fill most of a prompt. The model prefills each video once; each question with its answer is then a row that
attends to the keys and values of its video. The loss equals that of separate prompts, at a fraction of the cost.
Questions of similar length share a batch. This module works on token ids and image tokens and does not know what the
questions are about. Not part of the paper.
"""

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
from o3v.tinybase.plain_answers import QuestionAnswer

PLAIN = "plain"  # name under which `_plain_attention` is registered in transformers
PADDED_TO = 16  # tokens; few different lengths keep the memory of the allocator small
UNLABELLED = -100
GROUPS = 6  # of questions by length, so that one long answer does not pad all others


@dataclass(frozen=True)
class Turns:
    """n questions with their answers."""

    input_ids: torch.Tensor  # (n, length), padded on the right
    labels: torch.Tensor  # (n, length), UNLABELLED except in the answers
    video: torch.Tensor  # (n,), the row of each question's video
    first: torch.Tensor  # (n,), the position of each question's first token


@dataclass(frozen=True)
class Packed:
    """A batch of v videos with their questions."""

    input_ids: torch.Tensor  # (v, length), padded on the right
    is_token: torch.Tensor  # (v, length), False for padding
    positions: torch.Tensor  # (3, v, length), the positions of multimodal RoPE
    turns: list[Turns]  # the questions in groups of similar length


class Packer:
    """Packs conversations for one model and one frame size. Repeated text is rendered and tokenized once."""

    def __init__(self, vlm: VideoModel, size_wh: Size) -> None:
        self.tokenizer, self.model = vlm.processor.tokenizer, vlm.model
        self.grid = torch.tensor([[1, size_wh[1] // 14, size_wh[0] // 14]])
        self.tokens_per_image = size_wh[0] // PATCH_FACTOR * (size_wh[1] // PATCH_FACTOR)
        mark = "\N{OBJECT REPLACEMENT CHARACTER}"
        parts = [{"type": "image"}, {"type": "text", "text": mark}]
        template = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        start = template.index("<|vision_start|>")
        self.before, (image, self.after) = template[:start], template[start:].split(mark)
        self.image = image.replace("<|image_pad|>", "<|image_pad|>" * self.tokens_per_image)

    def _prefix(self, times_s: Sequence[float], duration_s: float) -> str:
        """The text that all questions of a row share: the frames of a video, or one image when there are no times."""
        parts = prompts.frame_parts(times_s, duration_s) if times_s else [{"type": "image"}]
        return self.before + "".join(self.image if part["type"] == "image" else part["text"] for part in parts)

    def pack(
        self, videos: Sequence[tuple[Sequence[float], float]], qa_pairs: Sequence[Sequence[QuestionAnswer]]
    ) -> Packed:
        """Packs videos, given by the times of their frames and their duration in seconds, with their questions."""
        texts = [self._prefix(*video) for video in videos]
        for qa in (qa for row in qa_pairs for qa in row):
            texts += [qa.question + self.after, qa.answer + "<|im_end|>"]
        ids = iter(self.tokenizer(texts)["input_ids"])
        prefixes = [next(ids) for _ in videos]
        turns = [(video, next(ids), next(ids)) for video, row in enumerate(qa_pairs) for _ in row]
        input_ids = self._padded(prefixes)
        is_token = torch.arange(input_ids.shape[1]) < torch.tensor([[len(prefix)] for prefix in prefixes])
        positions = torch.zeros(3, *input_ids.shape, dtype=torch.long)
        for row, prefix in enumerate(prefixes):
            positions[:, row, : len(prefix)] = self._positions(input_ids[row, : len(prefix)])
        first = positions.amax((0, 2)) + 1
        turns.sort(key=lambda turn: len(turn[1]) + len(turn[2]))
        size = -(-len(turns) // GROUPS)
        groups = [turns[start : start + size] for start in range(0, len(turns), size)]
        return Packed(input_ids, is_token, positions, [self._turns(group, first) for group in groups])

    def _padded(self, rows: Sequence[list[int]]) -> torch.Tensor:
        length = -(-max(map(len, rows)) // PADDED_TO) * PADDED_TO
        return torch.tensor([row + [self.tokenizer.pad_token_id] * (length - len(row)) for row in rows])

    def _turns(self, group: list[tuple[int, list[int], list[int]]], first: torch.Tensor) -> Turns:
        input_ids = self._padded([question + answer for _, question, answer in group])
        labels = torch.full_like(input_ids, UNLABELLED)
        for row, (_, question, answer) in enumerate(group):
            labels[row, len(question) : len(question) + len(answer)] = torch.tensor(answer)
        video = torch.tensor([video for video, _, _ in group])
        return Turns(input_ids, labels, video, first[video])

    def _positions(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The model's own multimodal positions, (3, length), of one row (length,) without padding."""
        is_image = (input_ids == self.model.config.image_token_id).long()
        grid = self.grid.expand(int(is_image.sum()) // self.tokens_per_image, 3)
        positions, _ = self.model.model.get_rope_index(input_ids[None], is_image[None], image_grid_thw=grid)
        return positions[:, 0]


def _plain_attention(
    module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scaling: float, **_: Any
) -> tuple[torch.Tensor, None]:
    """Attention as two matrix products and a softmax. For short rows on a CPU it is faster than the fused kernel.

    q is (rows, heads, length, width); k and v have as many heads or a divisor. `mask` is added to the scores.
    """
    rows, heads, length, width = q.shape
    q = (q * scaling).reshape(rows, k.shape[1], -1, width)
    scores = (q @ k.transpose(-1, -2)).view(rows, k.shape[1], -1, length, k.shape[2]) + mask[:, :, None]
    mixed = scores.softmax(-1).view(rows, k.shape[1], -1, k.shape[2]).to(v.dtype) @ v
    return mixed.view(rows, heads, length, width).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(PLAIN, _plain_attention)


def answer_loss(vlm: VideoModel, batch: Packed, image_tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answer tokens, and the share of them that the model ranks first.

    `image_tokens` are the outputs of the vision tower for all images of the batch in order, (tokens, width).
    """
    model, embed = vlm.model, vlm.model.get_input_embeddings()
    embedded = embed(batch.input_ids)
    is_image = (batch.input_ids == model.config.image_token_id).unsqueeze(-1)
    embedded = embedded.masked_scatter(is_image, image_tokens.to(embedded.dtype))
    prefix_cache = DynamicCache()
    _read(model, embedded, _causal(batch.is_token), batch.positions, prefix_cache)
    logits, labels = [], []
    for turns in batch.turns:
        length = turns.input_ids.shape[1]
        to_prefix = batch.is_token[turns.video, None, :].expand(-1, length, -1)
        attends = torch.cat([to_prefix, _causal(torch.ones_like(turns.input_ids, dtype=torch.bool))], dim=-1)
        positions = (turns.first[:, None] + torch.arange(length)).expand(3, -1, -1)
        cache = DynamicCache([(layer.keys[turns.video], layer.values[turns.video]) for layer in prefix_cache.layers])
        hidden = _read(model, embed(turns.input_ids), attends, positions, cache)[:, :-1]
        is_answer = turns.labels[:, 1:] != UNLABELLED
        logits.append(model.lm_head(hidden[is_answer]).float())
        labels.append(turns.labels[:, 1:][is_answer])
    predicted, target = torch.cat(logits), torch.cat(labels)
    return F.cross_entropy(predicted, target), (predicted.argmax(-1) == target).float().mean().detach()


def _causal(is_token: torch.Tensor) -> torch.Tensor:
    """Which token attends to which, (rows, length, length): to itself and to earlier tokens, not to padding."""
    length = is_token.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril() & is_token[:, None, :]


def _read(
    model: Any, embedded: torch.Tensor, attends: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Runs the language model over embeddings (rows, length, width) and extends the cache. Returns hidden states.

    `attends` (rows, length, cached + length) says which token attends to which.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else embedded.dtype
    mask = torch.zeros(attends.shape, dtype=dtype).masked_fill_(~attends, torch.finfo(dtype).min).unsqueeze(1)
    return model.model.language_model(
        inputs_embeds=embedded,
        attention_mask={"full_attention": mask},
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
