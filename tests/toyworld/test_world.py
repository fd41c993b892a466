"""The synthetic world: its truth against its pixels, its questions against its truth, its files against each other.

Truth is checked apart from the code that asks: answers are worked out here again from `Scene.boxes_at` alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from o3v import evidence, video
from o3v.evidence import ANSWER_LINE
from o3v.geometry import box_iou, rescale_box
from o3v.schema import Example, Task
from o3v.toyworld.dataset import eval_item, make_dataset, rows_of
from o3v.toyworld.narration import ASKED_MARK, BEFORE_OPTIONS, RIGHT_MARK, positions
from o3v.toyworld.questions import image_facts, time_facts, video_facts
from o3v.toyworld.scene import SIZE_WH, SPLITS, Scene, Sprite, draw_frame, make_scene, render, split_of_names
from o3v.toyworld.tasks import SOURCES

SOME = [(split, index) for split in SPLITS for index in range(14)]


@cache
def scenes() -> list[Scene]:
    return [make_scene(*name, seed=3) for name in SOME]


@cache
def films() -> list[tuple[Scene, list[dict]]]:
    """Scenes with what is visible in every frame."""
    return [(s, [s.boxes_at(i) for i in range(s.n_frames)]) for s in scenes() if s.duration_s < 60]


def seen(film: list[dict], name: str) -> list[int]:
    return [i for i, boxes in enumerate(film) if name in boxes]


def center(box: tuple[float, ...]) -> np.ndarray:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def gap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Free space between two boxes along the axis that has more of it; negative when they overlap."""
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])


# ---------------------------------------------------------------- bad input first


@pytest.mark.parametrize("split, index, seed", [("test", 0, 0), ("sft", -1, 0), ("sft", 0, -1)])
def test_a_scene_that_does_not_exist(split, index, seed):
    with pytest.raises(ValueError, match=r"does not exist|negative"):
        make_scene(split, index, seed)


@pytest.mark.parametrize("index", [-1, 10_000])
def test_a_frame_that_does_not_exist(index):
    with pytest.raises(IndexError, match=scenes()[0].scene_id):
        scenes()[0].boxes_at(index)
    with pytest.raises(IndexError, match=scenes()[0].scene_id):
        draw_frame(scenes()[0], index)


