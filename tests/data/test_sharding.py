"""Rows in shards: the same result as for one file, in order, and no shard is filtered twice."""

import json
from dataclasses import replace

import pytest

from o3v.data import filter_report, filters, sharding, stgr
from o3v.schema import Example, KeyFrame, Task

BOX = (0.1, 0.1, 0.4, 0.4)
CLEAN = Example(
    id="clean",
    task=Task.SPATIO_TEMPORAL,
    source="STR_coin",
    question="Where is the dog?",
    answer="Left",
    reasoning_process="I see <obj>dog</obj><box>[0.1,0.1,0.4,0.4]</box>at<t>2</t>s.",
    video_path="v.mp4",
    key_frames=(KeyFrame(20, 2.0, None, {"dog": (BOX,)}),),
)


def rows(count):
    """Rows of which every seventh reasoning goes beyond its annotation and every eleventh box is too large."""
    for n in range(count):
        chain = CLEAN.reasoning_process + (" Then <t>7</t>s." if n % 7 == 0 else "")
        frames = (KeyFrame(20, 2.0, None, {"dog": ((0.0, 0.0, 1.0, 1.0) if n % 11 == 0 else BOX,)}),)
        yield replace(CLEAN, id=f"r{n}", reasoning_process=chain, key_frames=frames)


@pytest.fixture
def source(tmp_path):
    stgr.write_stgr(tmp_path / "rows.json", rows(50))
    return tmp_path / "rows.json"


def ids(folder):
    return [e.id for path in sorted(folder.glob("*.parquet")) for e in sharding.read_shard(path)]


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_give_the_result_of_one_file(source, tmp_path, workers):
    paths = sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8)
    results = sharding.filter_shards(paths, tmp_path / "out", filters.MODEL_FREE_STAGES, workers=workers)
    kept, lines = filter_report.filter_rows(list(rows(50)))
    assert ids(tmp_path / "in") == [f"r{n}" for n in range(50)]
    assert ids(tmp_path / "out") == [e.id for e in kept]
    assert sharding.merge_reports(results) == lines
    assert [result["rows"] for result in results] == [8] * 6 + [2]


def test_ray_gives_the_same_rows_in_the_same_order(source, tmp_path):
    paths = sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8)
    local = sharding.filter_shards(paths, tmp_path / "local", filters.MODEL_FREE_STAGES, workers=1)
    one_gpu = ["0"]  # Ray believes what it is told
    assert sharding.filter_shards(paths, tmp_path / "ray", filters.MODEL_FREE_STAGES, "ray", 2, one_gpu) == local
    for path in paths:
        assert sharding.read_shard(tmp_path / "ray" / path.name) == sharding.read_shard(tmp_path / "local" / path.name)


def test_finished_shards_are_not_filtered_again(source, tmp_path, monkeypatch):
    paths = sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8)
    first = sharding.filter_shards(paths[:3], tmp_path / "out", filters.MODEL_FREE_STAGES, workers=1)
    filtered, real = [], filter_report.filter_rows
    monkeypatch.setattr(
        filter_report, "filter_rows", lambda examples, stages: filtered.append(1) or real(examples, stages)
    )
    results = sharding.filter_shards(paths, tmp_path / "out", filters.MODEL_FREE_STAGES, workers=1)
    assert len(filtered) == 4 and results[:3] == first
    monkeypatch.setattr(stgr, "read_stgr", lambda path: pytest.fail("read again"))
    assert sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8) == paths


def test_bad_rows_are_listed_beside_the_shards(source, tmp_path):
    text = source.read_text(encoding="utf-8").replace('"r3"', '"r2"')
    source.write_text(text, encoding="utf-8")
    sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8)
    (fault,) = map(json.loads, (tmp_path / "in" / "faults.jsonl").read_text(encoding="utf-8").splitlines())
    assert (fault["number"], fault["id"], fault["field"]) == (4, "r2", "id")


def test_shards_of_another_file_are_refused(source, tmp_path):
    sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=8)
    with pytest.raises(ValueError, match="shards of another file"):
        sharding.split_into_shards(source, tmp_path / "in", rows_per_shard=9)


def test_an_unknown_engine_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="local, ray"):
        sharding.filter_shards([], tmp_path, {}, engine="spark")
