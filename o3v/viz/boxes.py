"""Named boxes on a picture, and the colours of names.

Pure: pixels and boxes in, a PIL picture out. Colours are those of Okabe and Ito (2008), which colour-blind
readers can tell apart. Knows nothing of responses, figures or widgets.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from o3v.geometry import Box, Size, box_area, clip_box, is_box

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
INK, GREY, ALARM = "#222222", "#767676", "#B00020"
SHOWN_PX = 336  # small frames are enlarged to about this
DIMMED = 0.45  # brightness of what a spotlight leaves out
NAME_CHARS = 32  # longer names are cut in labels and legends


class LabelledBox(NamedTuple):
    """A named box in pixels of its picture; `truth` draws it dashed. Without a colour it gets claim_colours'."""

    name: str
    box_px: Box
    colour: str | None = None
    truth: bool = False


def claim_colours(names: Iterable[str]) -> dict[str, str]:
    """Colour (#rrggbb) of each name: different for the first seven, and mostly the same from figure to figure.

    A name starts at its own place in the palette and takes the first colour least used so far, so names added at
    the end change no earlier one.
    """
    colours: dict[str, str] = {}
    used: Counter[str] = Counter()
    for name in names:
        if name not in colours:
            start = zlib.crc32(" ".join(name.casefold().split()).encode("utf-8", "replace")) % len(PALETTE)
            colours[name] = min(PALETTE[start:] + PALETTE[:start], key=used.__getitem__)
            used[colours[name]] += 1
    return colours


