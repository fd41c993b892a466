"""`o3v verify`: a whole run and its site pass, every tampered copy fails and is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.reviewed_run import make_run

from o3v.__main__ import main
from o3v.review.page_reader import PageReader, shows
from o3v.review.site import publish
from o3v.review.verify import verify
from o3v.runner.hashes import cached_hash


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny-0")


@pytest.fixture
def run_dir(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tiny-0")


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of a text file: the first `old` becomes `new`."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def flip(path: str) -> Callable[[Path], None]:
    """A change of one byte in the middle of a file."""

    def change(folder: Path) -> None:
        content = bytearray((folder / path).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / path).write_bytes(bytes(content))

    return change


def with_hashes(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A change by somebody who also corrects all hashes."""

    def both(folder: Path) -> None:
        change(folder)
        manifest, cache = json.loads((folder / "manifest.json").read_text()), folder.parent / "cache"
        for name, stage in manifest["stages"].items():
            stage["outputs"] = {path: cached_hash(folder / name / path, cache) for path in stage["outputs"]}
            stage["inputs"] = {path: cached_hash(folder / path, cache) for path in stage["inputs"]}
            stage["pages"] = {path: cached_hash(folder / path, cache) for path in stage["pages"]}
            record = {part: stage[part] for part in ("inputs", "outputs")}
            (folder / name / "stage.json").write_text(json.dumps(record))
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return both


PAGE, METRICS = "05_evaluation.html", "05_evaluation/metrics.json"
TAMPERED = {  # what was changed: the change, and how the report begins
    "a digit in a page": (
        replace(PAGE, "<td>0.5</td>", "<td>0.6</td>"),
        f"{PAGE}: hash",
    ),
    "a digit in a page, with its hash": (
        with_hashes(replace(PAGE, "<td>0.5</td>", "<td>0.6</td>")),
        "05_evaluation.html: result table: SFT+GSPO, accuracy: the page shows '0.6', recomputed 0.5",
    ),
    "an interval on the page of 03, with its hash": (
        with_hashes(replace("03_gspo.html", "<td>1.0</td>", "<td>1.1</td>")),
        "03_gspo.html: result table: reward, before: the page shows '1.1', recomputed 1.0",
    ),
    "a picture in a page, with its hash": (
        with_hashes(replace("03_gspo.html", "data:image/png;base64,iV", "data:image/png;base64,iW")),
        "03_gspo.html: as the notebook: an image",
    ),
    "the last numbers of a notebook": (
        with_hashes(replace("05_evaluation.ipynb", "'mam': 0.5", "'mam': 0.7")),
        "05_evaluation.ipynb: recorded numbers",
    ),
    "a metric": (replace(METRICS, '"mam": 0.5', '"mam": 0.7'), "05_evaluation/metrics.json: hash"),
    "a metric, with its hash": (
        with_hashes(replace(METRICS, '"mam": 0.5', '"mam": 0.7')),
        "05_evaluation/metrics.json: recomputed: sft_gspo.mam is 0.7, recomputed 0.5",
    ),
    "a result, with its hash": (
        with_hashes(replace("03_gspo/results.json", '"total, after": 2.0', '"total, after": 2.2')),
        "03_gspo/results.json: recomputed: total, after is 2.2, recomputed 2.0",
    ),
    "a row": (
        flip("05_evaluation/predictions.jsonl"),
        "05_evaluation/predictions.jsonl: hash",
    ),
    "a row, with its hash": (
        with_hashes(replace("03_gspo/heldout.jsonl", '"total": 2.5', '"total": 2.4')),
        "03_gspo/results.json: recomputed: total, after",
    ),
    "a weight": (flip("03_gspo/checkpoint/model.safetensors"), "03_gspo/checkpoint: hash"),
    "a figure": (flip("05_evaluation/comparison.png"), "05_evaluation/comparison.png: hash"),
    "a video that a list names": (flip("03_gspo/world/a.mp4"), "03_gspo/data.media.json: hash"),
    "a figure that is gone": (
        lambda folder: (folder / "03_gspo/reward.png").unlink(),
        "03_gspo/reward.png: hash: the file is missing",
    ),
    "the record of a notebook": (replace("03_gspo/stage.json", '"heldout.jsonl"', '"heldin.jsonl"'), "03_gspo: record"),
    "a notebook that cannot be read": (
        with_hashes(lambda folder: (folder / "03_gspo.ipynb").write_text("{}")),
        "03_gspo.ipynb: recorded numbers: cannot be checked: ValueError: it is not a notebook",
    ),
    "numbers nested without end": (
        with_hashes(replace("05_evaluation.ipynb", "{'base': {", "[" * 5000 + "{'base': {")),
        "05_evaluation.ipynb: recorded numbers: cannot be checked",
    ),
    "a stage that failed": (replace("manifest.json", '"status": "done"', '"status": "failed"'), "03_gspo: finished"),
}


