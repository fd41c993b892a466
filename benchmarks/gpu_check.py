"""Checks a GPU in under 8 minutes, without network and weights: SFT and GSPO steps of the shapes of Qwen2.5-VL.

The 3B and 7B models have random weights, prompts of some 2,200 tokens and our trainers; all weights are trained where
`o3v plan`'s formulas say that they fit, else LoRA. The table compares peak memory with the plan. The twin is compared
in bf16 with fp32, and with vLLM (`o3v parity`) where that is installed. Each part is a process with its own time limit.

    python benchmarks/gpu_check.py                    # one GPU
    python benchmarks/gpu_check.py --shapes twin      # self-test on a CPU
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

SECONDS = {"real": 8 * 60, "twin": 3600}
BASES = {"3B": "Qwen/Qwen2.5-VL-3B-Instruct", "7B": "Qwen/Qwen2.5-VL-7B-Instruct"}
PARTS = {"real": ["precision", "sft 3B", "gspo 3B", "sft 7B", "gspo 7B", "vllm"]}
PARTS["twin"] = ["precision", "sft twin", "gspo twin", "vllm"]
NEW_TOKENS = {"real": 128, "twin": 8}
COMPLETIONS, STEPS, RANK = 4, 4, 16


def random_model(twin, name: str, rank: int):
    """A model with the shape of a real one and random weights: fp32 to train all of them, else bf16."""
    import torch
    from transformers import AutoConfig
    from transformers.models.auto import AutoModelForImageTextToText

    from o3v.models.qwen_speedups import apply_speedups
    from o3v.planning.shapes import FIELDS, KNOWN

    known, own = KNOWN[BASES[name]], twin.model.config
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = {
        **dict(zip(FIELDS, known.language, strict=True)),
        "rope_parameters": rope,
        "max_position_embeddings": 128_000,
    }
    text |= {key: getattr(own.text_config, key) for key in ("bos_token_id", "eos_token_id")}
    ids = {key: getattr(own, key) for key in ("image_token_id", "video_token_id", "vision_start_token_id")}
    tied = {"tie_word_embeddings": known.tied}
    config = AutoConfig.for_model(
        known.family, text_config=text | tied, vision_config=dict(known.vision), **ids, **tied
    )
    with torch.device(twin.model.device):
        dtype = torch.bfloat16 if rank else torch.float32
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.generation_config = twin.model.generation_config
    apply_speedups(model)
    return replace(twin, model=model.eval(), source=None)


def frame_config(shapes: str):
    """Sixteen frames of 121 tokens, or three small ones."""
    from o3v.config import FrameConfig

    pixels = 128 * 28 * 28
    real = {"min_pixels": pixels, "image_min_pixels": pixels, "max_pixels": pixels}
    return FrameConfig(max_fps=1e3, n_frames=16, **real) if shapes == "real" else FrameConfig(3, 56 * 56, 1e3)


def prepare(name: str, stage: str, folder: Path):
    """Model, rows, prompts, LoRA rank, and the plan's peak for a stage, from the longest prompt of the rows."""
    import torch

    from o3v import models, schema
    from o3v.data.root import read_split
    from o3v.models.vlm import encode
    from o3v.planning.memory import Setup, fits, memory_parts
    from o3v.planning.shapes import model_shape, shape_of

    shapes = "twin" if name == "twin" else "real"
    twin = models.load(folder / "twin", master_weights=True)
    builder = twin.prompt_builder(folder / "data", frame_config(shapes))
    rows = [
        row for row in read_split(folder / "data", stage.replace("gspo", "rl")) if row.task is not schema.Task.SPATIAL
    ]
    longest = max(rows, key=lambda row: len(row.key_frames))
    ids = encode(twin.processor, [builder.for_example(longest, training=True)])["input_ids"]
    images = int((ids == twin.model.config.image_token_id).sum())
    shape = shape_of(twin.model) if name == "twin" else model_shape(BASES[name])
    at_once = 1 if stage == "sft" else COMPLETIONS
    sampled = at_once if stage == "gspo" else 0
    setup = Setup("ddp", 1, at_once, ids.shape[1], images, NEW_TOKENS[shapes], generated_rows=sampled)
    rank = 0
    if torch.cuda.is_available() and not fits(
        memory_parts(shape, setup), torch.cuda.get_device_properties(0).total_memory
    ):
        rank = RANK
    planned = memory_parts(shape, replace(setup, lora_rank=rank))
    vlm = twin if name == "twin" else random_model(twin, name, rank)
    return vlm, rows, builder, rank, shape, planned["peak"] - planned["CUDA context"]


