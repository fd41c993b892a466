"""Prompts with the greedy answers of transformers, written for another engine to repeat (`planning.parity`).

The files need no part of o3v to be read: texts, images as PNG, token ids and numbers in one JSON file.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from o3v import files
from o3v.models.vlm import VISION_TOKENS, VideoModel, decoding_options, encode, prompt_text
from o3v.planning import parity
from o3v.prompts import Prompt

# For trials on a CPU, where vLLM else binds its threads to cores, takes half of the memory and compiles for minutes.
VLLM_SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


def write_cases(
    vlm: VideoModel, model: Path | str, prompts: Sequence[Prompt], folder: Path, max_new_tokens: int
) -> Path:
    """Answers prompts greedily and writes them with tokens and log-probabilities. Returns the path of `cases.json`.

    What an earlier call left in the folder is removed first.

    Args:
        vlm: the model, loaded from `model`.
        model: folder of the checkpoint; its files are hashed.
        prompts: real prompts, each with images.
        folder: where the cases and their images are written.
        max_new_tokens: largest length of an answer.

    Raises ValueError without prompts and for one without images, FileNotFoundError if `model` is no folder of a model.
    """
    if not prompts or not all(prompt.images for prompt in prompts):
        raise ValueError("parity needs prompts, each with images; found none, or one without")
    settings = {
        "model": str(Path(model).resolve()),
        "model_files": parity.model_files(model),
        "dtype": str(vlm.model.dtype).removeprefix("torch."),
        "max_new_tokens": max_new_tokens,
        "banned_ids": vlm.processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS)),
    }
    shutil.rmtree(folder, ignore_errors=True)
    cases = []
    for number, prompt in enumerate(prompts):
        names = [f"{parity.IMAGES}/{number:03d}-{position:02d}.png" for position in range(len(prompt.images))]
        for name, image in zip(names, prompt.images, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name)
        row = {"case": number, "text": prompt_text(vlm.processor, prompt), "images": names}
        cases.append(row | greedy_answer(vlm, prompt, max_new_tokens))
    files.write_json(folder / parity.CASES, {"settings": settings, "cases": cases})
    return folder / parity.CASES


@torch.inference_mode()
def greedy_answer(vlm: VideoModel, prompt: Prompt, max_new_tokens: int) -> dict[str, Any]:
    """The greedy answer of a prompt, up to and with its end token.

    Returns `input_ids` of the prompt, `image_grids` ((t, h, w) in patches), `tokens` and their `logprobs` under the
    model, and `margins`, the distance of the best two log-probabilities that generation may choose from.
    """
    model, inputs = vlm.model, encode(vlm.processor, [prompt]).to(vlm.model.device)
    ids = inputs["input_ids"]
    new = model.generate(**inputs, **decoding_options(max_new_tokens))[:, ids.shape[1] :]
    ends = torch.isin(new[0], torch.tensor(model.generation_config.eos_token_id, device=new.device)).nonzero()
    new = new[:, : int(ends[0]) + 1] if len(ends) else new
    whole = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    for name, value in (("input_ids", new), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        tail = value if name == "input_ids" else torch.full_like(new, value)
        whole[name] = torch.cat([inputs[name], tail.to(inputs[name].dtype)], dim=1)
    logits = model(**whole, logits_to_keep=new.shape[1] + 1).logits[0, :-1].float()
    log_p = logits.log_softmax(-1)
    allowed = log_p.index_fill(-1, torch.tensor(model.generation_config.suppress_tokens, device=log_p.device), -1e9)
    best = allowed.topk(2).values
    return {
        "input_ids": ids[0].tolist(),
        "image_grids": inputs["image_grid_thw"].tolist(),
        "tokens": new[0].tolist(),
        "logprobs": log_p.gather(-1, new[0][:, None])[:, 0].tolist(),
        "margins": (best[:, 0] - best[:, 1]).tolist(),
    }


def run_vllm(python: Path, folder: Path, model: Path | str | None = None) -> Path:
    """Lets vLLM answer the cases of a folder. Returns the path of its messages.

    Args:
        python: interpreter of the environment of vLLM (`make vllm`).
        folder: with `cases.json`; gets `engine.json`.
        model: folder that vLLM loads; None: that of the cases.

    Raises FileNotFoundError if there is no such interpreter, OSError with vLLM's last words if it fails.
    """
    if not python.is_file():
        raise FileNotFoundError(f"there is no Python of vLLM at {python}; `make vllm` makes it, --vllm names another")
    script, output = Path(__file__).with_name("vllm_greedy.py"), folder / "vllm.log"
    command = [str(python), str(script), str(folder), *(["--model", str(model)] if model else [])]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    (folder / parity.ENGINE).unlink(missing_ok=True)
    with output.open("w", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=VLLM_SETTINGS | environment).returncode
    if code:
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no message")
        raise OSError(f"vLLM ended with exit code {code}: {last.strip()[:300]} (all messages: {output})")
    return output
