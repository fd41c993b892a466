"""Tests of the texts: every word of the glossary is one line, the citation is complete. Links: `test_links.py`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_glossary_has_one_line_a_word_and_no_word_twice():
    lines = [
        line for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines() if line.startswith("- ")
    ]
    words = [re.match(r'- <a id="([\w-]+)"></a>\*\*(.+?)\*\*: \S.+[.)]$', line) for line in lines]
    assert all(words) and len(words) > 40
    assert len({word[1] for word in words}) == len(words) and len({word[2] for word in words}) == len(words)
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert all(word in text for word in ("advantage", "KV cache", "prefill", "tIoU", "vIoU"))


def test_the_citation_names_software_and_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert {"title", "message", "authors", "version"} <= citation.keys()
    assert "2510.20579" in citation["preferred-citation"]["url"]
