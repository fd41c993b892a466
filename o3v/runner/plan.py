"""Which notebooks to run with which parameters: a command, checked whole before anything starts.

A run's folder follows from profile, seed and overrides alone, so the same command names the same run. What cannot be
carried out is a UsageError here. Knows the notebooks' parameters, not what the notebooks do.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from o3v.config import REPOSITORY, load_profile
from o3v.files import read_json
from o3v.runner.notebook import Notebook, UsageError, read_notebook

NOTEBOOKS = REPOSITORY / "notebooks"
NUMBERED = "[0-9][0-9]_*.ipynb"
SET_BY_RUN = ("profile", "seed", "run_dir")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Plan:
    """A run that has been checked and can start. `overrides` are `<notebook>.<parameter>` to value."""

    run_dir: Path
    profile: str
    seed: int
    overrides: dict[str, Any]
    notebooks: tuple[Notebook, ...]
    selected: tuple[Notebook, ...]

    @property
    def run_id(self) -> str:
        return self.run_dir.name

    def parameters(self, notebook: Notebook) -> dict[str, Any]:
        """What this run gives a notebook, without `run_dir`."""
        own = {
            key.partition(".")[2]: value for key, value in self.overrides.items() if key.startswith(f"{notebook.name}.")
        }
        return {"profile": self.profile, "seed": self.seed, **own}


def plan_run(
    profile: str | None,
    seed: int | None,
    out: Path | str,
    *,
    overrides: Mapping[str, Any] | None = None,
    resume: str | None = None,
    start_from: str | None = None,
    only: str | None = None,
    notebooks: Path | str = NOTEBOOKS,
) -> Plan:
    """Checks all that can be checked before anything runs. Raises UsageError.

    `overrides` map `<notebook>.<parameter>` to a value, the notebook by number or name; `resume` takes profile, seed
    and overrides from that run's manifest. `start_from` and `only` choose notebooks.
    """
    books = find_notebooks(Path(notebooks))
    if resume is not None:
        if profile is not None or seed is not None or overrides:
            raise UsageError(f"the profile, seed and parameters of {resume} are those it was started with")
        manifest = read_manifest(Path(out) / resume)
        profile, seed, overrides = manifest["profile"], manifest["seed"], manifest["overrides"]
    profile = "tiny" if profile is None else profile
    seed = 0 if seed is None else seed
    if type(seed) is not int or seed < 0:
        raise UsageError(f"the seed must be a whole number from 0 on, found {seed!r:.60}")
    try:
        load_profile(str(profile))
    except ValueError as error:
        raise UsageError(str(error)) from None
    checked = _check_overrides(books, overrides or {})
    run_dir = Path(out) / (resume or run_name(profile, seed, checked))
    return Plan(run_dir.resolve(), profile, seed, checked, books, _select(books, start_from, only))


def plan_matrix(
    grid: Mapping[str, Any],
    profile: str | None,
    seed: int | None,
    out: Path | str,
    *,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Plan]:
    """A plan for each combination of a grid: `<notebook>.<parameter>`, `profile` and `seed` to lists of values.

    What the grid leaves open comes from the other arguments (as in `plan_run`). Raises UsageError.
    """
    fixed = {"profile": profile, "seed": seed, **(overrides or {})}
    if not isinstance(grid, Mapping) or not grid:
        raise UsageError("the matrix must map `notebook.parameter`, `profile` or `seed` to lists of values")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"the matrix must give a list of values for {key}, found {values!r:.60}")
        if fixed.get(key) is not None:
            raise UsageError(f"{key} is given twice, in the matrix and beside it")
    plans: dict[str, Plan] = {}
    for values in itertools.product(*grid.values()):
        chosen = {**fixed, **dict(zip(grid, values, strict=True))}
        plan = plan_run(chosen.pop("profile"), chosen.pop("seed"), out, overrides=chosen, **options)
        if plan.run_id in plans:
            raise UsageError(f"the matrix names the run {plan.run_id} twice")
        plans[plan.run_id] = plan
    return list(plans.values())


def find_notebooks(folder: Path) -> tuple[Notebook, ...]:
    """The numbered notebooks of a folder in order, each with the parameters every run sets. Raises UsageError."""
    books = tuple(read_notebook(path) for path in sorted(folder.resolve().glob(NUMBERED)))
    if not books:
        raise UsageError(f"no notebooks named {NUMBERED} in {folder}")
    for book in books:
        if missing := [name for name in SET_BY_RUN if name not in book.parameters]:
            raise UsageError(f"{book.path} has no parameter {missing[0]!r}")
    return books


def find_notebook(books: Sequence[Notebook], name: str) -> Notebook:
    """A notebook by name (`03_gspo`) or number (`03`, `3`). Raises UsageError listing what there is."""
    for book in books:
        if name.removesuffix(".ipynb") in (book.name, book.name[:2]) or name.zfill(2) == book.name[:2]:
            return book
    raise UsageError(f"there is no notebook {name!r}; there are {', '.join(book.name for book in books)}")


def run_name(profile: str, seed: int, overrides: Mapping[str, Any]) -> str:
    """The run's folder name: profile and seed, and eight hex digits for its overrides when there are any."""
    if not overrides:
        return f"{profile}-{seed}"
    return f"{profile}-{seed}-{hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:8]}"


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run. Raises UsageError when there is none or it is not one."""
    path = run_dir / MANIFEST
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        raise UsageError(f"there is no run {run_dir.name}: {path} does not exist") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not isinstance(manifest, dict) or not {"profile", "seed", "overrides", "stages"} <= manifest.keys():
        raise UsageError(f"{path} is not the manifest of a run")
    return manifest


def _check_overrides(books: Sequence[Notebook], overrides: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for key, value in overrides.items():
        name, dot, parameter = str(key).partition(".")
        if not dot:
            raise UsageError(f"{key!r} is not `notebook.parameter`")
        book = find_notebook(books, name)
        if parameter in SET_BY_RUN:
            raise UsageError(f"{key}: {parameter} is set for the whole run, not for a notebook")
        if parameter not in book.parameters:
            own = [name for name in book.parameters if name not in SET_BY_RUN]
            raise UsageError(
                f"{book.name} has no parameter {parameter!r}; it has {', '.join(own) or 'none of its own'}"
            )
        if f"{book.name}.{parameter}" in checked:
            raise UsageError(f"{book.name}.{parameter} is given twice")
        try:
            checked[f"{book.name}.{parameter}"] = book.parameters[parameter].convert(value)
        except UsageError as error:
            raise UsageError(f"{book.name}.{parameter} {error}") from None
    return dict(sorted(checked.items()))


def _select(books: tuple[Notebook, ...], start_from: str | None, only: str | None) -> tuple[Notebook, ...]:
    if start_from is not None and only is not None:
        raise UsageError("choose notebooks with either --from or --only")
    if only is not None:
        return (find_notebook(books, only),)
    first = books.index(find_notebook(books, start_from)) if start_from is not None else 0
    return books[first:]
