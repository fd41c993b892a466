"""Rows of V-STAR's file: reading and checking them, and their annotated boxes in either schema of the file."""

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from o3v import files
from o3v.geometry import Box, Span
from o3v.schema import Row, SchemaError
from o3v.schema.fields import FieldError, read_path

CHAINS = ("", "_2")  # suffixes of the result fields
EMPTY: tuple[Any, ...] = (None, "", [], (), {})
TOO_LARGE = 1e15  # no second, pixel or score
MAX_SPAN_CHARS = 1_000  # of a span as text


def item_boxes(item: Mapping[str, Any]) -> dict[float, Box]:
    """The annotated boxes of an item by second, in pixels, from either schema of the file.

    >>> item_boxes({"bboxes": [{"3_72": {"xmin": 0, "ymin": 0, "xmax": 4, "ymax": 2}}]})
    {3.0: (0, 0, 4, 2)}
    """
    return {float(second): box for second, box in annotated_boxes(item)}


def annotated_boxes(item: Mapping[str, Any]) -> list[tuple[str, Box]]:
    """Seconds as the public scorer writes them, with their boxes, in order. A second may occur twice."""
    pairs: list[tuple[str, Mapping[str, Any]]] = []
    for entry in item["bboxes"]:
        old = [(key.split("_")[0], box) for key, box in entry.items() if isinstance(box, Mapping)]
        pairs += old or [(str(entry["timestamp"]), entry)]
    return [(second, (box["xmin"], box["ymin"], box["xmax"], box["ymax"])) for second, box in pairs]


def has_size(item: Mapping[str, Any]) -> bool:
    """Whether a row holds the size of its video, which reading of raw boxes and baselines need."""
    sides = [item.get("width"), item.get("height")]
    return is_numbers(sides, 2) and min(sides) > 0


def is_numbers(value: Any, count: int) -> bool:
    """Whether a value is a list of this many finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != count:
        return False
    return all(isinstance(number, int | float) and abs(number) < TOO_LARGE for number in value)


def as_number(second: Any) -> Any:
    """A second as a number, or as it is."""
    try:
        return float(second)
    except (TypeError, ValueError, OverflowError):
        return second


def read_span(value: Any) -> Span | None:
    """An answered span [start, end] in seconds, a list or its text. None for anything else."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if len(value) <= MAX_SPAN_CHARS else None
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: "{[]}"
            return None
    return (value[0], value[1]) if is_numbers(value, 2) else None


def result_problems(item: Mapping[str, Any]) -> list[str]:
    """The results of an item that cannot be read, as field and reason. An empty or missing result is no problem.

    >>> result_problems({"answer_temporal": ["1", "3"], "answer_spatial": {"3": [0, 0, 4, 2], "3.0": [0, 0, 1, 1]}})
    ["field 'answer_temporal' is not a span [start, end]", "field 'answer_spatial' names the same second twice"]
    """
    problems = []
    if not isinstance(item.get("answer_vqa") or "", str):
        problems.append("field 'answer_vqa' is not a text")
    for chain in CHAINS:
        span = item.get(f"answer_temporal{chain}")
        if span not in EMPTY and read_span(span) is None:
            problems.append(f"field 'answer_temporal{chain}' is not a span [start, end]")
        if reason := _spatial_problem(item.get(f"answer_spatial{chain}")):
            problems.append(f"field 'answer_spatial{chain}' {reason}")
    if item.get("judge_score") is not None and not is_numbers([item["judge_score"]], 1):
        problems.append("field 'judge_score' is not a number")
    return problems


def _spatial_problem(boxes_by_second: Any) -> str | None:
    if boxes_by_second in EMPTY:
        return None
    if not isinstance(boxes_by_second, Mapping):
        return "is not an object of seconds and boxes"
    seconds = [as_number(second) for second in boxes_by_second]
    if not all(isinstance(second, float) for second in seconds):
        return "has a key that is not a number of seconds"
    if len(set(seconds)) < len(seconds):
        return "names the same second twice"
    for second, boxes in boxes_by_second.items():
        listed = [] if boxes in EMPTY else boxes if isinstance(boxes, list | tuple) else [boxes]
        if not is_numbers(listed, 4) and not all(is_numbers(box, 4) for box in listed):
            return f"has something else than boxes at second {second}"
    return None


def read_items(path: Path | str) -> list[Row]:
    """Reads a V-STAR file, with or without results: a JSON list, or a `.jsonl` file with one object a line.

    Both schemas of `bboxes` are kept as they are. Raises SchemaError naming file, row and field.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows):
        if name := missing_truth(row):
            raise SchemaError(f"{path}, row {number}: field {name!r} is missing or malformed")
    return rows


def read_rows(path: Path | str, errors: list[str] | None = None) -> list[Any]:
    """The values of a JSON list or of a `.jsonl` file, unchecked.

    Lines that are not JSON raise SchemaError, or are named in `errors`.
    """
    try:
        if Path(path).suffix == ".jsonl":
            rows = [row for _, row in files.read_jsonl(path, errors)]
        else:
            with files.open_text(path, "utf-8-sig") as file:
                rows = json.load(file)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: {error}") from None
    if not isinstance(rows, list):
        raise SchemaError(f"{path}: expected a JSON list of rows, or a .jsonl file with one row per line")
    return rows


def missing_truth(row: Any) -> str | None:
    """The first field of the ground truth that a row lacks, or None."""
    for name, is_good in _CHECKS.items():
        try:
            good = is_good(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, FieldError):
            good = False
        if not good:
            return name
    return None


_CHECKS: Mapping[str, Callable[[Row], bool]] = {
    "vid": lambda row: read_path(row.get("vid", "unnamed"), "vid") is not None,
    "answer": lambda row: isinstance(row["answer"], str),
    "fps": lambda row: 0 < row["fps"] < TOO_LARGE,
    "frame_count": lambda row: 0 < row["frame_count"] < TOO_LARGE,
    "timestamps": lambda row: is_numbers(row["timestamps"], 2),
    "bboxes": lambda row: all(is_numbers(box, 4) for box in item_boxes(row).values()),
}
