"""What is asked about a crop: what it is, whether it is this, how far it helps with a question.

The data pipeline asks the second ("Is this a red car?"), test-time scaling the third (relevance 0, 1 or 2). Knows
nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from o3v import toyworld
from o3v.data.filters import IS_THIS_QUESTION
from o3v.prompts import RELEVANCE
from o3v.tinybase.clips import Clip
from o3v.tinybase.plain_answers import NOTHING, QuestionAnswer

WHAT_IS_IT = "What is this?"


def is_this(shown: str, rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Questions about a crop of `shown` ("" for background): one to say yes to (if any), the others to say no to."""
    colors, things = list(toyworld.COLORS), list(toyworld.KINDS)
    color, thing = shown.split(" ") if shown else ("", "")
    other_color = str(rng.choice([c for c in colors if c != color]))
    other_thing = str(rng.choice([t for t in things if t != thing]))
    if shown:
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=shown), "yes", "right")
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=f"{other_color} {thing}"), "no", "wrong colour")
        yield QuestionAnswer("is this", IS_THIS_QUESTION.format(name=f"{color} {other_thing}"), "no", "wrong thing")
    else:
        yield QuestionAnswer(
            "is this", IS_THIS_QUESTION.format(name=f"{other_color} {other_thing}"), "no", "background"
        )


def name_it(shown: str) -> QuestionAnswer:
    """What a crop shows."""
    return QuestionAnswer("name", WHAT_IS_IT, f"a {shown}" if shown else NOTHING)


def relevance(clip: Clip, shown: str, rng: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Questions about the clip, and how far a crop of `shown` helps: 2 it shows what the question names, by name,
    colour or kind; 1 it shows something else; 0 it shows nothing."""
    facts = [*clip.video_facts, *clip.time_facts]
    for wanted in (2, 1):
        fitting = [f for f in facts if relevance_of(shown, f.question) == (wanted if shown else 0)]
        if fitting:
            fact = fitting[int(rng.integers(len(fitting)))]
            level = relevance_of(shown, fact.question)
            yield QuestionAnswer("relevance", RELEVANCE.format(question=fact.question), str(level), level)


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
    colors = set(toyworld.COLORS) & set(words)
    if not colors:
        return 2 if thing in words else 1
    kinds = set(toyworld.KINDS) & set(words)
    return 2 if color in colors and not kinds else 1
