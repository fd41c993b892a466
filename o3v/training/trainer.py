"""What SFT and GSPO share: lazy rows, exact resume, LoRA, and arguments for CPU and GPU.

TRL trains; this module adds what TRL lacks. A resumed run ends bit-identical to an uninterrupted one on the same
machine. This module does not know losses or rewards.
"""

import functools
import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerState

from o3v import files
from o3v.config import Engine, Optimizer
from o3v.data.quarantine import Quarantine, read_row
from o3v.models.vlm import VideoModel
from o3v.prompts import PromptBuilder
from o3v.schema import Example
from o3v.training import processes
from o3v.training.callbacks import (
    COLLAPSED,
    COMPLETE,
    LogProgress,
    MarkComplete,
    ShowProgress,
    StopAt,
    WriteLog,
    step_rows,
)
from o3v.training.processes import accumulation_steps

log = logging.getLogger(__name__)

# TRL 1.16 passes gradient_checkpointing, which transformers 5.23 reports as deprecated at every step
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

LANGUAGE_ATTENTION = r".*language_model.*\.(q|k|v|o)_proj"  # LoRA targets; "all-linear" would adapt the vision tower


@dataclass(frozen=True)
class TrainingRun:
    """Where a training run writes and how it is seeded and logged."""

    out: Path  # folder of checkpoints, log and rollouts
    seed: int  # seed of the trainer and of the data order
    report_to: str = "none"  # an installed tracker of transformers (tensorboard, trackio, wandb), or "none"
    quarantine: Quarantine | None = None  # takes rows that cannot be read; None: such a row ends the run


def row_dataset(
    examples: Sequence[Example],
    make_row: Callable[[Example], dict[str, Any]],
    cached_rows: int,
    builder: PromptBuilder | None = None,
    quarantine: Quarantine | None = None,
) -> Dataset:
    """A dataset with one row per example, made by `make_row` in the process that reads it.

    Only indices are stored: frames stay in their video files until a batch needs them.

    Args:
        examples: the rows.
        make_row: turns an example into a row of the trainer.
        cached_rows: number of the last rows that are kept in memory.
        builder: names the examples; needed with `quarantine`.
        quarantine: takes examples that cannot be read; the next one takes their place. None raises their errors.
    """
    describe = builder.describe if builder else lambda example: (example.id, Path(example.media_path))

    @functools.lru_cache(cached_rows)
    def row(index: int) -> dict[str, Any]:
        return read_row(examples, index, make_row, describe, quarantine)

    def columns(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [row(index) for index in batch["index"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    return Dataset.from_dict({"index": list(range(len(examples)))}).with_transform(columns)


def lora_config(rank: int) -> LoraConfig | None:
    """LoRA on the language model's attention with alpha = 2·rank. None for rank 0, which trains all weights."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_ATTENTION) if rank else None


def merge_adapters(trainer: Any, vlm: VideoModel) -> VideoModel:
    """The trained model, with its LoRA adapters merged into the weights if it has any."""
    adapted = hasattr(trainer.model, "peft_config")
    return replace(vlm, model=trainer.model.merge_and_unload()) if adapted else vlm


def common_arguments(config: Any, run: TrainingRun) -> dict[str, Any]:
    """Trainer arguments that SFT and GSPO share: rates and steps from `config`, and what the machine decides.

    bf16 and gradient checkpointing on GPUs, fp32 on CPU. The sizes of the batch are `split_batch`.
    """
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(run.out),
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "max_grad_norm": config.max_grad_norm,
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "remove_unused_columns": False,
        "report_to": run.report_to,
        "seed": run.seed,
        "data_seed": run.seed,
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
        "dataloader_pin_memory": gpu,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "ddp_timeout": processes.TIMEOUT_S,
        **_optimizer(config.optimizer, config.engine),
    }


def _optimizer(name: Optimizer, engine: Engine) -> dict[str, str]:
    """The trainer argument of an optimizer. Raises ImportError if the 8-bit one is not installed."""
    if name == "adamw":
        return {}  # the trainer's own
    if engine == "zero3_offload":
        raise ValueError(
            f"engine {engine!r} takes optimizer 'adamw' only: accelerate replaces {name!r} by DeepSpeed's 32-bit Adam, "
            "without decoupled weight decay"
        )
    if not importlib.util.find_spec("bitsandbytes"):
        raise ImportError(f"optimizer {name!r} needs bitsandbytes; pip install 'o3v[gpu]'")
    return {"optim": name}


def split_batch(batch_size: int, config: Any, groups: int | None = None) -> dict[str, int]:
    """Trainer arguments for a global batch, split as `processes.accumulation_steps` says, which raises ValueError.

    In a process of its own, the batch is that of all processes of the run; a notebook, which only shows rows and
    loads what its processes have trained, takes the whole batch.
    """
    at_once, steps = accumulation_steps(batch_size, config.per_device_batch_size, launched_processes(), groups)
    accumulation_steps(batch_size, config.per_device_batch_size, config.num_processes or 1, groups)  # refuse early
    return {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": steps}


def launched_processes() -> int:
    """The number of processes that a launcher (torchrun, accelerate) has started for this run; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_one_device(arguments: Any) -> Any:
    """The same trainer arguments; a single process uses one GPU even where it sees several.

    transformers 5.23 would split each batch over all of them (`DataParallel`).
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def train(trainer: Any, stop_at: int | None = None) -> list[dict[str, float]]:
    """Trains, or resumes from the last complete checkpoint. Leaves the model in evaluation mode.

    `stop_at` ends the run after this many steps, with the rates of the whole run. Returns one row per step: loss,
    token accuracy and entropy for SFT; reward and its terms, group spread, lengths, entropy and KL (beta > 0) for GSPO.
    """
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    if stop_at is not None:
        trainer.add_callback(StopAt(stop_at))
    if checkpoint and is_finished(checkpoint, stop_at):  # transformers would train one more step
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.model.eval()
    return step_rows(trainer.state.log_history)


def add_callbacks(trainer: Any) -> Any:
    """Adds our callbacks: complete checkpoints, one progress bar, a log file. Returns the trainer."""
    trainer.remove_callback(PrinterCallback)
    progress = LogProgress() if launched_processes() > 1 else ShowProgress()
    for callback in (MarkComplete(), progress, WriteLog()):
        trainer.add_callback(callback)
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint. Incomplete ones are removed by the first process, with a warning."""
    return processes.from_first(lambda: _last_checkpoint(folder))


def _last_checkpoint(folder: Path) -> Path | None:
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step)
    for path in checkpoints:
        if not (path / COMPLETE).exists():
            log.warning("%s is incomplete; removed", path.name)
            shutil.rmtree(path)
    complete = [path for path in checkpoints if path.exists()]
    if complete:
        log.info("resuming from %s", complete[-1].name)
    return complete[-1] if complete else None


def is_finished(checkpoint: Path, stop_at: int | None = None) -> bool:
    """Whether a complete checkpoint is the end of its run: at the last step, at `stop_at`, or where it collapsed."""
    last, collapsed = files.read_json(checkpoint / "trainer_state.json")["max_steps"], checkpoint.parent / COLLAPSED
    ends = [last, stop_at, files.read_json(collapsed)["step"] if collapsed.exists() else None]
    return _step(checkpoint) >= min(end for end in ends if end)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


class ExactResume:
    """Mixin for a TRL trainer: loads all weights of a full fine-tuning checkpoint, or fails.

    transformers 5.23 looks for legacy key names in the checkpoint, finds none, and only warns.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if hasattr(model, "peft_config") or self.is_fsdp_enabled:  # FSDP reads into divided weights
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict(), strict=True)
