"""Tests of running a notebook in a real kernel."""

from __future__ import annotations

import json
import os

import pytest
from helpers.toy_notebooks import PARAMETERS, write_notebook

from o3v.runner.execution import execute

FAILURES = {
    "error": ("first = 1\n---\nraise ValueError('a\\n  b')", "cell [4] (raise ValueError('a\\n  b')): ValueError: a b"),
    "time": (
        "import time; time.sleep(60)",
        "cell [3] (import time; time.sleep(60)): TimeoutError: exceeded the limit of 4 s",
    ),
    "death": (
        "import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)",
        "cell [3] (import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)): DeadKernelError: Kernel died, see",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_names_its_cell_and_both_pages_are_written(kind, tmp_path):
    code, message = FAILURES[kind]
    source = write_notebook(tmp_path / "01_a.ipynb", f"{code}\n---\nprint('not ' 'reached')")
    output = tmp_path / "out" / "01_a.ipynb"
    output.parent.mkdir()
    with (tmp_path / ".lock").open("w") as lock:
        execution = execute(source, output, {"seed": 7}, timeout_s=4, lock_fd=lock.fileno())
    assert execution.error.startswith(message)
    executed = json.loads(output.read_text())["cells"]
    errors = [c for c in executed if any(o["output_type"] == "error" for o in c.get("outputs", []))]
    assert len(errors) == 1
    assert errors[0]["metadata"]["papermill"]["status"] == "failed"
    page = output.with_suffix(".html").read_text()
    assert message.split(": ")[1] in page
    assert "not reached" not in page


def test_a_kernel_gets_the_parameters_its_folder_and_the_lock(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        code = f"import os; print(seed + 1, os.getcwd(), os.fstat({lock.fileno()}).st_ino, bytearray(300_000_000)[:1])"
        source = write_notebook(tmp_path / "nb" / "01_a.ipynb", code + "\nimport time; time.sleep(1.2)", PARAMETERS)
        execution = execute(source, tmp_path / "01_a.ipynb", {"seed": 7}, lock_fd=lock.fileno())
        inode = os.fstat(lock.fileno()).st_ino
    assert execution.error is None
    assert execution.duration_s > 0
    assert f"8 {tmp_path / 'nb'} {inode} " in (tmp_path / "01_a.html").read_text()
    assert execution.peak_memory_mb > 20
    assert not (tmp_path / "01_a.log").exists()
