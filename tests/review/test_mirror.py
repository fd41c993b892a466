"""`o3v mirror`: the texts beside the notebooks say what the notebooks say."""

from __future__ import annotations

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from o3v.__main__ import main
from o3v.review.mirror import mirrors
from o3v.runner.plan import NOTEBOOKS


def write_notebook(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("## A head\n\nText."), new_code_cell(code)]), path)


def test_a_folder_without_notebooks_is_an_error(tmp_path, capsys):
    assert main(["mirror", "--notebooks", str(tmp_path)]) == 2
    assert "has no notebook (*.ipynb)" in capsys.readouterr().err


def test_a_file_that_is_no_notebook_is_named_and_nothing_is_written(tmp_path, capsys):
    write_notebook(tmp_path / "a.ipynb", "x = 1")
    (tmp_path / "b.ipynb").write_text("{}")
    assert main(["mirror", "--notebooks", str(tmp_path)]) == 2
    assert "b.ipynb is no notebook" in capsys.readouterr().err
    assert not (tmp_path / "text").exists()


def test_texts_follow_their_notebooks_and_those_of_notebooks_that_are_gone_are_removed(tmp_path, capsys):
    write_notebook(tmp_path / "a.ipynb", "x = 1\nprint(x)")
    write_notebook(tmp_path / "exercises/b.ipynb", "y = 2")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/old.py").write_text("gone = 1")
    assert main(["mirror", "--notebooks", str(tmp_path)]) == 0
    assert "3 texts changed" in capsys.readouterr().out
    texts = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in (tmp_path / "text").rglob("*.py")}
    assert texts.keys() == {"text/a.py", "text/exercises/b.py"}
    head = "# Written by `make mirror` from a.ipynb. Edit the notebook, not this file.\n\n"
    assert texts["text/a.py"] == head + "# ## A head\n#\n# Text.\n\nx = 1\nprint(x)\n"
    assert main(["mirror", "--notebooks", str(tmp_path)]) == 0
    assert "0 texts changed" in capsys.readouterr().out


def test_the_texts_of_this_repository_equal_its_notebooks():
    wanted = mirrors(NOTEBOOKS)
    assert len(wanted) >= 20 and set((NOTEBOOKS / "text").rglob("*.py")) == wanted.keys(), "run `make mirror`"
    assert [path.name for path, text in wanted.items() if path.read_text(encoding="utf-8") != text] == []
