"""When the objects of a scene are visible, and how they move.

Times are shares of the video and positions are shares of the frame, so the same motion fits eight seconds or four
minutes. All random numbers come from the caller's generator. This module does not know images or frames. The paper has
no synthetic world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from o3v.geometry import Span

MAX_VISIBLE = 3  # objects at one time
MIN_GAP = 0.08  # of the video, between two arrivals or two departures
MARGIN = 0.02  # of the frame, between a resting object and the edge, or between two objects side by side
MIN_SHARED = 0.3  # of the video: shortest time that a pair of objects is visible together
MOVES = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}  # axis and sign

Waypoint = tuple[float, float, float]  # (time, x, y) of a centre


@dataclass(frozen=True)
class Motion:
    """How one object moves: its path, and the span of the action (None: the whole time it is visible)."""

    kind: str
    path: tuple[Waypoint, ...]
    span: Span | None = None


def draw_spans(rng: np.random.Generator, n: int, shared: float) -> np.ndarray | None:
    """Start and end of each of n objects, shape (n, 2): the first valid one of 128 random draws, or None.

    In a valid draw arrivals are at least `MIN_GAP` apart, and so are departures; at most `MAX_VISIBLE` objects are
    visible at once; the frame is empty for less than a tenth of the video; and the first two objects share at least
    `shared` of the video.
    """
    length = rng.uniform(0.26, 0.6, (128, n))
    length[:, 0] = np.where(rng.random(128) < 0.3, rng.uniform(0.6, 0.95, 128), length[:, 0])
    start = rng.uniform(-0.05, 1.05 - length)
    end = start + length
    start, end = np.where(start < 0.06, 0, start), np.where(end > 0.94, 1, end)
    gaps = [np.diff(np.sort(moments, axis=1), axis=1).min(axis=1) for moments in (start, end)]
    at = np.linspace(0.01, 0.99, 50)
    n_visible = ((start[:, :, None] <= at) & (at < end[:, :, None])).sum(axis=1)
    together = end[:, :2].min(axis=1) - start[:, :2].max(axis=1)
    valid = (np.minimum(*gaps) > MIN_GAP) & (together >= shared) & (n_visible.max(axis=1) <= MAX_VISIBLE)
    valid &= (n_visible == 0).mean(axis=1) < 0.1
    first = int(valid.argmax())
    return np.stack([start[first], end[first]], axis=1) if valid[first] else None


def move_alone(rng: np.random.Generator, span: Sequence[float], half: np.ndarray) -> Motion:
    """An object of half size (x, y) that rests or moves in one direction, inside the frame or across its edges."""
    start, end = map(float, span)
    low, high = half + MARGIN, 1 - half - MARGIN
    kind = str(rng.choice(("stay", *MOVES), p=(0.3, 0.2, 0.2, 0.15, 0.15)))
    begin = goal = rng.uniform(low, high)
    if kind in MOVES:
        axis, sign = MOVES[kind]
        over_edge = rng.random(2) < 0.6
        goal = (begin + rng.normal(0, 0.06, 2)).clip(low, high)
        begin[axis] = -half[axis] if over_edge[0] and start > 0 else low[axis] + rng.uniform(0, 0.08)
        goal[axis] = 1 + half[axis] if over_edge[1] and end < 1 else high[axis] - rng.uniform(0, 0.08)
        if sign < 0:
            begin[axis], goal[axis] = 1 - begin[axis], 1 - goal[axis]
    return Motion(kind, ((start, *begin), (end, *goal)))


def _meet(rng: np.random.Generator, spans: np.ndarray, halves: Sequence[np.ndarray]) -> tuple[Motion, Motion]:
    """The first object moves to the second and stops beside it, both on one ground line."""
    (low, high), side = _together(spans), int(rng.choice((-1, 1)))
    reach = float(halves[0][0] + halves[1][0] + MARGIN)
    left, right = halves[1][0] + MARGIN, 1 - halves[1][0] - MARGIN
    room = 1 - halves[0][0] - MARGIN - reach
    x = rng.uniform(left, min(right, room)) if side > 0 else rng.uniform(max(left, 1 - room), right)
    foot = rng.uniform(2 * max(half[1] for half in halves[:2]) + MARGIN, 1 - MARGIN)
    goal = (x + side * reach, foot - halves[0][1])
    rest = (x, foot - halves[1][1])
    starts = rng.uniform(halves[0] + MARGIN, 1 - halves[0] - MARGIN, (32, 2))
    walk, distance = (np.linalg.norm(starts - end, axis=1) for end in (goal, rest))
    # a move of sufficient length that ends nearer to the second object than it began
    valid = (walk > 0.35) & (distance > np.hypot(*np.subtract(goal, rest)) + 0.05)
    begin = starts[valid.argmax() if valid.any() else distance.argmax()]
    leave, arrive = (low + share * (high - low) for share in (0.05, 0.4))
    meet = Motion("meet", _path(spans[0], (leave, begin), (arrive, goal)), (arrive, high))
    return meet, Motion("stay", _path(spans[1], (low, rest)))


def _pass(rng: np.random.Generator, spans: np.ndarray, halves: Sequence[np.ndarray]) -> tuple[Motion, Motion]:
    """The first object crosses the frame, above or below the second, which rests."""
    low, high = _together(spans)
    free = 1 - 2 * MARGIN - 2 * halves[0][1] - 2 * halves[1][1]
    above, below = rng.uniform(0, free / 2, 2)
    ys = [MARGIN + halves[0][1] + above, 1 - MARGIN - halves[1][1] - below]
    if rng.random() < 0.5:
        ys = [1 - y for y in ys]
    xs = [halves[0][0] + MARGIN, 1 - halves[0][0] - MARGIN][:: rng.choice((-1, 1))]
    leave, arrive = (low + share * (high - low) for share in (0.1, 0.9))
    path = _path(spans[0], (leave, (xs[0], ys[0])), (arrive, (xs[1], ys[0])))
    return Motion("pass", path, (leave, arrive)), Motion("stay", _path(spans[1], (low, (rng.uniform(0.4, 0.6), ys[1]))))


def _swap(rng: np.random.Generator, spans: np.ndarray, halves: Sequence[np.ndarray]) -> tuple[Motion, Motion]:
    """Each object moves to where the other one was, in two arcs."""
    low, high = _together(spans)
    leave, middle, arrive = (low + share * (high - low) for share in (0.12, 0.5, 0.88))
    wide = max(half[0] for half in halves[:2]) + MARGIN
    centers = [(rng.uniform(wide, 0.3), rng.uniform(0.4, 0.6)), (rng.uniform(0.7, 1 - wide), rng.uniform(0.4, 0.6))]
    centers = centers[:: rng.choice((-1, 1))]
    lift = 0.5 * (halves[0][1] + halves[1][1])
    paths = [
        _path(spans[i], (leave, centers[i]), (middle, (0.5, 0.5 + sign * lift)), (arrive, centers[1 - i]))
        for i, sign in enumerate((-1, 1))
    ]
    return Motion("swap", paths[0], (leave, arrive)), Motion("swap", paths[1], (leave, arrive))


PAIR_MOTIONS: Mapping[str, Callable[[np.random.Generator, np.ndarray, Sequence[np.ndarray]], tuple[Motion, Motion]]] = {
    "meet": _meet,
    "pass": _pass,
    "swap": _swap,
}


def _together(spans: np.ndarray) -> Span:
    return float(spans[:2, 0].max()), float(spans[:2, 1].min())


def _path(span: Sequence[float], *points: tuple[float, Sequence[float]]) -> tuple[Waypoint, ...]:
    """Waypoints that rest before the first and after the last point."""
    stops = [(span[0], points[0][1]), *points, (span[1], points[-1][1])]
    return tuple((float(time), float(x), float(y)) for time, (x, y) in stops)
