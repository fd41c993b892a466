"""Plain questions and their scores, by hand."""

import numpy as np
import pytest

from o3v import abilities
from o3v import clips as drawn
from o3v.abilities import Asked
from o3v.config import FrameConfig

CAR, CUP = (1, 2, 30, 40), (50, 2, 80, 20)


@pytest.fixture(scope="module")
def clip():
    return drawn.draw_clip(1, FrameConfig(n_frames=4, max_pixels=84 * 84), seed=0)


def test_boxes_are_said_and_read_back():
    boxes = {"red car": CAR, "blue cup": CUP}
    assert abilities.say_boxes(boxes) == "red car [1,2,30,40]; blue cup [50,2,80,20]"
    assert abilities.read_boxes(abilities.say_boxes(boxes)) == boxes
    assert abilities.say_boxes({}) == "nothing" and abilities.read_boxes("nothing") == {}


@pytest.mark.parametrize(
    "said", ["red car [1,2,3]", "red car [1,2,3,4", "car [1,2,3,4]", "red car [1,,2,3]", "[1,2,3,4]"]
)
def test_malformed_entries_are_left_out(said):
    assert abilities.read_boxes(said) == {}


def test_a_good_entry_survives_a_bad_one():
    assert abilities.read_boxes("red car [1,2,3]; blue cup [50,2,80,20]") == {"blue cup": CUP}


def test_scores_by_hand():
    asked = Asked("find", "?", "red car [0,0,10,10]", {"red car": (0, 0, 10, 10)})
    assert abilities.found_score("red car [0,0,10,5]", asked) == 0.5
    assert abilities.found_score("blue car [0,0,10,10]", asked) == 0.0
    assert abilities.span_score("From 2.0s to 4.0s", (2.0, 6.0)) == 0.5
    assert abilities.span_score("From 2.0s", (2.0, 6.0)) == 0.0
    assert abilities.words_score("It is the red car.", Asked("what", "?", "The red car")) == 1.0
    assert abilities.exact(" yes", Asked("is this", "?", "yes")) == 1.0


def test_what_a_crop_is_worth():
    worth = abilities.relevance_of
    assert worth("red car", "When are the red car and the blue cup both visible?") == 2
    assert worth("red cup", "When are the red car and the blue cup both visible?") == 1
    assert worth("red cup", "What is the red object?") == 2
    assert worth("blue cup", "When can a cup be seen?") == 2
    assert worth("blue cup", "Which object appears first?") == 1
    assert worth("", "When is the red car visible?") == 0


def test_one_yes_and_two_ways_to_be_wrong():
    rng = np.random.default_rng(0)
    for _ in range(50):
        yes, color, thing = abilities.is_this("red car", rng)
        assert (yes.question, yes.answer) == ("Is this a red car?", "yes")
        assert color.answer == thing.answer == "no"
        assert color.question.endswith(" car?") and "red" not in color.question
        assert thing.question.startswith("Is this a red ") and "car" not in thing.question
        (no,) = abilities.is_this("", rng)
        assert no.answer == "no" and no.truth == "background"


def test_things_are_named_from_left_to_right():
    assert abilities.say_boxes({"blue cup": CUP, "red car": CAR}).startswith("red car")


def test_frames_are_told_apart_by_number_and_time(clip):
    said = {a.question: a.answer for a in abilities.times(clip, range(clip.uniform), np.random.default_rng(0))}
    second = f"{clip.times_s[1]:.1f}s"
    assert said["At what time is frame 2?"] == second and said[f"Which frame is at {second}?"] == "2"
    assert said["At which times are the frames?"] == ", ".join(f"{t:.1f}s" for t in clip.times_s[: clip.uniform])
    lines = abilities.every_frame(clip, range(clip.uniform)).answer.split("\n")
    assert [line[:12] for line in lines] == [f"Frame {n} at {clip.times_s[n - 1]:.1f}"[:12] for n in (1, 2, 3, 4)]


def test_following_gives_as_many_boxes_as_are_asked_for(clip):
    rng = np.random.default_rng(0)
    for _ in range(20):
        for asked in abilities.follow(clip, range(clip.uniform), rng):
            boxes = asked.answer.count("[")
            assert boxes or asked.answer == abilities.NOTHING
            if asked.question.startswith("Give "):
                assert int(asked.question.split(" ")[1]) == boxes


def test_every_true_answer_scores_full(clip):
    rng = np.random.default_rng(0)
    frames = range(clip.uniform)
    asked = [*abilities.find(clip, frames), *abilities.find_in_picture(clip), *abilities.when(clip)]
    asked += [*abilities.what(clip), *(abilities.choice(fact, rng) for fact in clip.video_facts)]
    asked += [a for name in clip.crop_names for a in abilities.is_this(name, rng)]
    asked += [a for name in clip.crop_names for a in abilities.relevance(clip, name, rng)]
    assert {a.ability for a in asked} == set(abilities.SCORES)
    for one in asked:
        assert abilities.SCORES[one.ability](one.answer, one) == pytest.approx(1.0, abs=0.05), one  # times are rounded


def test_choices_hold_the_right_answer_under_its_letter(clip):
    rng = np.random.default_rng(0)
    letters = set()
    for fact in clip.video_facts:
        asked = abilities.choice(fact, rng)
        question, *options = asked.question.split("\n")
        assert question == fact.question
        assert dict(option.split(". ", 1) for option in options)[asked.answer] == fact.answer
        letters.add(asked.answer)
    assert len(letters) > 1


def test_relevance_covers_its_levels(clip):
    rng = np.random.default_rng(0)
    levels = {a.truth for name in clip.crop_names for a in abilities.relevance(clip, name, rng)}
    assert {1, 2} <= levels <= {0, 1, 2}
