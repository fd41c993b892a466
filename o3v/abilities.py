"""What a base model can do before it learns to give evidence: questions in plain words, each with its right answer.

Each ability is a way of asking about a clip. The same questions are trained on and, on held-out scenes, measured. No
text here holds an evidence tag. Crops are asked about as the data pipeline does ("Is this a red car?") and as
test-time scaling does (relevance 0, 1 or 2). Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from o3v import synth
from o3v.answers import NOTHING, Asked, say_box, say_boxes, say_number, say_thing
from o3v.clips import Clip
from o3v.curate import IS_THIS
from o3v.geometry import Span
from o3v.synth_examples import LETTERS
from o3v.synth_look import Fact

ALL_FRAMES = "Describe every frame."
ONE_FRAME = "What is in the picture"
WHAT_IS_IT = "What is this?"
RELEVANCE = "Question: {question}\nHow relevant is the picture to the question? Only output one of 0, 1, 2."
FIND_AT_S = "Where is the {name} at {time_s:.1f}s?"
FOLLOW = ("At which times do you see the {name}, and where?", "Where is the {name}?", "Follow the {name}: where is it?")
LOOK = "Look from {start_s:.1f}s to {end_s:.1f}s. {question}"
COUNTED = "Give {count} boxes. {question}"
BOXES_ARE = "The boxes are {boxes}. {question}"
TIME_OF = "At what time is frame {number}?"
NUMBER_OF = "Which frame is at {time_s:.1f}s?"
ALL_TIMES = "At which times are the frames?"
IN_FRAMES = ("In which frames do you see the {name}?", "Which frames show the {name}?")


def every_frame(clip: Clip, frames: Sequence[int]) -> Asked:
    """The dense caption: the number and time of each frame, as in the prompt, and all that is in it."""
    lines = [
        f"Frame {n} at {clip.times_s[i]:.1f}s: {say_boxes(clip.boxes_px[i], clip.size_wh)}"
        for n, i in enumerate(frames, 1)
    ]
    return Asked("every frame", ALL_FRAMES, "\n".join(lines), [clip.boxes_px[i] for i in frames])


def one_frame(clip: Clip, frame: int, alone: bool) -> Asked:
    """What is in one frame of a film, or in a picture that stands alone."""
    when = "" if alone else f" at {clip.times_s[frame]:.1f}s"
    return Asked(
        "one frame", f"{ONE_FRAME}{when}?", say_boxes(clip.boxes_px[frame], clip.size_wh), clip.boxes_px[frame]
    )


def find(clip: Clip, frames: Sequence[int]) -> Iterator[Asked]:
    """Where each thing is in each of these frames of a film."""
    for i in frames:
        for name, box in clip.boxes_px[i].items():
            asked = FIND_AT_S.format(name=name, time_s=clip.times_s[i])
            yield Asked("find", asked, say_thing(name, clip.boxes_px[i], clip.size_wh), {name: box})


def find_in_picture(clip: Clip) -> Iterator[Asked]:
    """The questions about the clip's picture, which is its last frame."""
    for fact in clip.picture_facts:
        box = clip.boxes_px[-1][fact.subject]
        said = say_thing(fact.subject, clip.boxes_px[-1], clip.size_wh)
        yield Asked("find", fact.question, said, {fact.subject: box})


