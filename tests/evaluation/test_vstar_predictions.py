"""Files of predictions: whatever is wrong with them is counted and named, and the rest is scored."""

import json
import math

import pytest
from helpers.vstar_rows import RESULTS, RIGHT, golden, old_schema, without_results

from o3v.evaluation.vstar import score_each, score_items
from o3v.evaluation.vstar_predictions import read_predictions
from o3v.schema import SchemaError

ITEMS = [without_results(RIGHT | {"vid": f"{name}.mp4"}) for name in "abcdef"]


def results_of(vid, **changes):
    return {"vid": vid, "question": RIGHT["question"], **{name: RIGHT[name] for name in RESULTS}, **changes}


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def test_a_file_that_is_no_list_and_one_without_truth_are_errors(tmp_path):
    with pytest.raises(SchemaError, match=r"p\.json: expected a JSON list"):
        read_predictions(write(tmp_path / "p.json", {"a": 1}), ITEMS)
    with pytest.raises(ValueError, match=r"p\.json holds no predictions with their ground truth; .*--items"):
        read_predictions(write(tmp_path / "p.json", [results_of("a.mp4")]))
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "none.json", ITEMS)


@pytest.mark.parametrize("protocol", ["official", "strict"])
def test_everything_that_is_wrong_is_in_one_report(tmp_path, protocol):
    rows = [
        results_of("a.mp4", reward=1.0, notes="x"),
        results_of("a.mp4", answer_vqa="a second answer"),
        results_of("b.mp4", answer_temporal=["0", "5"], answer_spatial={"1": [math.nan, 0, 10, 10]}),
        results_of("c.mp4", answer_spatial="[0, 0, 10, 10]", answer_vqa=["a cup"]),
        results_of("d.mp4", answer_spatial={"1": [0, 0, 10, 10], "7": [0, 0, 10, 10], "8.0": [0, 0, 1, 1]}),
        results_of("e.mp4", timestamps=[1.0, 10.0]),
        results_of("z.mp4"),
        ["no object"],
        {"question": "no vid"},
    ]
    found = read_predictions(write(tmp_path / "p.json", rows), ITEMS)
    findings = found.findings
    assert findings["extra keys"] == ["'notes' in 1 rows", "'reward' in 1 rows"]
    assert findings["duplicate"] == ["a.mp4: 'What falls?'"] and found.rows[0]["answer_vqa"] == "A cup."
    assert findings["malformed"] == [
        "item 2 (b.mp4): field 'answer_temporal' is not a span [start, end]",
        "item 2 (b.mp4): field 'answer_spatial' has something else than boxes at second 1",
        "item 3 (c.mp4): field 'answer_vqa' is not a text",
        "item 3 (c.mp4): field 'answer_spatial' is not an object of seconds and boxes",
    ]
    assert findings["other seconds"] == ["item 4 (d.mp4): 'answer_spatial' at 2, the first 7"]
    assert findings["other truth"] == ["e.mp4: 'What falls?'"] and found.rows[4]["timestamps"] == [0.0, 10.0]
    assert findings["unknown"] == ["z.mp4: 'What falls?'"]
    assert findings["unreadable"] == ["row 8 is not an object", "row 9 has no vid"]
    assert findings["missing"] == ["item 6 (f.mp4)"] and len(found.rows) == len(ITEMS)
    scores = score_each(found.rows, protocol).scores
    assert [score.tiou[0] for score in scores] == [0.5, 0.0, 0.5, 0.5, 0.5, 0.0]
    assert [score.viou[0] for score in scores] == [0.75, 0.0, 0.0, 0.5, 0.75, 0.0]


def test_broken_lines_are_named_and_the_others_read(tmp_path):
    path = write(tmp_path / "p.jsonl", [results_of("a.mp4")])
    path.write_text(path.read_text() + '{"vid": "b.mp4", "answ\n')
    found = read_predictions(path, ITEMS[:2])
    assert "line 2: not JSON" in found.findings["unreadable"][0]
    assert found.findings["missing"] == ["item 2 (b.mp4)"]


def test_predictions_without_a_question_are_matched_by_a_unique_vid(tmp_path):
    row = {name: value for name, value in results_of("a.mp4").items() if name != "question"}
    path = write(tmp_path / "p.json", [row])
    assert read_predictions(path, ITEMS).rows[0]["answer_vqa"] == "A cup."
    twice = [ITEMS[0], ITEMS[0] | {"question": "Another?"}]
    found = read_predictions(path, twice)
    assert len(found.findings["unknown"]) == 1 and len(found.findings["missing"]) == 2


def test_two_questions_about_a_video_and_two_spans_of_a_question_are_different_items(tmp_path):
    items = [ITEMS[0], ITEMS[0] | {"question": "Another?"}, ITEMS[0] | {"timestamps": [2.0, 4.0]}]
    rows = [
        item | results_of("a.mp4") | {"question": item["question"], "answer_vqa": str(n)}
        for n, item in enumerate(items)
    ]
    path = write(tmp_path / "p.json", rows[::-1])
    found = read_predictions(path, items)
    assert [row["answer_vqa"] for row in found.rows] == ["0", "1", "2"]
    assert not any(found.findings.values())
    assert len(read_predictions(path).rows) == 3  # with the truth in the predictions


def test_responses_in_which_nothing_is_found_are_counted(tmp_path):
    silent = results_of("a.mp4", answer_temporal=[], answer_temporal_pre="No idea.", answer_spatial={}, answer_vqa="")
    silent["answer_spatial_pre"] = "It is not there."
    found = read_predictions(write(tmp_path / "p.json", [silent]), ITEMS[:1])
    assert found.findings["unanswered"] == ["item 1 (a.mp4)"]
    assert found.findings["unparsed"] == [
        "item 1 (a.mp4): 'answer_temporal_pre' 'No idea.'",
        "item 1 (a.mp4): 'answer_spatial_pre' 'It is not there.'",
    ]


@pytest.mark.parametrize(
    ("space", "box"), [("video", "[0, 0, 10, 10]"), ("thousandths", "[0, 0, 100, 200]"), ("shares", "[0, 0, 0.1, 0.2]")]
)
def test_raw_boxes_become_pixels_of_the_video(tmp_path, space, box):
    row = results_of("a.mp4", answer_spatial=None, answer_spatial_pre=f'```json\n{{"1": {box}}}\n```')
    found = read_predictions(write(tmp_path / "p.json", [row]), ITEMS[:1], space)
    assert found.rows[0]["answer_spatial"] == {"1": [0.0, 0.0, 10.0, 10.0]}


def test_both_schemas_of_boxes_give_the_same_scores(tmp_path):
    content = golden()
    items = content["items"] if content else [RIGHT, RIGHT | {"vid": "b.mp4", "judge_score": 1}]
    for protocol in ("official", "strict"):
        new = read_predictions(write(tmp_path / "new.json", items)).rows
        old = read_predictions(write(tmp_path / "old.json", [old_schema(item) for item in items])).rows
        assert score_items(new, protocol) == score_items(old, protocol)
