"""The published pages: weight, alternative texts, order of headings, labels of controls, nothing from elsewhere."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.html_reader import Reader
from helpers.viewing import TEXT, TRUTH, frames

from o3v.config import REPOSITORY
from o3v.evidence import parse_response
from o3v.review.site import MAX_PAGE_BYTES, MAX_SITE_BYTES
from o3v.viz import trace

TOUR = REPOSITORY / "docs/tour"
PAGES = sorted(TOUR.glob("*.html"))
LOADING = ("img", "script", "link", "iframe", "source", "video", "audio", "object", "embed", "input")
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def levels(read: Reader) -> list[int]:
    return [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]


def skipped(headings: list[int]) -> list[tuple[int, int]]:
    """Pairs of headings of which the second is more than one level deeper."""
    return [(a, b) for a, b in pairwise(headings) if b > a + 1]


def test_a_skipped_level_is_found():
    assert skipped([1, 2, 4, 2, 3]) == [(2, 4)]


def test_the_site_is_small():
    sizes = [path.stat().st_size for path in TOUR.iterdir()]
    assert len(PAGES) >= 8 and max(sizes) <= MAX_PAGE_BYTES and sum(sizes) <= MAX_SITE_BYTES


@each_page
def test_a_page_can_be_read_aloud(path: Path):
    read = Reader(path.read_text(encoding="utf-8"))
    assert [page.get("lang") for page in read.all("html")] == ["en"]
    assert all((image.get("alt") or "").strip() for image in read.all("img"))
    assert all(drawing.get("aria-label") for drawing in read.all("svg") if drawing.get("role") == "img")
    controls = [*read.all("input"), *read.all("select")]
    assert all(control.get("aria-label") for control in controls)
    assert all(chip.get("role") == "button" and chip.get("tabindex") == "0" for chip in chips(read))
    ids = [attributes["id"] for _, attributes in read.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    assert levels(read).count(1) == 1 and levels(read)[0] == 1


def chips(read: Reader) -> list[dict[str, str | None]]:
    return [attributes for _, attributes in read.tags if "data-frame" in attributes]


@each_page
def test_a_page_loads_nothing_from_elsewhere(path: Path):
    page = path.read_text(encoding="utf-8")
    loaded = [a.get("src") or a.get("href") for tag, a in Reader(page).tags if tag in LOADING]
    assert [address for address in loaded if address and not address.startswith("data:")] == []
    assert not re.search(r"@import|url\((?![\"']?(data:|#))", page)


@each_page
def test_headings_go_down_one_level_at_a_time(path: Path):
    assert skipped(levels(Reader(path.read_text(encoding="utf-8")))) == []


def test_the_rollouts_have_headings_one_level_below_a_chapter():
    shown = [trace.ShownResponse(parse_response(TEXT), {"total": total}) for total in (2.0, 1.0)]
    assert levels(Reader(trace.rollouts_html(frames(), shown, "What?", TRUTH))) == [3, 3]