def test_a_folder_that_is_neither_run_nor_site_is_an_error(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "neither manifest.json (a run) nor results.json" in capsys.readouterr().err
    (tmp_path / "results.json").write_text('{"files": {}}')
    assert main(["verify", str(tmp_path)]) == 2
    assert "is not that of a published site" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["verify", str(tmp_path)]) == 2
    stage = {"status": "done", "outputs": []}
    manifest = {"profile": "tiny", "seed": 0, "overrides": {}, "stages": {"03_gspo": stage}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", str(tmp_path)]) == 2
    assert "03_gspo: inputs, outputs, pages must map paths to hashes" in capsys.readouterr().err


def test_a_whole_run_passes(run_dir, capsys):
    assert main(["verify", str(run_dir)]) == 0
    checks = verify(run_dir)
    assert [check for check in checks if check.problems] == []
    assert {c.name for c in checks} >= {"05_evaluation/metrics.json: recomputed", "03_gspo.html: result table"}
    assert f"{len(checks)} of {len(checks)} checks hold" in capsys.readouterr().out


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_copy_fails_and_is_named(kind, run_dir, capsys):
    change, message = TAMPERED[kind]
    change(run_dir)
    assert main(["verify", str(run_dir)]) == 1
    assert any(line.startswith(message) for line in capsys.readouterr().out.splitlines())


def test_a_run_without_hashes_of_its_pages_says_so(run_dir, capsys):
    manifest = json.loads((run_dir / "manifest.json").read_text())
    for stage in manifest["stages"].values():
        del stage["pages"]
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", str(run_dir)]) == 0
    assert "not checked: 05_evaluation.html: hash" in capsys.readouterr().out


SITE = {
    "a digit in the index": (replace("index.html", "0.500 (", "0.600 ("), "index.html: result table"),
    "a number of a page": (
        replace(PAGE, "<td>0.5</td>", "<td>0.6</td>"),
        f"{PAGE}: result",
    ),
    "a number of results.json": (replace("results.json", '"mam": 0.5', '"mam": 0.7'), "index.html: result table"),
    "a result of a notebook": (
        replace("results.json", '"total, after": 2.0', '"total, after": 2.1'),
        "03_gspo.html",
    ),
    "a picture": (replace("03_gspo.html", "base64,", "base64,A"), "03_gspo.html: hash"),
    "a file more": (lambda site: (site / "more.html").write_text("more"), "files: more.html is not part of the site"),
}


def test_a_published_site_passes(run_dir, tmp_path):
    publish(run_dir, tmp_path / "tour")
    assert main(["verify", str(tmp_path / "tour")]) == 0


@pytest.mark.parametrize("kind", SITE)
def test_a_tampered_site_fails_and_is_named(kind, run_dir, tmp_path, capsys):
    publish(run_dir, tmp_path / "tour")
    change, message = SITE[kind]
    change(tmp_path / "tour")
    assert main(["verify", str(tmp_path / "tour")]) == 1
    assert any(line.startswith(message) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [("0.45", 0.4549, True), ("0.45", 0.456, False), ("−0.1", -0.12, True), ("12%", 0.123, True), ("yes", 1.0, False)],
)
def test_a_cell_shows_a_number_up_to_its_digits(text, value, expected):
    assert shows(text, value) is expected


def test_a_page_is_read_with_tables_in_tables_and_without_scripts():
    page = "<p>a<script>b</script></p><table><tr><td>1<table><tr><th>2</th></tr></table></td></tr></table><pre>c</pre>"
    reader = PageReader(page)
    assert reader.tables == [(("2",),), (("1",),)]
    assert reader.text == "a 1 2 c" and reader.printed == ["c"]
