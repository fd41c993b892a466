"""Facts about scenes: each correct answer is worked out again, from `Scene.boxes_at` alone."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
from helpers.scenes import center, frames_showing, gap, short_scenes

from o3v.toyworld.questions import image_facts, time_facts, video_facts
from o3v.toyworld.scene import Scene


def does(scene: Scene, video_boxes: list[dict], name: str, action: str) -> bool:
    """Whether the boxes show that an object does what `action` says."""
    frames = frames_showing(video_boxes, name)
    path = {i: center(video_boxes[i][name]) for i in frames}
    step = path[frames[-1]] - path[frames[0]]
    other = next(
        (sprite.name for sprite in scene.sprites if sprite.name != name and action.endswith(sprite.name)), None
    )
    both = [i for i in frames if other in video_boxes[i]]
    if other is None:
        if "stays" in action:
            return max(np.abs(path[i] - path[frames[0]]).max() for i in frames) < 0.02
        axis, sign = {"to the left": (0, -1), "to the right": (0, 1), "moves up": (1, -1), "moves down": (1, 1)}[
            next(way for way in ("to the left", "to the right", "moves up", "moves down") if way in action)
        ]
        return sign * step[axis] > 0.2 and abs(step[axis]) > 1.5 * abs(step[1 - axis])
    if not both:
        return False
    there = {i: center(video_boxes[i][other]) for i in both}
    moves = [max(np.abs(p[i] - p[both[0]]).max() for i in both) for p in (path, there)]
    if "swaps" in action:
        return np.abs(path[both[-1]] - there[both[0]]).max() < 0.02 > np.abs(there[both[-1]] - path[both[0]]).max()
    if "past" in action:
        return moves[1] < 0.02 and (path[both[0]] - there[both[0]])[0] * (path[both[-1]] - there[both[-1]])[0] < 0
    if "away" in action:
        return bool(np.linalg.norm(path[both[-1]] - there[both[-1]]) > np.linalg.norm(path[both[0]] - there[both[0]]))
    late = both[-max(len(both) // 3, 1) :]
    rests = max(np.abs(path[i] - path[late[0]]).max() for i in late) < 0.02
    return moves[0] > 0.1 and rests and max(gap(video_boxes[i][name], video_boxes[i][other]) for i in late) < 0.05


def right_names(scene: Scene, video_boxes: list[dict], family: str, question: str) -> list[str]:
    """All names that correctly answer a question for a name."""
    names = [sprite.name for sprite in scene.sprites]
    mentioned = next((name for name in names if name in question), None)
    first, last = ({name: frames_showing(video_boxes, name)[end] for name in names} for end in (0, -1))
    rest = [name for name in names if name != mentioned]
    if family in ("first", "last", "leaves"):
        best = {"first": min(first.values()), "last": max(first.values()), "leaves": min(last.values())}[family]
        return [name for name in names if (last if family == "leaves" else first)[name] == best]
    if family == "stays":
        return [name for name in names if last[name] == len(video_boxes) - 1]
    if family == "longest":
        return [name for name in names if last[name] - first[name] == max(last[n] - first[n] for n in names)]
    if family == "after":
        later = [first[name] for name in rest if first[name] > first[mentioned]]
        return [name for name in rest if first[name] == min(later)]
    if family == "before":
        earlier = [first[name] for name in rest if first[name] < first[mentioned]]
        return [name for name in rest if first[name] == max(earlier)]
    if family == "with":
        return [name for name in rest if any(mentioned in boxes and name in boxes for boxes in video_boxes)]
    if family == "already":
        return [
            name for name in rest if name in video_boxes[first[mentioned]] and name in video_boxes[first[mentioned] - 1]
        ]
    if family == "side":
        side, frame = ("left" if "left" in question else "right"), frame_in(scene, question)
        key = {name: center(box)[0] for name, box in video_boxes[frame].items()}
        edge = (min if side == "left" else max)(key.values())
        return [name for name, x in key.items() if abs(x - edge) < 0.2]
    verb = {"meet": "stops beside", "pass": "moves past", "swap": "swaps places with"}[family]
    return [name for name in rest if does(scene, video_boxes, mentioned, f"{verb} the {name}")]


def frame_in(scene: Scene, question: str) -> int:
    """The frame at the time in a question."""
    return int(float(re.search(r"(\d+\.\d) seconds", question)[1]) * scene.fps + 1e-6)


def is_right(scene: Scene, video_boxes: list[dict], fact, answer: str) -> bool:
    """Whether an answer to the question of a fact is correct."""
    sprites = {sprite.name: sprite for sprite in scene.sprites}
    if fact.family in ("color", "thing"):
        words = set(re.findall(r"\w+", fact.question)) - {"object"}
        (match,) = [s for s in sprites.values() if words & {s.color, s.kind}]  # fails when there are two answers
        return answer == (match.color.capitalize() if fact.family == "color" else f"A {match.kind}")
    if fact.family == "deed":
        return does(scene, video_boxes, fact.subject, answer)
    if fact.family == "way":
        return does(scene, video_boxes, fact.subject, f"moves {answer.lower()}")
    if fact.family == "where":
        x, y = center(video_boxes[frame_in(scene, fact.question)][fact.subject])
        return answer == f"In the {'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}"
    if fact.family == "count":
        return answer == ["Zero", "One", "Two", "Three", "Four"][len(sprites)]
    if fact.family == "place":
        return scene.background.place in answer
    names = right_names(scene, video_boxes, fact.family, fact.question)
    return len(names) == 1 and answer == f"The {names[0]}"


def test_every_question_has_exactly_one_correct_answer():
    families = Counter()
    for scene, video_boxes in short_scenes():
        for fact in video_facts(scene):
            if fact.family == "track":
                continue
            families[fact.family] += 1
            assert is_right(scene, video_boxes, fact, fact.answer), (scene.scene_id, fact)
            assert len(set(fact.wrong)) >= 3 and fact.answer not in fact.wrong
            for wrong in fact.wrong:
                assert not is_right(scene, video_boxes, fact, wrong), (scene.scene_id, wrong, fact)
    assert len(families) == 20


def test_following_an_object_gives_its_first_and_last_position():
    """By thirds of the frame. Skips frames with another object in the same third: one of them is moved there."""
    checked = 0
    for scene, video_boxes in short_scenes():
        for fact in [fact for fact in video_facts(scene) if fact.family == "track"]:
            answer = re.fullmatch(r"From (\w+) (\w+) to (\w+) (\w+)", fact.answer).groups()
            for words, (_, frame) in zip((answer[:2], answer[2:]), (fact.shown[0], fact.shown[-1]), strict=True):
                cells = {
                    name: tuple((center(box) * 3).astype(int).tolist()) for name, box in video_boxes[frame].items()
                }
                column, row = cells.pop(fact.subject)
                if (column, row) not in cells.values():
                    assert words == (("upper", "middle", "lower")[row], ("left", "centre", "right")[column])
                    checked += 1
    assert checked > 50


def test_spans_are_when_objects_are_visible():
    for scene, video_boxes in short_scenes():
        for fact in time_facts(scene):
            start, end = json.loads(fact.answer)
            assert 0.1 < (end - start) / scene.duration_s < 0.72
            names = [name for name in (s.name for s in scene.sprites) if name in fact.question] or [fact.subject]
            if fact.family != "when deed":
                frames = [i for i, boxes in enumerate(video_boxes) if all(name in boxes for name in names)]
                assert (start, end) == pytest.approx((frames[0] / scene.fps, (frames[-1] + 1) / scene.fps), abs=0.051)
            assert all(start - 0.06 <= scene.frame_time_s(frame) < end + 0.06 for _, frame in fact.shown)


def test_an_event_takes_place_in_its_span():
    kinds = Counter()
    for scene, video_boxes in short_scenes():
        for event in scene.events:
            kinds[event.kind] += 1
            start, end = (round(time_s * scene.fps) for time_s in event.span_s)
            if event.kind == "appear":
                assert event.subject in video_boxes[start] and event.subject not in video_boxes[start - 1]
            elif event.kind == "leave":
                assert event.subject in video_boxes[start - 1] and event.subject not in video_boxes[start]
            elif event.kind == "meet":
                assert all(
                    gap(video_boxes[i][event.subject], video_boxes[i][event.object]) < 0.05 for i in range(start, end)
                )
            elif event.object:
                order = [
                    (center(video_boxes[i][event.subject]) - center(video_boxes[i][event.object]))[0]
                    for i in (start, end - 1)
                ]
                assert order[0] * order[1] < 0
    assert set(kinds) == {"appear", "leave", "stay", "left", "right", "up", "down", "meet", "pass", "swap"}


def test_questions_about_an_image_have_one_answer_in_it():
    for scene, video_boxes in short_scenes():
        for fact in image_facts(scene):
            boxes = video_boxes[fact.shown[0][1]]
            x = {name: center(box)[0] for name, box in boxes.items()}
            area = {name: (box[2] - box[0]) * (box[3] - box[1]) for name, box in boxes.items()}
            words = fact.question.rstrip(".?").replace(",", "").split()
            right = {
                "find": lambda name, words=words: " ".join(words).find(name) >= 0,
                "find color": lambda name, words=words: name.split()[0] in words,
                "find thing": lambda name, words=words: name.split()[1] in words,
                "furthest": lambda name, x=x, words=words: x[name] == (min if "left" in words else max)(x.values()),
                "largest": lambda name, area=area: area[name] * 1.3 > max(area.values()),
                "smallest": lambda name, area=area: area[name] < min(area.values()) * 1.3,
            }[fact.family]
            assert [name for name in boxes if right(name)] == [fact.subject], (scene.scene_id, fact)
