"""CPU seconds to score V-STAR's 2,094 items: point estimates, then all intervals. Made-up predictions, no model.

python benchmarks/vstar_scoring.py [--items 2094]
"""

import argparse
import random
import time
from typing import Any

from o3v.evaluation.vstar import score_each, score_items
from o3v.evaluation.vstar_intervals import intervals


def make_rows(number: int, seconds: int = 12) -> list[dict[str, Any]]:
    """Rows with results and `seconds` annotated boxes each, about as many as the benchmark has."""
    rng = random.Random(0)

    def box() -> list[int]:
        return [rng.randint(0, 300), rng.randint(0, 200), rng.randint(301, 640), rng.randint(201, 360)]

    rows = []
    for index in range(number):
        sides = [dict(zip(("xmin", "ymin", "xmax", "ymax"), box(), strict=True)) for _ in range(seconds)]
        row: dict[str, Any] = {
            "vid": f"{index}.mp4",
            "domain": f"domain {index % 9}",
            "fps": 25,
            "frame_count": rng.randint(500, 9_000),
            "answer": "a red cup on the table",
            "answer_vqa": rng.choice(["It is the red cup on the table.", "a ball", "nobody is there"]),
            "timestamps": [3.0, 3.0 + seconds],
            "bboxes": [{"timestamp": 3 + s, "frame_index": 25 * s, **box} for s, box in enumerate(sides)],
        }
        for chain in ("", "_2"):
            row[f"answer_temporal{chain}"] = []
            row[f"answer_temporal_pre{chain}"] = f"From 00:0{rng.randint(1, 9)} to {rng.randint(10, 20)}.5 seconds."
            row[f"answer_spatial{chain}"] = {str(3 + s): box() for s in range(seconds)}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2_094)
    number = parser.parse_args().items
    rows = make_rows(number)
    for protocol in ("official", "strict"):
        start_s = time.process_time()
        score_items(rows, protocol)
        print(f"{protocol}: {number} items in {time.process_time() - start_s:.2f} s")
    scored = score_each(rows, "strict")
    start_s = time.process_time()
    intervals(scored)
    print(f"intervals of all metrics, 2,000 resamples: {time.process_time() - start_s:.2f} s")


if __name__ == "__main__":
    main()
