"""Many questions behind one film: the same numbers as asking each by itself."""

import numpy as np
import pytest
import torch

from o3v import prompts
from o3v.config import FrameConfig
from o3v.tinybase import architecture, pretrain
from o3v.tinybase.batches import draw_batch
from o3v.tinybase.clips import draw_clips
from o3v.tinybase.detection_head import patches
from o3v.tinybase.shared_prefix import UNLABELLED, Packer, answer_loss

FRAMES = FrameConfig(n_frames=3, max_pixels=84 * 84)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(4, FRAMES, seed=1, workers=1, progress=False)


@pytest.fixture(scope="module")
def vlm(clips):
    return architecture.build(pretrain.texts(clips, 0), 0)


def packed(vlm, batch, rows=None):
    asked = [[(a.question, a.answer) for a in row] for row in (rows or batch.asked)]
    return Packer(vlm, (84, 84)).pack(batch.films, asked)


def test_only_answers_are_labelled(vlm, clips):
    batch = draw_batch("film", clips, 2, np.random.default_rng(0))
    together = packed(vlm, batch)
    decode = vlm.processor.tokenizer.decode
    told = [decode(i[k != UNLABELLED]) for t in together.turns for i, k in zip(t.input_ids, t.labels, strict=True)]
    assert sorted(told) == sorted(a.answer + "<|im_end|>" for row in batch.asked for a in row)
    pictures = (together.input_ids == vlm.model.config.image_token_id).sum()
    assert pictures == len(batch.images) * 9


def test_every_question_begins_where_its_film_ends(vlm, clips):
    together = packed(vlm, draw_batch("film", clips, 2, np.random.default_rng(0)))
    ends = together.positions.amax((0, 2)) + 1
    assert [len(t.film) for t in together.turns] and {int(f) for t in together.turns for f in t.film} == {0, 1}
    assert all((t.first == ends[t.film]).all() for t in together.turns)


@pytest.mark.parametrize("kind", ["film", "picture"])
def test_the_loss_is_that_of_separate_prompts(vlm, clips, kind):
    """Against the model's own forward pass over the processor's own inputs, one question at a time."""
    batch = draw_batch(kind, clips, 2, np.random.default_rng(1))
    model, processor = vlm.model.eval(), vlm.processor
    total, count = 0.0, 0
    images = np.split(batch.images, [max(1, len(batch.films[0][0]))])
    with torch.no_grad():
        seen = model.model.visual(*patches(batch.images)).pooler_output
        together, _ = answer_loss(vlm, packed(vlm, batch), seen)
        for film, (times_s, duration_s), asked in zip(images, batch.films, batch.asked, strict=True):
            for one in asked:
                prompt = prompts.plain_prompt(film, times_s, duration_s, one.question)
                text = processor.tokenizer.apply_chat_template(
                    prompt.messages, tokenize=False, add_generation_prompt=True
                )
                inputs = processor(images=[list(film)], text=[text + one.answer + "<|im_end|>"], return_tensors="pt")
                length = len(processor.tokenizer(one.answer + "<|im_end|>")["input_ids"])
                logits = model(**inputs).logits[0, -length - 1 : -1]
                total += torch.nn.functional.cross_entropy(
                    logits, inputs["input_ids"][0, -length:], reduction="sum"
                ).item()
                count += length
    assert together.item() == pytest.approx(total / count, rel=1e-4)
