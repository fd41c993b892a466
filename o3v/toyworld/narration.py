"""A film watched frame by frame, in plain words: what each frame shows and where, what comes when, what was asked for.

What is said here goes before an answer or a claim, which then can be read off it. Knows nothing of rows or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from o3v.geometry import Box, Size, Span, box_area
from o3v.video.frames import uniform_indices

MOMENTS = 12  # frames of a look through a film: those of profile tiny
ASKED = " here"  # mark after a name that the question asks for
ORDINALS = (" first", " second", " third", " fourth", " fifth")  # mark after a name where its thing comes
SO = " So: "  # the same before options, which follow that answer
LAST = "last "  # mark before the last thing of a list
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
RIGHT = " yes"  # after the option that is right
READ = {  # what is said again of these families
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
BESIDE = ("with", "meet", "pass", "swap")  # families whose answer is in a frame with what is asked
COMING = ("first", "last", "after", "before", "count")  # families of facts read off the order in which things come
GOING = ("leaves", "stays")  # and those read off the order in which they go


def watched_frames(n_frames: int) -> list[int]:
    """The frames of a look through a film of so many, evenly spread.

    >>> watched_frames(23)
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    """
    return uniform_indices(n_frames, MOMENTS).tolist()


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


def places(boxes: Mapping[str, Box], size_wh: Size) -> dict[str, str]:
    """Where in the picture each thing is, in words: the picture's thirds, one thing in each.

    >>> places({"red car": (0, 60, 20, 80)}, (84, 84))
    {'red car': 'lower left'}
    """
    cells = cells_of(boxes, size_wh, len(COLUMNS), len(ROWS))
    order = sorted(cells, key=cells.__getitem__)
    return {name: f"{ROWS[cells[name] // len(COLUMNS)]} {COLUMNS[cells[name] % len(COLUMNS)]}" for name in order}


def in_order(names: Sequence[Sequence[str]], spans_s: Mapping[str, Span], going: bool = False) -> list[str]:
    """The names that frames show, in the order in which things come, or go; between the same two frames by `spans_s`.

    >>> in_order([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    ['cup', 'car']
    """
    end = -1 if going else 0
    shown = {name: [n for n, here in enumerate(names) if name in here] for name in spans_s}
    return [name for _, _, name in sorted((at[end], spans_s[name][end], name) for name, at in shown.items() if at)]


def look_at(boxes: Mapping[str, Box], size_wh: Size, question: str) -> str:
    """What a picture shows and where; what the question names is marked.

    >>> look_at({"red car": (0, 60, 20, 80), "blue cup": (0, 0, 20, 20)}, (84, 84), "Where is the car?")
    'Upper left blue cup; lower left red car here'
    """
    here = places(boxes, size_wh)
    asked = named_in(question, here)
    return "; ".join(f"{place} {name}{ASKED * (name in asked)}" for name, place in here.items()).capitalize()


def look_through(names: Sequence[Sequence[str]], spans_s: Mapping[str, Span], question: str = "") -> str:
    """What each frame shows, by name. Where a thing comes it is counted; what the question names is marked each time.

    >>> look_through([["cup"], ["cup", "car"], []], {"cup": (0.0, 4.0), "car": (1.5, 4.0)}, "When is the car there?")
    'Frame 1 cup first; frame 2 cup, car second here; frame 3 nothing'
    """
    order = in_order(names, spans_s)
    count, asked = dict(zip(order, ORDINALS, strict=False)), named_in(question, order)
    said: list[str] = []
    for number, here in enumerate(names, 1):
        shown = [name + count.get(name, "") + ASKED * (name in asked) for name in here]
        said.append(f"frame {number} {', '.join(shown) or 'nothing'}")
        count = {name: ordinal for name, ordinal in count.items() if name not in here}
    return "; ".join(said).capitalize()


def inside(times_s: Sequence[float], span_s: Span, say: Callable[[float], str] | None = None) -> str:
    """The first and the last frame in a span, with their times where it is told how to `say` them.

    >>> inside((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0))
    'Seen from frame 2 to frame 3'
    >>> inside((0.0, 2.0, 4.0, 6.0, 8.0), (1.5, 5.0), "{:.1f}s".format)
    'Seen from frame 2 at 2.0s to frame 3 at 4.0s'
    """
    seen = [(n, time_s) for n, time_s in enumerate(times_s, 1) if span_s[0] <= time_s < span_s[1]]
    told = [f"frame {n}" + (f" at {say(time_s)}" if say else "") for n, time_s in seen]
    return f"Seen from {told[0]} to {told[-1]}" if told else "Seen in no frame"


def watched(family: str, question: str, names: Sequence[Sequence[str]], spans_s: Mapping[str, Span]) -> str:
    """The look that an answer of this family of facts is read off, and in which order things come or go."""
    said = look_through(names, spans_s, question)
    return f"{said}. {listed(names, spans_s, family in GOING)}" if family in (*COMING, *GOING) else said


def listed(names: Sequence[Sequence[str]], spans_s: Mapping[str, Span], going: bool = False) -> str:
    """In which order things come, or go; where they come they are counted as in the look.

    >>> listed([["cup"], ["cup", "car"]], {"car": (1.5, 4.0), "cup": (0.0, 4.0)})
    'They come: cup first, last car second'
    """
    order = in_order(names, spans_s, going)
    said = order if going else _counted(order)
    if len(said) > 1:
        said[-1] = LAST + said[-1]
    return f"They {'go' if going else 'come'}: {', '.join(said) or 'nothing'}"


def _counted(order: Sequence[str]) -> list[str]:
    return [name + ordinal for name, ordinal in zip(order, ORDINALS, strict=False)]


def way_of(name: str, where: Sequence[Mapping[str, str]]) -> str:
    """Where a thing is in the first and in the last of the frames that show it, by the places in each frame.

    >>> way_of("cup", [{}, {"cup": "upper left"}, {"cup": "upper right", "car": "lower left"}])
    'From frame 2 upper left to frame 3 upper right'
    """
    seen = [f"frame {n} {here[name]}" for n, here in enumerate(where, 1) if name in here]
    return f"From {seen[0]} to {seen[-1]}"


def close_look(family: str, question: str, boxes: Mapping[str, Box], size_wh: Size) -> str:
    """What one frame shows, where the answer is beside something: from left to right, or by place, the asked marked; ""
    of families whose answer is not.

    >>> close_look("with", "With what is the car?", {"red car": (0, 60, 20, 80), "blue cup": (0, 0, 20, 20)}, (84, 84))
    'blue cup upper left, red car here lower left'
    >>> close_look("side", "What is on the left?", {"red car": (0, 0, 20, 20), "blue cup": (60, 0, 80, 20)}, (84, 84))
    'left red car, right blue cup'
    """
    if family == "side":
        order = sorted(boxes, key=lambda name: boxes[name][0] + boxes[name][2])
        return ", ".join([f"left {order[0]}", *order[1:-1], f"right {order[-1]}"])
    if family not in BESIDE:
        return ""
    asked = named_in(question, boxes)
    return ", ".join(f"{name}{ASKED * (name in asked)} {at}" for name, at in places(boxes, size_wh).items())


def read_off(
    family: str, question: str, answer: str, names: Sequence[Sequence[str]], spans_s: Mapping[str, Span]
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
    if family in READ:
        return f"{READ[family]} {name}"
    order = in_order(names, spans_s)
    at, counted = order.index(name) if name in order else 0, _counted(order)
    if family == "after" and at > 0:
        return f"After {counted[at - 1]}, {LAST * (at + 1 == len(order))}{counted[at]}"
    if family == "before" and at + 1 < len(order):
        return f"Before {counted[at + 1]}: {counted[at]}"
    return ""


def marked(options: Sequence[str], right: int) -> str:
    """The options again, of which the right one is marked.

    >>> marked(["A. The cup", "B. The car"], 1)
    'A. The cup; B. The car yes'
    """
    return "; ".join(option + RIGHT * (i == right) for i, option in enumerate(options))


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
