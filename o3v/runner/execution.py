"""Runs one notebook with papermill in a fresh kernel and reports which cell failed and why.

Papermill runs the cells. This module adds the peak memory, marks a cell that exceeded the time limit or lost its
kernel as failed, and writes pages without paths of this machine. It does not know what notebooks compute.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from o3v.files import write_text
from o3v.runner.page import render_page
from o3v.runner.paths import hide_repository
from o3v.text import printable, redact

MAX_CELL_CHARS = 100_000  # of the text that a cell prints, in its page; a longer one is cut in the middle
PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
SAMPLE_S = 0.5  # seconds between two memory measurements
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Execution:
    """Result of running a notebook. `error` is None or one line that names the cell and the error."""

    error: str | None
    duration_s: float
    peak_memory_mb: float


def execute(
    source: Path, output: Path, parameters: Mapping[str, Any], *, timeout_s: int | None = None, lock_fd: int
) -> Execution:
    """Runs a notebook in its own folder. Writes `output`, an HTML page, and a `.log` if the kernel process printed.

    After a failure, the pages contain everything up to the failed cell.

    Args:
        source: notebook to run.
        output: path of the executed notebook. The page and the log have the same name with `.html` and `.log`.
        parameters: values of the notebook's parameters.
        timeout_s: time limit of each cell in seconds.
        lock_fd: file descriptor of the run's lock. The kernel inherits it and holds the lock until it ends.
    """
    kernel_log, started = output.with_suffix(".log"), time.monotonic()
    output.unlink(missing_ok=True)
    error: str | None = "interrupted"
    try:
        with _Monitor(source.stem) as monitor, kernel_log.open("wb") as log_file:
            options = {"execution_timeout": timeout_s, "kernel_manager_class": _kernel_manager(log_file, lock_fd)}
            error = _run_cells(source, output, parameters, on_cell_execute=monitor.start_cell, **options)
    finally:  # also after an interrupt, so that the pages never hold paths of this machine or secrets
        _finish_log(kernel_log)
        finish_pages(output, source.parent, monitor.cell, error)
    message = error and clean(f"{monitor.location}: {error}")
    return Execution(message, time.monotonic() - started, monitor.peak_mb)


def clean(text: str) -> str:
    """The text without paths of this repository and without secrets (`text.redact`)."""
    return redact(hide_repository(text))


def _finish_log(path: Path) -> None:
    """Removes secrets from the kernel's log, and the log if it is empty."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text:
        path.unlink()
    elif redact(text) != text:
        write_text(path, redact(text))


def _run_cells(source: Path, output: Path, parameters: Mapping[str, Any], **options: Any) -> str | None:
    """Returns None, or the error that ended the notebook in one line."""
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its messages repeat the returned error
    options |= {"kernel_name": "python3", "cwd": source.parent, "progress_bar": False}
    options |= {"iopub_timeout": 60}  # seconds; a busy machine can be slow to deliver what a cell printed
    kernel_log, hint = output.with_suffix(".log"), ""
    try:
        papermill.execute_notebook(source, output, dict(parameters), **options)
        return None
    except PapermillExecutionError as error:
        name, message = error.ename, error.evalue
    except Exception as error:  # the kernel died or did not start; papermill and nbclient share no base class
        name, message = type(error).__name__, str(error)
        if isinstance(error, CellTimeoutError):
            name, message = "TimeoutError", f"exceeded the limit of {options['execution_timeout']} s"
        hint = f", see the kernel's output in {kernel_log.name}" if kernel_log.stat().st_size else ""
    return f"{name}: {' '.join(message.split())[:500]}{hint}"


