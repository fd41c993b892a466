"""What a base model can do before it learns to give evidence: questions in plain words, each with its right answer.

Each ability is a way of asking about a clip. The same questions are trained on and, on held-out scenes, measured. No
text here holds an evidence tag. Knows nothing of models.
"""

from __future__ import annotations

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
COLOR_IN = "What colour is the {thing} in frame {number}?"
IS_IN = "Is the {name} in frame {number}?"
LOOKS = ("color", "thing")  # families of facts that one picture shows
# families that the names of what is in each frame decide
WATCHED = (*LOOKS, "first", "last", "after", "before", "count", "leaves", "stays", "longest", "already")


def watch(clip: Clip, frames: Sequence[int]) -> WatchedVideo:
    """These frames of a clip, as the narrator of the toy world sees them. Boxes are pixels."""
    times_s = [clip.times_s[i] for i in frames]
    boxes_px = [clip.boxes_px[i] for i in frames]
    return WatchedVideo(
        boxes_px, clip.size_wh, times_s, clip.spans_s, lambda i, frame: abs(times_s[i] - frame / clip.fps)
    )


def every_frame(clip: Clip, frames: Sequence[int]) -> QuestionAnswer:
    """The dense caption: the number and time of each frame, as in the prompt, and all that is in it."""
    lines = [
        format_frame(n, clip.times_s[i]) + format_boxes(clip.boxes_px[i], clip.size_wh) for n, i in enumerate(frames, 1)
    ]
    return QuestionAnswer("every frame", ALL_FRAMES, "\n".join(lines), [clip.boxes_px[i] for i in frames])


def one_picture(clip: Clip) -> QuestionAnswer:
    """What is in the clip's picture, which is its last frame."""
    said = format_boxes(clip.boxes_px[-1], clip.size_wh)
    return QuestionAnswer("one frame", f"{ONE_FRAME}?", said, clip.boxes_px[-1])


def one_frame(clip: Clip, frames: Sequence[int], number: int) -> QuestionAnswer:
    """What is in one frame of a film, the `number`-th of these from 1."""
    i = frames[number - 1]
    said = format_frame(number, clip.times_s[i]) + format_boxes(clip.boxes_px[i], clip.size_wh)
    return QuestionAnswer("one frame", f"{ONE_FRAME} at {clip.times_s[i]:.1f}s?", said, clip.boxes_px[i])