@pytest.mark.parametrize("counts, workers", [({"train": 1}, 1), ({"sft": -1}, 1), ({"sft": 1}, 0)])
def test_a_data_set_that_cannot_be(tmp_path, counts, workers):
    with pytest.raises(ValueError, match=r"counts|workers"):
        make_dataset(tmp_path, counts, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_media_of_others_are_not_touched(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="videos"):
        make_dataset(tmp_path, {"sft": 1}, workers=1)
    assert (tmp_path / "videos" / "mine.mp4").read_bytes() == b"mine"


# ---------------------------------------------------------------- scenes and their truth


def test_visible_from_sixty_percent_worked_by_hand():
    # a ball of 56 × 56 pixels goes along the middle line; its left side is at 224·x − 28
    def at(x: float) -> dict:
        ball = Sprite("red", "ball", 0.25, ((0.0, x, 0.5), (1.0, x, 0.5)), 0.0, 1.0)
        return replace(scenes()[0], duration_s=1.0, fps=8, sprites=(ball,), events=()).boxes_at(0)

    assert at(0.5) == {"red ball": (84 / 224, 84 / 224, 140 / 224, 140 / 224)}
    assert at(0.0) == {}  # 28 of 56 columns inside
    assert at(0.025) == {"red ball": (0.0, 84 / 224, 34 / 224, 140 / 224)}  # 34 of 56 is 61 percent
    assert at(0.02) == {}  # 33 of 56 (left at −23.5, an even number after rounding to −24: 32) is under 60
    assert at(0.98) == {}
    assert at(0.975) == {"red ball": (190 / 224, 84 / 224, 1.0, 140 / 224)}


@pytest.mark.parametrize("number", range(0, len(SOME), 5))
def test_boxes_are_where_the_pixels_change(number):
    scene = scenes()[number]
    empty = replace(scene, sprites=())
    for index in range(0, scene.n_frames, max(scene.n_frames // 6, 1)):
        plain, boxes = draw_frame(empty, index), scene.boxes_at(index)
        for sprite in scene.sprites:
            changed = (draw_frame(replace(scene, sprites=(sprite,)), index) != plain).any(axis=2)
            if sprite.name not in boxes:
                share = changed.sum() / (sprite.size * SIZE_WH[0]) ** 2
                assert share < 0.6
                continue
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            pixels = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert rescale_box(boxes[sprite.name], (1, 1), SIZE_WH) == pytest.approx(pixels, abs=1)


def test_scenes_keep_their_promises():
    for scene, film in films():
        names = [sprite.name for sprite in scene.sprites]
        assert 2 <= len(set(names)) == len(names) <= 4
        assert len({sprite.color for sprite in scene.sprites}) == len(names)
        assert 8 <= scene.fps <= 12 and scene.size_wh == (224, 224)
        assert max(map(len, film)) <= 3
        for sprite in scene.sprites:
            frames = seen(film, sprite.name)
            assert frames == list(range(frames[0], frames[-1] + 1))  # comes and goes once
            assert sprite.span_s == pytest.approx((frames[0] / scene.fps, (frames[-1] + 1) / scene.fps))
            assert len(frames) >= 0.2 * len(film)
            assert 0.25 <= sprite.size <= 0.45
        for boxes in film:
            for a in boxes:
                for b in set(boxes) - {a}:
                    width = min(boxes[a][2], boxes[b][2]) - max(boxes[a][0], boxes[b][0])
                    height = min(boxes[a][3], boxes[b][3]) - max(boxes[a][1], boxes[b][1])
                    sides = [(box[2] - box[0]) * (box[3] - box[1]) for box in (boxes[a], boxes[b])]
                    # the quarter is of whole boxes; a clipped one may be down to 60 percent of itself
                    assert max(width, 0) * max(height, 0) <= 0.25 / 0.6 * min(sides) + 1e-9


def test_the_same_numbers_give_the_same_scene():
    again = make_scene("rl", 5, seed=3)
    assert again == scenes()[SOME.index(("rl", 5))]
    assert np.array_equal(draw_frame(again, 7), draw_frame(scenes()[SOME.index(("rl", 5))], 7))
    assert make_scene("rl", 5, seed=4).sprites != again.sprites


def test_splits_share_neither_ids_nor_casts():
    casts = {split: set() for split in SPLITS}
    ids = Counter()
    for split in SPLITS:
        for seed in (0, 1):
            for index in range(60):
                scene = make_scene(split, index, seed)
                ids[scene.scene_id] += 1
                casts[split].add(frozenset(sprite.name for sprite in scene.sprites))
                assert split_of_names(sprite.name for sprite in scene.sprites[::-1]) == split
    assert max(ids.values()) == 1
    assert not casts["sft"] & casts["rl"] and not casts["sft"] & casts["eval"] and not casts["rl"] & casts["eval"]


@pytest.mark.parametrize("split, shares", [("sft", (94, 4, 2)), ("rl", (94, 4, 2)), ("eval", (70, 20, 10))])
def test_durations(split, shares):
    lengths = [make_scene(split, index).duration_s for index in range(100)]
    short, medium, long = (
        sum(low <= length < high for length in lengths) for low, high in ((6, 12.1), (60, 100.1), (180, 240.1))
    )
    assert (short, medium, long) == shares
    assert all(length % 1 for length in lengths)


def test_a_video_shows_the_frames(tmp_path):
    scene = scenes()[1]
    render(scene, tmp_path / "film.mp4")
    times = [scene.frame_time_s(i) for i in (0, scene.n_frames // 2, scene.n_frames - 1)]
    read = video.frames_at(tmp_path / "film.mp4", times, max_pixels=224 * 224)
    assert list(read.times_s) == pytest.approx(times, abs=1e-3)
    for image, index in zip(read.images, (0, scene.n_frames // 2, scene.n_frames - 1), strict=True):
        assert np.abs(image.astype(int) - draw_frame(scene, index)).mean() < 4


# ---------------------------------------------------------------- what is asked, worked out again from the boxes


def does(scene: Scene, film: list[dict], name: str, deed: str) -> bool:
    """Whether a thing does what a text says, judged by boxes."""
    frames = seen(film, name)
    path = {i: center(film[i][name]) for i in frames}
    step = path[frames[-1]] - path[frames[0]]
    other = next((sprite.name for sprite in scene.sprites if sprite.name != name and deed.endswith(sprite.name)), None)
    both = [i for i in frames if other in film[i]]
    if other is None:
        if "stays" in deed:
            return max(np.abs(path[i] - path[frames[0]]).max() for i in frames) < 0.02
        axis, sign = {"to the left": (0, -1), "to the right": (0, 1), "moves up": (1, -1), "moves down": (1, 1)}[
            next(way for way in ("to the left", "to the right", "moves up", "moves down") if way in deed)
        ]
        return sign * step[axis] > 0.2 and abs(step[axis]) > 1.5 * abs(step[1 - axis])
    if not both:
        return False
    there = {i: center(film[i][other]) for i in both}
    moves = [max(np.abs(p[i] - p[both[0]]).max() for i in both) for p in (path, there)]
    if "swaps" in deed:
        return np.abs(path[both[-1]] - there[both[0]]).max() < 0.02 > np.abs(there[both[-1]] - path[both[0]]).max()
    if "past" in deed:
        return moves[1] < 0.02 and (path[both[0]] - there[both[0]])[0] * (path[both[-1]] - there[both[-1]])[0] < 0
    if "away" in deed:
        return bool(np.linalg.norm(path[both[-1]] - there[both[-1]]) > np.linalg.norm(path[both[0]] - there[both[0]]))
    late = both[-max(len(both) // 3, 1) :]
    rests = max(np.abs(path[i] - path[late[0]]).max() for i in late) < 0.02
    return moves[0] > 0.1 and rests and max(gap(film[i][name], film[i][other]) for i in late) < 0.05


def right_names(scene: Scene, film: list[dict], family: str, question: str) -> list[str]:
    """All names that answer a question whose answer is a name."""
    names = [sprite.name for sprite in scene.sprites]
    asked = next((name for name in names if name in question), None)
    first, last = ({name: seen(film, name)[end] for name in names} for end in (0, -1))
    rest = [name for name in names if name != asked]
    if family in ("first", "last", "leaves"):
        best = {"first": min(first.values()), "last": max(first.values()), "leaves": min(last.values())}[family]
        return [name for name in names if (last if family == "leaves" else first)[name] == best]
    if family == "stays":
        return [name for name in names if last[name] == len(film) - 1]
    if family == "longest":
        return [name for name in names if last[name] - first[name] == max(last[n] - first[n] for n in names)]
    if family == "after":
        later = [first[name] for name in rest if first[name] > first[asked]]
        return [name for name in rest if first[name] == min(later)]
    if family == "before":
        earlier = [first[name] for name in rest if first[name] < first[asked]]
        return [name for name in rest if first[name] == max(earlier)]
    if family == "with":
        return [name for name in rest if any(asked in boxes and name in boxes for boxes in film)]
    if family == "already":
        return [name for name in rest if name in film[first[asked]] and name in film[first[asked] - 1]]
    if family == "side":
        side, frame = ("left" if "left" in question else "right"), frame_in(scene, question)
        key = {name: center(box)[0] for name, box in film[frame].items()}
        edge = (min if side == "left" else max)(key.values())
        return [name for name, x in key.items() if abs(x - edge) < 0.2]
    verb = {"meet": "stops beside", "pass": "moves past", "swap": "swaps places with"}[family]
    return [name for name in rest if does(scene, film, asked, f"{verb} the {name}")]


def frame_in(scene: Scene, question: str) -> int:
    """The frame shown at the time that a question names."""
    return int(float(re.search(r"(\d+\.\d) seconds", question)[1]) * scene.fps + 1e-6)


def is_right(scene: Scene, film: list[dict], fact, answer: str) -> bool:
    """Whether an answer to the question of a fact about a video is right."""
    sprites = {sprite.name: sprite for sprite in scene.sprites}
    if fact.family in ("color", "thing"):
        asked = set(re.findall(r"\w+", fact.question)) - {"color", "thing", "object"}
        (match,) = [s for s in sprites.values() if asked & {s.color, s.thing}]  # more than one would be two answers
        return answer == (match.color.capitalize() if fact.family == "color" else f"A {match.thing}")
    if fact.family == "deed":
        return does(scene, film, fact.subject, answer)
    if fact.family == "way":
        return does(scene, film, fact.subject, f"moves {answer.lower()}")
    if fact.family == "where":
        x, y = center(film[frame_in(scene, fact.question)][fact.subject])
        return answer == f"In the {'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}"
    if fact.family == "count":
        return answer == ["Zero", "One", "Two", "Three", "Four"][len(sprites)]
    if fact.family == "place":
        return scene.background.place in answer
    names = right_names(scene, film, fact.family, fact.question)
    return len(names) == 1 and answer == f"The {names[0]}"


def test_every_question_has_one_right_answer():
    families = Counter()
    for scene, film in films():
        for fact in video_facts(scene):
            if fact.family == "track":
                continue
            families[fact.family] += 1
            assert is_right(scene, film, fact, fact.answer), (scene.scene_id, fact)
            assert len(set(fact.wrong)) >= 3 and fact.answer not in fact.wrong
            for wrong in fact.wrong:
                assert not is_right(scene, film, fact, wrong), (scene.scene_id, wrong, fact)
    assert len(families) == 20


def test_following_a_thing_says_where_it_begins_and_ends():
    """By thirds of the picture; of two things in one third the smaller is said to be in the next one."""
    told = 0
    for scene, film in films():
        for fact in [fact for fact in video_facts(scene) if fact.family == "track"]:
            said = re.fullmatch(r"From (\w+) (\w+) to (\w+) (\w+)", fact.answer).groups()
            for words, (_, frame) in zip((said[:2], said[2:]), (fact.shown[0], fact.shown[-1]), strict=True):
                cells = {name: tuple((center(box) * 3).astype(int).tolist()) for name, box in film[frame].items()}
                column, row = cells.pop(fact.subject)
                if (column, row) not in cells.values():
                    assert words == (("upper", "middle", "lower")[row], ("left", "centre", "right")[column])
                    told += 1
    assert told > 50


def test_spans_are_when_things_are_visible():
    for scene, film in films():
        for fact in time_facts(scene):
            start, end = json.loads(fact.answer)
            assert 0.1 < (end - start) / scene.duration_s < 0.72
            names = [name for name in (s.name for s in scene.sprites) if name in fact.question] or [fact.subject]
            if fact.family != "when deed":
                frames = [i for i, boxes in enumerate(film) if all(name in boxes for name in names)]
                assert (start, end) == pytest.approx((frames[0] / scene.fps, (frames[-1] + 1) / scene.fps), abs=0.051)
            assert all(start - 0.06 <= scene.frame_time_s(frame) < end + 0.06 for _, frame in fact.shown)


def test_a_deed_takes_place_in_its_span():
    kinds = Counter()
    for scene, film in films():
        for event in scene.events:
            kinds[event.kind] += 1
            start, end = (round(moment * scene.fps) for moment in event.span_s)
            if event.kind == "appear":
                assert event.subject in film[start] and event.subject not in film[start - 1]
            elif event.kind == "leave":
                assert event.subject in film[start - 1] and event.subject not in film[start]
            elif event.kind == "meet":
                assert all(gap(film[i][event.subject], film[i][event.object]) < 0.05 for i in range(start, end))
            elif event.object:
                order = [(center(film[i][event.subject]) - center(film[i][event.object]))[0] for i in (start, end - 1)]
                assert order[0] * order[1] < 0
    assert set(kinds) == {"appear", "leave", "stay", "left", "right", "up", "down", "meet", "pass", "swap"}


def test_pictures_are_asked_about_what_they_show():
    for scene, film in films():
        for fact in image_facts(scene):
            boxes = film[fact.shown[0][1]]
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


# ---------------------------------------------------------------- rows


@cache
def all_rows() -> list[tuple[Scene, Example]]:
    return [(scene, row) for scene, _ in films() for row in rows_of(scene)]


def test_rows_are_valid_and_chains_are_clean():
    ids, templates = Counter(), {task: set() for task in Task}
    for scene, row in all_rows():
        ids[row.id] += 1
        question = row.question.split("\n")[0]
        for sprite in scene.sprites:
            question = re.sub(rf"\b({sprite.name}|{sprite.color}|{sprite.thing})\b", "…", question)
        templates[row.task].add(re.sub(r"[\d.]+|left|right", "…", question))
        assert Example.from_row(json.loads(json.dumps(row.to_row()))) == row
        read = evidence.parse_response(evidence.format_response(row.reasoning_process, row.answer))
        assert read.problems == ()
        grounded = row.task in (Task.SPATIAL, Task.SPATIO_TEMPORAL)
        assert 1 <= len(read.times_s) <= 3 or row.task not in (Task.TEMPORAL, Task.TEMPORAL_MCQ)
        assert 1 <= len(read.claims) <= 3 if grounded else read.claims == ()
        assert ANSWER_LINE not in row.reasoning_process  # a chain is one line
    assert max(ids.values()) == 1
    assert min(map(len, templates.values())) >= 8, {task: len(t) for task, t in templates.items()}


def test_claims_show_what_is_there_at_their_time():
    """To the tenth of a second that a claim is told in, and mostly in a frame that every prompt shows."""
    shown = []
    for scene, row in all_rows():
        claims = evidence.parse_response(evidence.format_response(row.reasoning_process, "x")).claims
        for claim in claims if row.task is Task.SPATIO_TEMPORAL else ():
            (frame,) = (f for f in row.key_frames if abs(f.time_s - claim.time_s) <= 0.0501)
            assert box_iou(claim.boxes[0], scene.boxes_at(frame.idx)[claim.name]) > 0.98
            shown.append(frame.idx in video.uniform_indices(scene.n_frames, 12))
    assert np.mean(shown) > 0.99


def test_a_claim_follows_the_number_of_its_frame_the_name_and_the_place():
    for scene, row in all_rows():
        if row.task is Task.SPATIO_TEMPORAL:
            claims = evidence.parse_response(evidence.format_response(row.reasoning_process, "x")).claims
            told = re.findall(r"frame (\d+) (\w+ \w+) (\w+ \w+) <obj>", row.reasoning_process, re.IGNORECASE)
            assert len(told) == len(claims)
            for (number, name, place), claim in zip(told, claims, strict=True):
                frame = video.uniform_indices(scene.n_frames, 12)[int(number) - 1]
                assert claim.time_s == round(scene.frame_time_s(frame), 1)
                assert name == claim.name and place == positions(scene.boxes_at(frame), (1, 1))[claim.name]


def test_a_picture_is_looked_at_before_a_box_is_claimed():
    """Every thing with its place, those of the question marked; each claim follows its name and place."""
    marked = 0
    for scene, row in all_rows():
        if row.task is Task.SPATIAL:
            look, chain = row.reasoning_process.split(". ", 1)
            (frame,) = (int(n) for n in re.findall(r"-(\d+)\.jpg$", row.image_path))
            where = positions(scene.boxes_at(frame), (1, 1))
            assert look.lower().replace(ASKED_MARK, "") == "; ".join(f"{place} {name}" for name, place in where.items())
            claims = evidence.parse_response(evidence.format_response(chain, "x")).claims
            told = re.findall(r"(\w+ \w+) (\w+ \w+) <obj>", chain)
            assert told == [(claim.name, where[claim.name]) for claim in claims]
            marked += ASKED_MARK in look
    assert marked > 20


def test_a_chain_ends_with_what_is_answered():
    """The asked thing is named last; of a question with options the answer in words follows, then the options, of which
    the right one is marked."""
    for scene, row in all_rows():
        chain = row.reasoning_process
        if row.task in (Task.MCQ, Task.TEMPORAL_MCQ):
            lines = row.question.split("\n")[1:]
            answer = next(line[3:] for line in lines if line[0] == row.answer[0])
            marked = "; ".join(line + RIGHT_MARK * (line[0] == row.answer[0]) for line in lines)
            assert f"{BEFORE_OPTIONS}{answer}. {marked}" in chain
        elif row.task in (Task.FREE_FORM, Task.SPATIO_TEMPORAL) and row.answer.startswith("The "):
            named = re.findall("|".join(sprite.name for sprite in scene.sprites), chain)
            assert named[-1] == row.answer.removeprefix("The ")


def test_key_frames_hold_the_evidence():
    for scene, row in all_rows():
        assert bool(row.key_frames) == (row.task is Task.SPATIO_TEMPORAL)
        claims = evidence.parse_response(evidence.format_response(row.reasoning_process, "x")).claims
        assert len(row.key_frames) <= 3
        for frame in row.key_frames:
            assert frame.time_s == pytest.approx(scene.frame_time_s(frame.idx), abs=6e-4)
            assert 1 <= len(frame.items) <= 3
            for name, (box,) in frame.items.items():
                assert any(claim.name == name and claim.boxes == (box,) for claim in claims)
        if row.key_frames:
            assert len(claims) == sum(len(frame.items) for frame in row.key_frames)


def test_answers_have_the_form_of_their_task():
    letters = Counter()
    facts = {scene.scene_id: {fact.question: fact for fact in video_facts(scene)} for scene, _ in films()}
    for scene, row in all_rows():
        if row.task in (Task.MCQ, Task.TEMPORAL_MCQ):
            letter, *span = row.answer.split("\n")
            letters[letter] += 1
            options = dict(line.split(". ", 1) for line in row.question.split("\n")[1:])
            assert list(options) == ["A", "B", "C", "D"] and len(set(options.values())) == 4
            fact = facts[scene.scene_id][row.question.split("\n")[0].split(" And when ")[0]]
            assert options[letter] == fact.answer
            assert len(span) == (row.task is Task.TEMPORAL_MCQ)
        if row.task is Task.SPATIAL:
            frame = int(Path(row.image_path).stem.split("-")[-1])
            claim = evidence.parse_response(evidence.format_response(row.answer, "x")).claims[0]
            truth = rescale_box(scene.boxes_at(frame)[claim.name], (1, 1), row.image_size_wh)
            assert claim.boxes[0] == pytest.approx(truth, abs=0.01)
    assert all(0.22 < count / letters.total() < 0.28 for count in letters.values())


def test_items_of_eval():
    for scene, film in films():
        item = eval_item(scene)
        start, end = item["timestamps"]
        assert 0.14 < (end - start) / scene.duration_s < 0.61
        assert item["frame_count"] == len(film) and (item["width"], item["height"]) == scene.size_wh
        asked = f"{item['question']} {item['temporal_question']} {item['spatial_question']}"
        assert item["object"] in asked and item["domain"] in ("Park", "Beach", "Room")
        seconds = [s for s in range(scene.n_frames) if start <= s < end]
        assert [entry["timestamp"] for entry in item["bboxes"]] == [
            seconds[i] for i in video.uniform_indices(len(seconds), 12)
        ]
        for entry in item["bboxes"]:
            assert entry["frame_index"] == entry["timestamp"] * scene.fps
            box = [entry[key] / 224 for key in ("xmin", "ymin", "xmax", "ymax")]
            assert box == pytest.approx(film[entry["frame_index"]][item["object"]])


def test_every_scene_has_enough_to_ask():
    for split in SPLITS:
        for index in range(25):
            scene = make_scene(split, index, seed=8)
            given = Counter(row.source for row in rows_of(scene))
            wanted = {name for name, source in SOURCES.items() if split == "eval" or getattr(source, split)}
            assert set(given) == wanted and min(given.values()) >= 2
            assert eval_item(scene)["bboxes"]


def test_a_question_of_time_is_answered_after_a_look_at_the_film():
    for index in range(5):
        scene = make_scene("sft", index, seed=8)
        for row in (row for row in rows_of(scene) if row.task is Task.TEMPORAL):
            watched, seen = row.reasoning_process.split(". ", 1)
            assert "<" not in watched
            frames = video.uniform_indices(scene.n_frames, 12).tolist()
            for number, (frame, told) in enumerate(zip(frames, watched.lower().split("; "), strict=True), 1):
                told = re.sub(r"( first| second| third| fourth)?( here)?\b", "", told.removeprefix(f"frame {number} "))
                names = told.split(", ")
                assert sorted(names) == (sorted(scene.boxes_at(frame)) or ["nothing"])
            start_s, end_s = map(float, row.answer[1:-1].split(", "))
            times_s = [-1.0, *(scene.frame_time_s(frame) for frame in frames), scene.duration_s]
            if "no frame" not in seen:
                first, last = (int(number) for number in re.findall(r"frame (\d+)", seen))
                assert re.findall(r"<t>([\d.]+)</t>s", seen) == [f"{times_s[n]:.1f}" for n in (first, last)]
                assert times_s[first - 1] - 0.051 < start_s < times_s[first] + 0.051
                assert times_s[last] - 0.051 < end_s < times_s[last + 1] + 0.051


def test_claims_are_made_after_a_look_at_the_film():
    scene = make_scene("sft", 1, seed=8)
    for row in (row for row in rows_of(scene) if row.task is Task.SPATIO_TEMPORAL):
        watched, chain = row.reasoning_process.split(". ", 1)
        assert watched.count("; ") == 11 and "<" not in watched and "<obj>" in chain


def test_questions_tell_more_as_in_vstar():
    scenes = [make_scene("sft", index, seed=8) for index in range(40)]
    rows = [(scene, row) for scene in scenes for row in rows_of(scene)]
    told = {
        kind: [(scene, row) for scene, row in rows if re.match(kind, row.question)]
        for kind in ("Look from", r"Give \d", "The boxes are")
    }
    assert min(map(len, told.values())) >= 20
    for _, row in told["Look from"]:
        start_s, end_s = map(float, re.findall(r"([\d.]+)s", row.question)[:2])
        assert all(start_s - 0.05 <= key.time_s <= end_s + 0.05 for key in row.key_frames)
    for scene, row in told[r"Give \d"]:  # as many as an eval item has, of which three are claimed
        (name,) = row.key_frames[0].items
        start_s, end_s = next(sprite.span_s for sprite in scene.sprites if sprite.name == name)
        seconds = sum(start_s <= second < end_s for second in range(200))
        assert row.question.startswith(f"Give {min(seconds, 12)} boxes. ")
        assert row.reasoning_process.count("<box>") == 3
    for _, row in told["The boxes are"]:
        boxes = re.findall(r"<box>\[([^]]*)\]</box>", row.question)
        assert row.task is Task.TEMPORAL and boxes
        assert all(0 <= float(side) <= 1 for box in boxes for side in box.split(","))


# ---------------------------------------------------------------- the data set on disk

COUNTS = {"sft": 30, "rl": 37, "eval": 3}


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return make_dataset(root, COUNTS, seed=1, workers=1, progress=False)


def test_two_workers_write_the_same_bytes(dataset, tmp_path):
    make_dataset(tmp_path, COUNTS, seed=1, workers=2, progress=False)
    assert tree(tmp_path) == tree(dataset.root)


def test_proportions_are_the_papers(dataset):
    # 30 rows: thousands of the table as they are (3.9 rounds up); 37 rows of 36.1: the three largest rests round up
    assert dataset.rows["sft"] == {
        "synth_tvg": 4,
        "synth_treevgr": 5,
        "synth_str_tg": 4,
        "synth_str_plm": 2,
        "synth_videor1_mcq": 13,
        "synth_videor1_free_form": 2,
    }
    assert dataset.rows["rl"] == {
        "synth_timerft": 3,
        "synth_tvg_rl": 3,
        "synth_gqa": 5,
        "synth_str_tg": 4,
        "synth_str_plm": 2,
        "synth_videoespresso": 5,
        "synth_videor1_mcq": 13,
        "synth_videor1_free_form": 2,
    }
    assert sum(dataset.rows["eval"].values()) == 3
    assert dataset.scenes == {"sft": 8, "rl": 10, "eval": 3}


def test_rows_on_disk_have_their_media(dataset):
    for split in ("sft", "rl"):
        lines = (dataset.root / f"{split}.jsonl").read_text().splitlines()
        examples = [Example.from_row(json.loads(line)) for line in lines]
        assert len(examples) == COUNTS[split]
        for example in examples:
            assert bool(example.reasoning_process) == (split == "sft")
            for path in (example.media_path, *(frame.path for frame in example.key_frames)):
                assert (dataset.root / path).stat().st_size > 0
            if example.image_path:
                assert Image.open(dataset.root / example.image_path).size == example.image_size_wh
    items = [json.loads(line) for line in (dataset.root / "eval.jsonl").read_text().splitlines()]
    assert all((dataset.root / item["vid"]).exists() for item in items)


def test_going_on_after_an_interruption(dataset, tmp_path):
    for name, content in tree(dataset.root).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    videos = sorted((tmp_path / "videos").rglob("*.mp4"))
    videos[0].unlink()
    (tmp_path / "rl.jsonl").unlink()
    (videos[0].parent / f".{videos[0].name}.part").write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in videos[1:]}
    make_dataset(tmp_path, COUNTS, seed=1, workers=1, progress=False)
    assert tree(tmp_path) == tree(dataset.root)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_another_seed_replaces_what_was_there(tmp_path):
    make_dataset(tmp_path, {"sft": 4}, seed=1, workers=1, progress=False)
    make_dataset(tmp_path, {"sft": 4}, seed=2, workers=1, progress=False)
    assert [path.name for path in (tmp_path / "videos").rglob("*.mp4")] == ["sft-2-000000.mp4"]
