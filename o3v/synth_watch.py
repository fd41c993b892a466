"""A film watched frame by frame, in plain words: what each frame shows, what of it is new and what was asked for.

What is said here goes before an answer or a claim, which then can be read off it. Knows nothing of rows or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from o3v.geometry import Span

ASKED, NEW = " here", " new"  # marks after a name: the question asks for it; no frame before this one showed it
GOING = ("leaves", "stays")  # families of facts read off the order in which things go


def named_in(question: str, names: Iterable[str]) -> list[str]:
    """The names that a question holds; when it holds none, those whose colour or kind it does.

    >>> named_in("When is the red car visible?", ["blue cup", "red car", "red star"])
    ['red car']
    >>> named_in("What is the red object?", ["blue cup", "red car", "red star"])
    ['red car', 'red star']
    """
    words, names = " ".join(re.findall(r"[a-z]+", question.lower())), list(names)
    whole = [name for name in names if name in words]
    return whole or [name for name in names if set(name.split(" ")) & set(words.split(" "))]


def look_through(names: Sequence[Sequence[str]], question: str = "") -> str:
    """What each frame shows, by name. What the question names is marked each time, all else when it is new.

    >>> look_through([["cup"], ["cup", "car"], []], "When is the car there?")
    'Frame 1 cup new; frame 2 cup, car here; frame 3 nothing'
    """
    asked, before, said = named_in(question, [name for here in names for name in here]), set(), []
    for number, here in enumerate(names, 1):
        marks = [ASKED if name in asked else "" if name in before else NEW for name in here]
        shown = [name + mark for name, mark in zip(here, marks, strict=True)]
        said.append(f"frame {number} {', '.join(shown) or 'nothing'}")
        before.update(here)
    return "; ".join(said).capitalize()


def inside(times_s: Sequence[float], span_s: Span) -> str:
    """The first and the last frame in a span.

    >>> inside((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0))
    'Seen from frame 2 to frame 3'
    """
    numbers = [n for n, time_s in enumerate(times_s, 1) if span_s[0] <= time_s < span_s[1]]
    return f"Seen from frame {numbers[0]} to frame {numbers[-1]}" if numbers else "Seen in no frame"


def coming(names: Sequence[Sequence[str]], spans_s: Mapping[str, Span], go: bool = False) -> str:
    """In which order things come, or go, by the frames that show them; between the same two frames by `spans_s`.

    >>> coming([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    'They come: cup, car'
    """
    end, verb = (-1, "go") if go else (0, "come")
    shown = {name: [n for n, here in enumerate(names) if name in here] for name in spans_s}
    order = sorted((at[end], spans_s[name][end], name) for name, at in shown.items() if at)
    return f"They {verb}: {', '.join(name for _, _, name in order) or 'nothing'}"


def watched(family: str, question: str, names: Sequence[Sequence[str]], spans_s: Mapping[str, Span]) -> str:
    """The look that an answer of this family of facts is read off."""
    said = look_through(names, question)
    return f"{said}. {coming(names, spans_s, go=True)}" if family in GOING else said
