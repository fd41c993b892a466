"""Viewers in headless Chromium: notebook 04 in a live JupyterLab, and exported pages without a network.

`make test` leaves this module out, because it needs a browser; `make browser` runs it. With the environment variable
O3V_SHOTS (a folder), screenshots are written there. `<name>-viewer.png` are the images of the README: they show the run
in the folder O3V_RUN if it is set, else the small run of these tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.chromium import chromium, run_all_cells
from helpers.lab import JupyterLab

from o3v.review.site import publish

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RESPONSE = (
    "<think>First the <obj>red cup</obj><box>[8,8,30,30]</box>at<t>0.5</t>s, then the "
    "<obj>blue car</obj><box>[40,40,80,80]</box>at<t>5.0</t>s.</think><answer>The <script>car</script></answer>"
)
CHIP = "blue car · 5 s"
TRACE = "div:has(> div > p > input[type=range]):has([data-frame])"
VIEWERS = {  # screenshot: notebook, and what to show of its page
    "audit-viewer": ("01_data_pipeline", "img[alt*=' cases: ']"),
    "rollout-viewer": ("03b_reward_analysis", ".jp-RenderedHTML:has-text('· best')"),
    "frame-viewer": ("04_inference", "img[alt^='all '][alt*=' frames']"),
    "trace-viewer": ("04_inference", TRACE),
}
DRAWN = "() => [...document.images].every(image => image.complete && image.naturalWidth)"
ALL_RAN = "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('*'))"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `smoke` whose first answer in notebook 04 is RESPONSE."""
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "o3v", "run", "--profile", "smoke", "--out", str(out)]
    parameters = ["-p", f"04_inference.response_text={RESPONSE}"]
    process = subprocess.run([*command, *parameters], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    (run_dir,) = out.glob("smoke-0*")
    return run_dir


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    new_page = browser.new_page(viewport={"width": 1000, "height": 1300})
    yield new_page
    new_page.context.close()


def screenshot(element, name: str) -> bytes:
    """The PNG of an element, also written to the folder O3V_SHOTS if it is set."""
    png = element.screenshot()
    if folder := os.environ.get("O3V_SHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(png)
    return png


def open_offline(page, run_dir: Path, notebook: str, selector: str):
    """Opens the exported page of a notebook without a network; returns the first element that matches."""
    page.context.set_offline(True)
    (exported,) = run_dir.glob(f"**/{notebook}.html")
    page.goto(exported.absolute().as_uri(), wait_until="domcontentloaded")
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    return element


def test_the_exported_page_works_offline(run, page):
    trace = open_offline(page, run, "04_inference", TRACE)
    before = screenshot(trace, "page-before")
    trace.locator("[data-frame]").nth(1).click()
    assert trace.locator(".o3v-spot").count() == 1
    assert trace.locator("[aria-pressed=true]").inner_text().startswith("<obj>blue car")
    highlighted = screenshot(trace, "page-highlighted")
    assert highlighted != before
    frame = trace.locator("figure:visible figcaption").inner_text()
    trace.locator("input[type=range]").evaluate("r => { r.value = 0; r.dispatchEvent(new Event('input')); }")
    assert trace.locator("figure:visible").count() == 1
    assert trace.locator("figure:visible figcaption").inner_text() != frame
    assert screenshot(trace, "page-after") != highlighted
    trace.locator("[data-frame]").nth(1).press("Enter")
    assert trace.locator("figure:visible figcaption").inner_text() == frame
    assert page.locator("script:text-is('car')").count() == 0


@pytest.mark.parametrize("name", VIEWERS)
def test_every_viewer_is_shown_in_its_page_offline(run, page, name):
    viewer = open_offline(page, Path(os.environ.get("O3V_RUN", run)), *VIEWERS[name])
    if name == "trace-viewer":
        chips = viewer.locator("[data-frame]")
        chips.last.click()
        assert chips.last.get_attribute("aria-pressed") == "true"
        assert viewer.locator("figure:visible").count() == 1
    assert viewer.bounding_box()["height"] > 150
    assert page.evaluate(DRAWN)
    assert len(screenshot(viewer, name)) > 10_000
    assert page.locator("[class*=jupyter-widgets]").count() == 0


def test_a_published_site_is_readable_on_a_phone_and_asks_for_nothing(run, browser, tmp_path):
    site, asked = tmp_path / "tour", []
    publish(Path(os.environ.get("O3V_RUN", run)), site)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.context.set_offline(True)
    page.on("request", lambda request: asked.append(request.url))
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri(), wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name
        assert page.locator("h1").count() == 1, path.name
        assert page.locator("img:not([alt]), img[alt='']").count() == 0, path.name
        assert page.evaluate(DRAWN), path.name
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.context.close()


@pytest.fixture
def lab(run, tmp_path):
    """The address of a JupyterLab with notebook 04 of `run`. All its cells are in the page, also those out of view."""
    import papermill

    parameters = {"profile": "smoke", "run_dir": str(run), "response_text": RESPONSE}
    papermill.execute_notebook(NOTEBOOKS / "04_inference.ipynb", tmp_path / "04.ipynb", parameters, prepare_only=True)
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    with JupyterLab(tmp_path, JUPYTERLAB_SETTINGS_DIR=str(tmp_path / "settings")) as server:
        yield server.address("04.ipynb")


def test_a_live_notebook_moves_with_slider_and_chips(lab, page):
    page.goto(lab)
    run_all_cells(page)
    chip = page.get_by_role("button", name=CHIP)
    chip.first.wait_for(timeout=300_000)
    page.wait_for_function(ALL_RAN, timeout=300_000)
    trace = page.locator(".widget-vbox:has(button)").filter(has=chip).first
    image = trace.locator("img.widget-image").first
    before = screenshot(image, "lab-before")
    chip.first.click()
    page.wait_for_timeout(1_500)
    highlighted = screenshot(image, "lab-highlighted")
    assert highlighted != before
    screenshot(trace, "lab-trace")
    handle = trace.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowLeft")
    page.wait_for_timeout(1_500)
    assert screenshot(image, "lab-moved") not in (before, highlighted)
    assert page.locator("script:text-is('car')").count() == 0
