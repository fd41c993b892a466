"""Tests of the pool of processes, with small programs in place of the cells."""

import os
import signal
import subprocess
import sys

import pytest

from o3v.ablations import pool, store
from o3v.ablations.cells import chosen_cells

# writes the record of its cell, finished or, if a file `bad-NAME` exists, not at all
PROGRAM = """\
import json, os, sys, time
out, name, seed = sys.argv[1:]
with open(f"{out}/order", "a") as order:
    order.write(f"{name}-{seed} {os.environ['OMP_NUM_THREADS']}\\n")
if os.path.exists(f"{out}/bad-{name}"):
    sys.exit("o3v: the video is missing")
record = {"cell": name, "seed": int(seed), "status": "finished", "settings": {}, "inputs": {}, "scores": {}}
os.makedirs(f"{out}/cells", exist_ok=True)
with open(f"{out}/cells/{name}-{seed}.json", "w") as file:
    json.dump(record, file)
"""


class Small(pool.Matrix):
    """A matrix whose cells run PROGRAM."""

    def command(self, cell, seed):
        return [sys.executable, "-S", "-c", PROGRAM, str(self.out), cell.name, str(seed)]


@pytest.fixture
def matrix(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "POLL_S", 0.02)
    return Small(chosen_cells(["sft", "data_none", "voting"]), [3, 4], tmp_path / "runs", tmp_path)


def order_of(matrix):
    return [line.split()[0] for line in (matrix.out / "order").read_text().splitlines()]


def test_a_failed_cell_is_named_and_what_starts_from_it_is_not_run(matrix):
    (matrix.out / "bad-sft_gspo").touch()
    assert pool.run_matrix(matrix, 1) == [
        "sft_gspo, seed 3: o3v: the video is missing",
        "voting, seed 3: not run, because sft_gspo failed",
        "sft_gspo, seed 4: o3v: the video is missing",
        "voting, seed 4: not run, because sft_gspo failed",
    ]
    assert order_of(matrix)[-2:] == ["data_none-3", "data_none-4"]
    assert len(store.read_assembled(matrix.out / store.ASSEMBLED)) == 6
    (matrix.out / "bad-sft_gspo").unlink()
    assert pool.run_matrix(matrix, 2) == []  # only what is missing
    assert sorted(order_of(matrix)[8:]) == ["sft_gspo-3", "sft_gspo-4", "voting-3", "voting-4"]
    assert pool.run_matrix(matrix, 2) == [] and len(order_of(matrix)) == 12


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_cell_runs_after_its_start_and_all_seeds_before_the_next_cell(matrix, jobs):
    assert pool.run_matrix(matrix, jobs) == []
    order = order_of(matrix)
    assert sorted(order) == sorted(f"{cell.name}-{seed}" for cell in matrix.cells for seed in (3, 4))
    for seed in (3, 4):
        assert order.index(f"sft_gspo-{seed}") < order.index(f"voting-{seed}")
        assert order.index(f"sft_without_own-{seed}") < order.index(f"data_none-{seed}")
    if jobs == 1:
        assert order == [f"{cell.name}-{seed}" for cell in matrix.cells for seed in (3, 4)]
    assert {line.split()[1] for line in (matrix.out / "order").read_text().splitlines()} == {"1"}  # threads


def test_an_interruption_ends_the_processes(matrix, monkeypatch):
    monkeypatch.setattr(Small, "command", lambda *_: [sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    started = []

    def interrupt(_seconds):
        started.extend(process for process in launched)
        raise KeyboardInterrupt

    launched, popen = [], subprocess.Popen
    monkeypatch.setattr(pool.subprocess, "Popen", lambda *a, **k: launched.append(popen(*a, **k)) or launched[-1])
    monkeypatch.setattr(pool.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.run_matrix(matrix, 2)
    assert len(started) == 2 and [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_the_remaining_time_follows_the_speed(monkeypatch):
    monkeypatch.setattr(pool.time, "monotonic", lambda: 110.0)
    progress = pool.Progress(left_s=50.0, begun_s=100.0)
    assert progress.add(20.0) == "0:00:15"  # 20 s of work in 10 s, 30 s are left


def test_costs_grow_with_the_work():
    by_name = {cell.name: pool.estimated_s(cell, "tiny") for cell in chosen_cells()}
    assert by_name["sft"] < by_name["removal"] < by_name["sft_gspo"]
    assert by_name["longer_sft"] == pytest.approx(by_name["sft_gspo"], rel=0.1)  # the same minutes
    assert 3 * sum(by_name.values()) < 2 * 6 * 3600  # three seeds on two cores in six hours


def test_the_command_of_a_cell_runs_it_in_its_own_process(tmp_path):
    (cell,) = chosen_cells(["sft"])
    command = pool.Matrix([cell], [0], tmp_path, tmp_path / "out", "smoke").command(cell, 0)
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("sft.jsonl is missing: o3v run --profile smoke --seed 0 --only 01")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.json"))
