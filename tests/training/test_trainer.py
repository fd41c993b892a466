"""Callbacks of both trainers: the log file, the best checkpoint, and the stop of a run that collapses."""

import json
from types import SimpleNamespace

import pytest
import torch

from o3v import files
from o3v.config import SftConfig
from o3v.training import callbacks, trainer
from o3v.training.trainer import is_finished


def run(callback, rows, folder):
    control = SimpleNamespace(should_training_stop=False)
    for step, row in enumerate(rows):
        callback.on_log(SimpleNamespace(output_dir=str(folder)), SimpleNamespace(global_step=step), control, logs=row)
        if control.should_training_stop:
            return step
    return None


CUT = {"completions/clipped_ratio": 0.95, "kl": 0.0}
FINE = {"completions/clipped_ratio": 0.3, "kl": 0.1}


@pytest.mark.parametrize(
    ("rows", "stopped_at"),
    [
        ([CUT] * 5, 2),
        ([CUT, CUT, FINE, CUT, CUT, FINE], None),
        ([FINE, {"kl": 11.0}, CUT, {"kl": 12.0}], 3),
        ([{}] * 5, None),  # a log without these values
    ],
)
def test_a_run_that_collapses_is_stopped(rows, stopped_at, caplog, tmp_path):
    assert run(callbacks.StopOnCollapse(patience=3), rows, tmp_path) == stopped_at
    assert bool(caplog.records) == (stopped_at is not None)
    checkpoint = tmp_path / "checkpoint-2"
    files.write_json(checkpoint / "trainer_state.json", {"max_steps": 9})
    assert is_finished(checkpoint) == (stopped_at == 2)
    assert is_finished(checkpoint, stop_at=2)
    assert is_finished(checkpoint, stop_at=4) == (stopped_at == 2)


def test_the_log_holds_the_rows_so_far(tmp_path):
    history = [{"loss": 1.0, "step": 1, "epoch": 0.5}, {"train_runtime": 3.0, "step": 2}]
    for length in (1, 2):
        state = SimpleNamespace(log_history=history[:length])
        callbacks.WriteLog().on_log(SimpleNamespace(output_dir=str(tmp_path)), state, None)
        rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert rows == [{"loss": 1.0, "step": 1, "epoch": 0.5}]


class Model(torch.nn.Linear):
    """One weight that is trained, and a bias that is not."""

    def __init__(self):
        super().__init__(1, 1)
        self.bias.requires_grad = False


def test_the_best_checkpoint_is_stored_and_loaded(tmp_path):
    model, scores = Model(), [0.2, 0.6, 0.6, 0.1]
    args, modes = SimpleNamespace(output_dir=str(tmp_path)), []
    keep = callbacks.KeepBest(lambda: modes.append(model.training) or scores[len(modes) - 1])
    assert callbacks.read_best(tmp_path) is None
    trainer = SimpleNamespace(model=model, args=args)
    assert callbacks.load_best(trainer) == {}
    for step in range(1, 5):
        torch.nn.init.constant_(model.weight, step)
        keep.on_save(args, SimpleNamespace(global_step=step), None, model=model)
    assert modes == [False] * 4 and model.training
    assert callbacks.load_best(trainer) == dict(enumerate(scores, 1))
    assert model.weight.item() == 2 and list(callbacks.read_best(tmp_path)["weights"]) == ["weight"]


def test_a_repeated_checkpoint_counts_once(tmp_path):
    model, args = Model(), SimpleNamespace(output_dir=str(tmp_path))
    for value in (3.0, 5.0):  # the first was incomplete
        torch.nn.init.constant_(model.weight, value)
        callbacks.KeepBest(lambda: 0.5).on_save(args, SimpleNamespace(global_step=7), None, model=model)
    assert callbacks.load_best(SimpleNamespace(model=model, args=args)) == {7: 0.5} and model.weight.item() == 5


def test_held_out_rows_are_kept_by_step(tmp_path):
    model, args, modes = Model(), SimpleNamespace(output_dir=str(tmp_path)), []
    score = callbacks.ScoreHeldout(lambda: modes.append(model.training) or [{"id": "a", "total": float(len(modes))}])
    assert callbacks.read_heldout(tmp_path) == {}
    for step in (20, 100, 100):  # the last checkpoint was made again
        score.on_save(args, SimpleNamespace(global_step=step), None, model=model)
    kept = callbacks.read_heldout(tmp_path)
    assert list(kept) == [20, 100] and kept[100] == [{"id": "a", "total": 3.0}]
    assert modes == [False] * 3 and model.training


def test_the_8_bit_optimizer_is_the_trainers_or_names_what_to_install(monkeypatch, tmp_path):
    run, config = trainer.TrainingRun(tmp_path, 0), SftConfig(optimizer="adamw_8bit")
    monkeypatch.setattr(trainer.importlib.util, "find_spec", lambda name: object())
    assert trainer.common_arguments(config, run)["optim"] == "adamw_8bit"
    assert "optim" not in trainer.common_arguments(SftConfig(), run)
    with pytest.raises(ValueError, match="'zero3_offload' takes optimizer 'adamw' only"):
        trainer.common_arguments(SftConfig(optimizer="adamw_8bit", engine="zero3_offload"), run)
    monkeypatch.setattr(trainer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"adamw_8bit.*pip install 'o3v\[gpu\]'"):
        trainer.common_arguments(config, run)
