"""Clips for pretraining: true, the same every time, and of their own scenes."""

import numpy as np
import pytest

from o3v import toyworld, video
from o3v.config import FrameConfig
from o3v.tinybase.clips import FIRST_SCENE, draw_clips
from o3v.toyworld.tasks import rows_of

FRAMES = FrameConfig(n_frames=4, max_pixels=84 * 84)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(10, FRAMES, seed=0, workers=1, progress=False)


def test_the_number_of_workers_changes_nothing(clips):
    for a, b in zip(clips, draw_clips(10, FRAMES, seed=0, workers=2, progress=False), strict=True):
        assert a.scene_id == b.scene_id and a.boxes_px == b.boxes_px and a.video_facts == b.video_facts
        assert np.array_equal(a.images, b.images) and np.array_equal(a.crops, b.crops)


def test_frames_are_uniform_then_random_then_the_asked_picture(clips):
    for clip in clips:
        assert clip.uniform == 4 and len(clip.images) == len(clip.times_s) == len(clip.boxes_px) == 7
        even, random = np.array(clip.times_s[:4]), np.array(clip.times_s[4:6])
        assert even[0] == 0 and np.ptp(np.diff(even)) <= 0.26  # a frame of 8 a second, twice
        assert (np.diff(random) > 0).all()
        names = {fact.subject for fact in clip.image_facts}
        assert names and names <= clip.boxes_px[-1].keys()


def test_boxes_hold_the_things_colour(clips):
    """In a thing's box there is more of its colour than outside; white things on a pale ground may fail."""
    right = []
    for clip in clips:
        for image, boxes in zip(clip.images, clip.boxes_px, strict=True):
            for name, (x0, y0, x1, y1) in boxes.items():
                away = np.abs(image.astype(int) - toyworld.COLORS[name.split(" ")[0]]).sum(-1)
                inside = away[y0:y1, x0:x1].mean()
                outside = (away.sum() - away[y0:y1, x0:x1].sum()) / (away.size - (y1 - y0) * (x1 - x0))
                right.append(inside < outside)
    assert len(right) > 50 and np.mean(right) > 0.9


def test_a_tenth_of_the_clips_are_long_and_a_fifth_medium(clips):
    lengths = [clip.duration_s for clip in clips]
    assert sum(60 <= s < 180 for s in lengths) == 2 and sum(s >= 180 for s in lengths) == 1


def test_no_row_asks_about_these_scenes(clips):
    rows = rows_of(toyworld.make_scene("sft", 0, 0))
    assert not {clip.scene_id for clip in clips} & {row.id.rsplit("-synth", 1)[0] for row in rows}
    assert all(int(clip.scene_id.rsplit("-", 1)[1]) >= FIRST_SCENE for clip in clips)


def test_held_out_clips_show_other_casts(clips):
    held_out = draw_clips(6, FRAMES, seed=0, split="eval", workers=1, progress=False)
    assert not {frozenset(c.spans_s) for c in clips} & {frozenset(c.spans_s) for c in held_out}


def test_crops_of_nothing_touch_no_thing(clips):
    for clip in clips:
        assert len(clip.crops) == len(clip.crop_names) >= 2
        assert set(clip.crop_names) <= {"", *clip.spans_s}


def test_a_letterboxed_crop_keeps_its_shape():
    picture = np.zeros((10, 20, 3), np.uint8)
    boxed = video.letterbox(picture, (84, 84))
    assert boxed.shape == (84, 84, 3)
    inside = (boxed == 0).all(axis=2)
    assert inside[21:63].all() and not inside[:21].any() and not inside[63:].any()  # 84 × 42, centred
    assert video.letterbox(np.zeros((84, 1, 3), np.uint8), (84, 84)).shape == (84, 84, 3)
