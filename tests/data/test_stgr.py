"""STGR files: every good row is read, every bad one is reported, and writing gives the same bytes."""

import json
from dataclasses import replace

import pytest

from o3v.data import stgr
from o3v.data.stgr import BadRow
from o3v.schema import Example, SchemaError, Task

ROW = {
    "id": "r0",
    "task": "temporal-spatial free-form QA",
    "source": "STR_coin",
    "question": "Where is he?",
    "answer": "Here",
    "video_path": "videos/a.mp4",
    "image_path": None,
    "image_size": None,
    "key_frames": [{"idx": 142, "time": 4.7, "path": "k.jpg"}],
    "key_items": {"142": {"man": [[0.46, 0.43, 0.77, 0.94]]}},
    "reasoning_process": "He stands.",
}


def boxes(*box):
    return {"key_items": {"142": {"man": [list(box)]}}}


BAD = {  # kind → (change of a good row, field that is reported)
    "wrong type": ({"question": 7}, "question"),
    "missing field": ({"answer": None}, "answer"),
    "not a number": (boxes(0.1, float("nan"), 0.5, 0.5), "key_items.142.man"),
    "infinite": (boxes(0.1, 0.1, float("inf"), 0.5), "key_items.142.man"),
    "inverted": (boxes(0.5, 0.1, 0.2, 0.5), "key_items.142.man"),
    "negative": (boxes(-0.1, 0.1, 0.2, 0.5), "key_items.142.man"),
    "out of the frame": (boxes(0.1, 0.1, 1.2, 0.5), "key_items.142.man"),
    "key frame without items": ({"key_items": {}}, "key_items"),
    "items without key frame": ({"key_frames": []}, "key_items"),
    "unknown task": ({"task": "spatial QA"}, "task"),
    "unknown source": ({"source": "STR_unknown"}, "source"),
    "huge text": ({"reasoning_process": "x" * 200_000}, "reasoning_process"),
    "path out of the folder": ({"video_path": "videos/../../secret.mp4"}, "video_path"),
    "absolute key frame": ({"key_frames": [{"idx": 142, "time": 4.7, "path": "/k.jpg"}]}, "key_frames[0].path"),
}


def row(number, **change):
    return json.dumps(ROW | {"id": f"r{number}"} | change, ensure_ascii=False)


ROWS = 38_000  # about as many as in the RL file; one in a hundred is bad


@pytest.mark.parametrize("listed", [True, False], ids=["list", "lines"])
def test_every_good_row_is_read_and_every_bad_one_reported(tmp_path, listed):
    kinds, rows, expected = list(BAD), [], {}
    for number in range(1, ROWS):
        kind = kinds[number // 100 % len(kinds)] if number % 100 == 0 else None
        rows.append(row(number, **(BAD[kind][0] if kind else {})).encode())
        if kind:
            expected[number] = BAD[kind][1]
    rows[150] = row(7).encode()  # row 151 has the id of row 7
    rows[250] = row(251, question="Wher?").encode().replace(b"?", b"\xff")
    rows[350] = b"[1, 2]"
    expected |= {151: "id", 251: "", 351: ""}
    rows.append(row(ROWS).encode()[:-40])
    expected[ROWS] = ""
    path = tmp_path / "rows.json"
    path.write_bytes(b"[\n" + b",\n".join(rows) if listed else b"\n".join(rows))
    read = list(stgr.read_stgr(path))
    bad_rows = {row.number: row for row in read if isinstance(row, BadRow)}
    assert {number: row.field for number, row in bad_rows.items()} == expected
    assert all(row.reason and str(row).startswith(f"row {number}") for number, row in bad_rows.items())
    kept = [e.id for e in read if isinstance(e, Example)]
    assert kept == [f"r{n}" for n in range(1, ROWS + 1) if n not in expected]


def test_rows_across_chunk_borders(tmp_path, monkeypatch):
    monkeypatch.setattr(stgr, "CHUNK", 64)
    path = tmp_path / "rows.json"
    path.write_text("  [ " + " , ".join(row(n) for n in range(30)) + " ] ", encoding="utf-8")
    assert [e.id for e in stgr.read_stgr(path)] == [f"r{n}" for n in range(30)]


def test_a_malformed_row_does_not_affect_its_neighbours(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("[" + ",\n".join([row(1), row(2)[:-1] + ', "x": }', row(3)]) + "]", encoding="utf-8")
    good, bad, last = stgr.read_stgr(path)
    assert (good.id, bad.number, last.id) == ("r1", 2, "r3") and "not JSON" in bad.reason


@pytest.mark.parametrize(("text", "count"), [("[]", 0), ("[ \n ]", 0), ("[", 1), ("{}\n", 1)])
def test_short_files(tmp_path, text, count):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    read = list(stgr.read_stgr(path))
    assert len(read) == count and all(isinstance(row, BadRow) for row in read)


@pytest.mark.parametrize("text", ["", "rows", '"[]"'])
def test_a_file_of_another_format_is_an_error(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"rows\.json: expected"):
        list(stgr.read_stgr(path))


def test_reading_and_writing_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    rows = [ROW, ROW | {"id": "r1", "question": "Où?", "reasoning_process": None}]
    stgr.write_stgr(first, [Example.from_row(r) for r in rows])
    assert stgr.write_stgr(second, stgr.read_stgr(first)) == 2
    assert first.read_bytes() == second.read_bytes()
    back = json.loads(first.read_text(encoding="utf-8"))
    assert back[0] == ROW and back[1] == {k: v for k, v in rows[1].items() if v or k != "reasoning_process"}


def temporal(span, **change):
    example = Example.from_row(ROW | {"task": "temporal QA", "answer": span, "source": "TVG_x"})
    return replace(example, key_frames=(), **change)


def test_filters_by_source():
    assert temporal("[2.0, 9.0]").span_s == (2.0, 9.0)
    assert replace(temporal("B\n[2.0, 9.0]"), task=Task.TEMPORAL_MCQ).span_s == (2.0, 9.0)
    assert stgr.short_span(temporal("[2.0, 8.9]"), 10.0) and not stgr.short_span(temporal("[2.0, 9.0]"), 10.0)
    assert stgr.short_action(temporal("[2.0, 7.0]"), 10.0) and not stgr.short_action(temporal("[2.0, 7.1]"), 10.0)
    assert stgr.short_reasoning(temporal("[0, 1]", reasoning_process="x" * 5_999))
    assert not stgr.short_reasoning(temporal("[0, 1]", reasoning_process="x" * 6_000))
    assert [stgr.fitting_length(s) for s in (9.9, 10.0, 180.0, 180.1)] == [False, True, True, False]


def test_a_sample_keeps_the_order_and_is_reproducible():
    rows = [temporal("[0, 1]", id=str(n)) for n in range(1_000)]
    drawn = stgr.draw_sample(iter(rows), 100, seed=1)
    ids = [int(e.id) for e in drawn]
    assert ids == sorted(set(ids)) and len(ids) == 100 and stgr.draw_sample(rows, 100, seed=1) == drawn
    assert 400 < sum(ids) / 100 < 600
    assert stgr.draw_sample(rows[:5], 100, seed=1) == rows[:5]


def test_coordinate_space():
    def space(text, **change):
        return stgr.coordinate_space(temporal("[0, 1]", reasoning_process=text, **change))

    assert space("no box") == "none"
    assert space("<box>[0.1,0.2,0.5,0.9]</box>") == "0–1"
    assert space("<box>[10,20,50,90]</box>", image_size_wh=(100, 100)) == "pixels"
    assert space("<box>[10,20,50,190]</box>", image_size_wh=(100, 100)) == "beyond the picture"
