"""`o3v compare`: what differs between two runs is marked, in the text and on the page."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.html_reader import Reader
from helpers.reviewed_run import make_run

from o3v.__main__ import main
from o3v.review.compare import compare_runs


@pytest.fixture
def runs(tmp_path):
    """Two runs that differ in the seed, the version of torch, one result and a package that only b has."""
    a = make_run(tmp_path / "a")
    b = shutil.copytree(a, tmp_path / "b")
    manifest = json.loads((b / "manifest.json").read_text())
    manifest |= {"seed": 1, "packages": {"torch": "2.14.0", "<new>": "1"}}
    (b / "manifest.json").write_text(json.dumps(manifest))
    results = json.loads((b / "03_gspo/results.json").read_text()) | {"total, after": 2.5}
    (b / "03_gspo/results.json").write_text(json.dumps(results))
    return a, b


def test_a_folder_without_a_run_is_an_error(runs, tmp_path, capsys):
    assert main(["compare", str(runs[0]), str(tmp_path)]) == 2
    assert "manifest.json does not exist" in capsys.readouterr().err


def test_a_run_does_not_differ_from_itself(runs):
    lines = compare_runs(runs[0], runs[0])
    assert len(lines) > 20 and not any(line.differs for line in lines)


def test_exactly_what_differs_is_marked(runs):
    marked = {(line.section, line.entry): line.change for line in compare_runs(*runs) if line.differs}
    assert marked == {
        ("parameters", "seed"): "+1",
        ("packages", "torch"): "",
        ("packages", "<new>"): "",
        ("metrics", "03_gspo / total, after"): "+0.5",
    }


def test_text_and_page_show_both_values_and_mark_the_difference(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, runs), "--out", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "packages: 2 of 2 differ" in lines
    assert [line.split() for line in lines if "total, after" in line] == [
        ["03_gspo", "/", "total,", "after", "2", "2.5", "≠"]
    ]
    html = page.read_text(encoding="utf-8")
    red = [attributes for attributes in Reader(html).all("tr") if "#B00020" in (attributes.get("style") or "")]
    assert len(red) == 4 and html.count("<td>≠</td>") == 4 and "&lt;new&gt;" in html


def test_the_page_does_not_replace_a_run(runs, capsys):
    assert main(["compare", *map(str, runs), "--out", str(runs[0])]) == 2
    assert "overwrite" in capsys.readouterr().err
