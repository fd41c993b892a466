"""Measures how much SFT and GSPO improve the metrics on held-out videos, over several seeds, with intervals.

Runs the notebooks for each seed (finished runs are skipped), lets their models answer more videos of the evaluation
split and more questions of the RL split, and resamples both: 95% percentile bootstrap of the mean over seeds, with the
same draws for all models of a seed. *reward* is the mean total of the questions in the paper's reading at the end of
its schedule. Answers are kept in `runs/seeds/`.

    python benchmarks/seeds.py --seeds 0 1 2 --videos 400
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from o3v import files, inference, models, rewards, toyworld
from o3v.config import Profile, find_base, load_profile
from o3v.data.root import locate_items, read_split, vstar_file
from o3v.evaluation import vstar
from o3v.evaluation.vstar_items import read_items
from o3v.runner import driver
from o3v.runner.plan import plan_run

MODELS = {"base": "", "sft": "02_sft/checkpoint", "sft_gspo": "03_gspo/checkpoint"}
METRICS = ("accuracy", "m_tiou", "m_viou", "mam", "mlgm", "reward")
RUNS = Path(__file__).resolve().parents[1] / "runs"
SEED_OFFSET = 1_000  # added to the seed of the run for the additional videos


@dataclass
class ModelScores:
    """Scores of one model: of the items, share of answers in the grammar, rewards of the questions."""

    scores: list[vstar.ItemScore]
    format_rate: float
    rewards: list[float] = field(default_factory=list)

    def __add__(self, other: ModelScores) -> ModelScores:
        scores = self.scores + other.scores
        well_formed = self.format_rate * len(self.scores) + other.format_rate * len(other.scores)
        return ModelScores(scores, well_formed / len(scores), self.rewards + other.rewards)

    def metrics(self, items_at: Iterable[int], questions: Iterable[int]) -> np.ndarray:
        """METRICS of the items and questions at these positions."""
        scores, rewarded = [self.scores[i] for i in items_at], [self.rewards[i] for i in questions]
        found = inference.result_columns(vstar.summarise(scores, len(scores)))
        return np.array([*(found[name] for name in METRICS[:-1]), np.mean(rewarded)])

    def all_metrics(self) -> np.ndarray:
        """METRICS of all items and questions."""
        return self.metrics(*map(range, self.sizes()))

    def sizes(self) -> tuple[int, int]:
        """Numbers of items and questions."""
        return len(self.scores), len(self.rewards)


def in_run(run_dir: Path, name: str) -> ModelScores:
    """The scores that notebook 05 recorded on the videos of the run."""
    rates = files.read_json(run_dir / "05_evaluation/metrics.json")
    predictions = files.read_jsonl(run_dir / "05_evaluation/predictions.jsonl")
    items = [item for _, item in predictions if item["model"] == name]
    return ModelScores([vstar.score_item(item, "strict") for item in items], rates[name]["format_rate"])


def on_more_videos(run_dir: Path, profile: str, seed: int, count: int, name: str) -> ModelScores:
    """The scores of the same model on `count` more videos and questions."""
    settings = load_profile(profile)
    path = run_dir / MODELS[name] if MODELS[name] else find_base(settings.base)
    return score_model(path, RUNS / "seeds" / run_dir.name, settings, seed, count, name)


def score_model(path: Path | str, folder: Path, settings: Profile, seed: int, count: int, name: str) -> ModelScores:
    """The scores of a model on `count` videos and questions that no run uses. Answers are kept below `folder`."""
    root = folder / "world"
    shares = settings.data.rl_shares
    toyworld.make_dataset(root, {"rl": count, "eval": count}, SEED_OFFSET + seed, rl_shares=shares)
    items, examples = locate_items(root, read_items(vstar_file(root))), read_split(root, "rl")
    vlm, work = models.load(path), folder / f"{name}-{count}-{files.hash_path(path)[:8]}"
    builder = vlm.prompt_builder(root, settings.frames)
    questions = inference.vstar_questions(items, builder)
    answers = inference.answer(vlm, questions, settings.inference, work, name)
    place = (builder, settings.inference, rewards.RewardConfig.paper(), work / "questions", name)
    rewarded = inference.score_examples(vlm, examples, *place)
    scores = [vstar.score_item(item, "strict") for item in inference.read_vstar_answers(items, answers)]
    return ModelScores(scores, inference.format_rate(answers), [row["total"] for row in rewarded])


def bootstrap(models_scores: dict[str, list[ModelScores]], draws: int) -> np.ndarray:
    """Means over the seeds of resampled items and questions: (draws, models, metrics)."""
    rng, drawn = np.random.default_rng(0), np.zeros((draws, len(MODELS), len(METRICS)))
    for draw in drawn:
        for parts in zip(*models_scores.values(), strict=True):
            items_at, questions = (rng.integers(n, size=n) for n in parts[0].sizes())
            draw += [part.metrics(items_at, questions) for part in parts]
    return drawn / len(models_scores["base"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--videos", type=int, default=400, help="videos and questions in addition to those of the run")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    if options.videos < 1:
        parser.error("--videos must be at least 1")
    models_scores: dict[str, list[ModelScores]] = {name: [] for name in MODELS}
    for seed in options.seeds:
        run_dir = RUNS / f"{options.profile}-{seed}"
        if error := driver.run(plan_run(options.profile, seed, RUNS)):
            raise SystemExit(f"the run in {run_dir.name} failed: {error}")
        for name, parts in models_scores.items():
            own = in_run(run_dir, name)
            parts.append(own + on_more_videos(run_dir, options.profile, seed, options.videos, name))
    found = {name: [part.all_metrics() for part in parts] for name, parts in models_scores.items()}
    formats = {name: [part.format_rate for part in parts] for name, parts in models_scores.items()}
    table = [
        {"seed": s, "model": n, "format": f} | dict(zip(METRICS, v, strict=True))
        for n in MODELS
        for s, f, v in zip(options.seeds, formats[n], found[n], strict=True)
    ]
    print(pd.DataFrame(table).sort_values(["seed"], kind="stable").round(3).to_string(index=False))
    drawn = bootstrap(models_scores, options.draws)
    rows = {name: interval(np.mean(found[name], axis=0), drawn[:, m]) for m, name in enumerate(MODELS)}
    change = np.mean(found["sft_gspo"], axis=0) - np.mean(found["sft"], axis=0)
    rows["sft_gspo − sft"] = interval(change, drawn[:, 2] - drawn[:, 1], "+.3f", " to ")
    print(pd.DataFrame(rows).T.to_string())


def interval(value: np.ndarray, drawn: np.ndarray, form: str = ".3f", between: str = "–") -> dict[str, str]:
    """Each metric with the middle 95% of its draws."""
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    found = zip(METRICS, value, low, high, strict=True)
    return {name: f"{v:{form}} ({a:{form}}{between}{b:{form}})" for name, v, a, b in found}


if __name__ == "__main__":
    main()
