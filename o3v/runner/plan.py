"""Plans a run: which notebooks to run with which parameters. All checks happen before anything starts.

The name of the run's folder depends only on profile, seed and overrides, so the same command continues the same run.
Wrong arguments raise ValueError. This module knows the parameters of the notebooks, not what the notebooks do.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from o3v.config import REPOSITORY, find_base, load_profile
from o3v.files import read_json
from o3v.runner.notebook import Notebook, read_notebook
from o3v.runner.paths import display_path
from o3v.text import redact

NOTEBOOKS = REPOSITORY / "notebooks"
NUMBERED = ("[0-9][0-9]_*.ipynb", "[0-9][0-9][a-z]_*.ipynb")  # 03b runs after 03 and before 04
SET_BY_RUN = ("profile", "seed", "run_dir")
FOLDERS = ("data_root", "vstar_root", "videos")  # parameters that name a folder
FROM_ENVIRONMENT = {"data_root": "O3V_DATA"}  # parameters that an environment variable sets for the whole run
MANIFEST = "manifest.json"
STAGE_NUMBERS = ("duration_s", "peak_memory_mb")  # of a stage in the manifest
MAX_PLANS = 10_000  # runs of one grid


@dataclass(frozen=True)
class Plan:
    """A checked run. `overrides` maps `<notebook>.<parameter>` to a value; `selected` are the notebooks to run."""

    run_dir: Path
    profile: str
    seed: int
    overrides: dict[str, Any]
    notebooks: tuple[Notebook, ...]
    selected: tuple[Notebook, ...]

    def parameters(self, notebook: Notebook) -> dict[str, Any]:
        """Returns the parameter values of a notebook in this run, without `run_dir`."""
        prefix = f"{notebook.name}."
        own = {key.removeprefix(prefix): value for key, value in self.overrides.items() if key.startswith(prefix)}
        return {"profile": self.profile, "seed": self.seed, **own}


def plan_run(
    profile: str | None,
    seed: int | None,
    out: Path | str,
    *,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    start_from: str | None = None,
    only: str | None = None,
    notebooks: Path | str = NOTEBOOKS,
) -> Plan:
    """Plans one run. Raises ValueError if an argument is wrong.

    Args:
        profile: name of the profile. None means `tiny`.
        seed: integer from 0. None means 0.
        out: folder that contains the run's folder.
        overrides: `<notebook>.<parameter>` to value, the notebook given by its number or name; or `<parameter>` to
            value, for each notebook that has this parameter and no value of its own.
        environment: variables that set a parameter without a value (FROM_ENVIRONMENT). None means those of the process.
        start_from: first notebook to run, by number or name.
        only: the only notebook to run. Cannot be combined with `start_from`.
        notebooks: folder of the notebooks.
    """
    books = _read_notebooks(Path(notebooks))
    profile = "tiny" if profile is None else profile
    seed = 0 if seed is None else seed
    if type(seed) is not int or seed < 0:
        raise ValueError(f"the seed must be an integer from 0, found {seed!r:.60}")
    load_profile(str(profile))  # raises ValueError for an unknown name
    checked = _check_overrides(books, _with_environment(books, overrides or {}, environment))
    digest = hashlib.sha256(json.dumps(checked, sort_keys=True).encode()).hexdigest()[:8]
    run_dir = Path(out) / (f"{profile}-{seed}-{digest}" if checked else f"{profile}-{seed}")
    if start_from is not None and only is not None:
        raise ValueError("use either --from or --only, not both")
    if books[0].path.parent.is_relative_to(run_dir.resolve()):
        raise ValueError(f"the run {display_path(run_dir)} would overwrite its notebooks; choose another --out")
    selected = (_find_notebook(books, only),) if only is not None else books
    if start_from is not None:
        selected = books[books.index(_find_notebook(books, start_from)) :]
    return Plan(run_dir.resolve(), profile, seed, checked, books, selected)


def plan_resumed(run_id: str, out: Path | str, **options: Any) -> Plan:
    """Plans to continue the run `run_id` in `out` with the profile, seed and overrides of its manifest.

    `options` are `start_from`, `only` and `notebooks` of `plan_run`. Raises ValueError.
    """
    run_dir = Path(out).resolve() / run_id
    manifest = read_manifest(run_dir)
    plan = plan_run(
        manifest["profile"], manifest["seed"], out, overrides=manifest["overrides"], environment={}, **options
    )
    return replace(plan, run_dir=run_dir)


def plan_matrix(grid: Mapping[str, Any], out: Path | str, fixed: Mapping[str, Any], **options: Any) -> list[Plan]:
    """Plans one run for each combination of the values in a grid. Raises ValueError if an argument is wrong.

    `grid` maps `<notebook>.<parameter>`, `profile` or `seed` to a list of values. `fixed` maps such names to a value
    for all runs. `options` are `start_from`, `only` and `notebooks` of `plan_run`.
    """
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError("the matrix must map `notebook.parameter`, `profile` or `seed` to lists of values")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"the matrix must have a list of values for {key}, found {values!r:.60}")
        if fixed.get(key) is not None:
            raise ValueError(f"{key} is given twice, in the matrix and as an option")
    if math.prod(map(len, grid.values())) > MAX_PLANS:
        raise ValueError(f"the matrix has more than {MAX_PLANS:,} combinations; make it smaller")
    plans: dict[Path, Plan] = {}
    for values in itertools.product(*grid.values()):
        chosen = {"profile": None, "seed": None, **fixed, **dict(zip(grid, values, strict=True))}
        plan = plan_run(chosen.pop("profile"), chosen.pop("seed"), out, overrides=chosen, **options)
        if plan.run_dir in plans:
            raise ValueError(f"the matrix contains the run {plan.run_dir.name} twice")
        plans[plan.run_dir] = plan
    return list(plans.values())


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """Reads the manifest of a run. Raises ValueError if it is missing or is not a manifest."""
    path = run_dir / MANIFEST
    if not path.exists():
        raise ValueError(f"there is no run {run_dir.name}: {display_path(path)} does not exist")
    manifest = read_json(path)
    stages = manifest.get("stages") if isinstance(manifest, dict) else None
    good = isinstance(stages, dict) and all(isinstance(stage, dict) for stage in stages.values())
    numbers = [stage.get(name, 0) for stage in stages.values() for name in STAGE_NUMBERS] if good else []
    good = good and all(isinstance(number, int | float) for number in numbers)
    if not good or not isinstance(manifest.get("overrides"), dict) or not {"profile", "seed"} <= manifest.keys():
        raise ValueError(f"{path} is not the manifest of a run; remove it, and the stages will run again")
    return manifest


def _read_notebooks(folder: Path) -> tuple[Notebook, ...]:
    """Reads the numbered notebooks of a folder, in order. Raises ValueError if one lacks a parameter in SET_BY_RUN."""
    paths = sorted(path for pattern in NUMBERED for path in folder.resolve().glob(pattern))
    books = tuple(read_notebook(path) for path in paths)
    if not books:
        raise ValueError(f"no notebooks named {' or '.join(NUMBERED)} in {folder}")
    for book in books:
        if missing := [name for name in SET_BY_RUN if name not in book.parameters]:
            raise ValueError(f"{book.path} has no parameter {missing[0]!r}")
    return books


def _found(parameter: str, value: Any) -> Any:
    """The value, or the absolute path of a folder that it names: notebooks run in a folder of their own."""
    if not value or not isinstance(value, str):
        return value
    if parameter == "base":
        base = find_base(value)
        return str(base.resolve()) if isinstance(base, Path) and not (REPOSITORY / value).is_dir() else value
    if parameter in FOLDERS:
        folder = Path(value).expanduser().resolve()
        if not folder.is_dir():
            raise ValueError(f"is {value!r}, which is not a folder")
        return str(folder)
    return value


def _find_notebook(books: Sequence[Notebook], name: str) -> Notebook:
    """Returns a notebook by name (`03_gspo`) or number (`03`, `3`, `03b`). Raises ValueError, which lists all."""
    for book in books:
        number = book.name.partition("_")[0]
        if name.removesuffix(".ipynb") in (book.name, number, number.removeprefix("0")):
            return book
    raise ValueError(f"there is no notebook {name!r}; choose one of {', '.join(book.name for book in books)}")


def _with_environment(
    books: Sequence[Notebook], overrides: Mapping[str, Any], environment: Mapping[str, str] | None
) -> dict[str, Any]:
    variables, known = os.environ if environment is None else environment, {n for b in books for n in b.parameters}
    given = {str(key).rpartition(".")[2] for key in overrides}
    names = {name: variables.get(variable) for name, variable in FROM_ENVIRONMENT.items() if name in known - given}
    return {**{name: value for name, value in names.items() if value}, **overrides}


def _of_each_notebook(books: Sequence[Notebook], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides by `<notebook>.<parameter>`. One without a notebook is for all that have it and no own value."""
    whole = {str(key): value for key, value in overrides.items() if "." not in str(key)}
    own = {key: value for key, value in overrides.items() if str(key) not in whole}
    given = {(_find_notebook(books, str(key).partition(".")[0]).name, str(key).partition(".")[2]) for key in own}
    for name, value in whole.items():
        if name in SET_BY_RUN:
            raise ValueError(
                f"{name} is an option of the run (--profile, --seed, --out), not a parameter of a notebook"
            )
        having = [book.name for book in books if name in book.parameters]
        if not having:
            raise ValueError(
                f"{name!r} does not have the form NOTEBOOK.PARAMETER, and no notebook has a parameter {name!r}"
            )
        own |= {f"{book}.{name}": value for book in having if (book, name) not in given}
    return own


def _check_overrides(books: Sequence[Notebook], overrides: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for key, value in _of_each_notebook(books, overrides).items():
        number, _, parameter = str(key).partition(".")
        book = _find_notebook(books, number)
        name = f"{book.name}.{parameter}"
        if parameter in SET_BY_RUN:
            raise ValueError(f"{name}: {parameter} is set for the whole run, not for one notebook")
        if parameter not in book.parameters:
            own = [name for name in book.parameters if name not in SET_BY_RUN]
            raise ValueError(f"{book.name} has no parameter {parameter!r}; choose one of {', '.join(own) or 'none'}")
        if name in checked:
            raise ValueError(f"{name} is given twice")
        try:
            checked[name] = _found(parameter, book.parameters[parameter].convert(value))
        except (ValueError, OSError) as error:
            raise ValueError(f"{name} {error}") from None
        try:
            text = json.dumps(checked[name], ensure_ascii=False, allow_nan=False)
            text.encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{name} cannot be recorded as JSON: {error!s:.200}") from None
        if redact(text) != text:
            raise ValueError(f"{name} holds a key or password, and parameters are recorded; set it in the environment")
    return dict(sorted(checked.items()))
