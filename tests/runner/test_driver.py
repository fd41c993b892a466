"""The driver: skipping, failing, dying and going on. Real kernels only where a kernel is the point."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers.toy_notebooks import PARAMETERS, execute_here, write_notebook, write_toys, write_training

from o3v import code_digest
from o3v.__main__ import main
from o3v.runner import driver
from o3v.runner.notebook import UsageError

SIDE_ENDS = "\nfrom o3v.runner.stage import open_stage\nopen_stage(run_dir, '02_side').record({}, [])"
ALL = ["01_make", "02_side", "03_use"]


@pytest.fixture
def toys(tmp_path):
    return write_toys(tmp_path / "notebooks")


@pytest.fixture
def ran(monkeypatch):
    """Names of the notebooks that ran since the last look; they run in this process, without kernels."""
    names = []

    def execute(source, output, parameters, **options):
        names.append(source.stem)
        return execute_here(source, output, parameters, **options)

    monkeypatch.setattr(driver, "execute", execute)
    return names


@pytest.fixture
def go(toys, tmp_path, ran):
    """Runs the toys and returns which of them ran."""

    def go(profile="smoke", seed=1, **choices):
        ran.clear()
        summary = driver.run(profile, seed, tmp_path / "runs", notebooks=toys, **choices)
        assert summary.error is None
        return list(ran)

    return go


def results(run_dir):
    """Everything that the notebooks left in a run, by path."""
    paths = [path for name in ALL for path in (run_dir / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(run_dir)): path.read_text() for path in paths}


def test_a_missing_input_names_the_notebook_to_run_first(toys, tmp_path, ran):
    summary = driver.run("smoke", 1, tmp_path / "runs", only="03", notebooks=toys)
    assert summary.error.startswith("03_use.ipynb failed at a cell: MissingInput: ")
    assert "run notebooks/01_make.ipynb with the same run_dir first" in summary.error


def test_a_second_driver_is_refused(go, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "LOCK_WAIT_S", 0.1)
    (tmp_path / "runs/smoke-1").mkdir(parents=True)
    with (tmp_path / "runs/smoke-1/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="smoke-1 is in use by another o3v run"):
            go()
        assert go(seed=2) == ALL
    assert go() == ALL


def test_a_notebook_that_records_nothing_has_failed(toys, tmp_path, ran):
    write_notebook(toys / "02_side.ipynb", "x = 1")
    summary = driver.run("smoke", 1, tmp_path / "runs", notebooks=toys)
    assert "02_side.ipynb failed at its end: it recorded no results" in summary.error
    assert ran == ALL[:2]


def test_what_has_not_changed_is_skipped_and_said_so(go, tmp_path, caplog):
    assert go() == ALL
    first = results(tmp_path / "runs/smoke-1")
    assert first["01_make/number.txt"] == "2.0"
    assert json.loads(first["03_use/results.json"]) == {"twice": 4.0}
    caplog.clear()
    with caplog.at_level(logging.INFO, "o3v"):
        assert go() == []
    assert [line.split()[:2] for line in caplog.messages] == [[name, "skipped:"] for name in ALL]
    assert results(tmp_path / "runs/smoke-1") == first
    assert go(seed=2) == ALL


def test_a_change_of_a_notebook_or_parameter_reruns_what_hangs_on_it(go, toys, tmp_path):
    go()
    notebook = toys / "01_make.ipynb"
    notebook.write_text(notebook.read_text().replace("What follows.", "What comes."))
    assert go() == ["01_make"]  # its text is part of the page, its number is the same
    notebook.write_text(notebook.read_text().replace("factor = 2.0", "factor = 3.0"))
    assert go() == ["01_make", "03_use"]
    assert json.loads((tmp_path / "runs/smoke-1/03_use/results.json").read_text()) == {"twice": 6.0}
    assert go(overrides={"03.word": "b"}) == ALL  # another run


def test_a_change_of_a_module_reruns_what_imports_it(go, tmp_path, monkeypatch):
    package = tmp_path / "o3v"
    shutil.copytree(code_digest.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "PACKAGE", package)
    go()
    for name, change, rerun in [
        ("geometry", "\n# a remark\n", []),
        ("geometry", "\nMORE = 1\n", ["02_side"]),
        ("runner/notebook", "\nMORE = 1\n", []),
        ("runner/stage", "\nMORE = 1\n", ALL),
    ]:
        with (package / f"{name}.py").open("a") as source:
            source.write(change)
        assert go() == rerun


@pytest.mark.parametrize(
    ("touched", "rerun"),
    [
        ("01_make/number.txt", ["01_make"]),  # made again as it was, so nothing else needs to
        ("01_make/stage.json", ["01_make"]),
        ("02_side/results.json", ["02_side"]),
        ("02_side.html", ["02_side"]),
        ("03_use.ipynb", ["03_use"]),
    ],
)
def test_a_file_that_was_touched_or_lost_is_made_again(touched, rerun, go, tmp_path):
    go()
    run_dir = tmp_path / "runs/smoke-1"
    first = results(run_dir)
    if touched.endswith("number.txt"):
        (run_dir / touched).write_text("9")
    else:
        (run_dir / touched).unlink()
    assert go() == rerun
    assert results(run_dir) == first
    assert go() == []


def test_results_recorded_by_hand_are_not_the_driver_s(go, toys, tmp_path):
    go()
    run_dir = tmp_path / "runs/smoke-1"
    execute_here(toys / "01_make.ipynb", tmp_path / "x.ipynb", {"seed": 5, "run_dir": str(run_dir)})
    assert go() == ["01_make"]
    assert (run_dir / "01_make/number.txt").read_text() == "2.0"


def test_from_and_only_choose(go):
    assert go(only="01") == ["01_make"]
    assert go(start_from="2") == ["02_side", "03_use"]
    assert go() == []


def test_resume_goes_on_with_the_same_parameters(go, tmp_path):
    assert go(overrides={"01.factor": "1e-6"}, only="01") == ["01_make"]
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert go(profile=None, seed=None, resume=run_dir.name) == ["02_side", "03_use"]
    assert (run_dir / "01_make/number.txt").read_text() == "1e-06"


def test_the_manifest_says_what_was_run(go, tmp_path):
    go(overrides={"01.factor": 3})
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    told = json.loads(path.read_text())
    assert told["run_id"] == path.parent.name
    assert (told["profile"], told["seed"], told["overrides"]) == ("smoke", 1, {"01_make.factor": 3.0})
    assert told["git"] is None
    assert {"python", "packages", "o3v", "machine"} < told.keys()
    stage = told["stages"]["03_use"]
    assert stage["status"] == "done"
    assert stage["notebook"] == "03_use.ipynb"
    assert stage["parameters"] == {"profile": "smoke", "seed": 1, "word": "a"}
    assert stage["inputs"] == {"01_make/number.txt": told["stages"]["01_make"]["outputs"]["number.txt"]}
    assert stage["outputs"].keys() == {"results.json", "metrics.json"}
    assert (stage["duration_s"], stage["peak_memory_mb"]) == (1.0, 50)


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


@pytest.fixture
def training(tmp_path):
    return write_training(tmp_path / "notebooks")


# seed 1 and factor 2.0 make the number 2.0
SUM = ((2.0 * 3 + 3.0) * 3 + 4.0) * 3 + 5.0


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("earlier", [False, True], ids=["fresh", "over-older-results"])
def test_killed_at_any_write_and_run_again_gives_the_same(after, earlier, training, tmp_path, ran, monkeypatch):
    """Dies when the k-th file is moved into place, or just after it, for every k; the next run must not notice."""
    replace, moment, ended = os.replace, 0, False
    while not ended:
        out, left = tmp_path / str(moment), [moment]
        if earlier:  # the folder holds what another version of the first notebook led to
            replace_in(training / "01_make.ipynb", "factor = 2.0", "factor = 3.0")
            driver.run("smoke", 1, out, notebooks=training)
            replace_in(training / "01_make.ipynb", "factor = 3.0", "factor = 2.0")

        def dying(source, target, left=left):
            left[0] -= 1
            if left[0] != -1 or after:
                replace(source, target)
            if left[0] == -1:
                raise Killed

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", dying)
            driver.run("smoke", 1, out, notebooks=training)
            ended = True
        assert driver.run("smoke", 1, out, notebooks=training).error is None
        assert json.loads((out / "smoke-1/02_train/results.json").read_text()) == {"sum": SUM}
        told = json.loads((out / "smoke-1/manifest.json").read_text())["stages"]
        assert [stage["status"] for stage in told.values()] == ["done", "done"]
        assert not list((out / "smoke-1").glob(".manifest*"))
        moment += 1
    assert moment > 14  # 5 manifests, 4 checkpoints, 1 number, 2 × (results and stage)


@pytest.mark.parametrize(
    ("notebook", "old", "new", "starts"),
    [
        ("02_train.ipynb", "seed = 0", "seed = 0", [0, 2]),  # nothing: it goes on from its checkpoint
        ("02_train.ipynb", "pause_s = 0.0", "pause_s = 0.001", [0]),
        ("01_make.ipynb", "factor = 2.0", "factor = 3.0", [0]),
        ("01_make.ipynb", "What follows.", "What comes.", [0, 2]),  # it made the same number again
    ],
)
def test_a_stage_cut_short_goes_on_only_if_nothing_changed(notebook, old, new, starts, training, tmp_path, ran):
    out = tmp_path / "runs"
    out.mkdir()
    (out / "stop").touch()
    summary = driver.run("smoke", 1, out, notebooks=training)
    assert "02_train.ipynb failed at a cell: AssertionError: told to stop" in summary.error
    (out / "stop").unlink()
    replace_in(training / notebook, old, new)
    assert driver.run("smoke", 1, out, notebooks=training).error is None
    assert json.loads((out / "smoke-1/02_train/state.json").read_text())["starts"] == starts


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "o3v", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_driver_killed_in_the_middle_and_started_again_ends_the_same(training, tmp_path):
    """With real kernels: the first one must be gone before the second writes, and one line goes to stderr or none."""
    given = ("--profile", "smoke", "--seed", 1, "--notebooks", training, "--out", tmp_path, "-p", "02.pause_s=0.7")
    first = command(*given)
    states = []
    deadline = time.monotonic() + 60
    while not states and time.monotonic() < deadline:
        time.sleep(0.05)
        states = list(tmp_path.glob("smoke-1-*/02_train/state.json"))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = command(*given)
    lines, complaints = second.communicate(timeout=100)
    assert (second.returncode, complaints) == (0, "")
    assert "01_make          skipped: nothing has changed" in lines
    state = json.loads(states[0].read_text())
    assert (state["sum"], len(state["starts"]), state["steps"]) == (SUM, 2, 4)
    third = command(*given)
    lines, _ = third.communicate(timeout=100)
    assert lines.count("skipped") == 2


def test_a_failing_cell_ends_the_command_with_one_message(toys, tmp_path):
    write_notebook(toys / "02_side.ipynb", "print('as far as this')\n---\nraise ValueError('no luck')\n---\n1")
    driver = command("--profile", "smoke", "--notebooks", toys, "--out", "here", cwd=tmp_path)
    lines, complaints = driver.communicate(timeout=100)
    assert driver.returncode == 1
    assert complaints == (
        "o3v: 02_side.ipynb failed at cell [4] (raise ValueError('no luck')): ValueError: no luck"
        " (see here/smoke-0/02_side.html)\n"
    )
    assert "01_make          ran in " in lines
    assert "as far as this" in (tmp_path / "here/smoke-0/02_side.html").read_text()
    assert (tmp_path / "here/smoke-0/02_side.ipynb").exists()
    assert not (tmp_path / "here/smoke-0/03_use.ipynb").exists()
    stages = json.loads((tmp_path / "here/smoke-0/manifest.json").read_text())["stages"]
    assert [stage["status"] for stage in stages.values()] == ["done", "failed"]
    assert stages["02_side"]["error"] == "cell [4] (raise ValueError('no luck')): ValueError: no luck"


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
        ["--resume", "smoke-7"],
        ["--timeout", "0"],
        ["--unknown"],
    ],
)
def test_an_error_of_use_is_one_line_and_exit_code_2(arguments, toys, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text("a: [1\nb: 2")
    try:
        code = main(["run", "--notebooks", str(toys), *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_ends_with_the_table(toys, tmp_path, ran, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (toys / "03_use.ipynb").rename(toys / "05_evaluation.ipynb")
    replace_in(toys / "05_evaluation.ipynb", "03_use", "05_evaluation")
    assert main(["run", "--profile", "smoke", "--seed", "1", "--notebooks", str(toys)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines(keepends=True) if ": recorded " not in line]
    assert "".join(lines) == (  # a kernel keeps the lines of `record` to itself
        "run smoke-1 in runs/smoke-1\n"
        "01_make          ran in 1.0 s, peak memory 50 MB\n"
        "02_side          ran in 1.0 s, peak memory 50 MB\n"
        "05_evaluation    ran in 1.0 s, peak memory 50 MB\n"
        "\n"
        "          accuracy  m_tIoU  m_vIoU  mAM  mLGM  format rate\n"
        "base             –       –       –    –     –        2.000\n"
        "SFT+GSPO         –       –       –    –     –        2.000\n"
        "total 3.0 s, peak memory 50 MB\n"
        "to look at: runs/smoke-1/*.html, beside them figures, metrics and manifest.json\n"
    )


def test_a_matrix_runs_every_combination_and_ends_with_a_table(toys, tmp_path, ran, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text("seed: [1, 2]\n01.factor: [1e-6, 2]\n")
    write_notebook(toys / "02_side.ipynb", "assert seed == 1, 'not for me'" + SIDE_ENDS, PARAMETERS)
    arguments = ["run", "--profile", "smoke", "--notebooks", str(toys), "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--matrix", str(grid)]) == 1
    told = capsys.readouterr()
    assert told.err.count("02_side.ipynb failed at a cell: AssertionError: not for me") == 2
    table = [line.split()[:2] for line in told.out.splitlines()[-4:]]
    assert [ended for _, ended in table] == ["well", "well", "failed", "failed"]
    assert len({run_id for run_id, _ in table}) == 4
    numbers = {path.read_text() for path in tmp_path.glob("runs/*/01_make/number.txt")}
    assert numbers == {"1e-06", "2.0", "2e-06", "4.0"}
