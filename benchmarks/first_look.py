"""How long a reader of a fresh clone waits for a slider that moves over a real answer, without training.

Opens notebook 04 in JupyterLab (or Notebook 7) in a headless Chromium, runs all cells with the shipped model, moves the
slider of the first answer, and checks that the image changes. Prints the seconds since the start of the server. Needs
playwright and Chromium (`make setup`, then as `make browser`).

    python benchmarks/first_look.py
    python benchmarks/first_look.py --app notebook      # after `pip install notebook`
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.chromium import chromium, run_all_cells
from helpers.lab import JupyterLab

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
REQUIRED_S = 180.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--app", choices=("jupyterlab", "notebook"), default="jupyterlab")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for each step (default: 600)")
    parser.add_argument("--items", type=int, help="videos, fewer than the notebook's own number (for a trial)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = first_look(Path(folder), options.app, options.timeout, options.items)
    seconds |= {"required": REQUIRED_S, "processors": os.cpu_count(), "load of one minute": os.getloadavg()[0]}
    print(json.dumps({name: round(value, 1) for name, value in seconds.items()}, indent=1))
    return int(seconds["the slider has moved"] > REQUIRED_S)


def first_look(folder: Path, app: str, timeout_s: float, items: int | None) -> dict[str, float]:
    """Seconds since the start of the server at each step. Raises AssertionError if the image does not change."""
    book = nbformat.read(NOTEBOOKS / "04_inference.ipynb", 4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f"\nrun_dir = {str(folder / 'run')!r}"  # a run without a model, as in a fresh clone
    cell.source += "" if items is None else f"\nshipped_items = {items}"
    nbformat.write(book, folder / "04.ipynb")
    started, seconds = time.monotonic(), {}
    with chromium() as browser, JupyterLab(folder, app) as server:
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(1000 * timeout_s)
        page.goto(server.address("04.ipynb"))
        run_all_cells(page, timeout_ms=round(1000 * timeout_s))
        seconds["the cells run"] = time.monotonic() - started
        viewer = page.locator(".widget-vbox:has(img.widget-image)").first
        viewer.wait_for()
        viewer.scroll_into_view_if_needed()
        seconds["the slider is there"] = time.monotonic() - started
        _move(page, viewer, timeout_s)
        seconds["the slider has moved"] = time.monotonic() - started
        assert page.get_by_text("are the shipped ones of").count(), "the notebook did not read the shipped model"
    return seconds


def _move(page, viewer, timeout_s: float) -> None:
    """Moves the slider of frames by a click, and waits until the image is another one."""
    image, track = viewer.locator("img.widget-image").first, viewer.locator(".noUi-base").first
    before, box = image.get_attribute("src"), track.bounding_box()
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"])
    for _ in range(round(5 * timeout_s)):  # the kernel answers when the cell that it runs is done
        page.wait_for_timeout(200)
        if image.get_attribute("src") != before:
            return
    raise AssertionError("the image did not change after the slider was moved")


if __name__ == "__main__":
    sys.exit(main())
