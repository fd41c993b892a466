"""Plain questions and their scores, by hand."""

import re

import numpy as np
import pytest

from o3v import evidence
from o3v.config import FrameConfig
from o3v.tinybase import crop_qa, plain_answers, video_qa
from o3v.tinybase.clips import draw_clip
from o3v.tinybase.plain_answers import Asked
from o3v.toyworld import narration

CAR, CUP = (1, 2, 30, 40), (50, 2, 80, 20)
ORDINALS = ("first", "second", "third", "fourth")


@pytest.fixture(scope="module")
def clip():
    return draw_clip(1, FrameConfig(n_frames=4, max_pixels=84 * 84), seed=0)


def test_boxes_are_said_and_read_back():
    boxes = {"red car": CAR, "blue cup": CUP}
    assert (
        plain_answers.say_boxes(boxes, (84, 84)) == "upper left red car [1,2,30,40]; upper right blue cup [50,2,80,20]"
    )
    assert plain_answers.read_boxes(plain_answers.say_boxes(boxes, (84, 84))) == boxes
    assert plain_answers.say_thing("blue cup", boxes, (84, 84)) == "blue cup upper right [50,2,80,20]"
    assert plain_answers.read_boxes("blue cup upper right [50,2,80,20]") == {"blue cup": CUP}
    assert plain_answers.say_boxes({}, (84, 84)) == "nothing" and plain_answers.read_boxes("nothing") == {}


@pytest.mark.parametrize(
    "said", ["red car [1,2,3]", "red car [1,2,3,4", "car [1,2,3,4]", "red car [1,,2,3]", "[1,2,3,4]"]
)
def test_malformed_entries_are_left_out(said):
    assert plain_answers.read_boxes(said) == {}


def test_a_good_entry_survives_a_bad_one():
    assert plain_answers.read_boxes("red car [1,2,3]; blue cup [50,2,80,20]") == {"blue cup": CUP}


def test_scores_by_hand():
    asked = Asked("find", "?", "red car [0,0,10,10]", {"red car": (0, 0, 10, 10)})
    assert plain_answers.found_score("red car [0,0,10,5]", asked) == 0.5
    assert plain_answers.found_score("blue car [0,0,10,10]", asked) == 0.0
    assert plain_answers.span_score("From 2.0s to 4.0s", (2.0, 6.0)) == 0.5
    assert plain_answers.span_score("Frame 1 cup: from 1.0s.\nFrom 2.0s to 4.0s", (2.0, 6.0)) == 0.5
    assert plain_answers.span_score("Frame 1 cup: from 2.0s; frame 2 nothing: to 4.0s", (2.0, 6.0)) == 0.5
    assert plain_answers.span_score("From 2.0s", (2.0, 6.0)) == 0.0
    assert plain_answers.words_score("It is the red car.", Asked("what", "?", "The red car")) == 1.0
    assert plain_answers.exact(" yes", Asked("is this", "?", "yes")) == 1.0


def test_what_a_crop_is_worth():
    worth = crop_qa.relevance_of
    assert worth("red car", "When are the red car and the blue cup both visible?") == 2
    assert worth("red cup", "When are the red car and the blue cup both visible?") == 1
    assert worth("red cup", "What is the red object?") == 2
    assert worth("blue cup", "When can a cup be seen?") == 2
    assert worth("blue cup", "Which object appears first?") == 1
    assert worth("", "When is the red car visible?") == 0


def test_one_yes_and_two_ways_to_be_wrong():
    rng = np.random.default_rng(0)
    for _ in range(50):
        yes, color, thing = crop_qa.is_this("red car", rng)
        assert (yes.question, yes.answer) == ("Is this a red car?", "yes")
        assert color.answer == thing.answer == "no"
        assert color.question.endswith(" car?") and "red" not in color.question
        assert thing.question.startswith("Is this a red ") and "car" not in thing.question
        (no,) = crop_qa.is_this("", rng)
        assert no.answer == "no" and no.truth == "background"


def test_things_are_named_row_by_row():
    boxes = {"blue cup": (0, 56, 28, 84), "red car": (60, 0, 80, 20), "red cup": (0, 0, 20, 20)}
    names = [entry[:-1].rsplit(" [", 1)[0] for entry in plain_answers.say_boxes(boxes, (84, 84)).split("; ")]
    assert names == ["upper left red cup", "upper right red car", "lower left blue cup"]


def shown_by(look: str) -> list[dict[str, str]]:
    """The name of each thing in each frame of a look, with its mark."""
    frames = [re.sub(r"^frame \d+ ", "", told) for told in look.lower().rstrip(".").split("; ")]
    entries = [[entry.split(" ") for entry in told.split(", ") if entry != plain_answers.NOTHING] for told in frames]
    return [{" ".join(words[:2]): " ".join(words[2:]) for words in frame} for frame in entries]


