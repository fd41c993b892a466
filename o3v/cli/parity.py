"""The command `o3v parity`: does vLLM sample from the policy that transformers trains?"""

import logging
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from o3v.cli import add_parser, count_above_0, table_text
from o3v.config import load_profile
from o3v.data import root as data_root
from o3v.planning import parity

log = logging.getLogger("o3v.parity")
PARTS = ("cases", "engine", "compare")


def add_command(commands: Any) -> None:
    """Adds `parity` to the subcommands of a parser."""
    summary = "compare vLLM with transformers on real prompts, before vLLM samples for GSPO; exit code 1 if they differ"
    add = add_parser(commands, "parity", check_parity, summary)
    add("model", type=Path, metavar="DIR", help="folder of the checkpoint that GSPO starts from")
    add("--data", metavar="ROOT", default="", help="data root, whose RL rows are the prompts (default: O3V_DATA)")
    add("--profile", default="full", help="profile that sets the frames (default: full)")
    add("--count", type=count_above_0, metavar="N", default=20, help="number of prompts (default: 20)")
    add("--tokens", type=count_above_0, metavar="N", default=32, help="largest length of an answer (default: 32)")
    add("--vllm", type=Path, metavar="PYTHON", default=Path(".venv-vllm/bin/python"), help="Python of vLLM (make vllm)")
    add("--only", choices=PARTS, help="one part, for engines on different machines that share the folder")


def check_parity(options: Namespace) -> int:
    """Writes the cases, lets vLLM answer them, and prints the comparison. Returns 1 if the engines differ.

    The files lie in `DIR.parity`, and `record.json` among them is what training asks for.
    """
    folder = parity.folder_of(options.model)
    parity.model_files(options.model)  # FileNotFoundError before anything is loaded
    parts = [options.only] if options.only else PARTS
    if "cases" in parts:
        _write_cases(options, folder)
    if "engine" in parts:
        from o3v.models.parity_cases import run_vllm

        log.info("vLLM answers, messages in %s", run_vllm(options.vllm, folder))
    if "compare" not in parts:
        log.info("%s", folder)
        return 0
    record = parity.compare(folder)
    log.info("%s in %s against transformers, %d prompts", record["engine"], record["dtype"], record["cases"])
    log.info("%s", table_text(record["table"]))
    for difference in record["differences"][:10]:
        log.info("differs: %s", difference)
    log.info("%s: %s", folder / parity.RECORD, "the engines agree" if record["passed"] else "the engines DIFFER")
    return int(not record["passed"])


def _write_cases(options: Namespace, folder: Path) -> None:
    root = options.data or os.environ.get(data_root.ENVIRONMENT, "")
    if not root:
        raise ValueError("name the data root with the prompts: --data ROOT, or O3V_DATA")
    rows, frames = data_root.read_split(root, "rl"), load_profile(options.profile).frames
    from o3v import models
    from o3v.models.parity_cases import write_cases

    vlm = models.load(options.model)
    builder = vlm.prompt_builder(Path(root), frames)
    step = max(1, len(rows) // options.count)  # from the whole file, since rows of a source lie together
    chosen = rows[::step][: options.count]
    prompts = [builder.for_example(example, training=True) for example in chosen]
    log.info("%s", write_cases(vlm, options.model, prompts, folder, options.tokens))
