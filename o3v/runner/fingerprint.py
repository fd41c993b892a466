"""Describes what a run depends on besides its input files: code, packages and machine.

The key of a stage is a hash of its notebook, its parameters, the o3v modules it imports (directly or indirectly), the
Python version and the packages that can change a result. A stage with the same key and the same files is not run
again. This module imports none of the packages it lists.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from o3v.code_digest import module_digests
from o3v.config import find_base
from o3v.files import hash_path
from o3v.runner.hashes import cached_hash

# Packages whose version can change a result.
RESULT_PACKAGES = """
accelerate av datasets decord matplotlib nltk numpy peft pillow rouge-score seaborn tokenizers torch transformers trl
"""


def stage_key(cells: Sequence[tuple[str, str]], parameters: Mapping[str, Any], base: str | None = None) -> str:
    """Returns a sha256 of everything that decides a notebook's results, except its input files.

    `cells` are all cells as (cell type, source). `parameters` do not contain `run_dir`, because a run may be moved.
    `base` is the digest of the base model; it is part of the key only if the notebook imports `o3v.models`.
    """
    modules = module_digests(source for kind, source in cells if kind == "code")
    versions = {name.replace("_", "-"): version for name, version in package_versions().items()}
    parts = {
        "cells": cells,
        "parameters": dict(parameters),
        "modules": modules,
        "base": base if "o3v.models" in modules else None,
        "packages": {name: versions.get(name) for name in RESULT_PACKAGES.split()},
        "python": platform.python_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def base_digest(name: str, cache: Path | None = None) -> str:
    """Returns the digest of a base model's folder, else the model's name on the hub. `cache`: see `hashes`."""
    base = find_base(name)
    if not isinstance(base, Path):
        return name
    return hash_path(base) if cache is None else cached_hash(base, cache)


@cache
def package_versions() -> dict[str, str]:
    """Returns the versions of all installed packages by name in lower case."""
    return dict(sorted((dist.name.lower(), dist.version) for dist in metadata.distributions()))


def git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of the repository around `folder` and whether files differ from it; None outside git."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    status = _output("git", "-C", str(folder), "status", "--porcelain")
    return None if commit is None or status is None else {"commit": commit, "dirty": bool(status)}


@cache
def machine() -> dict[str, Any]:
    """Returns platform, processor, cores, memory and accelerators of this machine. Does not import torch."""
    import psutil

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return {
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "accelerators": gpus.splitlines() if gpus else [],
    }


def _output(*command: str) -> str | None:
    """Returns the output of a command; None if it is not installed, fails or takes more than 20 s."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError):
        return None
