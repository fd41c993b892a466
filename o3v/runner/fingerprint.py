"""What a run depends on besides its inputs: code, packages, machine. Written into `manifest.json`.

A stage's key hashes its notebook, its parameters, the o3v modules it imports (and theirs), Python and the packages
that can change a number; while the key and the files hold, the stage need not run again. Comments and layout of
modules do not count (`code_digest`). Knows nothing of video or models, and imports none of the packages it lists.
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

DECISIVE = (
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
    """sha256 over all that decides a notebook's results except its input files.

    `cells` are (kind, source), all of them; `parameters` without the run folder, which may move. `base` is the
    digest of the base model's files; it counts where the notebook has to do with models.
    """
    cells = list(cells)
    modules = module_digests(source for kind, source in cells if kind == "code")
    parts = {
        "cells": cells,
        "parameters": dict(parameters),
        "modules": modules,
        "base": base if "o3v.models" in modules else None,
        "packages": package_versions(DECISIVE),
        "python": platform.python_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def base_digest(name: str) -> str:
    """What stands for a base model's weights: the digest of its folder in this repository, else its name."""
    found = find_base(name)
    return hash_path(found) if isinstance(found, Path) else name


@cache
def package_versions(names: tuple[str, ...] | None = None) -> dict[str, str | None]:
    """Installed versions by package name, None where one is missing; of every package without `names`."""
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
    """The commit checked out around `folder` and whether files differ from it; None outside git."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    status = _output("git", "-C", str(folder), "status", "--porcelain")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def environment() -> dict[str, Any]:
    """Python, package versions and the machine, for the manifest."""
    return {
        "o3v": o3v.__version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


@cache
def machine() -> dict[str, Any]:
    """Platform, processor, cores, memory and accelerators of this machine, found without importing torch."""
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
    """What a command prints; None when it is not installed, fails or takes more than 20 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        log.debug("%s: %s", command[0], error)
        return None
    return done.stdout.strip()
