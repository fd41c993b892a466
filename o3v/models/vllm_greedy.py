"""Repeats the cases of `models.parity_cases` with vLLM. Run by the Python of vLLM's own environment, without o3v:

    .venv-vllm/bin/python o3v/models/vllm_greedy.py CHECKPOINT.parity [--model DIR]

Reads `cases.json` and writes `engine.json` beside it, whole or not at all. vLLM is no dependency of o3v: the modules of
that environment are imported by name.
"""

import argparse
import hashlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

SPARE_TOKENS = 1_024  # of the context, beyond the longest prompt: a processor that differs may make more


def main() -> None:
    """Answers all cases greedily in one call of vLLM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with cases.json")
    parser.add_argument("--model", help="model folder (default: the one that the cases were made with)")
    options = parser.parse_args()
    text = (options.folder / "cases.json").read_bytes()
    cases = json.loads(text)
    settings, rows = cases["settings"], cases["cases"]
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: fewer imports
    vllm = importlib.import_module("vllm")
    llm = load_engine(vllm, options.model or settings["model"], settings, rows)
    answers = answer_cases(vllm, llm, settings, rows, options.folder)
    found = {"engine": f"vllm {vllm.__version__}", "cases_sha256": hashlib.sha256(text).hexdigest()}
    unfinished = options.folder / ".engine.unfinished"
    unfinished.write_text(json.dumps({"settings": found, "answers": answers}), encoding="utf-8")
    os.replace(unfinished, options.folder / "engine.json")


def load_engine(vllm: Any, model: str, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """vLLM with the model, in the precision of the cases."""
    longest = max(len(row["input_ids"]) for row in rows) + settings["max_new_tokens"] + SPARE_TOKENS
    images = max(len(row["images"]) for row in rows)
    return vllm.LLM(
        model=model,
        dtype=settings["dtype"],
        max_model_len=longest,
        limit_mm_per_prompt={"image": images, "video": 0},
        enforce_eager=True,
        mm_processor_cache_gb=0,
        max_num_seqs=8,
        seed=0,
    )


def answer_cases(
    vllm: Any, llm: Any, settings: dict[str, Any], rows: list[dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Token ids, grids, greedy tokens and log-probabilities of all cases.

    Args:
        vllm: the module.
        llm: the engine.
        settings: of the cases: length of an answer, ids that must not be sampled.
        rows: the cases.
        folder: that the images of the cases lie in.
    """
    image_class = importlib.import_module("PIL.Image")
    images = [[image_class.open(folder / name).convert("RGB") for name in row["images"]] for row in rows]
    prompts = [
        {"prompt": row["text"], "multi_modal_data": {"image": frames}} for row, frames in zip(rows, images, strict=True)
    ]
    bias = {int(token): -100.0 for token in settings["banned_ids"]}
    sampling = vllm.SamplingParams(
        temperature=0.0, max_tokens=settings["max_new_tokens"], logprobs=0, logit_bias=bias, repetition_penalty=1.0
    )
    done = llm.generate(prompts, sampling, use_tqdm=False)
    processor = hub_processor(llm)
    answers = []
    for row, frames, output in zip(rows, images, done, strict=True):
        tokens = list(output.outputs[0].token_ids)
        logprobs = [step[token].logprob for token, step in zip(tokens, output.outputs[0].logprobs, strict=True)]
        grids = processor.image_processor(images=frames, return_tensors="pt")["image_grid_thw"].tolist()
        found = {"input_ids": list(output.prompt_token_ids), "image_grids": grids}
        answers.append({"case": row["case"], **found, "tokens": tokens, "logprobs": logprobs})
    return answers


def hub_processor(llm: Any) -> Any:
    """The processor that vLLM itself made from the files of the model."""
    module = importlib.import_module("vllm.transformers_utils.processor")
    return module.cached_processor_from_config(llm.llm_engine.model_config)


if __name__ == "__main__":
    main()
