"""Tests of the texts: links lead somewhere, every word of the glossary is one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/**/*.md")])
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/*.ipynb"))
PUBLISHED = ROOT / "docs" / "tour"  # written by `make publish`; absent until a run has been published


def text_of(path: Path) -> str:
    """All Markdown of a text or notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text: those of its headings as a forge makes them, and explicit ones."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("path", [*TEXTS, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_to_it(path):
    for url in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if re.match(r"[a-z]+:", url):
            continue
        file, _, anchor = url.partition("#")
        target = (path.parent / file).resolve() if file else path
        if target.is_relative_to(PUBLISHED) and not PUBLISHED.exists():
            continue
        assert target.exists(), url
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), url


def test_the_glossary_has_one_line_a_word_and_no_word_twice():
    lines = [line for line in text_of(ROOT / "docs/glossary.md").splitlines() if line.startswith("- ")]
    words = [re.match(r'- <a id="([\w-]+)"></a>\*\*(.+?)\*\*: \S.+[.)]$', line) for line in lines]
    assert all(words) and len(words) > 40
    assert len({word[1] for word in words}) == len(words) and len({word[2] for word in words}) == len(words)
    text = text_of(ROOT / "docs/glossary.md")
    assert all(word in text for word in ("advantage", "KV cache", "prefill", "tIoU", "vIoU"))


def test_the_citation_names_software_and_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert {"title", "message", "authors", "version"} <= citation.keys()
    assert "2510.20579" in citation["preferred-citation"]["url"]
