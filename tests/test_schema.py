"""Rows: bad rows are refused with row and field, good rows are read and written without a change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3v.files import write_jsonl
from o3v.schema import Example, KeyFrame, SchemaError, Task, read_examples, read_letter, read_span

GOOD = {
    "id": "r1",
    "task": "temporal-spatial free-form QA",
    "source": "STR_coin",
    "question": "Where is it?",
    "answer": "Here",
    "video_path": "videos/a.mp4",
    "image_path": None,
    "image_size": None,
    "key_frames": [{"idx": 142, "time": 4.7, "path": "k.jpg"}],
    "key_items": {"142": {"man": [[0.46, 0.43, 0.77, 0.94]]}},
    "reasoning_process": "He stands.",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "temporal"}, r"row 'r1': field 'task' is 'temporal', none of"),
        ({"question": "  "}, r"row 'r1': field 'question' must be a text"),
        ({"answer": 7}, r"row 'r1': field 'answer' must be a text"),
        ({"video_path": None}, r"row 'r1': field 'video_path' is missing"),
        ({"key_frames": [{"idx": 1}]}, r"field 'key_frames\[0\]' needs"),
        ({"key_frames": [{"idx": 1, "time": -1}]}, r"field 'key_frames\[0\].time' is -1.0"),
        ({"key_frames": [{"idx": 1, "time": float("nan")}]}, r"field 'key_frames\[0\].time' is nan"),
        (
            {"key_items": {"142": {"man": [[0.4, 0.4, 0.3, 0.9]]}}},
            r"'key_items.142.man' has .* is empty or inverted",
        ),
        ({"key_items": {"142": {"man": [[4, 4, 30, 90]]}}}, r"'key_items.142.man' has .* a box is four numbers in 0–1"),
        ({"key_items": {"142": {"man": [[0.1, 0.1, 0.2]]}}}, r"a box is four numbers"),
        ({"image_size": [640]}, r"field 'image_size' must be \[width, height\]"),
        ({"task": "visual QA", "image_path": "a.jpg"}, r"field 'image_size' is missing"),
        (
            {"task": "visual QA", "image_path": "a.jpg", "image_size": [9, 9], "answer": "here"},
            r"field 'answer' is 'here', without a box",
        ),
        ({"reasoning_process": "So </think> it is."}, r"field 'reasoning_process' contains '</think>'"),
        ({"answer": "<answer>a</answer> b"}, r"field 'answer' contains '<answer>'"),
        ({"question": "What?<|im_end|>"}, r"field 'question' contains '<\|im_end\|>'"),
        ({"question": "<video>"}, r"field 'question' is empty without its tags"),
    ],
)
def test_bad_rows_are_refused_with_the_name_of_the_field(change, message):
    with pytest.raises(SchemaError, match=message):
        Example.from_row(GOOD | change)


def test_a_row_without_a_task():
    with pytest.raises(SchemaError, match="field 'task' is missing"):
        Example.from_row({k: v for k, v in GOOD.items() if k != "task"})


def test_a_row_read_by_hand():
    example = Example.from_row(GOOD)
    assert example.task is Task.SPATIO_TEMPORAL
    assert example.key_frames == (KeyFrame(142, 4.7, "k.jpg", {"man": ((0.46, 0.43, 0.77, 0.94),)}),)
    assert example.media_path == "videos/a.mp4"
    assert example.to_row() == GOOD


def test_wrapping_tags_and_marks_of_a_medium_are_removed():
    example = Example.from_row(
        GOOD
        | {
            "question": "<video>\nWhere is it?",
            "answer": " <answer>Here</answer>\n",
            "reasoning_process": "<think>He\nstands.</think>",
        }
    )
    assert (example.question, example.answer, example.reasoning_process) == ("Where is it?", "Here", "He\nstands.")
    assert Example.from_row(example.to_row()) == example


def test_arrow_fills_missing_names_with_none():
    row = GOOD | {"key_items": {"142": {"man": [[0.1, 0.1, 0.2, 0.2]], "dog": None}}}
    assert set(Example.from_row(row).key_frames[0].items) == {"man"}


names = st.text(min_size=1, max_size=9).filter(lambda text: text.strip() and "<" not in text)  # tags are refused
unit = st.floats(0, 0.49, allow_nan=False)
box = st.tuples(unit, unit, unit, unit).map(lambda b: (b[0], b[1], b[2] + 0.5, b[3] + 0.5))
frames = st.builds(
    KeyFrame,
    st.integers(0, 999),
    st.floats(0, 99),
    st.none() | st.integers(0, 99).map("k/{}.jpg".format),
    st.dictionaries(names, st.lists(box, min_size=1, max_size=2).map(tuple), max_size=2),
)


@given(
    st.lists(frames, max_size=3, unique_by=lambda f: f.idx),
    st.sampled_from([t for t in Task if t != Task.SPATIAL]),
    names,
)
def test_rows_round_trip_through_json(key_frames, task, text):
    answer = {Task.TEMPORAL: "[1.0, 2.5]", Task.TEMPORAL_MCQ: "B\n[1.0, 2.5]", Task.MCQ: "B"}.get(task, text)
    example = Example("x", task, "s", text, answer, None, "v.mp4", None, None, tuple(key_frames))
    assert Example.from_row(json.loads(json.dumps(example.to_row()))) == example


def test_a_bad_file_names_line_and_field(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"id": "r2", "task": "visual QA"')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: not JSON"):
        list(read_examples(path))
    write_jsonl(path, [GOOD, GOOD | {"question": ""}])
    with pytest.raises(SchemaError, match=r"rows\.jsonl, line 2: row 'r1': field 'question'"):
        list(read_examples(path))


@pytest.mark.parametrize(
    ("answer", "span_s"),
    [
        ("[1.0, 3.0]", (1.0, 3.0)),
        ("B\n[1, 3.5]", (1.0, 3.5)),
        ("q\n[ .5 ,3. ] ", (0.5, 3.0)),
        ("13.4-28.1", (13.4, 28.1)),
        ("13.4 – 28.1", (13.4, 28.1)),
        ("From <t>1.0</t>s to <t>3.0</t>s", (1.0, 3.0)),
        ("[8.0, 7.0]", None),
        ("[38.0, 10.5]", None),
        ("[2.0, 2.0]", None),
        ("[-1.0, 5]", None),
        ("[1.2.3, 4.0]", None),
        ("[[1.0, 3.0], [5.0, 6.0]]", None),
        ("[1, 2] or [3, 4]", None),
        ("[nan, 4]", None),
        ("the whole video", None),
    ],
)
def test_a_span_is_read_or_the_row_is_refused(answer, span_s):
    row = GOOD | {"task": "temporal QA", "answer": answer, "key_frames": [], "key_items": {}}
    assert read_span(answer) == span_s
    if span_s:
        assert Example.from_row(row).span_s == span_s
    else:
        with pytest.raises(SchemaError, match=r"field 'answer' .* without one span"):
            Example.from_row(row)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("(B)", "B"),
        ("[B] the car", "B"),
        ("B. the red car", "B"),
        ("B) the red car\n[1, 2]", "B"),
        ("B\n[1.0, 3.0]", "B"),
        ("A red car", None),
        ("Because", None),
        ("The red car\n[1.0, 3.0]", None),
        ("[1.0, 3.0]", None),
    ],
)
def test_a_letter_is_read_or_the_row_is_refused(answer, letter):
    row = GOOD | {"task": "General video QA MCQ", "answer": answer, "key_frames": [], "key_items": {}}
    assert read_letter(answer) == letter
    if letter:
        assert Example.from_row(row).answer == answer
    else:
        with pytest.raises(SchemaError, match=r"field 'answer' .* without the letter"):
            Example.from_row(row)


def test_boxes_of_key_frames_in_pixels():
    keys = (KeyFrame(2, 0.5, None, {"cup": ((0.0, 0.5, 0.5, 1.0),)}), KeyFrame(4, 1.0, None, {}))
    example = Example("a", Task.SPATIO_TEMPORAL, "own", "Where?", "Here", "So.", "a.mp4", key_frames=keys)
    assert example.boxes_px((200, 100)) == {0.5: {"cup": [(0, 50, 100, 100)]}, 1.0: {}}
