"""Training processes as children of a notebook: progress, warnings, failures, interrupts; and once with torchrun.

Most tests replace the launcher by a small script, since a process that imports torch takes seconds to start.
"""

import dataclasses
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from helpers.world import builder_of

from o3v import files, models
from o3v.config import Engine, GspoConfig, SftConfig
from o3v.data.quarantine import Quarantine
from o3v.training import launch, sft
from o3v.training import trainer as shared
from o3v.training.trainer import TrainingRun

SFT = SftConfig(effective_batch_size=4, per_device_batch_size=4, learning_rate=1e-3, save_steps=1, num_processes=2)
SAYS = """
import sys
print("Loading weights: 100%")
print("WARNING o3v.data.quarantine: left out, 1 of at most 2: row 7", flush=True)
print("INFO o3v.training.callbacks: step 1 of 3, loss 2.500, reward 0.125", flush=True)
print("RuntimeError: the cause", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
# a launcher that ignores requests to end, with a process that ends when its standard input closes, as `o3v train` does
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import sys; sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def make(world, tmp_path):
    def made(config=SFT, base="base", rows="rows.jsonl", name="run", stop_at=None):
        run = TrainingRun(tmp_path / name, 1, quarantine=Quarantine(tmp_path / "unreadable.jsonl", 12))
        return launch.make_job("sft", base, tmp_path / rows, builder_of(world), config, run, stop_at)

    return made


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    def use(script, *arguments):
        path = tmp_path / "launcher.py"
        path.write_text(script)
        monkeypatch.setenv(launch.LAUNCHER, " ".join([sys.executable, str(path), *arguments]))

    return use


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_processes_below_one_is_refused(count):
    with pytest.raises(ValueError, match=f"at least 1, not {count}"):
        launch.with_processes(SftConfig(), count)


def test_the_number_of_processes_is_the_notebooks_or_the_profiles():
    assert launch.with_processes(SftConfig(num_processes=4), None).num_processes == 4
    assert launch.with_processes(SftConfig(num_processes=4), 2).num_processes == 2
    assert launch.with_processes(GspoConfig(num_processes=None), None).num_processes == 1  # no GPU here


def test_a_failed_process_gives_one_error_with_the_end_of_its_log(make, launcher, caplog):
    launcher(SAYS, "3")
    job = make()
    with pytest.raises(launch.TrainingFailedError, match=r"training in 2 processes failed(.|\n)*the cause"):
        launch.run_processes(job)
    assert "step 1 of 3" in (Path(job.out) / launch.LOG).read_text()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        "left out, 1 of at most 2: row 7"
    ]


def test_a_stated_error_is_told_without_the_report_of_the_launcher(make, launcher):
    launcher("import sys; print('o3v: the rows are missing', flush=True); print('Traceback'); sys.exit(1)")
    with pytest.raises(launch.TrainingFailedError) as failure:
        launch.run_processes(make())
    assert str(failure.value).endswith("has:\no3v: the rows are missing")


def test_progress_is_shown_as_one_bar(make, launcher, capsys):
    launcher(SAYS, "0")
    launch.run_processes(make())
    shown = capsys.readouterr().err
    assert "1/3" in shown and "loss 2.500, reward 0.125" in shown and "Loading weights" not in shown


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_an_interrupt_ends_all_processes(make, launcher, monkeypatch):
    launcher(STUBBORN)
    monkeypatch.setattr(launch, "STOP_S", 0.5)
    job, pids = make(), []

    def interrupt(output, log_file):
        pids.extend(map(int, output.readline().split()[1:]))
        assert all(map(alive, pids))
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_follow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch.run_processes(job)
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(pids) == 2 and left == []


def test_a_finished_run_starts_no_process(make, monkeypatch):
    job = make(stop_at=2)
    folder = Path(job.out) / "checkpoint-2"
    folder.mkdir(parents=True)
    (folder / shared.COMPLETE).touch()
    files.write_json(folder / "trainer_state.json", {"max_steps": 9, "global_step": 2, "log_history": []})
    monkeypatch.setattr(launch, "run_processes", lambda job: pytest.fail("started"))
    loaded = []
    model = SimpleNamespace(eval=lambda: None, device=SimpleNamespace(type="cpu"))
    trainer = SimpleNamespace(args=SimpleNamespace(output_dir=job.out), model=model, add_callback=loaded.append)
    trainer._load_from_checkpoint = loaded.append
    assert launch.train(trainer, job) == []
    assert loaded[-1] == str(folder)


def test_every_engine_has_a_configuration_of_accelerate():
    import yaml

    for engine in get_args(Engine):
        config = yaml.safe_load((launch.CONFIGS / f"{engine}.yaml").read_text())
        assert config["num_machines"] == 1 and config["compute_environment"] == "LOCAL_MACHINE"


@pytest.mark.timeout(600)
def test_torchrun_trains_and_the_notebook_has_the_weights(twin, world, sft_examples, tmp_path, make):
    models.save(twin, tmp_path / "base")
    files.write_jsonl(tmp_path / "rows.jsonl", [example.to_row() for example in sft_examples])
    job = make(base=tmp_path / "base", stop_at=2)
    run = TrainingRun(Path(job.out), 1, quarantine=Quarantine(tmp_path / "unreadable.jsonl", 12))
    trainer = sft.make_trainer(twin, sft_examples, builder_of(world), dataclasses.replace(SFT), run)
    rows = launch.train(trainer, job)
    assert [row["step"] for row in rows] == [1, 2]
    saved, ours = models.load(f"{job.out}/checkpoint-2").model.state_dict(), trainer.model.state_dict()
    first = models.load(tmp_path / "base").model.state_dict()
    assert saved.keys() == ours.keys() and all((saved[name] == ours[name]).all() for name in saved)
    assert any((saved[name] != first[name]).any() for name in saved)
    assert not trainer.model.training
    states = sorted(path.name for path in Path(job.out, "checkpoint-2").glob("rng_state*"))
    assert states == ["rng_state_0.pth", "rng_state_1.pth"]
