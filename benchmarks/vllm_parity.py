"""Parity of vLLM and transformers on our own saved checkpoints: the tiny base and the twins of both families.

Each is loaded, saved by `models.save`, and asked 20 questions. Then vLLM gets doctored copies of the tiny base: another
normalisation, a larger smallest image, and weights that moved a little. Parity must refuse each.

    make vllm VLLM=cpu
    python benchmarks/vllm_parity.py --vllm .venv-vllm/bin/python
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from o3v import files, models
from o3v.cli import table_text
from o3v.config import find_base, load_profile
from o3v.data.root import read_split
from o3v.models.parity_cases import run_vllm, write_cases
from o3v.planning import parity
from o3v.tinybase.twins import make_twin
from o3v.toyworld.dataset import make_dataset

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
NOISE = 0.01  # of the spread of each tensor: the weights of another step


def save_again(source: Path, folder: Path) -> models.VideoModel:
    """Loads a model and saves it as our checkpoint."""
    vlm = models.load(source)
    models.save(vlm, folder)
    return vlm


def doctored(model: Path, kind: str) -> Path:
    """A copy of a checkpoint with a changed processor, or with weights that have moved a little."""
    folder = model.with_name(f"{model.name}-{kind}")
    shutil.copytree(model, folder, dirs_exist_ok=True)
    if kind == "other weights":
        vlm = models.load(model)
        torch.manual_seed(0)
        with torch.no_grad():
            for weights in vlm.model.parameters():
                weights += NOISE * weights.std(correction=0) * torch.randn_like(weights)
        models.save(vlm, folder)
        return folder
    path = folder / "preprocessor_config.json"
    config = files.read_json(path)
    if kind == "normalisation":
        config["image_mean"] = [0.0, 0.0, 0.0]
    else:
        config["min_pixels"] = config["size"]["shortest_edge"] = 112 * 112
    files.write_json(path, config)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("runs/vllm-parity"))
    parser.add_argument("--only", nargs="*", default=["tiny", *FAMILIES, "doctored"])
    options = parser.parse_args()
    out = options.out.resolve()
    world = out / "world"
    make_dataset(world, {"rl": options.count}, workers=1, progress=False)
    rows, frames = read_split(world, "rl"), load_profile("tiny").frames
    results = []
    for name in options.only:
        if name == "doctored":
            continue
        model = out / name
        source = find_base(load_profile("tiny").base) if name == "tiny" else out / f"{name}-hub"
        if name != "tiny" and not source.exists():
            make_twin(source, name)
        vlm = save_again(Path(source), model)
        builder = vlm.prompt_builder(world, frames)
        folder = parity.folder_of(model)
        prompts = [builder.for_example(row, training=True) for row in rows]
        write_cases(vlm, model, prompts, folder, options.tokens)
        run_vllm(options.vllm, folder)
        record = parity.compare(folder)
        lengths = [len(case["input_ids"]) for case in files.read_json(folder / parity.CASES)["cases"]]
        print(f"\n{name}: {record['engine']}, {record['dtype']}, prompts of {min(lengths)} to {max(lengths)} tokens")
        print(table_text(record["table"]), *record["differences"][:5], sep="\n", flush=True)
        results.append({"model": name, "vLLM loads": "the checkpoint", "passed": str(record["passed"]), "first": None})
    if "doctored" in options.only:
        model = out / "tiny"
        for kind in ("normalisation", "smallest image", "other weights"):
            run_vllm(options.vllm, parity.folder_of(model), doctored(model, kind))
            record = parity.compare(parity.folder_of(model))
            first = record["differences"][0] if record["differences"] else None
            results.append({"model": model.name, "vLLM loads": kind, "passed": str(record["passed"]), "first": first})
    print(f"\n{table_text(results)}")


if __name__ == "__main__":
    main()
