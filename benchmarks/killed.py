"""Kills SFT and GSPO with -9 after given steps, resumes them, and compares with an uninterrupted run bit by bit.

Trains all weights and adapters: SFT starts from the tiny base, GSPO from the shipped cold start. A run is killed a
random time after its log has the step. SFT saves every step. GSPO saves at the end of a cycle of four updates, and most
kills fall within a cycle.

With `--engine` and `--processes 2`, the processes train under DeepSpeed or FSDP2 on the CPU (`engine_on_cpu.py`).

    python benchmarks/killed.py
    python benchmarks/killed.py --processes 2 --ranks 0 --engine zero3
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from o3v.config import Engine

STEPS, ROWS = 10, 80
KILLED_AFTER = [1, 4, 5, 6, 7]  # steps; with GSPO, 4 is the end of a cycle, 5 to 7 are within the next one
COLD_START = Path(__file__).parents[1] / "data/o3v-tiny-sft"  # GSPO of the base has no reward and no gradient
WAIT_S = 300.0  # until a step stands in the log


def set_launcher(engine: str, processes: int) -> None:
    """The notebook's launcher, for CPU processes that pass for GPUs."""
    from o3v.training import launch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "no"]
    command += ["--config_file", str(launch.CONFIGS / f"{engine}.yaml"), "--num_processes", str(processes)]
    os.environ[launch.LAUNCHER] = shlex.join([*command, str(Path(__file__).with_name("engine_on_cpu.py"))])


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


def weights_digest(model) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.float().numpy().tobytes())
    return digest.hexdigest()


def work(kind: str, rank: int, world: Path, out: Path, processes: int) -> None:
    """Trains or resumes, and writes a hash of weights and metrics. Fails if no weight has changed."""
    from o3v import files, models
    from o3v.config import find_base, load_profile
    from o3v.data.quarantine import Quarantine
    from o3v.data.root import read_split
    from o3v.training import gspo, launch, sft
    from o3v.training.trainer import TrainingRun

    profile = load_profile("tiny")
    examples = read_split(world, "sft" if kind == "SFT" else "rl")
    start = find_base(profile.base) if kind == "SFT" else COLD_START
    vlm = models.load(start)
    before = weights_digest(vlm.model)
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
            "max_new_tokens": 128,
            "num_heldout": 1,
            "num_processes": processes,
            "num_iterations": 2,  # a cycle of four updates
        }
        config = replace(profile.gspo.with_rank(rank), **small, save_steps=1)
        trainer = gspo.make_trainer(vlm, gspo.split_heldout(examples, 1)[0], builder, config, run)
    rows_path = out / "rows.jsonl"
    files.write_jsonl(rows_path, [example.to_row() for example in examples])
    rows = launch.train(trainer, launch.make_job(kind.lower(), start, rows_path, builder, config, run))
    after = weights_digest(trainer.model)
    if after == before:
        raise SystemExit(f"{kind}: the training changed nothing")
    metrics = json.dumps(rows, sort_keys=True)  # a saved state has its keys sorted
    (out / "digest").write_text(hashlib.sha256((metrics + after).encode()).hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[0, 4], help="of adapters; 0 is all weights")
    parser.add_argument("--engine", choices=get_args(Engine), help="of accelerate; default DDP alone")
    parser.add_argument("--after", type=int, nargs="+", default=KILLED_AFTER, help="steps after which a run is killed")
    options = parser.parse_args()
    if options.engine and options.processes < 2:
        parser.error("--engine needs --processes 2 or more")
    if options.engine:
        set_launcher(options.engine, options.processes)
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
                for step in options.after:
                    broken = Path(folder) / f"{kind}-{rank}-{step}"
                    saved.append(kill_after(command, broken, step, rng.uniform(0, 0.5)))
                    subprocess.run([*command, str(broken)], check=True, capture_output=True)
                    equal += (whole / "digest").read_text() == (broken / "digest").read_text()
                weights = "adapters" if rank else "all weights"
                log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
                name = "reward" if kind == "GSPO" else "loss"
                first, *_, last = [row[name] for row in log if name in row]
                print(
                    f"{kind}, {weights}, {name} {first:.4f} to {last:.4f}: "
                    f"killed after steps {options.after} of {STEPS}, resumed from {saved}; "
                    f"equal {equal} of {len(saved)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
