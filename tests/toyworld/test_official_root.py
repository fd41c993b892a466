"""The fabricated root in the layout of the real downloads: layout, broken rows, repeatability."""

import json
from collections import Counter

import pytest

from o3v import files, video
from o3v.data.sources import GROUNDING, SOURCES
from o3v.schema import Example, SchemaError, Task
from o3v.toyworld.official_root import write_root


@pytest.mark.parametrize("options", [{"rows": 0}, {"vstar_items": 0}, {"broken_share": 1.5}, {"broken_share": -0.1}])
def test_impossible_counts_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="at least 1"):
        write_root(tmp_path / "root", **options)
    assert not (tmp_path / "root").exists()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("official") / "root", rows=60, broken_share=0.1)


def read(written, name):
    return json.loads((written.data_root / "json_data" / name).read_text())


def test_the_files_have_every_source_and_the_six_tasks(written):
    rows = {name: read(written, name) for name in ("STGR-SFT.json", "STGR-RL.json")}
    assert {row["task"] for both in rows.values() for row in both} == {str(task) for task in Task}
    names = {name: {row["source"] for row in own} for name, own in rows.items()}
    assert set(GROUNDING) | {"STR_plm_rdcap", "TVG_coldstart", "TreeVGR"} < names["STGR-SFT.json"]
    assert set(GROUNDING) | {"TVG_rl", "gqa", "timerft", "videoespresso_train_video"} < names["STGR-RL.json"]
    assert all("reasoning_process" in row for row in rows["STGR-SFT.json"])
    assert not any("reasoning_process" in row for row in rows["STGR-RL.json"])


def test_paths_start_at_the_folder_of_the_source(written):
    for row in read(written, "STGR-RL.json"):
        if ("STGR-RL.json", row["id"]) in written.broken:
            continue
        source = next(s for s in SOURCES if s.fits(row["source"]))
        assert (written.data_root / "videos" / source.folder / (row["video_path"] or row["image_path"])).is_file()
        for frame in row["key_frames"]:
            assert (written.data_root / "videos" / source.key_frames / frame["path"]).is_file()


def test_a_tenth_of_the_rows_is_broken_in_all_ways(written):
    assert Counter(name for name, _ in written.broken) == {"STGR-SFT.json": 6, "STGR-RL.json": 6}
    assert set(written.broken.values()) == {"medium missing", "frames damaged", "no medium", "no answer"}
    for (name, row_id), kind in written.broken.items():
        row = next(row for row in read(written, name) if row["id"] == row_id)
        source = next(s for s in SOURCES if s.fits(row["source"]))
        path = written.data_root / "videos" / source.folder / (row["video_path"] or row["image_path"])
        assert path.is_file() == (kind != "medium missing")
        if kind == "no answer":
            with pytest.raises(SchemaError, match="answer"):
                Example.from_row(row)
        if kind == "frames damaged" and path.suffix == ".mp4":  # it opens, and only decoding shows the damage
            assert video.probe(path).duration_s == 12.0
            with pytest.raises(video.VideoError):
                video.sample_frames(path, 8, 112 * 84)


def test_vstar_items_have_no_ending_and_lie_below_the_root(written):
    items = json.loads((written.vstar_root / "V_STaR_test.json").read_text())
    for item in items:
        (path,) = written.vstar_root.rglob(f"{item['vid']}.mp4")
        info = video.probe(path)
        assert (len(info.times_s), info.size_wh) == (item["frame_count"], (item["width"], item["height"]))
        assert item["timestamps"][1] < info.duration_s


def test_the_same_arguments_give_the_same_bytes(written, tmp_path):
    write_root(tmp_path / "again", rows=60, broken_share=0.1)
    assert files.hash_path(tmp_path / "again") == files.hash_path(written.data_root)
