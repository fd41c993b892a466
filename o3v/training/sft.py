"""Cold start: supervised fine-tuning on chains that carry their evidence.

TRL's SFTTrainer on prompt–completion rows. Departs from the public code: only the assistant's tokens are trained
on (there: all but padding and vision tokens).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from trl import SFTConfig as TrlSftConfig
from trl import SFTTrainer

from o3v.config import FrameConfig, SftConfig
from o3v.models.vlm import VideoModel
from o3v.prompts import example_prompt, snap_to_frames, target_text
from o3v.schema import Example
from o3v.training.trainer import ExactResume, add_callbacks, common_arguments, lora_config, row_dataset


class SftTrainer(ExactResume, SFTTrainer):
    """SFTTrainer with exact resume."""


def sft_row(
    example: Example, root: Path, frames: FrameConfig, box_space: str, frame_times: bool = False
) -> dict[str, Any]:
    """One row as TRL takes it: `prompt` and `completion` conversations and the `images` that fill the prompt.

    With `frame_times` the row's moments and span are those of the shown frames (`prompts.snap_to_frames`).
    """
    prompt = example_prompt(example, root, frames, box_space, training=True)
    if frame_times:
        example = snap_to_frames(example, prompt.times_s, prompt.duration_s)
    completion = [{"role": "assistant", "content": target_text(example, prompt.space_wh)}]
    images = [Image.fromarray(image) for image in prompt.images]
    return {"prompt": prompt.messages, "completion": completion, "images": images}


def make_trainer(
    vlm: VideoModel,
    examples: Sequence[Example],
    root: Path,
    frames: FrameConfig,
    config: SftConfig,
    out: Path,
    seed: int,
    report_to: str = "none",
) -> SftTrainer:
    """The trainer of a cold start; checkpoints go to `out`. Trackers (`report_to`): see `training.common_arguments`."""
    row = functools.lru_cache(config.cached_rows)(
        lambda index: sft_row(examples[index], root, frames, vlm.box_space, config.frame_times)
    )
    devices = max(1, torch.cuda.device_count())
    arguments = TrlSftConfig(
        num_train_epochs=config.epochs,
        gradient_accumulation_steps=max(1, config.effective_batch_size // (config.per_device_batch_size * devices)),
        lr_scheduler_type="cosine",
        max_length=None,
        completion_only_loss=True,
        **common_arguments(config, out, seed, report_to),
    )
    trainer = SftTrainer(
        model=vlm.model,
        args=arguments,
        train_dataset=row_dataset(len(examples), lambda index: dict(row(index))),
        processing_class=vlm.processor,
        peft_config=lora_config(config.lora_rank),
    )
    return add_callbacks(trainer)


def label_mask(trainer: SftTrainer, index: int) -> tuple[list[str], list[bool]]:
    """Tokens of one training row and which of them the loss sees; runs of picture tokens are drawn as one."""
    batch = trainer.data_collator([trainer.train_dataset[index]])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    tokenizer = trainer.processing_class.tokenizer
    picture = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    kept = [i for i, token in enumerate(ids) if token != picture or ids[i - 1] != picture]
    return [tokenizer.decode([ids[i]]) for i in kept], [labels[i] != -100 for i in kept]


def token_counts(trainer: SftTrainer, rows: int) -> dict[str, list[int]]:
    """Tokens of the prompts (pictures included) and of the responses, of that many rows from the start."""
    labels = [trainer.data_collator([trainer.train_dataset[i]])["labels"][0] for i in range(rows)]
    told = [int((row != -100).sum()) for row in labels]
    return {"prompt": [len(row) - n for row, n in zip(labels, told, strict=True)], "response": told}


@torch.no_grad()
def task_losses(trainer: SftTrainer, examples: Sequence[Example], most: int) -> dict[str, float]:
    """Mean loss of the first `most` rows of each task, in the order in which the tasks appear."""
    rows: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        rows.setdefault(str(example.task), []).append(index)
    model, losses = trainer.model.eval(), {}
    for task, indices in rows.items():
        batch = trainer.data_collator([trainer.train_dataset[i] for i in indices[:most]])
        losses[task] = model(**{name: value.to(model.device) for name, value in batch.items()}).loss.item()
    return losses
