"""Describes a video frame by frame in plain words, before a claim or an answer that follows from it.

A description tells what each frame shows and where, in which order objects come and go, and which object the question
mentions. Departs from the paper: a model as small as ours needs these steps. This module does not know rows or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from o3v.geometry import Box, Size, Span, box_area
from o3v.toyworld.scene_view import Fact
from o3v.video.frames import uniform_indices

N_WATCHED = 12  # number of frames that are described: as many as profile tiny shows
ASKED_MARK = " here"  # follows a name that the question mentions
ORDINALS = (" first", " second", " third", " fourth", " fifth")  # follows a name where its object first appears
BEFORE_OPTIONS = " So: "  # comes before the answer in words when options follow it
LAST_MARK = "last "  # comes before the last object of a list
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
RIGHT_MARK = " yes"  # follows the correct option
CONCLUSIONS = {  # how the conclusion of a family begins
    "first": "First:",
    "last": "The last",
    "leaves": "First to go:",
    "stays": "The last",
    "longest": "Longest:",
    "with": "With it:",
    "already": "Already there:",
    "meet": "Beside it:",
    "pass": "Past it:",
    "swap": "Changed with:",
}
SIDE_BY_SIDE = ("with", "meet", "pass", "swap")  # families whose answer is in one frame with the object of the question
BY_ARRIVAL = ("first", "last", "after", "before", "count")  # families read off the order in which objects come
BY_DEPARTURE = ("leaves", "stays")  # families read off the order in which objects go


def watched_frames(n_frames: int) -> list[int]:
    """The numbers of the frames that are described, evenly spread over a video with `n_frames` frames.

    >>> watched_frames(23)
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    """
    return uniform_indices(n_frames, N_WATCHED).tolist()


def named_in(question: str, names: Iterable[str]) -> list[str]:
    """The names that a question contains; if none, those whose colour or kind it contains.

    >>> named_in("When is the red car visible?", ["blue cup", "red car", "red star"])
    ['red car']
    >>> named_in("What is the red object?", ["blue cup", "red car", "red star"])
    ['red car', 'red star']
    """
    words, names = " ".join(re.findall(r"[a-z]+", question.lower())), list(names)
    whole = [name for name in names if name in words]
    return whole or [name for name in names if set(name.split(" ")) & set(words.split(" "))]


def positions(boxes: Mapping[str, Box], size_wh: Size) -> dict[str, str]:
    """The position of each object in words, by thirds of the frame. No two objects get the same position.

    >>> positions({"red car": (0, 60, 20, 80)}, (84, 84))
    {'red car': 'lower left'}
    """
    cells = cells_of(boxes, size_wh, len(COLUMNS), len(ROWS))
    order = sorted(cells, key=cells.__getitem__)
    return {name: f"{ROWS[cells[name] // len(COLUMNS)]} {COLUMNS[cells[name] % len(COLUMNS)]}" for name in order}


def in_order(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], going: bool = False) -> list[str]:
    """The names in all frames, in the order in which objects come or go. `spans_s` decides between the same two frames.

    >>> in_order([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    ['cup', 'car']
    """
    end = -1 if going else 0
    shown = {name: [n for n, here in enumerate(names) if name in here] for name in spans_s}
    return [name for _, _, name in sorted((at[end], spans_s[name][end], name) for name, at in shown.items() if at)]


def describe_image(boxes: Mapping[str, Box], size_wh: Size, question: str) -> str:
    """The objects of an image with their positions; those of the question are marked.

    >>> describe_image({"red car": (0, 60, 20, 80), "blue cup": (0, 0, 20, 20)}, (84, 84), "Where is the car?")
    'Upper left blue cup; lower left red car here'
    """
    here = positions(boxes, size_wh)
    mentioned = named_in(question, here)
    entries = [f"{position} {name}{ASKED_MARK * (name in mentioned)}" for name, position in here.items()]
    return "; ".join(entries).capitalize()


def describe_frames(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], question: str = "") -> str:
    """The names in each frame. A new object gets its ordinal, and the objects of the question are marked each time.

    >>> describe_frames([["cup"], ["cup", "car"], []], {"cup": (0.0, 4.0), "car": (1.5, 4.0)}, "When is the car there?")
    'Frame 1 cup first; frame 2 cup, car second here; frame 3 nothing'
    """
    order = in_order(names, spans_s)
    ordinals, mentioned = dict(zip(order, ORDINALS, strict=False)), named_in(question, order)
    entries: list[str] = []
    for number, here in enumerate(names, 1):
        # an ordinal is used up where its object first appears
        shown = [name + ordinals.pop(name, "") + ASKED_MARK * (name in mentioned) for name in here]
        entries.append(f"frame {number} {', '.join(shown) or 'nothing'}")
    return "; ".join(entries).capitalize()


def describe_span(times_s: Sequence[float], span_s: Span, format_s: Callable[[float], str] | None = None) -> str:
    """The first and the last frame in a span, with their times if `format_s` is given.

    >>> describe_span((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0))
    'Seen from frame 2 to frame 3'
    >>> describe_span((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0), "{:.1f}s".format)
    'Seen from frame 2 at 2.0s to frame 3 at 4.0s'
    """
    seen = [(n, time_s) for n, time_s in enumerate(times_s, 1) if span_s[0] <= time_s < span_s[1]]
    frames = [f"frame {n}" + (f" at {format_s(time_s)}" if format_s else "") for n, time_s in seen]
    return f"Seen from {frames[0]} to {frames[-1]}" if frames else "Seen in no frame"


def describe_order(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], going: bool = False) -> str:
    """The order in which objects come or go. Objects that come get the same ordinals as in `describe_frames`.

    >>> describe_order([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    'They come: cup first, last car second'
    """
    order = in_order(names, spans_s, going)
    entries = order if going else _with_ordinals(order)
    if len(entries) > 1:
        entries[-1] = LAST_MARK + entries[-1]
    return f"They {'go' if going else 'come'}: {', '.join(entries) or 'nothing'}"


def _with_ordinals(order: Sequence[str]) -> list[str]:
    return [name + ordinal for name, ordinal in zip(order, ORDINALS, strict=False)]


def describe_way(name: str, positions_by_frame: Sequence[Mapping[str, str]]) -> str:
    """The positions of an object in the first and in the last frame that show it.

    >>> describe_way("cup", [{}, {"cup": "upper left"}, {"cup": "upper right", "car": "lower left"}])
    'From frame 2 upper left to frame 3 upper right'
    """
    seen = [f"frame {n} {here[name]}" for n, here in enumerate(positions_by_frame, 1) if name in here]
    return f"From {seen[0]} to {seen[-1]}"


@dataclass(frozen=True)
class WatchedVideo:
    """The described frames of a video in order, either of a scene or of a clip of `tinybase`.

    Args:
        boxes: for each frame the boxes of its visible objects by name, in units of `size_wh`.
        size_wh: width and height in which boxes are measured; (1, 1) for shares of the frame.
        times_s: time of each frame in seconds.
        spans_s: when each object is visible, (start, end) in seconds, by name.
        distance: `distance(i, frame)` is how far the i-th of these frames is from number `frame` of the whole video,
            in frames or in seconds. Of two equally distant frames the first is taken, so rounding decides.
    """

    boxes: Sequence[Mapping[str, Box]]
    size_wh: Size
    times_s: Sequence[float]
    spans_s: Mapping[str, Span]
    distance: Callable[[int, int], float]

    @cached_property
    def positions(self) -> list[dict[str, str]]:
        """The position in words of each visible object, by name, for each frame."""
        return [positions(boxes, self.size_wh) for boxes in self.boxes]

    def shown(self, fact: Fact) -> list[tuple[str, int]]:
        """The objects of a fact, each with the number (from 1) of the nearest frame that shows it. For an object to be
        followed: the first, the middle and the last frame. Empty when one of the objects is in no frame."""
        showing = {name: [i for i, boxes in enumerate(self.boxes) if name in boxes] for name, _ in fact.shown}
        if not all(showing.values()):
            return []
        if fact.family == "track":
            seen = showing[fact.subject]
            return [(fact.subject, seen[at] + 1) for at in (0, len(seen) // 2, -1)]
        return [
            (name, min(showing[name], key=lambda i, frame=frame: self.distance(i, frame)) + 1)
            for name, frame in fact.shown
        ]

    def entry(self, name: str, number: int) -> str:
        """An object in a frame (numbered from 1) with its position: "frame 3 red car upper left"."""
        return f"frame {number} {name} {self.positions[number - 1][name]}"

    def look(self, fact: Fact) -> str:
        """The steps that lead to the answer: all frames, the order of the objects if it matters, the close look."""
        steps = [describe_frames(self.positions, self.spans_s, fact.question)]
        if fact.family in (*BY_ARRIVAL, *BY_DEPARTURE):
            steps.append(describe_order(self.positions, self.spans_s, fact.family in BY_DEPARTURE))
        return ". ".join(filter(None, (*steps, self.close_look(fact))))

    def close_look(self, fact: Fact) -> str:
        """All objects of the frame that decides a fact about two neighbours, in order or with their positions.
        "" for facts of other families, and when no frame shows both objects."""
        pair = [name for name, _ in fact.pair]
        both = [i for i, boxes in enumerate(self.boxes) if all(name in boxes for name in pair)]
        if not both or fact.family not in ("side", *SIDE_BY_SIDE):
            return ""
        i = min(both, key=lambda i: self.distance(i, fact.pair[-1][1]))
        boxes, mentioned = self.boxes[i], named_in(fact.question, self.boxes[i])
        if fact.family == "side":
            order = sorted(boxes, key=lambda name: boxes[name][0] + boxes[name][2])
            entries = [f"left {order[0]}", *order[1:-1], f"right {order[-1]}"]
        else:
            entries = [f"{name}{ASKED_MARK * (name in mentioned)} {at}" for name, at in self.positions[i].items()]
        return f"Frame {i + 1} {', '.join(entries)}"

    def conclusion(self, fact: Fact) -> str:
        """A short repetition of the question that ends with the object of the answer: " After cup first, car second."
        (after a space), or "" if the answer is no object."""
        name = fact.answer.removeprefix("The ")
        if fact.family == "side":
            return f" On the {'left' if ' left' in fact.question else 'right'} {name}."
        if fact.family in CONCLUSIONS:
            return f" {CONCLUSIONS[fact.family]} {name}."
        order = in_order(self.positions, self.spans_s)
        at, entries = order.index(name) if name in order else 0, _with_ordinals(order)
        if fact.family == "after" and at > 0:
            return f" After {entries[at - 1]}, {LAST_MARK * (at + 1 == len(order))}{entries[at]}."
        if fact.family == "before" and at + 1 < len(order):
            return f" Before {entries[at + 1]}: {entries[at]}."
        return ""


def mark_option(options: Sequence[str], correct: int) -> str:
    """Repeats the options and marks the correct one.

    >>> mark_option(["A. The cup", "B. The car"], 1)
    'A. The cup; B. The car yes'
    """
    return "; ".join(option + RIGHT_MARK * (i == correct) for i, option in enumerate(options))


def cells_of(boxes: Mapping[str, Sequence[float]], size_wh: Size, columns: int, rows: int) -> dict[str, int]:
    """The cell of a grid over the image in which each object has its centre. Cells are numbered row by row.

    No two objects share a cell: the larger one keeps it, and the other gets the nearest free cell.

    >>> cells_of({"red car": (0, 0, 9, 9), "blue cup": (1, 1, 9, 9)}, (20, 20), 2, 2)
    {'red car': 0, 'blue cup': 1}
    """
    width, height = size_wh[0] / columns, size_wh[1] / rows
    centers = [((i % columns + 0.5) * width, (i // columns + 0.5) * height) for i in range(columns * rows)]
    cells: dict[str, int] = {}
    for name, box in sorted(boxes.items(), key=lambda item: -box_area(item[1])):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        free = [i for i in range(columns * rows) if i not in cells.values()]
        cells[name] = min(free, key=lambda i: (centers[i][0] - x) ** 2 + (centers[i][1] - y) ** 2)
    return cells
