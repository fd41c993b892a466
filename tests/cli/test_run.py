"""Tests of `o3v run` and of the help of all commands. Notebooks run in this process, without kernels."""

import json

import pytest
from helpers.toy_notebooks import PARAMETERS, execute_here, write_notebook, write_toys

from o3v.__main__ import main
from o3v.runner import driver

RECORD_SIDE = "\nfrom o3v.runner.stage import open_stage\nopen_stage(run_dir, '02_side').record({}, [])"


@pytest.fixture
def toys(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "execute", execute_here)
    return write_toys(tmp_path / "notebooks")


@pytest.mark.parametrize(
    "command", ["", "run", "check-data", "sift", "score", "annotate", "ask", "verify", "compare", "publish"]
)
def test_each_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert f"usage: o3v {command}".strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--profile", "smoke"], ["--seed", "1"], ["-p", "01.factor=1"], ["--matrix", "grid"]]
)
def test_options_that_a_resumed_run_has_already_are_refused(option, toys, tmp_path, capsys):
    arguments = ["run", "--notebooks", str(toys), "--out", str(tmp_path), "--resume", "smoke-1"]
    assert main([*arguments, *option]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_run_is_resumed_by_its_name(toys, tmp_path):
    arguments = ["run", "--notebooks", str(toys), "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--profile", "smoke", "-p", "01.factor=3", "--only", "01"]) == 0
    (run_dir,) = (tmp_path / "runs").glob("smoke*")
    assert main([*arguments, "--resume", run_dir.name]) == 0
    assert json.loads((run_dir / "03_use/results.json").read_text()) == {"twice": 0.0}  # seed 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "huge"],
        ["--seed", "x"],
        ["-p", "01.factor"],
        ["-p", "01.factor=big"],
        ["-p", "01.factor=1", "-p", "01.factor=2"],
        ["--matrix", "no-such-file.yaml"],
        ["--matrix", "grid.yaml"],
        ["--config", "no-such-file.yaml"],
        ["--config", "grid.yaml"],
        ["--config", "list.yaml"],
        ["--config", "unknown.yaml"],
        ["--resume", "smoke-7"],
        ["--timeout", "0"],
        ["--unknown"],
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(arguments, toys, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text("a: [1\nb: 2")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "unknown.yaml").write_text("words: b")
    try:
        code = main(["run", "--notebooks", str(toys), *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_ends_with_a_table_of_results(toys, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = (toys / "03_use.ipynb").rename(toys / "05_evaluation.ipynb")
    notebook.write_text(notebook.read_text().replace("03_use", "05_evaluation"))
    assert main(["run", "--profile", "smoke", "--seed", "1", "--notebooks", str(toys)]) == 0
    output = capsys.readouterr().out
    assert "runs/smoke-1/*.html" in output
    assert [line.split() for line in output.splitlines()[-3:]] == [
        ["run", "status", "time", "peak", "MB", "model", "accuracy", "m_tiou", "m_viou", "mam", "mlgm", "format_rate"],
        ["smoke-1", "done", "0:00:03", "50", "base", "–", "–", "–", "–", "–", "2.000"],
        ["smoke-1", "done", "0:00:03", "50", "sft_gspo", "–", "–", "–", "–", "–", "2.000"],
    ]


def test_a_configuration_names_profile_seed_and_parameters(toys, tmp_path):
    (tmp_path / "run.yaml").write_text("profile: smoke\nseed: 2\nfactor: 3\n03.word: b\n")
    arguments = [
        "run",
        "--notebooks",
        str(toys),
        "--out",
        str(tmp_path / "runs"),
        "--config",
        str(tmp_path / "run.yaml"),
    ]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "5", "-p", "factor=1e-1"]) == 0  # the command line comes first
    made = {path.name.split("-")[1]: path for path in (tmp_path / "runs").glob("smoke-*")}
    assert {seed: float((path / "01_make/number.txt").read_text()) for seed, path in made.items()} == {"2": 6, "5": 0.5}
    manifest = json.loads((made["5"] / "manifest.json").read_text())
    assert manifest["overrides"] == {"01_make.factor": 0.1, "03_use.word": "b"}


def test_a_matrix_runs_every_combination_and_ends_with_a_table(toys, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text("seed: [1, 2]\n01.factor: [1e-6, 2]\n")
    write_notebook(toys / "02_side.ipynb", "assert seed == 1, 'not with this seed'" + RECORD_SIDE, PARAMETERS)
    arguments = ["run", "--profile", "smoke", "--notebooks", str(toys), "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--matrix", str(grid)]) == 1
    output = capsys.readouterr()
    assert output.err.count("02_side.ipynb failed at a cell: AssertionError: not with this seed") == 2
    table = [line.split()[:2] for line in output.out.splitlines()[-4:]]
    assert [status for _, status in table] == ["done", "done", "failed", "failed"]
    assert len({run_id for run_id, _ in table}) == 4
    numbers = {path.read_text() for path in tmp_path.glob("runs/*/01_make/number.txt")}
    assert numbers == {"1e-06", "2.0", "2e-06", "4.0"}
