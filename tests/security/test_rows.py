"""Rows: whatever stands in one, the others are kept, and nothing takes more than its size deserves."""

import json
import subprocess
import sys
import time

import pytest
from helpers.outside import evidence_row, mcq_row, write_rows

from o3v import files
from o3v.__main__ import main
from o3v.data import annotation, sharding, stgr
from o3v.data.annotation import AnnotationItem
from o3v.schema import Example

DEEP = '{"id": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}"
ODD = {
    "long integer": json.dumps(mcq_row("x")).replace('"id": "x"', '"id": ' + "9" * 400),
    "endless integer": json.dumps(mcq_row("x")).replace('"id": "x"', '"id": ' + "9" * 5_000),
    "long index": json.dumps(evidence_row("x")).replace('"idx": 10', '"idx": ' + "9" * 400),
    "long time": json.dumps(evidence_row("x")).replace('"time": 1.0', '"time": ' + "9" * 400),
    "long box": json.dumps(evidence_row("x")).replace("0.3, 0.4", "9" * 400 + ", 1"),
    "exponent": json.dumps(evidence_row("x")).replace("0.3, 0.4", "1e999, 1"),
    "not a number": json.dumps(evidence_row("x")).replace("0.3, 0.4", "NaN, 1"),
    "depth": DEEP,
    "surrogate in the question": json.dumps(mcq_row("x") | {"question": "Which \ud83d?"}),
    "surrogate in the id": json.dumps(mcq_row("\ud83dx")),
    "surrogate in the task": json.dumps(mcq_row("x") | {"task": "\ud83d"}),
    "surrogate in a name": json.dumps(evidence_row("x")).replace('"cup"', '"\\ud83dcup"'),
    "surrogate in a key": json.dumps(evidence_row("x")).replace('"10":', '"\\ud83d":'),
    "long component": json.dumps(mcq_row("x") | {"video_path": "a/" + "y" * 300 + ".mp4"}),
    "loop": json.dumps(mcq_row("x") | {"video_path": "loop/a.mp4"}),
    "zero byte": json.dumps(mcq_row("x") | {"video_path": "a\0.mp4"}),
    "text chunk": json.dumps(mcq_row("x") | {"video_path": "bomb.png", "question": "x" * 200_000}),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("lines", [False, True])
def test_every_odd_row_costs_only_itself(tmp_path, lines, capsys):
    """One file with all of them: check-data and sift keep the two good rows, and name the others."""
    root = tmp_path / "root"
    texts = [json.dumps(mcq_row("first")), *ODD.values(), json.dumps(evidence_row("last"))]
    write_rows(root / "rows.json", texts)
    if lines:
        (root / "rows.json").write_text("\n".join(texts), encoding="utf-8")
    (root / "loop").symlink_to("loop")
    read = list(stgr.read_stgr(root / "rows.json"))
    assert len(read) == len(texts)
    assert [row.id for row in (read[0], read[-1]) if isinstance(row, Example)] == ["first", "last"]
    assert main(["check-data", str(root), "--workers", "1"]) == 1
    assert "bad row" in capsys.readouterr().out
    assert main(["sift", str(root / "rows.json"), str(tmp_path / "out"), "--workers", "1"]) == 0
    kept = [e.id for e in stgr.read_stgr(tmp_path / "out/kept.json")]
    assert kept[0] == "first" and kept[-1] == "last"
    faults = list(files.read_jsonl(tmp_path / "out/in/faults.jsonl"))
    assert len(faults) + len(kept) == len(texts)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["} " + " " * 40_000, "}" * 50_000, "}," * 40_000, "} ," + "\n" * 100_000])
def test_a_broken_row_with_many_spaces_is_found_quickly(tmp_path, text):
    """40,000 spaces took 12 s."""
    path = tmp_path / "rows.json"
    path.write_text('[{"id": "a" x' + text + "{1}", encoding="utf-8")
    start_s = time.process_time()
    rows = list(stgr.read_stgr(path))
    assert time.process_time() - start_s < 1
    assert not [row for row in rows if isinstance(row, Example)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ['{"x":[{"y":1}, ', '}\n{"', '}, {"a":[', '},{"a":{"b":{"c":1}', '{"a":', '"', "[],", "9"]
)
def test_a_file_of_broken_rows_takes_time_in_proportion(tmp_path, piece):
    """Rows without an end were read again from each place where one could begin."""
    path, seconds = tmp_path / "rows.json", []
    for size in (100_000, 400_000):
        path.write_text("[" + (piece * size)[:size], encoding="utf-8")
        start_s = time.process_time()
        assert not [row for row in stgr.read_stgr(path) if isinstance(row, Example)]
        seconds.append(time.process_time() - start_s)
    assert seconds[0] < 1 and seconds[1] < 4


LONG_LINE = """
import re, sys
from pathlib import Path
from o3v import files
from o3v.data import stgr
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before, errors = peak(), []
rows = [number for number, _ in files.read_jsonl(sys.argv[1], errors)] if sys.argv[2] == "jsonl" else [
    getattr(row, "number", row.id) for row in stgr.read_stgr(sys.argv[1])]
print(rows, len(errors), peak() - before)
"""


