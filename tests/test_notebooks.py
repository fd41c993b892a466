"""Tests of the notebooks: rules for their cells (`hygiene`), and runs on the profile smoke."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from o3v.cli.run import METRICS
from o3v.runner import driver
from o3v.runner.notebook import read_notebook
from o3v.runner.plan import plan_run

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_LINES = 25

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> tuple[dict, list[dict]]:
    """Returns the notebook and its code cells."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return book, [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def code_of(cell: dict) -> str:
    """Returns the source of a cell without the commands of IPython (`%matplotlib`, `!ls`)."""
    lines = "".join(cell["source"]).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def heldout_rows(run_dir: Path) -> list[dict]:
    """Returns the held-out answers that notebook 03 recorded."""
    lines = (run_dir / "03_gspo/heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@each_notebook
def test_hygiene_of_parameters(path):
    parameters = read_notebook(path).parameters  # raises an error for anything but literals
    assert {"profile", "seed", "run_dir"} <= parameters.keys()
    assert parameters["profile"].types == (str,)
    assert parameters["seed"].types == (int,)
    assert parameters["run_dir"].types == (str,)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem[:2].isdigit()], ids=lambda path: path.stem)
def test_a_notebook_says_what_it_needs_and_opens_on_tiny(path):
    head = "".join(read(path)[0]["cells"][0]["source"])
    assert all(f"- **{word}**" in head for word in ("Needs", "Takes", "You will see"))
    assert read_notebook(path).parameters["profile"].default == "tiny"


