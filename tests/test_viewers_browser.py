"""Notebook 04 as a person uses it, in headless Chromium: a live JupyterLab, and the exported page without a network.

Left out of `make test`, since it needs a browser: `make browser` runs it. O3V_SHOTS names a folder for screenshots.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RESPONSE = (
    "<think>First the <obj>red cup</obj><box>[8,8,30,30]</box>at<t>0.5</t>s, then the "
    "<obj>blue car</obj><box>[40,40,80,80]</box>at<t>5.0</t>s.</think><answer>The <script>car</script></answer>"
)
CHIP = "blue car · 5 s"
BEGUN = "() => [...document.querySelectorAll('.jp-InputPrompt')].some(prompt => /[*0-9]/.test(prompt.textContent))"
ALL_RAN = "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('*'))"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `smoke` whose first answer in 04 is ours."""
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "o3v", "run", "--profile", "smoke", "--out", str(out)]
    given = ["-p", f"04_inference.response_text={RESPONSE}"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.glob("smoke-0*")
    return made


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")  # else the one that playwright installed
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    made = browser.new_page(viewport={"width": 1000, "height": 1300})
    yield made
    made.context.close()


def shot(element, name: str) -> bytes:
    """What an element looks like; kept under a name where O3V_SHOTS says so."""
    pixels = element.screenshot()
    if folder := os.environ.get("O3V_SHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(pixels)
    return pixels


def test_the_exported_page_works_offline(run, page):
    page.context.set_offline(True)
    (exported,) = run.glob("**/04_inference.html")
    page.goto(exported.as_uri(), wait_until="domcontentloaded")
    trace = page.locator("div:has(> div > p > input[type=range]):has([data-frame])").first
    trace.scroll_into_view_if_needed()
    before = shot(trace, "page-before")
    trace.locator("[data-frame]").nth(1).click()
    assert trace.locator(".o3v-spot").count() == 1
    assert trace.locator("[aria-pressed=true]").inner_text().startswith("<obj>blue car")
    lit = shot(trace, "trace-page")
    assert lit != before
    frame = trace.locator("figure:visible figcaption").inner_text()
    trace.locator("input[type=range]").evaluate("r => { r.value = 0; r.dispatchEvent(new Event('input')); }")
    assert trace.locator("figure:visible").count() == 1
    assert trace.locator("figure:visible figcaption").inner_text() != frame and shot(trace, "page-after") != lit
    trace.locator("[data-frame]").nth(1).press("Enter")
    assert trace.locator("figure:visible figcaption").inner_text() == frame
    assert page.locator("script:text-is('car')").count() == 0


@pytest.mark.parametrize(
    ("notebook", "what"),
    [
        ("01_data_pipeline", "img[alt*=' cases: ']"),
        ("03_gspo", ".jp-RenderedHTML:has-text('· best')"),
        ("04_inference", "img[alt^='all 12 frames']"),
    ],
)
def test_every_viewer_stands_in_its_page_offline(run, page, notebook, what):
    """O3V_RUN names the folder of another run to take the screenshots from."""
    page.context.set_offline(True)
    (exported,) = Path(os.environ.get("O3V_RUN", run)).glob(f"**/{notebook}.html")
    page.goto(exported.absolute().as_uri(), wait_until="domcontentloaded")
    shown = page.locator(what).first
    shown.scroll_into_view_if_needed()
    assert shown.bounding_box()["height"] > 150
    assert page.evaluate("() => [...document.images].every(image => image.complete && image.naturalWidth)")
    assert len(shot(shown, f"page-{notebook}")) > 10_000
    assert page.locator("[class*=jupyter-widgets]").count() == 0


@pytest.fixture
def lab(run, tmp_path):
    """A JupyterLab with notebook 04 of that run, all cells of which are in the page; its address."""
    import papermill

    given = {"profile": "smoke", "run_dir": str(run), "response_text": RESPONSE}
    papermill.execute_notebook(NOTEBOOKS / "04_inference.ipynb", tmp_path / "04.ipynb", given, prepare_only=True)
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    environment.pop("O3V_HEADLESS", None)
    options = [f"--port={port}", "--IdentityProvider.token=", "--allow-root", "--no-browser"]
    with (tmp_path / "lab.log").open("wb") as log:
        command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={tmp_path}", *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab"
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    yield f"{address}/tree/04.ipynb?reset"
    server.terminate()
    server.wait(30)


def test_a_live_notebook_moves_with_slider_and_chips(lab, page):
    page.goto(lab)
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=60_000, state="attached")
    page.get_by_text("| Idle").first.wait_for(timeout=60_000)
    for _ in range(6):  # a kernel that has only just come up may let the command pass unheard
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).first.click()
        page.wait_for_timeout(5_000)
        if page.evaluate(BEGUN):
            break
    chip = page.get_by_role("button", name=CHIP)
    chip.first.wait_for(timeout=300_000)
    page.wait_for_function(ALL_RAN, timeout=300_000)
    trace = page.locator(".widget-vbox:has(button)").filter(has=chip).first
    picture = trace.locator("img.widget-image").first
    before = shot(picture, "lab-before")
    chip.first.click()
    page.wait_for_timeout(1_500)
    lit = shot(picture, "lab-lit")
    assert lit != before
    shot(trace, "trace-lab")
    handle = trace.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowLeft")
    page.wait_for_timeout(1_500)
    assert shot(picture, "lab-moved") not in (before, lit)
    assert page.locator("script:text-is('car')").count() == 0
