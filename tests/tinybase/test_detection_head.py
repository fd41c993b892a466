"""The detection head: targets by hand, and that it learns them."""

import numpy as np
import pytest
import torch

from o3v import toyworld
from o3v.tinybase import architecture, detection_head
from o3v.tinybase.batches import tokenizer_texts
from o3v.tinybase.detection_head import EMPTY

COLORS, KINDS, PLACES = list(toyworld.COLORS), list(toyworld.KINDS), list(toyworld.PLACES)


def test_a_word_of_several_tokens_is_an_error():
    tokenizer = architecture.train_tokenizer([])  # knows no word
    with pytest.raises(ValueError, match=r"tokens; the tokenizer"):
        detection_head.Detector(192, tokenizer, 84)


def test_targets_by_hand():
    targets = detection_head.cell_targets({"red car": (0, 0, 28, 28), "blue cup": (30, 28, 54, 56)}, (56, 56), "beach")
    assert (targets[:, 0] != EMPTY).tolist() == [True, False, False, True]  # cells of the centres in the 2×2 grid
    assert targets[0].tolist() == [COLORS.index("red"), KINDS.index("car"), 0, 0, 28, 28, PLACES.index("beach")]
    assert targets[3].tolist() == [COLORS.index("blue"), KINDS.index("cup"), 30, 28, 54, 56, PLACES.index("beach")]


def test_the_smaller_of_two_objects_in_one_cell_moves_to_the_nearest_free_cell():
    targets = detection_head.cell_targets({"red car": (2, 2, 24, 24), "blue cup": (12, 6, 28, 22)}, (56, 56))
    # both centres are in the first cell; that of the cup is further right
    assert targets[0, 0] == COLORS.index("red") and targets[1, 0] == COLORS.index("blue")


def test_a_crop_has_a_name_but_no_box_and_no_background(clips):
    images, targets = detection_head.detection_set(clips)
    assert len(images) == len(targets) == sum(len(c.images) + len(c.crops) for c in clips)
    for name, crop in zip(clips[0].crop_names, targets[len(clips[0].images) :], strict=False):
        labelled = crop[crop[:, 0] != EMPTY]
        names = [f"{COLORS[row[0]]} {KINDS[row[1]]}" for row in labelled.tolist()]
        assert names == ([name] if name else []) and (labelled[:, 2:] == EMPTY).all()


def test_the_head_learns_its_targets(clips):
    vlm = architecture.build(tokenizer_texts(clips, 0), 0)
    head = detection_head.Detector(192, vlm.processor.tokenizer, 84)
    tokens, embeddings = torch.randn(2, 9, 192), torch.nn.Embedding(len(vlm.processor.tokenizer), 192).weight
    targets = torch.stack([detection_head.cell_targets(clips[0].boxes_px[i], (84, 84), clips[0].place) for i in (0, 1)])
    targets[0, 0] = torch.tensor([1, 2, 3, 4, 50, 60, 1])
    optimizer = torch.optim.Adam([*head.parameters(), embeddings], 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(tokens, targets, embeddings).backward()
        optimizer.step()
    is_object, attributes = head.predict(tokens, embeddings)
    expected = targets[..., 0] != EMPTY
    assert torch.equal(is_object, expected) and torch.equal(attributes[expected], targets[expected])


def test_noise_changes_patches_slightly():
    images = np.full((1, 84, 84, 3), 128, np.uint8)
    plain, _ = detection_head.patches(images)
    noisy, _ = detection_head.patches(images, torch.Generator().manual_seed(0))
    assert 0 < (plain - noisy).abs().mean() < 0.1
