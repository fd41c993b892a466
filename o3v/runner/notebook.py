"""One notebook file: its parameters, running it without a browser, and what went wrong where.

A notebook declares its parameters as literals in the cell tagged `parameters`; their types are those of the
literals, or of an annotation (`limit: int | None = None`). Papermill runs it; this module adds what papermill
leaves out: unknown or ill-typed parameters are errors, and a cell that ran into the time limit or lost its kernel
is marked failed. Knows nothing of runs or of what the notebooks compute.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from o3v.files import write_text

TYPES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)}
WORDS = {"true": True, "false": False, "none": None, "null": None}
WIDGET = "application/vnd.jupyter.widget-view+json"
SAMPLE_S = 0.5  # between two looks at the kernel's memory


class UsageError(ValueError):
    """A command that cannot be carried out as it was given; the message is one line for the user."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook. `types` are the types a value may have; empty means any literal."""

    name: str
    default: Any
    types: tuple[type, ...]

    def convert(self, value: Any) -> Any:
        """The value in the parameter's type. Raises UsageError when it has none of them.

        Text is read as a literal where no text is wanted, since the command line knows only text and YAML reads
        `1e-6` as text; a whole number serves as a float, a list as a tuple. Nothing else is bent.
        """
        if isinstance(value, str) and str not in self.types:
            value = read_literal(value)
        if isinstance(value, str) and type(None) in self.types and read_literal(value) is None:
            value = None
        if float in self.types and type(value) is int and int not in self.types:
            value = float(value)
        if tuple in self.types and isinstance(value, list):
            value = tuple(value)
        if self.types and type(value) not in self.types:
            wanted = " or ".join(kind.__name__ for kind in self.types)
            raise UsageError(f"must be {wanted}, found {type(value).__name__} {value!r:.60}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"must be a finite number, found {value}")
        return value


@dataclass(frozen=True)
class Notebook:
    """A notebook as it lies in the folder: `cells` are (kind, source), outputs do not belong to it."""

    path: Path
    cells: tuple[tuple[str, str], ...]
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Execution:
    """How running a notebook went; `error` is None or one line naming the cell and the error."""

    error: str | None
    duration_s: float
    peak_memory_mb: float


def read_literal(text: str) -> Any:
    """A Python or YAML scalar, list or mapping written as text; the text itself when it is none.

    >>> [read_literal(text) for text in ("1e-6", "true", "[1, 2]", "none", "a word")]
    [1e-06, True, [1, 2], None, 'a word']
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


def read_notebook(path: Path) -> Notebook:
    """Reads a notebook and its parameters. Raises UsageError when it is no notebook or declares none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in raw]
        tagged = [i for i, cell in enumerate(raw) if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a notebook: {error}") from None
    if len(tagged) != 1:
        raise UsageError(f"{path} has {len(tagged)} cells tagged 'parameters'; it needs one")
    try:
        parameters = read_parameters(cells[tagged[0]][1])
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"{path}, the cell tagged 'parameters': {error}") from None
    return Notebook(path, tuple(cells), parameters)


def read_parameters(source: str) -> dict[str, Parameter]:
    """Parameters that a cell declares, in its order. Raises ValueError where it holds more than literals.

    >>> read_parameters("seed = 0")["seed"]
    Parameter(name='seed', default=0, types=(<class 'int'>,))
    """
    parameters = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or getattr(node, "value", None) is None:
            raise ValueError(f"line {node.lineno} is not `name = literal`")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"line {node.lineno}: {target.id} is not a literal") from None
        types = () if default is None else (type(default),)
        if isinstance(node, ast.AnnAssign):
            types = _annotated(node.annotation)
        parameters[target.id] = Parameter(target.id, default, types)
    return parameters


def _annotated(node: ast.expr) -> tuple[type, ...]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return (*_annotated(node.left), *_annotated(node.right))
    if isinstance(node, ast.Subscript):
        return _annotated(node.value)
    if isinstance(node, ast.Constant) and node.value is None:
        return (type(None),)
    if isinstance(node, ast.Name) and node.id in TYPES:
        return (TYPES[node.id],)
    raise ValueError(f"line {node.lineno}: the type {ast.unparse(node)!r} is none of {', '.join(TYPES)}, None")


