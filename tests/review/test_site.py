"""`o3v publish`: a site that needs nothing but its files, with the numbers of the run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.reviewed_run import METRICS, make_run

from o3v.__main__ import main
from o3v.config import REPOSITORY
from o3v.review import site as module
from o3v.review.intervals import intervals
from o3v.review.markdown import markdown_tables
from o3v.review.page_reader import PageReader, find_table, shows
from o3v.review.recompute import MODEL_NAMES, predictions
from o3v.review.site import publish, site_files


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny-0")


@pytest.fixture(scope="module")
def site(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "tour"
    publish(original, folder)
    return folder


def pages(site: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}


def contents(site: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in site_files(site).items()}


def test_a_run_that_is_not_finished_is_not_published(original, tmp_path, capsys):
    run_dir = shutil.copytree(original, tmp_path / "run")
    text = (run_dir / "manifest.json").read_text().replace('"done"', '"failed"', 1)
    (run_dir / "manifest.json").write_text(text)
    assert main(["publish", str(run_dir), "--out", str(tmp_path / "tour")]) == 2
    assert "is not finished (03_gspo)" in capsys.readouterr().err
    assert not (tmp_path / "tour").exists()


def test_a_folder_of_other_files_is_not_replaced(original, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="is no published site"):
        publish(original, tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "letter.txt"]


@pytest.mark.parametrize("limit", ["MAX_PAGE_BYTES", "MAX_SITE_BYTES"])
def test_a_site_that_is_too_large_replaces_nothing(limit, original, tmp_path, monkeypatch):
    publish(original, tmp_path / "tour")
    before = contents(tmp_path / "tour")
    monkeypatch.setattr(module, limit, 2_000)
    with pytest.raises(ValueError, match="more than 2,000"):
        publish(original, tmp_path / "tour")
    assert contents(tmp_path / "tour") == before
    assert [path.name for path in tmp_path.iterdir()] == ["tour"]


def test_publishing_twice_gives_the_same_files(original, site, tmp_path):
    publish(original, tmp_path / "tour")
    publish(original, tmp_path / "tour")
    assert contents(tmp_path / "tour") == contents(site)


def test_the_site_needs_nothing_from_elsewhere(original, site):
    for name, page in pages(site).items():
        reader = PageReader(page)
        assert not [link for link in reader.links if re.match("(https?:)?//", link)], name
        assert str(original.parent) not in page and str(REPOSITORY) not in page
        local = [link.partition("#")[0] for link in reader.links if not link.startswith("data:")]
        here = [link for link in local if "/" not in link and link]
        assert all((site / link).exists() for link in here), name
        assert "width=device-width" in page and '<html lang="en">' in page
    assert "data:image/webp" in pages(site)["03_gspo.html"] and 'alt="figure: 03_gspo"' in pages(site)["03_gspo.html"]


def test_formulas_are_drawn_without_a_script(site):
    page = pages(site)["05_evaluation.html"]
    assert "<mfrac>" in page and "$" not in PageReader(page).text and "<script" not in page


def test_pages_and_results_say_the_same(site):
    numbers = json.loads((site / "results.json").read_text(encoding="utf-8"))
    assert numbers["metrics"] == METRICS
    tables = PageReader(pages(site)["05_evaluation.html"]).tables
    shown = find_table(tables, set(MODEL_NAMES.values()), set(METRICS["base"]))
    for name, values in METRICS.items():
        assert all(shows(shown[MODEL_NAMES[name]][column], value) for column, value in values.items())
    index = PageReader(pages(site)["index.html"]).tables[0]
    columns, last = index[0], dict(zip(index[0], index[3], strict=True))
    assert columns == ("", "accuracy", "m_tIoU", "m_vIoU", "mAM", "mLGM", "format")
    assert last["accuracy"] == "0.500 (0.000 to 1.000)" and last["format"] == "1.000"
    assert [row[0] for row in index[4:]] == ["change, base to SFT", "change, SFT to SFT+GSPO"]
    assert index[5][1] == "+0.500 (0.000 to 1.000)"


def test_the_markdown_page_shows_the_same_numbers_and_the_pictures_of_the_run(original, site):
    text = (site / "README.md").read_text(encoding="utf-8")
    tables = {table[0][0] or table[1][0]: table for table in markdown_tables(text)}
    index = PageReader(pages(site)["index.html"]).tables[0]
    assert tables["base"] == index
    assert tables["held-out questions"][1:] == (("answer right", "0.250", "0.250"), ("reward", "1.000", "2.000"))
    pictures = re.findall(r"!\[\S.+?\]\((pictures/\S+)\)", text)
    assert pictures == ["pictures/method.svg", "pictures/05_evaluation-comparison.png"]
    assert (site / pictures[1]).read_bytes() == (original / "05_evaluation/comparison.png").read_bytes()
    assert "[page](05_evaluation.html)" in text and str(original.parent) not in text


def test_links_lead_back_to_the_source_and_to_the_docs(original):
    out = REPOSITORY / "docs" / "tour-of-a-test"
    try:
        publish(original, out)
        links = PageReader((out / "05_evaluation.html").read_text(encoding="utf-8")).links
        text = (out / "README.md").read_text(encoding="utf-8")
    finally:
        shutil.rmtree(out, ignore_errors=True)
    assert {"../../notebooks/05_evaluation.ipynb", "../glossary.md#kl", "index.html", "03_gspo.html"} <= set(links)
    assert "[notebook](../../notebooks/05_evaluation.ipynb)" in text


def test_the_intervals_are_those_of_the_mean_over_items(original):
    """Two items, one right: a resample has 0, 1 or 2 right ones with probability ¼, ½, ¼."""
    found = intervals(predictions(original / "05_evaluation"))
    assert found["sft_gspo"]["accuracy"] == found["sft_gspo"]["mam"] == (0, 1)
    assert found["base"]["mlgm"] == (0, 0) and found["sft_gspo − sft"]["accuracy"] == (0, 1)
