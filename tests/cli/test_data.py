"""Tests of `o3v sift`, `score`, `annotate` (also killed and run again) and `ask`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.annotation_server import Server

from o3v.__main__ import main
from o3v.data import annotation, stgr
from o3v.data.root import read_split
from o3v.data.sources import SOURCES
from o3v.schema import Example, KeyFrame, Task
from o3v.toyworld.writing import write_video

ANNOTATION = {  # consistent, so the filters keep it
    "question": "Who comes?",
    "answer": "The man",
    "key_frames": [{"at": 0.5, "objects": [{"name": "man", "box": [0.1, 0.2, 0.5, 0.9]}]}],
    "reasoning": "The <obj>man</obj><box>[0.1,0.2,0.5,0.9]</box>at<t>0.5</t>s comes.",
}
NUM_VIDEOS, WORKERS = 40, 2


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "00.mp4", np.full((10, 56, 56, 3), 90, np.uint8), fps=10)
    for n in range(1, NUM_VIDEOS):
        (folder / f"{n:02d}.mp4").write_bytes((folder / "00.mp4").read_bytes())
    return folder


def command(videos, out, url):
    options = ["--annotator", "openai", "--model", "m", "--endpoint", f"{url}/v1", "--workers", str(WORKERS)]
    return [sys.executable, "-m", "o3v", "annotate", str(videos), str(out), *options, "--per-minute", "6000"]


def test_a_run_killed_ten_times_repeats_no_answered_request(videos, tmp_path):
    """Kills the command after random numbers of requests, and while it filters the answers."""
    (videos / ".00-unfinished.mp4").write_bytes(b"")  # hidden files are skipped
    server = Server(delay_s=0.05, text=json.dumps(ANNOTATION))
    out, rng = tmp_path / "out", np.random.default_rng(0)
    stages = ["", "", "", "", "", "", "", "rows.jsonl", "in-*", "out-*"]
    for appears in stages:
        running = subprocess.Popen(
            command(videos, out, server.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        enough = len(server.requests) + int(rng.integers(1, 8))
        while running.poll() is None and not (any(out.glob(appears)) if appears else len(server.requests) >= enough):
            time.sleep(0.002)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL  # it had not finished
        answers = list((out / "answers").glob("[!.]*.json"))  # unfinished ones are hidden
    assert len(answers) == NUM_VIDEOS
    num_requests = len(server.requests)
    output = subprocess.run(command(videos, out, server.url), capture_output=True, text=True, check=True).stdout
    assert len(server.requests) == num_requests
    assert re.search(rf"\b0 requests .* {NUM_VIDEOS} answers", output)
    whole = tmp_path / "whole"
    subprocess.run(command(videos, whole, server.url), capture_output=True, check=True)
    assert len(server.requests) - num_requests == NUM_VIDEOS
    assert num_requests - NUM_VIDEOS <= WORKERS * len(stages)  # requests without an answer when killed
    for name in ("kept.json", "audit.json", "rows.jsonl", "unread.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    rows = list(stgr.read_stgr(out / "kept.json", sources=lambda _: True))
    assert len(rows) == NUM_VIDEOS and all(isinstance(row, Example) for row in rows)


def test_annotate_counts_every_video(tmp_path, monkeypatch, capsys):
    """A reply is invalid, a name is not UTF-8, and a row is valid but cannot be read back."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    write_video(videos / "a.mp4", np.zeros((20, 56, 56, 3), np.uint8), fps=10)
    shutil.copy(videos / "a.mp4", os.fsencode(videos) + b"/caf\xe9.mp4")
    server = Server(text=json.dumps(ANNOTATION | {"key_frames": [{"at": 0.5, "objects": []}]}))
    arguments = ["annotate", str(videos), str(out), "--annotator", "openai", "--model", "m", "--endpoint", server.url]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "0 rows, 1 invalid answers" in output and "video left out: caf\\xe9.mp4" in output
    empty = KeyFrame(5, 0.5)
    row = Example("a", Task.SPATIO_TEMPORAL, "own", "Who?", "He", video_path="a.mp4", key_frames=(empty,))
    monkeypatch.setattr(annotation, "read_annotations", lambda answers: ([row for _ in answers], []))
    assert main(arguments) == 0
    assert "1 rows could not be read, the first: " in capsys.readouterr().out


