"""The first stage of pretraining: the vision tower learns to see under a detection head that is thrown away.

Each token says whether a thing has its centre in the token's cell, and names its colour, its kind, the four sides of
its box and the place around it: in words of the language model's own vocabulary, through its embeddings, so that
numbers already lie in order there when the language model begins. Knows nothing of language otherwise. Not part of the
paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from o3v import toyworld
from o3v.geometry import PATCH_FACTOR, Size
from o3v.models.qwen_speedups import FrameImageProcessor
from o3v.tinybase.clips import Boxes, Clip
from o3v.toyworld.narration import cells_of
from o3v.toyworld.sprites import NAMES

EMPTY = -1
SAID = 7  # of a thing: its colour, its kind, the sides of its box, its place
NOISE = 4.0  # standard deviation of the grain added to pixel values of 0–255; films are compressed


def patches(images: np.ndarray, noise: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (n · patches a frame, 1176) and grid (n, 3) of equal frames, as the image processor gives them.

    The same numbers in one go, since pretraining sees many thousands of frames. `noise` adds grain.
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (FrameImageProcessor.image_mean, FrameImageProcessor.image_std))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if noise is not None:
        pixels = (pixels + NOISE * torch.randn(pixels.shape, generator=noise)).clamp(0, 255)
    pixels = (pixels / 255 - mean) / std
    n, _, height, width = pixels.shape
    rows, columns = height // 14, width // 14
    parts = pixels.view(n, 3, rows // 2, 2, 14, columns // 2, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7)
    parts = parts.unsqueeze(6).expand(*parts.shape[:6], 2, 14, 14)
    return parts.reshape(n * rows * columns, -1), torch.tensor([[1, rows, columns]] * n)


class Detector(nn.Module):
    """The head: a linear map for each thing to be said, read through the embeddings of the words there are for it."""

    def __init__(self, width: int, tokenizer: Any, side_px: int) -> None:
        super().__init__()
        numbers = [str(n) for n in range(side_px + 1)]
        choices = [[f" {c}" for c in toyworld.COLORS], [f" {t}" for t in toyworld.KINDS], *[numbers] * 4]
        choices += [[f" {place}" for place in toyworld.PLACES]]
        choices += [NAMES, [f" {name}" for name in NAMES]]  # at the beginning of a text and within it
        self.words = [torch.tensor([_only(tokenizer, word) for word in words]) for words in choices]
        self.there = nn.Linear(width, 1)
        self.maps = nn.Linear(width, len(choices) * width)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """tokens (n, cells, width); targets (n, cells, 7), EMPTY where no centre is; embeddings (vocabulary, width)."""
        there = targets[..., 0] != EMPTY
        loss = F.binary_cross_entropy_with_logits(self.there(tokens).squeeze(-1), there.float())
        found, targets = self.maps(tokens[there]).chunk(len(self.words), dim=-1), targets[there]
        names = targets[:, :1] * len(toyworld.KINDS) + targets[:, 1:2]
        targets = torch.cat([targets, names, names], dim=1)
        for number, (said, words) in enumerate(zip(found, self.words, strict=True)):
            missed = F.cross_entropy(said @ embeddings[words].T, targets[:, number], ignore_index=EMPTY)
            loss = loss + missed / len(self.words)
        return loss

    @torch.no_grad()
    def read(self, tokens: torch.Tensor, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether a thing is in each cell (n, cells), and what is said of it (n, cells, 7)."""
        said = self.maps(tokens).chunk(len(self.words), dim=-1)[:SAID]
        best = [(s @ embeddings[words].T).argmax(-1) for s, words in zip(said, self.words, strict=False)]
        return self.there(tokens).squeeze(-1) > 0, torch.stack(best, dim=-1)


def _only(tokenizer: Any, word: str) -> int:
    ids = tokenizer(word)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens; the tokenizer must know it as one")
    return ids[0]


def cells(boxes_px: Boxes, size_wh: Size, place: str = "") -> torch.Tensor:
    """Targets of one frame, a row for each token: colour, kind, box and place of the thing whose centre lies nearest.

    Each thing has one cell (`geometry.cells_of`).
    """
    columns, rows = (side // PATCH_FACTOR for side in size_wh)
    targets = torch.full((rows * columns, SAID), EMPTY)
    for name, cell in cells_of(boxes_px, size_wh, columns, rows).items():
        color, thing = name.split(" ")
        names = [list(toyworld.COLORS).index(color), list(toyworld.KINDS).index(thing)]
        around = list(toyworld.PLACES).index(place) if place else EMPTY
        targets[cell] = torch.tensor([*names, *boxes_px[name], around])
    return targets


def detection_set(clips: Sequence[Clip]) -> tuple[np.ndarray, torch.Tensor]:
    """All frames and crops of the clips, (n, height, width, 3), and their targets, (n, cells, 7).

    Of a crop the cell in the middle names what is there, without box and place.
    """
    images = np.concatenate([x for clip in clips for x in (clip.images, clip.crops)])
    size_wh = clips[0].size_wh
    targets = []
    for clip in clips:
        targets += [cells(boxes, size_wh, clip.place) for boxes in clip.boxes_px]
        for name in clip.crop_names:
            crop = cells({name: (0, 0, *size_wh)} if name else {}, size_wh)
            crop[:, 2:] = EMPTY
            targets.append(crop)
    return images, torch.stack(targets)
