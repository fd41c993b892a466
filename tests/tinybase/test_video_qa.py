"""Questions about a clip: every answer agrees with the ground truth of the frames that the model sees."""

import re

import numpy as np
import pytest

from o3v import evidence
from o3v.config import FrameConfig
from o3v.tinybase import crop_qa, plain_answers, video_qa
from o3v.tinybase.clips import draw_clip
from o3v.toyworld import narration

ORDINALS = ("first", "second", "third", "fourth")


@pytest.fixture(scope="module")
def clip(clips):
    return clips[1]


@pytest.fixture(scope="module")
def facts():
    """Worded facts of a clip, each with its steps; the frames that the model sees, as boxes by name."""
    clip = draw_clip(3, FrameConfig(n_frames=8, max_pixels=84 * 84), seed=0)
    frames, answered = range(clip.n_uniform), []
    for fact in video_qa.worded_facts(clip):
        steps, _, answer = video_qa.stepwise_answer(fact, clip, frames).rpartition(evidence.ANSWER_LINE)
        assert answer == fact.answer
        answered.append((fact, steps))
    return answered, clip.boxes_px[: clip.n_uniform], clip.size_wh


def of_families(answered, *families):
    """The facts of these families with their steps, at least one."""
    chosen = [(fact, steps) for fact, steps in answered if fact.family in families]
    assert chosen
    return chosen


def parse_frames(text: str) -> list[dict[str, str]]:
    """For each frame of a list the names of its objects with their marks."""
    frames = [re.sub(r"^frame \d+ ", "", frame) for frame in text.lower().rstrip(".").split("; ")]
    entries = [[entry.split(" ") for entry in frame.split(", ") if entry != plain_answers.NOTHING] for frame in frames]
    return [{" ".join(words[:2]): " ".join(words[2:]) for words in frame} for frame in entries]


def marks_of(steps: str) -> tuple[list[str], set[str]]:
    """From the list of frames: the objects in the order of their ordinals, and those marked as asked for."""
    marks = [(name, mark) for frame in parse_frames(steps.split(". ")[0]) for name, mark in frame.items()]
    by_ordinal = {mark.removesuffix(" here"): name for name, mark in marks if mark not in ("", "here")}
    assert len(by_ordinal) == len({name for name, _ in marks})
    return [by_ordinal[o] for o in ORDINALS if o in by_ordinal], {name for name, m in marks if m.endswith("here")}


def test_the_steps_list_the_objects_of_each_frame(facts):
    answered, boxes_px, _ = facts
    for _, steps in of_families(answered, *video_qa.FROM_FRAME_LIST):
        assert [sorted(names) for names in parse_frames(steps.split(". ")[0])] == [sorted(boxes) for boxes in boxes_px]


def test_the_order_of_objects_is_that_of_their_ordinals(facts):
    for fact, steps in of_families(facts[0], *narration.BY_ARRIVAL):
        names, marked = marks_of(steps)
        numbered = [f"{name} {ordinal}" for name, ordinal in zip(names, ORDINALS, strict=False)]
        listed = [*numbered[:-1], f"last {numbered[-1]}"]
        _, arrival, *conclusion = steps.split(". ")
        assert arrival.rstrip(".") == f"They come: {', '.join(listed)}"
        answer = fact.answer.removeprefix("The ")
        if fact.family == "first":
            assert not marked and answer == names[0] and conclusion == [f"First: {answer}."]
        if fact.family == "last":
            assert not marked and answer == names[-1] and conclusion == [f"The last {answer}."]
        if fact.family in ("after", "before"):
            (other,) = marked
            i = names.index(other)
            j = i + (1 if fact.family == "after" else -1)
            expected = f"After {numbered[i]}, {listed[j]}." if j > i else f"Before {numbered[i]}: {numbered[j]}."
            assert answer == names[j] and conclusion == [expected]


def test_the_object_of_a_question_about_looks_is_marked(facts):
    for fact, steps in of_families(facts[0], *video_qa.APPEARANCE):
        assert fact.subject in marks_of(steps)[1]


