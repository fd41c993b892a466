"""Finds the first API of the libraries that the code no longer fits, in the environment of the Python that runs it.

    python .ci/api_drift.py --names newest|oldest   requirements of this kind, one a line
    python .ci/api_drift.py [--smoke DIR]                  look for drift; with --smoke also run all notebooks

In this order, and the first problem is named: every name that o3v imports exists; every method of a library's class
that o3v overrides takes the arguments of the library's; the notebooks run on the profile smoke. Exits with 1 if
something drifted. `.ci/drift` and `.ci/oldest` make the environments.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WATCHED = ("torch", "transformers", "trl", "papermill", "accelerate", "peft", "datasets", "numpy", "tokenizers", "av")
_FRAME = re.compile(r'(o3v/[\w/]+\.py)(?:[:,"\s]|line|in )*?(\d+)')
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def requirements(kind: str, text: str) -> list[str]:
    """The packages of a pyproject.toml: `newest` without bounds, `oldest` at their lower bounds.

    >>> requirements("oldest", '[project]\\ndependencies = ["trl>=1.16,<2"]')
    ['trl==1.16']
    >>> requirements("newest", '[project]\\ndependencies = ["trl>=1.16,<2"]')
    ['trl']
    """
    lines = tomllib.loads(text)["project"]["dependencies"]
    if kind == "newest":
        return [re.split(r"[<>=!~; ]", line)[0] for line in lines]
    return [re.sub(r">=([\w.]+).*", r"==\1", line) for line in lines]


_distributions = cache(importlib.metadata.packages_distributions)


def version(name: str) -> str:
    """A package with its installed version, for a message."""
    top = name.split(".")[0]
    package = _distributions().get(top, [top])[0]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return top


def missing_names(package: Path) -> Iterator[str]:
    """Yields a line for each name that a module imports from a library and that the library does not have.

    A library that is not installed is skipped: it belongs to an extra.
    """
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [(node.module, alias.name) for alias in node.names]
            else:
                continue
            for module, name in names:
                top = module.split(".")[0]
                if top in (package.name, "__future__") or importlib.util.find_spec(top) is None:
                    continue
                if reason := _import(module, name):
                    yield f"{path.relative_to(package.parent).as_posix()}:{node.lineno}: {version(module)}: {reason}"


def _import(module: str, name: str) -> str:
    """Why a name cannot be imported; "" if it can."""
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError as error:
        return f"cannot import {f'{module}.{name}'.rstrip('.')}: {error}"
    return ""


def changed_overrides(package: Path) -> Iterator[str]:
    """Yields a line for each overridden method of a library's class that takes not all of the library's arguments."""
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        module = importlib.import_module(name.removesuffix(".__init__")) if path.stem != "__main__" else None
        for kind in [v for v in vars(module).values() if inspect.isclass(v)] if module else []:
            if kind.__module__ == name:
                yield from _overrides(kind, package.name)


def _overrides(kind: type, own: str) -> Iterator[str]:
    for method, function in vars(kind).items():
        parents = [
            p for p in kind.__mro__[1:] if method in vars(p) and p.__module__.split(".")[0] not in (own, "builtins")
        ]
        if method.startswith("__") or not inspect.isfunction(function) or not parents:
            continue
        theirs, ours = vars(parents[0])[method], inspect.signature(function).parameters
        if not inspect.isfunction(theirs) or any(p.kind is p.VAR_KEYWORD for p in ours.values()):
            continue
        wanted = inspect.signature(theirs).parameters.values()
        lost = [p.name for p in wanted if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in ours]
        if lost and not any(p.kind is p.VAR_POSITIONAL for p in ours.values()):
            parent, where = parents[0], f"{kind.__module__}.{kind.__name__}.{method}"
            yield f"{where}: {version(parent.__module__)}: {parent.__name__}.{method} also takes {', '.join(lost)}"


def failed_cell(book: dict) -> str:
    """The error of an executed notebook with the last line of o3v in its traceback; "" if it has none."""
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                return _last_frame("\n".join(output["traceback"])) + f"{output['ename']}: {output['evalue']:.300}"
    return ""


def last_error(text: str) -> str:
    """The last line of a printed traceback, with the last line of o3v in it."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    return _last_frame(text) + lines[-1][:300]


def _last_frame(traceback: str) -> str:
    frames = _FRAME.findall(_COLOUR.sub("", traceback))
    return "{}:{}: ".format(*frames[-1]) if frames else ""


def smoke(folder: Path) -> Iterator[str]:
    """Runs all notebooks below a folder, and yields the error of the one that failed."""
    command = [sys.executable, "-m", "o3v", "run", "--profile", "smoke", "--out", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, text=True, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if done.returncode:
        books = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.ipynb"))]
        yield next(filter(None, map(failed_cell, books)), last_error(done.stderr))


def main() -> int:
    """Prints versions and the first problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", choices=("newest", "oldest"), help="print requirements and stop")
    parser.add_argument("--smoke", type=Path, metavar="DIR", help="also run the notebooks, with their files in DIR")
    options = parser.parse_args()
    if options.names:
        print("\n".join(requirements(options.names, (ROOT / "pyproject.toml").read_text(encoding="utf-8"))))
        return 0
    sys.path.insert(0, str(ROOT))
    print("with", ", ".join(map(version, WATCHED)), f"on Python {sys.version.split()[0]}")
    looks = [("names", missing_names(ROOT / "o3v")), ("overridden methods", changed_overrides(ROOT / "o3v"))]
    looks += [("notebooks on smoke", smoke(options.smoke))] if options.smoke else []
    for title, problems in looks:
        found = list(problems)
        print(f"{title}: {'drifted' if found else 'nothing drifted'}", *found, sep="\n  ")
        if found:
            print(f"\nfirst: {found[0]}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
