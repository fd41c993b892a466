"""Answers in plain words: writing, parsing and scoring, by hand."""

import pytest

from o3v.tinybase import plain_answers
from o3v.tinybase.plain_answers import QuestionAnswer

CAR, CUP = (1, 2, 30, 40), (50, 2, 80, 20)


@pytest.mark.parametrize(
    "reply", ["red car [1,2,3]", "red car [1,2,3,4", "car [1,2,3,4]", "red car [1,,2,3]", "[1,2,3,4]"]
)
def test_malformed_entries_are_skipped(reply):
    assert plain_answers.parse_boxes(reply) == {}


def test_a_malformed_entry_does_not_affect_the_next():
    assert plain_answers.parse_boxes("red car [1,2,3]; blue cup [50,2,80,20]") == {"blue cup": CUP}


def test_boxes_are_written_and_parsed():
    boxes = {"red car": CAR, "blue cup": CUP}
    text = plain_answers.format_boxes(boxes, (84, 84))
    assert text == "upper left red car [1,2,30,40]; upper right blue cup [50,2,80,20]"
    assert plain_answers.parse_boxes(text) == boxes
    assert plain_answers.format_object("blue cup", boxes, (84, 84)) == "blue cup upper right [50,2,80,20]"
    assert plain_answers.parse_boxes("blue cup upper right [50,2,80,20]") == {"blue cup": CUP}
    assert plain_answers.format_boxes({}, (84, 84)) == "nothing" and plain_answers.parse_boxes("nothing") == {}


def test_objects_are_listed_row_by_row():
    boxes = {"blue cup": (0, 56, 28, 84), "red car": (60, 0, 80, 20), "red cup": (0, 0, 20, 20)}
    names = [entry[:-1].rsplit(" [", 1)[0] for entry in plain_answers.format_boxes(boxes, (84, 84)).split("; ")]
    assert names == ["upper left red cup", "upper right red car", "lower left blue cup"]


def test_find_score_is_the_iou_of_the_named_object():
    qa = QuestionAnswer("find", "?", "red car [0,0,10,10]", {"red car": (0, 0, 10, 10)})
    assert plain_answers.find_score("red car [0,0,10,5]", qa) == 0.5
    assert plain_answers.find_score("blue car [0,0,10,10]", qa) == 0.0


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("From 2.0s", 0.0),
        ("From 2.0s to 4.0s", 0.5),
        ("Frame 1 cup: from 1.0s.\nFrom 2.0s to 4.0s", 0.5),  # only the conclusion counts
        ("Frame 1 cup: from 2.0s; frame 2 nothing: to 4.0s", 0.5),
    ],
)
def test_span_score_is_the_temporal_iou(reply, score):
    assert plain_answers.span_score(reply, (2.0, 6.0)) == score


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Red", 0),
        ("Frame 4 red cup.\nThe red car", 0),
        ("Frame 5 red cup.\nThe red cup", 1),
        ("It is the red cup.", 1),
    ],
)
def test_words_are_scored_without_the_steps(reply, score):
    assert plain_answers.words_score(reply, QuestionAnswer("what", "?", "Frame 4 red cup.\nThe red cup")) == score


def test_exact_score_ignores_spaces_around_the_reply():
    qa = QuestionAnswer("is this", "?", "yes")
    assert plain_answers.exact_score(" yes", qa) == 1.0 and plain_answers.exact_score("yes it is", qa) == 0.0
