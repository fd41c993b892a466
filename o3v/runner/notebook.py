"""Reads one notebook file and its parameters. Does not run notebooks (`execution`).

A notebook declares its parameters as literals in the cell tagged `parameters`. The type of a parameter is the type of
its literal, or its annotation (`limit: int | None = None`). `papermill.inspect_notebook` (2.7) is not used: it drops
parameters annotated as `int | None`, returns the defaults as text, and skips what it cannot read.
"""

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)} | {"None": type(None)}
MAX_LITERAL_CHARS = 10_000  # a longer text stays a text
WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook. `types` lists the allowed types; an empty tuple allows any literal."""

    default: Any
    types: tuple[type, ...]

    def convert(self, value: Any) -> Any:
        """Returns the value in one of the parameter's types. Raises ValueError for a value of another type.

        Text becomes a literal if the parameter is not a text, because the command line passes only text and YAML reads
        `1e-6` as text. An integer becomes a float and a list becomes a tuple. There are no other conversions.
        """
        if isinstance(value, str) and str not in self.types:
            value = read_literal(value)
        if isinstance(value, str) and type(None) in self.types and read_literal(value) is None:
            value = None
        if float in self.types and type(value) is int and int not in self.types:
            value = float(value)
        if tuple in self.types and isinstance(value, list):
            value = tuple(value)
        if self.types and type(value) not in self.types:
            expected = " or ".join(kind.__name__ for kind in self.types)
            raise ValueError(f"must be {expected}, found {type(value).__name__} {value!r:.60}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, found {value}")
        return value


@dataclass(frozen=True)
class Notebook:
    """A notebook file without its outputs. Each cell is a pair (cell type, source)."""

    path: Path
    cells: tuple[tuple[str, str], ...]
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """File name without `.ipynb`."""
        return self.path.stem


def read_literal(text: str) -> Any:
    """Parses a Python or YAML scalar, list or mapping. Returns the text itself if it is not a literal.

    >>> [read_literal(text) for text in ("1e-6", "true", "[1, 2]", "none", "a word")]
    [1e-06, True, [1, 2], None, 'a word']
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text.strip()) if len(text) <= MAX_LITERAL_CHARS else text
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: {[]}
        return text


def read_notebook(path: Path) -> Notebook:
    """Reads a notebook and its parameters.

    Raises ValueError if the file is not a notebook, or does not have exactly one cell of literals tagged `parameters`.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in raw]
        tagged = [i for i, cell in enumerate(raw) if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from None
    if len(tagged) != 1:
        raise ValueError(f"{path} has {len(tagged)} cells tagged 'parameters'; it needs exactly one")
    try:
        parameters = read_parameters(cells[tagged[0]][1])
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path}, the cell tagged 'parameters': {error}") from None
    return Notebook(path, tuple(cells), parameters)


def read_parameters(source: str) -> dict[str, Parameter]:
    """Returns the parameters that a cell declares, in order. Raises ValueError if a line is not `name = literal`.

    >>> read_parameters("seed = 0")["seed"]
    Parameter(default=0, types=(<class 'int'>,))
    """
    parameters = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or getattr(node, "value", None) is None:
            raise ValueError(f"line {node.lineno} is not `name = literal`")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"line {node.lineno}: {target.id} is not a literal") from None
        types = () if default is None else (type(default),)
        if isinstance(node, ast.AnnAssign):
            types = _annotated_types(node.annotation)
        parameters[target.id] = Parameter(default, types)
    return parameters


def _annotated_types(node: ast.expr) -> tuple[type, ...]:
    if isinstance(node, ast.BinOp):  # `int | None`
        return (*_annotated_types(node.left), *_annotated_types(node.right))
    name = ast.unparse(node.value if isinstance(node, ast.Subscript) else node)
    if name not in TYPES:
        raise ValueError(f"line {node.lineno}: the type {name!r} is not one of {', '.join(TYPES)}")
    return (TYPES[name],)
