"""The data root: where its files are, where the paths of rows start, which links are followed, what is added."""

from dataclasses import replace

import pytest

from o3v.data import root as roots
from o3v.data import stgr
from o3v.schema import Example, KeyFrame, SchemaError, Task, resolve_inside

BOX = (0.1, 0.1, 0.4, 0.4)
VIDEO = Example("a", Task.SPATIO_TEMPORAL, "STR_coin", "Where?", "Here", "I see.", "x/a.mp4")
VIDEO = replace(VIDEO, key_frames=(KeyFrame(5, 0.5, "x/5.jpg", {"dog": (BOX,)}),))


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def folder(tmp_path):
    """A root in the official layout, without rows in its files."""
    touch(*(tmp_path / f"root/json_data/STGR-{split}.json" for split in ("SFT", "RL")))
    return tmp_path / "root"


@pytest.mark.parametrize(("place", "reason"), [("nowhere", "is not a folder"), (".", "has neither json_data/STGR-SFT")])
def test_a_folder_without_rows_is_an_error_that_shows_the_layout(tmp_path, place, reason):
    with pytest.raises(FileNotFoundError, match=reason):
        roots.stgr_files(tmp_path / place, "sft")


def test_vstar_needs_exactly_one_test_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="vstar_root"):
        roots.vstar_file(tmp_path)
    touch(tmp_path / "V-STaR/V_STaR_test.json")
    assert roots.vstar_file(tmp_path) == tmp_path / "V-STaR/V_STaR_test.json"
    touch(tmp_path / "V_STaR_test.json")
    with pytest.raises(ValueError, match="several"):
        roots.vstar_file(tmp_path)


def test_the_files_lie_in_json_data_or_in_the_root(folder, tmp_path):
    assert roots.stgr_files(folder, "rl") == [folder / "json_data/STGR-RL.json"]
    touch(tmp_path / "flat/STGR-RL.json", folder / "json_data/own-SFT.json", folder / "json_data/.x-SFT.json")
    assert roots.stgr_files(tmp_path / "flat", "rl") == [tmp_path / "flat/STGR-RL.json"]
    names = [path.name for path in roots.stgr_files(folder, "sft")]
    assert names == ["STGR-SFT.json", "own-SFT.json"]  # STGR's own first
    touch(folder / "V-STaR/V_STaR_test.json", folder / "rows.jsonl")
    assert [path.name for path in roots.json_files(folder)] == [
        "V_STaR_test.json", "STGR-RL.json", "STGR-SFT.json", "own-SFT.json", "rows.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "task", "place", "key_frames"),
    [
        (
            "STR_coin",
            Task.SPATIO_TEMPORAL,
            "videos/stgr/temporal_grounding/videos",
            "videos/stgr/temporal_grounding/kfs",
        ),
        ("STR_plm_rdcap", Task.SPATIO_TEMPORAL, "videos/stgr/plm/videos", "videos/stgr/plm/kfs"),
        ("videoespresso_train_video", Task.SPATIO_TEMPORAL, "videos/videoespresso/videos", "videos/videoespresso/kfs"),
        ("TVG_r1", Task.TEMPORAL, "videos/tvg_r1", "videos"),
        ("timerft", Task.TEMPORAL, "videos/timerft", "videos"),
        ("videor1_free_from", Task.FREE_FORM, "videos/videor1", "videos"),
        ("synth_tvg", Task.TEMPORAL, ".", "."),
        ("own", Task.FREE_FORM, "videos", "videos"),
    ],
)
def test_paths_start_at_the_folder_of_the_source(folder, source, task, place, key_frames):
    touch(folder / place / "x/a.mp4", folder / key_frames / "x/5.jpg")
    found = roots.locate(folder, replace(VIDEO, source=source, task=task))
    assert (found.video_path, found.key_frames[0].path) == (
        f"{place}/x/a.mp4".removeprefix("./"),
        f"{key_frames}/x/5.jpg".removeprefix("./"),
    )


def test_a_medium_that_does_not_exist_keeps_its_path(folder):
    assert roots.locate(folder, VIDEO) == VIDEO


def test_the_folder_of_the_source_comes_first(folder):
    touch(folder / "x/a.mp4", folder / "videos/x/a.mp4", folder / "videos/stgr/temporal_grounding/videos/x/a.mp4")
    assert roots.locate(folder, VIDEO).video_path == "videos/stgr/temporal_grounding/videos/x/a.mp4"


