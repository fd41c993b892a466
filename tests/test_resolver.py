"""Asks a resolver whether what we declare can be installed. Needs a package index: `make resolve`, not `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.network, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def resolve(tmp_path_factory):
    """The versions that uv would install for some arguments; nothing is installed. uv itself goes to a folder."""
    folder = tmp_path_factory.mktemp("uv")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "uv"], check=True)
    environment = os.environ | {"UV_CACHE_DIR": str(folder / "cache")}

    def versions(*arguments: str) -> dict[str, Version]:
        command = [folder / "bin/uv", "pip", "compile", "--no-annotate", "--no-header", "--python", sys.executable]
        done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2_000:]
        pins = map(Requirement, done.stdout.split("\n")[:-1])
        return {pin.name: Version(str(pin.specifier).removeprefix("==")) for pin in pins}

    return versions


def test_the_extra_gpu_fits_the_pinned_packages(resolve):
    found = resolve("pyproject.toml", "--extra", "gpu", "--constraint", "requirements.lock")
    assert found["deepspeed"] >= Version("0.17")
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    lock = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {pin.name: str(pin.specifier) for pin in lock if pin.name in ("torch", "transformers", "trl")}
    assert pinned == {name: f"=={found[name]}" for name in ("torch", "transformers", "trl")}


def test_the_environment_of_vllm_can_be_installed(resolve):
    """Only that for GPUs: the other needs a CPU build of torch, which is not on PyPI; `make vllm VLLM=cpu` tries it."""
    found = resolve("envs/vllm-gpu.txt")
    assert Version("0.22") <= found["vllm"] <= Version("0.31")  # that TRL 1.16 speaks with
    assert found["transformers"] >= Version("5.16")  # reads the configurations that ours writes
