"""`o3v run`: odd arguments and manifests, full disks, kernels of a killed driver, long prints."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers.toy_notebooks import PARAMETERS, execute_here, write_notebook, write_toys

from o3v.__main__ import main
from o3v.runner import driver, execution
from o3v.runner.hashes import CACHE
from o3v.runner.plan import plan_run


@pytest.fixture
def toys(tmp_path):
    return write_toys(tmp_path / "notebooks")


def arguments(tmp_path, *more):
    out = ["--out", str(tmp_path / "runs"), "--notebooks", str(tmp_path / "notebooks")]
    return ["run", "--profile", "smoke", *out, *more]


def one_line(capsys, monkeypatch, tmp_path, *more):
    """The error of a command that must not start anything."""
    monkeypatch.setattr(driver, "execute", lambda *_, **__: pytest.fail("it starts"))
    assert main(arguments(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("o3v: ") and error.count("\n") == 1 and len(error) < 700
    return error


ODD_VALUES = [
    "{[]}",
    "{1, 2}",
    "b'x'",
    "1j",
    "[{1}]",
    "[float('nan')]",
    "1e999",
    "9" * 5_000,
    "(" * 10_000,
    "[" * 3_000 + "]" * 3_000,
    "-" * 50_000 + "1",
    "\udc80",
    "{(1, 2): 3}",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("parameter", ["any = None", "any: list = []", "any: dict = {}", "any = 0.5", "any: int = 1"])
def test_an_odd_value_of_a_parameter_is_a_text_or_one_line(tmp_path, value, parameter, capsys, monkeypatch):
    write_notebook(tmp_path / "notebooks/01_a.ipynb", "x = 1", f"{PARAMETERS}{parameter}\n")
    try:
        plan = plan_run("smoke", 0, tmp_path / "runs", overrides={"01.any": value}, notebooks=tmp_path / "notebooks")
    except ValueError as error:
        assert "01_a.any" in str(error) and len(str(error)) < 400
        one_line(capsys, monkeypatch, tmp_path, "-p", f"01.any={value}")
    else:
        assert parameter == "any = None"
        json.dumps(plan.overrides, allow_nan=False).encode()


def bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


GRIDS = {
    "deep": "[" * 5_000 + "]" * 5_000,
    "deep map": "{a: " * 5_000 + "1" + "}" * 5_000,
    "bomb": bomb(12),
    "bomb as a value": bomb(12) + "\nseed: [*a11]",
    "too many": "".join(f"01.x{n}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for n in range(12)),
    "python": "seed: !!python/object/apply:os.system ['touch hacked']",
    "not UTF-8": b"seed: [\xff]",
    "control": "seed: [\x00]",
    "digits": "seed: [" + "9" * 5_000 + "]",
    "list": "- a",
    "nothing": "",
    "long": "# x\n" * 100_000,
    "a recursion": "&a [*a]",
    "keys": "? [1, 2]\n: [3]",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", GRIDS)
def test_an_odd_grid_is_one_line(tmp_path, toys, name, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = GRIDS[name]
    (tmp_path / "grid.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    start_s = time.process_time()
    one_line(capsys, monkeypatch, tmp_path, "--matrix", str(tmp_path / "grid.yaml"))
    assert time.process_time() - start_s < 3 and not (tmp_path / "hacked").exists()


GOOD = {"profile": "smoke", "seed": 0, "overrides": {}, "stages": {}}
MANIFESTS = [
    "{",
    "[]",
    "7",
    "[" * 100_000,
    "\x00",
    json.dumps({**GOOD, "stages": []}),
    json.dumps({**GOOD, "stages": {"01_make": 7}}),
    json.dumps({**GOOD, "stages": {"01_make": {"duration_s": "long"}}}),
    json.dumps({**GOOD, "overrides": "x"}),
    json.dumps({"stages": {}}),
]


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_damaged_manifest_is_one_line_and_removes_nothing(tmp_path, toys, text, capsys, monkeypatch):
    (tmp_path / "runs/smoke-0/01_make").mkdir(parents=True)
    (tmp_path / "runs/smoke-0/01_make/work").write_text("hours")
    (tmp_path / "runs/smoke-0/manifest.json").write_text(text)
    assert "manifest" in one_line(capsys, monkeypatch, tmp_path)
    assert "manifest" in one_line_of_resume(capsys, tmp_path)
    assert (tmp_path / "runs/smoke-0/01_make/work").read_text() == "hours"


def one_line_of_resume(capsys, tmp_path):
    _, _, _, *others = arguments(tmp_path, "--resume", "smoke-0")
    assert main(["run", *others]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("stage", [{"status": "done"}, {"status": "done", "key": 7, "inputs": [], "outputs": None}, {}])
def test_a_stage_of_a_manifest_without_its_facts_runs_again(tmp_path, toys, stage, monkeypatch):
    monkeypatch.setattr(driver, "execute", execute_here)
    (tmp_path / "runs/smoke-0").mkdir(parents=True)
    (tmp_path / "runs/smoke-0/manifest.json").write_text(json.dumps({**GOOD, "stages": {"01_make": stage}}))
    assert main(arguments(tmp_path)) == 0


def test_files_from_the_past_or_the_future_are_judged_by_their_content(tmp_path, toys, monkeypatch):
    """The clock was set back: times of files say nothing."""
    ran = []
    monkeypatch.setattr(driver, "execute", lambda *a, **o: ran.append(a[0].stem) or execute_here(*a, **o))
    assert main(arguments(tmp_path)) == 0
    for number, path in enumerate(sorted((tmp_path / "runs").rglob("*"))):
        os.utime(path, (1e9 * (number % 3), 1e9 * (number % 3)))
    ran.clear()
    assert main(arguments(tmp_path)) == 0 and ran == []
    number = tmp_path / "runs/smoke-0/01_make/number.txt"
    status = number.stat()
    number.write_text("9")
    os.utime(number, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main(arguments(tmp_path)) == 0 and ran == ["01_make"]


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
runpy.run_module("o3v", run_name="__main__")
"""


