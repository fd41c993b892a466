"""Training batches for the base model: rows of a few kinds, each with images and many questions about them.

Frames are sampled at random; each row asks only about what its frames show. This module does not know about models.
Not part of the paper.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from o3v import prompts, toyworld
from o3v.tinybase import crop_qa, video_qa
from o3v.tinybase.clips import Clip
from o3v.tinybase.plain_answers import QuestionAnswer
from o3v.toyworld.narration import BEFORE_OPTIONS
from o3v.toyworld.scene_view import Fact
from o3v.toyworld.sprites import NAMES

# rows per batch of each kind, as a multiple of the batch size in videos
ROW_FACTORS = {"short": 1.5, "glance": 1.5, "film": 1, "caption": 1, "picture": 4, "crop": 2}
FEW, MANY = (2, 4), (10, 15)  # range of the number of frames: in a short row, and in a row of a whole video
IMAGE_QUESTIONS = 6  # about the image of a clip, at most

Row = tuple[np.ndarray, tuple[Sequence[float], float], list[QuestionAnswer]]


@dataclass
class Batch:
    """Rows of one kind."""

    images: np.ndarray  # (n, height, width, 3) uint8, the frames of all rows in order
    videos: list[tuple[Sequence[float], float]]  # frame times and duration of each row in seconds; ((), 0.0): one image
    qa_pairs: list[list[QuestionAnswer]]  # of each row


def draw_batch(kind: str, clips: Sequence[Clip], rows: int, rng: np.random.Generator) -> Batch:
    """Draws `rows` rows of one kind from random clips.

    Kinds: `picture` (one image), `crop`, `film` (many questions about a whole video), `caption` (its dense caption),
    `short` and `glance` (the last two for two to four frames). Raises KeyError for another kind.
    """
    chosen = [clips[i] for i in rng.integers(len(clips), size=rows)]
    images, videos, qa_pairs = zip(*[MAKERS[kind](clip, rng) for clip in chosen], strict=True)
    return Batch(np.concatenate(images), list(videos), list(qa_pairs))


def sample_frames(clip: Clip, rng: np.random.Generator, few: bool = False) -> list[int]:
    """Indices of frames of a clip in the order of time.

    Half of the time the evenly spaced frames of inference, else about as many random ones; with `few` always two to
    four random ones.
    """
    if not few and rng.random() < 0.5:
        return list(range(clip.n_uniform))
    low, high = (min(bound, len(clip.images)) for bound in (FEW if few else MANY))
    count = int(rng.integers(low, high + 1))
    indices = rng.choice(len(clip.images), count, replace=False)
    return sorted(indices.tolist(), key=lambda i: clip.times_s[i])


def _image_row(clip: Clip, rng: np.random.Generator) -> Row:
    qa_pairs = [
        video_qa.image_caption(clip),
        *_sample(video_qa.find_in_image(clip), IMAGE_QUESTIONS - 3, rng),
        *[video_qa.choice(f, f.answer, rng) for f in _sample(_appearances(clip, clip.boxes_px[-1]), 2, rng)],
    ]
    return clip.images[-1:], ((), 0.0), qa_pairs


def _crop_row(clip: Clip, rng: np.random.Generator) -> Row:
    i = int(rng.integers(len(clip.crops)))
    name = clip.crop_names[i]
    qa_pairs = [*crop_qa.is_this(name, rng), *crop_qa.is_this(name, rng), crop_qa.name_it(name)]
    return clip.crops[i : i + 1], ((), 0.0), [*qa_pairs, *crop_qa.relevance(clip, name, rng)]


def _short_row(clip: Clip, rng: np.random.Generator) -> Row:
    frames = sample_frames(clip, rng, few=True)
    facts = _appearances(clip, {name for i in frames for name in clip.boxes_px[i]})
    qa_pairs = [
        *_frame_questions(clip, frames, list(video_qa.when(clip, frames)), rng),
        *[video_qa.fact_question(fact, clip, frames) for fact in _sample(facts, 1, rng)],
        *_choices(clip, frames, _sample(facts, 1, rng), rng),
    ]
    return *_frames_of(clip, frames), qa_pairs


def _video_row(clip: Clip, rng: np.random.Generator) -> Row:
    frames = sample_frames(clip, rng)
    spans = list(video_qa.when(clip, frames))
    with_boxes = [
        video_qa.with_boxes(qa, clip, frames, name)
        for qa in _sample(spans, 1, rng)
        for name in _sample(clip.spans_s, 1, rng)
    ]
    qa_pairs = [
        *_frame_questions(clip, frames, spans, rng),
        *with_boxes,
        *[video_qa.fact_question(f, clip, frames) for f in _sample(video_qa.worded_facts(clip), 3, rng)],
        *_choices(clip, frames, _sample(video_qa.worded_facts(clip), 2, rng), rng),
        *_sample(video_qa.explain(clip, frames), 2, rng),
    ]
    return *_frames_of(clip, frames), qa_pairs


def _caption_row(clip: Clip, rng: np.random.Generator, few: bool = False) -> Row:
    frames = sample_frames(clip, rng, few)
    return *_frames_of(clip, frames), [video_qa.dense_caption(clip, frames)]


MAKERS: dict[str, Callable[[Clip, np.random.Generator], Row]] = {
    "picture": _image_row,
    "crop": _crop_row,
    "short": _short_row,
    "glance": partial(_caption_row, few=True),
    "film": _video_row,
    "caption": _caption_row,
}


def _frame_questions(
    clip: Clip, frames: Sequence[int], spans: Sequence[QuestionAnswer], rng: np.random.Generator
) -> list[QuestionAnswer]:
    """Questions that any number of frames can answer; `spans` are those of `video_qa.when` to choose from."""
    return [
        *_sample(video_qa.frame_times(clip, frames, rng), 1, rng),
        *_sample(video_qa.order(clip, frames), 1, rng),
        *_sample(video_qa.follow(clip, frames, rng), 1, rng),
        video_qa.frame_caption(clip, frames, int(rng.integers(len(frames))) + 1),
        *_sample(video_qa.find(clip, frames), 3, rng),
        *_sample(video_qa.in_frame(clip, frames, rng), 4, rng),
        *_sample([qa for qa in spans if qa.ability == "visible"], 1, rng),
        *_sample([qa for qa in spans if qa.ability == "when"], 1, rng),
    ]


def _choices(
    clip: Clip, frames: Sequence[int], facts: Sequence[Fact], rng: np.random.Generator
) -> list[QuestionAnswer]:
    return [video_qa.choice(f, video_qa.stepwise_answer(f, clip, frames, BEFORE_OPTIONS), rng) for f in facts]


def _frames_of(clip: Clip, frames: list[int]) -> tuple[np.ndarray, tuple[Sequence[float], float]]:
    return clip.images[frames], (tuple(clip.times_s[i] for i in frames), clip.duration_s)


def _appearances(clip: Clip, names: Iterable[str]) -> list[Fact]:
    """Facts about the colour or kind of these objects."""
    return [f for f in video_qa.worded_facts(clip) if f.family in video_qa.APPEARANCE and f.subject in names]


def _sample(items: Iterable[Any], count: int, rng: np.random.Generator) -> list[Any]:
    """At most `count` random items without replacement."""
    items = list(items)
    return [items[i] for i in rng.permutation(len(items))[:count]]


def tokenizer_texts(clips: Sequence[Clip], seed: int) -> Iterator[str]:
    """Texts to train the tokenizer on: questions and answers about these clips, system prompts and frame prompts."""
    rng = np.random.default_rng(seed)
    words = (*toyworld.COLORS, *toyworld.KINDS, *NAMES)
    yield from (space + word for word in words for space in ("", " ") for _ in clips)
    for clip in clips:
        yield from (text for qa in _all_questions(clip, rng) for text in (qa.question, qa.answer))
    yield from prompts.SYSTEM_PROMPTS.values()
    for clip in clips:
        parts = prompts.frame_parts(clip.times_s, clip.duration_s)
        yield from (part["text"] for part in parts if part["type"] == "text")


def _all_questions(clip: Clip, rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Every question about a clip and its crops."""
    frames = range(len(clip.images))
    spans = list(video_qa.when(clip, frames))
    yield video_qa.dense_caption(clip, frames)
    yield from video_qa.find(clip, frames)
    yield from video_qa.find_in_image(clip)
    yield from video_qa.follow(clip, frames, rng)
    yield video_qa.image_caption(clip)
    yield from video_qa.frame_times(clip, frames, rng)
    yield from video_qa.order(clip, frames)
    yield from (video_qa.fact_question(fact, clip, frames) for fact in video_qa.worded_facts(clip))
    yield from spans
    yield from video_qa.explain(clip, frames)
    yield from video_qa.in_frame(clip, frames, rng)
    yield from _choices(clip, frames, video_qa.worded_facts(clip), rng)
    yield from (video_qa.with_boxes(qa, clip, frames, name) for qa, name in zip(spans, clip.spans_s, strict=False))
    for name in clip.crop_names:
        yield crop_qa.name_it(name)
        yield from crop_qa.is_this(name, rng)
        yield from crop_qa.relevance(clip, name, rng)
