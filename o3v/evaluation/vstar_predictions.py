"""Predictions for V-STAR from a file: matched to the items, with everything that is wrong with them counted and named.

A file holds the public result format (a JSON list of items with results) or our JSON lines. The ground truth is that of
the items' file; without one, that of the predictions. Nothing in a file ends the reading: each finding has one of the
kinds of FINDINGS, and an item without a prediction is scored as unanswered.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from o3v.evaluation.vstar import spoken_span
from o3v.evaluation.vstar_answers import read_texts
from o3v.evaluation.vstar_items import (
    CHAINS,
    EMPTY,
    annotated_boxes,
    as_number,
    item_boxes,
    missing_truth,
    read_rows,
    result_problems,
)
from o3v.schema import Row

FINDINGS = {
    "unreadable": "rows that are no JSON objects, or lack vid or ground truth; they are left out",
    "missing": "items without a prediction; they count as unanswered",
    "duplicate": "further predictions for an item; the first counts",
    "unknown": "predictions for no item; they are left out",
    "other truth": "predictions whose ground truth differs from the items' file; the file counts",
    "extra keys": "fields that no result has; they are ignored",
    "malformed": "results that cannot be read; they score 0",
    "other seconds": "boxes at seconds that are not annotated; they do not count",
    "unanswered": "items with an empty answer; `official` leaves them out of most means",
    "unparsed": "responses in which no span or no boxes were found; they score 0",
}
RESULTS = (
    "answer_vqa",
    "judge_score",
    *(f"answer_{part}{chain}" for part in ("temporal", "temporal_pre", "spatial", "spatial_pre") for chain in CHAINS),
)
TRUTH = ("vid", "domain", "fps", "width", "height", "frame_count", "question", "chain", "object", "answer")
TRUTH += ("temporal_question", "timestamps", "spatial_question", "spatial_question_2", "bboxes")
# of the public scorer's own output and of ours
KNOWN = {
    *RESULTS,
    *TRUTH,
    "model",
    "video_path",
    "VQA_score",
    "temporal_IoU",
    "temporal_IoU_2",
    "AP1@0.1:0.9",
    "AP2@0.1:0.9",
}
KNOWN |= {"spatial_mIoU", "spatial_mIoU_2"}


@dataclass
class Predictions:
    """Items with results, in the order of the items, and the findings by kind."""

    rows: list[Row]
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FINDINGS})


def read_predictions(
    path: Path | str, items: Sequence[Row] | None = None, box_space: str = "video", max_pixels: int = 128 * 28 * 28
) -> Predictions:
    """Reads predictions and matches them to items by `vid` and `question`.

    Args:
        path: JSON list or `.jsonl` file.
        items: the benchmark's rows (`vstar_items.read_items`); None takes the truth that stands in the predictions.
        box_space: how raw responses without read boxes write them, see `vstar_answers.space_size`.
        max_pixels: of a frame that the model saw, for `box_space` "pixels".

    Raises SchemaError if the file is no JSON list, FileNotFoundError, and ValueError if no row has a ground truth.
    """
    found = Predictions([])
    rows = read_rows(path, found.findings["unreadable"])
    good = [row for number, row in enumerate(rows, 1) if _is_prediction(row, number, items is None, found)]
    if items is None:
        if not good:
            raise ValueError(
                f"{path} holds no predictions with their ground truth; give the benchmark's file (--items)"
            )
        good = _first_of_each(good, found)
        items = [{key: row[key] for key in row if key not in RESULTS} for row in good]
    extra = Counter(key for row in good for key in row if key not in KNOWN)
    found.findings["extra keys"] = [f"{key!r:.60} in {count} rows" for key, count in sorted(extra.items())]
    for number, (item, row) in enumerate(zip(items, _matched(items, good, found), strict=True), 1):
        merged = read_texts({**item, **{key: row[key] for key in RESULTS if key in row}}, box_space, max_pixels)
        found.rows.append(merged)
        _note(merged, f"item {number} ({item.get('vid')})", found, missing=not row)
    return found


def _is_prediction(row: Any, number: int, with_truth: bool, found: Predictions) -> bool:
    reason = None
    if not isinstance(row, Mapping):
        reason = "is not an object"
    elif not isinstance(row.get("vid"), str):
        reason = "has no vid"
    elif with_truth and (name := missing_truth(row)):
        reason = f"lacks ground truth: {name!r}"
    if reason:
        found.findings["unreadable"].append(f"row {number} {reason}")
    return reason is None


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["vid"]), str(row.get("question", ""))


def _first_of_each(rows: Sequence[Row], found: Predictions) -> list[Row]:
    """The first row of each item; an item is a vid, a question and a span."""
    first: dict[Any, Row] = {}
    for row in rows:
        key = (*_key(row), str(row["timestamps"]))
        if key in first:
            found.findings["duplicate"].append(f"{row['vid']}: {row.get('question', '')!r:.60}")
        first.setdefault(key, row)
    return list(first.values())


def _matched(items: Sequence[Row], rows: Sequence[Row], found: Predictions) -> list[Row]:
    """The prediction of each item, {} for none. Without a question in the prediction, `vid` alone must be unique."""
    places, by_vid = defaultdict(list), defaultdict(list)
    for number, item in enumerate(items):
        places[_key(item)].append(number)
        by_vid[str(item["vid"])].append(number)
    matched: list[Row] = [{} for _ in items]
    for row in rows:
        numbers = places.get(_key(row)) or ([] if "question" in row else by_vid.get(row["vid"], []))
        numbers = [n for n in numbers if row.get("timestamps") == items[n]["timestamps"]] or numbers
        free = [number for number in numbers if not matched[number]]
        name = f"{row['vid']}: {row.get('question', '')!r:.60}"
        if not numbers or ("question" not in row and len(numbers) > 1):
            found.findings["unknown"].append(name)
        elif not free:
            found.findings["duplicate"].append(name)
        else:
            matched[free[0]] = row
            if _other_truth(row, items[free[0]]):
                found.findings["other truth"].append(name)
    return matched


def _other_truth(row: Row, item: Row) -> bool:
    for name in ("answer", "timestamps", "fps", "frame_count"):
        if name in row and row[name] != item[name]:
            return True
    try:
        return "bboxes" in row and annotated_boxes(row) != annotated_boxes(item)
    except (KeyError, TypeError, AttributeError):
        return True


def _note(row: Row, name: str, found: Predictions, missing: bool) -> None:
    """Adds the findings about one item with its results."""
    findings = found.findings
    if missing:
        findings["missing"].append(name)
        return
    findings["malformed"] += [f"{name}: {problem}" for problem in result_problems(row)]
    if not row.get("answer_vqa"):
        findings["unanswered"].append(name)
    annotated = set(item_boxes(row))
    for chain in CHAINS:
        boxes = row.get(f"answer_spatial{chain}")
        seconds = [as_number(second) for second in boxes] if isinstance(boxes, Mapping) else []
        if others := [s for s in seconds if isinstance(s, float) and s not in annotated]:
            findings["other seconds"].append(
                f"{name}: 'answer_spatial{chain}' at {len(others)}, the first {others[0]:g}"
            )
        raw = row.get(f"answer_temporal_pre{chain}")
        if raw and row.get(f"answer_temporal{chain}") in EMPTY and not spoken_span(str(raw), "strict"):
            findings["unparsed"].append(f"{name}: 'answer_temporal_pre{chain}' {str(raw)!r:.60}")
        raw = row.get(f"answer_spatial_pre{chain}")
        if raw and boxes in EMPTY:
            findings["unparsed"].append(f"{name}: 'answer_spatial_pre{chain}' {str(raw)!r:.60}")