@pytest.mark.timeout(120)
def test_a_full_disk_is_one_line_and_a_rerun_goes_on(tmp_path):
    """A limit on the size of files stands for the full disk: the executed notebook cannot be written in full."""
    write_notebook(tmp_path / "notebooks/01_make.ipynb", "x = 'a'\nprint(x * 90_000)\n" + STAGE, PARAMETERS)
    limited = [sys.executable, "-c", LIMITED, *arguments(tmp_path)]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2) and done.stderr.startswith("o3v: ") and done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr
    run_dir = tmp_path / "runs/smoke-0"
    assert json.loads((run_dir / "manifest.json").read_text())["stages"]["01_make"]["status"] == "failed"
    assert not (run_dir / "01_make.ipynb").exists() and not (run_dir / "01_make.html").exists()
    command = [sys.executable, "-m", "o3v", *arguments(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


STAGE = """\
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "01_make")
stage.record({"a": 1}, [])
"""


@pytest.mark.parametrize("fail_at", range(8))
def test_a_file_that_cannot_be_written_leaves_a_state_to_go_on_from(tmp_path, toys, fail_at, monkeypatch, capsys):
    """Every write in turn fails, of manifests, results and pages. (The cache of hashes may be lost at any time.)"""
    real, left = os.replace, [fail_at]

    def full(source, target):
        left[0] -= os.path.basename(target) != CACHE
        if left[0] == -1:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(driver, "execute", execute_here)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert main(arguments(tmp_path)) in (1, 2)
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1
    assert main(arguments(tmp_path)) == 0
    stages = json.loads((tmp_path / "runs/smoke-0/manifest.json").read_text())["stages"]
    assert [stage["status"] for stage in stages.values()] == ["done"] * 3
    assert not list((tmp_path / "runs").rglob(".o3v-*"))


BUSY = """\
import os
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "01_make")
if busy:
    stage.path("pid").write_text(str(os.getpid()))
    sum(range(10**12))
---
stage.record({"a": 1}, [])
"""


@pytest.mark.timeout(90)
def test_the_kernel_of_a_killed_driver_ends_at_once_although_it_is_busy(tmp_path):
    """In `sum` no other thread runs, also not the one by which a kernel notices that its driver has gone."""
    write_notebook(tmp_path / "notebooks/01_make.ipynb", BUSY, PARAMETERS + "busy = False\n")
    command = [sys.executable, "-m", "o3v", *arguments(tmp_path, "-p", "01.busy=True")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids, deadline = [], time.monotonic() + 40
    while not pids and time.monotonic() < deadline:
        time.sleep(0.1)
        pids = [path.read_text() for path in (tmp_path / "runs").rglob("pid") if path.read_text()]
    time.sleep(0.5)
    kernel = psutil.Process(int(pids[0]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 1
    while (running := is_running(kernel)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if running:
        kernel.kill()
    assert not running


def is_running(process):
    """Whether a process runs; one that has ended may still be listed in a container."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.timeout(60)
def test_a_print_of_50_mb_does_not_make_a_page_of_53_mb(tmp_path):
    import nbformat

    def output(**fields):
        return nbformat.from_dict(fields)

    long = "begin" + "x" * 50_000_000 + "end"
    cell = nbformat.v4.new_code_cell("print(long)")
    cell.outputs = [
        output(output_type="stream", name="stdout", text=long),
        output(output_type="stream", name="stderr", text="y" * 200_000),
        output(output_type="execute_result", execution_count=1, metadata={}, data={"text/plain": "y" * 200_000}),
        output(output_type="error", ename="ValueError", evalue="y" * 200_000, traceback=["y" * 200_000, "last line"]),
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("text"), cell])
    nbformat.write(book, tmp_path / "a.ipynb")
    execution.finish_pages(tmp_path / "a.ipynb", tmp_path, 0, None)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert len(page) < 1_500_000 and (tmp_path / "a.ipynb").stat().st_size < 300_000
    assert "begin" in page and "49,900,008 characters left out" in page
    assert "last line" in page


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path):
    """`o3v sift … | head -1`: a traceback, and at times no result."""
    from helpers.outside import evidence_row, write_rows

    source = write_rows(tmp_path / "rows.json", [evidence_row("a")])
    command = [sys.executable, "-m", "o3v", "sift", str(source), str(tmp_path / "out"), "--workers", "1"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0 and "Error" not in done.stderr
    assert [row["id"] for row in json.loads((tmp_path / "out/kept.json").read_text())] == ["a"]


def test_an_output_without_unicode_gets_escape_codes(tmp_path):
    source = tmp_path / "x.jsonl"
    row = {"task": "General video QA MCQ", "answer": "B"}
    source.write_text(json.dumps({"completion": "<think>a</think><answer>B</answer>", "row": row}))
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "o3v", "score", str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and "\\u2013" in done.stdout
