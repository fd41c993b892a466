"""Rules of the package, checked on its source: which part may import which, which use torch, what is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from o3v.code_digest import imported_modules

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "o3v"

CORE = {"geometry", "evidence", "schema", "prompts", "config", "files", "code_digest", "text", "http_json", "processes"}
BASICS = CORE | {"video"}
# Which parts (folders of o3v, and modules at its top) each part may import besides itself.
MAY_IMPORT = {
    **dict.fromkeys(CORE, BASICS),
    "video": CORE,
    "rewards": BASICS,
    "evaluation": BASICS,
    "data": BASICS,
    "models": BASICS | {"data", "evaluation", "rewards", "planning"},
    "training": BASICS | {"data", "evaluation", "rewards", "models", "planning"},
    "inference": BASICS | {"data", "evaluation", "rewards", "models"},
    "toyworld": BASICS | {"data"},
    "tinybase": BASICS | {"data", "evaluation", "rewards", "models", "training", "inference", "toyworld"},
    "ablations": BASICS | {"data", "evaluation", "rewards", "models", "training", "inference"},
    "viz": BASICS | {"data", "evaluation", "rewards"},
    "planning": BASICS | {"data"},
    "runner": CORE,
    "review": BASICS | {"evaluation", "rewards", "runner"},
    "cli": BASICS
    | {"data", "evaluation", "rewards", "models", "training", "inference", "viz", "planning", "runner", "review"}
    | {"toyworld", "ablations"},
    "__main__": {"cli", "text"},
}
WITH_TORCH = {"models", "training", "inference", "tinybase", "ablations"}  # of ablations, `work` only
TORCH = {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
MAX_LAYERS = 9
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "rouge_score": "rouge-score"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}


def part_of(path: Path) -> str:
    return NAMES[path].split(".")[0]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def parts_imported(path: Path) -> set[str]:
    package = "o3v." + ".".join(path.relative_to(PACKAGE).parent.parts)
    names = {name.split(".")[1] for name in imported_modules(tree_of(path), package) if "." in name}
    return {name for name in names if name in MAY_IMPORT} - {part_of(path)}


def outside_imports(path: Path) -> set[str]:
    """Top-level names of all packages outside o3v that a module imports, also inside functions."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names - {"o3v"}


def test_every_part_is_in_the_table():
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts == set(MAY_IMPORT)
    assert len(parts - {"__main__"}) <= 25


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_a_module_imports_only_what_its_part_may(path):
    if part_of(path) == "__init__":
        assert parts_imported(path) == set()
        return
    assert parts_imported(path) - MAY_IMPORT[part_of(path)] == set()
    if part_of(path) not in WITH_TORCH | {"cli", "planning"}:  # these import torch inside functions only
        assert outside_imports(path) & TORCH == set()


def test_parts_have_no_cycle_and_few_layers():
    above: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for path in MODULES:
        if part_of(path) in above:
            above[part_of(path)] |= parts_imported(path)
    layers: dict[str, int] = {}
    while len(layers) < len(above):
        ready = {part for part in above if part not in layers and above[part] <= layers.keys()}
        assert ready, f"a cycle among {sorted(above.keys() - layers.keys())}"
        layers |= {part: 1 + max((layers[below] for below in above[part]), default=0) for part in ready}
    assert max(layers.values()) <= MAX_LAYERS


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_no_module_imports_a_private_name(path):
    taken = {
        alias.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("o3v")
        for alias in node.names
    }
    assert not {name for name in taken if re.match("_[a-z]", name)}


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_modules_and_functions_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {n.name: n.end_lineno - n.lineno + 1 for n in functions if n.end_lineno - n.lineno + 1 > 45}
    assert long == {}


def test_imported_packages_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {re.split(r"[\[>=<]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    imported = set().union(*map(outside_imports, MODULES)) - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name.replace("_", "-")).lower() for name in imported} - declared == set()


def test_parts_without_torch_do_not_import_it():
    light = [n for p, n in NAMES.items() if part_of(p) not in WITH_TORCH | {"__init__", "__main__"}]
    modules = [f"o3v.{name}".removesuffix(".__init__") for name in light]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {modules}]; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "o3v.geometry" in loaded
    assert TORCH & set(loaded) == set()


def test_the_package_itself_imports_nothing():
    code = "import sys; before = set(sys.modules); import o3v; print(*(set(sys.modules) - before))"
    assert set(subprocess.check_output([sys.executable, "-c", code], text=True).split()) <= {"o3v", "__future__"}
