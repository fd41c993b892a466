"""Digests of the package's source: what decides whether a result is still that of today's code.

A piece of source depends on every o3v module that it imports, directly or through one another, and on the packages
around them. Comments, layout and docstrings do not count. Reads files only: nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent


def code_digest(*modules: ModuleType) -> str:
    """sha256 over the source of these modules and of every o3v module that they import."""
    digests = module_digests([f"import {module.__name__}" for module in modules])
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def module_digests(sources: Iterable[str]) -> dict[str, str]:
    """Digest of each o3v module that the sources import, directly or through one another.

    Keys are dotted names (`o3v.rewards.terms`); a package is named without `__init__`. Importing a module runs the
    `__init__` of the packages around it, so these are listed too.
    """
    digests: dict[str, str] = {}
    waiting = {"o3v"}.union(*(_scan(_without_magics(source), "")[1] for source in sources))
    while waiting:
        name = waiting.pop()
        path = _find(name)
        if name in digests or path is None:
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        digests[name], imported = _scan(path.read_text(encoding="utf-8"), package)
        waiting |= imported
    return digests


def imported_modules(tree: ast.AST, package: str = "") -> set[str]:
    """Dotted names that a piece of source may import from o3v, inside functions too, with the packages around them.

    `from o3v.a import b` may name the module `o3v.a.b` or something inside `o3v.a`: both are listed. `package` is the
    package that relative imports start from.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names if name.split(".")[0] == "o3v"]
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


def _find(name: str) -> Path | None:
    """The file of a module or package of o3v, None for a name that is neither."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in found if file.is_file()), None)


@cache
def _scan(source: str, package: str) -> tuple[str, frozenset[str]]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # it cannot run either; its text stands for it until it is mended
        return hashlib.sha256(source.encode()).hexdigest(), frozenset()
    imported = frozenset(imported_modules(tree, package))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), imported


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
