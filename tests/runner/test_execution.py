"""Tests of running a notebook in a real kernel, and of the executed notebook and its HTML page."""

import json
import os
import re

import nbformat
import pytest
from helpers.toy_notebooks import PARAMETERS, write_notebook
from nbformat.v4 import new_output

from o3v.runner import paths
from o3v.runner.execution import WIDGET, execute, finish_pages

FAILURES = {
    "error": ("first = 1\n---\nraise ValueError('a\\n  b')", "cell [4] (raise ValueError('a\\n  b')): ValueError: a b"),
    "time": (
        "import time; time.sleep(60)",
        "cell [3] (import time; time.sleep(60)): TimeoutError: exceeded the limit of 4 s",
    ),
    "death": (
        "import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)",
        "cell [3] (import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)): DeadKernelError: Kernel died, see",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_names_its_cell_and_both_pages_are_written(kind, tmp_path):
    code, message = FAILURES[kind]
    source = write_notebook(tmp_path / "01_a.ipynb", f"{code}\n---\nprint('not ' 'reached')")
    output = tmp_path / "out" / "01_a.ipynb"
    output.parent.mkdir()
    with (tmp_path / ".lock").open("w") as lock:
        execution = execute(source, output, {"seed": 7}, timeout_s=4, lock_fd=lock.fileno())
    assert execution.error.startswith(message)
    executed = json.loads(output.read_text())["cells"]
    errors = [c for c in executed if any(o["output_type"] == "error" for o in c.get("outputs", []))]
    assert len(errors) == 1
    assert errors[0]["metadata"]["papermill"]["status"] == "failed"
    page = output.with_suffix(".html").read_text()
    assert message.split(": ")[1] in page
    assert "not reached" not in page


def test_a_kernel_gets_the_parameters_its_folder_and_the_lock(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        code = f"import os; print(seed + 1, os.getcwd(), os.fstat({lock.fileno()}).st_ino, bytearray(300_000_000)[:1])"
        source = write_notebook(tmp_path / "nb" / "01_a.ipynb", code + "\nimport time; time.sleep(1.2)", PARAMETERS)
        execution = execute(source, tmp_path / "01_a.ipynb", {"seed": 7}, lock_fd=lock.fileno())
        inode = os.fstat(lock.fileno()).st_ino
    assert execution.error is None
    assert execution.duration_s > 0
    assert f"8 {tmp_path / 'nb'} {inode} " in (tmp_path / "01_a.html").read_text()
    assert execution.peak_memory_mb > 20
    assert not (tmp_path / "01_a.log").exists()


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """A notebook with a printed path of the repository and a widget; code cells are [1] and [2]."""
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    path = write_notebook(tmp_path / "runs" / "01_a.ipynb", "x = 1")
    book = nbformat.read(path, as_version=4)
    printed = new_output("stream", text=f"wrote {tmp_path}/runs/a.png\n")
    book.cells[2].outputs = [printed, new_output("display_data", {WIDGET: {}, "text/plain": "0%|   | 0/9"})]
    book.metadata["widgets"] = {"state": {}}
    nbformat.write(book, path)
    return path


def test_without_an_executed_notebook_nothing_is_written(tmp_path):
    finish_pages(tmp_path / "01_a.ipynb", tmp_path, 0, None)
    assert not list(tmp_path.iterdir())


def test_widgets_and_the_path_of_the_repository_are_removed(executed, tmp_path):
    finish_pages(executed, tmp_path, 2, None)
    for page in (executed, executed.with_suffix(".html")):
        text = page.read_text(encoding="utf-8")
        assert "wrote runs/a.png" in text
        assert str(tmp_path) not in text
        assert "0/9" not in text
    assert "widgets" not in nbformat.read(executed, as_version=4).metadata


def test_the_page_asks_for_nothing_from_the_web(executed, tmp_path):
    finish_pages(executed, tmp_path, 2, None)
    page = executed.with_suffix(".html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "import" not in page and "url(" not in page


@pytest.mark.parametrize(("number", "marked"), [(0, None), (2, 2)], ids=["before the first cell", "second cell"])
def test_a_failure_is_marked_in_its_cell(number, marked, executed, tmp_path):
    finish_pages(executed, tmp_path, number, "TimeoutError: too slow")
    code = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    failed = [n for n, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("status") == "failed"]
    assert failed == ([marked] if marked else [])
    assert ("too slow" in executed.with_suffix(".html").read_text(encoding="utf-8")) is bool(marked)
