"""Tests of the folder of a stage, and of files that are written atomically and hashed."""

import hashlib
import json
import types

import pytest

from o3v import code_digest, geometry
from o3v.files import atomic_path, hash_path, read_json, write_json, write_text
from o3v.runner import paths, shipped
from o3v.runner.stage import open_stage, read_stage, unchanged


def test_a_missing_input_raises_an_error_that_names_its_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^runs/a/01_data/sft\.jsonl .* notebooks/01_data\.ipynb"):
        open_stage(tmp_path / "runs/a", "02_sft").require("01_data/sft.jsonl")


def test_recording_an_output_that_does_not_exist_raises_an_error(tmp_path):
    stage = open_stage(tmp_path, "01_data")
    with pytest.raises(FileNotFoundError, match=r"sft\.jsonl"):
        stage.record({}, ["sft.jsonl"])
    assert read_stage(tmp_path, "01_data") is None
    assert not unchanged(tmp_path, "01_data")


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old ä")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text(encoding="utf-8") == "old ä"


def test_equal_values_give_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2.5, None]})
    write_json(tmp_path / "b.json", {"a": [2.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [2.5, None], "b": 1}


def test_a_hash_depends_on_the_content_only(tmp_path):
    write_text(tmp_path / "x/a.txt", "abc")
    write_text(tmp_path / "x/sub/b.txt", "")
    assert hash_path(tmp_path / "x/a.txt") == hashlib.sha256(b"abc").hexdigest()
    before = hash_path(tmp_path / "x")
    (tmp_path / "x/.half-written").write_text("")
    assert hash_path(tmp_path / "x") == before
    (tmp_path / "x").rename(tmp_path / "y")
    assert hash_path(tmp_path / "y") == before
    (tmp_path / "y/sub/b.txt").rename(tmp_path / "y/sub/c.txt")
    assert hash_path(tmp_path / "y") != before


@pytest.fixture
def recorded(tmp_path):
    """A run in which notebook 02 has read a file and a folder of 01 and written a file."""
    first = open_stage(tmp_path, "01_data")
    write_text(first.path("rows.jsonl"), "{}")
    write_text(first.path("videos/a.mp4"), "video")
    first.record({"rows": 1}, ["rows.jsonl", "videos"])
    second = open_stage(tmp_path, "02_sft")
    for name in ("01_data/rows.jsonl", "01_data/videos", "01_data/rows.jsonl"):
        assert second.require(name) == tmp_path / name
    write_text(second.path("loss.csv"), "1")
    second.record({"loss": 1.0}, ["loss.csv"])
    return tmp_path


def test_a_record_contains_results_and_hashes(recorded):
    assert json.loads((recorded / "02_sft/results.json").read_text()) == {"loss": 1.0}
    stage = read_stage(recorded, "02_sft")
    assert stage["inputs"] == {n: hash_path(recorded / n) for n in ("01_data/rows.jsonl", "01_data/videos")}
    assert stage["outputs"] == {n: hash_path(recorded / "02_sft" / n) for n in ("loss.csv", "results.json")}
    assert unchanged(recorded, "01_data")
    assert unchanged(recorded, "02_sft")


@pytest.mark.parametrize(
    "name", ["01_data/rows.jsonl", "01_data/videos/a.mp4", "02_sft/loss.csv", "02_sft/results.json"]
)
@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_change_of_any_file_is_detected(name, change, recorded):
    (recorded / name).write_text("other") if change == "edit" else (recorded / name).unlink()
    assert not unchanged(recorded, "02_sft")
    assert unchanged(recorded, "01_data") is name.startswith("02")


def test_files_outside_of_the_run_are_inputs_too(recorded, tmp_path_factory):
    outside = tmp_path_factory.mktemp("data") / "json_data"
    write_text(outside / "rows.json", "[]")
    stage = open_stage(recorded, "01_data")
    stage.use(outside, stage.folder / "rows.jsonl")
    assert stage.inputs == {str(outside)}  # its own files are outputs
    stage.record({}, ["rows.jsonl"])
    assert unchanged(recorded, "01_data")
    write_text(outside / "more.json", "[]")
    assert not unchanged(recorded, "01_data")


def test_a_record_that_is_not_json_counts_as_missing(recorded, caplog):
    (recorded / "02_sft/stage.json").write_text("{")
    assert not unchanged(recorded, "02_sft")
    assert "02_sft as not run" in caplog.text


def test_opening_a_stage_again_removes_its_record(recorded):
    open_stage(recorded, "02_sft")
    assert not unchanged(recorded, "02_sft")
    assert (recorded / "02_sft/loss.csv").exists()


def test_unfinished_work_is_continued_by_the_same_work_only(recorded, caplog):
    stage = open_stage(recorded, "02_sft")
    folder = stage.work_folder("checkpoints", "smoke", 0, code=[geometry])
    (folder / "step-1").write_text("")
    assert stage.work_folder("checkpoints", "smoke", 0, code=[geometry]) == folder
    assert (folder / "step-1").exists()
    assert not caplog.records
    other = stage.work_folder("checkpoints", "smoke", 1, code=[geometry])
    assert other != folder
    assert not folder.exists()
    assert f"{folder.name}: settings, inputs or code have changed" in caplog.text
    stage.require("01_data/rows.jsonl")
    assert stage.work_folder("checkpoints", "smoke", 1, code=[geometry]) != other


def test_unfinished_work_depends_on_its_code(recorded, tmp_path, monkeypatch):
    package = tmp_path / "o3v"
    package.mkdir()
    for name in ("__init__", "train", "viewers"):
        (package / f"{name}.py").write_text("x = 1\n")
    monkeypatch.setattr(code_digest, "PACKAGE", package)
    stage, code = open_stage(recorded, "02_sft"), [types.ModuleType("o3v.train")]
    folder = stage.work_folder("checkpoints", code=code)
    (package / "viewers.py").write_text("x = 2\n")
    (package / "train.py").write_text('"""Documented."""\nx = 1\n')
    assert stage.work_folder("checkpoints", code=code) == folder
    (package / "train.py").write_text("x = 2\n")
    assert stage.work_folder("checkpoints", code=code) != folder


# ---- notebooks that are opened alone


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A shipped part with one model and one file of rows, read by a process that is no headless run."""
    monkeypatch.setattr(shipped, "DATA", tmp_path / "data")
    monkeypatch.delenv("O3V_HEADLESS", raising=False)
    write_text(tmp_path / "data/o3v-tiny-gspo/weights", "w")
    write_text(tmp_path / "data/o3v-tiny-run/01_data/rows.jsonl", "{}")
    return tmp_path / "data"


def test_a_headless_run_never_reads_the_shipped_part(tmp_path, data, monkeypatch):
    monkeypatch.setenv("O3V_HEADLESS", "1")
    stage = open_stage(tmp_path / "run", "04_inference", may_be_shipped=True)
    assert not stage.shipped and stage.origin == "The files of earlier notebooks are those of the run run."
    with pytest.raises(FileNotFoundError, match=r"notebooks/03_gspo\.ipynb"):
        stage.require("03_gspo/checkpoint")


def test_a_notebook_reads_the_shipped_part_only_if_it_may(tmp_path, data):
    with pytest.raises(FileNotFoundError, match=r"notebooks/03_gspo\.ipynb"):
        open_stage(tmp_path / "run", "04_inference").require("03_gspo/checkpoint")


def test_opened_alone_a_notebook_reads_the_shipped_part_and_says_so(tmp_path, data):
    stage = open_stage(tmp_path / "run", "04_inference", may_be_shipped=True)
    assert stage.shipped and "shipped" in stage.origin
    assert stage.require("03_gspo/checkpoint") == data / "o3v-tiny-gspo"
    assert stage.require("01_data/rows.jsonl") == data / "o3v-tiny-run/01_data/rows.jsonl"
    with pytest.raises(FileNotFoundError, match=r"notebooks/02_sft\.ipynb"):
        stage.require("02_sft/samples.jsonl")
    stage.record({"n": 1}, [])
    assert unchanged(tmp_path / "run", "04_inference")
    write_text(data / "o3v-tiny-gspo/weights", "other")
    assert not unchanged(tmp_path / "run", "04_inference")


def test_a_run_with_a_trained_model_reads_its_own_files(tmp_path, data):
    trained = open_stage(tmp_path / "run", "03_gspo")
    write_text(trained.path("checkpoint/weights"), "own")
    trained.record({}, ["checkpoint"])
    stage = open_stage(tmp_path / "run", "04_inference", may_be_shipped=True)
    assert stage.require("03_gspo/checkpoint") == tmp_path / "run/03_gspo/checkpoint"
