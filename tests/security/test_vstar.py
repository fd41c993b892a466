"""Predictions for V-STAR: whatever stands in one counts as wrong, and the others are scored."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from o3v.evaluation.vstar import PROTOCOLS, duration_name, score_each, score_items
from o3v.evaluation.vstar_items import read_items, read_span
from o3v.evaluation.vstar_predictions import read_predictions
from o3v.schema import SchemaError

RIGHT = {
    "vid": "a.mp4",
    "answer": "red",
    "timestamps": [1.0, 3.0],
    "bboxes": [{"timestamp": 2, "xmin": 0, "ymin": 0, "xmax": 4, "ymax": 2}],
    "fps": 10,
    "frame_count": 100,
    "answer_vqa": "red",
    "judge_score": 3,
    "answer_temporal": [1.0, 3.0],
    "answer_temporal_2": [1.0, 3.0],
    "answer_spatial": {"2": [0, 0, 4, 2]},
    "answer_spatial_2": {"2": [0, 0, 4, 2]},
}
SPANS = [
    "{[]}",
    "{{}}",
    "{[]: 1}",
    "[" + "9" * 401 + ", 1]",
    "[" + "9" * 5_000 + ", 1]",
    [10**401, 1],
    [float("nan"), 1],
    "(" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    "-" * 100_000 + "1",
    "1" + "+1j" * 50_000,
    "\x00",
    "\ud83d",
    "[1, 2",
    "9**9**9",
    ["1", "3"],
    {"1": 3},
    [[1, 3]],
    [1, None],
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("span", SPANS)
def test_an_odd_span_counts_as_unreadable(span):
    """`"{[]}"` and a number of 401 digits ended the scoring."""
    assert read_span(span) is None
    for protocol in ("official", "strict"):
        metrics = score_items([RIGHT | {"answer_temporal": span}, RIGHT], protocol)
        assert metrics["malformed"] == ["item 1 (a.mp4): field 'answer_temporal' is not a span [start, end]"]
        assert metrics["overall"]["m_tiou"] == [0.5, 1.0] and metrics["overall"]["accuracy"] == 1.0


BOXES = [
    "{[]}",
    [1, 2],
    {"2": [10**401, 0, 1, 1]},
    {"9" * 401: [0, 0, 4, 2]},
    {"2": [["a"] * 4]},
    {"2": {"xmin": 1}},
    {"nan": [0, 0, 4, 2]},
    {"2": [float("nan")] * 4},
    {"\ud83d": [0, 0, 4, 2]},
]


@pytest.mark.parametrize("boxes", BOXES)
def test_odd_boxes_count_as_wrong(boxes):
    for protocol in ("official", "strict"):
        metrics = score_items([RIGHT | {"answer_spatial": boxes}, RIGHT], protocol)
        assert metrics["overall"]["m_viou"] == [0.5, 1.0]


@pytest.mark.parametrize("score", [10**401, "3", [3], float("nan"), float("inf"), {}])
def test_an_odd_judgement_counts_as_none(score):
    metrics = score_items([RIGHT | {"judge_score": score}, RIGHT], "strict")
    assert metrics["overall"]["accuracy"] == 0.5


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["9" * 401 + " s to 5 s", "1:" * 100_000, "9 " * 200_000, "<think>" * 50_000, "1 m " * 50_000]
)
def test_an_odd_spoken_span_is_wrong_and_quick(text):
    start_s = time.process_time()
    spoken = RIGHT | {"answer_temporal": [], "answer_temporal_pre": text}
    for protocol in ("official", "strict"):
        assert score_items([spoken, RIGHT], protocol)["overall"]["m_tiou"] == [0.5, 1.0]
    assert time.process_time() - start_s < 4 * max(1, len(text) / 100_000)


def test_a_length_without_end_is_long():
    assert duration_name({"frame_count": 1e14, "fps": 1e-300}) == "long"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "7", '{"a": 1}', "[7]", "[{}]", "\ufeff", "[" + "9" * 5_000 + "]", "\x00"]
)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_an_odd_file_of_items_is_one_error(tmp_path, text, ending):
    (tmp_path / f"a.{ending}").write_text(text, encoding="utf-8")
    if ending == "jsonl" and text == "\ufeff":
        assert read_items(tmp_path / "a.jsonl") == []  # a byte order mark alone
        return
    with pytest.raises(SchemaError, match=rf"a\.{ending}"):
        read_items(tmp_path / f"a.{ending}")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("vid", "question", "timestamps", "bboxes", "answer", "fps", "answer_vqa", "judge_score", "extra")
FIELDS += tuple(
    f"answer_{part}{chain}" for part in ("temporal", "temporal_pre", "spatial", "spatial_pre") for chain in ("", "_2")
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=6) | JUNK, max_size=5), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_of_predictions_gives_a_report(tmp_path, rows, known):
    """With the benchmark's file each item is scored whatever stands in the predictions."""
    sized = RIGHT | {"question": "What?", "width": 8, "height": 8}
    rows = [{**sized, **row} if known and isinstance(row, dict) else row for row in rows]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(rows))
    found = read_predictions(path, [sized, sized | {"vid": "b.mp4"}])
    for protocol in PROTOCOLS:
        scores = score_each(found.rows, protocol).scores
        assert len(scores) == 2 and all(0 <= value <= 1 for s in scores for value in (*s.tiou, *s.viou))
    assert all(isinstance(case, str) for cases in found.findings.values() for case in cases)
