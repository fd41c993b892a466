"""Images: cropping and reading."""

import numpy as np
import pytest
from PIL import Image

from o3v import video
from o3v.video import MissingVideoError, VideoError


def test_crop():
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(video.crop(image, (1, 2, 3, 4)), image[2:4, 1:3])
    assert np.array_equal(video.crop(image, (0.9, 0.2, 1.1, 0.4)), image[0:1, 0:2])  # every pixel touched
    assert np.array_equal(video.crop(image, (-9, -9, 99, 1)), image[:1])
    whole = video.crop(image, (0, 0, 5, 4))
    whole[:] = 0
    assert image.any()  # a copy
    for outside in [(5, 0, 9, 4), (3, 0, 3, 4), (3, 0, 1, 4), (0, float("nan"), 1, 1), (-3, 0, 0, 4)]:
        with pytest.raises(ValueError, match="image of 5x4"):
            video.crop(image, outside)


def test_read_image(tmp_path):
    stored = Image.new("RGB", (300, 100), (10, 20, 30))
    stored.paste((200, 20, 30), (0, 0, 60, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: left becomes top
    stored.save(tmp_path / "a.png", exif=exif)
    image, size_wh = video.read_image(tmp_path / "a.png", 128 * 784)
    assert size_wh == (100, 300) and image.shape == (308, 112, 3) and image.dtype == np.uint8
    assert image[5, 50].tolist() == [200, 20, 30] and image[300, 50].tolist() == [10, 20, 30]
    Image.new("P", (56, 56)).save(tmp_path / "b.gif")
    assert video.read_image(tmp_path / "b.gif", 128 * 784)[0].shape == (56, 56, 3)


def test_an_unreadable_image_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("It is not an image.\n" * 300)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    for name in ("text.jpg", "cut.png", ""):
        with pytest.raises(VideoError, match="not a readable image"):
            video.read_image(tmp_path / name, 784)
    with pytest.raises(MissingVideoError):
        video.read_image(tmp_path / "gone.jpg", 784)


def test_a_letterboxed_crop_keeps_its_aspect_ratio():
    boxed = video.letterbox(np.zeros((10, 20, 3), np.uint8), (84, 84))
    assert boxed.shape == (84, 84, 3)
    inside = (boxed == 0).all(axis=2)
    assert inside[21:63].all() and not inside[:21].any() and not inside[63:].any()  # 84 × 42, centred
    assert video.letterbox(np.zeros((84, 1, 3), np.uint8), (84, 84)).shape == (84, 84, 3)


def test_transparent_pixels_are_white(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16] = [200, 0, 0, 255]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image, _ = video.read_image(tmp_path / "a.png", 10**6)
    assert image[0, 0].tolist() == [200, 0, 0] and image[-1, -1].tolist() == [255, 255, 255]
