"""A headless Chromium for tests and benchmarks, and what they ask of a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STARTED = "() => [...document.querySelectorAll('.jp-InputPrompt')].some(prompt => /[*0-9]/.test(prompt.textContent))"
# Before the page is connected to a kernel, the indicator already says idle, and "Run All Cells" asks for a kernel.
CONNECTED = "() => /Python 3/.test(document.querySelector('.jp-KernelName, .jp-Toolbar-kernelName')?.textContent)"
TRIES = 6  # to start the cells; a kernel that has just started may miss the command


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or the one that playwright installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def run_all_cells(page: Any, timeout_ms: int = 60_000) -> None:
    """Runs all cells of the notebook that is open in JupyterLab or Notebook 7, as a reader does; does not wait."""
    page.locator(".jp-Notebook").first.wait_for(timeout=timeout_ms)
    page.wait_for_function(CONNECTED, timeout=timeout_ms)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=timeout_ms, state="attached")
    for _ in range(TRIES):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).first.click()
        page.wait_for_timeout(3_000)
        asked = page.locator(".jp-Dialog .jp-mod-accept")  # "Select Kernel", which blocks the page until it is answered
        if asked.count():
            asked.first.click()
        elif page.evaluate(STARTED):
            return
    raise TimeoutError("the cells of the notebook did not start")
