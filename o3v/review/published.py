"""Checks what was published of a run against the run: the site, its pages, and the result table of the README."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from o3v.config import REPOSITORY
from o3v.files import read_json
from o3v.review.checks import Check, Problems, run_check
from o3v.review.page_reader import hidden_differences, read_book
from o3v.review.readme import cells_of_run, wrong_readme_cells
from o3v.review.recompute import differences
from o3v.review.site import is_site, site_numbers
from o3v.runner.stage import RESULTS

SITE, README = REPOSITORY / "docs" / "tour", REPOSITORY / "README.md"
PARTS = ("run", "stages", "metrics", "intervals")  # of a site's results.json, from the run
IDENTITY = ("run_id", "profile", "seed", "git", "machine")  # two runs with the same are the same one


def published_checks(
    run_dir: Path, manifest: Mapping[str, Any], site: Path | None = None, readme: Path | None = None
) -> list[Check]:
    """Checks of the site that was made from a run, and of the README's result table.

    Args:
        run_dir: folder of the run.
        manifest: its manifest.
        site: folder of the site. None: docs/tour of this repository, if it shows this run.
        readme: file with the result table. None: README.md of this repository, if docs/tour shows this run.

    A site or README that was named must show the run; one that was not is skipped if it shows another run.
    """
    checks, shown = [], _shows_run(site or SITE, manifest)
    if site or shown:
        checks += _site_checks(run_dir, manifest, site or SITE)
    else:
        checks.append(Check("docs/tour", skipped="it shows another run; name a site with --site"))
    if readme or (shown and README.exists()):
        name = (readme or README).name
        checks.append(run_check(f"{name}: result table", _readme, run_dir, manifest, readme or README))
    else:
        checks.append(Check("README.md", skipped="docs/tour shows another run; name the file with --readme"))
    return checks


def _shows_run(site: Path, manifest: Mapping[str, Any]) -> bool:
    if not (site / RESULTS).exists() or not is_site(site):
        return False
    run = read_json(site / RESULTS).get("run")
    return isinstance(run, dict) and all(run.get(name) == manifest.get(name) for name in IDENTITY)


def _site_checks(run_dir: Path, manifest: Mapping[str, Any], site: Path) -> list[Check]:
    name = f"{site.name}/{RESULTS}: the run's numbers"
    checks = [run_check(name, _site_numbers, run_dir, manifest, site)]
    for stage in manifest["stages"]:
        page = site / f"{stage}.html"
        checks.append(run_check(f"{site.name}/{page.name}: as the notebook", _page, run_dir / f"{stage}.ipynb", page))
    return checks


def _site_numbers(run_dir: Path, manifest: Mapping[str, Any], site: Path) -> Problems:
    shown, expected = read_json(site / RESULTS), site_numbers(run_dir, manifest)
    for part in PARTS:
        if missing := expected[part].keys() - shown[part].keys():
            yield f"{part} lacks {', '.join(sorted(missing))}"
        yield from differences(shown[part], expected[part], part)


def _page(book: Path, page: Path) -> Problems:
    """Tables and printed texts only: the images of a site are compressed again."""
    parsed = read_book(book.read_text(encoding="utf-8"))
    yield from hidden_differences(parsed, page.read_text(encoding="utf-8"), images=False)


def _readme(run_dir: Path, manifest: Mapping[str, Any], readme: Path) -> Problems:
    yield from wrong_readme_cells(readme, manifest["seed"], cells_of_run(run_dir))
