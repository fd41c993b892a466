"""Lookups that all question families need: when each object of a scene is visible, and how to word a fact.

A `Fact` is a question with its one correct answer, some wrong answers, a short chain of reasoning, and the span of time
in which it is true. This module does not know rows, tasks or tags. The paper has no synthetic world.
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
    """A question about a scene with its ground truth.

    `wrong` are wrong answers, the most plausible ones first. `chain` is the reasoning, with {0}, {1}, … for the shown
    objects; `shown` holds the name of each of them and the number of a frame that shows it. `span_s` is when `subject`
    does `action` ("move past the blue ball"), or, if `action` is None, when it is visible.
    """

    family: str
    question: str
    answer: str
    wrong: tuple[str, ...]
    chain: str
    shown: tuple[tuple[str, int], ...]
    subject: str
    span_s: Span
    action: str | None = None

    @property
    def pair(self) -> tuple[tuple[str, int], ...]:
        """The two shown objects that are side by side, in facts about two objects."""
        return self.shown[-2:] if self.family == "meet" else self.shown[:2]


class SceneView:
    """A scene with lookup tables by object name, and its own random generator for wordings.

    `drawn` tells in which frames an object is drawn at all, (n_frames,) bool. `seen` holds the numbers of the frames in
    which it is visible, `clear` of those in which it is also completely inside the frame. `plain` tells in which frames
    no object is partly outside, (n_frames,) bool. `centers` are (n_frames, 2) in shares of the frame.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(list(hashlib.sha256(scene.scene_id.encode()).digest()[:16]))
        self.sprites = sorted(scene.sprites, key=lambda s: s.from_s)
        self.by_name = {sprite.name: sprite for sprite in scene.sprites}
        limits, now = np.array(scene.size_wh * 2), np.arange(scene.n_frames)
        # frames whose time, written with one decimal as in claims, leads back to the same frame
        exact = np.floor(np.round(now / scene.fps, 1) * scene.fps + 1e-6) == now
        whole = {n: ((t >= 0) & (t <= limits)).all(axis=1) for n, t in scene.tracks_px.items()}
        self.drawn = {n: t[:, 0] > -9999 for n, t in scene.tracks_px.items()}
        self.seen = {n: np.flatnonzero(v & exact) for n, v in scene.visible.items()}
        self.clear = {n: np.flatnonzero(whole[n] & exact) if (whole[n] & exact).any() else self.seen[n] for n in whole}
        self.plain = exact & np.all([whole[n] | ~self.drawn[n] for n in whole], axis=0)
        self.centers = {n: (t[:, :2] + t[:, 2:]) / 2 / scene.size_wh for n, t in scene.tracks_px.items()}

    def early(self, sprite: Sprite) -> tuple[str, int]:
        """The object in the first frame that shows it clearly."""
        return sprite.name, int(self.clear[sprite.name][0])

    def late(self, sprite: Sprite) -> tuple[str, int]:
        """The object in the last frame that shows it clearly."""
        return sprite.name, int(self.clear[sprite.name][-1])

    def middle(self, name: str) -> tuple[str, int]:
        return name, int(self.clear[name][len(self.clear[name]) // 2])

    def both(self, a: str, b: str) -> np.ndarray:
        """The frames in which both objects are visible."""
        return np.intersect1d(self.seen[a], self.seen[b])

    def during(self, event: Event) -> np.ndarray:
        """The frames of an event in which its objects are completely inside the frame."""
        frames = self.clear[event.subject]
        if event.object:
            frames = np.intersect1d(frames, self.clear[event.object])
        times = frames / self.scene.fps
        return frames[(times >= event.span_s[0]) & (times < event.span_s[1])]

    def time_of(self, frame: int) -> str:
        return f"{self.scene.frame_time_s(frame):.1f}"

    def is_only(self, sprite: Sprite) -> bool:
        """True when no other object of this kind is in the scene."""
        return sum(other.kind == sprite.kind for other in self.sprites) == 1

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def shuffled(self, options: Sequence[str]) -> list[str]:
        return [options[i] for i in self.rng.permutation(len(options))]

    def others(self, sprite: Sprite, known: str) -> tuple[str, ...]:
        """Wrong names, neither this object's nor the `known` one of the question: first those of the scene, then some
        that differ from the correct name in one word."""
        here = [other.name for other in self.sprites]
        near = [f"{sprite.color} {kind}" for kind in KINDS] + [f"{color} {sprite.kind}" for color in COLORS]
        absent = [name for name in self.shuffled(near) if name not in here]
        return (*self.shuffled([name for name in here if name not in (sprite.name, known)]), *absent[:3])

    def fact(
        self,
        family: str,
        subject: Sprite,
        shown: Sequence[tuple[str, int]],
        answer: str | None = None,
        wrong: Sequence[str] | None = None,
        chain: str | None = None,
        span_s: Span | None = None,
        **words: str,
    ) -> Fact:
        """Makes a fact in one of the wordings of its family, drawn at random.

        Args:
            family: the family of questions.
            subject: the object that the question is about, and the answer when `answer` is None.
            shown: names of the shown objects, each with a frame number.
            answer: the correct answer; None for the subject's name.
            wrong: wrong answers to an `answer`; wrong names are drawn here.
            chain: the family whose chains are used; None for `family`.
            span_s: start and end in seconds; None for the time in which the subject is visible.
            words: values of further fields of the wordings, among them `action`, what the subject does.
        """
        words = {"x": subject.name, "color": subject.color, "kind": subject.kind} | words
        return Fact(
            family,
            self.pick(QUESTIONS[family]).format(**words),
            answer or f"The {subject.name}",
            tuple(wrong or ()) if answer else tuple(f"The {name}" for name in self.others(subject, words["x"])),
            self.pick(CHAINS[chain or family]).format("{0}", "{1}", "{2}", **words),
            tuple(shown),
            subject.name,
            span_s or subject.span_s,
            words.get("action"),
        )
