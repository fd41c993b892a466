"""The exercises: every starting version fails with a message that helps, every answer passes.

Cells run in this process, without a kernel, in the order of the notebook.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks" / "exercises"
STARTS = sorted(FOLDER.glob("*.ipynb"))
ANSWERS = sorted((FOLDER / "answers").glob("*.ipynb"))
MAX_LINES = 30


def cells_of(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run(path: Path) -> list[AssertionError | None]:
    """Runs a notebook; returns for each exercise its failed check, or None. Any other error is raised."""
    names: dict = {}
    failures: list[AssertionError | None] = []
    for cell in cells_of(path):
        if cell["cell_type"] != "code":
            continue
        code = compile("".join(cell["source"]), f"{path.parent.name}/{path.name}", "exec")
        if "exercise" not in cell["metadata"].get("tags", []):
            exec(code, names)
            continue
        try:
            exec(code, names)
            failures.append(None)
        except AssertionError as error:
            failures.append(error)
    return failures


def test_every_numbered_notebook_has_exercises_with_answers():
    numbered = [path.name for path in sorted(FOLDER.parent.glob("0[0-9]_*.ipynb"))]
    assert [path.name for path in STARTS] == [path.name for path in ANSWERS] == numbered


@pytest.mark.parametrize("path", STARTS, ids=lambda path: path.stem)
def test_a_starting_version_fails_with_a_message_that_helps(path):
    failures = run(path)
    assert 3 <= len(failures) <= 5
    for error in failures:
        assert error is not None, "an exercise passes before it is solved"
        assert str(error).startswith(("Replace", "Return")) and 30 < len(str(error)) < 200


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_an_answer_passes_every_check(path):
    assert run(path) == [None] * len(run(path))


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_exercise_and_answer_ask_the_same_and_check_the_same(path):
    start, answer = cells_of(FOLDER / path.name), cells_of(path)
    assert [c["id"] for c in start] == [c["id"] for c in answer]
    for first, second in list(zip(start, answer, strict=True))[1:]:
        asked, solved = ("".join(cell["source"]) for cell in (first, second))
        if "exercise" in first["metadata"].get("tags", []):
            asked, solved = (text[text.index("\nassert") :] for text in (asked, solved))
        assert asked == solved


@pytest.mark.parametrize("path", [*STARTS, *ANSWERS], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_hygiene_of_exercises(path):
    cells = cells_of(path)
    for before, cell in pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown" and not cell["outputs"] and cell["execution_count"] is None
            assert len(cell["source"]) <= MAX_LINES
