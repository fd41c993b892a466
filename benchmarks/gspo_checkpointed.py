"""Compares a step of our GSPO with stock TRL at the sizes of GPUs: long prompts, activation checkpointing on.

Both have the same random Qwen2.5-VL with few layers and the real vocabulary, the same prompts of some 2,500 tokens,
and completions of one length; each runs in its own process, in turns. Stock is TRL's GRPOTrainer with the classes of
transformers.

    python benchmarks/gspo_checkpointed.py
    python benchmarks/gspo_checkpointed.py --frames 4 --vocabulary 8192 --new-tokens 16 --steps 2     # quick
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gspo_step import SIDES

FRAME_WH = (420, 224)  # 120 tokens


def make_model(side: str, vocabulary: int):
    """A random Qwen2.5-VL with the tiny base's tokenizer, with our classes or with those of transformers."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, set_seed
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from o3v import models
    from o3v.config import find_base, load_profile
    from o3v.models.families import QWEN2_5_VL
    from o3v.models.qwen_speedups import FrameImageProcessor, apply_speedups

    tokenizer = models.load(find_base(load_profile("tiny").base)).processor.tokenizer
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    text = {"vocab_size": vocabulary, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope, "tie_word_embeddings": False}
    text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    vision = {"depth": 4, "hidden_size": 160, "intermediate_size": 320, "num_heads": 4, "out_hidden_size": 256}
    vision |= {"fullatt_block_indexes": [3], "window_size": 112}
    tokens = {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}
    set_seed(0)
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config)
    model.generation_config.update(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    sizes = {"shortest_edge": 56 * 56, "longest_edge": 128 * 28 * 28}
    images = (Qwen2VLImageProcessorPil if side == "stock" else FrameImageProcessor)(size=sizes)
    processor = models.FrameProcessor(images, tokenizer, tokenizer.chat_template)
    return models.VideoModel(model if side == "stock" else apply_speedups(model), processor, QWEN2_5_VL)


def make_trainer(side: str, folder: Path, options: argparse.Namespace):
    """A trainer with one prompt and its completions a step, and checkpointing on."""
    from PIL import Image
    from trl import GRPOTrainer

    from o3v import schema
    from o3v.config import FrameConfig, GspoConfig
    from o3v.data.root import read_split
    from o3v.prompts import PromptBuilder
    from o3v.training import gspo
    from o3v.training import trainer as shared

    common, row = shared.common_arguments, gspo.gspo_row
    shared.common_arguments = lambda *arguments: common(*arguments) | {"gradient_checkpointing": True}
    if side == "stock":
        gspo.GspoTrainer = type("Trainer", (GRPOTrainer,), {})

    def long_row(example, builder):
        made = row(example, builder)
        return made | {"images": [image.resize(FRAME_WH, Image.Resampling.BILINEAR) for image in made["images"]]}

    gspo.gspo_row = long_row
    config = GspoConfig(
        max_steps=options.steps,
        prompts_per_step=1,
        num_generations=options.completions,
        per_device_batch_size=options.completions,
        max_new_tokens=options.new_tokens,
        beta=0.0,
        save_steps=10**6,
    )
    examples = [row for row in read_split(folder, "rl") if row.task is not schema.Task.SPATIAL]
    builder = PromptBuilder(folder, FrameConfig(n_frames=options.frames, max_pixels=84 * 84, max_fps=1e3), "pixels")
    run = shared.TrainingRun(Path(tempfile.mkdtemp()), seed=0)
    trainer = gspo.make_trainer(make_model(side, options.vocabulary), examples, builder, config, run)
    trainer.generation_config.min_new_tokens = options.new_tokens
    return trainer


def measure(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds (CPU and wall) of a step after the first, wall seconds of its generation, peak memory, prompt tokens."""
    trainer = make_trainer(side, folder, options)
    cpu_s, wall_s, generation_s, tokens = [], [], [0.0], []
    step, generate = trainer.training_step, trainer._generate

    def timed_generate(*args, **kwargs):
        start_s = time.perf_counter()
        result = generate(*args, **kwargs)
        generation_s[-1] += time.perf_counter() - start_s
        tokens.append(len(result[0][0]))
        return result

    def training_step(*args, **kwargs):
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        result = step(*args, **kwargs)
        wall_s.append(time.perf_counter() - start_s)
        cpu_s.append(time.process_time() - start_cpu_s)
        generation_s.append(0.0)
        return result

    trainer._generate, trainer.training_step = timed_generate, training_step
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"cpu_s": cpu_s, "wall_s": wall_s, "generation_s": generation_s[: len(wall_s)], "prompt tokens": tokens}
    return {name: float(np.median(values[1:] or values)) for name, values in found.items()} | {"peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--frames", type=int, default=18)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.folder, options)))
        return
    from o3v.toyworld.dataset import make_dataset

    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(folder, {"rl": 24}, seed=5, progress=False)
        for _ in range(options.turns):
            for side in SIDES:
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
    for side, rows in found.items():
        print(f"{side:>6}:", ", ".join(f"{name} {np.median([row[name] for row in rows]):.2f}" for name in rows[0]))
    for name in ("cpu_s", "wall_s", "peak_mb"):
        ratios = [ours[name] / stock[name] for ours, stock in zip(found["ours"], found["stock"], strict=True)]
        print(f"{name}: ours is {np.median(ratios):.2f} of stock ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
