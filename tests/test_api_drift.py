"""The drift check (`.ci/api_drift.py`): what drifted is named, and with the pinned libraries nothing has."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


LIBRARY = "class Base:\n    def step(self, a, b=1): ...\n    def end(self): ...\n"


@pytest.fixture(scope="module")
def drift():
    spec = importlib.util.spec_from_file_location("api_drift", ROOT / ".ci" / "api_drift.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A library `driftlib`, and a package `ours` that uses it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "driftlib").mkdir()
    (tmp_path / "driftlib/__init__.py").write_text(
        "class Base:\n    def step(self, a, b=1): ...\n    def end(self): ...\n"
    )
    (tmp_path / "driftlib/part.py").write_text("")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/__init__.py").write_text("")
    yield tmp_path / "ours"
    for name in [name for name in sys.modules if name.split(".")[0] in ("driftlib", "ours")]:
        del sys.modules[name]


def write(package, code):
    (package / "a.py").write_text(textwrap.dedent(code))


def test_a_name_that_a_library_lost_is_named_with_file_and_line(package, drift):
    write(package, "import json\nfrom driftlib import Base, part, Gone\n\ndef later():\n    import driftlib.nowhere\n")
    first, second = drift.missing_names(package)
    assert first.startswith("ours/a.py:2: driftlib: cannot import driftlib.Gone: ")
    assert second.startswith("ours/a.py:5: driftlib: cannot import driftlib.nowhere: ")


def test_a_library_of_an_extra_that_is_not_installed_is_no_drift(package, drift):
    write(package, "def later():\n    import not_installed_here\n")
    assert list(drift.missing_names(package)) == []


def test_an_override_that_lacks_an_argument_of_the_library_is_named(package, drift):
    code = """
    from driftlib import Base

    class Narrow(Base):
        def step(self, a): ...
        def end(self): ...
        def own(self, c): ...

    class Wide(Base):
        def step(self, a, **rest): ...

    class Below(Narrow):
        def own(self): ...
    """
    write(package, code)
    assert list(drift.changed_overrides(package)) == ["ours.a.Narrow.step: driftlib: Base.step also takes b"]


def test_the_failed_cell_is_named_with_the_last_line_of_the_package(drift):
    traceback = [
        "File \x1b[32m/x/o3v/cli/run.py:3\x1b[39m, in main()",
        "\x1b[36mFile \x1b[39m\x1b[32m/x/o3v/models/vlm.py:120\x1b[39m, in load(path)",
        "File /y/transformers/modeling.py:9, in f()",
    ]
    error = {"output_type": "error", "ename": "TypeError", "evalue": "unexpected argument", "traceback": traceback}
    book = {"cells": [{"cell_type": "markdown"}, {"outputs": [{"output_type": "stream"}, error]}]}
    assert drift.failed_cell(book) == "o3v/models/vlm.py:120: TypeError: unexpected argument"
    assert drift.failed_cell({"cells": []}) == ""


def test_a_failure_outside_of_a_cell_is_named_with_the_last_line_of_the_package(drift):
    text = """Traceback (most recent call last):
  File "/x/o3v/runner/page.py", line 104, in markdown2html
    return MarkdownWithMath(renderer=renderer).render(source)
  File "/y/nbconvert/filters/markdown_mistune.py", line 472, in __init__
    block = MathBlockParser()
AttributeError: no attribute 'parse_axt_heading'

"""
    assert drift.last_error(text) == "o3v/runner/page.py:104: AttributeError: no attribute 'parse_axt_heading'"
    assert drift.last_error("") == "no message"


def test_newest_has_no_bounds_and_oldest_the_lower_ones(drift):
    text = '[project]\ndependencies = ["trl>=1.16,<2", "rouge-score>=0.1.2"]'
    assert drift.requirements("newest", text) == ["trl", "rouge-score"]
    assert drift.requirements("oldest", text) == ["trl==1.16", "rouge-score==0.1.2"]


def test_every_dependency_has_a_lower_bound(drift):
    oldest = drift.requirements("oldest", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(oldest) > 25 and all(line.count("==") == 1 and "<" not in line for line in oldest)


@pytest.mark.parametrize("part", ["runner", "review"])
def test_with_the_pinned_libraries_nothing_is_missing(part, drift):
    """Two parts without torch, for the time; `python .ci/api_drift.py` looks at all of them."""
    assert list(drift.missing_names(ROOT / "o3v" / part)) == []


def test_the_jobs_are_not_part_of_ci(drift):
    run = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert not {".ci/drift", ".ci/oldest", "make drift", "make oldest", "links"} & set(run.split())
    for name, kind in (("drift", "newest"), ("oldest", "oldest")):
        script = ROOT / ".ci" / name
        assert f"--names {kind}" in script.read_text(encoding="utf-8") and script.stat().st_mode & 0o100
