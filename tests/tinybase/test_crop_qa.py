"""Questions about crops, by hand."""

import numpy as np
import pytest

from o3v.tinybase import crop_qa


@pytest.mark.parametrize(
    ("name", "question", "level"),
    [
        (None, "When is the red car visible?", 0),
        ("red cup", "When are the red car and the blue cup both visible?", 1),
        ("blue cup", "Which object appears first?", 1),
        ("red car", "When are the red car and the blue cup both visible?", 2),
        ("red cup", "What is the red object?", 2),
        ("blue cup", "When can a cup be seen?", 2),
    ],
)
def test_the_relevance_of_a_crop(name, question, level):
    assert crop_qa.relevance_of(name, question) == level


def test_an_object_gets_one_yes_and_two_no():
    rng = np.random.default_rng(0)
    for _ in range(50):
        yes, color, kind = crop_qa.is_this("red car", rng)
        assert (yes.question, yes.answer) == ("Is this a red car?", "yes")
        assert color.answer == kind.answer == "no"
        assert color.question.endswith(" car?") and "red" not in color.question
        assert kind.question.startswith("Is this a red ") and "car" not in kind.question


def test_background_gets_one_no():
    (no,) = crop_qa.is_this(None, np.random.default_rng(0))
    assert no.answer == "no" and no.truth == "background"


def test_a_crop_is_named():
    assert crop_qa.name_it(None).answer == "nothing" and crop_qa.name_it("red car").answer == "a red car"


def test_questions_about_a_clip_cover_the_levels_of_relevance(clips):
    clip, rng = clips[1], np.random.default_rng(0)
    levels = {qa.truth for name in clip.crop_names for qa in crop_qa.relevance(clip, name, rng)}
    assert {1, 2} <= levels <= {0, 1, 2}
