"""What SFT and GSPO share: rows that are read when needed, exact resume, arguments for CPU and GPU.

TRL trains; this module mends what it lacks for us. A resumed run ends bit-identical to one that was not stopped,
on one machine. Knows nothing of losses or rewards.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerState

from o3v.models.vlm import VideoModel
from o3v.training.callbacks import COMPLETE, MarkComplete, ShowProgress, StopAt, WriteLog, step_rows

log = logging.getLogger(__name__)

# TRL 1.16 still says gradient_checkpointing, which transformers 5.23 calls deprecated at every turn
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

LANGUAGE_ATTENTION = r".*language_model.*\.(q|k|v|o)_proj"  # LoRA targets; "all-linear" would adapt the vision tower


def row_dataset(count: int, make_row: Callable[[int], dict[str, Any]]) -> Dataset:
    """A data set of `count` rows, each made by `make_row(index)` in the process that reads it.

    Only the index is stored: frames stay in their video files until a batch needs them.
    """
    return Dataset.from_dict({"index": list(range(count))}).with_transform(
        lambda batch: _columns([make_row(index) for index in batch["index"]])
    )


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def lora_config(rank: int) -> LoraConfig | None:
    """LoRA on the language model's attention, scaled by 2; None for rank 0, which trains all weights."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_ATTENTION) if rank else None


def merge_adapters(trainer: Any, vlm: VideoModel) -> VideoModel:
    """The trained model with its adapters, if it has any, worked into its weights."""
    adapted = hasattr(trainer.model, "peft_config")
    return replace(vlm, model=trainer.model.merge_and_unload()) if adapted else vlm


def common_arguments(config: Any, out: Path, seed: int, report_to: str = "none") -> dict[str, Any]:
    """Trainer arguments that SFT and GSPO share: `config`'s rates and steps, and what the machine decides.

    bf16 and checkpointed activations on GPUs, fp32 on CPU. `report_to` names a tracker of transformers that is
    installed (tensorboard, trackio, wandb); TensorBoard's files lie beside the checkpoints.
    """
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": config.per_device_batch_size,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "max_grad_norm": config.max_grad_norm,
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "remove_unused_columns": False,
        "report_to": report_to,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
        "dataloader_pin_memory": gpu,
        "disable_tqdm": True,
    }


def train(trainer: Any, stop_at: int | None = None) -> list[dict[str, float]]:
    """Trains, or goes on from the last whole checkpoint; leaves the model in evaluation mode.

    With `stop_at` it ends after that many steps, at the rates of the whole run.

    Returns one row a step. SFT: loss, token accuracy, entropy. GSPO: reward and its terms, its spread in the groups,
    lengths, entropy, KL when beta > 0.
    """
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    ends = [step for step in (trainer.args.max_steps, stop_at) if step and step > 0]
    if stop_at is not None:
        trainer.add_callback(StopAt(stop_at))
    if checkpoint and ends and _step(checkpoint) >= min(ends):  # all is done: upstream would take one step more
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.model.eval()
    return step_rows(trainer.state.log_history)


def add_callbacks(trainer: Any) -> Any:
    """The trainer with our callbacks: whole checkpoints are marked, progress is one bar and a file. Returns it."""
    trainer.remove_callback(PrinterCallback)
    for callback in (MarkComplete(), ShowProgress(), WriteLog()):
        trainer.add_callback(callback)
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; half-written ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=_step)
    for path in found:
        if not (path / COMPLETE).exists():
            log.warning("%s was not written whole; removed", path.name)
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    if whole:
        log.info("resuming from %s", whole[-1].name)
    return whole[-1] if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


class ExactResume:
    """Mixed into a TRL trainer: loads all weights of a full fine-tuning checkpoint, or fails.

    Upstream (transformers 5.23) reads checkpoint keys under legacy names, finds none and only warns.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if hasattr(model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict(), strict=True)
