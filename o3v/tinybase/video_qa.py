"""Questions about a clip in plain words, with their correct answers: what a base model can do before SFT.

Each function makes the questions of one ability. Training uses them, and `probes` measures them on held-out clips. In
all functions `frames` are indices of the clip's frames that the model sees, in the order of time; frame numbers in
texts start at 1. No text contains an evidence tag. This module does not know about models. Not part of the paper.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from o3v.evidence import ANSWER_LINE
from o3v.geometry import span_on_frames
from o3v.prompts import WITH_BOX_COUNT, WITH_BOXES, WITH_SPAN
from o3v.tinybase.clips import Clip
from o3v.tinybase.plain_answers import NOTHING, QuestionAnswer, format_box, format_boxes, format_frame, format_object
from o3v.toyworld.narration import (
    SIDE_BY_SIDE,
    WatchedVideo,
    describe_frames,
    describe_order,
    describe_span,
    describe_way,
    mark_option,
)
from o3v.toyworld.scene_view import Fact
from o3v.toyworld.tasks import LETTERS

ALL_FRAMES = "Describe every frame."
ONE_FRAME = "What is in the picture"
FIND_AT_S = "Where is the {name} at {time_s:.1f}s?"
FOLLOW = ("At which times do you see the {name}, and where?", "Where is the {name}?", "Follow the {name}: where is it?")
TIME_OF = "At what time is frame {number}?"
NUMBER_OF = "Which frame is at {time_s:.1f}s?"
ALL_TIMES = "At which times are the frames?"
ORDER = {"come": "In which order do the objects come?", "go": "In which order do the objects go?"}
EXPLAIN = "{question} Explain."
COLOR_IN = "What colour is the {kind} in frame {number}?"
IS_IN = "Is the {name} in frame {number}?"
APPEARANCE = ("color", "thing")  # families of facts about the look of one object
# families whose answers follow from the names of the objects in each frame
FROM_FRAME_LIST = (*APPEARANCE, "first", "last", "after", "before", "count", "leaves", "stays", "longest", "already")


def watch(clip: Clip, frames: Sequence[int]) -> WatchedVideo:
    """The view of the toy world's narrator on frames of a clip. Boxes are in pixels."""
    times_s = [clip.times_s[i] for i in frames]
    boxes_px = [clip.boxes_px[i] for i in frames]
    return WatchedVideo(
        boxes_px, clip.size_wh, times_s, clip.spans_s, lambda i, frame: abs(times_s[i] - frame / clip.fps)
    )


def dense_caption(clip: Clip, frames: Sequence[int]) -> QuestionAnswer:
    """Asks for all objects of all frames. The truth is the boxes of each frame."""
    lines = [_describe_frame(clip, frames, number) for number in range(1, len(frames) + 1)]
    return QuestionAnswer("every frame", ALL_FRAMES, "\n".join(lines), [clip.boxes_px[i] for i in frames])


def image_caption(clip: Clip) -> QuestionAnswer:
    """Asks for all objects of the clip's image, which is its last frame."""
    boxes_px = clip.boxes_px[-1]
    return QuestionAnswer("one frame", f"{ONE_FRAME}?", format_boxes(boxes_px, clip.size_wh), boxes_px)


def frame_caption(clip: Clip, frames: Sequence[int], number: int) -> QuestionAnswer:
    """Asks for all objects of the frame with this number."""
    i = frames[number - 1]
    question = f"{ONE_FRAME} at {clip.times_s[i]:.1f}s?"
    return QuestionAnswer("one frame", question, _describe_frame(clip, frames, number), clip.boxes_px[i])


def _describe_frame(clip: Clip, frames: Sequence[int], number: int) -> str:
    i = frames[number - 1]
    return format_frame(number, clip.times_s[i]) + format_boxes(clip.boxes_px[i], clip.size_wh)


