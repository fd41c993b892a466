"""Scores the recorded rollouts of a run again, from their text and the truth of notebook 01. Loads no model."""

import math
from pathlib import Path

from o3v.files import read_json, read_jsonl
from o3v.review.checks import Problems
from o3v.rewards import RewardConfig, score_completion
from o3v.schema import Row, read_examples

READINGS = {"paper": RewardConfig.paper, "official": RewardConfig.official}
MAX_SHOWN = 5  # rows that are named
EXTRA = ("total", "total_at_start")


def wrong_rollouts(run_dir: Path) -> Problems:
    """Yields one line for each rollout of 03 whose reward does not follow from its text and its terms.

    The reward is scored as at the start of training (`total_at_start`), because the file does not hold the progress of
    a step; `total` must be the sum of the recorded terms.
    """
    reading = READINGS[read_json(run_dir / "03_gspo/results.json")["reading of the reward"]]()
    truth = {example.id: example.to_row() for example in read_examples(run_dir / "01_data_pipeline/rl.jsonl")}
    found = 0
    for line, row in read_jsonl(run_dir / "03_gspo/rollouts.jsonl"):
        for problem in _wrong_rewards(row, truth, reading):
            found += 1
            if found <= MAX_SHOWN:
                yield f"line {line}, {row['id']}: {problem}"
    if found > MAX_SHOWN:
        yield f"and {found - MAX_SHOWN} more"


def _wrong_rewards(row: Row, truth: dict[str, Row], reading: RewardConfig) -> Problems:
    if row["id"] not in truth:
        yield "the question is not in 01_data_pipeline/rl.jsonl"
        return
    space = {name: row[name] for name in ("image_size_refine",) if name in row}
    scores = score_completion(row["completion"], {**truth[row["id"]], **space}, 0.0, reading)
    if "total_at_start" in row and not _same(row["total_at_start"], scores["total"]):
        yield f"total_at_start is {row['total_at_start']!r}, recomputed {scores['total']!r}"
    total = math.fsum(row[name] for name in scores if name not in EXTRA and row.get(name) is not None)
    if not _same(row["total"], total):
        yield f"total is {row['total']!r}, the sum of its terms {total!r}"


def _same(recorded: object, expected: float | None) -> bool:
    if not isinstance(recorded, int | float) or expected is None:
        return recorded == expected
    return math.isclose(recorded, expected, rel_tol=1e-9, abs_tol=1e-9)
