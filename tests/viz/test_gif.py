"""A response as an animated GIF: one image per frame, claim and answer, all of one size, with the claimed boxes."""

import numpy as np
import pytest
from helpers.viewing import TEXT, claim, frames
from PIL import Image, ImageSequence

from o3v.evidence import parse_response
from o3v.viz.plots import write_gif


def read_images(path) -> list[np.ndarray]:
    with Image.open(path) as opened:
        return [np.asarray(image.convert("RGB")) for image in ImageSequence.Iterator(opened)]


def test_the_frames_then_each_claim_then_the_answer(tmp_path):
    images = read_images(write_gif(tmp_path / "a.gif", frames(), parse_response(TEXT), "What comes first?"))
    assert len(images) == 4 + 2 + 1 and len({image.shape for image in images}) == 1
    grey = [image[10, 10, 0] for image in images]
    assert np.allclose(grey, [20, 30, 40, 50, 30, 50, 50], atol=4)  # the claims are on the second and the last frame
    coloured = [(np.ptp(image[:420], axis=-1) > 60).any() for image in images]
    assert coloured == [False] * 4 + [True] * 3


def test_a_claim_outside_the_video_is_skipped(tmp_path):
    text = f"<think>{claim('cup', '[1,1,9,9]', 99)}</think>"
    assert len(read_images(write_gif(tmp_path / "a.gif", frames(2), parse_response(text)))) == 3


def test_no_frames_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="no frame"):
        write_gif(tmp_path / "a.gif", frames(0), parse_response(TEXT))
    assert list(tmp_path.iterdir()) == []
