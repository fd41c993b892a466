"""A small finished run for the tests of `o3v.review`: notebooks 03 and 05 with rows, weights, figures and pages.

Its numbers are known by hand. In 05 one of two items is answered perfectly by `sft_gspo` and no other item by any
model, so accuracy, tIoU and vIoU of `sft_gspo` are 0.5. In 03 the reward of both questions rises by 1; of the two
rollouts one is right in the right form (answer 1 + format 1), the other wrong in the right form (0 + 1).
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from o3v.files import hash_path, write_json, write_jsonl, write_text
from o3v.runner.page import render_page
from o3v.runner.stage import open_stage, read_stage

ITEM = {
    "vid": "a.mp4",
    "domain": "Park",
    "fps": 10,
    "width": 100,
    "height": 100,
    "frame_count": 300,
    "question": "What falls?",
    "answer": "the cup",
    "timestamps": [0.0, 10.0],
    "bboxes": [{"timestamp": 1, "frame_index": 10, "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}],
}
NOTHING = {"answer_vqa": "", "judge_score": 0, "answer_temporal": [], "answer_spatial": {}}
NOTHING |= {"answer_temporal_2": [], "answer_spatial_2": {}}
BOXES = {"1": [0.0, 0.0, 10.0, 10.0]}
PERFECT = {"answer_vqa": "A cup", "judge_score": 3, "answer_temporal": [0.0, 10.0], "answer_spatial": BOXES}
PERFECT |= {"answer_temporal_2": [0.0, 10.0], "answer_spatial_2": BOXES}
ZERO = {"accuracy": 0.0, "m_tiou": 0.0, "m_viou": 0.0, "mam": 0.0, "mlgm": 0.0, "format_rate": 0.0}
HALF = {"accuracy": 0.5, "m_tiou": 0.5, "m_viou": 0.5, "mam": 0.5, "mlgm": 0.6931471805599453, "format_rate": 1.0}
METRICS = {"base": ZERO, "sft": ZERO, "sft_gspo": HALF}  # mlgm: −ln(1 − 0.5)
HELDOUT = {
    "steps": 2,
    "questions": 2,
    "reading of the reward": "paper",
    "verdict": "rose",
    "total, before": 1.0,
    "total, after": 2.0,
    "ans_acc, before": 0.25,
    "ans_acc, after": 0.25,
}


QUESTION = {
    "id": "q",
    "video_path": "a.mp4",
    "task": "General video QA MCQ",
    "question": "Which?\nA. red\nB. blue",
    "answer": "B",
}
# 13.816 = −ln(10⁻⁶), the limit of the LGM: the best resample holds the perfect item only
README = """\
| seed | | accuracy | m_tIoU | m_vIoU | mAM | mLGM | format | reward |
|---|---|---|---|---|---|---|---|---|
| 0 | base | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | |
| | SFT | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | 1.000 |
| | SFT+GSPO | 0.500 | 0.500 | 0.500 | 0.500 | 0.693 | 1.000 | 2.000 |
| | change | HALF | HALF | HALF | HALF | +0.693 (0.000 to 13.816) | | +1.000 (1.000 to 1.000) |
| 7 | base | 0.123 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | |
""".replace("HALF", "+0.500 (0.000 to 1.000)")


def png(grey: int) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.new("RGB", (60, 40), (grey, 120, 200)).save(file, "png")
    return file.getvalue()


def response(answer: str) -> str:
    """A well-formed response."""
    return f"<think>It is {answer}.</think><answer>{answer}</answer>"


def make_run(run_dir: Path) -> Path:
    """Writes the run, with its manifest, and returns its folder."""
    stages = {"03_gspo": _gspo(run_dir), "05_evaluation": _evaluation(run_dir)}
    manifest = {"run_id": run_dir.name, "profile": "tiny", "seed": 0, "overrides": {}, "o3v": "0.1.0", "python": "3.11"}
    manifest |= {"git": {"commit": "0" * 40, "dirty": False}, "machine": {"cpu": "a", "cores": 2}}
    write_json(run_dir / "manifest.json", manifest | {"packages": {"torch": "2.13.0"}, "stages": stages})
    return run_dir


def _gspo(run_dir: Path) -> dict[str, Any]:
    stage = open_stage(run_dir, "03_gspo")
    rows = [
        {"when": when, "id": str(i), "task": "visual QA", "ans_acc": 0.25, "total": reward + i}
        for when, reward in (("before", 0.5), ("after", 1.5))
        for i in range(2)
    ]
    write_jsonl(stage.path("heldout.jsonl"), rows)
    write_jsonl(run_dir / "01_data_pipeline/rl.jsonl", [QUESTION])
    scored = {"step": 0, "id": "q", "task": QUESTION["task"], "format": 1.0}
    rollouts = [
        {**scored, "completion": response(answer), "ans_acc": right, "total": 1 + right, "total_at_start": 1 + right}
        for answer, right in (("B", 1.0), ("A", 0.0))
    ]
    write_jsonl(stage.path("rollouts.jsonl"), rollouts)
    write_text(stage.path("metrics.csv"), "step,loss\n1,0.5\n2,0.25\n")
    stage.path("checkpoint/model.safetensors").write_bytes(bytes(range(200)))
    stage.path("reward.png").write_bytes(png(10))
    stage.path("world/a.mp4").write_bytes(b"a video")
    stage.list_media("data", {"world": stage.path("world")}, {"world": ["a.mp4"]})
    stage.record(
        HELDOUT, ["heldout.jsonl", "rollouts.jsonl", "metrics.csv", "checkpoint", "reward.png", "data.media.json"]
    )
    same = {"change": 0.0, "low": 0.0, "high": 0.0, "verdict": "within chance"}
    table = {
        "answer right": {"before": 0.25, "after": 0.25, **same},
        "reward": {"before": 1.0, "after": 2.0, "change": 1.0, "low": 1.0, "high": 1.0, "verdict": "rose"},
    }
    return _finish(run_dir, "03_gspo", pd.DataFrame(table).T, HELDOUT, png(10))


def _evaluation(run_dir: Path) -> dict[str, Any]:
    stage = open_stage(run_dir, "05_evaluation")
    stage.require("03_gspo/checkpoint")
    results = {"base": [NOTHING, NOTHING], "sft": [NOTHING, NOTHING], "sft_gspo": [PERFECT, NOTHING]}
    rows = [{"model": name, **ITEM, **result} for name, some in results.items() for result in some]
    write_jsonl(stage.path("predictions.jsonl"), rows)
    write_json(stage.path("metrics.json"), METRICS)
    stage.path("comparison.png").write_bytes(png(200))
    outputs = ["predictions.jsonl", "metrics.json", "comparison.png"]
    stage.record({name: values["mam"] for name, values in METRICS.items()}, outputs)
    table = pd.DataFrame(METRICS).T.rename(index={"sft": "SFT", "sft_gspo": "SFT+GSPO"}).round(3)
    return _finish(run_dir, "05_evaluation", table, METRICS, png(200))


def _finish(run_dir: Path, name: str, table: pd.DataFrame, last: object, picture: bytes) -> dict[str, Any]:
    """Writes the executed notebook and its page; returns the stage's part of the manifest."""
    picture = base64.b64encode(picture).decode()
    shown = new_output("execute_result", {"text/html": table.to_html(), "text/plain": "a table"})
    drawn = new_output("display_data", {"image/png": picture, "text/plain": "a figure"})
    printed = new_output("execute_result", {"text/plain": repr(last)})
    cells = [
        new_markdown_cell(f"# {name}\n\nA formula, $s = \\frac{{1}}{{2}}$, and [the words](../docs/glossary.md#kl)."),
        new_code_cell("table", outputs=[shown]),
        new_code_cell("figure", outputs=[drawn]),
        new_code_cell("last", outputs=[printed]),
    ]
    book = new_notebook(cells=cells)
    nbformat.write(book, run_dir / f"{name}.ipynb")
    folder = Path(__file__).parents[2] / "notebooks"
    write_text(run_dir / f"{name}.html", render_page(book, name, folder, run_dir))
    pages = {page.name: hash_path(page) for page in (run_dir / f"{name}.ipynb", run_dir / f"{name}.html")}
    facts = {"status": "done", "key": name, "parameters": {"seed": 0}, "pages": pages}
    return {**facts, **(read_stage(run_dir, name) or {})}