def draw_boxes(
    image: np.ndarray | Image.Image, boxes: Sequence[LabelledBox], scale: float | None = None, text_px: int = 14
) -> Image.Image:
    """The picture, enlarged `scale` times, with its boxes and their names. `image` is (height, width, 3) uint8.

    Without a scale, the whole factor that brings the longer side to about 336 pixels. Boxes are in pixels of
    `image`, clipped to it; claims have full lines and a filled label, truth has dashes and a white label. A box
    that is wholly outside, or none (NaN, inverted), is a label that says so. A label without a free place is left
    out. Raises ValueError for another shape or dtype.
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"expected an image (height, width, 3) of uint8, found {pixels.shape} of {pixels.dtype}")
    height, width = pixels.shape[:2]
    scale = scale or max(1, round(SHOWN_PX / max(width, height)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    draw, line = ImageDraw.Draw(picture), max(2, round(text_px / 6))
    colours = claim_colours(box.name for box in boxes)
    letterform, letters = font(text_px), int(size[0] / text_px / 0.62)
    outlines, tags = [], []
    for name, box_px, colour, truth in dict.fromkeys((b.name, tuple(b.box_px), b.colour, b.truth) for b in boxes):
        colour = colour or colours[name]
        inside = clip_box([v if math.isfinite(v) else 0 for v in box_px], (width, height))
        shown = tuple(round(v * scale) for v in inside)
        fault = "" if is_box(box_px) and box_area(inside) else " (outside)" if is_box(box_px) else " (not a box)"
        outlines += [] if fault else [(_edge(shown, size, line if truth else 0), colour, truth)]
        tags.append((short_name(name, max(4, letters - len(fault))) + fault, shown, colour, truth))
    for (x0, y0, x1, y1), _, _ in outlines:  # a white hair on both sides of a line shows it on any ground
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="#FFFFFF", width=line + 2)
    for edge, colour, truth in outlines:
        if truth:
            _dashes(draw, edge, colour, line)
        else:
            draw.rectangle(edge, outline=colour, width=line)
    taken: list[tuple[int, int, int, int]] = []
    for text, shown, colour, truth in tags:
        w, h = round(letterform.getlength(text)) + 6, sum(letterform.getmetrics()) + 1
        place = _free_place((w, h), shown, size, taken, below=truth)
        if place:
            taken.append((*place, place[0] + w, place[1] + h))
            fill, ink = ("#FFFFFF", INK) if truth else (colour, ink_on(colour))
            draw.rectangle((*place, place[0] + w - 1, place[1] + h - 1), fill=fill, outline=colour)
            draw.text((place[0] + 3, place[1]), text, fill=ink, font=letterform)
    return picture


def spotlight(image: np.ndarray, boxes_px: Sequence[Box]) -> np.ndarray:
    """The picture darkened but for these boxes; as it is when none of them lies in it."""
    lit = np.zeros(image.shape[:2], bool)
    for box in boxes_px:
        if is_box(box):
            x0, y0, x1, y1 = (round(v) for v in clip_box(box, (image.shape[1], image.shape[0])))
            lit[y0:y1, x0:x1] = True
    return np.where(lit[..., None], image, (image * DIMMED).astype(np.uint8)) if lit.any() else image


def zoom(
    image: np.ndarray, boxes: Sequence[LabelledBox], box_px: Box, margin: float = 0.5
) -> tuple[np.ndarray, list[LabelledBox]]:
    """The region around a box, `margin` of its sides wider on each side, and the boxes in its pixels.

    The whole picture when the box does not lie in it.
    """
    size_wh = (image.shape[1], image.shape[0])
    inside = clip_box(box_px, size_wh) if is_box(box_px) else (0, 0, 0, 0)
    if not box_area(inside):
        return image, list(boxes)
    dx, dy = margin * (inside[2] - inside[0]), margin * (inside[3] - inside[1])
    x0, y0, x1, y1 = clip_box((inside[0] - dx, inside[1] - dy, inside[2] + dx, inside[3] + dy), size_wh)
    x0, y0, x1, y1 = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
    moved = [b._replace(box_px=tuple(v - o for v, o in zip(b.box_px, (x0, y0, x0, y0), strict=True))) for b in boxes]
    return image[y0:y1, x0:x1], moved


def _edge(box: Sequence[int], size_wh: Size, outwards: int) -> tuple[int, int, int, int]:
    """First and last pixels of a box's outline. Truth's lies around its box, so that a claim fits into it."""
    x0, y0 = max(0, box[0] - outwards), max(0, box[1] - outwards)
    x1, y1 = min(size_wh[0], box[2] + outwards) - 1, min(size_wh[1], box[3] + outwards) - 1
    return x0, y0, max(x0, x1), max(y0, y1)


def _dashes(draw: ImageDraw.ImageDraw, edge: Sequence[int], colour: str, line: int) -> None:
    (x0, y0, x1, y1), dash, step = edge, 4 * line, 7 * line
    for start in range(x0, x1 + 1, step):
        end = min(start + dash, x1)
        draw.rectangle((start, y0, end, min(y0 + line - 1, y1)), fill=colour)
        draw.rectangle((start, max(y1 - line + 1, y0), end, y1), fill=colour)
    for start in range(y0, y1 + 1, step):
        end = min(start + dash, y1)
        draw.rectangle((x0, start, min(x0 + line - 1, x1), end), fill=colour)
        draw.rectangle((max(x1 - line + 1, x0), start, x1, end), fill=colour)


def _free_place(
    label_wh: Size, box: Sequence[int], size_wh: Size, taken: Sequence[Sequence[int]], below: bool
) -> tuple[int, int] | None:
    """Top left corner of the first place around or in a box where a label covers no other; inside the picture."""
    (w, h), (x0, y0, x1, y1) = label_wh, box
    upper, lower = [(x0, y0 - h), (x1 - w, y0 - h), (x0, y0)], [(x0, y1), (x1 - w, y1), (x0, y1 - h)]
    sides = [(x1, y0), (x0 - w, y0), (x1, y1 - h), (x1 - w, y0), (x1 - w, y1 - h), (x0, (y0 + y1 - h) // 2)]
    for x, y in (lower + upper if below else upper + lower) + sides:
        x, y = max(0, min(x, size_wh[0] - w)), max(0, min(y, size_wh[1] - h))
        if all(x >= c or x + w <= a or y >= d or y + h <= b for a, b, c, d in taken):
            return x, y
    return None


@lru_cache(maxsize=8)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings."""
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size_px)


def short_name(name: str, most: int = NAME_CHARS) -> str:
    """One line of at most `most` characters: white space collapsed, what cannot be encoded replaced by ?."""
    text = " ".join(name.encode("utf-8", "replace").decode().split()) or "(no name)"
    return text if len(text) <= most else text[: most - 1] + "…"


def ink_on(colour: str) -> str:
    """Black or white, whichever has more contrast on the colour (WCAG relative luminance)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return "#000000" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "#FFFFFF"
