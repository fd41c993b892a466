"""What GSPO's settings do after the same SFT: rewards of held-back rows and held-out films, before and after.

    python benchmarks/gspo_choices.py runs/tiny-0 learning_rate=1e-4 lora_rank=8,learning_rate=5e-3

The run needs its parts 01 and 02. Each choice is a change of the profile's settings; answers are greedy, the reward is
the paper's at the end of its schedule. A row a model: the mean reward and the format rate of rows that GSPO does not
train on, and V-STAR's metrics.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from o3v import gspo, inference, model, prompts, rewards, schema, training, vstar
from o3v.config import GspoConfig, Profile, load_profile

HELD_BACK = 200  # rows of rl.jsonl


def changed(config: GspoConfig, choice: str) -> GspoConfig:
    """The settings with `name=value,name=value` in place of theirs."""
    kinds = {field.name: type(getattr(config, field.name)) for field in fields(config)}
    pairs = dict(pair.split("=") for pair in choice.split(",") if pair)
    return replace(config, **{name: kinds[name](value) for name, value in pairs.items()})


def score(vlm: model.VideoModel, run: Path, settings: Profile, held: list[schema.Example]) -> dict[str, float]:
    """Mean reward and format rate of the rows, and V-STAR's metrics of the run's held-out films."""
    root = run / "01_data_pipeline/world"
    items = vstar.read_items(run / "01_data_pipeline/eval.jsonl")
    ask = functools.partial(prompts.example_prompt, root=root, frames=settings.frames, box_space=vlm.box_space)
    asked = [inference.Question(e.id, root / e.media_path, functools.partial(ask, e, training=True)) for e in held]
    films = inference.vstar_questions(items, root, settings.frames, vlm.box_space)
    with tempfile.TemporaryDirectory() as folder:
        said = inference.answer(vlm, asked, settings.inference, Path(folder) / "rows", "rows")
        told = inference.answer(vlm, films, settings.inference, Path(folder) / "films", "films")
    scores = [rewards.score_completion(row["response"], row["row"], 1.0, rewards.RewardConfig.paper()) for row in said]
    whole = vstar.score_items(inference.read_vstar(items, told), protocol="fixed")
    return {
        "reward": float(np.mean([s["total"] for s in scores])),
        "its format": float(np.mean([s["format"] > 0 for s in scores])),
        **inference.summary(whole["overall"]),
        "format": inference.format_rate(told),
    }


def main() -> None:
    """Scores the checkpoint of 02, then trains from it with each choice and scores again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with parts 01 and 02")
    parser.add_argument("choices", nargs="*", default=[""], help="name=value,name=value of o3v.config.GspoConfig")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings, checkpoint = load_profile(args.profile), args.run / "02_sft/checkpoint"
    examples = list(schema.read_examples(args.run / "01_data_pipeline/rl.jsonl"))
    examples, held = examples[:-HELD_BACK], examples[-HELD_BACK:]
    tell("SFT", score(model.load(checkpoint), args.run, settings, held))
    for choice in args.choices:
        vlm, config = model.load(checkpoint), replace(changed(settings.gspo, choice), save_steps=10**6)
        with tempfile.TemporaryDirectory() as folder:
            root = args.run / "01_data_pipeline/world"
            trainer = gspo.make_trainer(vlm, examples, root, settings.frames, config, Path(folder), args.seed)
            training.train(trainer)
            vlm = training.merged(trainer, vlm)
        tell(choice or "as it is", score(vlm, args.run, settings, held))


def tell(name: str, found: dict[str, float]) -> None:
    print(name, {key: round(value, 3) for key, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
