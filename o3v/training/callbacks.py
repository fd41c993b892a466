"""Trainer callbacks that SFT and GSPO share: complete checkpoints, progress, log, best checkpoint, early stop."""

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from o3v import files
from o3v.training import processes, sharding

log = logging.getLogger(__name__)

COMPLETE = "complete"  # written into a checkpoint after everything else
COLLAPSED = "collapsed.json"  # in the output folder of a run that collapsed: its last step
PROGRESS = "step %d of %d%s"  # lines of LogProgress
Whole = Callable[[], AbstractContextManager]
HELDOUT = "heldout"  # folder of the held-out rows in the output folder of a run


class MarkComplete(TrainerCallback):
    """Marks a checkpoint as complete after its last file is written, by any process."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        processes.wait_for_all()
        if processes.rank() == 0:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class ShowProgress(TrainerCallback):
    """Shows one progress bar with the last loss and reward, instead of a line for every step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", mininterval=2)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.bar.set_postfix({k: round(float(v), 3) for k, v in logs.items() if k in ("loss", "reward")}, refresh=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


class LogProgress(TrainerCallback):
    """Logs one line for every step, in the first of several processes; `launch` reads the lines."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if processes.rank() == 0:
            values = [f"{key} {float(logs[key]):.3f}" for key in ("loss", "reward") if key in logs]
            log.info(PROGRESS, state.global_step, state.max_steps, "".join(f", {value}" for value in values))


class WriteLog(TrainerCallback):
    """Writes the rows of `train` so far to `log.jsonl`, so that a user can follow the run."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if processes.rank():
            return
        rows = "".join(json.dumps(row) + "\n" for row in step_rows(state.log_history))
        files.write_text(Path(args.output_dir) / "log.jsonl", rows)


class StopAt(TrainerCallback):
    """Ends a run after this many steps, with a checkpoint."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.steps:
            control.should_training_stop = control.should_save = True


class KeepBest(TrainerCallback):
    """Scores the model at every checkpoint and keeps the best weights so far in `best.pt`; ties keep the earlier ones.

    Every process calls `score`, and the first one's value counts. Meanwhile `whole` holds all weights, if they are
    divided over the processes (`sharding.whole_weights`). The random numbers of training go on as if there were
    no scoring.
    """

    def __init__(self, score: Callable[[], float], whole: Whole = nullcontext) -> None:
        self.score, self.whole = score, whole

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Scores the model and keeps its weights if they are the best so far."""
        path, step = Path(args.output_dir) / "best.pt", state.global_step
        value = _scored(model, self.score, self.whole)
        kept = read_best(path.parent) if processes.rank() == 0 else None
        # also an incomplete checkpoint that was made again
        better = processes.from_first(lambda: not kept or value > kept["value"] or step == kept["step"])
        weights = sharding.whole_state(model) if better else None
        if processes.rank():
            return
        scores = {**kept["scores"], step: value} if kept else {step: value}
        if weights is not None:
            kept = {"step": step, "value": max(value, kept["value"]) if kept else value, "weights": weights}
        with files.atomic_path(path) as unfinished:
            torch.save({**kept, "scores": scores}, unfinished)


def _scored(model: Any, score: Callable[[], Any], whole: Whole) -> Any:
    """The result of `score` with the model in evaluation mode; nothing of it changes the training."""
    training = model.training
    model.eval()
    with processes.kept_random_state(), whole():
        result = score()
    model.train(training)
    return result


class ScoreHeldout(TrainerCallback):
    """Scores held-out questions at every checkpoint and keeps the rows by step, `heldout/step_NNNNN.jsonl`.

    For a curve of the held-out reward; it decides nothing. `score` answers the questions and returns one row for each;
    in several processes each calls it, for its share of the questions (`processes.share`). The random numbers of
    training go on as if there were no scoring.
    """

    def __init__(self, score: Callable[[], list[dict[str, Any]]], whole: Whole = nullcontext) -> None:
        self.score, self.whole = score, whole

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Scores the model and writes the rows."""
        rows = chain.from_iterable(processes.joined(_scored(model, self.score, self.whole)))
        if processes.rank() == 0:
            files.write_jsonl(Path(args.output_dir) / HELDOUT / f"step_{state.global_step:05d}.jsonl", rows)


def read_heldout(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Reads what `ScoreHeldout` kept in the output folder of a run: the rows by step, in order; {} without any."""
    paths = sorted((folder / HELDOUT).glob("step_*.jsonl"))
    return {int(path.stem.split("_")[1]): [row for _, row in files.read_jsonl(path)] for path in paths}


def read_best(folder: Path) -> dict[str, Any] | None:
    """Reads `best.pt`: `step`, `value` and `weights` of the best checkpoint and `scores` by step. None if absent."""
    path = folder / "best.pt"
    return torch.load(path, weights_only=True) if path.exists() else None


def load_best(trainer: Any) -> dict[int, float]:
    """Loads the best weights into the trainer's model. Returns the scores by step, {} without a best checkpoint."""
    kept = read_best(Path(trainer.args.output_dir))
    if not kept:
        return {}
    trainer.model.load_state_dict(kept["weights"], strict=False)
    return kept["scores"]


class StopOnCollapse(TrainerCallback):
    """Ends a GSPO run that collapses, with a last checkpoint; the same command does not train on.

    A run collapses when, for `patience` steps in a row, more than `max_truncated` of the completions reach the length
    limit or the KL divergence from the start exceeds `max_kl`.
    """

    def __init__(self, max_truncated: float = 0.9, max_kl: float = 10.0, patience: int = 5) -> None:
        self.limits = {"completions/clipped_ratio": max_truncated, "kl": max_kl}
        self.patience, self.bad = patience, 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Stops the training after `patience` steps in a row over a limit."""
        over = [f"{name} {logs[name]:.2f}" for name, limit in self.limits.items() if logs.get(name, 0.0) > limit]
        self.bad = self.bad + 1 if over else 0
        if self.bad >= self.patience:
            log.warning("stopped at step %d: %s for %d steps", state.global_step, ", ".join(over), self.bad)
            control.should_training_stop = control.should_save = True
            if processes.rank() == 0:
                files.write_json(Path(args.output_dir) / COLLAPSED, {"step": state.global_step})


def step_rows(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The rows of a trainer's log with measurements of a step, without times and token counts.

    Times differ between runs, and TRL restarts its token count when it resumes.
    """
    left_out = ("clock/", "step_time", "runtime", "per_second", "total_flos", "num_tokens")
    rows = [row for row in history if "loss" in row or "reward" in row]
    return [{k: v for k, v in row.items() if v is not None and not any(c in k for c in left_out)} for row in rows]
