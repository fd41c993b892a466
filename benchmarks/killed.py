"""Kills SFT and GSPO with -9 after five given steps, resumes them, and compares with an uninterrupted run bit by bit.

Trains all weights and adapters of the tiny base. A run is killed a random time after its log has the step. SFT saves
every step. GSPO saves at the end of a cycle of four updates, and most kills fall within a cycle.

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

STEPS, ROWS = 10, 80
KILLED_AFTER = (1, 4, 5, 6, 7)  # steps; with GSPO, 4 is the end of a cycle, 5 to 7 are within the next one
WAIT_S = 300.0  # until a step stands in the log


def logged_steps(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def kill_after(command: list[str], folder: Path, step: int, delay_s: float) -> int:
    """Starts a run, kills it `delay_s` after `step` was logged, and returns the step of its last checkpoint."""
    run = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + WAIT_S
    while logged_steps(folder / "log.jsonl") < step and run.poll() is None and time.monotonic() < end_s:
        time.sleep(0.02)
    time.sleep(delay_s)
    if run.poll() is not None:
        raise SystemExit(f"{folder.name}: ended before it was killed")
    run.kill()
    run.wait()
    return max((int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*")), default=0)


def work(kind: str, rank: int, world: Path, out: Path, processes: int) -> None:
    """Trains or resumes, and writes a hash of weights and metrics."""
    from o3v import files, models
    from o3v.config import find_base, load_profile
    from o3v.data.quarantine import Quarantine
    from o3v.data.root import read_split
    from o3v.training import gspo, launch, sft
    from o3v.training.trainer import TrainingRun

    profile = load_profile("tiny")
    examples = read_split(world, "sft" if kind == "SFT" else "rl")
    vlm = models.load(find_base(profile.base))
    builder = vlm.prompt_builder(world, profile.frames)
    run = TrainingRun(out, 0, quarantine=Quarantine(out / "unreadable.jsonl", len(examples)))
    if kind == "SFT":
        config = replace(profile.sft.with_rank(rank), epochs=1.0, save_steps=1, num_processes=processes)
        trainer = sft.make_trainer(vlm, examples, builder, config, run)
    else:
        small = {
            "max_steps": STEPS,
            "prompts_per_step": 2,
            "num_generations": 4,
            "per_device_batch_size": 8,
            "max_new_tokens": 48,
            "num_heldout": 1,
            "num_processes": processes,
            "num_iterations": 2,  # a cycle of four updates
        }
        config = replace(profile.gspo.with_rank(rank), **small, save_steps=1)
        trainer = gspo.make_trainer(vlm, gspo.split_heldout(examples, 1)[0], builder, config, run)
    rows_path = out / "rows.jsonl"
    files.write_jsonl(rows_path, [example.to_row() for example in examples])
    base = find_base(profile.base)
    rows = launch.train(trainer, launch.make_job(kind.lower(), base, rows_path, builder, config, run))
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())  # a saved state has its keys sorted
    for name, value in sorted(trainer.model.state_dict().items()):
        digest.update(name.encode() + value.float().numpy().tobytes())
    (out / "digest").write_text(digest.hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[0, 4], help="of adapters; 0 is all weights")
    options = parser.parse_args()
    if options.work:
        kind, rank, world, processes, out = options.work
        return work(kind, int(rank), Path(world), Path(out), int(processes))
    from o3v.toyworld.dataset import make_dataset

    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        make_dataset(world, {"sft": ROWS, "rl": ROWS, "eval": 2}, 3, progress=False)
        for kind in ("SFT", "GSPO"):
            for rank in options.ranks:
                command = [sys.executable, __file__, "--work", kind, str(rank), str(world), str(options.processes)]
                whole, saved, equal = Path(folder) / f"{kind}-{rank}-whole", [], 0
                subprocess.run([*command, str(whole)], check=True, capture_output=True)
                for step in KILLED_AFTER:
                    broken = Path(folder) / f"{kind}-{rank}-{step}"
                    saved.append(kill_after(command, broken, step, rng.uniform(0, 0.5)))
                    subprocess.run([*command, str(broken)], check=True, capture_output=True)
                    equal += (whole / "digest").read_text() == (broken / "digest").read_text()
                weights = "adapters" if rank else "all weights"
                print(
                    f"{kind}, {weights}: killed after steps {list(KILLED_AFTER)} of {STEPS}, resumed from {saved}; "
                    f"equal {equal} of {len(saved)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
