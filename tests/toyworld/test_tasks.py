"""Rows and V-STAR items: their form, and their chains against the scene."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.scenes import short_scenes

from o3v import evidence, video
from o3v.evidence import ANSWER_LINE
from o3v.geometry import box_iou, rescale_box
from o3v.schema import Example, Task
from o3v.toyworld.narration import ASKED_MARK, BEFORE_OPTIONS, RIGHT_MARK, positions
from o3v.toyworld.questions import video_facts
from o3v.toyworld.scene import SPLITS, Scene, make_scene
from o3v.toyworld.tasks import SOURCES, eval_item, rows_of


@cache
def all_rows() -> list[tuple[Scene, Example]]:
    return [(scene, row) for scene, _ in short_scenes() for row in rows_of(scene)]


def test_rows_are_valid_and_chains_follow_the_grammar():
    ids, templates = Counter(), {task: set() for task in Task}
    for scene, row in all_rows():
        ids[row.id] += 1
        question = row.question.split("\n")[0]
        for sprite in scene.sprites:
            question = re.sub(rf"\b({sprite.name}|{sprite.color}|{sprite.kind})\b", "…", question)
        templates[row.task].add(re.sub(r"[\d.]+|left|right", "…", question))
        assert Example.from_row(json.loads(json.dumps(row.to_row()))) == row
        response = evidence.parse_response(evidence.format_response(row.reasoning_process, row.answer))
        assert response.problems == ()
        grounded = row.task in (Task.SPATIAL, Task.SPATIO_TEMPORAL)
        assert 1 <= len(response.times_s) <= 3 or row.task not in (Task.TEMPORAL, Task.TEMPORAL_MCQ)
        assert 1 <= len(response.claims) <= 3 if grounded else response.claims == ()
        assert ANSWER_LINE not in row.reasoning_process  # a chain is one line
    assert max(ids.values()) == 1
    assert min(map(len, templates.values())) >= 8, {task: len(t) for task, t in templates.items()}


def test_claims_match_the_scene_at_their_time():
    """Times are rounded to a tenth of a second; nearly all are those of a frame that every prompt shows."""
    shown = []
    for scene, row in all_rows():
        claims = evidence.parse_response(evidence.format_response(row.reasoning_process, "x")).claims
        for claim in claims if row.task is Task.SPATIO_TEMPORAL else ():
            (frame,) = (f for f in row.key_frames if abs(f.time_s - claim.time_s) <= 0.0501)
            assert box_iou(claim.boxes[0], scene.boxes_at(frame.idx)[claim.name]) > 0.98
            shown.append(frame.idx in video.uniform_indices(scene.n_frames, 12))
    assert np.mean(shown) > 0.99


def test_a_claim_follows_its_frame_number_name_and_position():
    for scene, row in all_rows():
        if row.task is Task.SPATIO_TEMPORAL:
            claims = evidence.parse_response(evidence.format_response(row.reasoning_process, "x")).claims
            entries = re.findall(r"frame (\d+) (\w+ \w+) (\w+ \w+) <obj>", row.reasoning_process, re.IGNORECASE)
            assert len(entries) == len(claims)
            for (number, name, place), claim in zip(entries, claims, strict=True):
                frame = video.uniform_indices(scene.n_frames, 12)[int(number) - 1]
                assert claim.time_s == round(scene.frame_time_s(frame), 1)
                assert name == claim.name and place == positions(scene.boxes_at(frame), (1, 1))[claim.name]


def test_an_image_is_described_before_a_box_is_claimed():
    """All objects with their positions, those of the question marked; each claim follows its name and position."""
    marked = 0
    for scene, row in all_rows():
        if row.task is Task.SPATIAL:
            look, chain = row.reasoning_process.split(". ", 1)
            (frame,) = (int(n) for n in re.findall(r"-(\d+)\.jpg$", row.image_path))
            where = positions(scene.boxes_at(frame), (1, 1))
            assert look.lower().replace(ASKED_MARK, "") == "; ".join(f"{place} {name}" for name, place in where.items())
            claims = evidence.parse_response(evidence.format_response(chain, "x")).claims
            entries = re.findall(r"(\w+ \w+) (\w+ \w+) <obj>", chain)
            assert entries == [(claim.name, where[claim.name]) for claim in claims]
            marked += ASKED_MARK in look
    assert marked > 20


def test_a_chain_ends_with_the_answer():
    """The object of the answer is named last. With options, the answer in words follows, then the options, the correct
    one marked."""
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
    facts = {scene.scene_id: {fact.question: fact for fact in video_facts(scene)} for scene, _ in short_scenes()}
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


def test_eval_items_match_the_scene():
    for scene, video_boxes in short_scenes():
        item = eval_item(scene)
        start, end = item["timestamps"]
        assert 0.14 < (end - start) / scene.duration_s < 0.61
        assert item["frame_count"] == len(video_boxes) and (item["width"], item["height"]) == scene.size_wh
        questions = f"{item['question']} {item['temporal_question']} {item['spatial_question']}"
        assert item["object"] in questions and item["domain"] in ("Park", "Beach", "Room")
        seconds = [s for s in range(scene.n_frames) if start <= s < end]
        assert [entry["timestamp"] for entry in item["bboxes"]] == [
            seconds[i] for i in video.uniform_indices(len(seconds), 12)
        ]
        for entry in item["bboxes"]:
            assert entry["frame_index"] == entry["timestamp"] * scene.fps
            box = [entry[key] / 224 for key in ("xmin", "ymin", "xmax", "ymax")]
            assert box == pytest.approx(video_boxes[entry["frame_index"]][item["object"]])


def test_every_scene_has_enough_questions():
    for split in SPLITS:
        for index in range(25):
            scene = make_scene(split, index, seed=8)
            counts = Counter(row.source for row in rows_of(scene))
            expected = {name for name, source in SOURCES.items() if split == "eval" or getattr(source, split)}
            assert set(counts) == expected and min(counts.values()) >= 2
            assert eval_item(scene)["bboxes"]


def test_a_temporal_answer_follows_a_description_of_all_frames():
    for index in range(5):
        scene = make_scene("sft", index, seed=8)
        for row in (row for row in rows_of(scene) if row.task is Task.TEMPORAL):
            description, seen = row.reasoning_process.split(". ", 1)
            assert "<" not in description
            frames = video.uniform_indices(scene.n_frames, 12).tolist()
            for number, (frame, entry) in enumerate(zip(frames, description.lower().split("; "), strict=True), 1):
                names = re.sub(
                    r"( first| second| third| fourth)?( here)?\b", "", entry.removeprefix(f"frame {number} ")
                )
                assert sorted(names.split(", ")) == (sorted(scene.boxes_at(frame)) or ["nothing"])
            start_s, end_s = map(float, row.answer[1:-1].split(", "))
            times_s = [-1.0, *(scene.frame_time_s(frame) for frame in frames), scene.duration_s]
            if "no frame" not in seen:
                first, last = (int(number) for number in re.findall(r"frame (\d+)", seen))
                assert re.findall(r"<t>([\d.]+)</t>s", seen) == [f"{times_s[n]:.1f}" for n in (first, last)]
                assert times_s[first - 1] - 0.051 < start_s < times_s[first] + 0.051
                assert times_s[last] - 0.051 < end_s < times_s[last + 1] + 0.051


def test_claims_follow_a_description_of_all_frames():
    scene = make_scene("sft", 1, seed=8)
    for row in (row for row in rows_of(scene) if row.task is Task.SPATIO_TEMPORAL):
        description, chain = row.reasoning_process.split(". ", 1)
        assert description.count("; ") == 11 and "<" not in description and "<obj>" in chain


def test_some_questions_give_spans_counts_or_boxes_as_in_vstar():
    scenes = [make_scene("sft", index, seed=8) for index in range(40)]
    rows = [(scene, row) for scene in scenes for row in rows_of(scene)]
    rows_by_kind = {
        kind: [(scene, row) for scene, row in rows if re.match(kind, row.question)]
        for kind in ("Look from", r"Give \d", "The boxes are")
    }
    assert min(map(len, rows_by_kind.values())) >= 20
    for _, row in rows_by_kind["Look from"]:
        start_s, end_s = map(float, re.findall(r"([\d.]+)s", row.question)[:2])
        assert all(start_s - 0.05 <= key.time_s <= end_s + 0.05 for key in row.key_frames)
    for scene, row in rows_by_kind[r"Give \d"]:  # as many as in an eval item; the chain claims three
        (name,) = row.key_frames[0].items
        start_s, end_s = next(sprite.span_s for sprite in scene.sprites if sprite.name == name)
        seconds = sum(start_s <= second < end_s for second in range(200))
        assert row.question.startswith(f"Give {min(seconds, 12)} boxes. ")
        assert row.reasoning_process.count("<box>") == 3
    for _, row in rows_by_kind["The boxes are"]:
        boxes = re.findall(r"<box>\[([^]]*)\]</box>", row.question)
        assert row.task is Task.TEMPORAL and boxes
        assert all(0 <= float(side) <= 1 for box in boxes for side in box.split(","))