def finish_pages(executed: Path, folder: Path, cell_number: int, error: str | None) -> None:
    """Cleans an executed notebook in place and writes an HTML page beside it, with all images inside.

    Removes the path of the repository and all widgets (mostly progress bars), which cannot be drawn without a kernel.
    Marks the failed cell if papermill has not: `cell_number` counts code cells that are not empty, from 1, and is 0 if
    none has started. Image paths start at `folder`. Removes a notebook that is written in part only. Nothing happens if
    `executed` does not exist.
    """
    import nbformat

    if not executed.exists():
        return
    try:
        book = nbformat.reads(executed.read_text(encoding="utf-8"), as_version=4)
    except ValueError:  # papermill could not write all of it
        executed.unlink()
        return
    for cell in book.cells:
        _cut_long_text(cell.get("outputs", []))
    book = nbformat.reads(clean(nbformat.writes(book)), as_version=4)
    book.metadata.pop("widgets", None)
    code_cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in code_cells:
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    if error and cell_number:
        failed = code_cells[cell_number - 1]
        if not failed.metadata.setdefault("papermill", {}).get("exception"):
            error = clean(error)
            name, _, message = error.partition(": ")
            failed.outputs.append(nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[error]))
            failed.metadata.papermill.update(status="failed", exception=True)
    write_text(executed, nbformat.writes(book))
    page = render_page(book, executed.stem, folder.absolute(), executed.parent.absolute())
    write_text(executed.with_suffix(".html"), printable(page))


def _cut_long_text(outputs: list[Any]) -> None:
    """Cuts the texts that a cell printed to MAX_CELL_CHARS in total, and says so. Images and HTML stay."""
    left = MAX_CELL_CHARS
    for output in outputs:
        plain = output.get("data", {})
        for holder, key in ((output, "text"), (output, "evalue"), (plain, "text/plain")):
            if key in holder:
                holder[key] = _cut(holder[key], left)
                left = max(0, left - len(holder[key]))
        if "traceback" in output:
            output["traceback"] = [_cut("\n".join(output["traceback"]), max(left, 10_000))]


def _cut(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[len(text) - half :]}"


def _kernel_manager(log_file: IO[bytes], lock_fd: int) -> type:
    """Returns a kernel manager class. Its kernels write their own output to `log_file` and inherit `lock_fd`."""
    from jupyter_client import AsyncKernelManager

    class Manager(AsyncKernelManager):
        transport_encryption = "auto"  # encrypt if the kernel supports it; jupyter_client warns otherwise

        async def start_kernel(self, **options: Any) -> None:
            """Starts the kernel with our environment. jupyter_client has no setting for streams or descriptors."""
            variables = {"O3V_HEADLESS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
            variables["PYTHONHASHSEED"] = "0"  # results must not depend on the order of a set
            streams = {"stdout": log_file, "stderr": log_file, "pass_fds": (lock_fd,)}
            if sys.platform == "linux":
                streams["preexec_fn"] = _end_with_driver
            await super().start_kernel(**{"env": os.environ | variables, **options}, **streams)

    return Manager


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_driver() -> None:
    """Runs in the new process: the system kills it when its driver ends, also one that is killed or busy in C code."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class _Monitor:
    """Tracks a running notebook: current cell, peak memory of the kernel's processes, and a status line."""

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self.cell, self.location, self.peak_mb = 0, "the start", 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._line = tqdm(desc=name, bar_format="{desc} {elapsed}{postfix}", leave=False, disable=None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._line.close()

    def start_cell(self, cell: Mapping[str, Any], **_: Any) -> None:
        """Is called before each code cell that is not empty, so `self.cell` equals the number in `In [n]`."""
        self.cell += 1
        self.location = f"cell [{self.cell}] ({cell['source'].strip().splitlines()[0]:.60})"

    def _sample(self) -> None:
        import psutil

        while not self._stop.is_set():
            with contextlib.suppress(psutil.Error):  # a process has ended in the meantime
                memory = sum(process.memory_info().rss for process in psutil.Process().children(recursive=True)) / 2**20
                self.peak_mb = max(self.peak_mb, memory)
                self._line.set_postfix_str(f"cell [{self.cell}], {memory:,.0f} MB")
            self._stop.wait(SAMPLE_S)
