"""The viewers in other programs than JupyterLab with a kernel: Notebook 7, notebooks that are not trusted, VS Code.

Notebook 7 is no dependency of o3v: `pip install notebook` tries it. VS Code is not run here: a page does what its
renderer of HTML outputs does (microsoft/vscode, extensions/notebook-renderers/src/index.ts, `renderHTML`): the HTML
becomes the content of an element, nothing is removed, and every script runs again as a copy of its text.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import nbformat
import pytest
from helpers.chromium import chromium, run_all_cells
from helpers.lab import JupyterLab
from helpers.viewing import TEXT, TRUTH, claim, frames
from nbformat.v4 import new_code_cell, new_notebook

from o3v.evidence import parse_response
from o3v.viz import trace

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

OTHER = f"<think>It is {claim('ball', '[20,20,60,60]', 1.0)}.</think><answer>B</answer>"
SETUP = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from helpers.viewing import TEXT, TRUTH, boxes, frames
from o3v.evidence import parse_response
from o3v.viz import plots, trace, widgets
from o3v.viz.boxes import LabelledBox
texts = {{TEXT: 2.0, {OTHER!r}: 1.0}}
shown = [trace.ShownResponse(parse_response(text), {{"total": total}}) for text, total in texts.items()]
box = LabelledBox("cup", (1, 1, 80, 80))
cases = [plots.FilterCase("large box", f"case {{i}}", image, [box]) for i, image in enumerate(frames(3).images)]
"""
VIEWERS = {
    "trace": 'widgets.trace_viewer(frames(), shown[0], "What?", TRUTH)',
    "frames": "widgets.frame_viewer(frames(), boxes())",
    "rollouts": 'widgets.rollout_viewer(frames(), shown, "Which?", TRUTH)',
    "audit": "widgets.filter_case_viewer(cases)",
}
IN_VSCODE = """\
html => {
  const output = document.createElement("div");
  output.innerHTML = html;
  document.body.append(output);
  for (const inert of output.querySelectorAll("script")) {
    const script = document.createElement("script");
    script.text = inert.textContent;
    output.append(script);
    script.remove();
  }
}"""
installed = pytest.mark.skipif(not importlib.util.find_spec("notebook"), reason="pip install notebook")
each_app = pytest.mark.parametrize("app", ["jupyterlab", pytest.param("notebook", marks=installed)])


def write_notebook(folder: Path) -> Path:
    """A notebook with the four viewers, of small frames and without a model."""
    path = folder / "viewers.ipynb"
    cells = [new_code_cell(SETUP), *map(new_code_cell, VIEWERS.values())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    new_page = browser.new_page(viewport={"width": 1000, "height": 2400})
    new_page.set_default_timeout(120_000)  # ms; a busy machine is slow
    yield new_page
    new_page.context.close()


def changes(image, act) -> bool:
    """Whether an action changes an image."""
    before = image.get_attribute("src")
    act()
    for _ in range(150):
        image.page.wait_for_timeout(200)
        if image.get_attribute("src") != before:
            return True
    return False


def click_at_the_end(slider) -> None:
    """A click on a slider, near its right end. Arrow keys move a slider in JupyterLab; Notebook 7 keeps them."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    slider.page.mouse.click(box["x"] + 0.95 * box["width"], box["y"] + 0.5 * box["height"])


@each_app
def test_all_four_viewers_move_with_a_kernel(app, tmp_path, page):
    path = write_notebook(tmp_path)
    with JupyterLab(tmp_path, app) as server:
        page.goto(server.address(path.name))
        run_all_cells(page, timeout_ms=120_000)
        case = page.locator(".widget-vbox").filter(has_text="1 of 3 · case 0").first
        case.wait_for(timeout=200_000)
        outputs = [page.locator(".jp-CodeCell").nth(n) for n in range(1, 5)]
        images = [output.locator("img.widget-image").first for output in outputs]
        sliders = [output.locator(".noUi-base").first for output in outputs]
        found = [changes(i, partial(click_at_the_end, slider)) for i, slider in zip(images, sliders, strict=True)]
        assert found == [True] * 4
        chip = outputs[0].get_by_role("button", name="cup · 0.5 s")
        assert changes(images[0], partial(chip.press, "Enter"))
        outputs[2].locator("select").first.select_option(label="2 · total 1.00")
        outputs[2].get_by_role("button", name="ball · 1 s").wait_for(timeout=20_000)


@each_app
def test_a_notebook_that_is_not_trusted_shows_its_frames(app, tmp_path, page, monkeypatch):
    """The program removes scripts and controls. The frames stay, side by side."""
    from nbclient import NotebookClient

    path = write_notebook(tmp_path)
    book = nbformat.read(path, 4)
    monkeypatch.setenv("O3V_HEADLESS", "1")
    NotebookClient(book, kernel_name="python3").execute()
    nbformat.write(book, path)
    with JupyterLab(tmp_path, app) as server:
        page.goto(server.address(path.name))
        page.locator(".jp-Notebook").first.wait_for(timeout=120_000)
        output = page.locator(".jp-CodeCell").nth(1)
        output.locator("img").first.wait_for()
        drawn = output.locator("img").evaluate_all("all => all.map(i => i.naturalWidth > 0 && i.offsetWidth > 0)")
        assert drawn == [True] * 4
        assert "answer: A" in output.inner_text()
        assert page.locator(".jp-OutputArea-output script").count() == 0


@pytest.mark.parametrize("make", [trace.trace_html, trace.rollouts_html], ids=["trace", "rollouts"])
def test_viewers_work_as_vscode_inserts_them(make, page):
    texts = [TEXT, OTHER]
    shown = [trace.ShownResponse(parse_response(text), {"total": 2.0 - n}) for n, text in enumerate(texts)]
    html = make(frames(), shown[0] if make is trace.trace_html else shown, "What?", TRUTH)
    page.context.set_offline(True)
    page.set_content("<!doctype html><body></body>")
    page.evaluate(IN_VSCODE, html)
    viewer = page.locator("[id^=o3v-]:has([data-frame])").first
    caption = viewer.locator("figure:visible figcaption")
    assert caption.count() == 1
    before = caption.inner_text()
    viewer.locator("[data-frame]").nth(1).press("Enter")
    assert caption.inner_text() != before and viewer.locator(".o3v-spot").count() == 1
    viewer.locator("input[type=range]").press("Home")
    assert "frame 1 of 4" in caption.inner_text()
