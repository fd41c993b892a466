"""Scenes of the synthetic world: a few moving objects with exact ground truth, drawn frame by frame.

A scene shows two to four objects of different colours. They appear, rest or move, meet, pass or swap places, and leave.
Positions are whole pixels, so the box of an object is exactly the box of its image. An object counts as visible while
at least `MIN_INSIDE` of that box is inside the frame. A scene is a function of (seed, split, index). The set of objects
decides the split by its hash, so scenes of different splits never show the same set. This module does not know
questions or rows. The paper has no synthetic world.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from o3v.geometry import Box, Size, Span
from o3v.toyworld.motion import MAX_VISIBLE, MIN_SHARED, PAIR_MOTIONS, Motion, Waypoint, draw_spans, move_alone
from o3v.toyworld.sprites import COLORS, KINDS, PLACES, SIZE_WH, Background, background_image, sprite_image

SPLIT_BYTES = {"sft": 112, "rl": 224, "eval": 256}  # sets of objects with a hash byte below this belong to the split
SPLITS = tuple(SPLIT_BYTES)
DURATIONS_S = {"short": (6.2, 12.0), "medium": (62.0, 100.0), "long": (182.0, 240.0)}  # the three lengths of V-STAR
MIN_INSIDE = 0.6  # share of a box inside the frame from which an object counts as visible
MAX_HIDDEN = 0.25  # share of the smaller of two boxes that the other one may cover
MIN_SHARE = 0.2  # of the video: shortest time that an object is visible
MIN_APART = 0.06  # of the video, between two arrivals or two departures


@dataclass(frozen=True)
class Sprite:
    """One object: its appearance, its path, and when it counts as visible (in frames with `from_s <= time < to_s`).

    `path` holds waypoints (time_s, x, y) of the centre in shares of the frame, joined by straight lines. The object is
    drawn from the first waypoint until just before the last. `size` is its longer side as a share of the frame's side.
    """

    color: str
    kind: str
    size: float
    path: tuple[Waypoint, ...]
    from_s: float
    to_s: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"

    @property
    def span_s(self) -> Span:
        return (self.from_s, self.to_s)


@dataclass(frozen=True)
class Event:
    """Something that happens: `kind` is appear, leave, stay, left, right, up, down, meet, pass or swap.

    The span in seconds of `meet` is the time side by side, that of `pass` and `swap` the time of the movement. Only
    these three have an `object`. The span of `appear` and `leave` starts and ends at the same time.
    """

    kind: str
    subject: str
    object: str | None
    span_s: Span


@dataclass(frozen=True)
class Scene:
    """A short video and its ground truth. Frame i shows the time i / fps seconds."""

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
        """Unclipped box of each object in every frame, (n_frames, 4) int pixels; -9999 where it is not drawn."""
        return {s.name: track_px(s, self.n_frames, self.fps, self.size_wh) for s in self.sprites}

    @cached_property
    def visible(self) -> dict[str, np.ndarray]:
        """In which frames each object counts as visible, (n_frames,) bool."""
        return {name: _inside(track, self.size_wh) >= MIN_INSIDE for name, track in self.tracks_px.items()}

    def boxes_at(self, index: int) -> dict[str, Box]:
        """Boxes (0–1, clipped to the frame) of the visible objects of a frame. Raises IndexError outside the scene."""
        if not 0 <= index < self.n_frames:
            raise IndexError(f"scene {self.scene_id}: frame {index} of {self.n_frames}")
        limits = np.array(self.size_wh * 2)
        return {
            name: tuple((np.minimum(track[index].clip(0), limits) / limits).tolist())
            for name, track in self.tracks_px.items()
            if self.visible[name][index]
        }


def make_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Scene number `index` of a split. The same three arguments always give the same scene.

    In the training splits 4% of the scenes have medium length and 2% are long; in `eval` 20% and 10%. They have
    fixed indices, so small sets have these shares too. Raises ValueError for an unknown split or a negative number.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index {index} and seed {seed} must not be negative")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    kind = _duration_kind(split, index)
    fps = int(rng.choice((8, 10, 12))) if kind == "short" else 8
    n_frames = round(rng.uniform(*DURATIONS_S[kind]) * fps)
    n_frames -= n_frames % fps == 0  # never a whole number of seconds: there is no frame at the very end
    look = (round(float(rng.uniform(low, high)), 3) for low, high in ((0.5, 0.7), (-1, 1), (0.4, 1)))
    background = Background(str(rng.choice(list(PLACES))), *look, grain=int(rng.integers(2**31)))
    while (drawn := _draw_objects(rng, split, n_frames, fps)) is None:
        pass
    return Scene(f"{split}-{seed}-{index:06d}", split, n_frames / fps, fps, background, *drawn)


def split_of_names(names: Iterable[str]) -> str:
    """The split to which a set of object names belongs, in any order."""
    first_byte = hashlib.sha256("|".join(sorted(names)).encode()).digest()[0]
    return next(split for split, below in SPLIT_BYTES.items() if first_byte < below)


def draw_frame(scene: Scene, index: int) -> np.ndarray:
    """Frame `index` as (height, width, 3) uint8 RGB. Raises IndexError outside the scene."""
    if not 0 <= index < scene.n_frames:
        raise IndexError(f"scene {scene.scene_id}: frame {index} of {scene.n_frames}")
    canvas = background_image(scene.background, scene.size_wh).copy()
    for sprite in scene.sprites:
        x0, y0, *_ = scene.tracks_px[sprite.name][index].tolist()
        image = sprite_image(sprite.color, sprite.kind, _side_px(sprite.size, scene.size_wh))
        canvas.paste(image, (x0, y0), image)
    return np.array(canvas)


def draw_frames(scene: Scene) -> Iterator[np.ndarray]:
    """Yields all frames in order. A frame in which nothing has moved is the same array as the frame before."""
    frame, drawn_boxes = None, None
    for index in range(scene.n_frames):
        boxes = [track[index].tobytes() for track in scene.tracks_px.values()]
        if frame is None or boxes != drawn_boxes:
            frame, drawn_boxes = draw_frame(scene, index), boxes
        yield frame


def render(scene: Scene, path: Path | str) -> None:
    """Writes the scene as an H.264 mp4. The file is written atomically. Errors as in `write_video`."""
    from o3v.toyworld.writing import write_video

    write_video(path, draw_frames(scene), scene.fps)


def track_px(sprite: Sprite, n_frames: int, fps: int, size_wh: Size = SIZE_WH) -> np.ndarray:
    """Unclipped box of an object in every frame: (n_frames, 4) int pixels, -9999 (no width) where it is not drawn."""
    times, xs, ys = np.array(sprite.path).T
    now = np.arange(n_frames) / fps
    width, height = sprite_image(sprite.color, sprite.kind, _side_px(sprite.size, size_wh)).size
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
    """Share of each box that lies inside the frame, shape (n,)."""
    return _areas(np.minimum(track.clip(0), size_wh * 2)) / np.maximum(_areas(track), 1)


def _hidden(a: np.ndarray, b: np.ndarray) -> float:
    """Largest share of the smaller of two boxes that the other one covers, over all frames."""
    overlap = _areas(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))
    return float((overlap / np.maximum(np.minimum(_areas(a), _areas(b)), 1)).max())


def mixed_index(split: str, number: int) -> int:
    """Index of scene `number` in a set with 20% medium and 10% long videos, the shares of `eval`.

    >>> mixed_index("eval", 3), mixed_index("sft", 3)
    (3, 167)
    """
    return number if split == "eval" else number * 50 + {3: 17, 7: 42, 9: 33}.get(number % 10, 0)


def _duration_kind(split: str, index: int) -> str:
    if split == "eval":
        return {3: "medium", 7: "medium", 9: "long"}.get(index % 10, "short")
    return {17: "medium", 42: "medium", 33: "long"}.get(index % 50, "short")


def _draw_looks(rng: np.random.Generator, split: str) -> list[tuple[str, str]]:
    """Draws two to four pairs (colour, kind) of different colours that belong to the split."""
    colors, kinds = list(COLORS), list(KINDS)
    while True:
        size = 2 + int(np.searchsorted((0.3, 0.75), rng.random()))
        picked = zip(rng.permutation(len(colors))[:size], rng.integers(len(kinds), size=size), strict=True)
        looks = [(colors[color], kinds[kind]) for color, kind in picked]
        if split_of_names(" ".join(look) for look in looks) == split:
            return looks


def _draw_objects(
    rng: np.random.Generator, split: str, n_frames: int, fps: int
) -> tuple[tuple[Sprite, ...], tuple[Event, ...]] | None:
    """Draws the objects of a scene and their events. None when the drawn scene is ambiguous."""
    looks, plan = _draw_looks(rng, split), str(rng.choice(("none", *PAIR_MOTIONS), p=(0.34, 0.28, 0.19, 0.19)))
    spans = draw_spans(rng, len(looks), MIN_SHARED if plan in PAIR_MOTIONS else -1)
    if spans is None:
        return None
    crowded = len(looks) > 2 or plan in PAIR_MOTIONS
    sizes = (rng.integers(14, 20 if crowded else 26, len(looks)) / 56).tolist()  # few sizes: cached images are reused
    images = [sprite_image(*look, _side_px(size, SIZE_WH)) for look, size in zip(looks, sizes, strict=True)]
    halves = [np.array(image.size) / SIZE_WH / 2 for image in images]
    pair = PAIR_MOTIONS[plan](rng, spans, halves) if plan in PAIR_MOTIONS else ()
    motions: list[Motion] = []
    sprites: list[Sprite] = []
    tracks: list[np.ndarray] = []
    for number, look in enumerate(looks):
        for _ in range(1 if number < len(pair) else 8):
            motion = pair[number] if number < len(pair) else move_alone(rng, spans[number], halves[number])
            sprite = _sprite(look, sizes[number], motion, n_frames, fps)
            track = track_px(sprite, n_frames, fps)
            if all(_hidden(track, other) <= MAX_HIDDEN for other in tracks):
                break
        else:
            return None
        motions, sprites, tracks = [*motions, motion], [*sprites, sprite], [*tracks, track]
    return (tuple(sprites), _events(sprites, motions, n_frames, fps)) if _is_clear(sprites, n_frames / fps) else None


def _sprite(look: tuple[str, str], size: float, motion: Motion, n_frames: int, fps: int) -> Sprite:
    path = tuple((round(u * n_frames) / fps, round(x, 4), round(y, 4)) for u, x, y in motion.path)
    sprite = Sprite(*look, size, path, path[0][0], path[-1][0])
    seen = np.flatnonzero(_inside(track_px(sprite, n_frames, fps), SIZE_WH) >= MIN_INSIDE)
    return replace(sprite, from_s=float(seen[0]) / fps, to_s=float(seen[-1] + 1) / fps)


def _is_clear(sprites: list[Sprite], duration_s: float) -> bool:
    """True when each object is visible long enough, one for at most half the video, and their order is plain."""
    shares = [(s.to_s - s.from_s) / duration_s for s in sprites]
    moments = (sorted(s.from_s for s in sprites), sorted(s.to_s for s in sprites))
    apart = min(b - a for times in moments for a, b in pairwise(times)) / duration_s
    crowd = max(sum(other.from_s <= s.from_s < other.to_s for other in sprites) for s in sprites)
    return MIN_SHARE <= min(shares) <= 0.5 and apart >= MIN_APART and crowd <= MAX_VISIBLE


def _events(sprites: list[Sprite], motions: list[Motion], n_frames: int, fps: int) -> tuple[Event, ...]:
    events = []
    for number, (sprite, motion) in enumerate(zip(sprites, motions, strict=True)):
        if sprite.from_s > 0:
            events.append(Event("appear", sprite.name, None, (sprite.from_s, sprite.from_s)))
        start_s, end_s = (round(u * n_frames) / fps for u in motion.span) if motion.span else sprite.span_s
        other = sprites[1 - number].name if motion.kind in PAIR_MOTIONS else None
        events.append(Event(motion.kind, sprite.name, other, (start_s, end_s)))
        if sprite.to_s < n_frames / fps:
            events.append(Event("leave", sprite.name, None, (sprite.to_s, sprite.to_s)))
    return tuple(sorted(events, key=lambda event: event.span_s))
