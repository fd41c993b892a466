"""The questions that can be asked about a synthetic scene, with their correct answers.

One generator for each group of families: what happens, when it happens, and what one frame shows. All facts are derived
from the scene's boxes and events. No fact is made where two answers could be defended: an object partly outside the
frame, two objects almost equally near. This module does not know rows, tasks or tags. The paper has no synthetic world.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from o3v.geometry import Span
from o3v.toyworld.narration import positions, watched_frames
from o3v.toyworld.scene import Event, Scene, Sprite
from o3v.toyworld.scene_view import Fact, SceneView
from o3v.toyworld.sprites import COLORS, KINDS
from o3v.toyworld.templates import ACTIONS, NUMBERS, PLACE_ANSWERS, WAYS, WRONG_PLACES

APART = 0.12  # of the frame: nearer than this to the middle or to another object is ambiguous
LONGER = 0.1  # of the video: a smaller difference of two durations is ambiguous
SHORTEST = 0.12  # of the video: shorter spans are not asked about
LARGER = 1.4  # ratio of two areas from which one object is clearly larger
MAX_SPAN = 0.7  # of the video; paper: temporal rows with longer spans are filtered out
WRONG_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "stay": ("left", "right", "up", "down", "swap", "meet"),
    "left": ("right", "up", "down", "stay"),
    "right": ("left", "up", "down", "stay"),
    "up": ("left", "right", "down", "stay"),
    "down": ("left", "right", "up", "stay"),
    "meet": ("stay", "swap", "away"),
    "pass": ("stay", "swap", "up", "down", "back"),
    "swap": ("stay", "meet", "back"),
}


def video_facts(scene: Scene) -> list[Fact]:
    """All facts about what happens in a scene, each in one wording."""
    view = SceneView(scene)
    return [fact for family in (_order, _company, _appearances, _actions, _positions) for fact in family(view)]


def time_facts(scene: Scene) -> list[Fact]:
    """All facts whose answer is a span of seconds, "[start, end]", of at most `MAX_SPAN` of the video."""
    view = SceneView(scene)
    limits = SHORTEST * scene.duration_s, MAX_SPAN * scene.duration_s
    facts = (fact for family in (_visits, _action_times) for fact in family(view))
    return [f for f in facts if limits[0] <= f.span_s[1] - f.span_s[0] <= limits[1]]


def _order(view: SceneView) -> Iterator[Fact]:
    """Which objects come first, go first and stay longest. Scenes keep arrivals and departures apart."""
    come, gone = view.sprites, sorted(view.sprites, key=lambda s: s.to_s)
    yield view.fact("first", come[0], [view.early(come[0]), view.early(come[1])])
    yield view.fact("last", come[-1], [view.early(come[-2]), view.early(come[-1])])
    yield view.fact("leaves", gone[0], [view.late(gone[0]), view.late(gone[1])])
    if gone[-1].to_s == view.scene.duration_s:
        yield view.fact("stays", gone[-1], [view.late(gone[-2]), view.late(gone[-1])])
    longest = sorted(view.sprites, key=lambda s: s.to_s - s.from_s)
    lengths = [s.to_s - s.from_s for s in longest]
    if lengths[-1] - lengths[-2] >= LONGER * view.scene.duration_s:
        yield view.fact("longest", longest[-1], [view.early(longest[-1]), view.late(longest[-1])])
    for one, other in pairwise(come):
        shown = [view.early(one), view.early(other)]
        yield view.fact("after", other, shown, x=one.name)
        yield view.fact("before", one, shown, x=other.name, chain="after")


def _company(view: SceneView) -> Iterator[Fact]:
    """Which objects are visible together. An object partly outside counts as present, to exclude ambiguous cases."""
    fringe = round(0.05 * view.scene.n_frames)
    for sprite in view.sprites:
        rest = [other for other in view.sprites if other is not sprite]
        met = [other for other in rest if (view.drawn[sprite.name] & view.drawn[other.name]).any()]
        if len(met) == 1 and len(both := view.both(sprite.name, met[0].name)) >= SHORTEST * view.scene.n_frames:
            frame = int(both[len(both) // 2])
            yield view.fact("with", met[0], [(sprite.name, frame), (met[0].name, frame)], x=sprite.name)
        start = round(sprite.from_s * view.scene.fps)
        around = slice(max(start - fringe, 0), start + fringe)
        there = [other for other in rest if view.drawn[other.name][around].any()]
        if start > 0 and len(there) == 1 and view.scene.visible[there[0].name][around].all():
            both = view.both(sprite.name, there[0].name)
            if len(both):
                shown = [(sprite.name, int(both[0])), (there[0].name, int(both[0]))]
                yield view.fact("already", there[0], shown, x=sprite.name)


def _appearances(view: SceneView) -> Iterator[Fact]:
    """Colours, kinds, the number of objects, and the place."""
    for sprite in view.sprites:
        shown = [view.middle(sprite.name)]
        kinds = view.shuffled([f"A {kind}" for kind in KINDS if kind != sprite.kind])
        yield view.fact("thing", sprite, shown, f"A {sprite.kind}", kinds)
        if view.is_only(sprite):
            colors = view.shuffled([color.capitalize() for color in COLORS if color != sprite.color])
            yield view.fact("color", sprite, shown, sprite.color.capitalize(), colors)
    count, place = len(view.sprites), PLACE_ANSWERS[view.scene.background.place]
    claims = [view.middle(sprite.name) for sprite in view.sprites]
    listed = ", ".join(f"the {{{i}}}" for i in range(count - 1)) + f" and the {{{count - 1}}}"
    numbers = [number.capitalize() for number in NUMBERS if number != NUMBERS[count - 1]]
    number = NUMBERS[count - 1]
    sprite = view.sprites[int(view.rng.integers(count))]
    yield view.fact("count", sprite, claims, number.capitalize(), numbers, number=number, listed=listed)
    positions = [text.capitalize() for text in (*PLACE_ANSWERS.values(), *WRONG_PLACES) if text != place]
    yield view.fact(
        "place", sprite, [view.middle(sprite.name)], place.capitalize(), view.shuffled(positions), place=place
    )


def _actions(view: SceneView) -> Iterator[Fact]:
    """What each object does, and beside or with which other object."""
    for event in view.scene.events:
        if event.kind not in WRONG_ACTIONS:
            continue
        subject = view.by_name[event.subject]
        shown, chain = _shown_in_event(view, event)
        others = [s.name for s in view.sprites if s is not subject]
        given = {"span_s": event.span_s, "chain": chain, "way": WAYS.get(event.kind, "")}
        given["action"] = ACTIONS[event.kind][1].format(y=event.object)
        wrong = tuple(f"It {text}" for text in _wrong_actions(view, event, event.object or view.pick(others)))
        right = f"It {ACTIONS[event.kind][0].format(y=event.object)}"
        if event.object is None:  # an object that passes another also moves to a side: two correct answers
            yield view.fact("deed", subject, shown, right, view.shuffled(wrong), **given)
        if event.kind in WAYS:
            ways = [way.capitalize() for kind, way in WAYS.items() if kind != event.kind]
            yield view.fact("way", subject, shown, WAYS[event.kind].capitalize(), view.shuffled(ways), **given)
        elif event.object and _is_only_partner(view, event):
            partner = view.by_name[event.object]
            wrong = [f"The {name}" for name in view.others(partner, subject.name)]
            yield view.fact(event.kind, subject, shown, f"The {partner.name}", wrong, **given)


def _shown_in_event(view: SceneView, event: Event) -> tuple[list[tuple[str, int]], str]:
    """The objects and frames that show an action, and the family of its chain."""
    subject, during = view.by_name[event.subject], [int(frame) for frame in view.during(event)]
    if event.object is None:
        return [view.early(subject), view.late(subject)], "stay" if event.kind == "stay" else "move"
    if event.kind == "meet":
        middle = during[len(during) // 2]
        return [view.early(subject), (subject.name, middle), (event.object, middle)], "meet"
    return [(subject.name, during[0]), (event.object, during[0]), (subject.name, during[-1])], event.kind


def _wrong_actions(view: SceneView, event: Event, other: str) -> list[str]:
    """Actions that the subject of an event certainly does not do."""
    kinds = list(WRONG_ACTIONS[event.kind])
    if event.kind in WAYS and any(e.kind == "stay" and e.subject == other for e in view.scene.events):
        kinds.append("swap")  # no object swaps places with one that rests
    if "back" in kinds:
        during = view.during(event)
        step = view.centers[event.subject][during[-1]] - view.centers[event.subject][during[0]]
        kinds[kinds.index("back")] = "left" if step[0] > 0 else "right"
    return [ACTIONS[kind][0].format(y=other) for kind in kinds]


def _is_only_partner(view: SceneView, event: Event) -> bool:
    """False when the subject also passes a third object (pass) or comes near one (meet)."""
    subject, start = view.scene.tracks_px[event.subject], round(event.span_s[0] * view.scene.fps)
    for name, track in view.scene.tracks_px.items():
        there = np.flatnonzero(view.drawn[name] & view.drawn[event.subject])
        if name in (event.subject, event.object) or not len(there):
            continue
        sides = np.sign(view.centers[event.subject][there, 0] - view.centers[name][there, 0])
        a, b = subject[there[there >= start]], track[there[there >= start]]
        gaps = np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:]).max(axis=1) / view.scene.size_wh[0]
        if (event.kind == "meet" and (gaps < APART).any()) or (event.kind == "pass" and len(set(sides)) > 1):
            return False
    return True


def _positions(view: SceneView) -> Iterator[Fact]:
    """Where objects are: at one time, over the whole video, and relative to each other."""
    quarters = [_region((x, y)) for x in (0, 1) for y in (0, 1)]
    watched = watched_frames(view.scene.n_frames)  # only these are asked about by time: a model does not see the others
    for sprite in view.sprites:
        centers, frames = view.centers[sprite.name], view.clear[sprite.name]
        seen = np.intersect1d(view.seen[sprite.name], watched)
        if len(seen) >= 3:
            three = [(sprite.name, int(seen[i])) for i in (0, len(seen) // 2, -1)]
            begin, end = (
                positions(view.scene.boxes_at(frame), (1, 1))[sprite.name] for _, frame in (three[0], three[-1])
            )
            yield view.fact("track", sprite, three, f"From {begin} to {end}")
        corners = (np.abs(centers[frames] - 0.5) > APART).all(axis=1)
        sure = [int(f) for f in np.intersect1d(frames[corners], watched) if _in_corner(view, sprite.name, int(f))]
        if sure:
            frame = int(view.rng.choice(sure))
            region = _region(centers[frame])
            wrong = view.shuffled([text.capitalize() for text in quarters if text != region])
            words = {"region": region, "t": view.time_of(frame)}
            yield view.fact("where", sprite, [(sprite.name, frame)], region.capitalize(), wrong, **words)
    open_sides = {"left", "right"}
    for frame in map(int, view.rng.permutation(np.intersect1d(np.flatnonzero(view.plain), watched))):
        for side, one, other in _furthest(view, frame):
            if side in open_sides:
                open_sides.remove(side)
                shown = [(one.name, frame), (other.name, frame)]
                yield view.fact("side", one, shown, side=side, t=view.time_of(frame))


def _region(center: Sequence[float]) -> str:
    """The quarter of the frame in which a centre (0–1) lies, in words."""
    return f"in the {'upper' if center[1] < 0.5 else 'lower'} {'left' if center[0] < 0.5 else 'right'}"


def _in_corner(view: SceneView, name: str, frame: int) -> bool:
    """True when the object is in the same corner by thirds of the frame as by halves."""
    return f"in the {positions(view.scene.boxes_at(frame), (1, 1))[name]}" == _region(view.centers[name][frame])


def _furthest(view: SceneView, frame: int) -> Iterator[tuple[str, Sprite, Sprite]]:
    """Sides of the frame with one clearly outermost object: (side, that object, its neighbour)."""
    x = {name: float(centers[frame, 0]) for name, centers in view.centers.items() if view.drawn[name][frame]}
    names = sorted(x, key=x.__getitem__)
    if len(names) >= 2:
        for side, one, other in (("left", names[0], names[1]), ("right", names[-1], names[-2])):
            if abs(x[one] - x[other]) >= 2 * APART and (x[one] < 0.5) == (side == "left"):
                yield side, view.by_name[one], view.by_name[other]


def _visits(view: SceneView) -> Iterator[Fact]:
    """When objects are visible, each alone and two together."""
    for number, sprite in enumerate(view.sprites):
        shown = [(sprite.name, int(view.seen[sprite.name][i])) for i in (0, -1)]
        families = ["when", "when color", *["when thing"] * view.is_only(sprite)]
        families += ["when first"] * (number == 0) + ["when last"] * (number == len(view.sprites) - 1)
        for family in families:
            yield view.fact(family, sprite, shown, _span_text(sprite.span_s), chain="when")
    for a, b in combinations(view.sprites, 2):
        frames = [int(frame) for frame in view.both(a.name, b.name)]
        span_s = max(a.from_s, b.from_s), min(a.to_s, b.to_s)
        if frames:
            shown = [(a.name, frames[0]), (b.name, frames[0]), (b.name, frames[-1])]
            yield view.fact("when both", a, shown, _span_text(span_s), span_s=span_s, y=b.name)


def _action_times(view: SceneView) -> Iterator[Fact]:
    """When objects do what they do."""
    for event in view.scene.events:
        if event.kind in WAYS or event.object:
            during = view.during(event)
            shown = [(event.subject, int(during[i])) for i in (0, -1)]
            action, span_s = ACTIONS[event.kind][1].format(y=event.object), event.span_s
            subject = view.by_name[event.subject]
            yield view.fact("when deed", subject, shown, _span_text(span_s), span_s=span_s, action=action)


def _span_text(span_s: Span) -> str:
    return f"[{span_s[0]:.1f}, {span_s[1]:.1f}]"


def image_facts(scene: Scene) -> list[Fact]:
    """All facts about one frame, the one with the most objects and no overlaps. Their answers are names to be boxed."""
    view = SceneView(scene)
    full = np.sum([scene.visible[name] for name in view.by_name], axis=0).astype(float)
    for a, b in combinations(scene.tracks_px.values(), 2):
        full -= ((np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).min(axis=1) > 0) & (a[:, 0] >= 0)
    full[~view.plain] = -1
    frame = int(view.rng.choice(np.flatnonzero(full == full.max())))
    here = [sprite for sprite in view.sprites if scene.visible[sprite.name][frame]]
    facts = []
    for sprite in here:
        kinds = sum(other.kind == sprite.kind for other in here)
        for family in ("find", "find color", *["find thing"] * (kinds == 1)):
            facts.append(view.fact(family, sprite, [(sprite.name, frame)], chain="find"))
    for side, one, other in _furthest(view, frame):
        facts.append(view.fact("furthest", one, [(one.name, frame), (other.name, frame)], side=side))
    area = {s.name: float(np.prod(np.diff(scene.tracks_px[s.name][frame].reshape(2, 2), axis=0))) for s in here}
    by_area = sorted(here, key=lambda s: area[s.name])
    for family, ranked in (("smallest", by_area), ("largest", by_area[::-1])):
        ratio = area[ranked[1].name] / area[ranked[0].name] if len(ranked) > 1 else 1
        if max(ratio, 1 / ratio) >= LARGER:
            facts.append(view.fact(family, ranked[0], [(s.name, frame) for s in ranked[:2]]))
    return facts
