"""Checks that a finished run, or the site made from it, holds together. Runs no notebook and loads no model.

Of a run: the hashes of all recorded inputs and outputs (rows, weights, figures, numbers) and of the pages; the numbers
of `results.json` and the result tables of the pages, recomputed from rows and responses (`recompute`); and that the
page shows what the executed notebook holds; the rewards of the rollouts; and, if `docs/tour` and the README show this
run, that they show its numbers (`published`). Of a site: the hashes of its files, and its numbers against its
`results.json`. What somebody changed together with all hashes and all that is computed from it is not noticed.
"""

import ast
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from o3v.files import read_json
from o3v.review import recompute
from o3v.review.checks import Check, Problems, run_check
from o3v.review.markdown import markdown_tables
from o3v.review.page_reader import PageReader, find_table, hidden_differences, outputs, read_book, shows
from o3v.review.published import published_checks
from o3v.review.rescore import wrong_rollouts
from o3v.review.site import is_site, markdown_page, result_table, site_files
from o3v.review.tour import TOUR
from o3v.runner.hashes import cached_hash
from o3v.runner.plan import MANIFEST, read_manifest
from o3v.runner.stage import RESULTS, read_stage

HASHED = ("inputs", "outputs", "pages")  # of a stage in the manifest: paths with their hashes


def verify(folder: Path, site: Path | None = None, readme: Path | None = None) -> list[Check]:
    """Checks a run, or a published site. Raises ValueError if the folder is neither.

    `site` and `readme` are what was published of the run (`published.published_checks`).
    """
    if (folder / MANIFEST).exists():
        return verify_run(folder) + published_checks(folder, read_manifest(folder), site, readme)
    if site or readme:
        raise ValueError(f"{folder} is no run; --site and --readme are compared with a run")
    if (folder / RESULTS).exists():
        return verify_site(folder)
    raise ValueError(f"{folder} has neither {MANIFEST} (a run) nor {RESULTS} (a published site)")


def verify_run(run_dir: Path) -> list[Check]:
    """All checks of a run alone. Raises ValueError if it has no readable manifest or no notebook."""
    stages, checks, hashes = read_manifest(run_dir)["stages"], [], {}
    if not stages:
        raise ValueError(f"{run_dir / MANIFEST} lists no notebook")
    for name, stage in stages.items():
        if stage.get("status") != "done":
            checks.append(Check(f"{name}: finished", (f"the notebook is {stage.get('status', 'not run')}",)))
            continue
        if not all(isinstance(stage.get(part, {}), dict) for part in HASHED):
            raise ValueError(f"{run_dir / MANIFEST}, {name}: {', '.join(HASHED)} must map paths to hashes")
        recorded = read_stage(run_dir, name)
        same = recorded == {part: stage.get(part) for part in ("inputs", "outputs")}
        checks.append(Check(f"{name}: record", () if same else ("stage.json and manifest.json differ",)))
        listed = {path: digest for path, digest in stage.get("inputs", {}).items()}
        listed |= {f"{name}/{path}": digest for path, digest in stage.get("outputs", {}).items()}
        listed |= stage.get("pages", {})
        checks += [Check(f"{path}: hash", tuple(_hash(run_dir, path, d, hashes))) for path, d in listed.items()]
        checks += _numbers(run_dir, name, "pages" in stage)
    return checks


def _hash(folder: Path, path: str, digest: str, known: dict[Path, str]) -> Problems:
    full = folder / path
    if not full.exists():
        yield "the file is missing"
        return
    if full not in known:
        with tempfile.TemporaryDirectory() as empty:  # no cache: it trusts the times of files
            known[full] = cached_hash(full, Path(empty) / "hashes.json")
    if known[full] != digest:
        yield "the content differs from the recorded hash"


def _numbers(run_dir: Path, name: str, pages_recorded: bool) -> list[Check]:
    """Checks of the numbers and pages of one notebook."""
    folder, checks = run_dir / name, []
    if name in recompute.RESULTS:
        checks.append(run_check(f"{name}/{RESULTS}: recomputed", _recomputed, folder, RESULTS, recompute.RESULTS[name]))
    if name in recompute.FILES:
        file, function = recompute.FILES[name]
        checks.append(run_check(f"{name}/{file}: recomputed", _recomputed, folder, file, function))
    if (folder / "rollouts.jsonl").exists():
        checks.append(run_check(f"{name}/rollouts.jsonl: scored again", wrong_rollouts, run_dir))
    if name in recompute.TABLES:
        checks.append(run_check(f"{name}.html: result table", _table, run_dir, name))
    checks.append(run_check(f"{name}.ipynb: recorded numbers", _last_output, run_dir, name))
    checks.append(run_check(f"{name}.html: as the notebook", _page, run_dir, name))
    if not pages_recorded:
        checks.append(Check(f"{name}.html: hash", skipped="this run recorded no hashes of its pages"))
    return checks


