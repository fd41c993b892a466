"""Computes digests of the package's source code, which tell whether a result was made with the current code.

The digest of some source covers every o3v module that it imports, directly or indirectly, and the packages that
contain these modules. Comments, layout and docstrings do not change a digest. Modules are read, not imported.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent


def code_digest(*modules: ModuleType) -> str:
    """Returns a sha256 of the source of these modules and of all o3v modules that they import."""
    digests = module_digests([f"import {module.__name__}" for module in modules])
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def module_digests(sources: Iterable[str]) -> dict[str, str]:
    """Returns the digest of each o3v module that the sources import, directly or indirectly.

    Keys are dotted names (`o3v.rewards.terms`), without `__init__` for packages. The packages that contain a module
    are listed too, because importing the module runs their `__init__`.
    """
    digests: dict[str, str] = {}
    names = {"o3v"}.union(*(_scan(_without_magics(source), "")[1] for source in sources))
    while names:
        name = names.pop()
        path = _find_file(name)
        if name in digests or path is None:
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        digests[name], imported = _scan(path.read_text(encoding="utf-8"), package)
        names |= imported
    return digests


def imported_modules(tree: ast.AST, package: str = "") -> set[str]:
    """Returns the dotted names of all modules that the source may import from o3v, and of the packages around them.

    Includes imports inside functions. `from o3v.a import b` can mean the module `o3v.a.b` or a name in `o3v.a`: both
    are returned. Relative imports start from `package`.
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


def _find_file(name: str) -> Path | None:
    """Returns the file of a module or package of o3v, or None if there is no module with this name."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _scan(source: str, package: str) -> tuple[str, frozenset[str]]:
    """Returns the digest of a source text and the names that it imports from o3v."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # code that cannot run: use its text
        return hashlib.sha256(source.encode()).hexdigest(), frozenset()
    imported = frozenset(imported_modules(tree, package))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), imported


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        may_have_docstring = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if may_have_docstring and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _without_magics(source: str) -> str:
    """Removes the IPython commands (`%matplotlib`, `!ls`) from the source of a cell."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
