"""What a base model is taught from: batches of clips, each with questions about some of its frames.

Of a film there are many questions, of a few frames only those that these decide. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from o3v import toyworld
from o3v.tinybase import crop_qa, video_qa
from o3v.tinybase.clips import Clip
from o3v.tinybase.plain_answers import QuestionAnswer
from o3v.toyworld.narration import BEFORE_OPTIONS
from o3v.toyworld.scene_view import Fact
from o3v.toyworld.sprites import NAMES

# rows in a batch, as a multiple of its films: questions about a few frames, their caption, the same of whole films, …
ROWS_AS = {"short": 1.5, "glance": 1.5, "film": 1, "caption": 1, "picture": 4, "crop": 2}
FEW, MANY = (2, 4), (10, 15)  # frames of a short, and of a film in which key frames stand among the uniform ones
PICTURE_QUESTIONS = 6


@dataclass
class Batch:
    """Rows of one kind: what each sees and what is asked."""

    images: np.ndarray
    films: list[tuple[tuple[float, ...], float]]
    asked: list[list[QuestionAnswer]]


def draw_batch(kind: str, clips: Sequence[Clip], rows: int, rng: np.random.Generator) -> Batch:
    """A batch of one kind: `picture`, `crop`, `film` (many questions), `caption` (one dense caption), or the last two
    of a few frames: `short` and `glance`."""
    picked = [clips[i] for i in rng.integers(len(clips), size=rows)]
    make = {
        "picture": _picture,
        "crop": _crop,
        "short": _short,
        "glance": partial(_caption, few=True),
        "film": _film,
        "caption": _caption,
    }[kind]
    made = [make(clip, rng) for clip in picked]
    return Batch(np.concatenate([m[0] for m in made]), [m[1] for m in made], [m[2] for m in made])


def _picture(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Any, list[QuestionAnswer]]:
    kept = _some(video_qa.find_in_picture(clip), PICTURE_QUESTIONS - 3, rng)
    looks = [video_qa.choice(fact, fact.answer, rng) for fact in _some(_looks(clip, clip.boxes_px[-1]), 2, rng)]
    return clip.images[-1:], ((), 0.0), [video_qa.one_picture(clip), *kept, *looks]


def _crop(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Any, list[QuestionAnswer]]:
    i = int(rng.integers(len(clip.crops)))
    shown = clip.crop_names[i]
    asked = [*crop_qa.is_this(shown, rng), *crop_qa.is_this(shown, rng), crop_qa.name_it(shown)]
    asked += crop_qa.relevance(clip, shown, rng)
    return clip.crops[i : i + 1], ((), 0.0), asked


def some_frames(clip: Clip, rng: np.random.Generator, few: bool = False) -> list[int]:
    """Frames of a film in the order of time: evenly spread, as at inference, or at random, a few or about as many."""
    if not few and rng.random() < 0.5:
        return list(range(clip.uniform))
    fewest, most = FEW if few else MANY
    count = int(rng.integers(min(fewest, len(clip.images)), min(most, len(clip.images)) + 1))
    picked = rng.choice(len(clip.images), count, replace=False)
    return sorted(picked.tolist(), key=lambda i: clip.times_s[i])


def _seen(clip: Clip, frames: list[int]) -> tuple[np.ndarray, Any]:
    return clip.images[frames], (tuple(clip.times_s[i] for i in frames), clip.duration_s)


def _looks(clip: Clip, here: Iterable[str]) -> list[Fact]:
    """What the looks of these things decide."""
    return [f for f in video_qa.choosable(clip) if f.family in video_qa.LOOKS and f.subject in here]


def _some(asked: Iterable[Any], count: int, rng: np.random.Generator) -> list[Any]:
    found = list(asked)
    return [found[i] for i in rng.permutation(len(found))[:count]]


def _short(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Any, list[QuestionAnswer]]:
    """Only what the few frames themselves decide is asked."""
    frames = some_frames(clip, rng, few=True)
    spans = list(video_qa.when(clip, frames))
    here = {name for i in frames for name in clip.boxes_px[i]}
    looks = _looks(clip, here)
    asked = [
        *_some(video_qa.times(clip, frames, rng), 1, rng),
        *_some(video_qa.order(clip, frames), 1, rng),
        *_some(video_qa.follow(clip, frames, rng), 1, rng),
        video_qa.one_frame(clip, frames, int(rng.integers(len(frames))) + 1),
        *_some(video_qa.find(clip, frames), 3, rng),
        *_some(video_qa.in_frame(clip, frames, rng), 4, rng),
        *_some([a for a in spans if a.ability == "visible"], 1, rng),
        *_some([a for a in spans if a.ability == "when"], 1, rng),
        *[video_qa.asks(fact, clip, frames) for fact in _some(looks, 1, rng)],
        *[
            video_qa.choice(fact, video_qa.in_steps(fact, clip, frames, BEFORE_OPTIONS), rng)
            for fact in _some(looks, 1, rng)
        ],
    ]
    return *_seen(clip, frames), asked


def _film(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, Any, list[QuestionAnswer]]:
    frames = some_frames(clip, rng)
    facts, spans = video_qa.choosable(clip), list(video_qa.when(clip, frames))

    told = [video_qa.told_boxes(a, clip, frames, n) for a in _some(spans, 1, rng) for n in _some(clip.spans_s, 1, rng)]
    asked = [
        *_some(video_qa.times(clip, frames, rng), 1, rng),
        *_some(video_qa.order(clip, frames), 1, rng),
        *_some(video_qa.follow(clip, frames, rng), 1, rng),
        video_qa.one_frame(clip, frames, int(rng.integers(len(frames))) + 1),
        *_some(video_qa.find(clip, frames), 3, rng),
        *_some(video_qa.in_frame(clip, frames, rng), 4, rng),
        *_some([a for a in spans if a.ability == "visible"], 1, rng),
        *_some([a for a in spans if a.ability == "when"], 1, rng),
        *told,
        *_some(video_qa.what(clip, frames), 3, rng),
        *[
            video_qa.choice(fact, video_qa.in_steps(fact, clip, frames, BEFORE_OPTIONS), rng)
            for fact in _some(facts, 2, rng)
        ],
        *_some(video_qa.explain(clip, frames), 2, rng),
    ]
    return *_seen(clip, frames), asked


def _caption(clip: Clip, rng: np.random.Generator, few: bool = False) -> tuple[np.ndarray, Any, list[QuestionAnswer]]:
    frames = some_frames(clip, rng, few)
    return *_seen(clip, frames), [video_qa.every_frame(clip, frames)]


def plain_texts(clips: Sequence[Clip], seed: int) -> Iterator[str]:
    """What a base model reads and says about these clips, for making a tokenizer."""
    rng = np.random.default_rng(seed)
    words = (*toyworld.COLORS, *toyworld.KINDS, *NAMES)
    yield from (space + word for word in words for space in ("", " ") for _ in clips)
    for clip in clips:
        frames, facts = range(len(clip.images)), video_qa.choosable(clip)
        spans = list(video_qa.when(clip, frames))
        asked = [
            video_qa.every_frame(clip, frames),
            *video_qa.find(clip, frames),
            *video_qa.find_in_picture(clip),
            *video_qa.follow(clip, frames, rng),
            video_qa.one_picture(clip),
            *video_qa.times(clip, frames, rng),
            *video_qa.order(clip, frames),
            *video_qa.what(clip, frames),
            *spans,
            *video_qa.explain(clip, frames),
            *video_qa.in_frame(clip, frames, rng),
            *[video_qa.choice(fact, video_qa.in_steps(fact, clip, frames, BEFORE_OPTIONS), rng) for fact in facts],
            *[video_qa.told_boxes(a, clip, frames, name) for a, name in zip(spans, clip.spans_s, strict=False)],
        ]
        for name in clip.crop_names:
            asked += [crop_qa.name_it(name), *crop_qa.is_this(name, rng), *crop_qa.relevance(clip, name, rng)]
        yield from (text for a in asked for text in (a.question, a.answer))
