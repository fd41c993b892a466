"""Annotation files of other benchmarks in their documented schema, good and bad rows, and the scores of responses."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from o3v.evaluation.benchmark_scores import benchmark_comparison, benchmark_report, read_answered_span, read_choice
from o3v.evaluation.benchmarks import BENCHMARKS, read_benchmark

OPTIONS = ["A. red", "B. blue", "C. green", "D. white"]
LISTED = "What colour?\nA. red\nB. blue\nC. green\nD. white"
TVG = {"path": "v/1.mp4", "question": "a man sits", "answer": "1.0-7.5", "start": 1.0, "end": 7.5, "duration": 30.0}
TVG |= {"question_type": "grounding", "dataset_name": "x", "qsemtype": "action"}
CHARADES = {"OHOFG": {"duration": 35.04, "timestamps": [[22.3, 33.0], [1.0, 4.0]], "sentences": ["a cup", "a door"]}}
TIMELENS = {"OHOFG": {"duration": 35.04, "spans": [[22.3, 33.0], [1.0, 4.0]], "queries": ["a cup", "a door"]}}
MME = {"video_id": "001", "duration": "short", "domain": "Life", "sub_category": "x", "url": "u", "videoID": "abc"}
MME |= {"question_id": "001-1", "task_type": "Counting", "question": "What colour?", "options": OPTIONS, "answer": "C"}
SENSE = {"video": "abc", "question": "What colour?", "candidates": str(OPTIONS), "answer": "C"}
MMMU = {"id": "dev_Art_1", "question": "What colour?", "options": ["red", "blue"], "answer": "B"}
MMMU |= {"question_type": "multiple-choice"}
LONG = {"problem_id": 7, "problem": LISTED, "problem_type": "goal", "videos": "longvila_videos/a.mp4"}
LONG |= {"data_type": "video", "reasoning": "so", "answer": "<answer>C</answer>"}


def write(path, rows):
    match path.suffix:
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".tsv":
            with path.open("w", newline="") as file:
                table = csv.DictWriter(file, list(rows[0]), delimiter="\t")
                table.writeheader()
                table.writerows(rows)
        case _:
            path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("name", "ending", "rows", "expected"),
    [
        ("tvgbench", "json", [TVG], ("v/1.mp4/a man sits", "v/1.mp4", "a man sits", "", (1.0, 7.5), "", "action")),
        ("tvgbench", "jsonl", [{k: v for k, v in TVG.items() if k not in ("start", "end")}], None),
        ("charades-sta", "json", CHARADES, ("OHOFG/0", "OHOFG.mp4", "a cup", "", (22.3, 33.0), "", "")),
        ("charades-timelens", "json", TIMELENS, ("OHOFG/0", "OHOFG.mp4", "a cup", "", (22.3, 33.0), "", "")),
        ("videomme", "parquet", [MME], ("001-1", "abc.mp4", LISTED, "C", None, "ABCD", "short")),
        ("worldsense", "tsv", [SENSE], ("abc/What colour?", "abc.mp4", LISTED, "C", None, "ABCD", "")),
        ("videommmu", "parquet", [MMMU], ("dev_Art_1", "dev_Art_1.mp4", None, "B", None, "AB", "multiple-choice")),
        ("longvideo-reason", "json", [LONG], ("7", "longvila_videos/a.mp4", LISTED, "C", None, "ABCD", "goal")),
    ],
)
def test_rows_in_the_documented_schema(tmp_path, name, ending, rows, expected):
    items, problems = read_benchmark(name, write(tmp_path / f"a.{ending}", rows))
    assert problems == []
    item = items[0]
    found = (item.key, item.video, item.question, item.answer, item.span_s, item.letters, item.group)
    if expected is None:  # the span as text only
        assert item.span_s == (1.0, 7.5)
    else:
        assert all(want in (None, got) or want == got for got, want in zip(found, expected, strict=True))


def test_charades_own_lines(tmp_path):
    path = tmp_path / "charades_sta_test.txt"
    path.write_text("3MSZA 24.3 30.4##person turn a light on.\n3MSZA 31.0 25.0##inverted.\nbroken\n")
    items, problems = read_benchmark("charades-sta", path)
    assert [(item.video, item.question, item.span_s) for item in items] == [
        ("3MSZA.mp4", "person turn a light on.", (24.3, 30.4))
    ]
    assert [problem.split(":")[0] for problem in problems] == ["row 2", "row 3"]
    assert "inverted or empty span" in problems[0]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("tvgbench", {"start": 7.5, "end": 1.0}, "inverted or empty span"),
        ("tvgbench", {"start": 1.0, "end": 1.0}, "inverted or empty span"),
        ("tvgbench", {"start": None}, "are"),
        ("tvgbench", {"start": float("nan")}, "must be a span"),
        ("tvgbench", {"start": -1.0}, "inverted or empty"),
        ("tvgbench", {"start": 31.0, "end": 33.0}, "after the end of the video at 30.0 s"),
        ("tvgbench", {"question": " "}, "field 'question' must be a text"),
        ("tvgbench", {"path": 3}, "field 'path' must be a text"),
        ("videomme", {"options": "A"}, "field 'options' must be a list of at least two options"),
        ("videomme", {"options": ["A. red"]}, "at least two options"),
        ("videomme", {"answer": "E"}, "'E', none of the letters ABCD"),
        ("videomme", {"answer": None}, "field 'answer' must be a text"),
        ("videomme", {"videoID": None}, "field 'videoID'"),
        ("worldsense", {"candidates": "['A. red', "}, "field 'candidates' must be a list"),
        ("worldsense", {"candidates": "[" * 5_000}, "field 'candidates' must be a list"),
        ("videommmu", {"answer": "C"}, "'C', none of the letters AB"),
        ("longvideo-reason", {"problem": "Who is it?"}, "none of the options '' in the problem"),
        ("longvideo-reason", {"answer": "<answer>E</answer>"}, "'E', none of the options 'ABCD'"),
    ],
)
def test_a_bad_row_is_named_and_left_out(tmp_path, name, change, reason):
    good = {"tvgbench": TVG, "videomme": MME, "worldsense": SENSE, "videommmu": MMMU, "longvideo-reason": LONG}[name]
    items, problems = read_benchmark(name, write(tmp_path / "a.json", [good, good | change, {}, 7]))
    assert len(items) == 1 and [problem.split(":")[0] for problem in problems] == ["row 2", "row 3", "row 4"]
    assert reason in problems[0]


def test_a_bad_sentence_leaves_the_others_of_its_video(tmp_path):
    spans = [[3.0, 1.0], [1.0, 4.0], [40.0, 41.0]]
    row = {"duration": 35.0, "spans": spans, "queries": ["a", "b", "c"]}
    short = row | {"spans": [[1.0, 2.0]]}
    items, problems = read_benchmark("charades-timelens", write(tmp_path / "a.json", {"A": row, "B": short, "C": []}))
    assert [(item.key, item.span_s) for item in items] == [("A/1", (1.0, 4.0))]
    assert problems[0].startswith("row 1: A: field 'spans[0]' is [3.0, 1.0], an inverted") and len(problems) == 4


def test_equal_questions_keep_different_keys(tmp_path):
    items, _ = read_benchmark("tvgbench", write(tmp_path / "a.json", [TVG, TVG | {"start": 2.0}]))
    assert len({item.key for item in items}) == 2


@pytest.mark.parametrize(
    ("name", "file", "text", "error"),
    [
        ("mme", "a.json", "[]", "benchmark 'mme' is none of vstar, tvgbench"),
        ("videomme", "a.xlsx", "", "the ending is none of .json"),
        ("videomme", "a.json", "[", "is not JSON"),
        ("videomme", "a.parquet", "no", r"a\.parquet"),
        ("videomme", "a.json", "[]", "it is empty"),
        ("videomme", "a.json", "[{}]", "holds no row of videomme: row 1"),
        ("worldsense", "a.tsv", "x\ty\n1\t2\n", "holds no row of worldsense"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error(tmp_path, name, file, text, error):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=error):
        read_benchmark(name, tmp_path / file)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("<think>A or B</think><answer>B</answer>", "B"),
        ("(b)", None),
        ("B.", "B"),
        ("Correct Option: D", "D"),
        ("The answer is A.", "A"),
        ("The answer is a cat", None),
        ("The correct option is (c), because of the light.", "C"),
        ("\\boxed{D}", "D"),
        ("B. a blue car", "B"),
        ("It is (A)", "A"),
        ("(A) or (B)", None),
        ("E", None),
        ("", None),
    ],
)
def test_the_option_that_a_response_names(response, letter):
    assert read_choice(response, "ABCD") == letter


@pytest.mark.parametrize(
    ("response", "span"),
    [
        ("<think>x</think><answer>From <t>1.5</t>s to <t>4.0</t>s</answer>", (1.5, 4.0)),
        ("The event happens in the 24.3 - 30.4 seconds.", (24.3, 30.4)),
        ("0:10 to 0:12", (10.0, 12.0)),
        ("at 3 s", None),
        ("50% to 60%", None),
        ("", None),
    ],
)
def test_the_span_of_a_response(response, span):
    assert read_answered_span(response) == span


def test_spans_are_scored_by_hand_and_every_finding_is_named(tmp_path):
    rows = [TVG | {"path": name, "qsemtype": kind} for name, kind in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))]
    items, _ = read_benchmark("tvgbench", write(tmp_path / "a.json", rows))  # spans 1–7.5 s
    keys = [item.key for item in items]
    predictions = [
        {"key": keys[0], "response": "1 to 7.5 s"},
        {"key": keys[1], "response": "1 to 14 s"},
        {"key": keys[2], "response": "no idea"},
        {"key": keys[0], "response": "0 to 1 s"},
        {"key": "z", "response": ""},
        {"key": keys[3]},
        "text",
    ]
    report = benchmark_report(items, predictions)
    overall = {name: metric["value"] for name, metric in report["overall"].items()}
    assert overall == {"miou": pytest.approx(1.5 / 4), "r1@0.3": 0.5, "r1@0.5": 0.5, "r1@0.7": 0.25}
    assert report["by_group"]["x"]["miou"]["value"] == 0.75 and report["by_group"]["y"]["miou"]["items"] == 2
    numbers = {kind: found["number"] for kind, found in report["findings"].items()}
    assert numbers == {"unreadable": 2, "unknown": 1, "duplicate": 1, "missing": 1, "unparsed": 1}
    assert report["overall"]["miou"]["low"] < 0.375 < report["overall"]["miou"]["high"]
    json.dumps(report, allow_nan=False)


def test_choices_and_open_answers_are_scored(tmp_path):
    open_question = MMMU | {"id": "x_1", "options": [], "answer": "42", "question_type": "open"}
    items, _ = read_benchmark("videommmu", write(tmp_path / "a.json", [MMMU, open_question]))
    predictions = [{"key": "dev_Art_1", "response": "B"}, {"key": "x_1", "response": "It is 42."}]
    report = benchmark_report(items, predictions)
    assert report["overall"]["accuracy"]["value"] == 1.0 and set(report["by_group"]) == {"multiple-choice", "open"}
    worse = [{"key": "dev_Art_1", "response": "A"}, {"key": "x_1", "response": "41"}]
    found = benchmark_comparison(items, predictions, worse)
    assert found["worse"] == ["accuracy"] and found["differences"]["accuracy"]["verdict"] == "worse"
    assert benchmark_comparison(items, worse, predictions)["worse"] == []


def test_every_benchmark_of_the_papers_table_2_is_there():
    assert {"videomme", "worldsense", "videommmu", "longvideo-reason", "tvgbench"} <= BENCHMARKS.keys()
