"""Benchmarks that lmms-eval has: the command that runs them there, and its results. No loop of our own.

Names of tasks, options and files are those of lmms-eval 0.7, which is no dependency: the command runs where it is
installed. Our out-of-tree task for V-STAR is in `lmms_eval_tasks/` of the repository.
"""

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from o3v import files
from o3v.config import REPOSITORY
from o3v.evaluation.benchmarks import BENCHMARKS, NUM_FRAMES
from o3v.schema import Row

TASKS_FOLDER = REPOSITORY / "lmms_eval_tasks"  # for --include_path
VSTAR_TASK, VSTAR_FRAMES = "vstar_video", 16
BACKENDS = {"qwen3-vl": "qwen3_vl", "": "qwen2_5_vl"}  # by what the model's name contains; the first that fits


def lmms_command(
    benchmark: str, model: str, out: Path, videos: Path | None = None, tasks_folder: Path = TASKS_FOLDER
) -> str:
    """The shell command that runs a benchmark with lmms-eval and writes its results below `out`.

    Args:
        benchmark: "vstar" or a key of BENCHMARKS.
        model: hub name or folder.
        out: folder of the results.
        videos: folder of V-STaR's videos; lmms-eval finds those of the other benchmarks itself.
        tasks_folder: of our own task, see `local_vstar_task`.

    Raises ValueError for a benchmark that lmms-eval lacks.
    """
    tasks = {name: found.lmms_task for name, found in BENCHMARKS.items()} | {"vstar": VSTAR_TASK}
    if not tasks.get(benchmark):
        known = ", ".join(name for name, task in tasks.items() if task)
        raise ValueError(f"lmms-eval has no task for {benchmark!r}; it has {known}")
    own = benchmark == "vstar"
    backend = next(found for part, found in BACKENDS.items() if part in model.lower())
    frames = VSTAR_FRAMES if own else NUM_FRAMES
    words = ["python", "-m", "lmms_eval", "--model", backend]
    words += ["--model_args", f"pretrained={model},max_num_frames={frames}", "--tasks", tasks[benchmark]]
    words += ["--batch_size", "1", "--log_samples", "--output_path", str(out)]
    words += ["--include_path", str(tasks_folder)] if own else []
    settings = {"VSTAR_BOX_SPACE": "thousandths" if backend == "qwen3_vl" else "pixels"}
    settings |= {"VSTAR_VIDEOS": str(videos)} if videos else {}
    given = [f"{name}={shlex.quote(value)}" for name, value in settings.items()] if own else []
    return " ".join([*given, shlex.join(words)])


def local_vstar_task(folder: Path, items: Path) -> Path:
    """Copies our task to `folder` with the benchmark's local file in place of that of the hub. Returns `folder`."""
    text = (TASKS_FOLDER / "vstar" / "vstar.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^dataset_path: .*", "dataset_path: json", text, flags=re.MULTILINE)
    text = re.sub(r"^    test: .*", lambda _: f"    test: {json.dumps(str(items.resolve()))}", text, flags=re.MULTILINE)
    files.write_text(folder / "vstar" / "vstar.yaml", text)
    files.write_text(folder / "vstar" / "utils.py", (TASKS_FOLDER / "vstar" / "utils.py").read_text(encoding="utf-8"))
    return folder


def lmms_results(out: Path) -> list[Row]:
    """The metrics of the newest results below `out`: task, metric, value, low, high (95%, by standard error), n.

    low and high are None where lmms-eval gives no standard error. [] if there are no results yet. Raises ValueError
    for a file of another form.
    """
    found = sorted(out.rglob("*_results.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        return []
    content = files.read_json(found[-1])
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise ValueError(f"{found[-1]} holds no 'results' of lmms-eval")
    rows = []
    for task, metrics in results.items():
        for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
            metric, _, kind = name.partition(",")
            if not _is_number(value) or metric.endswith("_stderr") or not kind:
                continue
            error = metrics.get(f"{metric}_stderr,{kind}")
            ends = [value - 1.96 * error, value + 1.96 * error] if _is_number(error) else [None, None]
            n = _number_of(content, task, metrics)
            rows.append({"task": task, "metric": metric, "value": value, "low": ends[0], "high": ends[1], "n": n})
    return rows


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _number_of(content: Mapping[str, Any], task: str, metrics: Mapping[str, Any]) -> int | None:
    counts = content.get("n-samples")
    mine = counts.get(task) if isinstance(counts, Mapping) else None
    number = mine.get("effective") if isinstance(mine, Mapping) else metrics.get("samples")
    return number if type(number) is int else None