def test_annotations_are_added_to_a_data_root(tmp_path, capsys):
    videos, root = tmp_path / "videos", tmp_path / "root"
    write_video(videos / "sub/a.mp4", np.zeros((20, 56, 56, 3), np.uint8), fps=10)
    server = Server(text=json.dumps(ANNOTATION))
    arguments = ["annotate", str(videos), str(tmp_path / "out"), "--annotator", "openai", "--model", "m"]
    arguments += ["--endpoint", f"{server.url}/v1", "--add-to", str(root)]
    assert main(arguments) == 2 and not server.requests  # there is no data root yet
    assert "STGR" in capsys.readouterr().err
    for split in ("SFT", "RL"):
        stgr.write_stgr(root / f"json_data/STGR-{split}.json", [])
    assert main(arguments) == main(arguments) == 0
    (row,) = read_split(root, "sft")
    assert (row.source, row.video_path) == ("own", "videos/own/sub/a.mp4")
    assert main(["check-data", str(root)]) == 0
    assert (videos / "sub/a.mp4").is_file()


def test_sift_keeps_the_consistent_rows_of_a_file(tmp_path, capsys):
    row = {
        "task": "temporal-spatial free-form QA",
        "source": "STR_coin",
        "question": "Where?",
        "answer": "Here",
        "video_path": "a.mp4",
        "key_frames": [{"idx": 5, "time": 0.5, "path": None}],
        "key_items": {"5": {"man": [[0.1, 0.2, 0.5, 0.9]]}},
        "reasoning_process": ANNOTATION["reasoning"],
    }
    rows = [row | {"id": f"r{n}"} for n in range(6)]
    rows[2] |= {"reasoning_process": "I see nothing."}
    rows[4] |= {"question": ""}
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["sift", str(tmp_path / "rows.json"), str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "1 rows could not be read" in output and "4 rows kept" in output and "no evidence" in output
    assert [e.id for e in stgr.read_stgr(tmp_path / "out/kept.json")] == ["r0", "r1", "r3", "r5"]


def test_sift_with_a_judge_reads_the_videos_of_a_data_root(tmp_path, capsys, monkeypatch):
    """The judge is a function of the crop; each row is in the folder that its source has in the STGR files."""
    from o3v.models.crop_judge import LazyCropJudge

    asked = []

    def is_bright(judge, crops, questions):
        asked.append((judge.model, questions))
        return [crop.mean() > 128 for crop in crops]

    monkeypatch.setattr(LazyCropJudge, "__call__", is_bright)
    row = {"task": "temporal-spatial free-form QA", "source": "STR_coin", "question": "Where?", "answer": "Here"}
    row |= {"key_frames": [{"idx": 5, "time": 0.5, "path": None}], "reasoning_process": ANNOTATION["reasoning"]}
    row |= {"key_items": {"5": {"man": [[0.1, 0.2, 0.5, 0.9]]}}}
    rows = [row | {"id": name, "video_path": f"{name}.mp4"} for name in ("dark", "bright")]
    root, out = tmp_path / "root", tmp_path / "out"
    folder = root / "videos" / next(source.folder for source in SOURCES if source.fits("STR_coin"))
    folder.mkdir(parents=True)
    for name, grey in (("dark", 20), ("bright", 220)):
        write_video(folder / f"{name}.mp4", np.full((10, 56, 56, 3), grey, np.uint8), fps=10)
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    judge = ["--judge", "organisation/model", "--workers", "1"]
    arguments = ["sift", str(tmp_path / "rows.json"), str(out), *judge]
    assert main(arguments) == 2 and "--data" in capsys.readouterr().err and not out.exists()
    assert main([*arguments, "--data", str(root)]) == 0
    assert [e.id for e in stgr.read_stgr(out / "kept.json")] == ["bright"]
    assert asked[0][0] == "organisation/model" and "man" in asked[0][1][0]
    assert "0 rows kept" not in capsys.readouterr().out


def test_score_prints_means_and_writes_the_terms(tmp_path, capsys):
    row = {"task": "General video QA MCQ", "answer": "B"}
    lines = [
        {"completion": "<think>So.</think><answer>B</answer>", "row": row},
        {"response": "<think>So.</think><answer>C</answer>", "row": row, "progress": 0.5},
    ]
    path = tmp_path / "completions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["score", str(path), "--out", str(tmp_path / "scores.jsonl")]) == 0
    header, task, problems = capsys.readouterr().out.strip().splitlines()
    assert problems == "completions with format problems: none"
    assert task.startswith(row["task"]) and header.split()[:3] == ["task", "n", "ans_acc"]
    assert task.removeprefix(row["task"]).split()[:2] == ["2", "0.500"]
    first, second = map(json.loads, (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["total"], second["total"]) == (2.0, 1.0)


@pytest.mark.parametrize("line", ["[]", '{"row": {}}', '{"completion": "a", "row": {"task": "x"}}', "{"])
def test_a_line_that_cannot_be_scored_raises_an_error_with_its_number(line, tmp_path, capsys):
    (tmp_path / "completions.jsonl").write_text(line, encoding="utf-8")
    assert main(["score", str(tmp_path / "completions.jsonl")]) == 2
    assert "completions.jsonl, line 1: " in capsys.readouterr().err


def test_a_line_that_cannot_be_scored_does_not_affect_the_others(tmp_path, capsys):
    """A separator inside a text, a completion that only closes its thinking, and bad lines between them."""
    row = {"task": "General video QA MCQ", "answer": "B"}
    good = {"completion": "He reads:\u2028the sign.\x85</think><answer>B</answer>", "row": row}
    bad = [{"completion": "a", "row": row | {"answer": "the red one"}}, {"row": row}, [], {"completion": 7, "row": row}]
    lines = [json.dumps(line, ensure_ascii=False) for line in (good, *bad, good)]
    path = tmp_path / "completions.jsonl"
    path.write_text("\n".join([*lines, "{", "[" * 100_000]), encoding="utf-8")
    assert main(["score", str(path), "--out", str(tmp_path / "scores.jsonl")]) == 1
    out = capsys.readouterr().out
    assert [json.loads(x)["total"] for x in (tmp_path / "scores.jsonl").read_text().split("\n")[:-1]] == [2.0, 2.0]
    assert [f"line {number}: " in out for number in range(1, 9)] == [False, True, True, True, True, False, True, True]


@pytest.mark.parametrize("arguments", [["sift", "nowhere.json", "out"], ["annotate", "nowhere", "out"]])
def test_a_missing_input_gives_one_line_and_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_ask_writes_a_page_and_says_that_its_model_is_the_toy_one(twin, world, tmp_path, capsys):
    from o3v import models

    models.save(twin, tmp_path / "model")
    path = next((world / "videos").rglob("*.mp4"))
    page = tmp_path / "page.html"
    arguments = ["ask", str(path), "What <b>happens</b>?", "--model", str(tmp_path / "model"), "--profile", "smoke"]
    assert main([*arguments, "--out", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    assert "What &lt;b&gt;happens" in html and "<b>happens" not in html
    assert html.count("<figure") == 12 and "knows coloured shapes only" in html
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("This is the toy model.") and "--model FOLDER" in first
    assert html.index("This is the toy model.") < html.index("<figure")


@pytest.mark.parametrize(
    ("question", "name", "message"),
    [
        (" ", "", "the question is empty"),
        ("x" * 100_000, "", "100,000 characters; at most 4,000"),
        ("What?", "broken.mp4", "broken.mp4"),
        ("What?", "absent.mp4", "absent.mp4"),
    ],
)
def test_ask_reports_wrong_input_in_one_line_and_writes_nothing(twin, world, tmp_path, capsys, question, name, message):
    from o3v import models

    models.save(twin, tmp_path / "model")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    path = tmp_path / name if name else next((world / "videos").rglob("*.mp4"))
    page = tmp_path / "page.html"
    arguments = ["ask", str(path), question, "--model", str(tmp_path / "model"), "--profile", "smoke"]
    capsys.readouterr()
    assert main([*arguments, "--out", str(page)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not page.exists()
