"""Tests of the driver: skipped, failed, killed and resumed runs. Real kernels only where a test needs one."""

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
from helpers.toy_notebooks import PARAMETERS, USE, execute_here, write_notebook, write_toys, write_training

from o3v import code_digest
from o3v.runner import driver, paths
from o3v.runner.plan import plan_resumed, plan_run

ALL = ["01_make", "02_side", "03_use"]


@pytest.fixture
def toys(tmp_path):
    return write_toys(tmp_path / "notebooks")


@pytest.fixture
def ran(monkeypatch):
    """Makes notebooks run in this process. Collects the names of those that ran."""
    names = []

    def execute(source, output, parameters, **options):
        names.append(source.stem)
        return execute_here(source, output, parameters, **options)

    monkeypatch.setattr(driver, "execute", execute)
    return names


@pytest.fixture
def go(toys, tmp_path, ran):
    """Runs the toy notebooks and returns the names of those that ran."""

    def go(profile="smoke", seed=1, **options):
        ran.clear()
        error = driver.run(plan_run(profile, seed, tmp_path / "runs", notebooks=toys, **options))
        assert error is None
        return list(ran)

    return go


def results(run_dir):
    """Returns the text of all files that the notebooks wrote in a run, by path."""
    files = [path for name in ALL for path in (run_dir / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(run_dir)): path.read_text() for path in files}


def test_a_missing_input_names_the_notebook_to_run_first(toys, tmp_path, ran):
    error = driver.run(plan_run("smoke", 1, tmp_path / "runs", only="03", notebooks=toys))
    assert error.startswith("03_use.ipynb failed at a cell: FileNotFoundError: ")
    assert "run notebooks/01_make.ipynb with the same run_dir first" in error


def test_a_second_driver_on_the_same_run_raises_an_error(go, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "LOCK_WAIT_S", 0.1)
    (tmp_path / "runs/smoke-1").mkdir(parents=True)
    with (tmp_path / "runs/smoke-1/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="smoke-1 is used by another"):
            go()
        assert go(seed=2) == ALL
    assert go() == ALL


def test_a_notebook_that_records_no_results_has_failed(toys, tmp_path, ran):
    write_notebook(toys / "02_side.ipynb", "x = 1")
    error = driver.run(plan_run("smoke", 1, tmp_path / "runs", notebooks=toys))
    assert "02_side.ipynb failed at its end: it recorded no results" in error
    assert ran == ALL[:2]


def test_unchanged_notebooks_are_skipped_and_logged(go, tmp_path, caplog):
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


def test_a_changed_notebook_or_parameter_reruns_what_depends_on_it(go, toys, tmp_path):
    go()
    notebook = toys / "01_make.ipynb"
    notebook.write_text(notebook.read_text().replace("What follows.", "What comes."))
    assert go() == ["01_make"]  # its page changes, its number does not
    notebook.write_text(notebook.read_text().replace("factor = 2.0", "factor = 3.0"))
    assert go() == ["01_make", "03_use"]
    assert json.loads((tmp_path / "runs/smoke-1/03_use/results.json").read_text()) == {"twice": 6.0}
    assert go(overrides={"03.word": "b"}) == ALL  # another run


def test_a_changed_module_reruns_the_notebooks_that_import_it(go, tmp_path, monkeypatch):
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
    ("name", "rerun"),
    [
        ("01_make/number.txt", ["01_make"]),  # the same number again, so 03 need not run
        ("01_make/stage.json", ["01_make"]),
        ("02_side/results.json", ["02_side"]),
        ("02_side.html", ["02_side"]),
        ("03_use.ipynb", ["03_use"]),
    ],
)
def test_a_changed_or_missing_file_is_written_again(name, rerun, go, tmp_path):
    go()
    run_dir = tmp_path / "runs/smoke-1"
    first = results(run_dir)
    if name.endswith("number.txt"):
        (run_dir / name).write_text("9")
    else:
        (run_dir / name).unlink()
    assert go() == rerun
    assert results(run_dir) == first
    assert go() == []


def test_results_of_a_notebook_run_by_hand_are_not_trusted(go, toys, tmp_path):
    go()
    run_dir = tmp_path / "runs/smoke-1"
    execute_here(toys / "01_make.ipynb", tmp_path / "x.ipynb", {"seed": 5, "run_dir": str(run_dir)})
    assert go() == ["01_make"]
    assert (run_dir / "01_make/number.txt").read_text() == "2.0"


def test_from_and_only_select_notebooks(go):
    assert go(only="01") == ["01_make"]
    assert go(start_from="2") == ["02_side", "03_use"]
    assert go() == []


