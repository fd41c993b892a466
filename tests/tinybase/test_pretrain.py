"""How the base model is made: its stages, and that they resume and repeat exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from o3v import models
from o3v.config import FrameConfig, find_base, load_profile
from o3v.evidence import TAGS
from o3v.tinybase import pretrain
from o3v.tinybase.batches import ROWS_AS, draw_batch
from o3v.tinybase.clips import draw_clips

FRAMES = FrameConfig(n_frames=4, max_pixels=84 * 84)
CONFIG = replace(
    load_profile("smoke").pretrain,
    clips=8,
    steps={"vision": 4, "pictures": 2, "shorts": 4, "films": 2},
    vision_batch_size=8,
    batch_size=2,
    save_steps=2,
)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(CONFIG.clips, FRAMES, seed=3, workers=1, progress=False)


@pytest.mark.parametrize("kind", list(ROWS_AS))
def test_a_batch_shows_what_it_asks_about(clips, kind):
    batch = draw_batch(kind, clips, 6, np.random.default_rng(0))
    pictures = sum(max(1, len(times_s)) for times_s, _ in batch.films)
    assert len(batch.films) == len(batch.asked) == 6
    assert batch.images.shape == (pictures, 84, 84, 3)
    assert all(row and all(a.question and a.answer for a in row) for row in batch.asked)
    assert all(list(times_s) == sorted(times_s) for times_s, _ in batch.films)


def test_no_evidence_tag_is_ever_met(clips):
    rng = np.random.default_rng(0)
    batches = [draw_batch(kind, clips, 8, rng) for kind in ROWS_AS]
    said = [text for b in batches for row in b.asked for a in row for text in (a.question, a.answer)]
    assert said and not any(tag in text for text in said for tag in TAGS)


def test_the_rate_rises_holds_and_falls():
    shares = [pretrain.rate_share(step, 100, decay=0.2, warmup=10) for step in range(100)]
    assert shares[0] == 0.1 and shares[9:80] == [1.0] * 71
    assert shares[90] == pytest.approx(0.5) and shares[99] == pytest.approx(0.05)
    assert pretrain.rate_share(99, 100, decay=0.0, warmup=10) == 1.0


def weights(vlm):
    return {name: value.clone() for name, value in vlm.model.state_dict().items()}


def test_an_interrupted_run_ends_the_same(tmp_path, monkeypatch):
    whole, history = pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "whole")
    steps, real = [], pretrain.Optimizer.step

    def step(self, share):
        if len(steps) == 9:  # inside of the third stage, after a checkpoint of it
            raise KeyboardInterrupt
        steps.append(share)
        real(self, share)

    monkeypatch.setattr(pretrain.Optimizer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "cut")
    monkeypatch.setattr(pretrain.Optimizer, "step", real)
    again, resumed = pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path / "cut")
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(again).items())
    assert {stage: len(rows) for stage, rows in resumed.items()} == CONFIG.steps
    for stage, rows in history.items():
        assert [row["loss"] for row in rows] == [row["loss"] for row in resumed[stage]]


def test_the_tower_rests_while_language_is_learned(tmp_path):
    config = replace(CONFIG, steps=dict.fromkeys(pretrain.STAGES, 1))
    vlm, _ = pretrain.pretrain(FRAMES, config, 0, tmp_path)
    saved = torch.load(tmp_path / "vision.pt", weights_only=False)["modules"]["tower"]
    tower = vlm.model.model.visual.state_dict()
    assert all(torch.equal(value, tower[name]) for name, value in saved.items())


def test_what_no_text_held_is_settled():
    vlm = models.load(find_base(load_profile("tiny").base))
    pretrain.settle_tags(vlm)
    embeddings, tokenizer = vlm.model.get_input_embeddings().weight, vlm.processor.tokenizer
    ids = {text: tokenizer(text).input_ids[0] for text in ("[", " [", "<t>", " at 5.4s", "<box>")}
    assert torch.equal(embeddings[ids["["]], 0.7 * embeddings[ids[" ["]])  # a box is read off either
    assert torch.equal(embeddings[ids["<t>"]], 0.7 * embeddings[ids[" at 5.4s"]])  # and a time
    others = set(range(len(embeddings))) - set(tokenizer.convert_tokens_to_ids(list(TAGS)))
    assert torch.equal(embeddings[ids["<box>"]], embeddings[sorted(others)].mean(0))


def test_a_finished_base_goes_on_from_its_weights(tmp_path):
    base = find_base(load_profile("tiny").base)
    config = replace(CONFIG, steps={"further": 2})
    vlm, history = pretrain.pretrain(FRAMES, config, 0, tmp_path / "run", base)
    assert {stage: len(rows) for stage, rows in history.items()} == {"further": 2}
    before, after = weights(models.load(base)), weights(vlm)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and not any("visual" in name for name in changed)
    assert max((after[name] - before[name]).abs().max() for name in changed) < 0.05
    other = tmp_path / "other"
    models.save(vlm, other)
    with pytest.raises(ValueError, match="other settings"):
        pretrain.pretrain(FRAMES, config, 0, tmp_path / "run", other)


def test_a_base_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        pretrain.pretrain(FRAMES, CONFIG, 0, tmp_path, tmp_path / "nowhere")


def test_the_loss_falls(tmp_path):
    config = replace(
        CONFIG,
        clips=4,
        steps={"vision": 25, "pictures": 25, "shorts": 1, "films": 1},
        vision_batch_size=16,
        learning_rate=2e-3,
    )
    _, history = pretrain.pretrain(FRAMES, config, 0, tmp_path)
    for rows in (history["vision"], [row for row in history["pictures"] if "picture" in row]):
        losses = [row["loss"] for row in rows]
        assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
