"""Parameters of notebooks, and running one with a real kernel."""

from __future__ import annotations

import json
import os

import pytest
from helpers.toy_notebooks import PARAMETERS, write_notebook

from o3v.runner.notebook import UsageError, execute, read_notebook, read_parameters


def convert(declaration: str, value):
    (parameter,) = read_parameters(declaration).values()
    return parameter.convert(value)


@pytest.mark.parametrize(
    ("declaration", "value", "found"),
    [
        ("n = 3", "1.5", "must be int, found float 1.5"),
        ("n = 3", 1.0, "must be int, found float"),
        ("n = 3", True, "must be int, found bool"),
        ("n = 3", "many", "must be int, found str 'many'"),
        ("n = 3", None, "must be int, found NoneType"),
        ("rate = 1e-6", "high", "must be float, found str"),
        ("rate = 1e-6", True, "must be float, found bool"),
        ("rate = 1e-6", "nan", "must be float, found str"),
        ("rate = 1e-6", "1e999", "must be a finite number"),
        ("rate = 1e-6", float("nan"), "must be a finite number"),
        ("flag = False", 1, "must be bool, found int"),
        ("flag = False", "yes", "must be bool, found str"),
        ("name = 'a'", 5, "must be str, found int 5"),
        ("name = 'a'", None, "must be str, found NoneType"),
        ("sizes = [1]", 1, "must be list, found int"),
        ("limit: int | None = None", "x", "must be int or NoneType, found str"),
    ],
)
def test_an_ill_typed_value_is_refused(declaration, value, found):
    with pytest.raises(UsageError, match=found):
        convert(declaration, value)


@pytest.mark.parametrize(
    ("declaration", "value", "expected"),
    [
        ("rate = 1e-6", "1e-6", 1e-6),  # as YAML and the command line give it
        ("rate = 0.5", 2, 2.0),
        ("rate = 0.5", "-2", -2.0),
        ("n = -1", "7", 7),
        ("flag = False", "true", True),
        ("flag = True", False, False),
        ("name = 'a'", "5", "5"),
        ("name: str | None = None", "b", "b"),
        ("name: str | None = None", "none", None),
        ("limit: int | None = None", "5", 5),
        ("limit: int | None = 5", "null", None),
        ("anything = None", "word", "word"),
        ("anything = None", "1e-6", 1e-6),
        ("sizes = [1]", "[2, 3]", [2, 3]),
        ("sizes = (1, 2)", [3, 4], (3, 4)),
        ("table: dict[str, int] = {}", "{'a': 1}", {"a": 1}),
    ],
)
def test_a_value_arrives_in_the_type_of_its_parameter(declaration, value, expected):
    converted = convert(declaration, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize("source", ["n = 1 + k", "n: array = 1", "import os", "a, b = 1, 2", "n: int", "n = len('a')"])
def test_a_cell_of_parameters_holds_literals_only(source):
    with pytest.raises(ValueError, match="line 1"):
        read_parameters(source)


def test_what_is_no_notebook_is_refused(tmp_path):
    path = tmp_path / "01_a.ipynb"
    for text in ("", "[]", "{}", '{"cells": [{}]}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"01_a\.ipynb is not a notebook"):
            read_notebook(path)
    path.write_text('{"cells": []}')
    with pytest.raises(UsageError, match="0 cells tagged 'parameters'"):
        read_notebook(path)
    with pytest.raises(UsageError, match="'parameters': line 1: n is not a literal"):
        read_notebook(write_notebook(path, "1", "n = x"))


FAILURES = {
    "error": ("first = 1\n---\nraise ValueError('a\\n  b')", "cell [4] (raise ValueError('a\\n  b')): ValueError: a b"),
    "time": ("import time; time.sleep(60)", "cell [3] (import time; time.sleep(60)): TimeoutError: ran into the limit"),
    "death": (
        "import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)",
        "cell [3] (import os; os.write(2, b'no more'); os.kill(os.getpid(), 9)): DeadKernelError: Kernel died, its",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_names_its_cell_and_leaves_both_pages(kind, tmp_path):
    code, message = FAILURES[kind]
    source = write_notebook(tmp_path / "01_a.ipynb", f"{code}\n---\nprint('not ' 'reached')")
    output = tmp_path / "out" / "01_a.ipynb"
    output.parent.mkdir()
    with (tmp_path / ".lock").open("w") as lock:
        outcome = execute(source, output, {"seed": 7}, timeout_s=4, lock_fd=lock.fileno())
    assert outcome.error.startswith(message)
    executed = json.loads(output.read_text())["cells"]
    errors = [c for c in executed if any(o["output_type"] == "error" for o in c.get("outputs", []))]
    assert len(errors) == 1
    assert errors[0]["metadata"]["papermill"]["status"] == "failed"
    page = output.with_suffix(".html").read_text()
    assert message.split(": ")[1] in page
    assert "not reached" not in page


def test_a_kernel_gets_parameters_its_folder_and_the_lock(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        code = f"import os; print(seed + 1, os.getcwd(), os.fstat({lock.fileno()}).st_ino, bytearray(300_000_000)[:1])"
        source = write_notebook(tmp_path / "nb" / "01_a.ipynb", code + "\nimport time; time.sleep(1.2)", PARAMETERS)
        outcome = execute(source, tmp_path / "01_a.ipynb", {"seed": 7}, lock_fd=lock.fileno())
        inode = os.fstat(lock.fileno()).st_ino
    assert outcome.error is None
    assert outcome.duration_s > 1.2
    assert f"8 {tmp_path / 'nb'} {inode} " in (tmp_path / "01_a.html").read_text()
    assert outcome.peak_memory_mb > 20
    assert not (tmp_path / "01_a.log").exists()