def find(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Asks where each object is in each frame that shows it. The truth is its box."""
    for number, i in enumerate(frames, 1):
        for name, box in clip.boxes_px[i].items():
            question = FIND_AT_S.format(name=name, time_s=clip.times_s[i])
            answer = format_frame(number, clip.times_s[i]) + format_object(name, clip.boxes_px[i], clip.size_wh)
            yield QuestionAnswer("find", question, answer, {name: box})


def find_in_image(clip: Clip) -> Iterator[QuestionAnswer]:
    """Asks where objects are in the clip's image, which is its last frame. The truth is their box."""
    boxes_px = clip.boxes_px[-1]
    for fact in clip.image_facts:
        answer = format_object(fact.subject, boxes_px, clip.size_wh)
        yield QuestionAnswer("find", fact.question, answer, {fact.subject: boxes_px[fact.subject]})


def follow(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Asks for each object in all frames that show it. Some questions give a time span, some the number of boxes."""
    video = watch(clip, frames)
    for name in clip.spans_s:
        visible = [i for i in frames if name in clip.boxes_px[i]]
        question = str(rng.choice(FOLLOW)).format(name=name)
        hint = int(rng.integers(3))
        if hint == 1 and visible:
            first, last = sorted(rng.integers(len(visible), size=2).tolist())
            visible = visible[first : last + 1]
            start_s, end_s = clip.times_s[visible[0]], clip.times_s[visible[-1]]
            question = WITH_SPAN.format(start_s=start_s, end_s=end_s, question=question)
        elif hint == 2 and visible:
            question = WITH_BOX_COUNT.format(count=len(visible), question=question)
        answer = "; ".join(_claim(video, name, frames.index(i) + 1) for i in visible)
        yield QuestionAnswer("follow", question, answer.capitalize() or NOTHING)


def frame_times(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Asks for the time of a frame, for the frame at a time, and for all times."""
    times_s = [clip.times_s[i] for i in frames]
    for i in rng.permutation(len(times_s)).tolist():
        if times_s.index(times_s[i]) == i:  # random frames can have equal times
            yield QuestionAnswer("times", NUMBER_OF.format(time_s=times_s[i]), f"{i + 1}")
        yield QuestionAnswer("times", TIME_OF.format(number=i + 1), f"{times_s[i]:.1f}s")
    yield QuestionAnswer("times", ALL_TIMES, ", ".join(f"{time_s:.1f}s" for time_s in times_s))


def order(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Asks in which order objects come and go, by the first and the last frame that shows each."""
    names = watch(clip, frames).positions
    for kind, question in ORDER.items():
        steps = f"{describe_frames(names, clip.spans_s)}. {describe_order(names, clip.spans_s, going=kind == 'go')}"
        yield QuestionAnswer("order", question, steps)


def when(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Asks for time spans. The ability `visible` is the visibility of one object, `when` is any other span.

    The answer lists the objects of each frame and the first and last frame in the span, and then gives the span. The
    given span starts at the first frame in the true span and ends at the first frame after it. The truth is the true
    span in seconds. Facts whose span contains none of the frames are omitted.
    """
    video = watch(clip, frames)
    for fact in clip.time_facts:
        if any(fact.span_s[0] <= t < fact.span_s[1] for t in video.times_s):
            start_s, end_s = span_on_frames(fact.span_s, video.times_s, clip.duration_s)
            answer = f"{_look(fact, clip, video)}.{ANSWER_LINE}From {start_s:.1f}s to {end_s:.1f}s"
            yield QuestionAnswer("visible" if fact.family == "when" else "when", fact.question, answer, fact.span_s)


def _look(fact: Fact, clip: Clip, video: WatchedVideo) -> str:
    """The narrator's look. For a span, and to follow an object, also the first and the last frame in the span."""
    look, timed = video.look(fact), fact in clip.time_facts
    if timed or fact.family == "track":
        look += f". {describe_span(video.times_s, fact.span_s, '{:.1f}s'.format if timed else None)}"
    return look


def with_boxes(qa: QuestionAnswer, clip: Clip, frames: Sequence[int], name: str) -> QuestionAnswer:
    """Puts the boxes of the object `name` before the question, as V-STAR's second chain does."""
    boxes = ", ".join(format_box(clip.boxes_px[i][name]) for i in frames if name in clip.boxes_px[i])
    return replace(qa, question=WITH_BOXES.format(boxes=boxes or NOTHING, question=qa.question))


def in_frame(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Asks about one frame: whether an object is in it, and the colour of an object whose kind is unique there."""
    for number, i in enumerate(frames, 1):
        names = list(clip.boxes_px[i])
        kinds = [name.split(" ")[1] for name in names]
        for name, kind in zip(names, kinds, strict=True):
            yield QuestionAnswer("in frame", IS_IN.format(name=name, number=number), "yes")
            if kinds.count(kind) == 1:
                color = name.split(" ")[0].capitalize()
                yield QuestionAnswer("in frame", COLOR_IN.format(kind=kind, number=number), color)
        absent = [name for name in clip.spans_s if name not in names]
        for name in rng.permutation(absent).tolist()[: len(names)]:
            yield QuestionAnswer("in frame", IS_IN.format(name=name, number=number), "no")


def fact_question(fact: Fact, clip: Clip, frames: Sequence[int]) -> QuestionAnswer:
    """Asks about one worded fact. The ability is `what` for questions with "what" or "which", else `other`."""
    is_what = re.match(r"(At [\d.]+ seconds, )?(what|which)", fact.question, re.IGNORECASE)
    return QuestionAnswer(
        "what" if is_what else "other", fact.question, stepwise_answer(fact, clip, frames), fact.family
    )


def stepwise_answer(fact: Fact, clip: Clip, frames: Sequence[int], separator: str = ANSWER_LINE) -> str:
    """The answer to a fact after the steps that lead to it; only the answer where there is nothing to read it off.

    The steps depend on the family: the objects of each frame, the places of an object over time, or the objects of the
    frame that decides. The conclusion follows, then `separator` and the answer.
    """
    video = watch(clip, frames)
    shown = video.shown(fact)
    if fact.family in (*FROM_FRAME_LIST, *SIDE_BY_SIDE):
        steps = _look(fact, clip, video)
    elif fact.family == "place" or not shown:
        steps = ""
    elif fact.family == "side":
        steps = video.close_look(fact)
    elif fact.family == "where":
        steps = video.entry(*shown[0]).capitalize()
    else:  # what an object does
        steps = f"{_look(fact, clip, video)}. {describe_way(fact.subject, video.positions)}"
    return f"{steps}.{video.conclusion(fact)}{separator}{fact.answer}" if steps else fact.answer


def explain(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Asks for an explanation: the objects of each frame, the reasoning with boxes and times, and then the answer.

    Facts about an object that none of the frames shows are omitted.
    """
    video = watch(clip, frames)
    for fact in clip.video_facts:
        shown = video.shown(fact)
        if shown:
            chain = fact.chain.format(*(_claim(video, name, number) for name, number in shown))
            answer = f"{_look(fact, clip, video)}. {chain}{video.conclusion(fact)}{ANSWER_LINE}{fact.answer}"
            yield QuestionAnswer("explain", EXPLAIN.format(question=fact.question), answer)


def _claim(video: WatchedVideo, name: str, number: int) -> str:
    """An object with its place, box and time in the frame with this number."""
    box, time_s = video.boxes[number - 1][name], video.times_s[number - 1]
    return f"{video.entry(name, number)} {format_box(box)} at {time_s:.1f}s"


def worded_facts(clip: Clip) -> list[Fact]:
    """The facts about the video that are answered in words, not with boxes. They have wrong answers too."""
    return [fact for fact in clip.video_facts if fact.wrong]


def choice(fact: Fact, answer: str, rng: np.random.Generator) -> QuestionAnswer:
    """Asks about a fact with up to four options in random order. The truth is the correct letter.

    The correct answer is `answer` (that to the question without options), the options again with a mark at the correct
    one, and the letter on its own line.
    """
    options = [fact.answer, *fact.wrong[: len(LETTERS) - 1]]
    permutation = rng.permutation(len(options)).tolist()
    lines = [f"{letter}. {options[i]}" for letter, i in zip(LETTERS, permutation, strict=False)]
    correct = permutation.index(0)
    return QuestionAnswer(
        "choice",
        "\n".join([fact.question, *lines]),
        f"{answer}. {mark_option(lines, correct)}\n{LETTERS[correct]}",
        LETTERS[correct],
    )
