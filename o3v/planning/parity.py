"""Parity of the two engines of GSPO: transformers, which trains, and vLLM, which samples.

Both must see the same tokens and pixels and give the same probabilities, or training uses rollouts of another policy.
The engines live in environments of their own and exchange files in a folder beside the checkpoint: `cases.json` has
prompts with the greedy answers of transformers (`models.parity_cases`), `engine.json` the answers of vLLM
(`models/vllm_greedy.py`, or its server), and `record.json` the result, which is bound to the checkpoint by hashes. This
module compares files and knows no model.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from o3v import files

CASES, ENGINE, RECORD, IMAGES = "cases.json", "engine.json", "record.json", "images"
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # weights, configs, tokenizer, processors
LEAST_CASES = 5
COMMAND = "o3v parity"
# The quantities of a case and their types: both engines' rows have them. Probabilities are natural logarithms.
FIELDS: Mapping[str, type] = {"input_ids": int, "image_grids": list, "tokens": int, "logprobs": float}
Row = Mapping[str, Any]


class NoParity(ValueError):
    """The engines have not been shown to agree on this checkpoint: the message says why and what to do."""


@dataclass(frozen=True)
class Tolerance:
    """Largest differences of log-probabilities (nats) that count as rounding."""

    mean: float  # of all compared tokens
    most: float  # of one token
    tie: float  # greedy tokens may differ where the best two of transformers are at most this far apart


# fp32 by what was measured (benchmarks/vllm_parity.py); bf16 is ours and not measured yet
TOLERANCES: Mapping[str, Tolerance] = {
    "float32": Tolerance(mean=1e-4, most=1e-3, tie=1e-3),
    "bfloat16": Tolerance(mean=0.05, most=0.5, tie=0.1),
}


def folder_of(model: Path | str) -> Path:
    """The folder of the exchanged files, beside the model's folder."""
    path = Path(model).resolve()
    return path.with_name(f"{path.name}.parity")


