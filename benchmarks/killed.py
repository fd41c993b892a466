"""Kills SFT and GSPO with -9 at five random times, resumes them, and compares with an uninterrupted run bit by bit.

Trains all weights and adapters of the tiny base, a few steps with a checkpoint after each. The times are drawn within
the duration of the uninterrupted run.

    python benchmarks/killed.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

STEPS, ROWS = 6, 48


def work(kind: str, rank: int, world: Path, out: Path) -> None:
    """Trains or resumes, and writes a hash of weights and metrics."""
    from o3v import models, training
    from o3v.config import find_base, load_profile
    from o3v.data.root import read_split
    from o3v.prompts import PromptBuilder
    from o3v.training import gspo, sft
    from o3v.training.trainer import TrainingRun

    profile = load_profile("tiny")
    examples = read_split(world, "sft" if kind == "SFT" else "rl")
    vlm = models.load(find_base(profile.base))
    builder = PromptBuilder(world, profile.frames, vlm.box_space)
    if kind == "SFT":
        config = replace(profile.sft.with_rank(rank), epochs=1.0, save_steps=1)
        trainer = sft.make_trainer(vlm, examples, builder, config, TrainingRun(out, 0))
    else:
        small = {
            "max_steps": STEPS,
            "prompts_per_step": 2,
            "num_generations": 4,
            "per_device_batch_size": 8,
            "max_new_tokens": 48,
        }
        config = replace(profile.gspo.with_rank(rank), **small, save_steps=1)
        trainer = gspo.make_trainer(vlm, examples, builder, config, TrainingRun(out, 0))
    rows = training.train(trainer)
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())  # a saved state has its keys sorted
    for name, value in sorted(trainer.model.state_dict().items()):
        digest.update(name.encode() + value.float().numpy().tobytes())
    (out / "digest").write_text(digest.hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.work:
        kind, rank, world, out = options.work
        return work(kind, int(rank), Path(world), Path(out))
    from o3v.toyworld.dataset import make_dataset

    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        make_dataset(world, {"sft": ROWS, "rl": ROWS, "eval": 2}, 3, progress=False)
        for kind in ("SFT", "GSPO"):
            for rank in (0, 4):
                command = [sys.executable, __file__, "--work", kind, str(rank), str(world)]
                whole, steps, equal = Path(folder) / f"{kind}-{rank}-whole", [], 0
                start_s = time.monotonic()
                subprocess.run([*command, str(whole)], check=True, capture_output=True)
                whole_s = time.monotonic() - start_s
                for number, share in enumerate(rng.uniform(0.4, 0.95, options.kills)):
                    broken = Path(folder) / f"{kind}-{rank}-{number}"
                    run = subprocess.Popen([*command, str(broken)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                    time.sleep(share * whole_s)
                    run.kill()
                    run.communicate()
                    steps.append(max((int(p.name.split("-")[1]) for p in broken.glob("checkpoint-*")), default=0))
                    subprocess.run([*command, str(broken)], check=True, capture_output=True)
                    equal += (whole / "digest").read_text() == (broken / "digest").read_text()
                kind_name = "adapters" if rank else "all weights"
                print(
                    f"{kind}, {kind_name}: killed after steps {steps} of {STEPS}; equal {equal} of {len(steps)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
