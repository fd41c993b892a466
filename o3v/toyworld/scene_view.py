"""One synthetic scene as its questioner sees it: who is whole when, who is near, how to word a fact.

A `Fact` is a question with its one right answer, some answers that are false, the short chain of seeing that
leads there, and when it shows. `SceneView` holds what the families of `synth_facts` ask of a scene again and again.
Knows nothing of rows, tasks or tags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from o3v.geometry import Span
from o3v.toyworld.scene import Event, Scene, Sprite
from o3v.toyworld.sprites import COLORS, KINDS
from o3v.toyworld.templates import CHAINS, IMAGE_QUESTIONS, TIME_QUESTIONS, VIDEO_QUESTIONS

QUESTIONS = VIDEO_QUESTIONS | TIME_QUESTIONS | IMAGE_QUESTIONS


@dataclass(frozen=True)
class Fact:
    """A question about a scene and the truth.

    `chain` names what it shows as {0}, {1}, …; `shown` says which thing in which frame each of them is. `wrong` are
    false answers, the most tempting first. `span_s` is when the answer shows: while `subject` does `deed` ("move
    past the blue ball"), or, without a deed, while it is visible.
    """

    family: str
    question: str
    answer: str
    wrong: tuple[str, ...]
    chain: str
    shown: tuple[tuple[str, int], ...]
    subject: str
    span_s: Span
    deed: str | None = None

    @property
    def pair(self) -> tuple[tuple[str, int], ...]:
        """The two of the things shown that stand beside each other, where two do."""
        return self.shown[-2:] if self.family == "meet" else self.shown[:2]


class SceneView:
    """A scene with what the families ask of it again and again, and a generator of its own for wordings."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(list(hashlib.sha256(scene.scene_id.encode()).digest()[:16]))
        self.sprites = sorted(scene.sprites, key=lambda s: s.from_s)
        self.by_name = {sprite.name: sprite for sprite in scene.sprites}
        limits, now = np.array(scene.size_wh * 2), np.arange(scene.n_frames)
        # frames that a time with one decimal still finds: a claim at that time shows what it says
        found = np.floor(np.round(now / scene.fps, 1) * scene.fps + 1e-6) == now
        whole = {n: ((t >= 0) & (t <= limits)).all(axis=1) for n, t in scene.tracks_px.items()}
        self.drawn = {n: t[:, 0] > -9999 for n, t in scene.tracks_px.items()}
        self.seen = {n: np.flatnonzero(v & found) for n, v in scene.visible.items()}
        self.clear = {n: np.flatnonzero(whole[n] & found) if (whole[n] & found).any() else self.seen[n] for n in whole}
        self.plain = found & np.all([whole[n] | ~self.drawn[n] for n in whole], axis=0)  # nothing half outside
        self.centers = {n: (t[:, :2] + t[:, 2:]) / 2 / scene.size_wh for n, t in scene.tracks_px.items()}

    def early(self, sprite: Sprite) -> tuple[str, int]:
        return sprite.name, int(self.clear[sprite.name][0])

    def late(self, sprite: Sprite) -> tuple[str, int]:
        return sprite.name, int(self.clear[sprite.name][-1])

    def middle(self, name: str) -> tuple[str, int]:
        return name, int(self.clear[name][len(self.clear[name]) // 2])

    def both(self, a: str, b: str) -> np.ndarray:
        """Frames in which two things are visible."""
        return np.intersect1d(self.seen[a], self.seen[b])

    def during(self, event: Event) -> np.ndarray:
        """Frames of an event in which its things are whole."""
        frames = self.clear[event.subject]
        if event.object:
            frames = np.intersect1d(frames, self.clear[event.object])
        times = frames / self.scene.fps
        return frames[(times >= event.span_s[0]) & (times < event.span_s[1])]

    def time_of(self, frame: int) -> str:
        return f"{self.scene.frame_time_s(frame):.1f}"

    def is_only(self, sprite: Sprite) -> bool:
        """True when no other thing of its kind is in the scene."""
        return sum(other.thing == sprite.thing for other in self.sprites) == 1

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def shuffled(self, options: Sequence[str]) -> list[str]:
        return [options[i] for i in self.rng.permutation(len(options))]

    def others(self, sprite: Sprite, asked: str) -> tuple[str, ...]:
        """Names other than this thing's and the asked one's: those of the scene, then some that differ in a word."""
        here = [other.name for other in self.sprites]
        near = [f"{sprite.color} {thing}" for thing in KINDS] + [f"{color} {sprite.thing}" for color in COLORS]
        absent = [name for name in self.shuffled(near) if name not in here]
        return (*self.shuffled([name for name in here if name not in (sprite.name, asked)]), *absent[:3])

    def fact(
        self,
        family: str,
        subject: Sprite,
        shown: Sequence[tuple[str, int]],
        answer: str | None = None,
        wrong: Sequence[str] | None = None,
        chain: str | None = None,
        span_s: Span | None = None,
        deed: str | None = None,
        **words: str,
    ) -> Fact:
        """A fact of a family, in one of its wordings. Without an answer it is the subject among other names."""
        words = {"x": subject.name, "color": subject.color, "thing": subject.thing, "deed": deed or ""} | words
        return Fact(
            family,
            self.pick(QUESTIONS[family]).format(**words),
            answer or f"The {subject.name}",
            tuple(wrong or ()) if answer else tuple(f"The {name}" for name in self.others(subject, words["x"])),
            self.pick(CHAINS[chain or family]).format("{0}", "{1}", "{2}", **words),
            tuple(shown),
            subject.name,
            span_s or subject.span_s,
            deed,
        )