@each_notebook
def test_hygiene_of_cells(path):
    cells = read(path)[0]["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        assert number and cells[number - 1]["cell_type"] == "markdown", f"cell {number}: no markdown cell before it"
        assert len("".join(cell["source"]).splitlines()) <= MAX_LINES, f"cell {number} is too long"
        source = code_of(cell)
        assert source.strip(), f"cell {number} is empty"
        nodes = ast.walk(ast.parse(source))
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        assert not [node.name for node in nodes if isinstance(node, kinds)], f"cell {number} defines something"


@each_notebook
def test_hygiene_of_the_end(path):
    _, code = read(path)
    calls = [node.func for node in ast.walk(ast.parse(code_of(code[-1]))) if isinstance(node, ast.Call)]
    assert any(isinstance(func, ast.Attribute) and func.attr == "record" for func in calls), "the last cell must record"


@each_notebook
def test_hygiene_of_the_stored_file(path):
    book, code = read(path)
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in book["metadata"]
    assert not any(cell["outputs"] for cell in code), "clear the outputs before committing"
    assert not any(cell["execution_count"] for cell in code), "clear the outputs before committing"


@pytest.mark.smoke
@pytest.mark.timeout(900)
@pytest.mark.skipif(not list(FOLDER.glob("05_*.ipynb")), reason="notebook 05 does not exist yet")
def test_all_notebooks_run_on_smoke_and_record_their_results(tmp_path):
    plan = plan_run("smoke", 0, tmp_path)
    assert driver.run(plan, timeout_s=600) is None
    numbered = [path.stem for path in NOTEBOOKS if path.stem[:2].isdigit()]
    stages = json.loads((plan.run_dir / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert list(stages) == numbered
    for name in numbered:
        assert stages[name]["status"] == "done"
        assert json.loads((plan.run_dir / name / "results.json").read_text(encoding="utf-8"))
        assert (plan.run_dir / f"{name}.html").stat().st_size > 10_000
        assert "vnd.jupyter.widget" not in (plan.run_dir / f"{name}.ipynb").read_text(encoding="utf-8")
    lesson = (plan.run_dir / "03_gspo.ipynb").read_text(encoding="utf-8")
    for printed in ("A = +1: loss of the toy answer -1.200", "A = -1: loss of the toy answer +1.252", "1.078"):
        assert printed in lesson  # as the text beside it says
    assert {row["when"] for row in heldout_rows(plan.run_dir)} == {"before", "after"}
    metrics = json.loads((plan.run_dir / "05_evaluation/metrics.json").read_text(encoding="utf-8"))
    assert metrics.keys() == {"base", "sft", "sft_gspo"}
    assert all(values.keys() >= set(METRICS) for values in metrics.values())


@pytest.mark.smoke
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["03b_reward_analysis", "04_inference", "05_evaluation"])
def test_a_notebook_that_is_opened_alone_shows_the_shipped_model(tmp_path, monkeypatch, name):
    import papermill

    monkeypatch.delenv("O3V_HEADLESS", raising=False)
    few = {} if name.startswith("03b") else {"shipped_items": 1}
    executed = tmp_path / "executed.ipynb"
    options = {"cwd": FOLDER, "kernel_name": "python3", "progress_bar": False}
    papermill.execute_notebook(FOLDER / f"{name}.ipynb", executed, {"run_dir": str(tmp_path / "run"), **few}, **options)
    assert "are the shipped ones of data/" in executed.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run" / name / "results.json").read_text(encoding="utf-8"))


@pytest.mark.smoke
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_rehearsal_of_full_runs_with_the_real_classes_and_files(tmp_path, family):
    """The real tokens and chat template, the hub's files, the STGR layout with broken rows; nothing is learned."""
    from o3v.tinybase.twins import make_twin  # here, because it imports torch

    base = make_twin(tmp_path / "twin", family)
    plan = plan_run("rehearsal", 0, tmp_path, overrides={"base": str(base)})
    assert driver.run(plan, timeout_s=600) is None
    stages = json.loads((plan.run_dir / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert [stage["status"] for stage in stages.values()] == ["done"] * len(stages)
    assert list(stages) == [path.stem for path in NOTEBOOKS if path.stem[:2].isdigit()]
    results = {name: json.loads((plan.run_dir / name / "results.json").read_text(encoding="utf-8")) for name in stages}
    assert results["03_gspo"]["family"] == family and results["03_gspo"]["steps"] == 2
    config = json.loads((plan.run_dir / "03_gspo/checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == family
    assert {row["when"] for row in heldout_rows(plan.run_dir)} == {"before", "after"}
    metrics = json.loads((plan.run_dir / "05_evaluation/metrics.json").read_text(encoding="utf-8"))
    assert metrics.keys() == {"base", "sft", "sft_gspo"}


@pytest.mark.smoke
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("start", "steps"),
    [("", "vision 6, pictures 4, shorts 4, films 4"), ("../data/o3v-tiny-base", "further 4")],
    ids=["from nothing", "further"],
)
def test_the_appendix_makes_a_base_with_a_card(tmp_path, start, steps):
    import papermill

    from o3v import models  # here, because it imports torch, which the fast tests do not need
    from o3v.tinybase import model_card

    parameters = {"profile": "smoke", "run_dir": str(tmp_path), "start": start}
    papermill.execute_notebook(
        FOLDER / "appendix_tiny_base.ipynb",
        tmp_path / "executed.ipynb",
        parameters,
        cwd=FOLDER,
        kernel_name="python3",
        progress_bar=False,
    )
    folder = tmp_path / "appendix_tiny_base"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["format reward"] == 0.0 and set(model_card.BARS) <= results.keys()
    page = (folder / "o3v-tiny-base" / "README.md").read_text(encoding="utf-8")
    assert f"| steps | {steps} |" in page and ("started from" in page) == bool(start)
    assert models.load(folder / "o3v-tiny-base").box_space == "pixels"


@pytest.mark.smoke
@pytest.mark.timeout(300)
def test_the_pipeline_annotates_a_folder_of_videos(tmp_path):
    import numpy as np
    import papermill
    from helpers.annotation_server import Server

    from o3v.toyworld.writing import write_video

    annotation = {
        "question": "What comes?",
        "answer": "The red ball",
        "key_frames": [{"at": 0.5, "objects": [{"name": "red ball", "box": [0.1, 0.2, 0.5, 0.9]}]}],
        "reasoning": "The <obj>red ball</obj><box>[0.1,0.2,0.5,0.9]</box>at<t>0.5</t>s comes.",
    }
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        write_video(videos / f"{name}.mp4", np.full((10, 112, 112, 3), 90, np.uint8), fps=10)
    server = Server(text=json.dumps(annotation))
    parameters = {
        "profile": "smoke",
        "run_dir": str(tmp_path / "run"),
        "annotator": "openai",
        "videos": str(videos),
        "model_name": "m",
        "endpoint": f"{server.url}/v1",
    }
    papermill.execute_notebook(
        FOLDER / "01_data_pipeline.ipynb",
        tmp_path / "executed.ipynb",
        parameters,
        cwd=FOLDER,
        kernel_name="python3",
        progress_bar=False,
    )
    assert len(server.requests) == 2
    page = (tmp_path / "executed.ipynb").read_text(encoding="utf-8")
    assert re.search(r"\b2 answers to 2 \w+", page)
    assert "not what it is called" in page  # a grey video shows no red ball: the gallery of dropped rows shows it
    assert (tmp_path / "run/01_data_pipeline/annotated.jsonl").read_text(encoding="utf-8") == ""
