"""Writes the reasoning chain of a fact about a scene: a look at all frames, claims, and a conclusion.

Claims are written only through `o3v.evidence`. Departs from the paper: a chain first describes all frames in plain
words, as a model as small as ours needs these steps. This module does not know rows or tasks.
"""

from __future__ import annotations

from dataclasses import replace

from o3v.evidence import format_claim, format_time
from o3v.geometry import Box
from o3v.toyworld.narration import WatchedVideo, describe_span, describe_way, watched_frames
from o3v.toyworld.scene import Scene
from o3v.toyworld.scene_view import Fact

NAMES_SUFFICE = ("color", "thing", "count")  # families whose answer follows from the names in the look


def watch(scene: Scene) -> WatchedVideo:
    """The described frames of a scene, evenly spread. Boxes are shares of the frame."""
    frames = watched_frames(scene.n_frames)
    return WatchedVideo(
        [scene.boxes_at(frame) for frame in frames],
        (1, 1),
        [scene.frame_time_s(frame) for frame in frames],
        {sprite.name: sprite.span_s for sprite in scene.sprites},
        lambda i, frame: abs(frames[i] - frame),
    )


def described_frames(scene: Scene) -> list[tuple[int, float]]:
    """Index and time in seconds of the frames that a chain describes."""
    return [(frame, scene.frame_time_s(frame)) for frame in watched_frames(scene.n_frames)]


def snapped(scene: Scene, fact: Fact) -> Fact:
    """The fact with its objects shown in described frames (see `WatchedVideo.shown`)."""
    frames = watched_frames(scene.n_frames)
    return replace(fact, shown=tuple((name, frames[number - 1]) for name, number in watch(scene).shown(fact)))


def chain_of(scene: Scene, fact: Fact, claimed: bool = True) -> str:
    """The whole chain: the look, a sentence about the shown objects, and the conclusion.

    A claim follows the frame number, the name and the position of its object. Without claims (`claimed` False) the
    sentence is left out where the look or the conclusion gives the answer.
    """
    video, frames, entries = watch(scene), watched_frames(scene.n_frames), []
    for name, number in video.shown(fact):
        entry, frame = video.entry(name, number), frames[number - 1]
        if claimed:
            entry += " " + format_claim(name, [box_of(scene, name, frame)], round(scene.frame_time_s(frame), 1))
        entries.append(entry)
    sentence, conclusion = fact.chain.format(*entries), video.conclusion(fact)
    if not claimed and fact.family in ("deed", "way"):
        sentence = f"{describe_way(fact.subject, video.positions)}."
    elif not claimed and (conclusion or fact.family in NAMES_SUFFICE):
        return f"{video.look(fact)}.{conclusion}"
    return f"{video.look(fact)}. {sentence}{conclusion}"


def span_of(scene: Scene, fact: Fact) -> str:
    """The first and the last described frame in which the fact is true, with their times."""
    return describe_span(watch(scene).times_s, fact.span_s, lambda time_s: format_time(round(time_s, 1)))


def box_of(scene: Scene, name: str, frame: int) -> Box:
    """The box of an object in a frame as chains write it: 0–1 with three decimals."""
    x0, y0, x1, y1 = (round(side, 3) for side in scene.boxes_at(frame)[name])
    return (x0, y0, x1, y1)
