"""Scenes: their ground truth against their pixels, and the properties that questions rely on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.scenes import IDS, frames_showing, scenes, short_scenes

from o3v import video
from o3v.geometry import rescale_box
from o3v.toyworld.scene import SIZE_WH, SPLITS, Sprite, draw_frame, make_scene, render, split_of_names


@pytest.mark.parametrize("split, index, seed", [("test", 0, 0), ("sft", -1, 0), ("sft", 0, -1)])
def test_make_scene_rejects_unknown_splits_and_negative_numbers(split, index, seed):
    with pytest.raises(ValueError, match=r"does not exist|negative"):
        make_scene(split, index, seed)


@pytest.mark.parametrize("index", [-1, 10_000])
def test_frames_outside_a_scene_raise_with_its_id(index):
    with pytest.raises(IndexError, match=scenes()[0].scene_id):
        scenes()[0].boxes_at(index)
    with pytest.raises(IndexError, match=scenes()[0].scene_id):
        draw_frame(scenes()[0], index)


def test_an_object_is_visible_from_sixty_percent_inside():
    # a ball of 56 × 56 pixels on the horizontal middle line; its left side is at 224·x − 28
    def at(x: float) -> dict:
        ball = Sprite("red", "ball", 0.25, ((0.0, x, 0.5), (1.0, x, 0.5)), 0.0, 1.0)
        return replace(scenes()[0], duration_s=1.0, fps=8, sprites=(ball,), events=()).boxes_at(0)

    assert at(0.5) == {"red ball": (84 / 224, 84 / 224, 140 / 224, 140 / 224)}
    assert at(0.0) == {}  # 28 of 56 columns inside
    assert at(0.025) == {"red ball": (0.0, 84 / 224, 34 / 224, 140 / 224)}  # 34 of 56 is 61 percent
    assert at(0.02) == {}  # 33 of 56 (left at −23.5, an even number after rounding to −24: 32) is under 60
    assert at(0.98) == {}
    assert at(0.975) == {"red ball": (190 / 224, 84 / 224, 1.0, 140 / 224)}


@pytest.mark.parametrize("number", range(0, len(IDS), 5))
def test_boxes_match_the_pixels_that_change(number):
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


def test_scenes_are_unambiguous():
    for scene, video_boxes in short_scenes():
        names = [sprite.name for sprite in scene.sprites]
        assert 2 <= len(set(names)) == len(names) <= 4
        assert len({sprite.color for sprite in scene.sprites}) == len(names)
        assert 8 <= scene.fps <= 12 and scene.size_wh == (224, 224)
        assert max(map(len, video_boxes)) <= 3
        for sprite in scene.sprites:
            frames = frames_showing(video_boxes, sprite.name)
            assert frames == list(range(frames[0], frames[-1] + 1))  # visible without interruption
            assert sprite.span_s == pytest.approx((frames[0] / scene.fps, (frames[-1] + 1) / scene.fps))
            assert len(frames) >= 0.2 * len(video_boxes)
            assert 0.25 <= sprite.size <= 0.45
        for boxes in video_boxes:
            for a in boxes:
                for b in set(boxes) - {a}:
                    width = min(boxes[a][2], boxes[b][2]) - max(boxes[a][0], boxes[b][0])
                    height = min(boxes[a][3], boxes[b][3]) - max(boxes[a][1], boxes[b][1])
                    sides = [(box[2] - box[0]) * (box[3] - box[1]) for box in (boxes[a], boxes[b])]
                    # at most a quarter is hidden of whole boxes; a clipped box may be only 60 percent of the whole
                    assert max(width, 0) * max(height, 0) <= 0.25 / 0.6 * min(sides) + 1e-9


def test_the_same_arguments_give_the_same_scene():
    again = make_scene("rl", 5, seed=3)
    assert again == scenes()[IDS.index(("rl", 5))]
    assert np.array_equal(draw_frame(again, 7), draw_frame(scenes()[IDS.index(("rl", 5))], 7))
    assert make_scene("rl", 5, seed=4).sprites != again.sprites


def test_splits_share_neither_ids_nor_sets_of_objects():
    object_sets = {split: set() for split in SPLITS}
    ids = Counter()
    for split in SPLITS:
        for seed in (0, 1):
            for index in range(60):
                scene = make_scene(split, index, seed)
                ids[scene.scene_id] += 1
                object_sets[split].add(frozenset(sprite.name for sprite in scene.sprites))
                assert split_of_names(sprite.name for sprite in scene.sprites[::-1]) == split
    assert max(ids.values()) == 1
    assert (
        not object_sets["sft"] & object_sets["rl"]
        and not object_sets["sft"] & object_sets["eval"]
        and not object_sets["rl"] & object_sets["eval"]
    )


@pytest.mark.parametrize("split, shares", [("sft", (94, 4, 2)), ("rl", (94, 4, 2)), ("eval", (70, 20, 10))])
def test_each_split_has_its_shares_of_short_medium_and_long_scenes(split, shares):
    lengths = [make_scene(split, index).duration_s for index in range(100)]
    short, medium, long = (
        sum(low <= length < high for length in lengths) for low, high in ((6, 12.1), (60, 100.1), (180, 240.1))
    )
    assert (short, medium, long) == shares
    assert all(length % 1 for length in lengths)


def test_a_rendered_video_shows_the_drawn_frames(tmp_path):
    scene = scenes()[1]
    render(scene, tmp_path / "scene.mp4")
    times = [scene.frame_time_s(i) for i in (0, scene.n_frames // 2, scene.n_frames - 1)]
    frames = video.frames_at(tmp_path / "scene.mp4", times, max_pixels=224 * 224)
    assert list(frames.times_s) == pytest.approx(times, abs=1e-3)
    for image, index in zip(frames.images, (0, scene.n_frames // 2, scene.n_frames - 1), strict=True):
        assert np.abs(image.astype(int) - draw_frame(scene, index)).mean() < 4
