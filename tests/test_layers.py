"""Who may import whom. Read from the source, so an import inside a function counts too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "o3v"

# A module imports only from lower layers. Modules of later work stand here before they exist.
LAYERS = {
    0: {"geometry", "config", "code_digest", "artifacts"},
    1: {"evidence", "video", "frame_table", "drawing", "notebook", "manifest"},
    2: {"schema", "plots", "markup", "public_code", "reward_terms", "runs", "synth_draw", "synth_stage", "synth_words"}
    | {"synth_watch"},
    3: {"synth", "synth_look", "synth_facts", "synth_chains", "synth_examples", "synth_rows", "stgr", "prompts"}
    | {"rewards", "vstar"}
    | {"annotations", "annotate", "annotators", "synth_annotator", "audit", "coverage", "curate", "exports", "shards"}
    | {"player", "trace", "viewers", "film", "hacks"},
    4: {"clips", "answers", "abilities", "lessons", "model", "prefix", "objective", "tiny", "training", "detector"}
    | {"crops", "packing"},
    5: {"sft", "gspo", "reuse", "pretrain", "measure", "card", "judge", "inference", "scaling", "faithful"},
    6: {"batch", "data_commands", "__main__"},
}
# Within a layer, modules that were split off one another: each may import those before it in its row.
CHAINS = (
    ("code_digest", "artifacts"),
    ("frame_table", "video"),
    ("prompts", "synth", "synth_look", "synth_facts", "synth_chains", "synth_examples", "synth_rows"),
    ("stgr", "curate", "audit", "shards"),
    ("stgr", "coverage"),
    ("prompts", "exports"),
    ("player", "trace", "film"),
    ("audit", "player", "trace", "viewers"),
    (
        "prompts",
        "synth",
        "synth_examples",
        "curate",
        "audit",
        "annotations",
        "annotate",
        "synth_annotator",
        "annotators",
    ),
    ("clips", "answers", "abilities", "crops", "lessons"),
    ("prefix", "model", "tiny"),
    ("clips", "model", "detector"),
    ("model", "packing"),
    ("model", "training"),
    ("measure", "card"),
    ("measure", "faithful"),
    ("inference", "scaling"),
    ("batch", "data_commands", "__main__"),
)
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
TORCH = {"torch", "transformers", "trl", "peft"}
FIRST_WITH_TORCH = 4

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
LIGHT = [name for name in MODULES if LAYER_OF.get(name, FIRST_WITH_TORCH) < FIRST_WITH_TORCH]


def imports(source: str) -> set[str]:
    """Full names of all that a source imports; `from o3v import x` is `o3v.x`.

    >>> sorted(imports("from o3v import a\\nfrom .b import c\\nimport d.e\\nfrom o3v.f import g"))
    ['d.e', 'o3v.a', 'o3v.b', 'o3v.f']
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(["o3v"] * (node.level > 0) + [node.module] * (node.module is not None))
            names |= {f"o3v.{alias.name}" for alias in node.names} if module == "o3v" else {module}
    return names


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_lower_layers(name):
    assert name in LAYER_OF, f"o3v/{name}.py stands in no layer: give it one in tests/test_layers.py"
    found = imports((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    own = {module.split(".")[1] for module in found if module.startswith("o3v.")}
    wrong = {m for m in own if (PACKAGE / f"{m}.py").exists() and LAYER_OF.get(m, 9) >= LAYER_OF[name]}
    before = {m for chain in CHAINS if name in chain for m in chain[: chain.index(name)]}
    assert wrong - before == set()
    if LAYER_OF[name] < FIRST_WITH_TORCH:
        assert {module.split(".")[0] for module in found} & TORCH == set()


def test_no_module_stands_in_two_layers_and_chains_keep_to_one():
    assert sum(map(len, LAYERS.values())) == len(LAYER_OF)
    for chain in CHAINS:
        assert len({LAYER_OF[name] for name in chain}) == 1


def test_importing_the_package_takes_under_a_third_of_a_second():
    code = "import time; t = time.perf_counter(); import o3v; print(time.perf_counter() - t)"
    took = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(took) < 0.3


def test_the_lower_layers_import_without_torch():
    code = f"import importlib, sys; [importlib.import_module('o3v.' + n) for n in {LIGHT}]; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "o3v.geometry" in loaded
    assert TORCH & set(loaded) == set()
