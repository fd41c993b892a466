"""Rows of V-STAR with results, for tests: made up, in the documented schema."""

import json
import random
from pathlib import Path

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "vstar_visible.json"
SQUARE = {"xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}

# 30 s; answer right; tIoU 1/2 and 1/3; IoU 1 and 1/2 in chain 1, 1 and 0 in chain 2
RIGHT = {
    "vid": "a.mp4",
    "domain": "Sports",
    "fps": 10,
    "frame_count": 300,
    "width": 100,
    "height": 50,
    "object": "cup",
    "question": "What falls?",
    "temporal_question": "When does it fall?",
    "spatial_question": "Where is it then?",
    "spatial_question_2": "Where does it fall?",
    "answer": "the cup",
    "timestamps": [0.0, 10.0],
    "bboxes": [{"timestamp": 1, "frame_index": 10, **SQUARE}, {"timestamp": 2, "frame_index": 20, **SQUARE}],
    "answer_vqa": "A cup.",
    "judge_score": 3,
    "answer_temporal": [0.0, 5.0],
    "answer_temporal_2": [5.0, 15.0],
    "answer_spatial": {"1": [0, 0, 10, 10], "2": [0, 0, 10, 5]},
    "answer_spatial_2": {"1": [[20, 20, 30, 30], [0, 0, 10, 10]]},
}
RESULTS = ("answer_vqa", "judge_score", *(k for k in RIGHT if k.startswith(("answer_temporal", "answer_spatial"))))


def without_results(row):
    return {name: value for name, value in row.items() if name not in RESULTS}


def old_schema(row):
    """The same row with its boxes in the older schema of the file."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    boxes = [{f"{b['timestamp']}_{b['frame_index']}": {side: b[side] for side in sides}} for b in row["bboxes"]]
    return row | {"bboxes": boxes}


def random_rows(number, seed=0):
    """Rows with random truth and results, some of them unanswered."""
    rng, rows = random.Random(seed), []
    for index in range(number):
        start = rng.randint(0, 20)
        seconds = range(start, start + rng.randint(1, 8))
        box = lambda: [rng.randint(0, 40), rng.randint(0, 20), rng.randint(41, 100), rng.randint(21, 50)]  # noqa: E731
        boxes = [dict(zip(SQUARE, box(), strict=True)) | {"timestamp": s, "frame_index": 10 * s} for s in seconds]
        row = RIGHT | {
            "vid": f"{index}.mp4",
            "domain": rng.choice(["Sports", "Animals", "Daily Life"]),
            "frame_count": rng.choice([400, 900, 4000]),
            "timestamps": [float(start), float(seconds[-1] + 1)],
            "bboxes": boxes,
            "answer_vqa": rng.choice(["A cup.", "a ball", "", "the cup"]),
            "judge_score": rng.choice([0, 1, 2, 3]),
        }
        for chain in ("", "_2"):
            row[f"answer_temporal{chain}"] = [start + rng.random() * 3, start + 3 + rng.random() * 5]
            row[f"answer_spatial{chain}"] = {str(s): box() for s in seconds if rng.random() < 0.8}
        rows.append(row)
    return rows


def golden():
    """The golden items and what the public scorer prints, or None where the file is not here."""
    return json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else None
