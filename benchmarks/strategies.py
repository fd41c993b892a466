"""Compares training strategies on the same data: the paper's table 3, and a longer SFT.

    python benchmarks/strategies.py runs/tiny-0

The run needs its notebooks 01 to 03. `SFT` and `SFT+GSPO` are the checkpoints of the run. `SFT+GRPO` is the same
training with token ratios. `GSPO alone` starts from a short SFT that learns little more than the format, because the
base never writes it, and trains as many more steps. `longer SFT` gets the minutes of notebook 03 as further SFT on
the same rows. All models answer the same new questions and videos; intervals are 95% percentile bootstrap, those of
changes are paired. Finished models and answers are kept below the run in `strategies/`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from seeds import METRICS, ModelScores, score_model

from o3v import files, models, schema, training
from o3v.config import Profile, find_base, load_profile
from o3v.prompts import PromptBuilder
from o3v.training import gspo, sft
from o3v.training.trainer import TrainingRun

DRAWS = 1000


class Strategies:
    """Trains and keeps the models of one run."""

    def __init__(self, run: Path, settings: Profile, seed: int) -> None:
        self.run, self.settings, self.seed, self.out = run, settings, seed, run / "strategies"
        stages = files.read_json(run / "manifest.json")["stages"]
        self.seconds = {"SFT": stages["02_sft"]["duration_s"], "GSPO": stages["03_gspo"]["duration_s"]}

    def rows(self, split: str) -> list[schema.Example]:
        return list(schema.read_examples(self.run / f"01_data_pipeline/{split}.jsonl"))

    def train(self, name: str, start: str | Path, make: Callable[[models.VideoModel, PromptBuilder], object]) -> Path:
        """Trains a model unless it is there. Returns its folder."""
        folder = self.out / name / "checkpoint"
        if not folder.exists():
            vlm, started = models.load(start), time.perf_counter()
            trainer = make(vlm, vlm.prompt_builder(self.run / "01_data_pipeline/world", self.settings.frames))
            training.train(trainer)
            models.save(training.merge_adapters(trainer, vlm), folder)
            files.write_json(self.out / name / "seconds.json", time.perf_counter() - started)
        return folder

    def sft(self, name: str, epochs: float) -> Path:
        config = replace(self.settings.sft, epochs=epochs)
        run = TrainingRun(self.out / name / "trainer", self.seed)
        base = find_base(self.settings.base)
        return self.train(name, base, lambda vlm, b: sft.make_trainer(vlm, self.rows("sft"), b, config, run))

    def gspo(self, name: str, start: Path, **changes: object) -> Path:
        config = replace(self.settings.gspo, **changes)
        examples, _ = gspo.split_heldout(self.rows("rl"), config.num_heldout)
        run = TrainingRun(self.out / name / "trainer", self.seed)
        return self.train(name, start, lambda vlm, b: gspo.make_trainer(vlm, examples, b, config, run))

    def all(self, short: float) -> dict[str, Path]:
        """The folder of every model, trained if it is missing. `short` is the share of SFT before GSPO alone."""
        steps = self.settings.gspo.max_steps or 1
        sft_model = self.run / "02_sft/checkpoint"
        longer = 1 + self.seconds["GSPO"] / self.seconds["SFT"]
        more = round(steps * (1 + (1 - short) * self.seconds["SFT"] / self.seconds["GSPO"]))
        cycle = self.settings.gspo.cycle
        return {
            "SFT": sft_model,
            "longer SFT": self.sft("longer_sft", self.settings.sft.epochs * longer),
            "GSPO alone": self.gspo("gspo_alone", self.sft("format", short), max_steps=-(-more // cycle) * cycle),
            "SFT+GRPO": self.gspo("grpo", sft_model, importance_sampling="token"),
            "SFT+GSPO": self.run / "03_gspo/checkpoint",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=lambda text: Path(text).resolve(), help="folder of a run with notebooks 01 to 03")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--videos", type=int, default=120, help="new videos and questions")
    parser.add_argument("--short", type=float, default=0.2, help="share of SFT that teaches the format")
    args = parser.parse_args()
    settings = load_profile(args.profile)
    found: dict[str, ModelScores] = {}
    for name, path in Strategies(args.run, settings, args.seed).all(args.short).items():
        found[name] = score_model(path, args.run / "strategies", settings, args.seed, args.videos, name)
        values = zip(METRICS, found[name].all_metrics().round(3).tolist(), strict=True)
        print(name, dict(values), flush=True)
    rng, draws = np.random.default_rng(0), []
    for _ in range(DRAWS):
        items, questions = (rng.integers(n, size=n) for n in found["SFT"].sizes())
        draws.append([scores.metrics(items, questions) for scores in found.values()])
    drawn, values = np.array(draws), np.array([scores.all_metrics() for scores in found.values()])
    reference = list(found).index("SFT+GSPO")
    table = {}
    for at, name in enumerate(found):
        gap = drawn[:, reference] - drawn[:, at]
        for metric in ("mam", "reward"):
            column = METRICS.index(metric)
            low, high = np.percentile(drawn[:, at, column], [2.5, 97.5])
            table.setdefault(name, {})[metric] = f"{values[at, column]:.3f} ({low:.3f}–{high:.3f})"
            low, high = np.percentile(gap[:, column], [2.5, 97.5])
            difference = values[reference, column] - values[at, column]
            table[name][f"SFT+GSPO − this, {metric}"] = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    print(pd.DataFrame(table).T.to_string())


if __name__ == "__main__":
    main()
