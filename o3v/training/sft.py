"""Cold start: supervised fine-tuning on reasoning with evidence.

TRL's SFTTrainer on prompt–completion rows. Departs from the public code: only the assistant's tokens enter the loss.
`SftConfig.loss_tokens` "all" is the public code's: all tokens but padding and vision tokens.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from trl import SFTConfig as TrlSftConfig
from trl import SFTTrainer

from o3v.config import SftConfig
from o3v.models.vlm import VISION_TOKENS, VideoModel
from o3v.prompts import PromptBuilder, snap_to_frames, target_text
from o3v.schema import Example
from o3v.training import trainer as shared
from o3v.training.precision import require_master_weights


class SftTrainer(shared.ExactResume, SFTTrainer):
    """SFTTrainer with exact resume, whose loss is the mean over the trained tokens of the global batch.

    transformers 5.23 says of Qwen's classes that they cannot normalise by the tokens of all forward passes. TRL 1.16
    does it without the model's help, but then takes the mean over the means of forward passes and processes: the loss
    would depend on how the batch is split.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True


def sft_row(example: Example, builder: PromptBuilder, frame_times: bool = False) -> dict[str, Any]:
    """One row for TRL: `prompt` and `completion` conversations, and the `images` that fill the prompt.

    `frame_times` moves span and times of the row to sampled frames (`prompts.snap_to_frames`).
    """
    prompt = builder.for_example(example, training=True)
    if frame_times:
        example = snap_to_frames(example, prompt.times_s, prompt.duration_s)
    completion = [{"role": "assistant", "content": target_text(example, prompt.space_wh)}]
    images = [Image.fromarray(image) for image in prompt.images]
    return {"prompt": prompt.messages, "completion": completion, "images": images}


def make_trainer(
    vlm: VideoModel, examples: Sequence[Example], builder: PromptBuilder, config: SftConfig, run: shared.TrainingRun
) -> SftTrainer:
    """The trainer of a cold start.

    Args:
        vlm: model to train; its weights are changed.
        examples: training rows, each with `reasoning_process`.
        builder: turns rows into prompts.
        config: rates, batch sizes and steps.
        run: output folder, seed and tracker.

    Raises ValueError if the batch does not divide into forward passes and processes, and for full fine-tuning of bf16
    weights.
    """
    arguments = TrlSftConfig(
        num_train_epochs=config.epochs,
        lr_scheduler_type=config.lr_scheduler,
        max_length=None,
        completion_only_loss=True,
        **shared.common_arguments(config, run),
        **shared.split_batch(config.effective_batch_size, config),
    )
    require_master_weights(vlm.model, arguments, config.lora_rank)
    make_row = partial(sft_row, builder=builder, frame_times=config.frame_times)
    trainer = SftTrainer(
        model=vlm.model,
        args=shared.on_one_device(arguments),
        train_dataset=shared.row_dataset(examples, make_row, config.cached_rows, builder, run.quarantine),
        processing_class=vlm.processor,
        peft_config=shared.lora_config(config.lora_rank),
    )
    if config.loss_tokens == "all":
        trainer.data_collator = partial(_label_all, trainer.data_collator, vlm.processor.tokenizer)
    return shared.add_callbacks(trainer)


def _label_all(collate: Callable[[list[Any]], dict[str, torch.Tensor]], tokenizer: Any, rows: list[Any]) -> Any:
    """The batch of a collator with all tokens but padding and vision tokens as labels."""
    batch = collate(rows)
    ids = batch["input_ids"]
    vision = torch.tensor(tokenizer.convert_tokens_to_ids(list(VISION_TOKENS)))
    left_out = torch.isin(ids, vision) | (batch["attention_mask"] == 0)
    return {**batch, "labels": ids.masked_fill(left_out, -100)}


def label_mask(trainer: SftTrainer, index: int) -> tuple[list[str], list[bool]]:
    """Tokens of one training row, and which of them enter the loss. Runs of image tokens are merged into one."""
    batch = trainer.data_collator([trainer.train_dataset[index]])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    tokenizer = trainer.processing_class.tokenizer
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    positions = [i for i, token in enumerate(ids) if token != image_id or ids[i - 1] != image_id]
    return [tokenizer.decode([ids[i]]) for i in positions], [labels[i] != -100 for i in positions]


def token_counts(trainer: SftTrainer, rows: int) -> dict[str, list[int]]:
    """Tokens of the prompts (image tokens included) and of the responses, for the first `rows` rows."""
    labels = [trainer.data_collator([trainer.train_dataset[i]])["labels"][0] for i in range(rows)]
    responses = [int((row != -100).sum()) for row in labels]
    return {"prompt": [len(row) - n for row, n in zip(labels, responses, strict=True)], "response": responses}


@torch.no_grad()
def task_losses(trainer: SftTrainer, examples: Sequence[Example], limit: int) -> dict[str, float]:
    """Mean loss of the first `limit` rows of each task, in the order in which the tasks appear.

    Rows go through the model one by one, with logits for the trained tokens only: those of a batch of long rows over
    a vocabulary of 152,000 tokens do not fit into memory.
    """
    rows: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        rows.setdefault(str(example.task), []).append(index)
    model, losses = trainer.model.eval(), {}
    for task, indices in rows.items():
        summed, count = 0.0, 0
        for index in indices[:limit]:
            batch = trainer.data_collator([trainer.train_dataset[index]])
            labels = batch.pop("labels")[0].to(model.device)
            first = max(1, int((labels != -100).nonzero()[0]))  # nothing precedes the first token
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            logits = model(**inputs, logits_to_keep=len(labels) - first + 1).logits[0, :-1].float()
            summed += cross_entropy(logits, labels[first:], ignore_index=-100, reduction="sum").item()
            count += int((labels[first:] != -100).sum())
        losses[task] = summed / count
    return losses
