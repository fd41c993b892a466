"""Describes what a run depends on besides its input files: code, packages and machine.

The key of a stage is a hash of its notebook, its parameters, the o3v modules it imports (directly or indirectly), the
Python version and the packages that can change a result. A stage with the same key and the same files is not run
again. Comments and layout of modules do not change the key (`code_digest`). This module imports none of the packages
it lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import o3v
from o3v.code_digest import module_digests
from o3v.config import find_base
from o3v.files import hash_path

log = logging.getLogger(__name__)

RESULT_PACKAGES = (  # packages whose version can change a result
    "accelerate",
    "av",
    "datasets",
    "decord",
    "matplotlib",
    "nltk",
    "numpy",
    "peft",
    "pillow",
    "rouge-score",
    "seaborn",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def stage_key(cells: Iterable[tuple[str, str]], parameters: Mapping[str, Any], base: str | None = None) -> str:
    """Returns a sha256 of everything that decides a notebook's results, except its input files.

    `cells` are all cells as (cell type, source). `parameters` do not contain `run_dir`, because a run may be moved.
    `base` is the digest of the base model; it is part of the key only if the notebook imports `o3v.models`.
    """
    cells = list(cells)
    modules = module_digests(source for kind, source in cells if kind == "code")
    parts = {
        "cells": cells,
        "parameters": dict(parameters),
        "modules": modules,
        "base": base if "o3v.models" in modules else None,
        "packages": package_versions(RESULT_PACKAGES),
        "python": platform.python_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def base_digest(name: str) -> str:
    """Returns the digest of a base model's folder if it is in this repository, else the model's name."""
    base = find_base(name)
    return hash_path(base) if isinstance(base, Path) else name


@cache
def package_versions(names: tuple[str, ...] | None = None) -> dict[str, str | None]:
    """Returns installed versions by package name, None if a package is missing. Default: all installed packages."""
    if names is None:
        return dict(sorted((dist.name.lower(), dist.version) for dist in metadata.distributions()))
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of the repository around `folder` and whether files differ from it; None outside git."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    status = _output("git", "-C", str(folder), "status", "--porcelain")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def environment() -> dict[str, Any]:
    """Returns the versions of o3v, Python and all packages, and the machine, for the manifest."""
    return {
        "o3v": o3v.__version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


@cache
def machine() -> dict[str, Any]:
    """Returns platform, processor, cores, memory and accelerators of this machine. Does not import torch."""
    import psutil

    gpus = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "accelerators": gpus.splitlines() if gpus else [],
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """Returns the output of a command; None if it is not installed, fails or takes more than 20 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError) as error:
        log.debug("%s: %s", command[0], error)
        return None
