"""Rows of V-STAR's file: reading and checking them, and their annotated boxes in either schema of the file."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from o3v.files import read_jsonl
from o3v.geometry import Box
from o3v.schema import Row, SchemaError


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


def is_numbers(value: Any, count: int) -> bool:
    """Whether a value is a list of this many finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != count:
        return False
    return all(isinstance(number, int | float) and math.isfinite(number) for number in value)


def read_items(path: Path | str) -> list[Row]:
    """Reads a V-STAR file, with or without results: a JSON list, or a `.jsonl` file with one object a line.

    Both schemas of `bboxes` are kept as they are. Raises SchemaError naming file, row and field.
    """
    try:
        if Path(path).suffix == ".jsonl":
            rows = [row for _, row in read_jsonl(path)]
        else:
            rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise SchemaError(f"{path}: {error}") from None
    for number, row in enumerate(rows):
        for name, is_good in _CHECKS.items():
            try:
                good = is_good(row)
            except (KeyError, TypeError, ValueError, AttributeError):
                good = False
            if not good:
                raise SchemaError(f"{path}, row {number}: field {name!r} is missing or malformed")
    return rows


_CHECKS: Mapping[str, Callable[[Row], bool]] = {
    "answer": lambda row: isinstance(row["answer"], str),
    "fps": lambda row: row["fps"] > 0,
    "frame_count": lambda row: row["frame_count"] > 0,
    "timestamps": lambda row: is_numbers(row["timestamps"], 2),
    "bboxes": lambda row: all(is_numbers(box, 4) for box in item_boxes(row).values()),
}
