"""Clips: correct ground truth, reproducible, and from scenes of their own."""

import numpy as np

from o3v import toyworld
from o3v.config import FrameConfig
from o3v.tinybase.clips import FIRST_SCENE, draw_clips
from o3v.toyworld.tasks import rows_of

FRAMES = FrameConfig(n_frames=4, max_pixels=84 * 84)


def test_the_number_of_workers_does_not_change_the_clips(clips):
    for a, b in zip(clips, draw_clips(10, FRAMES, seed=0, workers=2, progress=False), strict=True):
        assert a.scene_id == b.scene_id and a.boxes_px == b.boxes_px and a.video_facts == b.video_facts
        assert np.array_equal(a.images, b.images) and np.array_equal(a.crops, b.crops)


def test_frames_are_uniform_then_random_then_that_of_the_image_facts(clips):
    for clip in clips:
        assert clip.n_uniform == 4 and len(clip.images) == len(clip.times_s) == len(clip.boxes_px) == 7
        uniform, random = np.array(clip.times_s[:4]), np.array(clip.times_s[4:6])
        assert uniform[0] == 0 and np.ptp(np.diff(uniform)) <= 0.26  # two frames at 8 frames per second
        assert (np.diff(random) > 0).all()
        names = {fact.subject for fact in clip.image_facts}
        assert names and names <= clip.boxes_px[-1].keys()


def test_a_box_contains_the_colour_of_its_object(clips):
    """The colour is closer inside the box than outside. White objects on a light background may fail."""
    closer_inside = []
    for clip in clips:
        for image, boxes in zip(clip.images, clip.boxes_px, strict=True):
            for name, (x0, y0, x1, y1) in boxes.items():
                distance = np.abs(image.astype(int) - toyworld.COLORS[name.split(" ")[0]]).sum(-1)
                inside = distance[y0:y1, x0:x1]
                outside = (distance.sum() - inside.sum()) / (distance.size - inside.size)
                closer_inside.append(inside.mean() < outside)
    assert len(closer_inside) > 50 and np.mean(closer_inside) > 0.9


def test_one_clip_in_ten_is_long_and_two_are_medium(clips):
    durations_s = [clip.duration_s for clip in clips]
    assert sum(60 <= s < 180 for s in durations_s) == 2 and sum(s >= 180 for s in durations_s) == 1


def test_no_dataset_row_uses_the_scenes_of_clips(clips):
    rows = rows_of(toyworld.make_scene("sft", 0, 0))
    assert not {clip.scene_id for clip in clips} & {row.id.rsplit("-synth", 1)[0] for row in rows}
    assert all(int(clip.scene_id.rsplit("-", 1)[1]) >= FIRST_SCENE for clip in clips)


def test_held_out_clips_have_other_combinations_of_objects(clips):
    held_out = draw_clips(6, FRAMES, seed=0, split="eval", workers=1, progress=False)
    assert not {frozenset(c.spans_s) for c in clips} & {frozenset(c.spans_s) for c in held_out}


def test_each_crop_has_the_name_of_an_object_or_none(clips):
    for clip in clips:
        assert len(clip.crops) == len(clip.crop_names) >= 2
        assert set(clip.crop_names) <= {None, *clip.spans_s}