def test_a_resumed_run_has_the_same_parameters(go, toys, ran, tmp_path):
    assert go(overrides={"01.factor": "1e-6"}, only="01") == ["01_make"]
    (run_dir,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    ran.clear()
    assert driver.run(plan_resumed(run_dir.name, tmp_path / "runs", notebooks=toys)) is None
    assert ran == ["02_side", "03_use"]
    assert (run_dir / "01_make/number.txt").read_text() == "1e-06"


def test_the_manifest_describes_the_run(go, tmp_path):
    go(overrides={"01.factor": 3})
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["run_id"] == path.parent.name
    assert (manifest["profile"], manifest["seed"], manifest["overrides"]) == ("smoke", 1, {"01_make.factor": 3.0})
    assert manifest["git"] is None
    assert {"python", "packages", "o3v", "machine"} < manifest.keys()
    stage = manifest["stages"]["03_use"]
    assert stage["status"] == "done"
    assert stage["notebook"] == "03_use.ipynb"
    assert stage["parameters"] == {"profile": "smoke", "seed": 1, "word": "a"}
    assert stage["inputs"] == {"01_make/number.txt": manifest["stages"]["01_make"]["outputs"]["number.txt"]}
    assert stage["outputs"].keys() == {"results.json", "metrics.json"}
    assert (stage["duration_s"], stage["peak_memory_mb"]) == (1.0, 50)


class Killed(BaseException):
    """Replaces kill -9: no code of the driver runs after it."""


@pytest.fixture
def training(tmp_path):
    return write_training(tmp_path / "notebooks")


# the training starts from the number 2.0 (seed 1, factor 2.0)
SUM = ((2.0 * 3 + 3.0) * 3 + 4.0) * 3 + 5.0


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("earlier", [False, True], ids=["fresh", "over-older-results"])
def test_a_run_killed_at_any_write_and_repeated_gives_the_same_results(
    after, earlier, training, tmp_path, ran, monkeypatch
):
    """Kills the driver before or after it replaces its k-th file, for every k, and runs it again."""
    replace, kill_at, ended = os.replace, 0, False
    while not ended:
        out, left = tmp_path / str(kill_at), [kill_at]
        if earlier:  # the folder has results of another version of the first notebook
            replace_in(training / "01_make.ipynb", "factor = 2.0", "factor = 3.0")
            driver.run(plan_run("smoke", 1, out, notebooks=training))
            replace_in(training / "01_make.ipynb", "factor = 3.0", "factor = 2.0")

        def dying(source, target, left=left):
            left[0] -= 1
            if left[0] != -1 or after:
                replace(source, target)
            if left[0] == -1:
                raise Killed

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", dying)
            driver.run(plan_run("smoke", 1, out, notebooks=training))
            ended = True
        assert driver.run(plan_run("smoke", 1, out, notebooks=training)) is None
        assert json.loads((out / "smoke-1/02_train/results.json").read_text()) == {"sum": SUM}
        stages = json.loads((out / "smoke-1/manifest.json").read_text())["stages"]
        assert [stage["status"] for stage in stages.values()] == ["done", "done"]
        assert not list((out / "smoke-1").glob(".manifest*"))
        kill_at += 1
    assert kill_at > 14  # 5 manifests, 4 checkpoints, 1 number, 2 × (results and stage)


@pytest.mark.parametrize(
    ("notebook", "old", "new", "reason"),
    [
        ("02_train.ipynb", "seed = 0", "seed = 0", None),  # no change
        ("02_train.ipynb", "pause_s = 0.0", "pause_s = 0.001", driver.CHANGES["key"]),
        ("01_make.ipynb", "factor = 2.0", "factor = 3.0", driver.CHANGES["earlier"]),
        ("01_make.ipynb", "What follows.", "What comes.", None),  # 01 writes the same number again
    ],
)
def test_an_interrupted_stage_continues_only_if_nothing_changed(
    notebook, old, new, reason, training, tmp_path, ran, caplog
):
    """If something changed, the unfinished work is removed, and a log line names the folder and the reason."""
    out = tmp_path / "runs"
    out.mkdir()
    (out / "stop").touch()
    error = driver.run(plan_run("smoke", 1, out, notebooks=training))
    assert "02_train.ipynb failed at a cell: AssertionError: stop file found" in error
    (out / "stop").unlink()
    replace_in(training / notebook, old, new)
    assert driver.run(plan_run("smoke", 1, out, notebooks=training)) is None
    starts = json.loads((out / "smoke-1/02_train/state.json").read_text())["starts"]
    assert starts == ([0] if reason else [0, 2])
    removed = [line for line in caplog.messages if "removing unfinished work" in line]
    assert len(removed) == bool(reason)
    assert not reason or (f"{out / 'smoke-1/02_train'}: {reason}" in removed[0])


def test_finished_work_is_removed_without_a_warning(go, toys, caplog):
    go()
    replace_in(toys / "01_make.ipynb", "factor = 2.0", "factor = 3.0")
    assert go() == ["01_make", "03_use"]
    assert "removing" not in caplog.text


def test_the_key_of_a_stage_does_not_depend_on_the_folder_of_the_run(toys, tmp_path, ran):
    plans = [plan_run("smoke", 1, tmp_path / out, notebooks=toys) for out in ("here", "there/deep")]
    assert [driver.run(plan) for plan in plans] == [None, None]
    manifests = [json.loads((plan.run_dir / "manifest.json").read_text()) for plan in plans]
    first, second = [{name: stage["key"] for name, stage in m["stages"].items()} for m in manifests]
    assert first == second


def test_pages_do_not_contain_the_path_of_the_repository(tmp_path, monkeypatch):
    """With real kernels, in a folder that stands for the repository."""
    root = tmp_path / "repository"
    monkeypatch.setattr(paths, "REPOSITORY", root)
    toys = write_toys(root / "notebooks")
    code = "import pathlib, sys\nhere = pathlib.Path.cwd()\nprint(here, here.parent, file=sys.stderr)\nstage\n"
    write_notebook(toys / "03_use.ipynb", USE + "---\n" + code, PARAMETERS + "word = 'a'\n")
    plan = plan_run("smoke", 1, root / "runs", overrides={"03.word": str(root / "a.mp4")}, notebooks=toys)
    assert driver.run(plan) is None
    pages = [plan.run_dir / f"{name}{ending}" for name in ALL for ending in (".ipynb", ".html")]
    assert [page.name for page in pages if str(root) in page.read_text(encoding="utf-8")] == []
    executed = json.loads((plan.run_dir / "03_use.ipynb").read_text(encoding="utf-8"))
    given = executed["metadata"]["papermill"]["parameters"]
    assert (given["run_dir"], given["word"]) == (f"../runs/{plan.run_dir.name}", "a.mp4")
    assert executed["metadata"]["papermill"]["input_path"] == "notebooks/03_use.ipynb"


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "o3v", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_killed_driver_started_again_gives_the_same_results(training, tmp_path):
    """With real kernels: the kernel of the first driver must end before the second driver writes."""
    arguments = ("--profile", "smoke", "--seed", 1, "--notebooks", training, "--out", tmp_path, "-p", "02.pause_s=0.7")
    first = command(*arguments)
    states = []
    deadline = time.monotonic() + 60
    while not states and time.monotonic() < deadline:
        time.sleep(0.05)
        states = list(tmp_path.glob("smoke-1-*/02_train/state.json"))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = command(*arguments)
    output, errors = second.communicate(timeout=100)
    assert (second.returncode, errors) == (0, "")
    assert "01_make          skipped: nothing has changed" in output
    state = json.loads(states[0].read_text())
    assert (state["sum"], len(state["starts"]), state["steps"]) == (SUM, 2, 4)
    third = command(*arguments)
    output, _ = third.communicate(timeout=100)
    assert output.count("skipped") == 2


def test_a_failing_cell_ends_the_command_with_one_message(toys, tmp_path):
    write_notebook(toys / "02_side.ipynb", "print('as far as this')\n---\nraise ValueError('no luck')\n---\n1")
    driver = command("--profile", "smoke", "--notebooks", toys, "--out", "here", cwd=tmp_path)
    output, errors = driver.communicate(timeout=100)
    assert driver.returncode == 1
    assert errors == (
        "o3v: 02_side.ipynb failed at cell [4] (raise ValueError('no luck')): ValueError: no luck"
        " (see here/smoke-0/02_side.html)\n"
    )
    assert "01_make          ran in " in output
    assert "as far as this" in (tmp_path / "here/smoke-0/02_side.html").read_text()
    assert (tmp_path / "here/smoke-0/02_side.ipynb").exists()
    assert not (tmp_path / "here/smoke-0/03_use.ipynb").exists()
    stages = json.loads((tmp_path / "here/smoke-0/manifest.json").read_text())["stages"]
    assert [stage["status"] for stage in stages.values()] == ["done", "failed"]
    assert stages["02_side"]["error"] == "cell [4] (raise ValueError('no luck')): ValueError: no luck"
