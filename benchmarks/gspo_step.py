"""Compares a step of our GSPO with stock TRL: CPU time, peak memory, and the time of each part of a step.

Both have the same model, rows, settings and completion lengths; each runs in its own process, in turns. Stock is
TRL's GRPOTrainer on the model and processor as transformers loads them.

    python benchmarks/gspo_step.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

SIDES = ("stock", "ours")


def stock_model(base: Path | str, vlm):
    """The same weights with the classes of transformers: no cached frames, no shared prefix."""
    from transformers import Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from o3v import models

    images = Qwen2VLImageProcessorPil(size=dict(vlm.processor.image_processor.size))
    tokenizer = vlm.processor.tokenizer
    processor = models.FrameProcessor(images, tokenizer, tokenizer.chat_template)
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(base)
    return models.VideoModel(plain, processor, vlm.box_space)


def measure(side: str, folder: Path, steps: int) -> dict[str, float]:
    """CPU seconds per step after the first, wall seconds by part, and peak memory in MB."""
    from trl import GRPOTrainer

    from o3v import models
    from o3v.config import find_base, load_profile
    from o3v.data.root import read_split
    from o3v.prompts import PromptBuilder
    from o3v.training import gspo
    from o3v.training.trainer import TrainingRun

    profile = load_profile("tiny")
    changes = {"max_steps": steps, "learning_rate": 1e-7, "save_steps": 10**6, "steps_per_generation": 1}
    base, config = find_base(profile.base), replace(profile.gspo, **changes)
    vlm = models.load(base)
    if side == "stock":
        vlm = stock_model(base, vlm)
        gspo.GspoTrainer = type("Trainer", (GRPOTrainer,), {})
    examples = read_split(folder, "rl")
    out, builder = Path(tempfile.mkdtemp()), PromptBuilder(folder, profile.frames, vlm.box_space)
    trainer = gspo.make_trainer(vlm, examples, builder, config, TrainingRun(out, seed=0))
    trainer.generation_config.min_new_tokens = config.max_new_tokens
    parts = {name: 0.0 for name in ("generation", "log-probabilities", "whole step")}

    def timed(name: str, function):
        def run(*args, **kwargs):
            start_s = time.perf_counter()
            result = function(*args, **kwargs)
            parts[name] += time.perf_counter() - start_s
            return result

        return run

    trainer._generate = timed("generation", trainer._generate)
    logps = timed("log-probabilities", trainer._get_per_token_logps_and_entropies)
    trainer._get_per_token_logps_and_entropies = logps
    step, cpu_s = trainer.training_step, []

    def training_step(*args, **kwargs):
        start_s = time.process_time()
        if not cpu_s:
            parts.update(dict.fromkeys(parts, 0.0))  # the first step warms up
        result = timed("whole step", step)(*args, **kwargs)
        cpu_s.append(time.process_time() - start_s)
        return result

    trainer.training_step = training_step
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": float(np.median(cpu_s[1:])), "peak_mb": peak} | {k: v / steps for k, v in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.folder, options.steps)))
        return
    from o3v.toyworld.dataset import make_dataset

    with tempfile.TemporaryDirectory() as folder:
        make_dataset(folder, {"rl": 64}, seed=5, progress=False)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(options.turns):
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, "--folder", folder, "--steps", str(options.steps)]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[side].append(json.loads(printed.splitlines()[-1]))
    for side, rows in found.items():
        print(f"{side:>6}:", ", ".join(f"{name} {np.median([row[name] for row in rows]):.2f}" for name in rows[0]))
    for name in ("cpu_s", "peak_mb"):
        ratios = [ours[name] / stock[name] for ours, stock in zip(found["ours"], found["stock"], strict=True)]
        print(f"{name}: ours is {np.median(ratios):.2f} of stock ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
