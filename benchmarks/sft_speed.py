"""Tokens per second of our SFT and of stock TRL, with the same model, rows, batches and settings, in turns.

Stock is TRL's SFTTrainer on the model and processor as transformers loads them, with our rows.

    python benchmarks/sft_speed.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from gspo_step import SIDES, stock_model


def measure(side: str, folder: Path, steps: int) -> dict[str, float]:
    """Tokens per second of the steps after the first two. All rows are read before."""
    from trl import SFTTrainer

    from o3v import models
    from o3v.config import find_base, load_profile
    from o3v.data.root import read_split
    from o3v.prompts import PromptBuilder
    from o3v.training import sft
    from o3v.training.trainer import TrainingRun

    profile = load_profile("tiny")
    base = find_base(profile.base)
    vlm = models.load(base)
    if side == "stock":
        vlm, sft.SftTrainer = stock_model(base, vlm), type("Trainer", (SFTTrainer,), {})
    examples = read_split(folder, "sft")[: steps * profile.sft.effective_batch_size]
    builder = PromptBuilder(folder, profile.frames, vlm.box_space)
    config = replace(profile.sft, epochs=1.0, learning_rate=1e-6, save_steps=10**6)
    trainer = sft.make_trainer(vlm, examples, builder, config, TrainingRun(Path(tempfile.mkdtemp()), seed=0))
    for index in range(len(examples)):
        trainer.train_dataset[index]  # decodes and caches
    started_s, tokens, step = [], [], trainer.training_step

    def training_step(model, inputs, *rest, **kwargs):
        started_s.append(time.perf_counter())
        tokens.append(int(inputs["attention_mask"].sum()))
        return step(model, inputs, *rest, **kwargs)

    trainer.training_step = training_step
    trainer.train()
    return {"tokens_s": sum(tokens[2:-1]) / (started_s[-1] - started_s[2])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.folder, options.steps)))
        return
    from o3v.toyworld.dataset import make_dataset

    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(folder, {"sft": 256}, seed=5, progress=False)
        for _ in range(options.turns):
            found = {}
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, "--folder", folder, "--steps", str(options.steps)]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[side] = json.loads(printed.splitlines()[-1])["tokens_s"]
            ratios.append(found["ours"] / found["stock"])
            print(", ".join(f"{side} {value:,.0f} tokens/s" for side, value in found.items()), f"{ratios[-1]:.2f}")
    print(f"ours against stock: {np.median(ratios):.2f} times the tokens per second")


if __name__ == "__main__":
    main()
