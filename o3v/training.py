"""What SFT and GSPO share: rows that are read when needed, exact resume, arguments for CPU and GPU.

TRL trains; this module mends what it lacks for us. A resumed run ends bit-identical to one that was not stopped,
on one machine. Knows nothing of losses or rewards.
"""

from __future__ import annotations

import json
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
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback, TrainerState

from o3v import artifacts
from o3v.model import VideoModel

log = logging.getLogger(__name__)

# TRL 1.16 still says gradient_checkpointing, which transformers 5.23 calls deprecated at every turn
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

COMPLETE = "complete"  # written into a checkpoint after everything else
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


def adapters(rank: int) -> LoraConfig | None:
    """LoRA on the language model's attention, scaled by 2; None for rank 0, which trains all weights."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_ATTENTION) if rank else None


def merged(trainer: Any, vlm: VideoModel) -> VideoModel:
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
        "per_device_train_batch_size": config.device_batch,
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
    return table_of(trainer.state.log_history)


def watch(trainer: Any) -> Any:
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


class MarkComplete(TrainerCallback):
    """Notes that a checkpoint is whole, once its last file is written."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class ShowProgress(TrainerCallback):
    """One progress bar with the last loss and reward, instead of a line or a table row for every step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", mininterval=2)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.bar.set_postfix({k: round(float(v), 3) for k, v in logs.items() if k in ("loss", "reward")}, refresh=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


class WriteLog(TrainerCallback):
    """The rows of `train` so far in `log.jsonl`, for whoever watches from outside."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rows = "".join(json.dumps(row) + "\n" for row in table_of(state.log_history))
        artifacts.write_text(Path(args.output_dir) / "log.jsonl", rows)


class StopAt(TrainerCallback):
    """Ends a run after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= state.global_step >= self.steps


class KeepBest(TrainerCallback):
    """Scores the model at every checkpoint and keeps the weights that did best so far, in `best.pt`; ties keep the
    earlier ones. `score` must not draw random numbers, or a run with it would end otherwise than one without."""

    def __init__(self, score: Callable[[], float]) -> None:
        self.score = score

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        path, training = Path(args.output_dir) / "best.pt", model.training
        model.eval()
        value = self.score()
        model.train(training)
        kept = best(path.parent)
        scores = {**kept["scores"], state.global_step: value} if kept else {state.global_step: value}
        weights = {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}
        if not kept or value > kept["value"]:
            kept = {"step": state.global_step, "value": value, "weights": weights}
        elif state.global_step == kept["step"]:  # a checkpoint that was not whole, done again
            kept = {**kept, "weights": weights}
        with artifacts.atomic_path(path) as unfinished:
            torch.save({**kept, "scores": scores}, unfinished)


def best(folder: Path) -> dict[str, Any] | None:
    """What `KeepBest` kept: `step`, `value`, `weights`, and the `scores` of all steps tried; None before the first."""
    path = folder / "best.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


def take_best(trainer: Any) -> dict[int, float]:
    """Puts the best weights into the trainer's model. Returns the scores by step; {} where none were taken."""
    kept = best(Path(trainer.args.output_dir))
    if not kept:
        return {}
    trainer.model.load_state_dict(kept["weights"], strict=False)
    return kept["scores"]


class StopOnCollapse(TrainerCallback):
    """Ends a GSPO run that runs away: for `patience` steps in a row nearly all completions were cut off, or the KL
    divergence from the start was above `most_kl`. The checkpoints before it stay."""

    def __init__(self, most_truncated: float = 0.9, most_kl: float = 10.0, patience: int = 5) -> None:
        self.most = {"completions/clipped_ratio": most_truncated, "kl": most_kl}
        self.patience, self.bad = patience, 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        over = [f"{name} {logs[name]:.2f}" for name, most in self.most.items() if logs.get(name, 0.0) > most]
        self.bad = self.bad + 1 if over else 0
        if self.bad >= self.patience:
            log.warning("stopped at step %d: %s for %d steps", state.global_step, ", ".join(over), self.bad)
            control.should_training_stop = True


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


def table_of(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The trainer's log rows that hold a step's measurements, without clock times and token counts.

    A clock differs between runs, and TRL counts tokens from zero again when it resumes.
    """
    left_out = ("clock/", "step_time", "runtime", "per_second", "total_flos", "num_tokens")
    rows = [row for row in history if "loss" in row or "reward" in row]
    return [{k: v for k, v in row.items() if v is not None and not any(c in k for c in left_out)} for row in rows]