def make_trainer(stage: str, vlm, rows, builder, rank: int, new_tokens: int):
    """Our trainer for STEPS steps, which saves nothing."""
    from o3v.config import GspoConfig, SftConfig
    from o3v.training import gspo, sft
    from o3v.training.trainer import TrainingRun

    run, common = TrainingRun(Path(tempfile.mkdtemp()), seed=0), {"lora_rank": rank, "save_steps": 10**6}
    if stage == "sft":
        config = SftConfig(effective_batch_size=2, per_device_batch_size=1, **common)
        trainer = sft.make_trainer(vlm, (rows * 8)[: 2 * STEPS], builder, config, run)
    else:
        sizes = {"prompts_per_step": 1, "num_generations": COMPLETIONS, "per_device_batch_size": COMPLETIONS}
        config = GspoConfig(max_steps=STEPS, max_new_tokens=new_tokens, beta=0.0, **sizes, **common)
        trainer = gspo.make_trainer(vlm, rows, builder, config, run)
        trainer.generation_config.min_new_tokens = new_tokens
    trainer.args.save_strategy = "no"
    return trainer


def train(part: str, folder: Path, peak_tflops: float) -> dict[str, object]:
    """Trains some steps. The first one warms up and does not count."""
    import torch

    from o3v.planning.work import row_flops
    from o3v.training import gspo_trainer

    stage, name = part.split()
    new_tokens = NEW_TOKENS["twin" if name == "twin" else "real"]
    vlm, rows, builder, rank, shape, planned = prepare(name, stage, folder)
    trainer = make_trainer(stage, vlm, rows, builder, rank, new_tokens)
    started_s, tokens, flops, step = [], [], [], trainer.training_step

    def training_step(model, inputs, *rest, **kwargs):
        started_s.append(time.perf_counter())
        if stage == "sft":
            mask = inputs["attention_mask"]
            images = int((inputs["input_ids"] == vlm.model.config.image_token_id).sum())
            tokens.append(int(mask.sum()))
            passes = (3, 1) if rank else (4, 4)
            flops.append(len(mask) * row_flops(shape, tokens[-1] / len(mask), images / len(mask), *passes))
        return step(model, inputs, *rest, **kwargs)

    trainer.training_step = training_step
    torch.cuda.reset_peak_memory_stats() if torch.cuda.is_available() else None
    trainer.train()
    found: dict[str, object] = {"weights": f"LoRA {rank}" if rank else "all", "planned GB": round(planned / 1e9, 1)}
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == STEPS and all(map(torch.isfinite, torch.tensor(losses))), losses
    if torch.cuda.is_available():
        found |= {"peak GB": round(torch.cuda.max_memory_allocated() / 1e9, 1)}
    else:
        found |= {"peak GB": f"process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}"}
    if stage == "sft":  # forward passes; two make a step
        seconds = started_s[-2] - started_s[2]
        rate, work = sum(tokens[2:-2]) / seconds, sum(flops[2:-2]) / seconds
        found |= {"step s": round(2 * seconds / len(tokens[2:-2]), 2), "tokens/s": round(rate)}
        return found | {"share of peak": f"{work / peak_tflops / 1e12:.1%}" if torch.cuda.is_available() else "–"}
    parts = gspo_trainer.seconds_by_part(trainer)
    found |= {"step s": round(sum(parts.values()), 2)}
    return found | {"parts, s": ", ".join(f"{key} {value:.2f}" for key, value in parts.items())}


