"""The vision stage: targets by hand, and that the head reads what it is taught."""

import numpy as np
import torch

from o3v import toyworld
from o3v.config import FrameConfig
from o3v.tinybase import architecture, detection_head, pretrain
from o3v.tinybase.clips import draw_clips

COLORS, THINGS, PLACES = list(toyworld.COLORS), list(toyworld.KINDS), list(toyworld.PLACES)


def test_targets_by_hand():
    found = detection_head.cells({"red car": (0, 0, 28, 28), "blue cup": (30, 28, 54, 56)}, (56, 56), "beach")
    assert (found[:, 0] != detection_head.EMPTY).tolist() == [
        True,
        False,
        False,
        True,
    ]  # the centres' cells of the 2×2 grid
    assert found[0].tolist() == [COLORS.index("red"), THINGS.index("car"), 0, 0, 28, 28, PLACES.index("beach")]
    assert found[3].tolist() == [COLORS.index("blue"), THINGS.index("cup"), 30, 28, 54, 56, PLACES.index("beach")]


def test_of_two_in_one_cell_the_smaller_moves_to_the_next_free_one():
    found = detection_head.cells({"red car": (2, 2, 24, 24), "blue cup": (12, 6, 28, 22)}, (56, 56))
    # both centres lie in the first cell, the cup's further right
    assert found[0, 0] == COLORS.index("red") and found[1, 0] == COLORS.index("blue")


def test_a_crop_names_its_thing_without_box_and_place():
    frames = FrameConfig(n_frames=2, max_pixels=84 * 84)
    clips = draw_clips(2, frames, seed=0, workers=1, progress=False)
    images, targets = detection_head.detection_set(clips)
    assert len(images) == len(targets) == sum(len(c.images) + len(c.crops) for c in clips)
    first = len(clips[0].images)
    for name, crop in zip(clips[0].crop_names, targets[first:], strict=False):
        named = crop[crop[:, 0] != detection_head.EMPTY]
        said = [f"{COLORS[row[0]]} {THINGS[row[1]]}" for row in named.tolist()]
        assert said == ([name] if name else []) and (named[:, 2:] == detection_head.EMPTY).all()


def test_the_head_learns_what_it_is_shown():
    frames = FrameConfig(n_frames=2, max_pixels=84 * 84)
    clips = draw_clips(3, frames, seed=0, workers=1, progress=False)
    vlm = architecture.build(pretrain.texts(clips, 0), 0)
    head = detection_head.Detector(192, vlm.processor.tokenizer, 84)
    tokens, embeddings = torch.randn(2, 9, 192), torch.nn.Embedding(len(vlm.processor.tokenizer), 192).weight
    targets = torch.stack([detection_head.cells(clips[0].boxes_px[i], (84, 84), clips[0].place) for i in (0, 1)])
    targets[0, 0] = torch.tensor([1, 2, 3, 4, 50, 60, 1])
    optimizer = torch.optim.Adam([*head.parameters(), embeddings], 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(tokens, targets, embeddings).backward()
        optimizer.step()
    there, said = head.read(tokens, embeddings)
    known = targets[..., 0] != detection_head.EMPTY
    assert torch.equal(there, known) and torch.equal(said[known], targets[known])


def test_grain_changes_little():
    images = np.full((1, 84, 84, 3), 128, np.uint8)
    plain, _ = detection_head.patches(images)
    grainy, _ = detection_head.patches(images, torch.Generator().manual_seed(0))
    assert 0 < (plain - grainy).abs().mean() < 0.1
