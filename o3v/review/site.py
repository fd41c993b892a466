"""Publishes a run as a static site: an index with the results, and the executed pages with smaller images.

The site is a folder of files that need no server, no network and no script from elsewhere. Its `results.json` has all
numbers of the run and a hash of every file, so that `verify` can check it. Its `README.md` shows the most important
numbers and pictures where HTML is not shown (`tour`).
"""

import base64
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from o3v.config import REPOSITORY
from o3v.evaluation.vstar_intervals import HEADLINE
from o3v.files import UNFINISHED, hash_path, read_json, write_json, write_text
from o3v.review.commits import code_of
from o3v.review.html import render
from o3v.review.intervals import intervals
from o3v.review.page_reader import PageReader
from o3v.review.recompute import METRIC_NAMES, MODEL_NAMES, predictions
from o3v.review.tour import SHOWN, TOUR, copy_pictures, tour_text
from o3v.runner.fingerprint import RESULT_PACKAGES
from o3v.runner.page import PAGE_CSS, embedded, render_page
from o3v.runner.plan import NOTEBOOKS, read_manifest
from o3v.runner.stage import RESULTS
from o3v.text import printable

MAX_PAGE_BYTES, MAX_SITE_BYTES = 2_500_000, 10_000_000
QUALITIES = (85, 70, 50, 30)  # of WebP images; the first with which a page is small enough
_DATA = re.compile(r"data:image/(png|jpeg|gif);base64,([A-Za-z0-9+/=]+)")
_NAV = (
    '<nav>{% for url, label in links %}<a href="{{ url }}">{{ label }}</a>{{ "" if loop.last else " · " }}'
    "{% endfor %}</nav>"
)
_INDEX = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ css|safe }}</style></head><body><main>
<h1>{{ title }}</h1>
<p>Open-o3 Video answers questions about videos and writes its evidence: which object, where, when. These are the
executed notebooks of the run <b>{{ run.run_id }}</b> (profile {{ run.profile }}, seed {{ run.seed }}). The videos are
synthetic, and the model has 3 million parameters. Start with the first page
{%- if "04_inference" in run.pages %}, or look at answers in <a href="04_inference.html">04</a>{% endif %}.</p>
{% if figure %}<img src="{{ figure }}" alt="the method: data, SFT, GSPO, inference">{% endif %}
<h2>Result</h2>
<p>Held-out videos of the run. In brackets: 95% bootstrap intervals. A <i>change</i> is paired, video by video.</p>
<table><tr><th></th>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for label, cells in table %}
<tr><td>{{ label }}</td>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
<p>accuracy: <i>what</i> is answered right. m_tIoU, m_vIoU: overlap of the answered span and boxes with the truth. mAM:
mean of these three. mLGM: the same with more weight on values near 1. format: share of well-formed answers. One run is
one sample; several seeds are in the README.</p>
<h2>Pages</h2>
<table class="text"><tr><th>page</th><th>what it shows</th><th>source</th></tr>
{% for page in pages %}
<tr><td><a href="{{ page.name }}.html">{{ page.name }}</a></td><td>{{ page.shows }}</td>
<td>{% if page.source %}<a href="{{ page.source }}">notebook</a>{% endif %}</td></tr>
{% endfor %}</table>
<h2>How it was made</h2>
<table class="text">{% for name, value in facts %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
<p>All numbers: <a href="results.json">results.json</a>, with the hash of every file of this site.</p>
</main></body></html>
"""


def publish(run_dir: Path, site: Path, notebooks: Path = NOTEBOOKS) -> dict[str, int]:
    """Writes the site of a finished run and replaces an earlier one. Returns the size of each file in bytes.

    Raises ValueError if the run is not finished, a page or the site is too large, or a page needs the web, and
    FileExistsError if `site` is a folder that is no published site. Then nothing has changed.
    """
    manifest, site = read_manifest(run_dir), Path(os.path.abspath(site))
    unfinished = [name for name, stage in manifest["stages"].items() if stage.get("status") != "done"]
    if unfinished or "05_evaluation" not in manifest["stages"]:
        raise ValueError(f"{run_dir.name} is not finished ({', '.join(unfinished) or 'no 05'}); run `o3v run` again")
    if site.exists() and not is_site(site):
        raise FileExistsError(f"{site} exists and is no published site; choose another folder")
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=site.parent) as temporary:
        new = Path(temporary) / "site"
        new.mkdir()
        _write_pages(run_dir, list(manifest["stages"]), new, site, notebooks.absolute())
        numbers = site_numbers(run_dir, manifest)
        sources = {name: _source(notebooks, name, site) for name in numbers["stages"]}
        pictures = copy_pictures(run_dir, REPOSITORY / "docs/method.svg", new)
        write_text(new / "index.html", index_page(numbers, sources))
        write_text(new / TOUR, markdown_page(numbers, sources, pictures))
        numbers["files"] = {name: hash_path(path) for name, path in site_files(new).items()}
        write_json(new / RESULTS, numbers)
        sizes = {name: path.stat().st_size for name, path in site_files(new).items()}
        if sum(sizes.values()) > MAX_SITE_BYTES:
            raise ValueError(f"the site has {sum(sizes.values()):,} bytes, more than {MAX_SITE_BYTES:,}")
        if site.exists():
            shutil.rmtree(site)
        new.rename(site)
    return sizes


def site_files(site: Path) -> dict[str, Path]:
    """All files of a site by their names in it, in order."""
    return {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*")) if path.is_file()}


def is_site(folder: Path) -> bool:
    """Whether a folder is a published site, or empty."""
    if not folder.is_dir() or not (folder / RESULTS).exists():
        return folder.is_dir() and not any(folder.iterdir())
    numbers = read_json(folder / RESULTS)
    return isinstance(numbers, dict) and isinstance(numbers.get("files"), dict)


def _write_pages(run_dir: Path, names: Sequence[str], folder: Path, site: Path, notebooks: Path) -> None:
    import nbformat

    for i, name in enumerate(names):
        book = nbformat.reads((run_dir / f"{name}.ipynb").read_text(encoding="utf-8"), as_version=4)
        links = [("index.html", "all pages")]
        links += [(f"{other}.html", other) for other in (*names[max(0, i - 1) : i], *names[i + 1 : i + 2])]
        if source := _source(notebooks, name, site):
            links.append((source, "source of this page"))
        full = printable(render_page(book, name, notebooks, site, render(_NAV, links=links)))
        page = next((p for q in QUALITIES if len(p := small_images(full, q)) <= MAX_PAGE_BYTES), None)
        if page is None:
            raise ValueError(f"the page {name} has more than {MAX_PAGE_BYTES:,} bytes; its cells show too much")
        if outside := [link for link in PageReader(page).images if not link.startswith("data:")]:
            raise ValueError(f"the page {name} needs files that the site does not have: {outside[0]:.100}")
        write_text(folder / f"{name}.html", page)


def _source(notebooks: Path, name: str, site: Path) -> str:
    """The address of a notebook's source as seen from the site; "" if they are not in one repository."""
    source = notebooks / f"{name}.ipynb"
    inside = source.is_relative_to(REPOSITORY) and site.is_relative_to(REPOSITORY)
    return Path(os.path.relpath(source, site)).as_posix() if inside else ""


def small_images(page: str, quality: int) -> str:
    """The page with its embedded images as WebP of a quality (0–100), where that is smaller.

    Animations keep their form at the highest of QUALITIES.
    """
    from PIL import Image

    def smaller(match: re.Match[str]) -> str:
        if match[1] == "gif" and quality == QUALITIES[0]:
            return match[0]
        file = io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(match[2])))
        image.save(file, "webp", quality=quality, method=4, save_all=match[1] == "gif")
        encoded = base64.b64encode(file.getvalue()).decode()
        return f"data:image/webp;base64,{encoded}" if len(encoded) < len(match[2]) else match[0]

    return _DATA.sub(smaller, page)


