"""A film watched frame by frame, in plain words: what each frame shows and where, what comes when, what was asked for.

What is said here goes before an answer or a claim, which then can be read off it. Knows nothing of rows or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from o3v.geometry import Box, Size, Span, box_area
from o3v.toyworld.scene_view import Fact
from o3v.video.frames import uniform_indices

N_WATCHED = 12  # frames of a look through a film: those of profile tiny
ASKED_MARK = " here"  # mark after a name that the question asks for
ORDINALS = (" first", " second", " third", " fourth", " fifth")  # mark after a name where its thing comes
BEFORE_OPTIONS = " So: "  # the same before options, which follow that answer
LAST_MARK = "last "  # mark before the last thing of a list
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
RIGHT_MARK = " yes"  # after the option that is right
CONCLUSIONS = {  # what is said again of these families
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
SIDE_BY_SIDE = ("with", "meet", "pass", "swap")  # families whose answer is in a frame with what is asked
BY_ARRIVAL = ("first", "last", "after", "before", "count")  # families of facts read off the order in which things come
BY_DEPARTURE = ("leaves", "stays")  # and those read off the order in which they go


def watched_frames(n_frames: int) -> list[int]:
    """The frames of a look through a film of so many, evenly spread.

    >>> watched_frames(23)
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    """
    return uniform_indices(n_frames, N_WATCHED).tolist()


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


def positions(boxes: Mapping[str, Box], size_wh: Size) -> dict[str, str]:
    """Where in the picture each thing is, in words: the picture's thirds, one thing in each.

    >>> places({"red car": (0, 60, 20, 80)}, (84, 84))
    {'red car': 'lower left'}
    """
    cells = cells_of(boxes, size_wh, len(COLUMNS), len(ROWS))
    order = sorted(cells, key=cells.__getitem__)
    return {name: f"{ROWS[cells[name] // len(COLUMNS)]} {COLUMNS[cells[name] % len(COLUMNS)]}" for name in order}


def in_order(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], going: bool = False) -> list[str]:
    """The names that frames show, in the order in which things come, or go; between the same two frames by `spans_s`.

    >>> in_order([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    ['cup', 'car']
    """
    end = -1 if going else 0
    shown = {name: [n for n, here in enumerate(names) if name in here] for name in spans_s}
    return [name for _, _, name in sorted((at[end], spans_s[name][end], name) for name, at in shown.items() if at)]


def describe_image(boxes: Mapping[str, Box], size_wh: Size, question: str) -> str:
    """What a picture shows and where; what the question names is marked.

    >>> look_at({"red car": (0, 60, 20, 80), "blue cup": (0, 0, 20, 20)}, (84, 84), "Where is the car?")
    'Upper left blue cup; lower left red car here'
    """
    here = positions(boxes, size_wh)
    asked = named_in(question, here)
    return "; ".join(f"{place} {name}{ASKED_MARK * (name in asked)}" for name, place in here.items()).capitalize()


def describe_frames(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], question: str = "") -> str:
    """What each frame shows, by name. Where a thing comes it is counted; what the question names is marked each time.

    >>> look_through([["cup"], ["cup", "car"], []], {"cup": (0.0, 4.0), "car": (1.5, 4.0)}, "When is the car there?")
    'Frame 1 cup first; frame 2 cup, car second here; frame 3 nothing'
    """
    order = in_order(names, spans_s)
    count, asked = dict(zip(order, ORDINALS, strict=False)), named_in(question, order)
    said: list[str] = []
    for number, here in enumerate(names, 1):
        shown = [name + count.get(name, "") + ASKED_MARK * (name in asked) for name in here]
        said.append(f"frame {number} {', '.join(shown) or 'nothing'}")
        count = {name: ordinal for name, ordinal in count.items() if name not in here}
    return "; ".join(said).capitalize()


def describe_span(times_s: Sequence[float], span_s: Span, say: Callable[[float], str] | None = None) -> str:
    """The first and the last frame in a span, with their times where it is told how to `say` them.

    >>> inside((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0))
    'Seen from frame 2 to frame 3'
    >>> inside((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0), "{:.1f}s".format)
    'Seen from frame 2 at 2.0s to frame 3 at 4.0s'
    """
    seen = [(n, time_s) for n, time_s in enumerate(times_s, 1) if span_s[0] <= time_s < span_s[1]]
    told = [f"frame {n}" + (f" at {say(time_s)}" if say else "") for n, time_s in seen]
    return f"Seen from {told[0]} to {told[-1]}" if told else "Seen in no frame"


def describe_order(names: Sequence[Collection[str]], spans_s: Mapping[str, Span], going: bool = False) -> str:
    """In which order things come, or go; where they come they are counted as in the look.

    >>> listed([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    'They come: cup first, last car second'
    """
    order = in_order(names, spans_s, going)
    said = order if going else _counted(order)
    if len(said) > 1:
        said[-1] = LAST_MARK + said[-1]
    return f"They {'go' if going else 'come'}: {', '.join(said) or 'nothing'}"


def _counted(order: Sequence[str]) -> list[str]:
    return [name + ordinal for name, ordinal in zip(order, ORDINALS, strict=False)]


def describe_way(name: str, where: Sequence[Mapping[str, str]]) -> str:
    """Where a thing is in the first and in the last of the frames that show it, by the places in each frame.

    >>> way_of("cup", [{}, {"cup": "upper left"}, {"cup": "upper right", "car": "lower left"}])
    'From frame 2 upper left to frame 3 upper right'
    """
    seen = [f"frame {n} {here[name]}" for n, here in enumerate(where, 1) if name in here]
    return f"From {seen[0]} to {seen[-1]}"


def conclude(
    family: str, question: str, answer: str, names: Sequence[Collection[str]], spans_s: Mapping[str, Span]
) -> str:
    """What is asked for, said again with the thing that it is, which is named last; "" where the answer is no thing.

    >>> names, spans_s = [["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)}
    >>> read_off("after", "What comes after the cup?", "The car", names, spans_s)
    'After cup first, last car second'
    >>> read_off("last", "What comes last?", "The car", names, spans_s)
    'The last car'
    """
    name = answer.removeprefix("The ")
    if family == "side":
        return f"On the {'left' if ' left' in question else 'right'} {name}"
    if family in CONCLUSIONS:
        return f"{CONCLUSIONS[family]} {name}"
    order = in_order(names, spans_s)
    at, counted = order.index(name) if name in order else 0, _counted(order)
    if family == "after" and at > 0:
        return f"After {counted[at - 1]}, {LAST_MARK * (at + 1 == len(order))}{counted[at]}"
    if family == "before" and at + 1 < len(order):
        return f"Before {counted[at + 1]}: {counted[at]}"
    return ""


@dataclass(frozen=True)
class WatchedVideo:
    """The frames of a video that a narrator sees, in order. It speaks of a scene and of a clip in the same words.

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
        """The place of each visible object, by frame and name (see `positions`)."""
        return [positions(boxes, self.size_wh) for boxes in self.boxes]

    def shown(self, fact: Fact) -> list[tuple[str, int]]:
        """The objects of a fact, each with the number (from 1) of the nearest frame that shows it. To follow an object,
        the first, the middle and the last frame that show it. Empty when one of the objects is in no frame."""
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
        """An object in a frame (from 1), with its place: "frame 3 red car upper left"."""
        return f"frame {number} {name} {self.positions[number - 1][name]}"

    def look(self, fact: Fact) -> str:
        """What the answer to a fact is read off: the objects of each frame, their order, the deciding frame."""
        steps = [describe_frames(self.positions, self.spans_s, fact.question)]
        if fact.family in (*BY_ARRIVAL, *BY_DEPARTURE):
            steps.append(describe_order(self.positions, self.spans_s, fact.family in BY_DEPARTURE))
        return ". ".join(filter(None, (*steps, self.close_look(fact))))

    def close_look(self, fact: Fact) -> str:
        """The frame that decides a fact about two objects side by side: all objects from left to right, or with their
        places and those of the question marked. "" for facts of other families and when no frame shows both."""
        pair = [name for name, _ in fact.pair]
        both = [i for i, boxes in enumerate(self.boxes) if all(name in boxes for name in pair)]
        if not both or fact.family not in ("side", *SIDE_BY_SIDE):
            return ""
        i = min(both, key=lambda i: self.distance(i, fact.pair[-1][1]))
        boxes, asked = self.boxes[i], named_in(fact.question, self.boxes[i])
        if fact.family == "side":
            order = sorted(boxes, key=lambda name: boxes[name][0] + boxes[name][2])
            entries = [f"left {order[0]}", *order[1:-1], f"right {order[-1]}"]
        else:
            entries = [f"{name}{ASKED_MARK * (name in asked)} {place}" for name, place in self.positions[i].items()]
        return f"Frame {i + 1} {', '.join(entries)}"

    def read_off(self, fact: Fact) -> str:
        """The sentence that follows the look, after a space (see `conclude`); "" without one."""
        sentence = conclude(fact.family, fact.question, fact.answer, self.positions, self.spans_s)
        return f" {sentence}." if sentence else ""


def mark_option(options: Sequence[str], right: int) -> str:
    """The options again, of which the right one is marked.

    >>> marked(["A. The cup", "B. The car"], 1)
    'A. The cup; B. The car yes'
    """
    return "; ".join(option + RIGHT_MARK * (i == right) for i, option in enumerate(options))


def cells_of(boxes: Mapping[str, Sequence[float]], size_wh: Size, columns: int, rows: int) -> dict[str, int]:
    """The cell of a grid over the picture, counted by rows, in which each thing has its centre.

    Each thing has a cell of its own: of two in one the larger keeps it and the other goes to the nearest free one.

    >>> cells_of({"red car": (0, 0, 9, 9), "blue cup": (1, 1, 9, 9)}, (20, 20), 2, 2)
    {'red car': 0, 'blue cup': 1}
    """
    width, height = size_wh[0] / columns, size_wh[1] / rows
    middles = [((i % columns + 0.5) * width, (i // columns + 0.5) * height) for i in range(columns * rows)]
    found: dict[str, int] = {}
    for name, box in sorted(boxes.items(), key=lambda item: -box_area(item[1])):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        free = [i for i in range(columns * rows) if i not in found.values()]
        found[name] = min(free, key=lambda i: (middles[i][0] - x) ** 2 + (middles[i][1] - y) ** 2)
    return found
