"""The stand-in base: what it learns from, and that it is the same every time."""

import numpy as np
import pytest
import torch

from o3v import clips as drawn
from o3v import pretrain, tiny
from o3v.config import FrameConfig, PretrainConfig, load_profile

FRAMES = FrameConfig(n_frames=4, max_pixels=56 * 56)
CONFIG = PretrainConfig(
    scenes=6, vision_steps=2, vision_batch=4, picture_steps=2, film_steps=2, batch=2, learning_rate=1e-3
)


@pytest.fixture(scope="module")
def clips():
    return drawn.draw_clips(CONFIG.scenes, FRAMES, seed=3)


def test_a_named_base_is_not_trained(tmp_path):
    profile = load_profile("full")
    assert pretrain.base_model(profile, [], 0, tmp_path) == (profile.base, {})
    assert list(tmp_path.iterdir()) == []


def test_captions_name_every_box_of_every_frame(clips):
    for clip in clips:
        lines = drawn.describe(clip).split("\n")
        assert len(lines) == len(clip.times_s) == 4
        for line, time_s, boxes in zip(lines, clip.times_s, clip.boxes_px, strict=True):
            assert line.startswith(f"{time_s:.1f}s: ")
            assert all(f"{name} [{','.join(map(str, box))}]" in line for name, box in boxes.items())
            assert boxes or line.endswith("nothing")


def test_targets_of_the_detector_by_hand():
    color, thing, box = pretrain._cells({"red car": (0, 0, 28, 28), "blue cup": (30, 28, 54, 56)}, (56, 56))
    assert (color != pretrain.EMPTY).tolist() == [True, False, False, True]  # the centres' cells of the 2×2 grid
    assert list(pretrain.synth.COLORS)[color[3]] == "blue" and list(pretrain.synth.THINGS)[thing[3]] == "cup"
    assert box[0].tolist() == [0, 0, 0.5, 0.5]


def test_no_evidence_tag_is_ever_met(clips):
    rng = np.random.default_rng(0)
    said = drawn.plain_texts(clips, 0) + [t for c in clips for qa in drawn.questions(c, rng) for t in qa]
    assert said and not any(tag in text for text in said for tag in drawn.prompts.evidence.TAGS)


def test_only_answers_are_labelled(clips):
    vlm = tiny.build(drawn.plain_texts(clips, 0), 0)
    turns = [[("Describe every frame.", drawn.describe(clips[0])), ("When is it there?", "From 1.0s to 2.0s")]]
    inputs, labels = pretrain._encode(vlm, clips[:1], turns)
    told = vlm.processor.tokenizer.decode(inputs["input_ids"][0][labels[0] != -100])
    assert told == f"{drawn.describe(clips[0])}<|im_end|>From 1.0s to 2.0s<|im_end|>"
    pictures = (inputs["input_ids"] == vlm.model.config.image_token_id).sum()
    assert pictures == 4 * 4 == inputs["mm_token_type_ids"].sum()


def test_the_same_seed_gives_the_same_base_and_a_finished_one_is_found_again(tmp_path, monkeypatch):
    from dataclasses import replace

    profile = replace(load_profile("smoke"), frames=FRAMES, pretrain=CONFIG)
    bases = [pretrain.base_model(profile, ["a red car"], 0, tmp_path / name) for name in ("a", "b")]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    assert {name: len(rows) for name, rows in bases[0][1].items()} == {"vision": 2, "language": 4}
    monkeypatch.setattr(pretrain, "pretrain", None)  # would fail if it were trained again
    assert pretrain.base_model(profile, ["a red car"], 0, tmp_path / "a") == bases[0]


def test_the_loss_falls(clips):
    vlm = tiny.build(drawn.plain_texts(clips, 0), 0)
    config = PretrainConfig(
        scenes=6, vision_steps=30, vision_batch=16, picture_steps=30, film_steps=0, batch=2, learning_rate=2e-3
    )
    for stage in (pretrain.train_vision, pretrain.train_language):
        losses = torch.tensor([row["loss"] for row in stage(vlm, clips, config, 0)])
        assert losses[-5:].mean() < 0.8 * losses[:5].mean()
