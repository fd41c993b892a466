"""A film watched frame by frame, in plain words: what each frame shows, where a span begins and ends, who comes next.

What is said here goes before an answer or a claim, which then can be read off it. Knows nothing of rows or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from o3v.geometry import Span, seen_span

COMING = ("first", "last", "after", "before", "count")  # families of facts read off the order in which things come
GOING = ("leaves", "stays")  # and in which they go


def look_through(names: Sequence[Sequence[str]], marks: Sequence[str] = ()) -> str:
    """What each frame shows, by name, and after it a mark if there are marks.

    >>> look_through([["cup"], ["cup", "car"], []])
    'Frame 1 cup; frame 2 cup, car; frame 3 nothing'
    """
    said = [f"frame {n} {', '.join(here) or 'nothing'}" for n, here in enumerate(names, 1)]
    if marks:
        said = [f"{frame}: {mark}" for frame, mark in zip(said, marks, strict=True)]
    return "; ".join(said).capitalize()


def span_marks(times_s: Sequence[float], span_s: Span, duration_s: float) -> list[str]:
    """Of each frame whether it lies in the span, and the times of the first in it and the first after it.

    >>> span_marks((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0), 9.0)
    ['no', 'from 2.0s', 'yes', 'to 6.0s', 'no']
    """
    inside = [span_s[0] <= t < span_s[1] for t in times_s]
    if not any(inside):
        return ["no"] * len(times_s)
    start_s, end_s = seen_span(span_s, times_s, duration_s)
    marks = ["yes" if here else "no" for here in inside]
    first, after = inside.index(True), len(inside) - inside[::-1].index(True)
    marks[first] = f"from {start_s:.1f}s"
    if after < len(marks):
        marks[after] = f"to {end_s:.1f}s"
    return marks


def watched(family: str, names: Sequence[Sequence[str]], spans_s: Mapping[str, Span]) -> str:
    """What each frame shows, and for some families of facts the order in which things come or go.

    Of those that come or go between the same two frames the order is the true one, by `spans_s`.

    >>> watched("after", [["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    'Frame 1 cup; frame 2 cup, car. They come: cup, car'
    """
    said = look_through(names)
    if family in COMING + GOING:
        end, verb = (0, "come") if family in COMING else (-1, "go")
        shown = {name: [n for n, here in enumerate(names) if name in here] for name in spans_s}
        order = sorted((at[end], spans_s[name][end], name) for name, at in shown.items() if at)
        said += f". They {verb}: {', '.join(name for _, _, name in order) or 'nothing'}"
    return said
