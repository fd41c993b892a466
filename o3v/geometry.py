"""Boxes, time spans and image sizes.

A box is (x0, y0, x1, y1) with x to the right and y down. Its name gives the frame of reference: `box_px` in pixels of
an image, `box_norm` normalised to 0–1, `box_1000` in thousandths (Qwen3-VL). A span is (start, end) in seconds. A size
is (width, height). This module does not know video or models.
"""

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]
Span = tuple[float, float]
Size = tuple[int, int]

PATCH_FACTOR = 28  # Qwen2.5-VL: 14-pixel patches merged two by two (other families: models.families)
MIN_PIXELS = 56 * 56  # Qwen2.5-VL's image processor


def box_area(box: Sequence[float]) -> float:
    """Area of a box in its own squared unit; 0 for an inverted or empty one."""
    x0, y0, x1, y1 = box
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes in the same frame of reference, in 0–1.

    >>> box_iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    overlap = box_area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = box_area(a) + box_area(b) - overlap
    return overlap / union if union > 0 else 0.0


def span_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two time spans in seconds; 0 for an inverted or empty one.

    >>> span_iou((0.0, 4.0), (2.0, 6.0))
    0.3333333333333333
    """
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(0.0, a[1] - a[0]) + max(0.0, b[1] - b[0]) - overlap
    return overlap / union if union > 0 else 0.0


def is_box(box: Sequence[float]) -> bool:
    """True for four finite numbers with x0 < x1 and y0 < y1."""
    return len(box) == 4 and all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]


def clip_box(box: Sequence[float], limits: Sequence[float]) -> Box:
    """The part of a box inside (0, 0, width, height); may be empty."""
    width, height = limits
    x0, y0, x1, y1 = box
    return (min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height))


def span_on_frames(span_s: Span, times_s: Sequence[float], duration_s: float) -> Span:
    """A span at frame times: from the first frame in it to the first frame after it, else to the end of the video.

    If no frame lies in the span, it begins with the last frame before it.

    >>> span_on_frames((1.5, 4.5), (0.0, 2.0, 4.0, 6.0), 8.0), span_on_frames((2.5, 3.5), (0.0, 2.0, 4.0, 6.0), 8.0)
    ((2.0, 6.0), (2.0, 4.0))
    """
    end_s = min((t for t in times_s if t >= span_s[1]), default=duration_s)
    inside = [t for t in times_s if span_s[0] <= t < span_s[1]]
    before = max((t for t in times_s if t < span_s[0]), default=0.0)
    return (min(inside) if inside else before), end_s


def text_box_size(box: Box, image_wh: Size | None) -> Size:
    """The size that a box in the text of a row refers to: (1, 1) for 0–1, else the image in whose pixels it is."""
    return image_wh if image_wh and max(box) > 1 else (1, 1)


def rescale_box(box_px: Sequence[float], from_wh: Sequence[float], to_wh: Sequence[float]) -> Box:
    """Maps a box between two sizes of the same image.

    `from_wh=(1, 1)` takes a normalised box, `to_wh=(1000, 1000)` returns thousandths.

    >>> rescale_box((0.25, 0.5, 0.75, 1.0), from_wh=(1, 1), to_wh=(84, 56))
    (21.0, 28.0, 63.0, 56.0)
    """
    sx, sy = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]
    x0, y0, x1, y1 = box_px
    return (x0 * sx, y0 * sy, x1 * sx, y1 * sy)


def fit_size(size_wh: Size, max_pixels: int, factor: int = PATCH_FACTOR, min_pixels: int = MIN_PIXELS) -> Size:
    """A size with about the same aspect ratio, `min_pixels` to `max_pixels`, and sides that are multiples of `factor`.

    Source: the resize rule of Qwen's image processors (round to the grid; shrink and round down if that is too large,
    grow and round up if it is too small), so that the processor does not resize again. As there, a size that was
    shrunk may end below `min_pixels`, but it has at least two by two squares of `factor`. Where growing would exceed
    `max_pixels`, the sides are rounded down. A strip that cannot be both gets the longest side that fits. Raises
    ValueError if not even one square of `factor` fits.

    >>> fit_size((640, 360), 128 * 28 * 28), fit_size((40, 30), 128 * 28 * 28)
    ((420, 224), (84, 56))
    """
    if max_pixels < factor * factor:
        raise ValueError(f"max_pixels={max_pixels} is less than one {factor}x{factor} patch; raise it")
    width, height = size_wh
    if width < 1 or height < 1:
        raise ValueError(f"image of size {width}x{height}: both sides must be positive")
    new_w, new_h = (max(factor, round(side / factor) * factor) for side in (width, height))
    smallest = min(4 * factor * factor, max_pixels)
    least = min(min_pixels, max_pixels)
    if new_w * new_h > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        new_w, new_h = (max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height))
        least = min(least, smallest)
    if new_w * new_h < least:
        grow = math.sqrt(max(least, smallest) / (width * height))
        new_w, new_h = (math.ceil(side * grow / factor) * factor for side in (width, height))
        if new_w * new_h > max_pixels:
            lower_w, lower_h = (math.floor(side * grow / factor) * factor for side in (width, height))
            new_w, new_h = (lower_w, lower_h) if lower_w * lower_h >= smallest else (new_w, new_h)
    if new_w * new_h > max_pixels:
        longest = max_pixels // factor // factor * factor
        new_w, new_h = (longest, factor) if new_w > new_h else (factor, longest)
    return new_w, new_h
