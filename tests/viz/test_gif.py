"""A trace as a film: as many pictures as there is to tell, of one size, boxes where they are claimed."""

import numpy as np
import pytest
from helpers.viewing import TEXT, claim, frames
from PIL import Image, ImageSequence

from o3v.evidence import parse_response
from o3v.viz.gif import write_gif


def pictures(path):
    with Image.open(path) as opened:
        return [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(opened)]


def test_the_frames_then_each_claim_then_the_answer(tmp_path):
    said = pictures(write_gif(tmp_path / "a.gif", frames(), parse_response(TEXT), "What comes first?"))
    assert len(said) == 4 + 2 + 1 and len({picture.shape for picture in said}) == 1
    grey = [picture[10, 10, 0] for picture in said]
    assert np.allclose(grey, [20, 30, 40, 50, 30, 50, 50], atol=4)  # the claims lie on the second and the last frame
    coloured = [(np.ptp(picture[:420], axis=-1) > 60).any() for picture in said]
    assert coloured == [False] * 4 + [True] * 3


def test_claims_beside_the_video_are_skipped_and_nothing_is_left_of_a_failure(tmp_path):
    text = f"<think>{claim('cup', '[1,1,9,9]', 99)}</think>"
    assert len(pictures(write_gif(tmp_path / "a.gif", frames(2), parse_response(text)))) == 3
    with pytest.raises(ValueError, match="no frame"):
        write_gif(tmp_path / "b.gif", frames(0), parse_response(text))
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