def test_links_to_collections_are_followed_and_other_links_are_not(folder, tmp_path):
    touch(tmp_path / "big/coin/x/a.mp4", tmp_path / "big/more/b.mp4", tmp_path / "secret.mp4")
    place = folder / "videos/stgr/temporal_grounding"
    place.mkdir(parents=True)
    (place / "videos").symlink_to(tmp_path / "big/coin")  # a collection
    assert roots.locate(folder, VIDEO).video_path == "videos/stgr/temporal_grounding/videos/x/a.mp4"
    (tmp_path / "big/coin/more").symlink_to(tmp_path / "big/more")  # a collection in a collection
    assert roots.is_file(folder, "videos/stgr/temporal_grounding/videos/more/b.mp4")
    (tmp_path / "big/coin/a.mp4").symlink_to(tmp_path / "secret.mp4")  # a file that is outside of both
    (folder / "other").symlink_to(tmp_path / "big")  # a folder outside of videos/
    (folder / "videos/loop").symlink_to("loop")
    for path in ("videos/stgr/temporal_grounding/videos/a.mp4", "other/more/b.mp4"):
        with pytest.raises(SchemaError, match="leaves"):
            resolve_inside(folder, path)
    leaving = ["videos/stgr/temporal_grounding/videos/../../../../../secret.mp4", str(tmp_path / "secret.mp4")]
    for path in ("videos/loop/a.mp4", *leaving):
        assert not roots.is_file(folder, path)


def test_the_root_may_itself_be_a_link(folder, tmp_path):
    touch(folder / "videos/x/a.mp4")
    (tmp_path / "named").symlink_to(folder)
    assert roots.locate(tmp_path / "named", VIDEO).video_path == "videos/x/a.mp4"


def test_vstar_videos_are_found_by_name_anywhere_below_the_root(tmp_path):
    touch(tmp_path / "videos/part 1/v1.mp4", tmp_path / "deep/er/v.2.MKV", tmp_path / "v3.txt", tmp_path / "v4.mp4")
    touch(tmp_path / "videos/v5.mp4", tmp_path / "more/v5.webm", tmp_path / "elsewhere/v6.mp4")
    (tmp_path / "videos/round").symlink_to(tmp_path / "videos")
    (tmp_path / "root").mkdir()
    for name in ("videos", "deep", "v3.txt", "v4.mp4", "more"):
        (tmp_path / name).rename(tmp_path / "root" / name)
    (tmp_path / "root/videos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a link").symlink_to(tmp_path / "elsewhere")  # not followed, but named
    vids = ["v1", "v.2", "v3", "v4.mp4", "v5", "v6", "videos/v5.mp4", "v7"]
    located = roots.locate_items(tmp_path / "root", [{"vid": vid} for vid in vids])
    assert [item["video_path"] for item in located if isinstance(item, dict)] == [
        "videos/part 1/v1.mp4",
        "deep/er/v.2.MKV",
        "v4.mp4",
        "videos/linked/v6.mp4",
        "videos/v5.mp4",
    ]
    problems = [item for item in located if isinstance(item, str)]
    hint = "has no video (links are followed below videos/ only, not a link)"
    assert problems[0] == f"v3: {hint}" and problems[2] == f"v7: {hint}"
    assert "several" in problems[1] and "videos/v5.mp4" in problems[1] and "more/v5.webm" in problems[1]


@pytest.mark.parametrize("name", ["STGR", "../x", "a b", ""])
def test_added_rows_cannot_replace_the_files_of_the_root(folder, name):
    with pytest.raises(ValueError, match="name"):
        roots.add_rows(folder, name, [VIDEO])


def test_added_rows_never_take_the_place_of_a_folder(folder, tmp_path):
    touch(folder / "videos/own/a.mp4", tmp_path / "mine/x/a.mp4")
    with pytest.raises(FileExistsError, match="in the way"):
        roots.add_rows(folder, "own", [VIDEO], tmp_path / "mine")
    assert not (folder / "json_data/own-SFT.json").exists()


def test_added_rows_and_their_videos_are_part_of_the_root(folder, tmp_path):
    touch(tmp_path / "mine/x/a.mp4")
    row = replace(VIDEO, source="own", key_frames=(replace(VIDEO.key_frames[0], path=None),))
    stgr.write_stgr(folder / "json_data/STGR-SFT.json", [replace(row, id="b")])
    for _ in range(2):  # a second call replaces the first one's rows
        roots.add_rows(folder, "own", [row], tmp_path / "mine")
    rows = roots.read_split(folder, "sft")
    assert [(e.id, e.video_path) for e in rows] == [("b", "x/a.mp4"), ("a", "videos/own/x/a.mp4")]
    assert resolve_inside(folder, rows[1].media_path).read_bytes() == b"x"


def test_the_environment_names_the_root_where_no_parameter_does(monkeypatch):
    monkeypatch.delenv("O3V_HEADLESS", raising=False)
    monkeypatch.setenv("O3V_DATA", "/data")
    assert (roots.from_environment(""), roots.from_environment("/other")) == ("/data", "/other")
    monkeypatch.setenv("O3V_HEADLESS", "1")  # `o3v run` has read it, and recorded what it read
    assert roots.from_environment("") == ""
