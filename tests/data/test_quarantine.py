"""Rows that cannot be read: left out, named, replaced, limited, and the same ones after a resume."""

import json
from functools import partial
from pathlib import Path

import pytest

from o3v.data.quarantine import Quarantine, TooManyUnreadableError, read_row
from o3v.video import VideoError


def make(broken, name):
    if name in broken:
        raise VideoError(f"{name}.mp4", "frame-decode", "damaged")
    return name.upper()


def describe(folder, name):
    return name, folder / f"{name}.mp4"


@pytest.fixture
def folder(tmp_path):
    for name in "abcdef":
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    return tmp_path


def quarantine(folder, num_rows=100, max_share=0.05):
    return Quarantine(folder / "stage/unreadable.jsonl", num_rows, max_share, retry_s=0)


def names(folder):
    return [json.loads(line)["row"] for line in (folder / "stage/unreadable.jsonl").read_text().splitlines()]


def test_one_row_too_many_stops_with_the_limit_and_the_file(folder):
    kept_out = quarantine(folder, num_rows=40)  # 5%: two rows
    for name in "ab":
        assert kept_out.read(*describe(folder, name), partial(make, "abc", name)) is None
    with pytest.raises(TooManyUnreadableError, match=r"row c .*damaged.* 2 of 40 rows .*5%.*unreadable\.jsonl"):
        kept_out.read(*describe(folder, "c"), partial(make, "abc", "c"))
    assert names(folder) == ["a", "b"]  # the last one is tried again when the run is resumed


def test_one_row_may_always_be_left_out(folder):
    assert quarantine(folder, num_rows=3, max_share=0.0).limit == 1


def test_a_programming_error_is_no_unreadable_row(folder):
    with pytest.raises(TypeError):
        quarantine(folder).read(*describe(folder, "a"), lambda: len(3))
    assert names(folder) == []


def test_all_rows_unreadable_is_an_error(folder):
    with pytest.raises(ValueError, match="none of 2 rows"):
        read_row("ab", 0, partial(make, "ab"), partial(describe, folder), quarantine(folder, max_share=1))


def test_without_a_quarantine_the_error_is_raised(folder):
    with pytest.raises(VideoError, match="damaged"):
        read_row("ab", 0, partial(make, "a"), partial(describe, folder), None)


def test_an_unreadable_row_is_named_and_the_next_one_takes_its_place(folder):
    kept_out = quarantine(folder)
    rows = [read_row("abcd", n, partial(make, "bd"), partial(describe, folder), kept_out) for n in range(4)]
    assert rows == ["A", "C", "C", "A"]  # the row after the last is the first
    assert names(folder) == ["b", "d"]
    line = json.loads((folder / "stage/unreadable.jsonl").read_text().splitlines()[0])
    assert line["medium"] == str(folder / "b.mp4") and line["reason"] == "b.mp4: damaged"


def test_a_read_that_fails_once_is_repeated(folder):
    tries = []

    def away_at_first():
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the file system is away")
        return "A"

    assert quarantine(folder).read(*describe(folder, "a"), away_at_first) == "A"
    assert names(folder) == []


def test_a_resumed_run_leaves_out_the_same_rows(folder):
    quarantine(folder).read(*describe(folder, "a"), partial(make, "a", "a"))
    assert quarantine(folder).read(*describe(folder, "a"), partial(make, "", "a")) is None  # readable now, all the same
    (folder / "a.mp4").write_bytes(b"mended")  # another file
    assert quarantine(folder).read(*describe(folder, "a"), partial(make, "", "a")) == "A"


def test_a_missing_medium_is_left_out_until_it_is_there(folder):
    (folder / "a.mp4").unlink()
    assert quarantine(folder).read(*describe(folder, "a"), (folder / "a.mp4").read_bytes) is None
    assert quarantine(folder).read(*describe(folder, "a"), (lambda: 1)) is None
    (folder / "a.mp4").write_bytes(b"x")
    assert quarantine(folder).read(*describe(folder, "a"), (folder / "a.mp4").read_bytes) == b"x"


def test_processes_share_the_file_and_the_limit(folder):
    first, second = quarantine(folder, num_rows=40), quarantine(folder, num_rows=40)
    for kept_out, name in ((first, "a"), (second, "b"), (second, "a")):
        assert kept_out.read(*describe(folder, name), partial(make, "abc", name)) is None
    assert sorted(names(folder)) == ["a", "a", "b"] or sorted(names(folder)) == ["a", "b"]
    with pytest.raises(TooManyUnreadableError):
        first.read(*describe(folder, "c"), partial(make, "abc", "c"))


def test_half_a_line_of_a_killed_process_is_skipped(folder):
    quarantine(folder).read(*describe(folder, "a"), partial(make, "a", "a"))
    with (folder / "stage/unreadable.jsonl").open("a") as file:
        file.write('{"row": "b", "med')
    assert quarantine(folder).names == {"a"}


def test_the_first_readable_items(folder):
    found = quarantine(folder).first("abcd", 2, partial(describe, folder), partial(make, "ac"))
    assert found == [("b", "B"), ("d", "D")]
    assert quarantine(folder).first("ab", 5, partial(describe, folder), partial(make, "a")) == [("b", "B")]
    assert isinstance(describe(folder, "a")[1], Path)
