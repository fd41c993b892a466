"""Tests of `o3v ablate`."""

import pytest

from o3v.__main__ import main
from o3v.ablations import pool, store


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "gsppo"], "gsppo"),
        (["--seeds", "-1"], "must not be negative"),
        (["--jobs", "-2"], "must not be negative"),
        (["--profile", "full"], "'full'; they run with tiny, smoke"),
        (["--seeds", "one"], "one"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    try:
        code = main(["ablate", "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_missing_runs_are_named_before_anything_starts(tmp_path, capsys):
    assert main(["ablate", "--from", str(tmp_path), "--out", str(tmp_path / "out"), "--seeds", "5"]) == 2
    error = capsys.readouterr().err
    assert "tiny-5/01_data_pipeline/sft.jsonl is missing: o3v run --profile tiny --seed 5 --only 01" in error
    assert not (tmp_path / "out").exists()


def test_it_runs_the_chosen_cells_and_reports_failures(tmp_path, monkeypatch, capsys):
    seen = {}

    def run_matrix(matrix, jobs):
        seen.update(cells=[cell.name for cell in matrix.cells], seeds=matrix.seeds, jobs=jobs)
        done = {"seed": 1, "settings": {}, "inputs": {}, "scores": {}, "seconds": {"all": 90.0}}
        store.write_cell(matrix.out, {"cell": "sft", "status": "finished", **done})
        return ["base, seed 1: it burnt"]

    monkeypatch.setattr(pool, "run_matrix", run_matrix)
    monkeypatch.setattr("o3v.cli.ablate.check_runs", lambda matrix: None)
    arguments = ["ablate", "--cells", "gspo_alone", "sft", "--seeds", "1", "1", "--jobs", "2", "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert seen == {"cells": ["sft", "format_only", "gspo_alone"], "seeds": [1], "jobs": 2}
    captured = capsys.readouterr()
    assert captured.err == "o3v: base, seed 1: it burnt\n"
    assert "sft, seed 1: finished, 1.5 min" in captured.out and "ablations.json" in captured.out
    assert main(["ablate", "--list", "--out", str(tmp_path)]) == 0  # runs nothing
    assert "1 cells, 0.0 hours" in capsys.readouterr().out
