"""The link check (`.ci/links.py`): links to files lead somewhere; broken ones are named."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def links():
    spec = importlib.util.spec_from_file_location("links", ROOT / ".ci" / "links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """A small repository whose links all hold."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "docs/a.md").write_text('# Two words\n\n<a id="kl"></a>[web](https://web.test/a.html#b).\n')
    (tmp_path / "docs/page.html").write_text(
        '<h1 id="top">a</h1><a href="a.md#kl">b</a><img src="data:image/png;base64,A">'
    )
    (tmp_path / "README.md").write_text(
        '[a](docs/a.md#two-words) <a href="docs/page.html#top">p</a> `[code](no.md)` see https://web.test/c.\n'
        "```\n[code](no.md)\n```\n"
    )
    cell = {"cell_type": "markdown", "source": ["[words](../docs/a.md#kl)"]}
    (tmp_path / "notebooks/n.ipynb").write_text(json.dumps({"cells": [cell]}))
    return tmp_path


BROKEN = {
    "a file that is not there": ("README.md", "[x](docs/b.md)", "README.md: docs/b.md: there is no such file"),
    "a picture": ("docs/a.md", "![x](b.png)", "docs/a.md: b.png: there is no such file"),
    "a heading": ("README.md", "[x](docs/a.md#three)", "README.md: docs/a.md#three: there is no such heading"),
    "an id of a page": (
        "README.md",
        "[x](docs/page.html#end)",
        "README.md: docs/page.html#end: there is no such heading",
    ),
    "a page's link": ("docs/page.html", '<a href="c.html">x</a>', "docs/page.html: c.html: there is no such file"),
    "a file outside": ("README.md", "[x](../)", "README.md: ../: leads out of the repository"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_link_is_named(kind, folder, links):
    name, text, message = BROKEN[kind]
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(text)
    assert list(links.broken_links(folder)) == [message]


def test_a_broken_link_of_a_notebook_is_named(folder, links):
    text = (folder / "notebooks/n.ipynb").read_text()
    (folder / "notebooks/n.ipynb").write_text(text.replace("#kl", "#lk"))
    assert list(links.broken_links(folder)) == ["notebooks/n.ipynb: ../docs/a.md#lk: there is no such heading"]


def test_good_links_and_code_are_not_reported(folder, links):
    assert list(links.broken_links(folder)) == []


def test_each_address_of_the_web_is_asked_once_and_the_failing_ones_have_a_reason(folder, links):
    (folder / "docs/b.md").write_text("[again](https://web.test/a.html) and http://localhost:8000/v1")
    found = links.external_links(folder)
    assert found == {"https://web.test/a.html": ["docs/a.md", "docs/b.md"], "https://web.test/c": ["README.md"]}
    asked = []
    failed = links.unreachable(found, lambda url: asked.append(url) or ("HTTP 404" if url.endswith("c") else ""))
    assert failed == {"https://web.test/c": "HTTP 404"} and sorted(asked) == sorted(found)


def test_an_address_that_cannot_be_read_has_a_reason(links):
    assert "refused" in links.problem_of("http://127.0.0.1:9/")


def test_every_link_of_this_repository_leads_somewhere(links):
    assert len(links.files(ROOT)) > 30
    assert list(links.broken_links(ROOT)) == []
