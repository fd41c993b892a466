"""Content hashes that are computed once, and lists of media."""

import hashlib
import os
import time

import pytest

from o3v import files
from o3v.runner import hashes
from o3v.runner.hashes import cached_hash, read_media_folders, write_media_list
from o3v.runner.stage import open_stage, unchanged

OLD_S = 100.0  # seconds before now


def old(path, content):
    """Writes a file that was last modified a while ago."""
    files.write_text(path, content)
    then = time.time() - OLD_S
    os.utime(path, (then, then))
    return path


@pytest.fixture
def counted(monkeypatch):
    """The names of the files whose content is read, in order; every file may be cached."""
    read, original = [], hashes.hash_file
    monkeypatch.setattr(hashes, "hash_file", lambda path: read.append(path.name) or original(path))
    monkeypatch.setattr(hashes, "SETTLED_S", -1.0)  # the time of change of a test's files is now
    monkeypatch.setattr(hashes, "MIN_BYTES", 3)
    return read


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        cached_hash(tmp_path / "a", tmp_path / ".hashes.json")


def test_a_file_is_read_once(tmp_path, counted):
    path, cache = old(tmp_path / "a.bin", "abc"), tmp_path / ".hashes.json"
    for _ in range(3):
        assert cached_hash(path, cache) == hashlib.sha256(b"abc").hexdigest()
    assert counted == ["a.bin"]
    old(path, "abd")
    assert cached_hash(path, cache) == hashlib.sha256(b"abd").hexdigest()


@pytest.mark.parametrize("text", ["{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_made_again(tmp_path, counted, text):
    path, cache = old(tmp_path / "a.bin", "abc"), tmp_path / ".hashes.json"
    cache.write_text(text)
    assert cached_hash(path, cache) == cached_hash(path, cache) == hashlib.sha256(b"abc").hexdigest()
    assert counted == ["a.bin"]


def test_a_file_that_was_just_written_and_a_small_one_are_not_cached(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED_S", 2.0)
    files.write_text(tmp_path / "new.bin", "abc")
    for path in (tmp_path / "new.bin", old(tmp_path / "small", "ab")):
        cached_hash(path, tmp_path / ".hashes.json")
        cached_hash(path, tmp_path / ".hashes.json")
    assert counted == ["new.bin", "new.bin", "small", "small"]


def test_a_folder_has_the_same_hash_with_and_without_the_cache(tmp_path, counted):
    old(tmp_path / "x/a.bin", "abc")
    old(tmp_path / "x/sub/b.bin", "abcd")
    for _ in range(2):
        assert cached_hash(tmp_path / "x", tmp_path / ".hashes.json") == files.hash_path(tmp_path / "x")
    assert sorted(counted) == ["a.bin", "b.bin"]


@pytest.fixture
def listed(tmp_path, counted):
    """A stage that lists a video inside of its run and one outside, and a stage that reads them."""
    old(tmp_path / "data/videos/b.mp4", "b")
    first = open_stage(tmp_path / "runs/r", "01_data")
    old(first.path("world/a.mp4"), "a")
    media = {"data": ["videos/b.mp4", "videos/b.mp4"], "world": ["a.mp4"]}
    first.list_media("data", {"data": tmp_path / "data", "world": first.folder / "world"}, media)
    first.record({}, ["data.media.json"])
    second = open_stage(tmp_path / "runs/r", "02_sft")
    folders = second.require_media("01_data/data.media.json")
    assert folders == {"data": tmp_path / "data", "world": first.folder / "world"}
    second.record({}, [])
    return tmp_path / "runs/r"


def test_a_list_stands_for_the_content_of_its_media(listed, tmp_path, counted):
    assert unchanged(listed, "01_data") and unchanged(listed, "02_sft")
    assert counted.count("a.mp4") == counted.count("b.mp4") == 1  # for both records and both checks
    old(tmp_path / "data/videos/b.mp4", "c")
    assert not unchanged(listed, "01_data") and not unchanged(listed, "02_sft")
    old(tmp_path / "data/videos/b.mp4", "b")
    assert unchanged(listed, "02_sft")
    (listed / "01_data/world/a.mp4").unlink()
    assert not unchanged(listed, "02_sft")


def test_a_moved_run_finds_its_own_media(listed, tmp_path):
    moved = tmp_path / "elsewhere/r"
    moved.parent.mkdir()
    listed.rename(moved)
    assert read_media_folders(moved / "01_data/data.media.json")["world"] == moved / "01_data/world"
    assert unchanged(moved, "02_sft")


def test_a_list_is_written_sorted_and_without_doubles(tmp_path):
    path = tmp_path / "r/01/x.media.json"
    write_media_list(path, {"data": tmp_path / "d"}, {"data": ["b", "a", "b"]})
    assert files.read_json(path) == {"folders": {"data": str(tmp_path / "d")}, "media": {"data": ["a", "b"]}}
