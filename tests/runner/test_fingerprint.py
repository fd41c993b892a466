"""Tests of the key of a stage and of the facts in the manifest."""

import re
import shutil
import subprocess

import pytest

from o3v import code_digest
from o3v.runner import fingerprint
from o3v.runner.fingerprint import git_state, machine, package_versions, stage_key
from o3v.runner.notebook import read_notebook
from o3v.runner.plan import NOTEBOOKS


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules: a imports b; c is not imported."""
    folder = tmp_path / "o3v"
    folder.mkdir()
    for name, source in {"__init__": "", "a": "from o3v.b import f\n", "b": "f = 0\n", "c": "x = 1\n"}.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setattr(code_digest, "PACKAGE", folder)
    return folder


def test_the_key_changes_with_everything_that_decides_the_results(package, monkeypatch):
    cells = [("markdown", "text"), ("code", "from o3v import a")]
    keys = [
        stage_key(cells, {"seed": 0}),
        stage_key(cells, {"seed": 1}),
        stage_key([("markdown", "other"), cells[1]], {"seed": 0}),
        stage_key([cells[0], ("code", "from o3v import a, c")], {"seed": 0}),
    ]
    assert stage_key(cells, {"seed": 0}) == keys[0]
    monkeypatch.setattr(fingerprint, "package_versions", lambda: {"torch": "0"})
    keys.append(stage_key(cells, {"seed": 0}))
    (package / "b.py").write_text("x = 1\n")
    keys.append(stage_key(cells, {"seed": 0}))
    assert len(set(keys)) == len(keys)


def test_facts_about_machine_and_packages():
    facts = machine()
    assert set(facts) == {"platform", "cpu", "cores", "memory_mb", "accelerators"}
    assert facts["cores"] >= 1
    assert facts["memory_mb"] > 100
    assert re.match(r"\d+\.", package_versions()["numpy"])


def test_git_state_is_none_outside_a_repository_and_reports_changes(tmp_path):
    assert git_state(tmp_path) is None
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    options = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", tmp_path, *options, *command], check=True)
    state = git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", state["commit"])
    assert state["dirty"] is False
    (tmp_path / "new").write_text("")
    assert git_state(tmp_path)["dirty"] is True


@pytest.mark.parametrize("number", ["01", "02", "03", "04", "05"])
def test_the_key_of_a_notebook_that_loads_a_model_depends_on_the_base_weights(number):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    cells = read_notebook(path).cells
    assert stage_key(cells, {}, "weights") != stage_key(cells, {}, "other weights")


def test_the_key_of_a_notebook_without_a_model_does_not_depend_on_the_base_weights():
    cells = read_notebook(NOTEBOOKS / "00_overview.ipynb").cells
    assert stage_key(cells, {}, "weights") == stage_key(cells, {}, "other weights")
