"""Tests of the files of cells."""

import json

import pytest

from o3v.ablations import store


def record(cell="sft", seed=0, status="started", **others):
    return {"cell": cell, "seed": seed, "status": status, "settings": {}, "inputs": {}, **others}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is not the record of a cell"),
        ('{"cell": "sft", "seed": 0}', "lacks status, settings, inputs"),
        (json.dumps(record(status="done")), "status 'done' is none of started, failed, finished"),
        (json.dumps(record(status="finished")), "is finished and has no scores"),
        ("{", "is not JSON"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content, message):
    path = store.cell_path(tmp_path, "sft", 0)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        store.read_cell(tmp_path, "sft", 0)
    assert "sft-0.json" in str(raised.value)


@pytest.mark.parametrize("content", ["{}", "3", "null"])
def test_an_assembled_file_is_a_list(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="is not a list of cells"):
        store.read_assembled(tmp_path / "a.json")


def test_two_records_of_one_cell_are_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([record(), record(seed=1), record()]))
    with pytest.raises(ValueError, match="two records of cell sft, seed 0"):
        store.read_assembled(tmp_path / "a.json")


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_cell(tmp_path, record(scores={"total": [float("nan")]}))
    assert not list(tmp_path.rglob("*.json"))


def test_all_cells_come_back_in_one_file_with_a_line_each(tmp_path):
    assert store.read_cell(tmp_path, "sft", 0) is None and not store.is_finished(tmp_path, "sft", 0)
    done = record("sft", 1, "finished", scores={"questions": {"total": [0.5, None]}})
    for one in (done, record("base", 2, "failed"), record("sft", 0)):
        store.write_cell(tmp_path, one)
    assert store.is_finished(tmp_path, "sft", 1) and not store.is_finished(tmp_path, "sft", 0)
    path = store.assemble(tmp_path)
    assert store.read_assembled(path) == [record("base", 2, "failed"), record("sft", 0), done]
    assert len(path.read_text().splitlines()) == 5
