"""The rules of the package: who may import whom, where torch lives, what is declared. Read from the source."""

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

WORDS = {"geometry", "evidence", "schema", "prompts", "config", "files", "code_digest", "text"}
BASICS = WORDS | {"video"}
# Which rooms (folders, and modules at the top) each room may import besides itself.
MAY_IMPORT = {
    **dict.fromkeys(WORDS, BASICS),
    "video": WORDS,
    "rewards": BASICS,
    "evaluation": BASICS,
    "data": BASICS,
    "models": BASICS | {"data", "evaluation", "rewards"},
    "training": BASICS | {"data", "evaluation", "rewards", "models"},
    "inference": BASICS | {"data", "evaluation", "rewards", "models"},
    "toyworld": BASICS | {"data"},
    "tinybase": BASICS | {"data", "evaluation", "rewards", "models", "training", "inference", "toyworld"},
    "viz": BASICS | {"data", "evaluation", "rewards"},
    "runner": WORDS,
    "cli": BASICS | {"data", "evaluation", "rewards", "models", "training", "inference", "viz", "runner", "toyworld"},
    "__main__": {"cli"},
}
WITH_TORCH = {"models", "training", "inference", "tinybase"}
TORCH = {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
MOST_FLOORS = 8
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "google": "google-genai", "rouge_score": "rouge-score"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}


def room_of(path: Path) -> str:
    return NAMES[path].split(".")[0]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms_imported(path: Path) -> set[str]:
    package = "o3v." + ".".join(path.relative_to(PACKAGE).parent.parts)
    names = {name.split(".")[1] for name in imported_modules(tree_of(path), package) if "." in name}
    return {name for name in names if name in MAY_IMPORT} - {room_of(path)}


def outside_imports(path: Path) -> set[str]:
    """First names of all that a module imports from outside of o3v, inside functions too."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names - {"o3v"}


def test_every_room_stands_in_the_table():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms == set(MAY_IMPORT)
    assert len(rooms - {"__main__"}) <= 22


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_a_module_imports_only_what_its_room_may(path):
    if room_of(path) == "__init__":
        assert rooms_imported(path) == set()
        return
    assert rooms_imported(path) - MAY_IMPORT[room_of(path)] == set()
    if room_of(path) not in WITH_TORCH | {"cli"}:
        assert outside_imports(path) & TORCH == set()


def test_rooms_form_no_circle_and_few_floors():
    above: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for path in MODULES:
        if room_of(path) in above:
            above[room_of(path)] |= rooms_imported(path)
    floors: dict[str, int] = {}
    while len(floors) < len(above):
        ready = {room for room in above if room not in floors and above[room] <= floors.keys()}
        assert ready, f"a circle among {sorted(above.keys() - floors.keys())}"
        floors |= {room: 1 + max((floors[below] for below in above[room]), default=0) for room in ready}
    assert max(floors.values()) <= MOST_FLOORS


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_no_module_takes_a_private_name_out_of_another(path):
    taken = {
        alias.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("o3v")
        for alias in node.names
    }
    assert not {name for name in taken if re.match("_[a-z]", name)}


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_a_module_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {n.name: n.end_lineno - n.lineno + 1 for n in functions if n.end_lineno - n.lineno + 1 > 45}
    assert long == {}


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {re.split(r"[\[>=<]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    imported = set().union(*map(outside_imports, MODULES)) - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name.replace("_", "-")).lower() for name in imported} - declared == set()


def test_rooms_without_torch_import_without_it_and_the_package_in_no_time():
    light = [n for p, n in NAMES.items() if room_of(p) not in WITH_TORCH | {"__init__", "__main__"}]
    modules = [f"o3v.{name}".removesuffix(".__init__") for name in light]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {modules}]; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "o3v.geometry" in loaded
    assert TORCH & set(loaded) == set()


def test_the_package_itself_imports_nothing():
    code = "import sys; before = set(sys.modules); import o3v; print(*(set(sys.modules) - before))"
    assert set(subprocess.check_output([sys.executable, "-c", code], text=True).split()) <= {"o3v", "__future__"}
