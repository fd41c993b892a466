"""Questions about a crop: what it shows, whether it shows a given object, how relevant it is to a question.

The data pipeline asks the second question ("Is this a red car?"), test-time scaling the third (relevance 0, 1 or 2).
This module does not know about models. Not part of the paper.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from o3v import toyworld
from o3v.data.filters import IS_THIS_QUESTION
from o3v.prompts import RELEVANCE
from o3v.tinybase.clips import Clip
from o3v.tinybase.plain_answers import NOTHING, QuestionAnswer

WHAT_IS_IT = "What is this?"


def is_this(name: str | None, rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Yes-no questions about a crop of an object: one with "yes", two with "no". One with "no" about background.

    `name` is the colour and kind of the object, None for background. The truth is the kind of question.
    """
    color, kind = name.split(" ") if name else (None, None)
    other_color = str(rng.choice([c for c in toyworld.COLORS if c != color]))
    other_kind = str(rng.choice([k for k in toyworld.KINDS if k != kind]))
    if name:
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=name), "yes", "right")
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=f"{other_color} {kind}"), "no", "wrong colour")
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=f"{color} {other_kind}"), "no", "wrong thing")
    else:
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=f"{other_color} {other_kind}"), "no", "background")


def name_it(name: str | None) -> QuestionAnswer:
    """Asks what a crop shows: an object or, when `name` is None, background."""
    return QuestionAnswer("name", WHAT_IS_IT, f"a {name}" if name else NOTHING)


def relevance(clip: Clip, name: str | None, rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Asks how relevant a crop is to up to two questions about its clip, one of each level of `relevance_of`.

    About a crop of background both have level 0.
    """
    facts = [*clip.video_facts, *clip.time_facts]
    for level in (2, 1) if name else (0, 0):
        matching = [fact for fact in facts if relevance_of(name, fact.question) == level]
        if matching:
            fact = matching[int(rng.integers(len(matching)))]
            yield QuestionAnswer("relevance", RELEVANCE.format(question=fact.question), str(level), level)


def relevance_of(name: str | None, question: str) -> int:
    """0 for a crop of background, 2 when the question names the object in the crop, else 1.

    A question names an object by colour and kind, or by one of the two when it does not mention the other.

    >>> relevance_of("red car", "When is the red car visible?"), relevance_of("red car", "Where is the red ball?")
    (2, 1)
    >>> relevance_of("red car", "What colour is the car?"), relevance_of(None, "What colour is the car?")
    (2, 0)
    """
    if not name:
        return 0
    color, kind = name.split(" ")
    words = re.findall(r"[a-z]+", question.lower())
    if any(word == color and after in (kind, "object") for word, after in pairwise(words)):
        return 2
    colors = set(toyworld.COLORS) & set(words)
    if not colors:
        return 2 if kind in words else 1
    return 2 if color in colors and not set(toyworld.KINDS) & set(words) else 1
