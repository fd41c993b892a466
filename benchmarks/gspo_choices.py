"""Compares settings of GSPO after the same SFT: rewards of held-out rows and V-STAR metrics, before and after.

    python benchmarks/gspo_choices.py runs/tiny-0 learning_rate=2e-3 lora_rank=0

The run needs its notebooks 01 and 02. Each choice is a change of the profile's settings. Decoding is greedy; the reward
is the paper's at the end of its schedule. Prints one row per model: the mean reward and the format rate of rows that
GSPO does not train on, and V-STAR's metrics.
"""

from __future__ import annotations

import argparse
import ast
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from o3v import inference, models, rewards, schema, training
from o3v.config import GspoConfig, Profile, load_profile
from o3v.evaluation import vstar
from o3v.evaluation.vstar_items import read_items
from o3v.training import gspo
from o3v.training.trainer import TrainingRun


def changed(config: GspoConfig, choice: str) -> GspoConfig:
    """The settings with `name=value,name=value` replaced. A rank without a learning rate takes its usual one."""
    known = {field.name for field in fields(config)}
    pairs = dict(pair.split("=") for pair in choice.split(",") if pair)
    if unknown := set(pairs) - known:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no fields of GspoConfig; known are {', '.join(sorted(known))}")
    pairs = {name: _value(text) for name, text in pairs.items()}
    rated = config.with_rank(pairs.pop("lora_rank", None), pairs.pop("learning_rate", None))
    return replace(rated, **pairs)


def _value(text: str) -> object:
    """A number, None, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def score(vlm: models.VideoModel, run: Path, settings: Profile, heldout: list[schema.Example]) -> dict[str, float]:
    """Mean reward and format rate of the rows, and V-STAR's metrics on the run's held-out videos."""
    items = read_items(run / "01_data_pipeline/eval.jsonl")
    builder = vlm.prompt_builder(run / "01_data_pipeline/world", settings.frames)
    questions = inference.vstar_questions(items, builder)
    with tempfile.TemporaryDirectory() as folder:
        place = (builder, settings.inference, rewards.RewardConfig.paper(), Path(folder) / "rows")
        scores = inference.score_examples(vlm, heldout, *place)
        answers = inference.answer(vlm, questions, settings.inference, Path(folder) / "answers")
    whole = vstar.score_items(inference.read_vstar_answers(items, answers), protocol="strict")
    return {
        "reward": float(np.mean([s["total"] for s in scores])),
        "its format": float(np.mean([s["format"] > 0 for s in scores])),
        **inference.result_columns(whole["overall"]),
        "format": inference.format_rate(answers),
    }


def main() -> None:
    """Scores the checkpoint of 02, then trains from it with each choice and scores again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with notebooks 01 and 02")
    parser.add_argument("choices", nargs="*", default=[""], help="name=value,name=value of o3v.config.GspoConfig")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings, checkpoint = load_profile(args.profile), args.run / "02_sft/checkpoint"
    for needed in (checkpoint, args.run / "01_data_pipeline/rl.jsonl"):
        if not needed.exists():
            raise SystemExit(f"{needed} does not exist: run notebooks 01 and 02 into {args.run} first")
    examples = list(schema.read_examples(args.run / "01_data_pipeline/rl.jsonl"))
    examples, heldout = gspo.split_heldout(examples, settings.gspo.num_heldout)
    show("SFT", score(models.load(checkpoint), args.run, settings, heldout))
    for choice in args.choices:
        vlm, config = models.load(checkpoint), replace(changed(settings.gspo, choice), save_steps=10**6)
        with tempfile.TemporaryDirectory() as folder:
            builder = vlm.prompt_builder(args.run / "01_data_pipeline/world", settings.frames)
            trainer = gspo.make_trainer(vlm, examples, builder, config, TrainingRun(Path(folder), args.seed))
            training.train(trainer)
            vlm = training.merge_adapters(trainer, vlm)
        show(choice or "as it is", score(vlm, args.run, settings, heldout))


def show(name: str, metrics: dict[str, float]) -> None:
    print(name, {key: round(value, 3) for key, value in metrics.items()}, flush=True)


if __name__ == "__main__":
    main()