def follow(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[Asked]:
    """Each thing in every frame that shows it; some questions narrow the time, some say how many boxes there are."""
    for name in clip.spans_s:
        seen = [i for i in frames if name in clip.boxes_px[i]]
        question = str(rng.choice(FOLLOW)).format(name=name)
        kind = int(rng.integers(3))
        if kind == 1 and seen:
            first, last = sorted(rng.integers(len(seen), size=2).tolist())
            seen = seen[first : last + 1]
            question = LOOK.format(start_s=clip.times_s[seen[0]], end_s=clip.times_s[seen[-1]], question=question)
        elif kind == 2 and seen:
            question = COUNTED.format(count=len(seen), question=question)
        said = "; ".join(f"{say_box(clip.boxes_px[i][name])} at {clip.times_s[i]:.1f}s" for i in seen)
        yield Asked("follow", question, said or NOTHING)


def times(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[Asked]:
    """Which frame is when."""
    seconds = [clip.times_s[i] for i in frames]
    for number in rng.permutation(len(seconds)).tolist():
        said = f"{seconds[number]:.1f}s"
        if seconds.index(seconds[number]) == number:  # random frames may share a time
            yield Asked("times", NUMBER_OF.format(time_s=seconds[number]), f"{number + 1}")
        yield Asked("times", TIME_OF.format(number=number + 1), said)
    yield Asked("times", ALL_TIMES, ", ".join(f"{time_s:.1f}s" for time_s in seconds))


def frames_of(clip: Clip, frames: Sequence[int], rng: np.random.Generator) -> Iterator[Asked]:
    """In which of these frames each thing is, by their numbers in words."""
    for name in clip.spans_s:
        said = ", ".join(say_number(n) for n, i in enumerate(frames, 1) if name in clip.boxes_px[i])
        yield Asked("frames of", str(rng.choice(IN_FRAMES)).format(name=name), said or NOTHING)


def when(clip: Clip, frames: Sequence[int]) -> Iterator[Asked]:
    """Questions for a span of time. The plainest, one thing's whole visit, is the ability `visible`.

    The answer is what these frames show: which lie in the span, then the time from the first of them to the first
    after it. The truth is the span.
    """
    times_s = [clip.times_s[i] for i in frames]
    for fact in clip.time_facts:
        start_s, end_s = seen_span(fact.span_s, times_s, clip.duration_s)
        inside = [n for n, t in enumerate(times_s, 1) if fact.span_s[0] <= t < fact.span_s[1]]
        said = f"Frames {say_number(inside[0])} to {say_number(inside[-1])}" if inside else "Between two frames"
        kind = "visible" if fact.family == "when" else "when"
        yield Asked(kind, fact.question, f"{said}, from {start_s:.1f}s to {end_s:.1f}s", fact.span_s)


def seen_span(span_s: Span, times_s: Sequence[float], duration_s: float) -> Span:
    """A span as frames show it: from the first frame in it to the first after it, else to the end of the film.

    Where no frame lies in it, from the last before it.

    >>> seen_span((1.5, 4.5), (0.0, 2.0, 4.0, 6.0), 8.0), seen_span((2.5, 3.5), (0.0, 2.0, 4.0, 6.0), 8.0)
    ((2.0, 6.0), (2.0, 4.0))
    """
    end_s = min((t for t in times_s if t >= span_s[1]), default=duration_s)
    inside = [t for t in times_s if span_s[0] <= t < span_s[1]]
    before = max((t for t in times_s if t < span_s[0]), default=0.0)
    return (min(inside) if inside else before), end_s


def told_boxes(asked: Asked, clip: Clip, frames: Sequence[int], name: str) -> Asked:
    """The same question after the boxes of what it asks about, as V-STAR's second chain tells them."""
    boxes = ", ".join(say_box(clip.boxes_px[i][name]) for i in frames if name in clip.boxes_px[i])
    return replace(asked, question=BOXES_ARE.format(boxes=boxes or NOTHING, question=asked.question))


def what(clip: Clip) -> Iterator[Asked]:
    """Questions about the film whose answer is a few words: `what` those that begin with what or which."""
    for fact in choosable(clip):
        kind = "what" if re.match(r"(At [\d.]+ seconds, )?(what|which)", fact.question, re.IGNORECASE) else "other"
        yield Asked(kind, fact.question, fact.answer, fact.family)


def choosable(clip: Clip) -> list[Fact]:
    """The facts about the film that have wrong answers too: those to be answered in words, not with boxes."""
    return [fact for fact in clip.video_facts if fact.wrong]


def choice(fact: Fact, rng: np.random.Generator) -> Asked:
    """The same with four options, to be answered by a letter."""
    options = [fact.answer, *fact.wrong[: len(LETTERS) - 1]]
    order = rng.permutation(len(options)).tolist()
    lines = [f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order, strict=False)]
    return Asked("choice", "\n".join([fact.question, *lines]), LETTERS[order.index(0)], fact.family)


def is_this(shown: str, rng: np.random.Generator) -> Iterator[Asked]:
    """Questions about a crop of `shown` ("" for background): one to say yes to (if any), the others to say no to."""
    colors, things = list(synth.COLORS), list(synth.THINGS)
    color, thing = shown.split(" ") if shown else ("", "")
    other_color = str(rng.choice([c for c in colors if c != color]))
    other_thing = str(rng.choice([t for t in things if t != thing]))
    if shown:
        yield Asked("is this", IS_THIS.format(name=shown), "yes", "right")
        yield Asked("is this", IS_THIS.format(name=f"{other_color} {thing}"), "no", "wrong colour")
        yield Asked("is this", IS_THIS.format(name=f"{color} {other_thing}"), "no", "wrong thing")
    else:
        yield Asked("is this", IS_THIS.format(name=f"{other_color} {other_thing}"), "no", "background")


def name_it(shown: str) -> Asked:
    """What a crop shows."""
    return Asked("name", WHAT_IS_IT, f"a {shown}" if shown else NOTHING)


def relevance(clip: Clip, shown: str, rng: np.random.Generator) -> Iterator[Asked]:
    """Questions about the clip, and how far a crop of `shown` helps: 2 it shows what the question names, by name,
    colour or kind; 1 it shows something else; 0 it shows nothing."""
    facts = [*clip.video_facts, *clip.time_facts]
    for wanted in (2, 1):
        fitting = [f for f in facts if relevance_of(shown, f.question) == (wanted if shown else 0)]
        if fitting:
            fact = fitting[int(rng.integers(len(fitting)))]
            level = relevance_of(shown, fact.question)
            yield Asked("relevance", RELEVANCE.format(question=fact.question), str(level), level)


def relevance_of(shown: str, question: str) -> int:
    """0 for a crop of nothing, 2 when the question names what it shows, else 1.

    A thing is named by colour and kind, or by one of them where the question gives no other.

    >>> relevance_of("red car", "When is the red car visible?"), relevance_of("red car", "Where is the red ball?")
    (2, 1)
    >>> relevance_of("red car", "What colour is the car?"), relevance_of("", "What colour is the car?")
    (2, 0)
    """
    if not shown:
        return 0
    color, thing = shown.split(" ")
    words = re.findall(r"[a-z]+", question.lower())
    for here, after in zip(words, [*words[1:], ""], strict=True):
        if here == color and after in (thing, "object"):
            return 2
    colors = set(synth.COLORS) & set(words)
    if not colors:
        return 2 if thing in words else 1
    kinds = set(synth.THINGS) & set(words)
    return 2 if color in colors and not kinds else 1


def plain_texts(clips: Sequence[Clip], seed: int) -> Iterator[str]:
    """What a base model reads and says about these clips, for making a tokenizer."""
    rng = np.random.default_rng(seed)
    yield from (word for word in (*synth.COLORS, *synth.THINGS) for _ in clips)  # names without a space before them
    for clip in clips:
        frames = range(len(clip.images))
        asked = [every_frame(clip, frames), *find(clip, frames), *find_in_picture(clip), *follow(clip, frames, rng)]
        asked += [one_frame(clip, 0, alone=True), *times(clip, frames, rng), *frames_of(clip, frames, rng)]
        asked += [*what(clip), *when(clip, frames)]
        asked += [told_boxes(a, clip, frames, name) for a, name in zip(when(clip, frames), clip.spans_s, strict=False)]
        asked += [choice(fact, rng) for fact in choosable(clip)]
        asked += [
            a for name in clip.crop_names for a in (name_it(name), *is_this(name, rng), *relevance(clip, name, rng))
        ]
        yield from (text for a in asked for text in (a.question, a.answer))
