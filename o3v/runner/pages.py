"""Cleans an executed notebook and writes its HTML page.

Both files show paths relative to the repository's root and no widgets of a kernel that has ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from o3v.files import write_text
from o3v.runner.paths import hide_repository

WIDGET = "application/vnd.jupyter.widget-view+json"


def finish_pages(executed: Path, folder: Path, failure: tuple[int, str, str] | None = None) -> None:
    """Cleans the executed notebook in place and writes an HTML page beside it, with all images inside.

    Args:
        executed: notebook file written by papermill. Nothing happens if it does not exist.
        folder: folder of the source notebook, where relative image paths start.
        failure: (cell number from 1, error name, message) of a failure that papermill has not marked. The number
            counts code cells that are not empty; 0 marks no cell.
    """
    import nbformat
    from nbconvert import HTMLExporter

    if not executed.exists():
        return
    book = nbformat.read(executed, as_version=4)
    if failure and failure[0]:
        _mark_failed(book, *failure)
    _drop_widgets(book)
    text = hide_repository(nbformat.writes(book))
    write_text(executed, text)
    resources = {"metadata": {"name": executed.stem, "path": str(folder)}}
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(nbformat.reads(text, as_version=4), resources)
    # Scripts for widgets and formulas are loaded from the web. Without a network they must not block the page.
    write_text(executed.with_suffix(".html"), page.replace('<script src="http', '<script defer src="http'))


def _mark_failed(book: Any, number: int, name: str, message: str) -> None:
    """Adds the error to a cell that papermill has marked as completed or left as running."""
    import nbformat

    cell = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()][number - 1]
    traceback = [f"{name}: {message}"]
    cell.outputs.append(nbformat.v4.new_output("error", ename=name, evalue=message, traceback=traceback))
    cell.metadata.setdefault("papermill", {}).update(status="failed", exception=True)


def _drop_widgets(book: Any) -> None:
    """Removes widget outputs, mostly progress bars: they cannot be drawn without their kernel."""
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    book.metadata.pop("widgets", None)