def test_the_object_on_a_side_is_read_off_one_frame(facts):
    answered, boxes_px, _ = facts
    for fact, steps in of_families(answered, "side"):
        boxes = boxes_px[int(steps.split(" ")[1]) - 1]
        order = sorted(boxes, key=lambda name: boxes[name][0] + boxes[name][2])
        side = "left" if "left" in fact.question else "right"
        assert fact.answer == f"The {order[0 if side == 'left' else -1]}"
        listed = ", ".join([f"left {order[0]}", *order[1:-1], f"right {order[-1]}"])
        assert steps.endswith(f" {listed}. On the {side} {fact.answer[4:]}.")


def test_objects_side_by_side_are_read_off_one_frame_with_places(facts):
    answered, boxes_px, size_wh = facts
    for fact, steps in of_families(answered, *narration.SIDE_BY_SIDE):
        number, listed = re.search(r"\. Frame (\d+) ([^.]*)\. [A-Z]", steps).groups()
        places = narration.positions(boxes_px[int(number) - 1], size_wh)
        assert listed.replace(narration.ASKED_MARK, "") == ", ".join(f"{name} {at}" for name, at in places.items())
        assert fact.answer.removeprefix("The ") in places and narration.ASKED_MARK in listed


def test_an_action_is_read_off_the_first_and_the_last_place(facts):
    answered, boxes_px, size_wh = facts
    for fact, steps in of_families(answered, "deed", "way"):
        visible = [n for n, boxes in enumerate(boxes_px, 1) if fact.subject in boxes]
        first, last = visible[0], visible[-1]
        start, end = (narration.positions(boxes_px[n - 1], size_wh)[fact.subject] for n in (first, last))
        assert steps.endswith(f". From frame {first} {start} to frame {last} {end}.")


def test_a_place_is_given_with_its_frame(facts):
    answered, boxes_px, size_wh = facts
    for fact, steps in of_families(answered, "where"):
        number = int(steps.split(" ")[1])
        place = narration.positions(boxes_px[number - 1], size_wh)[fact.subject]
        assert steps.startswith(f"Frame {number} {fact.subject} {place}")


def test_a_span_is_read_off_the_frames_in_it(clip):
    times_s = clip.times_s[: clip.n_uniform]
    qa_pairs = list(video_qa.when(clip, range(clip.n_uniform)))
    assert {qa.ability for qa in qa_pairs} == {"visible", "when"}
    for qa in qa_pairs:
        steps, span = qa.answer.split("." + evidence.ANSWER_LINE)
        frames, seen = steps.split(". ")
        inside = [qa.truth[0] <= t < qa.truth[1] for t in times_s]
        assert [sorted(names) for names in parse_frames(frames)] == [sorted(boxes) for boxes in clip.boxes_px[:4]]
        numbers = [n for n, is_in in enumerate(inside, 1) if is_in]
        first, last = (f"frame {n} at {times_s[n - 1]:.1f}s" for n in (numbers[0], numbers[-1]))
        assert seen == f"Seen from {first} to {last}"
        start_s, end_s = (float(second) for second in re.findall(r"([\d.]+)s", span))
        assert start_s == round(times_s[numbers[0] - 1], 1)
        assert end_s == round([*times_s, clip.duration_s][numbers[-1]], 1)  # the first frame after the span
        if qa.ability == "visible":
            (name,) = (n for n, span_s in clip.spans_s.items() if span_s == qa.truth)
            assert inside == [name in boxes for boxes in clip.boxes_px[:4]]


