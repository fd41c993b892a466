"""GSPO of the tiny model with rollouts by a real vLLM server on this machine, after `o3v parity`.

Shows for each sampling the reward and how far the log-probabilities of vLLM are from those of the trainer. They stay
near only if the server has the trained weights. The training ends with NoParity above the bound. The script ends with 1
if the weights have not changed.

    make vllm VLLM=cpu
    python benchmarks/vllm_gspo.py
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import torch

from o3v import models
from o3v.cli import table_text
from o3v.config import load_profile
from o3v.data.root import read_split
from o3v.models.parity_cases import run_vllm, write_cases
from o3v.planning import parity
from o3v.toyworld.dataset import make_dataset
from o3v.training import gspo
from o3v.training import trainer as shared

COLD_START = Path(__file__).parents[1] / "data/o3v-tiny-sft"
BOUND = parity.TOLERANCES["float32"].mean  # the training itself ends above it
SERVER_S = 600.0  # until it answers
OPTIONS = ("--dtype", "float32", "--enable-scale-out", "--logprobs-mode", "raw_logprobs", "--enforce-eager")
SIZES = ("--max-logprobs", "-1", "--max-model-len", "2048", "--limit-mm-per-prompt", '{"image": 32, "video": 0}')
COLUMNS = {
    "reward": "reward",
    "completions/mean_length": "tokens",
    "sampling/sampling_logp_difference/mean": "mean difference",
    "sampling/sampling_logp_difference/max": "largest",
    "sampling/importance_sampling_ratio/mean": "ratio",
    "clock/generation": "sampling s",
}


def start_server(python: Path, model: Path, port: int, log: Path) -> subprocess.Popen:
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", *OPTIONS, *SIZES]
    variables = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=variables)
    end_s = time.monotonic() + SERVER_S
    while not answers(port) and server.poll() is None and time.monotonic() < end_s:
        time.sleep(1)
    return server


def answers(port: int) -> bool:
    try:
        return urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
    except OSError:
        return False


def untie(model) -> None:
    """Gives the language head weights of its own: vLLM 0.32 on a CPU keeps a packed copy of the old tied ones."""
    model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    profile = load_profile("tiny")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder / "world", {"rl": 60}, workers=1, progress=False)
        vlm = models.load(COLD_START)
        untie(vlm.model)
        models.save(vlm, folder / "model")
        builder = vlm.prompt_builder(folder / "world", profile.frames)
        examples = read_split(folder / "world", "rl")
        prompts = [builder.for_example(row, training=True) for row in examples[:10]]
        write_cases(vlm, folder / "model", prompts, parity.folder_of(folder / "model"), 24)
        run_vllm(options.vllm, parity.folder_of(folder / "model"))
        print(table_text(parity.compare(parity.folder_of(folder / "model"))["table"]), flush=True)
        port, log = free_port(), folder / "server.log"
        server = start_server(options.vllm.absolute(), folder / "model", port, log)
        try:
            config = replace(
                profile.gspo,
                max_steps=options.steps,
                prompts_per_step=4,
                num_processes=1,
                per_device_batch_size=32,
                save_steps=10**6,
                rollout_server=f"http://127.0.0.1:{port}",
            )
            vlm = models.load(folder / "model")
            start = {key: value.clone() for key, value in vlm.model.state_dict().items()}
            run = shared.TrainingRun(folder / "work", 0)
            rows = gspo.split_heldout(examples, 1)[0]
            trainer = gspo.make_trainer(vlm, rows, builder, config, run)
            shared.train(trainer)
        except BaseException:
            print(log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait()
        history = [row for row in trainer.state.log_history if "reward" in row]
        table = [{"step": row["step"]} | {COLUMNS[key]: row.get(key) for key in COLUMNS} for row in history]
        print(table_text(table))
        moved = any(not torch.equal(value, start[key]) for key, value in trainer.model.state_dict().items())
        largest = max(row["mean difference"] for row in table)
        print(
            f"largest mean difference {largest:.1e} (bound {BOUND:g}); weights {'moved' if moved else 'did not move'}"
        )
        sys.exit(int(not moved or largest > BOUND))


if __name__ == "__main__":
    main()