def site_numbers(run_dir: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers of a run: facts of its manifest, results of each notebook, metrics with intervals."""
    packages = manifest.get("packages") or {}
    known = {name: packages[name] for name in RESULT_PACKAGES.split() if name in packages}
    facts = {name: manifest.get(name) for name in ("run_id", "profile", "seed", "git", "o3v", "python", "machine")}
    evaluation = run_dir / "05_evaluation"
    numbers = {
        "run": {**facts, "code": code_of(manifest), "packages": known},
        "stages": {name: read_json(run_dir / name / RESULTS) for name in manifest["stages"]},
        "metrics": read_json(evaluation / "metrics.json"),
        "intervals": intervals(predictions(evaluation)),
    }
    return json.loads(json.dumps(numbers))  # as it is read back: tuples are lists


def result_table(numbers: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Columns and rows (label, cells) of the index's result table."""
    metrics, found = numbers["metrics"], numbers["intervals"]
    columns = list(dict.fromkeys([*HEADLINE, *(name for values in metrics.values() for name in values)]))
    rows = []
    for name, values in metrics.items():
        cells = [_cell(values.get(column), found.get(name, {}).get(column)) for column in columns]
        rows.append((MODEL_NAMES.get(name, name), cells))
    for label, ends in found.items():
        after, _, before = label.partition(" − ")
        if before:
            changes = {c: metrics[after][c] - metrics[before][c] for c in columns if c in ends}
            cells = [_cell(changes.get(column), ends.get(column), signed="+") for column in columns]
            rows.append((f"change, {MODEL_NAMES.get(before, before)} to {MODEL_NAMES.get(after, after)}", cells))
    return [METRIC_NAMES.get(column, column) for column in columns], rows


def _cell(value: float | None, ends: Sequence[float] | None, signed: str = "") -> str:
    if value is None:
        return "–"
    interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{value:{signed}.3f}{interval}".replace("-", "−")


def markdown_page(numbers: Mapping[str, Any], sources: Mapping[str, str], pictures: Sequence[str]) -> str:
    """The Markdown page of the site from its numbers (`tour.tour_text`)."""
    columns, table = result_table(numbers)
    rows = [(label, *cells) for label, cells in table]
    return tour_text(numbers, (["", *columns], rows), _facts(numbers["run"]), sources, pictures)


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    """How a run was made."""
    machine = run["machine"] or {}
    return {
        "code": run["code"],
        "machine": f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('platform')}",
        "accelerators": ", ".join(machine.get("accelerators") or []) or "none",
        "Python": str(run["python"]),
        "packages": ", ".join(f"{name} {version}" for name, version in run["packages"].items()),
        "command": f"o3v run --profile {run['profile']} --seed {run['seed']}",
    }


def index_page(numbers: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """The index of the site from its numbers. `sources` are the addresses of the notebooks, by name."""
    run, (columns, table) = numbers["run"], result_table(numbers)
    names = list(numbers["stages"])
    pages = [{"name": name, "shows": SHOWN.get(name, ""), "source": sources.get(name, "")} for name in names]
    title = "o3v: a run to look at"
    figure = embedded(REPOSITORY / "docs", "method.svg")
    values = {"columns": columns, "table": table, "pages": pages, "facts": _facts(run).items(), "css": PAGE_CSS}
    return render(_INDEX, title=title, figure=figure, run={**run, "pages": names}, **values)
