"""A checkpoint that is none, and the files of two engines that agree on it, for tests that spoil them."""

import json

from o3v import files
from o3v.planning import parity

TOKENS, LOGPROBS, MARGINS = [7, 8, 9], [-0.5, -1.0, -0.25], [1.0, 0.0005, 2.0]


def checkpoint(folder):
    """A folder with files of the names of a checkpoint."""
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "tokenizer.json"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def row(number, **more):
    found = {"case": number, "input_ids": [1, 5, 5, 2], "image_grids": [[1, 2, 4]]}
    return found | {"tokens": list(TOKENS), "logprobs": list(LOGPROBS)} | more


def exchange(model, cases=5, dtype="float32"):
    """Writes both engines' files for a checkpoint. Returns their folder."""
    folder = parity.folder_of(model)
    folder.mkdir()
    settings = {"model": str(model), "model_files": parity.model_files(model), "dtype": dtype}
    rows = [row(number, margins=MARGINS) for number in range(cases)]
    files.write_json(folder / parity.CASES, {"settings": settings, "cases": rows})
    write_engine(folder, [row(number) for number in range(cases)])
    return folder


def write_engine(folder, rows):
    settings = {"engine": "vllm 0", "cases_sha256": files.hash_file(folder / parity.CASES)}
    (folder / parity.ENGINE).write_text(json.dumps({"settings": settings, "answers": rows}), encoding="utf-8")
