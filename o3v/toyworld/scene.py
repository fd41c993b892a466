"""A synthetic world with exact truth: scenes of a few moving things, drawn frame by frame.

A scene shows two to four things of different colours that appear, rest or move, meet, pass or swap places, and
leave. Positions are whole pixels, so the box of a thing is the box of its picture, and a thing counts as visible
while at least `MIN_INSIDE` of that box is inside the frame. Everything follows from (seed, split, index). A cast
belongs to one split by its hash, so no two scenes of different splits show the same things. This module knows
nothing of questions or rows. The paper has no such world; it is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from o3v.geometry import Box, Size, Span
from o3v.toyworld.motion import MAX_VISIBLE, MIN_SHARED, PAIR_MOTIONS, Motion, Waypoint, draw_spans, move_alone
from o3v.toyworld.sprites import COLORS, KINDS, PLACES, SIZE_WH, Background, background_image, sprite_image

SPLIT_BYTES = {"sft": 112, "rl": 224, "eval": 256}  # a split's casts hash to a byte below its bound
SPLITS = tuple(SPLIT_BYTES)
DURATIONS_S = {"short": (6.2, 12.0), "medium": (62.0, 100.0), "long": (182.0, 240.0)}  # V-STAR's three kinds
MIN_INSIDE = 0.6  # share of its box inside the frame from which a thing counts as visible
MAX_HIDDEN = 0.25  # of the smaller of two boxes, by the other one
MIN_SHARE = 0.2  # of the video, that a thing is visible
MIN_APART = 0.06  # of the video, between two arrivals or two departures


@dataclass(frozen=True)
class Sprite:
    """One thing: its look, its way, and when it counts as visible (in frames with `from_s <= time < to_s`).

    `path` holds waypoints (time_s, x, y) of the centre in shares of the frame, joined by straight lines; the thing
    is drawn from the first until just before the last. `size` is its longer side as a share of the frame's side.
    """

    color: str
    thing: str
    size: float
    path: tuple[Waypoint, ...]
    from_s: float
    to_s: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.thing}"

    @property
    def span_s(self) -> Span:
        return (self.from_s, self.to_s)


@dataclass(frozen=True)
class Event:
    """What happens: `kind` is appear, leave, stay, left, right, up, down, meet, pass or swap.

    The span of `meet` is the time side by side, of `pass` and `swap` the time of moving; these three have an
    `object`. Appear and leave are moments: their span starts and ends at one time. Times in seconds.
    """

    kind: str
    subject: str
    object: str | None
    span_s: Span


@dataclass(frozen=True)
class Scene:
    """A short film and its truth. Frame i shows the world at i / fps seconds."""

    scene_id: str
    split: str
    duration_s: float
    fps: int
    background: Background
    sprites: tuple[Sprite, ...]
    events: tuple[Event, ...]
    size_wh: Size = SIZE_WH

    @property
    def n_frames(self) -> int:
        return round(self.duration_s * self.fps)

    def frame_time_s(self, index: int) -> float:
        """Time of a frame in seconds."""
        return index / self.fps

    @cached_property
    def tracks_px(self) -> dict[str, np.ndarray]:
        """Whole box of each thing in every frame, unclipped: (n_frames, 4) int pixels, -9999 where not drawn."""
        return {s.name: track_px(s, self.n_frames, self.fps, self.size_wh) for s in self.sprites}

    @cached_property
    def visible(self) -> dict[str, np.ndarray]:
        """In which frames each thing counts as visible: (n_frames,) bool."""
        return {name: _inside(track, self.size_wh) >= MIN_INSIDE for name, track in self.tracks_px.items()}

    def boxes_at(self, index: int) -> dict[str, Box]:
        """Boxes (0–1, clipped to the frame) of the things visible in a frame. IndexError outside the scene."""
        if not 0 <= index < self.n_frames:
            raise IndexError(f"scene {self.scene_id}: frame {index} of {self.n_frames}")
        limits = np.array(self.size_wh * 2)
        return {
            name: tuple((np.minimum(track[index].clip(0), limits) / limits).tolist())
            for name, track in self.tracks_px.items()
            if self.visible[name][index]
        }


def make_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Scene number `index` of a split; the same three arguments give the same scene.

    In the training splits four scenes in a hundred are medium and two long, in `eval` twenty and ten, at fixed
    places of the index, so that small sets hold their share too. Raises ValueError for a split that does not
    exist or a negative number.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index {index} and seed {seed} must not be negative")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    kind = _duration_kind(split, index)
    fps = int(rng.choice((8, 10, 12))) if kind == "short" else 8
    n_frames = round(rng.uniform(*DURATIONS_S[kind]) * fps)
    n_frames -= n_frames % fps == 0  # never a whole number of seconds, at which there is no frame any more
    look = (round(float(rng.uniform(low, high)), 3) for low, high in ((0.5, 0.7), (-1, 1), (0.4, 1)))
    background = Background(str(rng.choice(list(PLACES))), *look, grain=int(rng.integers(2**31)))
    while (staged := _stage(rng, split, n_frames, fps)) is None:
        pass
    return Scene(f"{split}-{seed}-{index:06d}", split, n_frames / fps, fps, background, *staged)


def split_of_names(names: Iterable[str]) -> str:
    """The split to which a cast of things belongs, whatever its order."""
    first_byte = hashlib.sha256("|".join(sorted(names)).encode()).digest()[0]
    return next(split for split, below in SPLIT_BYTES.items() if first_byte < below)


def draw_frame(scene: Scene, index: int) -> np.ndarray:
    """Frame `index` as (height, width, 3) uint8 RGB. IndexError outside the scene."""
    if not 0 <= index < scene.n_frames:
        raise IndexError(f"scene {scene.scene_id}: frame {index} of {scene.n_frames}")
    canvas = background_image(scene.background, scene.size_wh).copy()
    for sprite in scene.sprites:
        x0, y0, *_ = scene.tracks_px[sprite.name][index].tolist()
        picture = sprite_image(sprite.color, sprite.thing, _side_px(sprite.size, scene.size_wh))
        canvas.paste(picture, (x0, y0), picture)
    return np.array(canvas)


def draw_frames(scene: Scene) -> Iterator[np.ndarray]:
    """All frames in order; one in which nothing has moved is the same array again."""
    frame, before = None, None
    for index in range(scene.n_frames):
        now = [track[index].tobytes() for track in scene.tracks_px.values()]
        if frame is None or now != before:
            frame, before = draw_frame(scene, index), now
        yield frame


def render(scene: Scene, path: Path | str) -> None:
    """Writes the scene as H.264 in mp4; the file appears when it is complete. Errors as `video.write_video`."""
    from o3v.video.frames import write_video

    write_video(path, draw_frames(scene), scene.fps)


def track_px(sprite: Sprite, n_frames: int, fps: int, size_wh: Size = SIZE_WH) -> np.ndarray:
    """Unclipped box of a thing in every frame: (n_frames, 4) int pixels, -9999 (no width) where it is not drawn."""
    times, xs, ys = np.array(sprite.path).T
    now = np.arange(n_frames) / fps
    width, height = sprite_image(sprite.color, sprite.thing, _side_px(sprite.size, size_wh)).size
    lefts = np.rint(np.interp(now, times, xs) * size_wh[0] - width / 2)
    tops = np.rint(np.interp(now, times, ys) * size_wh[1] - height / 2)
    track = np.stack([lefts, tops, lefts + width, tops + height], axis=1).astype(int)
    track[(now < times[0] - 1e-9) | (now > times[-1] - 1e-9)] = -9999
    return track


def _side_px(size: float, size_wh: Size) -> int:
    return round(size * min(size_wh))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)


def _inside(track: np.ndarray, size_wh: Size) -> np.ndarray:
    """Share of each box that lies in the frame: (n,)."""
    return _areas(np.minimum(track.clip(0), size_wh * 2)) / np.maximum(_areas(track), 1)


def _hidden(a: np.ndarray, b: np.ndarray) -> float:
    """Largest share, over all frames, of the smaller of two boxes that the other one covers."""
    overlap = _areas(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))
    return float((overlap / np.maximum(np.minimum(_areas(a), _areas(b)), 1)).max())


def mixed_index(split: str, number: int) -> int:
    """Index of scene `number` of a set in which a fifth of the films is medium and a tenth long, as all of `eval` is.

    >>> mixed_index("eval", 3), mixed_index("sft", 3)
    (3, 167)
    """
    return number if split == "eval" else number * 50 + {3: 17, 7: 42, 9: 33}.get(number % 10, 0)


def _duration_kind(split: str, index: int) -> str:
    if split == "eval":
        return {3: "medium", 7: "medium", 9: "long"}.get(index % 10, "short")
    return {17: "medium", 42: "medium", 33: "long"}.get(index % 50, "short")


def _cast(rng: np.random.Generator, split: str) -> list[tuple[str, str]]:
    """Two to four pairs (colour, thing) of different colours that belong to the split."""
    colors, things = list(COLORS), list(KINDS)
    while True:
        size = 2 + int(np.searchsorted((0.3, 0.75), rng.random()))
        picked = zip(rng.permutation(len(colors))[:size], rng.integers(len(things), size=size), strict=True)
        cast = [(colors[color], things[thing]) for color, thing in picked]
        if split_of_names(" ".join(pair) for pair in cast) == split:
            return cast


def _stage(
    rng: np.random.Generator, split: str, n_frames: int, fps: int
) -> tuple[tuple[Sprite, ...], tuple[Event, ...]] | None:
    """Things and what they do, or None when this draw gives a scene that is not clear."""
    cast, plot = _cast(rng, split), str(rng.choice(("none", *PAIR_MOTIONS), p=(0.34, 0.28, 0.19, 0.19)))
    spans = draw_spans(rng, len(cast), MIN_SHARED if plot in PAIR_MOTIONS else -1)
    if spans is None:
        return None
    crowded = len(cast) > 2 or plot in PAIR_MOTIONS
    sizes = (rng.integers(14, 20 if crowded else 26, len(cast)) / 56).tolist()  # few sizes, so pictures are reused
    pictures = [sprite_image(*pair, _side_px(size, SIZE_WH)) for pair, size in zip(cast, sizes, strict=True)]
    halves = [np.array(picture.size) / SIZE_WH / 2 for picture in pictures]
    fixed = PAIR_MOTIONS[plot](rng, spans, halves) if plot in PAIR_MOTIONS else ()
    acts: list[Motion] = []
    sprites: list[Sprite] = []
    tracks: list[np.ndarray] = []
    for number, (color, thing) in enumerate(cast):
        for _ in range(1 if number < len(fixed) else 8):
            act = fixed[number] if number < len(fixed) else move_alone(rng, spans[number], halves[number])
            sprite = _sprite(color, thing, sizes[number], act, n_frames, fps)
            track = track_px(sprite, n_frames, fps)
            if all(_hidden(track, other) <= MAX_HIDDEN for other in tracks):
                break
        else:
            return None
        acts, sprites, tracks = [*acts, act], [*sprites, sprite], [*tracks, track]
    return (tuple(sprites), _events(sprites, acts, n_frames, fps)) if _is_clear(sprites, n_frames / fps) else None


def _sprite(color: str, thing: str, size: float, act: Motion, n_frames: int, fps: int) -> Sprite:
    path = tuple((round(u * n_frames) / fps, round(x, 4), round(y, 4)) for u, x, y in act.path)
    sprite = Sprite(color, thing, size, path, path[0][0], path[-1][0])
    seen = np.flatnonzero(_inside(track_px(sprite, n_frames, fps), SIZE_WH) >= MIN_INSIDE)
    return Sprite(color, thing, size, path, float(seen[0]) / fps, float(seen[-1] + 1) / fps)


def _is_clear(sprites: list[Sprite], duration_s: float) -> bool:
    """Everything is seen long enough, one thing at most half the video, and who comes and goes first is plain."""
    shares = [(s.to_s - s.from_s) / duration_s for s in sprites]
    moments = (sorted(s.from_s for s in sprites), sorted(s.to_s for s in sprites))
    apart = min(b - a for times in moments for a, b in pairwise(times)) / duration_s
    crowd = max(sum(other.from_s <= s.from_s < other.to_s for other in sprites) for s in sprites)
    return MIN_SHARE <= min(shares) <= 0.5 and apart >= MIN_APART and crowd <= MAX_VISIBLE


def _events(sprites: list[Sprite], acts: list[Motion], n_frames: int, fps: int) -> tuple[Event, ...]:
    events = []
    for number, (sprite, act) in enumerate(zip(sprites, acts, strict=True)):
        if sprite.from_s > 0:
            events.append(Event("appear", sprite.name, None, (sprite.from_s, sprite.from_s)))
        start_s, end_s = (round(u * n_frames) / fps for u in act.span) if act.span else sprite.span_s
        other = sprites[1 - number].name if act.kind in PAIR_MOTIONS else None
        events.append(Event(act.kind, sprite.name, other, (start_s, end_s)))
        if sprite.to_s < n_frames / fps:
            events.append(Event("leave", sprite.name, None, (sprite.to_s, sprite.to_s)))
    return tuple(sorted(events, key=lambda event: event.span_s))
