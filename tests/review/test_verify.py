"""`o3v verify`: a whole run and its site pass, every tampered copy fails and is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.reviewed_run import README, make_run

from o3v.__main__ import main
from o3v.review.page_reader import PageReader, shows
from o3v.review.published import SITE
from o3v.review.readme import cells_of_site, wrong_readme_cells
from o3v.review.site import MAX_SITE_BYTES, publish, site_files
from o3v.review.verify import unlike_last, verify
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


def change_manifest(folder: Path, part: str, entry: str) -> None:
    """Changes one recorded hash of notebook 03, in the manifest and in the record of the notebook."""
    manifest, stage_file = json.loads((folder / "manifest.json").read_text()), folder / "03_gspo/stage.json"
    record, stage = json.loads(stage_file.read_text()), manifest["stages"]["03_gspo"]
    record[part][entry] = stage[part][entry] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    stage_file.write_text(json.dumps(record))


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
    "a prediction": (
        replace("05_evaluation/predictions.jsonl", '"judge_score": 3', '"judge_score": 0'),
        "05_evaluation/predictions.jsonl: hash: the content differs",
    ),
    "a prediction, with its hash": (
        with_hashes(replace("05_evaluation/predictions.jsonl", '"judge_score": 3', '"judge_score": 0')),
        "05_evaluation/metrics.json: recomputed: sft_gspo.accuracy is 0.5, recomputed 0.0",
    ),
    "a rollout": (flip("03_gspo/rollouts.jsonl"), "03_gspo/rollouts.jsonl: hash: the content differs"),
    "a rollout's text, with its hash": (
        with_hashes(replace("03_gspo/rollouts.jsonl", "<answer>B</answer>", "<answer>A</answer>")),
        "03_gspo/rollouts.jsonl: scored again: line 1, q: total_at_start is 2.0, recomputed 1.0",
    ),
    "a rollout's reward, with its hash": (
        with_hashes(replace("03_gspo/rollouts.jsonl", '"total": 1.0', '"total": 1.5')),
        "03_gspo/rollouts.jsonl: scored again: line 2, q: total is 1.5, the sum of its terms 1.0",
    ),
    "a question of another rollout, with its hash": (
        with_hashes(replace("03_gspo/rollouts.jsonl", '"id": "q"', '"id": "p"')),
        "03_gspo/rollouts.jsonl: scored again: line 1, p: the question is not in",
    ),
    "a hash in the manifest": (
        lambda folder: change_manifest(folder, "outputs", "heldout.jsonl"),
        "03_gspo/heldout.jsonl: hash: the content differs",
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


@pytest.fixture
def published(run_dir, tmp_path):
    """The options that name the site and the README of a run."""
    publish(run_dir, tmp_path / "tour")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    return ["--site", str(tmp_path / "tour"), "--readme", str(tmp_path / "README.md")]


def test_what_was_published_of_a_run_passes(run_dir, published, capsys):
    assert main(["verify", str(run_dir), *published]) == 0
    out = capsys.readouterr().out
    assert "not checked" not in out and "checks hold" in out
    names = {check.name for check in verify(run_dir, Path(published[1]), Path(published[3])) if not check.skipped}
    assert {
        "README.md: result table",
        "tour/results.json: the run's numbers",
        "tour/03_gspo.html: as the notebook",
    } <= names


def test_another_runs_site_and_readme_are_skipped_only_if_not_named(run_dir, tmp_path, capsys):
    assert main(["verify", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert "not checked: docs/tour: it shows another run" in out and "not checked: README.md" in out
    assert main(["verify", str(run_dir), "--site", str(tmp_path), "--readme", str(tmp_path / "no.md")]) == 1
    out = capsys.readouterr().out
    assert "the run's numbers: cannot be checked: FileNotFoundError" in out
    assert "no.md: result table: cannot be checked: FileNotFoundError" in out
    (tmp_path / "no.md").write_text(README.replace("| 0 | base", "| 8 | base"), encoding="utf-8")
    assert main(["verify", str(run_dir), "--readme", str(tmp_path / "no.md")]) == 1
    assert "no.md has no result table with rows of seed 0" in capsys.readouterr().out


def test_a_site_is_not_compared_with_a_site(run_dir, published, capsys):
    assert main(["verify", published[1], *published]) == 2
    assert "is no run; --site and --readme are compared with a run" in capsys.readouterr().err


PUBLISHED = {
    "a number of the README": (
        replace("README.md", "| 0.693 | 1.000 | 2.000 |", "| 0.693 | 1.000 | 2.001 |"),
        "README.md: result table: seed 0, SFT+GSPO, reward: the README shows '2.001', recomputed 2.0",
    ),
    "an interval of the README": (
        replace("README.md", "(1.000 to 1.000)", "(0.900 to 1.000)"),
        "README.md: result table: seed 0, change, reward: the README shows '+1.000 (0.900 to 1.000)', recomputed 1.0",
    ),
    "a sign of the README": (
        replace("README.md", "+0.500", "−0.500"),
        "README.md: result table: seed 0, change, accuracy: the README shows '−0.500",
    ),
    "a row of the README": (
        replace("README.md", "| | SFT |", "| | SFT2 |"),
        "README.md: result table: seed 0: the table",
    ),
    "a table of a page of the site": (
        replace("tour/03_gspo.html", "<td>1.0</td>", "<td>1.1</td>"),
        "tour/03_gspo.html: as the notebook: a table of the notebook is not in the page",
    ),
    "a number of the site": (
        replace("tour/results.json", '"mam": 0.5', '"mam": 0.7'),
        "tour/results.json: the run's numbers: metrics.sft_gspo.mam is 0.7, recomputed 0.5",
    ),
    "a page of the site that is gone": (
        lambda folder: (folder / "tour/03_gspo.html").unlink(),
        "tour/03_gspo.html: as the notebook: cannot be checked: FileNotFoundError",
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_published_number_that_is_not_the_runs_fails_and_is_named(kind, run_dir, published, tmp_path, capsys):
    change, message = PUBLISHED[kind]
    change(tmp_path)
    assert main(["verify", str(run_dir), *published]) == 1
    assert any(line.startswith(message) for line in capsys.readouterr().out.splitlines())


def test_the_published_site_of_this_repository_passes():
    assert [check for check in verify(SITE) if check.problems] == []
    assert sum(path.stat().st_size for path in site_files(SITE).values()) <= MAX_SITE_BYTES


def test_the_readme_shows_the_published_run():
    """Without the run's files: README against docs/tour/results.json."""
    numbers = json.loads((SITE / "results.json").read_text(encoding="utf-8"))
    expected = cells_of_site(numbers)
    assert len(expected) == 4 and sum(map(len, expected.values())) == 26
    assert list(wrong_readme_cells(SITE.parents[1] / "README.md", numbers["run"]["seed"], expected)) == []