def _recomputed(folder: Path, file: str, function: Callable[[Path], Any]) -> Problems:
    yield from recompute.differences(read_json(folder / file), function(folder))


def _table(run_dir: Path, name: str) -> Problems:
    page = (run_dir / f"{name}.html").read_text(encoding="utf-8")
    yield from wrong_cells(PageReader(page).tables, recompute.TABLES[name](run_dir / name))


def wrong_cells(tables: list[Any], cells: recompute.Cells) -> Problems:
    """Yields one line for each cell of a page's result table that does not show the expected value."""
    if not cells:
        return
    columns = {column for row in cells.values() for column in row}
    table = find_table(tables, set(cells), columns)
    if table is None:
        yield f"no table with the rows {', '.join(cells)} and the columns {', '.join(sorted(columns))}"
        return
    for label, row in cells.items():
        for column, value in row.items():
            if not shows(table[label][column], value):
                yield f"{label}, {column}: the page shows {table[label][column]!r}, recomputed {value!r}"


def _last_output(run_dir: Path, name: str) -> Problems:
    """The last cell of a notebook shows its results, which must be those in its files."""
    book = read_book((run_dir / f"{name}.ipynb").read_text(encoding="utf-8"))
    texts = [content for kind, content in outputs(book) if kind == "text"]
    files = [path for file in (RESULTS, "metrics.json") if (path := run_dir / name / file).exists()]
    yield from unlike_last(texts[-1], [read_json(path) for path in files])


def unlike_last(text: str, recorded: list[Any]) -> Problems:
    """Yields a line if the numbers at the end of a page are none of the recorded ones."""
    shown = ast.literal_eval(text)
    recorded += [numbers.get("terms") for numbers in recorded if isinstance(numbers, dict)]  # 00 shows its terms
    if not any(_is_part(shown, numbers) for numbers in recorded):
        yield "the numbers at the end of the page are not the recorded ones"


def _is_part(shown: Any, recorded: Any) -> bool:
    """Whether shown numbers are recorded ones: all of them, or some entries of a mapping (06 shows its sentences)."""
    if not isinstance(shown, dict) or not isinstance(recorded, dict) or not shown:
        return bool(shown == recorded)
    return all(name in recorded and recorded[name] == value for name, value in shown.items())


def _page(run_dir: Path, name: str) -> Problems:
    book = read_book((run_dir / f"{name}.ipynb").read_text(encoding="utf-8"))
    yield from hidden_differences(book, (run_dir / f"{name}.html").read_text(encoding="utf-8"))


def verify_site(site: Path) -> list[Check]:
    """All checks of a published site: its files and their hashes, the index, the numbers at the end of each page."""
    numbers = read_json(site / RESULTS)
    if not is_site(site) or not all(isinstance(numbers.get(part), dict) for part in ("stages", "metrics", "intervals")):
        raise ValueError(f"{site / RESULTS} is not that of a published site")
    checks = [Check(f"{name}: hash", tuple(_hash(site, name, d, {}))) for name, d in numbers["files"].items()]
    more = sorted(site_files(site).keys() - numbers["files"].keys() - {RESULTS})
    checks.append(Check("files", tuple(f"{name} is not part of the site" for name in more)))
    checks.append(run_check("index.html: result table", _index, site, numbers))
    checks.append(run_check(f"{TOUR}: tables", _tour, site, numbers))
    for name, results in numbers["stages"].items():
        recorded = [results, numbers["metrics"]]
        checks.append(run_check(f"{name}.html: recorded numbers", _site_page, site / f"{name}.html", recorded))
    cells = recompute.metric_cells(numbers["metrics"])
    page = site / "05_evaluation.html"
    checks.append(run_check("05_evaluation.html: result table", _site_table, page, cells))
    return checks


def _index(site: Path, numbers: dict[str, Any]) -> Problems:
    tables = PageReader((site / "index.html").read_text(encoding="utf-8")).tables
    columns, rows = result_table(numbers)
    if tables[0] != (("", *columns), *((label, *cells) for label, cells in rows)):
        yield f"the result table is not that of {RESULTS}"


def _tour(site: Path, numbers: dict[str, Any]) -> Problems:
    """The Markdown page is written again from the numbers, and its tables are compared."""
    shown = list(markdown_tables((site / TOUR).read_text(encoding="utf-8")))
    expected = list(markdown_tables(markdown_page(numbers, {}, list(numbers["files"]))))
    yield from (f"no table {' '.join(table[0])!r:.80} as in {RESULTS}" for table in expected if table not in shown)
    if len(shown) != len(expected):
        yield f"{len(shown)} tables instead of {len(expected)}"


def _site_page(page: Path, recorded: list[Any]) -> Problems:
    yield from unlike_last(PageReader(page.read_text(encoding="utf-8")).printed[-1], recorded)


def _site_table(page: Path, cells: recompute.Cells) -> Problems:
    yield from wrong_cells(PageReader(page.read_text(encoding="utf-8")).tables, cells)