def test_every_claim_of_an_explanation_is_true(clip):
    answers = [qa.answer for qa in video_qa.explain(clip, range(clip.n_uniform))]
    pattern = r"frame (\d+) (\w+ \w+) (\w+ \w+) (\[[\d,]+\]) at ([\d.]+)s"
    claims = [claim for text in answers for claim in re.findall(pattern, text, re.IGNORECASE)]
    assert len(claims) > 10
    for number, name, place, box, time_s in claims:
        i = int(number) - 1
        assert box == plain_answers.format_box(clip.boxes_px[i][name]) and float(time_s) == round(clip.times_s[i], 1)
        assert place == narration.positions(clip.boxes_px[i], clip.size_wh)[name]
    conclusions = {text.split(evidence.ANSWER_LINE)[1] for text in answers}
    assert {fact.answer for fact in clip.video_facts if fact.family == "first"} <= conclusions


def test_questions_about_one_frame(clip):
    frames = range(clip.n_uniform)
    answers = {qa.question: qa.answer for qa in video_qa.in_frame(clip, frames, np.random.default_rng(0))}
    assert set(answers.values()) >= {"yes", "no"}
    for question, answer in answers.items():
        names = clip.boxes_px[int(question.rstrip("?").rsplit(" ", 1)[1]) - 1]
        if question.startswith("Is the "):
            assert (" ".join(question.split(" ")[2:4]) in names) == (answer == "yes")
        else:
            (name,) = (name for name in names if name.split(" ")[1] == question.split(" ")[4])
            assert name.split(" ")[0] == answer.lower()


def test_frames_have_numbers_and_times(clip):
    times_s = [f"{t:.1f}s" for t in clip.times_s[: clip.n_uniform]]
    qa_pairs = video_qa.frame_times(clip, range(clip.n_uniform), np.random.default_rng(0))
    answers = {qa.question: qa.answer for qa in qa_pairs}
    assert answers["At what time is frame 2?"] == times_s[1] and answers[f"Which frame is at {times_s[1]}?"] == "2"
    assert answers["At which times are the frames?"] == ", ".join(times_s)
    lines = video_qa.dense_caption(clip, range(clip.n_uniform)).answer.split("\n")
    for number, (line, time_s) in enumerate(zip(lines, times_s, strict=True), 1):
        assert line.startswith(f"Frame {number} at {time_s}: ")


def test_following_gives_the_requested_number_of_boxes(clip):
    rng = np.random.default_rng(0)
    for qa in (qa for _ in range(20) for qa in video_qa.follow(clip, range(clip.n_uniform), rng)):
        boxes = qa.answer.count("[")
        assert boxes or qa.answer == plain_answers.NOTHING
        if qa.question.startswith("Give "):
            assert int(qa.question.split(" ")[1]) == boxes


def test_every_correct_answer_gets_the_full_score(clip):
    rng = np.random.default_rng(0)
    frames = range(clip.n_uniform)
    qa_pairs = [*video_qa.find(clip, frames), *video_qa.find_in_image(clip), *video_qa.when(clip, frames)]
    for fact in video_qa.worded_facts(clip):
        qa_pairs += [video_qa.fact_question(fact, clip, frames), video_qa.choice(fact, fact.answer, rng)]
    for name in clip.crop_names:
        qa_pairs += [*crop_qa.is_this(name, rng), *crop_qa.relevance(clip, name, rng)]
    assert {qa.ability for qa in qa_pairs} == set(plain_answers.SCORES)
    for qa in qa_pairs:
        if qa.ability not in ("visible", "when"):  # their answers have the times of frames
            assert plain_answers.SCORES[qa.ability](qa.answer, qa) == 1.0, qa


def test_the_correct_option_has_the_correct_letter(clip):
    rng = np.random.default_rng(0)
    letters = set()
    for fact in video_qa.worded_facts(clip):
        qa = video_qa.choice(fact, f"Frame 2. {fact.answer}", rng)
        question, *options = qa.question.split("\n")
        assert question == fact.question
        assert dict(option.split(". ", 1) for option in options)[qa.truth] == fact.answer
        marked = "; ".join(option + " yes" * (option[0] == qa.truth) for option in options)
        assert qa.answer == f"Frame 2. {fact.answer}. {marked}\n{qa.truth}"
        letters.add(qa.truth)
    assert len(letters) > 1
