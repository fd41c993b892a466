"""What can be asked about a synthetic scene, and what is true.

Families of facts, a generator each: those about what happens, about when, and about one picture. Everything is
read off the scene's boxes and events; where a scene leaves room for two opinions (a thing half outside, two
neighbours) no fact is made. Knows nothing of rows, tasks or tags.
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
from o3v.toyworld.templates import DEEDS, NUMBERS, PLACE_ANSWERS, WAYS, WRONG_PLACES

APART = 0.12  # of the frame: nearer than this to the middle or to another thing is too close to call
LONGER = 0.1  # of the video: a smaller difference of two durations is too close to call
SHORTEST = 0.12  # of the video: two things seen together for less are not asked about
LARGER = 1.4  # ratio of areas
MAX_SPAN = 0.7  # of the video; paper: temporal rows with longer spans are filtered out
WRONG_DEEDS: Mapping[str, tuple[str, ...]] = {
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
    """Everything that can be asked about what a scene shows, each in one wording."""
    look = SceneView(scene)
    return [fact for family in (_order, _company, _looks, _deeds, _positions) for fact in family(look)]


def time_facts(scene: Scene) -> list[Fact]:
    """Questions whose answer is a span of seconds, "[start, end]", at most `MAX_SPAN` of the video."""
    look = SceneView(scene)
    limits = SHORTEST * scene.duration_s, MAX_SPAN * scene.duration_s
    facts = (fact for family in (_visits, _deed_times) for fact in family(look))
    return [f for f in facts if limits[0] <= f.span_s[1] - f.span_s[0] <= limits[1]]


def _order(look: SceneView) -> Iterator[Fact]:
    """Who comes, goes and stays when; scenes keep arrivals and departures apart."""
    come, gone = look.sprites, sorted(look.sprites, key=lambda s: s.to_s)
    yield look.fact("first", come[0], [look.early(come[0]), look.early(come[1])])
    yield look.fact("last", come[-1], [look.early(come[-2]), look.early(come[-1])])
    yield look.fact("leaves", gone[0], [look.late(gone[0]), look.late(gone[1])])
    if gone[-1].to_s == look.scene.duration_s:
        yield look.fact("stays", gone[-1], [look.late(gone[-2]), look.late(gone[-1])])
    longest = sorted(look.sprites, key=lambda s: s.to_s - s.from_s)
    lengths = [s.to_s - s.from_s for s in longest]
    if lengths[-1] - lengths[-2] >= LONGER * look.scene.duration_s:
        yield look.fact("longest", longest[-1], [look.early(longest[-1]), look.late(longest[-1])])
    for one, other in pairwise(come):
        shown = [look.early(one), look.early(other)]
        yield look.fact("after", other, shown, x=one.name)
        yield look.fact("before", one, shown, x=other.name, chain="after")


def _company(look: SceneView) -> Iterator[Fact]:
    """Who is there with whom; a thing half outside counts as there, so that nobody can argue."""
    fringe = round(0.05 * look.scene.n_frames)
    for sprite in look.sprites:
        rest = [other for other in look.sprites if other is not sprite]
        met = [other for other in rest if (look.drawn[sprite.name] & look.drawn[other.name]).any()]
        if len(met) == 1 and len(both := look.both(sprite.name, met[0].name)) >= SHORTEST * look.scene.n_frames:
            frame = int(both[len(both) // 2])
            yield look.fact("with", met[0], [(sprite.name, frame), (met[0].name, frame)], x=sprite.name)
        start = round(sprite.from_s * look.scene.fps)
        around = slice(max(start - fringe, 0), start + fringe)
        there = [other for other in rest if look.drawn[other.name][around].any()]
        if start > 0 and len(there) == 1 and look.scene.visible[there[0].name][around].all():
            both = look.both(sprite.name, there[0].name)
            if len(both):
                shown = [(sprite.name, int(both[0])), (there[0].name, int(both[0]))]
                yield look.fact("already", there[0], shown, x=sprite.name)


def _looks(look: SceneView) -> Iterator[Fact]:
    """Colours, kinds, how many, and the place."""
    for sprite in look.sprites:
        shown = [look.middle(sprite.name)]
        kinds = look.shuffled([f"A {thing}" for thing in KINDS if thing != sprite.thing])
        yield look.fact("thing", sprite, shown, f"A {sprite.thing}", kinds)
        if look.is_only(sprite):
            colors = look.shuffled([color.capitalize() for color in COLORS if color != sprite.color])
            yield look.fact("color", sprite, shown, sprite.color.capitalize(), colors)
    count, place = len(look.sprites), PLACE_ANSWERS[look.scene.background.place]
    claims = [look.middle(sprite.name) for sprite in look.sprites]
    listed = ", ".join(f"the {{{i}}}" for i in range(count - 1)) + f" and the {{{count - 1}}}"
    numbers = [number.capitalize() for number in NUMBERS if number != NUMBERS[count - 1]]
    number = NUMBERS[count - 1]
    sprite = look.sprites[int(look.rng.integers(count))]
    yield look.fact("count", sprite, claims, number.capitalize(), numbers, number=number, listed=listed)
    positions = [text.capitalize() for text in (*PLACE_ANSWERS.values(), *WRONG_PLACES) if text != place]
    yield look.fact(
        "place", sprite, [look.middle(sprite.name)], place.capitalize(), look.shuffled(positions), place=place
    )


def _deeds(look: SceneView) -> Iterator[Fact]:
    """What each thing does, and to or with whom."""
    for event in look.scene.events:
        if event.kind not in WRONG_DEEDS:
            continue
        subject = look.by_name[event.subject]
        shown, chain = _deed_shown(look, event)
        others = [s.name for s in look.sprites if s is not subject]
        given = {"span_s": event.span_s, "chain": chain, "way": WAYS.get(event.kind, "")}
        given["deed"] = DEEDS[event.kind][1].format(y=event.object)
        wrong = tuple(f"It {text}" for text in _wrong_deeds(look, event, event.object or look.pick(others)))
        right = f"It {DEEDS[event.kind][0].format(y=event.object)}"
        if event.object is None:  # a thing that passes another also moves to a side: two right answers
            yield look.fact("deed", subject, shown, right, look.shuffled(wrong), **given)
        if event.kind in WAYS:
            ways = [way.capitalize() for kind, way in WAYS.items() if kind != event.kind]
            yield look.fact("way", subject, shown, WAYS[event.kind].capitalize(), look.shuffled(ways), **given)
        elif event.object and _is_only_partner(look, event):
            partner = look.by_name[event.object]
            wrong = [f"The {name}" for name in look.others(partner, subject.name)]
            yield look.fact(event.kind, subject, shown, f"The {partner.name}", wrong, **given)


def _deed_shown(look: SceneView, event: Event) -> tuple[list[tuple[str, int]], str]:
    """Where to look for a deed, and the family of its chain."""
    subject, during = look.by_name[event.subject], [int(frame) for frame in look.during(event)]
    if event.object is None:
        return [look.early(subject), look.late(subject)], "stay" if event.kind == "stay" else "move"
    if event.kind == "meet":
        middle = during[len(during) // 2]
        return [look.early(subject), (subject.name, middle), (event.object, middle)], "meet"
    return [(subject.name, during[0]), (event.object, during[0]), (subject.name, during[-1])], event.kind


def _wrong_deeds(look: SceneView, event: Event, other: str) -> list[str]:
    """What the subject of an event certainly does not do."""
    kinds = list(WRONG_DEEDS[event.kind])
    if event.kind in WAYS and any(e.kind == "stay" and e.subject == other for e in look.scene.events):
        kinds.append("swap")  # nobody swaps places with a thing that rests
    if "back" in kinds:
        during = look.during(event)
        step = look.centers[event.subject][during[-1]] - look.centers[event.subject][during[0]]
        kinds[kinds.index("back")] = "left" if step[0] > 0 else "right"
    return [DEEDS[kind][0].format(y=other) for kind in kinds]


def _is_only_partner(look: SceneView, event: Event) -> bool:
    """True when the subject of an event never changes sides with a third thing (pass), nor has one near (meet)."""
    subject, start = look.scene.tracks_px[event.subject], round(event.span_s[0] * look.scene.fps)
    for name, track in look.scene.tracks_px.items():
        there = np.flatnonzero(look.drawn[name] & look.drawn[event.subject])
        if name in (event.subject, event.object) or not len(there):
            continue
        sides = np.sign(look.centers[event.subject][there, 0] - look.centers[name][there, 0])
        a, b = subject[there[there >= start]], track[there[there >= start]]
        gaps = np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:]).max(axis=1) / look.scene.size_wh[0]
        if (event.kind == "meet" and (gaps < APART).any()) or (event.kind == "pass" and len(set(sides)) > 1):
            return False
    return True


def _positions(look: SceneView) -> Iterator[Fact]:
    """Where things are: at a time, all the time, and beside each other."""
    quarters = [_region((x, y)) for x in (0, 1) for y in (0, 1)]
    watched = watched_frames(look.scene.n_frames)  # what is at a time is asked of those only: all else is guessed
    for sprite in look.sprites:
        centers, frames = look.centers[sprite.name], look.clear[sprite.name]
        seen = np.intersect1d(look.seen[sprite.name], watched)
        if len(seen) >= 3:
            three = [(sprite.name, int(seen[i])) for i in (0, len(seen) // 2, -1)]
            begin, end = (
                positions(look.scene.boxes_at(frame), (1, 1))[sprite.name] for _, frame in (three[0], three[-1])
            )
            yield look.fact("track", sprite, three, f"From {begin} to {end}")
        corners = (np.abs(centers[frames] - 0.5) > APART).all(axis=1)
        sure = [int(f) for f in np.intersect1d(frames[corners], watched) if _in_corner(look, sprite.name, int(f))]
        if sure:
            frame = int(look.rng.choice(sure))
            region = _region(centers[frame])
            wrong = look.shuffled([text.capitalize() for text in quarters if text != region])
            words = {"region": region, "t": look.time_of(frame)}
            yield look.fact("where", sprite, [(sprite.name, frame)], region.capitalize(), wrong, **words)
    open_sides = {"left", "right"}
    for frame in map(int, look.rng.permutation(np.intersect1d(np.flatnonzero(look.plain), watched))):
        for side, one, other in _furthest(look, frame):
            if side in open_sides:
                open_sides.remove(side)
                shown = [(one.name, frame), (other.name, frame)]
                yield look.fact("side", one, shown, side=side, t=look.time_of(frame))


def _region(center: Sequence[float]) -> str:
    """The quarter of the picture in which a centre (0–1) lies, in words."""
    return f"in the {'upper' if center[1] < 0.5 else 'lower'} {'left' if center[0] < 0.5 else 'right'}"


def _in_corner(look: SceneView, name: str, frame: int) -> bool:
    """True when the thing is in the same corner by thirds of the picture as by halves: no two opinions."""
    return f"in the {positions(look.scene.boxes_at(frame), (1, 1))[name]}" == _region(look.centers[name][frame])


def _furthest(look: SceneView, frame: int) -> Iterator[tuple[str, Sprite, Sprite]]:
    """Sides of the picture on which one thing clearly is and its neighbour is not: (side, that thing, neighbour)."""
    x = {name: float(centers[frame, 0]) for name, centers in look.centers.items() if look.drawn[name][frame]}
    names = sorted(x, key=x.__getitem__)
    if len(names) >= 2:
        for side, one, other in (("left", names[0], names[1]), ("right", names[-1], names[-2])):
            if abs(x[one] - x[other]) >= 2 * APART and (x[one] < 0.5) == (side == "left"):
                yield side, look.by_name[one], look.by_name[other]


def _visits(look: SceneView) -> Iterator[Fact]:
    """When things are visible, each alone and two together."""
    for number, sprite in enumerate(look.sprites):
        shown = [(sprite.name, int(look.seen[sprite.name][i])) for i in (0, -1)]
        families = ["when", "when color", *["when thing"] * look.is_only(sprite)]
        families += ["when first"] * (number == 0) + ["when last"] * (number == len(look.sprites) - 1)
        for family in families:
            yield look.fact(family, sprite, shown, _span_text(sprite.span_s), chain="when")
    for a, b in combinations(look.sprites, 2):
        frames = [int(frame) for frame in look.both(a.name, b.name)]
        span_s = max(a.from_s, b.from_s), min(a.to_s, b.to_s)
        if frames:
            shown = [(a.name, frames[0]), (b.name, frames[0]), (b.name, frames[-1])]
            yield look.fact("when both", a, shown, _span_text(span_s), span_s=span_s, y=b.name)


def _deed_times(look: SceneView) -> Iterator[Fact]:
    """When things do what they do."""
    for event in look.scene.events:
        if event.kind in WAYS or event.object:
            during = look.during(event)
            shown = [(event.subject, int(during[i])) for i in (0, -1)]
            deed, span_s = DEEDS[event.kind][1].format(y=event.object), event.span_s
            subject = look.by_name[event.subject]
            yield look.fact("when deed", subject, shown, _span_text(span_s), span_s=span_s, deed=deed)


def _span_text(span_s: Span) -> str:
    return f"[{span_s[0]:.1f}, {span_s[1]:.1f}]"


def image_facts(scene: Scene) -> list[Fact]:
    """Questions about one frame of a scene, the fullest without overlaps; answers are names, to be boxed."""
    look = SceneView(scene)
    full = np.sum([scene.visible[name] for name in look.by_name], axis=0).astype(float)
    for a, b in combinations(scene.tracks_px.values(), 2):
        full -= ((np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).min(axis=1) > 0) & (a[:, 0] >= 0)
    full[~look.plain] = -1
    frame = int(look.rng.choice(np.flatnonzero(full == full.max())))
    here = [sprite for sprite in look.sprites if scene.visible[sprite.name][frame]]
    facts = []
    for sprite in here:
        kinds = sum(other.thing == sprite.thing for other in here)
        for family in ("find", "find color", *["find thing"] * (kinds == 1)):
            facts.append(look.fact(family, sprite, [(sprite.name, frame)], chain="find"))
    for side, one, other in _furthest(look, frame):
        facts.append(look.fact("furthest", one, [(one.name, frame), (other.name, frame)], side=side))
    area = {s.name: float(np.prod(np.diff(scene.tracks_px[s.name][frame].reshape(2, 2), axis=0))) for s in here}
    by_area = sorted(here, key=lambda s: area[s.name])
    for family, ranked in (("smallest", by_area), ("largest", by_area[::-1])):
        ratio = area[ranked[1].name] / area[ranked[0].name] if len(ranked) > 1 else 1
        if max(ratio, 1 / ratio) >= LARGER:
            facts.append(look.fact(family, ranked[0], [(s.name, frame) for s in ranked[:2]]))
    return facts