def precision(folder: Path) -> dict[str, object]:
    """The twin in bf16 arithmetic against fp32: log-probabilities of its prompts' tokens, gradient of their mean."""
    import torch

    from o3v import models
    from o3v.data.root import read_split
    from o3v.models.vlm import encode

    vlm = models.load(folder / "twin", master_weights=True)
    builder = vlm.prompt_builder(folder / "data", frame_config("twin"))
    prompts = [builder.for_example(row, training=True) for row in read_split(folder / "data", "rl")[:4]]
    inputs = {key: value.to(vlm.model.device) for key, value in encode(vlm.processor, prompts).items()}
    scored, found = inputs["attention_mask"][:, 1:].bool(), []
    for enabled in (False, True):
        with torch.autocast(vlm.model.device.type, torch.bfloat16, enabled=enabled):
            logits = vlm.model(**inputs).logits[:, :-1].float()
        logp = logits.log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0][scored]
        vlm.model.zero_grad()
        logp.mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in vlm.model.parameters() if p.grad is not None])
        found.append((logp.detach(), gradient))
    (exact, slope), (rounded, other) = found
    cosine = torch.nn.functional.cosine_similarity(slope, other, 0).item()
    assert (exact - rounded).abs().mean() < 0.02 and cosine > 0.99, (exact - rounded, cosine)
    change = (exact - rounded).abs()
    return {
        "tokens": len(change),
        "mean |Δ log p|": f"{change.mean():.1e}",
        "max": f"{change.max():.1e}",
        "cosine of gradients": f"{cosine:.5f}",
    }


def vllm(folder: Path, python: Path) -> dict[str, object]:
    """`o3v parity` of the twin, where there is an environment with vLLM."""
    if not python.is_file():
        return {"note": f"not installed: there is no {python}"}
    command = [sys.executable, "-m", "o3v", "parity", str(folder / "twin"), "--data", str(folder / "data")]
    done = subprocess.run(
        [*command, "--profile", "rehearsal", "--count", "4", "--vllm", str(python)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {"note": " ".join(done.stdout.split())[-300:]}


def make_inputs(folder: Path) -> None:
    """The twin of Qwen2.5-VL, with the real vocabulary, and a few synthetic videos with their rows."""
    from o3v.tinybase.twins import make_twin
    from o3v.toyworld.dataset import make_dataset

    make_twin(folder / "twin", "qwen2_5_vl")
    make_dataset(folder / "data", {"sft": 24, "rl": 24, "eval": 0}, seed=5, progress=False)


def run_part(part: str, folder: Path, options: argparse.Namespace, limit_s: float) -> dict[str, object]:
    """A part in its own process: what it found, or why it failed."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--tflops", str(options.tflops)]
    try:
        done = subprocess.run([*command, "--vllm", str(options.vllm)], capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished after {limit_s:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    from o3v.planning.work import Assumptions

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=PARTS, default="real", help="twin: a self-test with tiny shapes")
    parser.add_argument("--tflops", type=float, default=Assumptions().peak_flops / 1e12, help="bf16 peak of the GPU")
    parser.add_argument("--vllm", type=Path, default=Path(".venv-vllm/bin/python"), help="Python of vLLM")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        own = {"precision": lambda: precision(options.folder), "vllm": lambda: vllm(options.folder, options.vllm)}
        print(json.dumps(own.get(options.part, lambda: train(options.part, options.folder, options.tflops))()))
        return 0
    import torch

    if options.shapes == "real" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} finds no GPU; --shapes twin is a self-test on a CPU")
    end, failed = time.monotonic() + SECONDS[options.shapes], False
    print(
        torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU: nothing here is a measurement of one"
    )
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder))
        for part in PARTS[options.shapes]:
            found = run_part(part, Path(folder), options, max(1.0, end - time.monotonic()))
            failed |= "failed" in found
            print(f"{part}: " + "; ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