def test_a_span_is_told_by_the_frames_that_show_it(clip):
    times_s = clip.times_s[: clip.uniform]
    asked = list(video_qa.when(clip, range(clip.uniform)))
    assert {one.ability for one in asked} == {"visible", "when"}
    for one in asked:
        steps, span = one.answer.split("." + evidence.ANSWER_LINE)
        each, seen = steps.split(". ")
        inside = [one.truth[0] <= t < one.truth[1] for t in times_s]
        shown = shown_by(each)
        assert [sorted(here) for here in shown] == [sorted(clip.boxes_px[n]) for n in range(clip.uniform)]
        numbers = [n for n, here in enumerate(inside, 1) if here]
        told = [f"frame {n} at {times_s[n - 1]:.1f}s" for n in (numbers[0], numbers[-1])]
        assert seen == f"Seen from {told[0]} to {told[1]}"
        start_s, end_s = (float(second) for second in re.findall(r"([\d.]+)s", span))
        after = [*times_s[1:], clip.duration_s]
        assert start_s == round(times_s[inside.index(True)], 1)
        assert end_s == round(after[clip.uniform - 1 - inside[::-1].index(True)], 1)
        if one.ability == "visible":
            (name,) = (n for n, span_s in clip.spans_s.items() if span_s == one.truth)
            assert inside == [name in clip.boxes_px[n] for n in range(clip.uniform)]


def test_what_is_explained_can_be_seen(clip):
    """Every claim of an explanation is true of a frame that is shown, and the answer stands at its end."""
    said = [one.answer for one in video_qa.explain(clip, range(clip.uniform))]
    pattern = r"frame (\d+) (\w+ \w+) (\w+ \w+) (\[[\d,]+\]) at ([\d.]+)s"
    claims = [claim for text in said for claim in re.findall(pattern, text, re.IGNORECASE)]
    assert len(claims) > 10
    for number, name, place, box, time_s in claims:
        i = int(number) - 1
        assert box == plain_answers.say_box(clip.boxes_px[i][name]) and float(time_s) == round(clip.times_s[i], 1)
        assert place == narration.positions(clip.boxes_px[i], clip.size_wh)[name]
    answered = {text.split(evidence.ANSWER_LINE)[1] for text in said}
    assert {fact.answer for fact in clip.video_facts if fact.family == "first"} <= answered


def test_a_frame_shows_what_is_said_of_it(clip):
    frames = range(clip.uniform)
    said = {a.question: a.answer for a in video_qa.in_frame(clip, frames, np.random.default_rng(0))}
    assert set(said.values()) >= {"yes", "no"}
    for question, answer in said.items():
        here = clip.boxes_px[int(question.rstrip("?").rsplit(" ", 1)[1]) - 1]
        if question.startswith("Is the "):
            assert (" ".join(question.split(" ")[2:4]) in here) == (answer == "yes")
        else:
            (name,) = (name for name in here if name.split(" ")[1] == question.split(" ")[4])
            assert name.split(" ")[0] == answer.lower()


def test_an_answer_can_be_read_off_its_steps():
    clip = draw_clip(3, FrameConfig(n_frames=8, max_pixels=84 * 84), seed=0)
    frames, families = range(clip.uniform), set()
    for fact in video_qa.choosable(clip):
        step, _, answer = video_qa.in_steps(fact, clip, frames).rpartition(evidence.ANSWER_LINE)
        families.add(fact.family)
        assert answer == fact.answer
        if fact.family in video_qa.WATCHED:
            shown = shown_by(step.split(". ")[0])
            assert [sorted(here) for here in shown] == [sorted(clip.boxes_px[n]) for n in frames]
            marks = [(name, mark) for here in shown for name, mark in here.items()]
            asked = [name for name, mark in marks if mark.endswith("here")]
            count = {mark.removesuffix(" here"): name for name, mark in marks if mark not in ("", "here")}
            come = [count[word] for word in ORDINALS if word in count]
            assert len(come) == len(count) == len({name for name, _ in marks})
            named = answer.removeprefix("The ")
            counted = [f"{name} {ordinal}" for ordinal, name in zip(ORDINALS, come, strict=False)]
            listed = [*counted[:-1], f"last {counted[-1]}"]
            said = step.split(". ")[2:]
            if fact.family in narration.BY_ARRIVAL:
                assert step.split(". ")[1].rstrip(".") == f"They come: {', '.join(listed)}"
            if fact.family in ("first", "last"):
                assert not asked and named == come[0 if fact.family == "first" else -1]
                assert said == [f"First: {named}." if fact.family == "first" else f"The last {named}."]
            if fact.family in ("after", "before"):
                other = come.index(asked[0]) + (1 if fact.family == "after" else -1)
                assert named == come[other] and set(asked) == {asked[0]}
                told = f", {listed[other]}" if fact.family == "after" else f": {counted[other]}"
                assert said == [f"{fact.family.capitalize()} {counted[come.index(asked[0])]}{told}."]
            if fact.family in ("color", "thing"):
                assert fact.subject in asked
        if fact.family == "side":
            boxes = clip.boxes_px[int(step.split(" ")[1]) - 1]
            order = sorted(boxes, key=lambda name: boxes[name][0] + boxes[name][2])
            side = "left" if "left" in fact.question else "right"
            assert answer == f"The {order[0 if side == 'left' else -1]}"
            told = ", ".join([f"left {order[0]}", *order[1:-1], f"right {order[-1]}"])
            assert step.endswith(f" {told}. On the {side} {answer[4:]}.")
        if fact.family in narration.SIDE_BY_SIDE:
            number, told = re.search(r"\. Frame (\d+) ([^.]*)\. [A-Z]", step).groups()
            at = narration.positions(clip.boxes_px[int(number) - 1], clip.size_wh)
            assert told.replace(narration.ASKED_MARK, "") == ", ".join(f"{name} {where}" for name, where in at.items())
            assert answer.removeprefix("The ") in at and narration.ASKED_MARK in told
        if fact.family in ("deed", "way"):
            ends = [n for n in frames if fact.subject in clip.boxes_px[n]]
            at = [narration.positions(clip.boxes_px[n], clip.size_wh)[fact.subject] for n in (ends[0], ends[-1])]
            assert step.endswith(f". From frame {ends[0] + 1} {at[0]} to frame {ends[-1] + 1} {at[1]}.")
    assert {"after", "color", "deed", "way", "side", "where"} <= families


