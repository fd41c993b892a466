"""Tests that pyproject.toml, environment.yml and requirements.lock agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch", "ray-data": "ray"}


def by_name(lines) -> dict[str, Requirement]:
    """Returns requirements by canonical name. A name may occur only once."""
    parsed = [Requirement(line) for line in lines]
    names = [canonicalize_name(requirement.name) for requirement in parsed]
    assert len(set(names)) == len(names)
    return dict(zip(names, parsed, strict=True))


@pytest.fixture(scope="module")
def declared():
    return by_name(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])


@pytest.fixture(scope="module")
def pinned():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return by_name(line for line in lines if line and not line.startswith("#"))


def test_conda_installs_the_declared_packages(declared):
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["channels"] == ["conda-forge"]
    *packages, pip = conda["dependencies"]
    assert "-e ." in pip["pip"]
    requirements = by_name([*packages, *(line for line in pip["pip"] if line != "-e .")])
    assert str(requirements.pop("python").specifier) == PROJECT["requires-python"]
    del requirements["pip"]
    bounds = {CONDA_NAMES.get(name, name): requirement.specifier for name, requirement in requirements.items()}
    assert bounds == {name: requirement.specifier for name, requirement in declared.items()}


def test_the_lock_pins_one_version_of_each_package_within_its_bounds(declared, pinned):
    for name, requirement in pinned.items():
        assert re.fullmatch(r"==[0-9.]+(post\d+)?", str(requirement.specifier)), f"{name} is not pinned"
        assert requirement.url is None
    assert declared.keys() <= pinned.keys()
    for name, requirement in declared.items():
        (pin,) = pinned[name].specifier
        assert requirement.specifier.contains(pin.version), f"{name}: {pin} is outside of {requirement.specifier}"


def test_the_lock_works_on_any_machine(pinned):
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))]
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"//|--|\+|@|sha256", text)


def test_each_package_of_an_extra_has_a_bound():
    for requirements in PROJECT["optional-dependencies"].values():
        assert all(requirement.specifier for requirement in by_name(requirements).values())