SITE_TAMPERED = {
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
    "a number of the Markdown page": (
        replace("README.md", "| 1.000 | 2.000 |", "| 1.000 | 2.100 |"),
        "README.md: tables: no table 'held-out questions before after' as in results.json",
    ),
    "a table more on the Markdown page": (
        lambda site: (site / "README.md").write_text((site / "README.md").read_text() + "| a |\n|---|\n| 1 |\n"),
        "README.md: tables: 4 tables instead of 3",
    ),
    "a picture of the Markdown page": (
        flip("pictures/05_evaluation-comparison.png"),
        "pictures/05_evaluation-comparison.png: hash",
    ),
    "a picture": (replace("03_gspo.html", "base64,", "base64,A"), "03_gspo.html: hash"),
    "a file more": (lambda site: (site / "more.html").write_text("more"), "files: more.html is not part of the site"),
}


def test_a_published_site_passes(run_dir, tmp_path):
    publish(run_dir, tmp_path / "tour")
    assert main(["verify", str(tmp_path / "tour")]) == 0


@pytest.mark.parametrize("kind", SITE_TAMPERED)
def test_a_tampered_site_fails_and_is_named(kind, run_dir, tmp_path, capsys):
    publish(run_dir, tmp_path / "tour")
    change, message = SITE_TAMPERED[kind]
    change(tmp_path / "tour")
    assert main(["verify", str(tmp_path / "tour")]) == 1
    assert any(line.startswith(message) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [("0.45", 0.4549, True), ("0.45", 0.456, False), ("−0.1", -0.12, True), ("12%", 0.123, True), ("yes", 1.0, False)],
)
def test_a_cell_shows_a_number_up_to_its_digits(text, value, expected):
    assert shows(text, value) is expected


@pytest.mark.parametrize(
    ("text", "holds"),
    [("{'a': 1}", True), ("{'a': 1, 'b': 2}", True), ("{'a': 2}", False), ("{'c': 1}", False), ("{}", False)],
)
def test_the_end_of_a_page_may_show_a_part_of_what_was_recorded(text, holds):
    assert (list(unlike_last(text, [{"a": 1, "b": 2}])) == []) is holds


def test_a_page_is_read_with_tables_in_tables_and_without_scripts():
    page = "<p>a<script>b</script></p><table><tr><td>1<table><tr><th>2</th></tr></table></td></tr></table><pre>c</pre>"
    reader = PageReader(page)
    assert reader.tables == [(("2",),), (("1",),)]
    assert reader.text == "a 1 2 c" and reader.printed == ["c"]
