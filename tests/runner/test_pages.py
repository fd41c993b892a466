"""Tests of the executed notebook and its HTML page."""

from __future__ import annotations

import nbformat
import pytest
from helpers.toy_notebooks import write_notebook
from nbformat.v4 import new_output

from o3v.runner import paths
from o3v.runner.pages import WIDGET, finish_pages


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
    finish_pages(tmp_path / "01_a.ipynb", tmp_path)
    assert not list(tmp_path.iterdir())


def test_widgets_and_the_path_of_the_repository_are_removed(executed, tmp_path):
    finish_pages(executed, tmp_path)
    for page in (executed, executed.with_suffix(".html")):
        text = page.read_text(encoding="utf-8")
        assert "wrote runs/a.png" in text
        assert str(tmp_path) not in text
        assert "0/9" not in text
    assert "widgets" not in nbformat.read(executed, as_version=4).metadata


def test_scripts_from_the_web_do_not_block_the_page(executed, tmp_path):
    finish_pages(executed, tmp_path)
    page = executed.with_suffix(".html").read_text(encoding="utf-8")
    assert '<script src="http' not in page
    assert '<script defer src="http' in page


@pytest.mark.parametrize(("number", "marked"), [(0, None), (2, 2)], ids=["before the first cell", "second cell"])
def test_a_failure_is_marked_in_its_cell(number, marked, executed, tmp_path):
    finish_pages(executed, tmp_path, (number, "TimeoutError", "too slow"))
    code = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    failed = [n for n, cell in enumerate(code, 1) if cell.metadata.get("papermill", {}).get("status") == "failed"]
    assert failed == ([marked] if marked else [])
    assert ("too slow" in executed.with_suffix(".html").read_text(encoding="utf-8")) is bool(marked)