def execute(
    source: Path, output: Path, parameters: Mapping[str, Any], *, timeout_s: int | None = None, lock_fd: int
) -> Execution:
    """Runs a notebook in its own folder with a fresh kernel and leaves `output` and an HTML page beside it.

    Both are there after a failure too, up to the cell that failed; what the kernel's process itself wrote (native
    libraries, a crash) is in a `.log` beside them. `timeout_s` limits each cell. The kernel inherits `lock_fd`, so
    the lock on the run lasts as long as anything may still write there.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its messages repeat the error returned here
    output.unlink(missing_ok=True)
    kernel_log = output.with_suffix(".log")
    started, error = time.monotonic(), None
    with _Watch(source.stem) as watch, kernel_log.open("wb") as log_file:
        try:
            papermill.execute_notebook(
                source,
                output,
                dict(parameters),
                kernel_name="python3",
                cwd=source.parent,
                progress_bar=False,
                execution_timeout=timeout_s,
                iopub_timeout=60,  # s; a busy machine may be slow to hand over what a cell printed
                kernel_manager_class=_kernel_manager(log_file, lock_fd),
                on_cell_execute=watch.cell_begins,
            )
        except PapermillExecutionError as failure:
            error = watch.describe(failure.ename, failure.evalue)
        except CellTimeoutError:
            error = watch.describe("TimeoutError", f"ran into the limit of {timeout_s} s")
            _mark_failed(output, watch.cell, error)
        except Exception as failure:  # a kernel that died or never started; papermill and nbclient share no base
            words = f", its last words are in {kernel_log.name}" if kernel_log.stat().st_size else ""
            error = watch.describe(type(failure).__name__, f"{failure}{words}")
            _mark_failed(output, watch.cell, error)
    if not kernel_log.stat().st_size:
        kernel_log.unlink()
    _drop_widgets(output)
    _write_html(output, source.parent)
    return Execution(error, time.monotonic() - started, watch.peak_mb)


def _kernel_manager(log_file: IO[bytes], lock_fd: int) -> type:
    from jupyter_client import AsyncKernelManager

    class Manager(AsyncKernelManager):
        transport_encryption = "auto"  # where the kernel can; it warns on every start otherwise

        async def start_kernel(self, **options: Any) -> None:
            # equal hashes of texts in every kernel: nothing may hang on the order of a set
            environment = {
                **os.environ,
                "PYTHONHASHSEED": "0",
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                "O3V_HEADLESS": "1",
            }
            streams = {"stdout": log_file, "stderr": log_file}
            await super().start_kernel(**{"env": environment, **options}, **streams, pass_fds=(lock_fd,))

    return Manager


class _Watch:
    """Follows a running notebook: which cell it is in, the peak memory of its processes, a line on a terminal."""

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self.cell, self.source, self.peak_mb = 0, "", 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._line = tqdm(desc=name, bar_format="{desc} {elapsed}{postfix}", leave=False, disable=None)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._line.close()

    def cell_begins(self, cell: Mapping[str, Any], **_: Any) -> None:
        """Called before each code cell that is not empty, so `cell` is the number in its `In [n]`."""
        self.cell, self.source = self.cell + 1, cell["source"]

    def describe(self, kind: str, message: str) -> str:
        """One line that names the cell and the error."""
        where = f"cell [{self.cell}] ({self.source.strip().splitlines()[0]:.60})" if self.cell else "the start"
        return f"{where}: {kind}: {' '.join(message.split()):.500}"

    def _sample(self) -> None:
        import psutil

        while not self._stop.is_set():
            memory = 0
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended since it was listed
                    memory += process.memory_info().rss
            self.peak_mb = max(self.peak_mb, memory / 2**20)
            self._line.set_postfix_str(f"cell [{self.cell}], {memory / 2**20:,.0f} MB")
            self._stop.wait(SAMPLE_S)


def _mark_failed(output: Path, number: int, error: str) -> None:
    """Writes the error into the executed notebook, whose cell papermill has marked completed or left running."""
    import nbformat

    if not output.exists():
        return
    book = nbformat.read(output, as_version=4)
    ran = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    if number:
        kind, message = error.split(": ", 2)[1:]
        cell = ran[number - 1]
        cell.outputs.append(nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=[error]))
        cell.metadata.setdefault("papermill", {}).update(status="failed", exception=True)
    write_text(output, nbformat.writes(book))


def _drop_widgets(executed: Path) -> None:
    """Takes what a kernel that is gone would have to draw, progress bars mostly, out of an executed notebook."""
    import nbformat

    if not executed.exists():
        return
    book = nbformat.read(executed, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    book.metadata.pop("widgets", None)
    write_text(executed, nbformat.writes(book))


def _write_html(executed: Path, folder: Path) -> None:
    """An HTML page beside the executed notebook, pictures inside; what it shows is there without a network."""
    import nbformat
    from nbconvert import HTMLExporter

    if not executed.exists():
        return
    resources = {"metadata": {"name": executed.stem, "path": str(folder)}}
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(nbformat.read(executed, 4), resources)
    # scripts for widgets and formulas come from the web: without one they must not hold up the page
    write_text(executed.with_suffix(".html"), page.replace('<script src="http', '<script defer src="http'))
