"""Samples a second of our pretraining loop and of the plain Hugging Face Trainer, on the same questions in one run.

A sample is one question about one film with its answer. The Trainer gets one row a sample: its frames, the question,
the answer, through the processor, a batch at a time, in bf16 as ours. Both train the language model over a frozen
tower. Turns alternate, so that a busy machine slows both.

    python benchmarks/pretrain_speed.py
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Trainer, TrainingArguments
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from o3v import prompts
from o3v.config import find_base, load_profile
from o3v.models.vlm import FrameProcessor, load
from o3v.tinybase import pretrain
from o3v.tinybase.batches import Batch, draw_batch
from o3v.tinybase.clips import draw_clips
from o3v.tinybase.detection_head import patches
from o3v.tinybase.shared_prefix import PLAIN, Packer, answer_loss

FILMS = 8
DEVICE_BATCH = 16  # rows of the Trainer in one forward pass


def samples(batches: list[Batch], size_wh: tuple[int, int]) -> list[dict]:
    """The batches' questions one by one, as conversations with their pictures."""
    rows = []
    for batch in batches:
        ends = np.cumsum([len(times_s) for times_s, _ in batch.films])
        images = np.split(batch.images, ends[:-1])
        for film, (times_s, duration_s), asked in zip(images, batch.films, batch.asked, strict=True):
            for question in asked:
                prompt = prompts.plain_prompt(film, times_s, duration_s, question.question)
                pictures = [Image.fromarray(image) for image in prompt.images]
                rows.append({"messages": prompt.messages, "images": pictures, "answer": question.answer})
    return rows


def collator(processor: FrameProcessor):
    """Rows as the model takes them, only the answers labelled."""
    tokenizer = processor.tokenizer

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        prompts = [
            tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True) for row in rows
        ]
        texts = [prompt + row["answer"] + "<|im_end|>" for prompt, row in zip(prompts, rows, strict=True)]
        images = [row["images"] for row in rows]
        inputs = dict(processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt"))
        answers = [len(tokenizer(row["answer"] + "<|im_end|>")["input_ids"]) for row in rows]
        labels = inputs["input_ids"].clone()
        for row, length in enumerate(answers):
            labels[row, :-length] = -100
        return inputs | {"labels": labels}

    return collate


def by_trainer(model, processor: FrameProcessor, rows: list[dict]) -> float:
    """Seconds of training on all rows, one update for each film's worth as ours."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=DEVICE_BATCH,
            gradient_accumulation_steps=max(1, len(rows) // DEVICE_BATCH // 3),
            num_train_epochs=1,
            learning_rate=1e-5,
            bf16=True,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator(processor))
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def by_us(vlm, batches: list[Batch], size_wh: tuple[int, int]) -> float:
    """Seconds of training on the same questions, packed."""
    tower, packer = vlm.model.model.visual, Packer(vlm, size_wh)
    vlm.model.model.language_model.set_attn_implementation(PLAIN)
    trained = {n: p for n, p in vlm.model.named_parameters() if p.requires_grad}
    optimizer = pretrain.Optimizer(trained, 1e-5, pretrain.MUON["films"])

    def gradients(batch: Batch):
        def loss(step: int, rng: np.random.Generator):
            packed = packer.pack(batch.films, [[(a.question, a.answer) for a in row] for row in batch.asked])
            with torch.no_grad():
                seen = tower(*patches(batch.images)).pooler_output
            return answer_loss(vlm, packed, seen)[0], {}

        return pretrain.gradients(loss, optimizer.parameters, 0, (0,), 0)

    started = time.perf_counter()
    with pretrain.shared_cores() as pool:
        for batch in batches:
            pretrain.average(optimizer.parameters, list(pool.map(gradients, parts(batch))))
            optimizer.step(1.0)
    return time.perf_counter() - started


def parts(batch: Batch) -> list[Batch]:
    """The batch by films in as many parts as pretraining computes at a time."""
    ends = np.cumsum([len(times_s) for times_s, _ in batch.films])
    images = np.split(batch.images, ends[:-1])
    size = len(batch.films) // pretrain.PARTS
    starts = range(0, len(batch.films), size)
    return [
        Batch(np.concatenate(images[i : i + size]), batch.films[i : i + size], batch.asked[i : i + size])
        for i in starts
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=3, help="batches of 8 films in a turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    frames, folder = load_profile("tiny").frames, find_base(load_profile("tiny").base)
    drawn = draw_clips(64, frames, seed=0, workers=1, progress=False)
    rng = np.random.default_rng(0)
    batches = [draw_batch("film", drawn, FILMS, rng) for _ in range(options.batches)]
    rows = samples(batches, drawn[0].size_wh)

    ours = load(folder)
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    images = Qwen2VLImageProcessorPil(size=dict(ours.processor.image_processor.size))
    processor = FrameProcessor(images, ours.processor.tokenizer, ours.processor.tokenizer.chat_template)
    for model in (ours.model.train(), plain):
        model.model.visual.requires_grad_(False)

    ratios = []
    for turn in range(options.turns + 1):
        theirs_s = by_trainer(copy.deepcopy(plain), processor, rows)
        ours_s = by_us(ours, batches, drawn[0].size_wh)
        if turn:  # the first is for warming up
            ratios.append(theirs_s / ours_s)
            print(
                f"Trainer {len(rows) / theirs_s:6.1f}  ours {len(rows) / ours_s:6.1f} samples/s  {ratios[-1]:.1f} times"
            )
    print(f"median of {options.turns} turns: {np.median(ratios):.1f} times the Trainer's samples a second")


if __name__ == "__main__":
    main()
