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

from o3v import training
from o3v.config import FrameConfig, SftConfig
from o3v.model import VideoModel
from o3v.prompts import example_prompt, target_text
from o3v.schema import Example


class Trainer(training.ExactResume, SFTTrainer):
    """SFTTrainer with exact resume."""


def training_row(example: Example, root: Path, frames: FrameConfig, box_space: str) -> dict[str, Any]:
    """One row as TRL takes it: `prompt` and `completion` conversations and the `images` that fill the prompt."""
    prompt = example_prompt(example, root, frames, box_space, training=True)
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
    peft_config: Any = None,
) -> Trainer:
    """The trainer of a cold start; checkpoints go to `out`. `peft_config` adapts instead of training all weights."""
    row = functools.lru_cache(config.cached_rows)(
        lambda index: training_row(examples[index], root, frames, vlm.box_space)
    )
    devices = max(1, torch.cuda.device_count())
    arguments = TrlSftConfig(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.device_batch,
        gradient_accumulation_steps=max(1, config.batch // (config.device_batch * devices)),
        learning_rate=config.learning_rate,
        max_grad_norm=config.max_grad_norm,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type="cosine",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=1,
        max_length=None,
        completion_only_loss=True,
        remove_unused_columns=False,
        report_to="none",
        seed=seed,
        data_seed=seed,
        **training.device_arguments(),
    )
    trainer = Trainer(
        model=vlm.model,
        args=arguments,
        train_dataset=training.row_dataset(len(examples), lambda index: dict(row(index))),
        processing_class=vlm.processor,
        peft_config=peft_config,
    )
    return training.watch(trainer)


def train(trainer: Trainer) -> list[dict[str, float]]:
    """Trains, or goes on from the last whole checkpoint; leaves the model in evaluation mode.

    Returns one row a step: loss, token accuracy, learning rate.
    """
    checkpoint = training.last_checkpoint(Path(trainer.args.output_dir))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.model.eval()
    return training.table_of(trainer.state.log_history)


def label_mask(trainer: Trainer, index: int) -> tuple[list[str], list[bool]]:
    """Tokens of one training row and which of them the loss sees; runs of picture tokens are drawn as one."""
    batch = trainer.data_collator([trainer.train_dataset[index]])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    tokenizer = trainer.processing_class.tokenizer
    picture = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    kept = [i for i, token in enumerate(ids) if token != picture or ids[i - 1] != picture]
    return [tokenizer.decode([ids[i]]) for i in kept], [labels[i] != -100 for i in kept]
