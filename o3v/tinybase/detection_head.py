"""The first stage of pretraining: the vision tower learns object detection with a head that is discarded afterwards.

For each image token the head predicts whether the centre of an object lies in the token's cell, and the colour, kind,
box sides and background. It scores words through the embeddings of the language model, so that the embeddings of
numbers are already ordered when the language model starts to learn. Not part of the paper.
"""

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

EMPTY = -1  # target without a label
ATTRIBUTES = 7  # of an object: colour, kind, the four sides of its box, background
NOISE = 4.0  # standard deviation of noise on pixel values of 0–255, for robustness to video compression


def patches(images: np.ndarray, noise: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (n · patches per image, 1176) and grid (n, 3) of n images (n, height, width, 3) uint8 of equal size.

    The values are those of the image processor, computed for all images at once. With a generator `noise`, Gaussian
    noise is added to the pixels.
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
    """The detection head: a linear map per attribute, whose output is compared with the embeddings of its words.

    `width` is the size of image tokens and embeddings, `side_px` the longest side of an image. Raises ValueError when
    the tokenizer does not encode each word as one token.
    """

    def __init__(self, width: int, tokenizer: Any, side_px: int) -> None:
        super().__init__()
        numbers = [str(n) for n in range(side_px + 1)]
        words = [[f" {c}" for c in toyworld.COLORS], [f" {k}" for k in toyworld.KINDS], *[numbers] * 4]
        words += [[f" {place}" for place in toyworld.PLACES]]
        words += [NAMES, [f" {name}" for name in NAMES]]  # the whole name, at the start of a text and within it
        self.words = [torch.tensor([_token_id(tokenizer, word) for word in choices]) for choices in words]
        self.there = nn.Linear(width, 1)  # is an object there
        self.maps = nn.Linear(width, len(words) * width)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """tokens (n, cells, width); targets (n, cells, 7) of `cell_targets`; embeddings (vocabulary, width)."""
        is_object = targets[..., 0] != EMPTY
        loss = F.binary_cross_entropy_with_logits(self.there(tokens).squeeze(-1), is_object.float())
        mapped, targets = self.maps(tokens[is_object]).chunk(len(self.words), dim=-1), targets[is_object]
        names = targets[:, :1] * len(toyworld.KINDS) + targets[:, 1:2]
        targets = torch.cat([targets, names, names], dim=1)
        for number, (output, words) in enumerate(zip(mapped, self.words, strict=True)):
            part = F.cross_entropy(output @ embeddings[words].T, targets[:, number], ignore_index=EMPTY)
            loss = loss + part / len(self.words)
        return loss

    @torch.no_grad()
    def predict(self, tokens: torch.Tensor, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether an object is in each cell, (n, cells), and its attributes as in the targets, (n, cells, 7)."""
        mapped = self.maps(tokens).chunk(len(self.words), dim=-1)[:ATTRIBUTES]
        best = [(output @ embeddings[words].T).argmax(-1) for output, words in zip(mapped, self.words, strict=False)]
        return self.there(tokens).squeeze(-1) > 0, torch.stack(best, dim=-1)


def _token_id(tokenizer: Any, word: str) -> int:
    ids = tokenizer(word)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens; the tokenizer must encode it as one")
    return ids[0]


def cell_targets(boxes_px: Boxes, size_wh: Size, place: str | None = None) -> torch.Tensor:
    """Targets of one frame, (cells, 7): colour, kind, box and background of the object of each cell.

    Each object has its own cell (`narration.cells_of`). Cells without an object, and the background when `place` is
    None, are EMPTY.
    """
    columns, rows = (side // PATCH_FACTOR for side in size_wh)
    targets = torch.full((rows * columns, ATTRIBUTES), EMPTY)
    background = list(toyworld.PLACES).index(place) if place else EMPTY
    for name, cell in cells_of(boxes_px, size_wh, columns, rows).items():
        color, kind = name.split(" ")
        color_and_kind = list(toyworld.COLORS).index(color), list(toyworld.KINDS).index(kind)
        targets[cell] = torch.tensor([*color_and_kind, *boxes_px[name], background])
    return targets


def detection_set(clips: Sequence[Clip]) -> tuple[np.ndarray, torch.Tensor]:
    """All frames and crops of the clips, (n, height, width, 3) uint8, with their targets, (n, cells, 7).

    The target of a crop is in the middle cell and has no box and no background.
    """
    images = np.concatenate([x for clip in clips for x in (clip.images, clip.crops)])
    size_wh = clips[0].size_wh
    targets = []
    for clip in clips:
        targets += [cell_targets(boxes, size_wh, clip.place) for boxes in clip.boxes_px]
        for name in clip.crop_names:
            crop = cell_targets({name: (0, 0, *size_wh)} if name else {}, size_wh)
            crop[:, 2:] = EMPTY
            targets.append(crop)
    return images, torch.stack(targets)