@pytest.mark.parametrize(
    ("said", "score"),
    [("Frame 5 red cup.\nThe red cup", 1), ("The red cup", 1), ("Frame 4 red cup.\nThe red car", 0), ("Red", 0)],
)
def test_an_answer_is_judged_without_its_steps(said, score):
    assert plain_answers.words_score(said, plain_answers.Asked("what", "?", "Frame 4 red cup.\nThe red cup")) == score


def test_what_a_crop_is_called():
    assert crop_qa.name_it("red car").answer == "a red car" and crop_qa.name_it("").answer == "nothing"


def test_frames_are_told_apart_by_number_and_time(clip):
    said = {a.question: a.answer for a in video_qa.times(clip, range(clip.uniform), np.random.default_rng(0))}
    second = f"{clip.times_s[1]:.1f}s"
    assert said["At what time is frame 2?"] == second and said[f"Which frame is at {second}?"] == "2"
    assert said["At which times are the frames?"] == ", ".join(f"{t:.1f}s" for t in clip.times_s[: clip.uniform])
    lines = video_qa.every_frame(clip, range(clip.uniform)).answer.split("\n")
    assert [line[:12] for line in lines] == [f"Frame {n} at {clip.times_s[n - 1]:.1f}"[:12] for n in (1, 2, 3, 4)]


def test_following_gives_as_many_boxes_as_are_asked_for(clip):
    rng = np.random.default_rng(0)
    for _ in range(20):
        for asked in video_qa.follow(clip, range(clip.uniform), rng):
            boxes = asked.answer.count("[")
            assert boxes or asked.answer == plain_answers.NOTHING
            if asked.question.startswith("Give "):
                assert int(asked.question.split(" ")[1]) == boxes


def test_every_true_answer_scores_full(clip):
    rng = np.random.default_rng(0)
    frames = range(clip.uniform)
    asked = [*video_qa.find(clip, frames), *video_qa.find_in_picture(clip), *video_qa.when(clip, frames)]
    asked += video_qa.what(clip, frames)
    asked += [video_qa.choice(fact, fact.answer, rng) for fact in video_qa.choosable(clip)]
    asked += [a for name in clip.crop_names for a in crop_qa.is_this(name, rng)]
    asked += [a for name in clip.crop_names for a in crop_qa.relevance(clip, name, rng)]
    assert {a.ability for a in asked} == set(plain_answers.SCORES)
    for one in asked:
        if one.ability not in ("visible", "when"):  # of which frames show only about when
            assert plain_answers.SCORES[one.ability](one.answer, one) == 1.0, one


def test_choices_hold_the_right_answer_under_its_letter(clip):
    rng = np.random.default_rng(0)
    letters = set()
    for fact in video_qa.choosable(clip):
        asked = video_qa.choice(fact, f"Frame 2. {fact.answer}", rng)
        question, *options = asked.question.split("\n")
        assert question == fact.question
        assert dict(option.split(". ", 1) for option in options)[asked.truth] == fact.answer
        marked = "; ".join(option + " yes" * (option[0] == asked.truth) for option in options)
        assert asked.answer == f"Frame 2. {fact.answer}. {marked}\n{asked.truth}"
        letters.add(asked.truth)
    assert len(letters) > 1


def test_relevance_covers_its_levels(clip):
    rng = np.random.default_rng(0)
    levels = {a.truth for name in clip.crop_names for a in crop_qa.relevance(clip, name, rng)}
    assert {1, 2} <= levels <= {0, 1, 2}
