"""Small notebooks for the tests of the driver, and a function that runs them without a kernel."""

from __future__ import annotations

import json
from pathlib import Path

from o3v.runner.execution import Execution

PARAMETERS = 'profile = "smoke"\nseed = 0\nrun_dir = "../runs/by-hand"\n'

MAKE = """\
from o3v.files import write_text
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "01_make")
---
write_text(stage.path("number.txt"), str(seed * factor))
stage.record({"made": seed * factor}, ["number.txt"])
"""
SIDE = """\
from o3v.runner.stage import open_stage
from o3v.geometry import box_area
stage = open_stage(run_dir, "02_side")
---
stage.record({"area": box_area((0, 0, side, side))}, [])
"""
TRAIN = """\
from o3v.files import read_json, write_json
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "02_train")
number = float(stage.require("01_make/number.txt").read_text())
---
import time
state = stage.path("state.json")
done = read_json(state) if state.exists() else {"sum": 0, "steps": 0, "starts": []}
done["starts"].append(done["steps"])
for step in range(done["steps"], 4):
    done |= {"sum": 3 * done["sum"] + number + step, "steps": step + 1}
    write_json(state, done)
    time.sleep(pause_s)
    assert step != 1 or not (stage.run_dir.parent / "stop").exists(), "stop file found"
---
stage.record({"sum": done["sum"]}, [])
"""
USE = """\
from o3v.files import write_json
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "03_use")
number = float(stage.require("01_make/number.txt").read_text())
---
rates = {"format_rate": number, "accuracy": None}
write_json(stage.path("metrics.json"), {"base": rates, "sft_gspo": rates})
stage.record({"twice": 2 * number}, ["metrics.json"])
"""


def write_notebook(path: Path, code: str, parameters: str = PARAMETERS) -> Path:
    """Writes a notebook with a parameters cell and one code cell for each part of `code` between lines of `---`."""
    cells = [{"cell_type": "code", "source": parameters, "metadata": {"tags": ["parameters"]}}]
    for part in code.split("---\n"):
        cells.append({"cell_type": "markdown", "source": "What follows.", "metadata": {}})
        cells.append({"cell_type": "code", "source": part, "metadata": {}})
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


def write_toys(folder: Path) -> Path:
    """Writes three notebooks: 01 writes a number, 03 reads it, 02 depends on neither."""
    write_notebook(folder / "01_make.ipynb", MAKE, PARAMETERS + "factor = 2.0\n")
    write_notebook(folder / "02_side.ipynb", SIDE, PARAMETERS + "side: float = 3.0\n")
    write_notebook(folder / "03_use.ipynb", USE, PARAMETERS + 'word = "a"\n')
    return folder


def write_training(folder: Path) -> Path:
    """Writes two notebooks: 01 writes a number, 02 trains on it for four steps with a checkpoint after each.

    02 fails after its second step if the file `stop` exists in the folder of the runs.
    """
    write_notebook(folder / "01_make.ipynb", MAKE, PARAMETERS + "factor = 2.0\n")
    write_notebook(folder / "02_train.ipynb", TRAIN, PARAMETERS + "pause_s = 0.0\n")
    return folder


def execute_here(source: Path, output: Path, parameters: dict, **_: object) -> Execution:
    """Replaces `o3v.runner.execution.execute`: runs the cells in this process and writes empty pages."""
    for page in (output, output.with_suffix(".html")):
        page.write_text("", encoding="utf-8")
    names: dict = {}
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        try:
            if cell["cell_type"] == "code":
                exec(cell["source"], names)
        except Exception as error:
            return Execution(f"a cell: {type(error).__name__}: {error}", 1.0, 50.0)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= parameters
    return Execution(None, 1.0, 50.0)