@pytest.mark.parametrize("reader", ["jsonl", "lines", "list"])
def test_a_line_of_200_mb_costs_only_itself(tmp_path, reader):
    """It took 620 MB, and in a list all rows after it were lost."""
    path, rows = tmp_path / "rows.json", [json.dumps(mcq_row(name)) for name in ("a", "b")]
    with path.open("w", encoding="utf-8") as file:
        file.write(("[" if reader == "list" else "") + rows[0] + (",\n" if reader == "list" else "\n"))
        file.write('{"id": "')
        for _ in range(200):
            file.write("x" * 1_000_000)
        file.write('"}' + (",\n" if reader == "list" else "\n") + rows[1] + ("]" if reader == "list" else ""))
    command = [sys.executable, "-c", LONG_LINE, str(path), reader]
    found, megabytes = subprocess.check_output(command, text=True).strip().rsplit(" ", 1)
    assert found == {"jsonl": "[1, 3] 1", "lines": "['a', 2, 'b'] 0", "list": "['a', 2, 'b'] 0"}[reader]
    assert int(megabytes) < 100


ITEM = AnnotationItem("x", "own", "a.mp4", 10.0, 10.0)
REPLIES = [
    '{"question": "?", "answer": "a", "reasoning": "r", "key_frames": [{"at": ' + "9" * 400 + ', "objects": []}]}',
    '{"question": "?", "answer": "a", "reasoning": "r", "key_frames": [{"at": 1, "objects": [{"name": "c", "box": ['
    + ", ".join(["9" * 5_000] * 4)
    + "]}]}]}",
    '{"question": "\\ud83d", "answer": "a", "reasoning": "r", "key_frames": []}',
    '{"question": "?", "answer": "</answer>", "reasoning": "r", "key_frames": []}',
    '{"question": "?", "answer": "a", "reasoning": "<t>' + "9" * 400 + '</t>", "key_frames": []}',
    DEEP,
    '{"a": ' * 50_000,
    "[" * 100_000,
    "",
    "\ud83d",
    '{"question": NaN, "answer": Infinity, "reasoning": -Infinity, "key_frames": 1e999}',
]


@pytest.mark.parametrize("kind", ["segment", "regions"])
def test_a_paid_answer_of_any_form_ends_nothing(kind):
    """It was stored before it was read, so that every rerun ended at it."""
    item = AnnotationItem("x", "own", "a.mp4", 10.0, 10.0, kind=kind)
    good = json.dumps({"question": "?", "answer": "a", "reasoning": "r", "key_frames": []})
    examples, dropped = annotation.read_annotations([(item, text) for text in [*REPLIES, good]])
    assert len(examples) == 2 and len(dropped) == len(REPLIES) - 1  # a claimed time of 400 digits is a malformed text
    assert all(row.id == "x" and row.detail for row in dropped)


def test_shards_of_another_file_are_never_returned(tmp_path, capsys):
    """After `out/in` was removed, as the error advises, the next run returned the rows of the old file."""
    out = str(tmp_path / "out")
    for name in ("old", "new"):
        write_rows(tmp_path / f"{name}.json", [mcq_row(name), evidence_row(name + "2")])
    assert main(["sift", str(tmp_path / "old.json"), out, "--workers", "1"]) == 0
    assert main(["sift", str(tmp_path / "new.json"), out, "--workers", "1"]) == 2
    assert "holds shards of another file" in capsys.readouterr().err
    for path in (tmp_path / "out/in").iterdir():
        path.unlink()
    assert main(["sift", str(tmp_path / "new.json"), out, "--workers", "1"]) == 0
    assert [e.id for e in stgr.read_stgr(tmp_path / "out/kept.json")] == ["new", "new2"]


def test_a_changed_shard_or_result_or_stage_is_filtered_again(tmp_path):
    source = write_rows(tmp_path / "rows.json", [evidence_row("a"), evidence_row("b") | {"reasoning_process": "no"}])
    shards = sharding.split_into_shards(source, tmp_path / "in")
    stages = sharding.filters.MODEL_FREE_STAGES
    some = {"large boxes": stages["large boxes"]}
    out = tmp_path / "out"
    assert [r["kept"] for r in sharding.filter_shards(shards, out, stages, workers=1)] == [1]
    assert [r["kept"] for r in sharding.filter_shards(shards, out, some, workers=1)] == [2]
    assert [r["kept"] for r in sharding.filter_shards(shards, out, stages, workers=1)] == [1]
    (out / "part-00000.parquet").write_bytes(b"damaged")
    assert [r["kept"] for r in sharding.filter_shards(shards, out, stages, workers=1)] == [1]
    assert [e.id for e in sharding.read_shard(out / "part-00000.parquet")] == ["a"]
    sharding.write_shard(shards[0], sharding.read_shard(shards[0])[:1] * 3)
    assert [r["rows"] for r in sharding.filter_shards(shards, out, stages, workers=1)] == [3]
    (tmp_path / "in/cut.json").write_text("{")
    assert sharding.split_into_shards(source, tmp_path / "in") == shards


@pytest.mark.parametrize("progress", ["NaN", "Infinity", "-0.1", "1.1", "true", '"1"', "null", "1" * 400])
@pytest.mark.parametrize("task", ["mcq", "evidence"])
def test_an_impossible_progress_is_named(tmp_path, capsys, progress, task):
    """NaN was accepted where the task has no term that depends on it."""
    row = mcq_row("a") if task == "mcq" else evidence_row("a") | {"image_size": [168, 84]}
    line = json.dumps({"completion": "<think>a</think><answer>B</answer>", "row": row})
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\n" + line[:-1] + f', "progress": {progress}}}\n', encoding="utf-8")
    assert main(["score", str(path)]) == 1
    assert "line 2: no valid completion and row: ValueError(\"field 'progress' is" in capsys.readouterr().out


def test_an_impossible_progress_of_the_command_is_named(tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"completion": "x", "row": mcq_row("a")}), encoding="utf-8")
    assert main(["score", str(path), "--progress", "nan"]) == 2
    assert "field 'progress' is nan" in capsys.readouterr().err
