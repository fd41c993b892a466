"""Tests of the HTML page of a notebook: formulas, links, descriptions of images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from o3v.config import REPOSITORY
from o3v.runner.page import image_headings, mathml, moved_link, render_page

NOTEBOOKS = REPOSITORY / "notebooks"
SITE = REPOSITORY / "docs" / "tour"


@pytest.mark.parametrize("formula", [r"\frac{1", r"\left(", "a_", r"\unknown", "}"])
def test_an_unreadable_formula_is_named(formula):
    with pytest.raises(ValueError, match="not a readable formula: " + re.escape(repr(formula))):
        mathml(formula, "inline")


def test_a_formula_becomes_mathml():
    inline = mathml(r"\frac{1}{2}", "inline")
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in inline and 'display="inline"' in inline


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_readable(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    book = new_notebook(cells=[new_markdown_cell(text) for text in texts])
    page = render_page(book, path.stem, NOTEBOOKS, SITE)
    formulas = sum(len(re.findall(r"\$\$.+?\$\$", text, re.DOTALL)) for text in texts)
    assert page.count('<math display="block"') == formulas and "$$" not in page and "<merror" not in page


@pytest.mark.parametrize(
    ("url", "moved"),
    [
        ("https://arxiv.org/abs/2510.20579", "https://arxiv.org/abs/2510.20579"),
        ("#clip", "#clip"),
        ("/etc/hosts", "/etc/hosts"),
        ("../../../other/file.md", "../../../other/file.md"),
        ("../docs/glossary.md#clip", "../glossary.md#clip"),
        ("03_gspo.ipynb", "03_gspo.html"),
        ("exercises/00_overview.ipynb", "../../notebooks/exercises/00_overview.ipynb"),
    ],
)
def test_links_lead_to_the_same_file_from_the_page(url, moved):
    assert moved_link(url, NOTEBOOKS, SITE) == moved


def test_a_page_outside_of_the_repository_keeps_its_links(tmp_path):
    assert moved_link("../docs/glossary.md", NOTEBOOKS, tmp_path) == "../docs/glossary.md"


def test_an_image_is_described_by_the_heading_above_it():
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "a figure"})
    text = new_output("display_data", {"text/html": "<b>", "image/png": "x"})
    cells = [new_markdown_cell("# A\n\n## The *gate*"), new_code_cell(outputs=[text, picture])]
    assert list(image_headings(new_notebook(cells=cells))) == ["figure: The gate"]
    page = render_page(new_notebook(cells=[*cells[:1], new_code_cell(outputs=[picture])]), "a", NOTEBOOKS, Path("/x"))
    assert 'alt="figure: The gate"' in page


def test_a_picture_of_the_repository_is_part_of_the_page():
    book = new_notebook(cells=[new_markdown_cell("![one response](../data/anatomy.png)")])
    page = render_page(book, "a", NOTEBOOKS, SITE)
    assert 'src="data:image/png;base64,' in page and 'alt="one response"' in page
    outside = new_notebook(cells=[new_markdown_cell("![hosts](../../../../etc/hosts)")])
    assert "base64" not in render_page(outside, "a", NOTEBOOKS, SITE)
