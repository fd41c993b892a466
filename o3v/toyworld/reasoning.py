"""A fact of a scene as a chain of reasoning: a look through the film, claims, what is asked for said again.

Chains are written through `o3v.evidence` only. Departs from the paper in the look, off which so small a model reads its
claims and answers. Knows nothing of rows and tasks.
"""

from __future__ import annotations

from dataclasses import replace

from o3v.evidence import format_claim, format_time
from o3v.geometry import Box, Span
from o3v.toyworld.narration import close_look, inside, places, read_off, watched, watched_frames, way_of
from o3v.toyworld.scene import Scene
from o3v.toyworld.scene_view import Fact

TOLD = ("color", "thing", "count")  # families that a look through the film tells, by names alone


def snapped(scene: Scene, fact: Fact) -> Fact:
    """The fact, its things shown in frames of the look through the film: the nearest that show them, of a thing to be
    followed the first, the middle and the last."""
    frames = watched_frames(scene.n_frames)
    showing = {name: [i for i in frames if name in scene.boxes_at(i)] for name, _ in fact.shown}
    if fact.family == "track":
        seen = showing[fact.subject]
        return replace(fact, shown=tuple((fact.subject, seen[at]) for at in (0, len(seen) // 2, -1)))
    nearest = [(name, min(showing[name], key=lambda i, frame=frame: abs(i - frame))) for name, frame in fact.shown]
    return replace(fact, shown=tuple(nearest))


def chain_of(scene: Scene, fact: Fact, claimed: bool = True) -> str:
    """The whole chain: look, what is seen, and what is asked for with the thing that it is. A claim follows the number
    of its frame, its thing's name and its place, off which its box is read. Without claims the look and the thing are
    all, or what else the look shows."""
    frames, told = watched_frames(scene.n_frames), []
    for name, frame in snapped(scene, fact).shown:
        seen = f"frame {frames.index(frame) + 1} {name} {places(scene.boxes_at(frame), (1, 1))[name]}"
        if claimed:
            seen += " " + format_claim(name, [box_of(scene, name, frame)], round(scene.frame_time_s(frame), 1))
        told.append(seen)
    read = read_off(fact.family, fact.question, fact.answer, _names(scene), _spans_s(scene))
    read, said = f"{read}." if read else "", fact.chain.format(*told)
    if not claimed and fact.family in ("deed", "way"):
        said = f"{way_of(fact.subject, [places(scene.boxes_at(frame), (1, 1)) for frame in frames])}."
    elif not claimed and (read or fact.family in TOLD):
        said = ""
    return " ".join(part for part in (f"{look_of(scene, fact)}.", said, read) if part)


def _names(scene: Scene) -> list[list[str]]:
    """What each frame of a look through the film shows, in the order of the places."""
    return [list(places(scene.boxes_at(frame), (1, 1))) for frame in watched_frames(scene.n_frames)]


def _spans_s(scene: Scene) -> dict[str, Span]:
    return {sprite.name: sprite.span_s for sprite in scene.sprites}


def look_of(scene: Scene, fact: Fact) -> str:
    """A look through evenly spread frames before anything is claimed, and a close one at the frame that decides. Plain
    words, not the grammar: these moments are looked at, and not claimed as evidence."""
    said = watched(fact.family, fact.question, _names(scene), _spans_s(scene))
    close = _close_look(scene, fact)
    return f"{said}. {close}" if close else said


def _close_look(scene: Scene, fact: Fact) -> str:
    """What the frame of the look shows in which the answer is beside what is asked; "" of other families."""
    frames, pair = watched_frames(scene.n_frames), [name for name, _ in fact.pair]
    both = [frame for frame in frames if all(name in scene.boxes_at(frame) for name in pair)]
    frame = min(both, key=lambda frame: abs(frame - fact.pair[-1][1]), default=-1)
    said = close_look(fact.family, fact.question, scene.boxes_at(frame), (1, 1)) if both else ""
    return f"Frame {frames.index(frame) + 1} {said}" if said else ""


def span_of(scene: Scene, fact: Fact) -> str:
    """From which frame of the look to which the fact holds, with their times."""
    return inside([scene.frame_time_s(frame) for frame in watched_frames(scene.n_frames)], fact.span_s, _moment)


def _moment(time_s: float) -> str:
    return format_time(round(time_s, 1))


def box_of(scene: Scene, name: str, frame: int) -> Box:
    """The thing's box in that frame as chains have it: 0–1 with three decimals."""
    x0, y0, x1, y1 = (round(side, 3) for side in scene.boxes_at(frame)[name])
    return (x0, y0, x1, y1)
