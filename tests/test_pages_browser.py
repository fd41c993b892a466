"""The published pages in Chromium without a network: contrast of all texts, requests, slider and chips by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chromium import chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PAGES = sorted((Path(__file__).parents[1] / "docs/tour").glob("*.html"))
MAX_TABS = 400
# Contrast as WCAG 2 defines it: 4.5 for text, 3 for large or large bold text.
LOW_CONTRAST = """\
() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!words || !element.checkVisibility() || element.closest("script, style, svg")) continue;
    const style = getComputedStyle(element), behind = ground(element), ink = over(parse(style.color), behind);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${style.color} on ${behind} ${words.slice(0, 40)}`);
  }
  return [...new Set(found)];
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    new_page = browser.new_page(viewport={"width": 1000, "height": 1300})
    new_page.context.set_offline(True)
    new_page.set_default_timeout(120_000)  # ms; a busy machine is slow
    yield new_page
    new_page.context.close()


def test_grey_on_grey_is_found(page):
    page.set_content('<p style="color:#999">faint</p><p>clear</p><p style="background:#0072B2;color:#fff">chip</p>')
    (line,) = page.evaluate(LOW_CONTRAST)
    assert line.startswith("2.85 ") and line.endswith("faint")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_text_has_contrast_and_nothing_is_requested(path, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri(), wait_until="load")
    assert page.evaluate(LOW_CONTRAST) == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_slider_and_chips_are_reached_and_used_with_the_keyboard(page):
    page.goto(next(path for path in PAGES if path.stem == "04_inference").as_uri(), wait_until="load")
    viewer = page.locator("[id^=o3v-]:has([data-frame])").first
    caption, reached = viewer.locator("figure:visible figcaption"), set()
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        kind = page.evaluate(
            "root => root.contains(document.activeElement) ? (document.activeElement.dataset.frame === undefined ?"
            " document.activeElement.tagName : 'CHIP') : ''",
            viewer.element_handle(),
        )
        if kind == "INPUT" and kind not in reached:
            page.keyboard.press("Home")
            first = caption.inner_text()
            page.keyboard.press("ArrowRight")
            assert caption.inner_text() != first
        elif kind == "CHIP":
            page.keyboard.press("Enter")
            assert viewer.locator(".o3v-spot").count() >= 1
            assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        reached.add(kind)
        if {"INPUT", "BUTTON", "CHIP"} <= reached:
            return
    raise AssertionError(f"not reached with the Tab key: {reached}")
