"""What SFT and GSPO add on held-out films, over seeds, with intervals.

Runs the notebooks for each seed (finished runs are skipped) and resamples the evaluation's films: 95% percentile
bootstrap of the mean over seeds, the films of a seed drawn anew for all models alike.

    python benchmarks/seeds.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from o3v import batch, inference, vstar

MODELS = ("base", "sft", "sft_gspo")
METRICS = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm")
RUNS = Path(__file__).resolve().parents[1] / "runs"


def predictions(run_dir: Path) -> dict[str, list[dict]]:
    """The evaluated items of a run with their answers, by model."""
    rows = [json.loads(x) for x in (run_dir / "05_evaluation/predictions.jsonl").read_text().splitlines()]
    return {name: [row for row in rows if row["model"] == name] for name in MODELS}


def metrics(scores: list[vstar.ItemScore]) -> np.ndarray:
    summary = inference.summary(vstar.summarise(scores, len(scores)))
    return np.array([summary[name] for name in METRICS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    scored: dict[str, list[list[vstar.ItemScore]]] = {name: [] for name in MODELS}
    formats: dict[str, list[float]] = {name: [] for name in MODELS}
    for seed in options.seeds:
        run_dir = RUNS / f"{options.profile}-{seed}"
        done = batch.run(options.profile, seed, RUNS)
        if done.error:
            raise SystemExit(f"the run in {run_dir.name} failed: {done.error}")
        rates = json.loads((run_dir / "05_evaluation/metrics.json").read_text())
        for name, items in predictions(run_dir).items():
            scored[name].append([vstar.score_item(item, "fixed") for item in items])
            formats[name].append(rates[name]["format_rate"])
    rng = np.random.default_rng(0)
    draws = np.zeros((options.draws, len(MODELS), len(METRICS)))
    for draw in draws:
        for seed in range(len(options.seeds)):
            kept = rng.integers(len(scored["base"][seed]), size=len(scored["base"][seed]))
            for m, name in enumerate(MODELS):
                draw[m] += metrics([scored[name][seed][i] for i in kept]) / len(options.seeds)
    rows = {}
    for m, name in enumerate(MODELS):
        value = np.mean([metrics(part) for part in scored[name]], axis=0)
        low, high = np.percentile(draws[:, m], [2.5, 97.5], axis=0)
        rows[name] = {k: f"{v:.3f} ({a:.3f}–{b:.3f})" for k, v, a, b in zip(METRICS, value, low, high, strict=True)}
        rows[name]["format rate"] = " ".join(f"{rate:.3f}" for rate in formats[name])
    change = draws[:, 2] - draws[:, 1]
    low, high = np.percentile(change, [2.5, 97.5], axis=0)
    mean = change.mean(axis=0)
    rows["sft_gspo − sft"] = {
        name: f"{v:+.3f} ({a:+.3f} to {b:+.3f})" for name, v, a, b in zip(METRICS, mean, low, high, strict=True)
    }
    print(pd.DataFrame(rows).T.fillna("").to_string())


if __name__ == "__main__":
    main()
