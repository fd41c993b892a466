"""Pretraining: its stages, and that runs repeat and resume exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from o3v import models
from o3v.config import FrameConfig, find_base, load_profile
from o3v.evidence import TAGS
from o3v.tinybase import pretrain
from o3v.tinybase.optimization import Optimizer

FRAMES = FrameConfig(n_frames=4, max_pixels=84 * 84)
CONFIG = replace(
    load_profile("smoke").pretrain,
    clips=8,
    steps={"vision": 4, "pictures": 2, "shorts": 4, "films": 2},
    vision_batch_size=8,
    batch_size=2,
    save_steps=2,
)
BASE = find_base(load_profile("tiny").base)


def weights(vlm):
    return {name: value.clone() for name, value in vlm.model.state_dict().items()}


def test_a_missing_base_is_named(tmp_path):
    with pytest.raises(OSError, match="no-such-folder"):
        pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path, tmp_path / "no-such-folder")


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    whole, history = pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "whole")
    factors, original = [], Optimizer.step

    def step(self, factor):
        if len(factors) == 9:  # in the third stage, after its first checkpoint
            raise KeyboardInterrupt
        factors.append(factor)
        original(self, factor)

    monkeypatch.setattr(Optimizer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "interrupted")
    monkeypatch.setattr(Optimizer, "step", original)
    resumed, resumed_history = pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "interrupted")
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert {stage: len(rows) for stage, rows in resumed_history.items()} == CONFIG.steps
    for stage, rows in history.items():
        assert [row["loss"] for row in rows] == [row["loss"] for row in resumed_history[stage]]


def test_the_language_stages_do_not_change_the_vision_tower(tmp_path):
    config = replace(CONFIG, steps=dict.fromkeys(pretrain.STAGES, 1))
    vlm, _ = pretrain.pretrain(FRAMES, config, 0, tmp_path)
    saved = torch.load(tmp_path / "vision.pt", weights_only=True)["modules"]["tower"]
    tower = vlm.model.model.visual.state_dict()
    assert all(torch.equal(value, tower[name]) for name, value in saved.items())


def test_tokens_without_training_get_useful_embeddings():
    vlm = models.load(BASE)
    pretrain.settle_tags(vlm)
    embeddings, tokenizer = vlm.model.get_input_embeddings().weight, vlm.processor.tokenizer
    ids = {text: tokenizer(text).input_ids[0] for text in ("[", " [", "<t>", " at 5.4s", "<box>")}
    assert torch.equal(embeddings[ids["["]], 0.7 * embeddings[ids[" ["]])
    assert torch.equal(embeddings[ids["<t>"]], 0.7 * embeddings[ids[" at 5.4s"]])
    others = set(range(len(embeddings))) - set(tokenizer.convert_tokens_to_ids(list(TAGS)))
    assert torch.equal(embeddings[ids["<box>"]], embeddings[sorted(others)].mean(0))


def test_a_finished_base_continues_from_its_weights(tmp_path):
    config = replace(CONFIG, steps={"further": 2})
    vlm, history = pretrain.pretrain(FRAMES, config, 0, tmp_path / "run", BASE)
    assert {stage: len(rows) for stage, rows in history.items()} == {"further": 2}
    before, after = weights(models.load(BASE)), weights(vlm)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and not any("visual" in name for name in changed)
    assert max((after[name] - before[name]).abs().max() for name in changed) < 0.05
    models.save(vlm, tmp_path / "other")
    with pytest.raises(ValueError, match="other settings"):
        pretrain.pretrain(FRAMES, config, 0, tmp_path / "run", tmp_path / "other")


def test_the_loss_falls(tmp_path):
    steps = {"vision": 25, "pictures": 25, "shorts": 1, "films": 1}
    config = replace(CONFIG, clips=4, steps=steps, vision_batch_size=16, learning_rate=2e-3)
    _, history = pretrain.pretrain(FRAMES, config, 0, tmp_path)
    for rows in (history["vision"], [row for row in history["pictures"] if "picture" in row]):
        losses = [row["loss"] for row in rows]
        assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
