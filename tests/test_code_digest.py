"""Tests of the digests of source code: they cover all imported modules, at any depth of packages."""

from __future__ import annotations

import types

import pytest

from o3v import code_digest
from o3v.code_digest import module_digests

FILES = {
    "__init__.py": "",
    "a.py": "from o3v.b import f\n",
    "b.py": "def f():\n    from o3v import c\n    return c\n",
    "c.py": '"""A text."""\n\nx = 1\n',
    "d.py": "import numpy\nfrom . import a\n",
    "rewards/__init__.py": "from o3v.rewards.grounded import score\n",
    "rewards/grounded.py": "from o3v.rewards import terms\n\n\ndef score():\n    return terms.one\n",
    "rewards/terms.py": "from ..c import x\n\none = x\n",
    "training/__init__.py": "",
    "training/gspo.py": "from . import loop\nfrom ..rewards import score\n",
    "training/loop.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """a imports b; b imports c inside a function; d imports a. Two packages have relative and dotted imports."""
    folder = tmp_path / "o3v"
    for name, source in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(code_digest, "PACKAGE", folder)
    return folder


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy, o3vision\nfrom o3vision import a", ""),
        ("import o3v", ""),
        ("import o3v.c as see", "c"),
        ("from o3v import c, d", "a b c d"),
        ("from o3v.a import f", "a b c"),
        ("%matplotlib inline\n!ls\nif x:\n    from o3v.b import f", "b c"),
        ("from o3v.missing import f", ""),
        ("this is not Python", ""),
        ("from o3v.rewards.terms import one", "rewards rewards.grounded rewards.terms c"),
        ("import o3v.rewards.terms", "rewards rewards.grounded rewards.terms c"),
        ("from o3v.rewards import score", "rewards rewards.grounded rewards.terms c"),
        ("from o3v import rewards", "rewards rewards.grounded rewards.terms c"),
        ("from o3v.training import loop", "training training.loop"),
        (
            "from o3v.training import gspo",
            "training training.gspo training.loop rewards rewards.grounded rewards.terms c",
        ),
    ],
)
def test_imports_are_followed_through_packages(source, modules, package):
    assert set(module_digests([source])) == {"o3v", *(f"o3v.{name}" for name in modules.split())}


def test_code_changes_a_digest_and_comments_layout_and_docstrings_do_not(package):
    before = module_digests(["from o3v import a"])
    (package / "c.py").write_text('"""Another text."""\n# a remark\nx  =  1\n')
    assert module_digests(["from o3v import a"]) == before
    (package / "c.py").write_text("x = 2\n")
    after = module_digests(["from o3v import a"])
    assert {name for name in before if before[name] != after[name]} == {"o3v.c"}
    (package / "c.py").write_text("x = \n")
    assert module_digests(["from o3v import a"])["o3v.c"] not in (before["o3v.c"], after["o3v.c"])


def test_a_change_deep_in_a_package_changes_the_digest_of_what_imports_it(package):
    module = types.ModuleType("o3v.training.gspo")
    before = code_digest.code_digest(module)
    assert code_digest.code_digest(module) == before
    (package / "d.py").write_text("x = 1\n")  # not imported
    assert code_digest.code_digest(module) == before
    (package / "rewards" / "terms.py").write_text("one = 2\n")
    assert code_digest.code_digest(module) != before