def find(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Where each thing is in each of these frames of a film."""
    for number, i in enumerate(frames, 1):
        for name, box in clip.boxes_px[i].items():
            asked = FIND_AT_S.format(name=name, time_s=clip.times_s[i])
            said = format_frame(number, clip.times_s[i]) + format_object(name, clip.boxes_px[i], clip.size_wh)
            yield QuestionAnswer("find", asked, said, {name: box})


def find_in_picture(clip: Clip) -> Iterator[QuestionAnswer]:
    """The questions about the clip's picture, which is its last frame."""
    for fact in clip.image_facts:
        box = clip.boxes_px[-1][fact.subject]
        said = format_object(fact.subject, clip.boxes_px[-1], clip.size_wh)
        yield QuestionAnswer("find", fact.question, said, {fact.subject: box})


def follow(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Each thing in every frame that shows it; some questions narrow the time, some say how many boxes there are."""
    video = watch(clip, frames)
    for name in clip.spans_s:
        seen = [i for i in frames if name in clip.boxes_px[i]]
        question = str(rng.choice(FOLLOW)).format(name=name)
        kind = int(rng.integers(3))
        if kind == 1 and seen:
            first, last = sorted(rng.integers(len(seen), size=2).tolist())
            seen = seen[first : last + 1]
            question = WITH_SPAN.format(start_s=clip.times_s[seen[0]], end_s=clip.times_s[seen[-1]], question=question)
        elif kind == 2 and seen:
            question = WITH_BOX_COUNT.format(count=len(seen), question=question)
        said = "; ".join(_claim(video, name, frames.index(i) + 1) for i in seen)
        yield QuestionAnswer("follow", question, said.capitalize() or NOTHING)


def times(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Which frame is when."""
    seconds = [clip.times_s[i] for i in frames]
    for number in rng.permutation(len(seconds)).tolist():
        said = f"{seconds[number]:.1f}s"
        if seconds.index(seconds[number]) == number:  # random frames may share a time
            yield QuestionAnswer("times", NUMBER_OF.format(time_s=seconds[number]), f"{number + 1}")
        yield QuestionAnswer("times", TIME_OF.format(number=number + 1), said)
    yield QuestionAnswer("times", ALL_TIMES, ", ".join(f"{time_s:.1f}s" for time_s in seconds))


def order(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """In which order things come and go, by the first and the last of these frames that show each."""
    names = watch(clip, frames).positions
    for kind, question in ORDER.items():
        said = f"{describe_frames(names, clip.spans_s)}. {describe_order(names, clip.spans_s, going=kind == 'go')}"
        yield QuestionAnswer("order", question, said)


def when(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Questions for a span of time. The plainest, one thing's whole visit, is the ability `visible`.

    The answer is what these frames show: the things in each by name, the first and the last in the span with their
    times, and then the time from the first frame in the span to the first after. The truth is the span. Questions about
    spans between two frames are left out.
    """
    video = watch(clip, frames)
    for fact in clip.time_facts:
        if any(fact.span_s[0] <= t < fact.span_s[1] for t in video.times_s):
            kind = "visible" if fact.family == "when" else "when"
            said = f"{_look(fact, clip, video)}.{ANSWER_LINE}{_span(clip, frames, fact)}"
            yield QuestionAnswer(kind, fact.question, said, fact.span_s)


def _look(fact: Fact, clip: Clip, video: WatchedVideo) -> str:
    """The narrator's look. For a span, and to follow an object, also the first and the last frame in the span."""
    look, timed = video.look(fact), fact in clip.time_facts
    if timed or fact.family == "track":
        look += f". {describe_span(video.times_s, fact.span_s, '{:.1f}s'.format if timed else None)}"
    return look


def _span(clip: Clip, frames: Sequence[int], fact: Fact) -> str:
    start_s, end_s = span_on_frames(fact.span_s, [clip.times_s[i] for i in frames], clip.duration_s)
    return f"From {start_s:.1f}s to {end_s:.1f}s"


def told_boxes(asked: QuestionAnswer, clip: Clip, frames: Sequence[int], name: str) -> QuestionAnswer:
    """The same question after the boxes of what it asks about, as V-STAR's second chain tells them."""
    boxes = ", ".join(format_box(clip.boxes_px[i][name]) for i in frames if name in clip.boxes_px[i])
    return replace(asked, question=WITH_BOXES.format(boxes=boxes or NOTHING, question=asked.question))


def in_frame(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """What one frame shows of each thing in it, its colour and whether it is there, and that another is not."""
    for number, i in enumerate(frames, 1):
        here = list(clip.boxes_px[i])
        kinds = [name.split(" ")[1] for name in here]
        for name, thing in zip(here, kinds, strict=True):
            yield QuestionAnswer("in frame", IS_IN.format(name=name, number=number), "yes")
            if kinds.count(thing) == 1:
                yield QuestionAnswer(
                    "in frame", COLOR_IN.format(thing=thing, number=number), name.split(" ")[0].capitalize()
                )
        absent = [name for name in clip.spans_s if name not in here]
        for name in rng.permutation(absent).tolist()[: len(here)]:
            yield QuestionAnswer("in frame", IS_IN.format(name=name, number=number), "no")


def what(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Questions about the film whose answer is a few words: `what` those that begin with what or which."""
    for fact in choosable(clip):
        yield asks(fact, clip, frames)


def asks(fact: Fact, clip: Clip, frames: Sequence[int]) -> QuestionAnswer:
    """One such question."""
    kind = "what" if re.match(r"(At [\d.]+ seconds, )?(what|which)", fact.question, re.IGNORECASE) else "other"
    return QuestionAnswer(kind, fact.question, in_steps(fact, clip, frames), fact.family)


def in_steps(fact: Fact, clip: Clip, frames: Sequence[int], then: str = ANSWER_LINE) -> str:
    """The answer, after the steps that lead to it: what every frame shows, where a thing comes and goes, or what is
    where in the frames that the fact shows; and what is asked for with the thing that it is."""
    video = watch(clip, frames)
    conclusion = f".{video.read_off(fact)}{then}{fact.answer}"
    if fact.family in (*WATCHED, *SIDE_BY_SIDE):
        return _look(fact, clip, video) + conclusion
    shown = video.shown(fact)
    if fact.family == "place" or not shown:
        return fact.answer
    if fact.family == "side":
        close = video.close_look(fact)
        return close + conclusion if close else fact.answer
    if fact.family == "where":
        return video.entry(*shown[0]).capitalize() + conclusion
    return (
        f"{_look(fact, clip, video)}. {describe_way(fact.subject, video.positions)}{conclusion}"  # what an object does
    )


def explain(clip: Clip, frames: Sequence[int]) -> Iterator[QuestionAnswer]:
    """Questions to be explained: what every frame shows, the chain of seeing from these frames, and then the answer.

    A thing is named after the number of its frame, then come its place there, its box and time. Chains that need a
    thing which none of these frames shows are left out.
    """
    video = watch(clip, frames)
    for fact in clip.video_facts:
        shown = video.shown(fact)
        if shown:
            chain = fact.chain.format(*(_claim(video, name, number) for name, number in shown))
            said = f"{_look(fact, clip, video)}. {chain}{video.read_off(fact)}{ANSWER_LINE}{fact.answer}"
            yield QuestionAnswer("explain", EXPLAIN.format(question=fact.question), said)


def _claim(video: WatchedVideo, name: str, number: int) -> str:
    """An object with its place, box and time in one of these frames, counted from 1."""
    box, time_s = video.boxes[number - 1][name], video.times_s[number - 1]
    return f"{video.entry(name, number)} {format_box(box)} at {time_s:.1f}s"


def choosable(clip: Clip) -> list[Fact]:
    """The facts about the film that have wrong answers too: those to be answered in words, not with boxes."""
    return [fact for fact in clip.video_facts if fact.wrong]


def choice(fact: Fact, said: str, rng: np.random.Generator) -> QuestionAnswer:
    """A fact with four options, to be answered by what is `said` without options, by these again, of which the right
    one is marked, and then by its letter."""
    options = [fact.answer, *fact.wrong[: len(LETTERS) - 1]]
    order = rng.permutation(len(options)).tolist()
    lines = [f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order, strict=False)]
    right = order.index(0)
    return QuestionAnswer(
        "choice",
        "\n".join([fact.question, *lines]),
        f"{said}. {mark_option(lines, right)}\n{LETTERS[right]}",
        LETTERS[right],
    )
