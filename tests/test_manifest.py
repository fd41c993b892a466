"""What a stage's key hangs on."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from o3v import manifest
from o3v.manifest import git_state, machine, module_digests, package_versions, stage_key


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of four modules: a imports b, b imports c inside a function, d stands alone."""
    folder = tmp_path / "o3v"
    folder.mkdir()
    sources = {
        "__init__": "",
        "a": "from o3v.b import f\n",
        "b": "def f():\n    from o3v import c\n    return c\n",
        "c": "x = 1\n",
        "d": "import numpy\nfrom . import a\n",
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setattr(manifest, "PACKAGE", folder)
    return folder


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy, o3vision\nfrom o3vision import a", ""),
        ("import o3v", ""),
        ("import o3v.c as see", "c"),
        ("from o3v import c, d", "abcd"),
        ("from o3v.a import f", "abc"),
        ("%matplotlib inline\n!ls\nif x:\n    from o3v.b import f", "bc"),
        ("from o3v.missing import f", ""),
        ("this is no Python", ""),
    ],
)
def test_imports_are_followed_through_the_package_only(source, modules, package):
    assert set(module_digests([source])) == {"__init__", *modules}


def test_comments_do_not_count_and_code_does(package):
    before = module_digests(["from o3v import a"])
    (package / "c.py").write_text("# a remark\nx  =  1\n")
    assert module_digests(["from o3v import a"]) == before
    (package / "c.py").write_text("x = 2\n")
    after = module_digests(["from o3v import a"])
    assert {name for name in before if before[name] != after[name]} == {"c"}
    (package / "c.py").write_text("x = \n")
    assert module_digests(["from o3v import a"])["c"] not in (before["c"], after["c"])


def test_the_key_changes_with_each_thing_that_decides(package, monkeypatch):
    cells = [("markdown", "text"), ("code", "from o3v import a")]
    keys = [
        stage_key(cells, {"seed": 0}),
        stage_key(cells, {"seed": 1}),
        stage_key([("markdown", "other"), cells[1]], {"seed": 0}),
        stage_key([cells[0], ("code", "from o3v import a, c")], {"seed": 0}),
    ]
    assert stage_key(cells, {"seed": 0}) == keys[0]
    monkeypatch.setattr(manifest, "package_versions", lambda names: {"torch": "0"})
    keys.append(stage_key(cells, {"seed": 0}))
    (package / "b.py").write_text("x = 1\n")
    keys.append(stage_key(cells, {"seed": 0}))
    assert len(set(keys)) == len(keys)


def test_the_machine_and_the_packages_are_named_without_torch():
    facts = machine()
    assert set(facts) == {"platform", "cpu", "cores", "memory_mb", "accelerators"}
    assert facts["cores"] >= 1
    assert facts["memory_mb"] > 100
    assert package_versions(("numpy", "no-such-package"))["no-such-package"] is None
    assert re.match(r"\d+\.", package_versions()["numpy"])


def test_git_is_none_outside_a_repository_and_sees_changes(tmp_path):
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
