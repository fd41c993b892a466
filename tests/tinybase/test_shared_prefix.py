"""Many questions that share the frames of one video give the same numbers as separate prompts."""

import numpy as np
import pytest
import torch

from o3v import prompts
from o3v.tinybase import architecture
from o3v.tinybase.batches import draw_batch, tokenizer_texts
from o3v.tinybase.detection_head import patches
from o3v.tinybase.shared_prefix import UNLABELLED, Packer, answer_loss

END = "<|im_end|>"


@pytest.fixture(scope="module")
def vlm(clips):
    return architecture.build(tokenizer_texts(clips, 0), 0)


def test_only_answers_are_labelled(vlm, clips):
    batch = draw_batch("film", clips, 2, np.random.default_rng(0))
    packed = Packer(vlm, (84, 84)).pack(batch.videos, batch.qa_pairs)
    rows = [row for turns in packed.turns for row in zip(turns.input_ids, turns.labels, strict=True)]
    labelled = [vlm.processor.tokenizer.decode(ids[labels != UNLABELLED]) for ids, labels in rows]
    assert sorted(labelled) == sorted(qa.answer + END for row in batch.qa_pairs for qa in row)
    assert (packed.input_ids == vlm.model.config.image_token_id).sum() == len(batch.images) * 9


def test_every_question_starts_at_the_end_of_its_video(vlm, clips):
    batch = draw_batch("film", clips, 2, np.random.default_rng(0))
    packed = Packer(vlm, (84, 84)).pack(batch.videos, batch.qa_pairs)
    ends = packed.positions.amax((0, 2)) + 1
    assert {int(video) for turns in packed.turns for video in turns.video} == {0, 1}
    assert all((turns.first == ends[turns.video]).all() for turns in packed.turns)


@pytest.mark.parametrize("kind", ["film", "picture"])
def test_the_loss_is_that_of_separate_prompts(vlm, clips, kind):
    """Compared with the model's own forward pass on the inputs of its processor, one question at a time."""
    batch = draw_batch(kind, clips, 2, np.random.default_rng(1))
    model, processor = vlm.model.eval(), vlm.processor
    total, count = 0.0, 0
    images_by_video = np.split(batch.images, [max(1, len(batch.videos[0][0]))])
    with torch.no_grad():
        image_tokens = model.model.visual(*patches(batch.images)).pooler_output
        loss, _ = answer_loss(vlm, Packer(vlm, (84, 84)).pack(batch.videos, batch.qa_pairs), image_tokens)
        for images, video, row in zip(images_by_video, batch.videos, batch.qa_pairs, strict=True):
            for qa in row:
                messages = prompts.plain_prompt(images, *video, qa.question).messages
                text = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                inputs = processor(images=[list(images)], text=[text + qa.answer + END], return_tensors="pt")
                length = len(processor.tokenizer(qa.answer + END)["input_ids"])
                logits, target = model(**inputs).logits[0, -length - 1 : -1], inputs["input_ids"][0, -length:]
                total += torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
                count += length
    assert loss.item() == pytest.approx(total / count, rel=1e-4)
