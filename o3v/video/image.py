"""Reads, crops and resizes images."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from o3v.files import regular
from o3v.geometry import MIN_PIXELS, PATCH_FACTOR, Size, clip_box, fit_size, is_box
from o3v.video.opening import MAX_FRAME_PIXELS, MissingVideoError, PathLike, VideoError

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # none that starts another program


def letterbox(image: np.ndarray, size_wh: Size) -> np.ndarray:
    """Resizes an RGB image to fit into `size_wh` with its aspect ratio, and centres it on grey."""
    height, width = image.shape[:2]
    scale = min(size_wh[0] / width, size_wh[1] / height)
    new_w, new_h = (max(1, round(side * scale)) for side in (width, height))
    left, top = (size_wh[0] - new_w) // 2, (size_wh[1] - new_h) // 2
    canvas = np.full((size_wh[1], size_wh[0], 3), 128, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = resize(image, (new_w, new_h))
    return canvas


def crop(image: np.ndarray, box_px: Sequence[float]) -> np.ndarray:
    """Copies the pixels that a box touches, (height, width, 3). Clips the box to the image.

    Raises ValueError for an inverted box, for NaN, and for a box outside the image.
    """
    height, width = image.shape[:2]
    if not is_box(box_px) or not is_box(inside := clip_box(box_px, (width, height))):
        raise ValueError(f"box {list(box_px)} has no pixel in an image of {width}x{height}")
    x0, y0, x1, y1 = math.floor(inside[0]), math.floor(inside[1]), math.ceil(inside[2]), math.ceil(inside[3])
    return image[y0:y1, x0:x1].copy()


def read_image(
    path: PathLike, max_pixels: int, min_pixels: int = MIN_PIXELS, grid_px: int = PATCH_FACTOR
) -> tuple[np.ndarray, Size]:
    """Reads an image file as (height, width, 3) uint8 RGB, upright and resized to `geometry.fit_size`.

    Also returns the upright size in the file. Raises VideoError (kind "open") for a file that is not a readable image,
    MissingVideoError for a missing one.
    """
    from PIL import Image, ImageOps

    name = os.fsdecode(path)
    try:
        regular(name)
        with Image.open(name, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_FRAME_PIXELS:
                raise ValueError(f"{image.width}×{image.height} are more than {MAX_FRAME_PIXELS:,} pixels; reduce it")
            ImageOps.exif_transpose(image, in_place=True)
            upright = _as_8_bit(image)
            if upright.mode != "RGB" or upright is image:  # which closes
                upright = upright.convert("RGB")
    except FileNotFoundError:
        raise MissingVideoError(name, "open", "no such file") from None
    except Exception as error:  # Pillow's decoders raise errors of a dozen types for damaged files
        raise VideoError(name, "open", f"not a readable image ({error!s:.200})") from None
    return resize(np.asarray(upright), fit_size(upright.size, max_pixels, grid_px, min_pixels)), upright.size


def _as_8_bit(image: Any) -> Any:
    """Scales 16-bit grey (depth, thermal, medical images), which Pillow would clip, and fills transparent pixels."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a stated range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8).astype(np.uint8))
    if image.has_transparency_data:  # on white, as Qwen's reader does it
        white, pixels = Image.new("RGB", image.size, "white"), image.convert("RGBA")
        white.paste(pixels, mask=pixels.getchannel("A"))
        return white
    return image


def resize(image: np.ndarray, size_wh: Size) -> np.ndarray:
    """Resizes an RGB image (height, width, 3) uint8, with the bilinear filter that is used for video frames."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR))