def model_files(model: Path | str) -> dict[str, str]:
    """sha256 by name of all files that decide what a model says. Raises FileNotFoundError without weights."""
    paths = sorted({path for pattern in MODEL_FILES for path in Path(model).glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in paths):
        raise FileNotFoundError(f"{model} is no folder with a model's weights (*.safetensors)")
    return {path.name: files.hash_file(path) for path in paths}


def compare(folder: Path) -> dict[str, Any]:
    """Compares the files of both engines and writes `record.json`. Returns the record, with `passed` and `table`.

    Raises FileNotFoundError or ValueError, naming file, case and field, for files that are missing, damaged or not of
    the same cases; NoParity if the checkpoint has changed since the cases were written.
    """
    record_path, cases_path = folder / RECORD, folder / CASES
    record_path.unlink(missing_ok=True)  # an old verdict must not outlive a failed comparison
    cases, answers = _read(cases_path, "cases"), _read(folder / ENGINE, "answers")
    settings, engine = cases["settings"], answers["settings"]
    if engine.get("cases_sha256") != files.hash_file(cases_path):
        raise ValueError(f"{folder / ENGINE} answers other cases than {CASES}; run `{COMMAND}` again")
    if changed := _changed(settings["model_files"], model_files(settings["model"])):
        raise NoParity(f"{settings['model']}: {changed} changed since {CASES} was written; run `{COMMAND}` again")
    if settings["dtype"] not in TOLERANCES:
        raise ValueError(f"{cases_path}: dtype {settings['dtype']!r} is none of {', '.join(TOLERANCES)}")
    if len(cases["cases"]) != len(answers["answers"]):
        raise ValueError(f"{folder / ENGINE} has {len(answers['answers'])} answers to {len(cases['cases'])} cases")
    tolerance = TOLERANCES[settings["dtype"]]
    table, differences = compare_rows(cases["cases"], answers["answers"], tolerance)
    if len(cases["cases"]) < LEAST_CASES:
        differences.insert(0, f"only {len(cases['cases'])} cases; at least {LEAST_CASES} are needed")
    record = {
        "passed": not differences,
        "model_files": settings["model_files"],
        "dtype": settings["dtype"],
        "engine": engine["engine"],
        "tolerance": asdict(tolerance),
        "cases": len(cases["cases"]),
        "table": table,
        "differences": differences,
    }
    files.write_json(record_path, record)
    return record


def compare_rows(
    cases: Sequence[Row], answers: Sequence[Row], tolerance: Tolerance
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compares the rows of both engines, in order.

    Args:
        cases: rows of transformers, with FIELDS and `margins`, the distance of the best two log-probabilities.
        answers: rows of vLLM, with FIELDS.
        tolerance: what counts as rounding.

    Returns one row per quantity (`checked`, `cases`, `equal`, `mean`, `largest`, `limit`), and the differences beyond
    the tolerance as messages.
    """
    differences, rows, ties = [], [], []
    for name, title in (("input_ids", "token ids"), ("image_grids", "image grids")):
        equal = [a[name] == b[name] for a, b in zip(cases, answers, strict=True)]
        differences += [f"case {n}: {title} differ" for n, same in enumerate(equal) if not same]
        rows.append(_table_row(title, equal, "equal"))
    lengths = [_common(a["tokens"], b["tokens"]) for a, b in zip(cases, answers, strict=True)]
    equal = [a["tokens"] == b["tokens"] for a, b in zip(cases, answers, strict=True)]
    for number, (case, length, same) in enumerate(zip(cases, lengths, equal, strict=True)):
        if not same:
            margin = case["margins"][length] if length < len(case["margins"]) else math.inf
            ties.append(margin <= tolerance.tie)
            if not ties[-1]:
                differences.append(
                    f"case {number}: greedy tokens differ from token {length} on, where the margin is {margin:.3g}"
                )
    rows.append(_table_row("greedy tokens", equal, f"equal, or a tie ({sum(ties)} ties)"))
    gaps = [
        abs(a - b)
        for case, answer, n in zip(cases, answers, lengths, strict=True)
        for a, b in zip(case["logprobs"][:n], answer["logprobs"][:n], strict=True)
    ]
    mean, most = (sum(gaps) / len(gaps), max(gaps)) if gaps else (math.inf, math.inf)
    if not gaps:
        differences.append("log-probabilities: the engines agree on no token, so none is compared")
    elif mean > tolerance.mean or most > tolerance.most:
        differences.append(f"log-probabilities differ by {mean:.2g} on average, at most by {most:.2g}")
    limit = f"mean {tolerance.mean:g}, largest {tolerance.most:g}"
    within = [gap <= tolerance.most for gap in gaps]
    rows.append(_table_row("log-probabilities, by token", within, limit))
    if gaps:
        rows[-1] |= {"mean": f"{mean:.1e}", "largest": f"{most:.1e}"}
    return rows, differences


def _table_row(title: str, equal: Sequence[bool], limit: str) -> dict[str, Any]:
    row = {"checked": title, "number": len(equal), "equal": sum(equal), "mean": None, "largest": None}
    return {**row, "limit": limit}


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of equal elements at the beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def require_parity(model: Path | str) -> dict[str, Any]:
    """The passing record of exactly this checkpoint. Raises NoParity without one, or for one of other files."""
    path = folder_of(model) / RECORD
    again = f"run `{COMMAND} {model} --data ROOT`"
    if not Path(model).is_dir():
        raise NoParity(f"rollouts by vLLM need a model folder with a parity record; {model} is not a folder")
    if not path.is_file():
        raise NoParity(f"no parity record of {model} ({path}): vLLM may sample from another policy; {again}")
    record = files.read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("model_files"), dict):
        raise NoParity(f"{path} is not a parity record; {again}")
    if changed := _changed(record["model_files"], model_files(model)):
        raise NoParity(f"the parity record {path} is of other files: {changed} changed since; {again}")
    if record.get("passed") is not True:
        reasons = "; ".join(map(str, record.get("differences", [])[:3]))
        raise NoParity(f"the engines differ on {model}: {reasons} ({path}); do not train with these rollouts")
    return record


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of the files that are not the same in both listings, "" if all are."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _read(path: Path, key: str) -> dict[str, Any]:
    """Reads a file of an engine: `settings` and rows under `key`, checked. Raises as `compare`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run `{COMMAND}`, which writes it")
    value = files.read_json(path)
    if not isinstance(value, dict) or [type(value.get(name)) for name in ("settings", key)] != [dict, list]:
        raise ValueError(f"{path} has no `settings` and `{key}`; run `{COMMAND}` again")
    needed = ("model", "model_files", "dtype") if key == "cases" else ("engine",)
    if absent := [name for name in needed if name not in value["settings"]]:
        raise ValueError(f"{path}: `settings` has no {', '.join(absent)}; run `{COMMAND}` again")
    if not isinstance(value["settings"].get("model_files", {}), dict):
        raise ValueError(f"{path}: `model_files` of `settings` is no mapping; run `{COMMAND}` again")
    fields = FIELDS | ({"margins": float} if key == "cases" else {})
    numbers = [row.get("case") if isinstance(row, dict) else None for row in value[key]]
    if numbers != list(range(len(numbers))) or not numbers:
        raise ValueError(f"{path}: the rows of `{key}` are not the cases 0, 1, 2, …; run `{COMMAND}` again")
    for row in value[key]:
        for name in _bad_fields(row, fields):
            raise ValueError(f"{path}, case {row['case']}: {name} is missing or has wrong values")
    return value


def _bad_fields(row: Row, fields: Mapping[str, type]) -> Iterable[str]:
    for name, kind in fields.items():
        values = row.get(name)
        if not isinstance(values, list) or not all(_fits(value, kind) for value in values):
            yield name
    if len(row.get("tokens") or ()) != len(row.get("logprobs") or ()):
        yield "logprobs (one for each of tokens)"


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind is list:
        return isinstance(value, list) and len(value) == 3 and all(type(part) is int for part in value)
    return type(value) is kind
