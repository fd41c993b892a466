"""Draws named boxes on an image, and assigns colours to names.

Pure: pixels and boxes in, a PIL image out. Does not know responses, figures or widgets.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from o3v.geometry import Box, Size, box_area, clip_box, is_box
from o3v.text import printable

# Okabe and Ito (2008): colour-blind readers can tell these apart.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
INK, GREY, ALARM = "#222222", "#767676", "#B00020"
SHOWN_PX = 336  # small frames are enlarged to about this many pixels
DIMMED = 0.45  # brightness factor of the area outside a spotlight
NAME_CHARS = 32  # labels and legends cut longer names


class LabelledBox(NamedTuple):
    """A named box in pixels of its image. `truth` draws it dashed. `colour` defaults to that of `claim_colours`."""

    name: str
    box_px: Box
    colour: str | None = None
    truth: bool = False


def claim_colours(names: Iterable[str]) -> dict[str, str]:
    """Assigns a colour (#rrggbb) to each name. The first seven names have seven different colours.

    A hash of the name is its start in the palette; the first of the least used colours from there on is taken. So most
    names keep their colour from figure to figure, and a name added at the end changes no earlier colour.
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
    """Returns the image, enlarged `scale` times, with its boxes and their names.

    Claims have full lines and a filled label, true boxes have dashes and a white label. A box that lies outside the
    image or is invalid (NaN, inverted) is only a label that says so. A label without free space is left out.
    `image` is (height, width, 3) uint8, `boxes` are in its pixels, `text_px` is the height of letters. `scale` None is
    the whole number that brings the longer side to about 336 pixels. Raises ValueError for other arrays.
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"expected an image (height, width, 3) of uint8, found {pixels.shape} of {pixels.dtype}")
    height, width = pixels.shape[:2]
    scale = scale or max(1, round(SHOWN_PX / max(width, height)))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    drawn = Image.fromarray(pixels).resize(size_wh, Image.Resampling.BICUBIC)
    draw, line, letterform = ImageDraw.Draw(drawn), max(2, round(text_px / 6)), font(text_px)
    outlines, labels = _layout(boxes, (width, height), size_wh, scale, line, int(size_wh[0] / text_px / 0.62))
    for (x0, y0, x1, y1), _, _ in outlines:  # a thin white border keeps a line visible on any background
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="#FFFFFF", width=line + 2)
    for edge, colour, truth in outlines:
        if truth:
            _dashes(draw, edge, colour, line)
        else:
            draw.rectangle(edge, outline=colour, width=line)
    taken: list[tuple[int, int, int, int]] = []
    for text, box, colour, truth in labels:
        w, h = round(letterform.getlength(text)) + 6, sum(letterform.getmetrics()) + 1
        place = _free_place((w, h), box, size_wh, taken, below=truth)
        if place:
            taken.append((*place, place[0] + w, place[1] + h))
            fill, ink = ("#FFFFFF", INK) if truth else (colour, ink_on(colour))
            draw.rectangle((*place, place[0] + w - 1, place[1] + h - 1), fill=fill, outline=colour)
            draw.text((place[0] + 3, place[1]), text, fill=ink, font=letterform)
    return drawn


def spotlight(image: np.ndarray, boxes_px: Sequence[Box]) -> np.ndarray:
    """Darkens the image outside these boxes. Returns it unchanged when none of them lies in it."""
    lit = np.zeros(image.shape[:2], bool)
    for box in filter(is_box, boxes_px):
        x0, y0, x1, y1 = map(round, clip_box(box, (image.shape[1], image.shape[0])))
        lit[y0:y1, x0:x1] = True
    return np.where(lit[..., None], image, (image * DIMMED).astype(np.uint8)) if lit.any() else image


def zoom(image: np.ndarray, boxes: Sequence[LabelledBox], box_px: Box) -> tuple[np.ndarray, list[LabelledBox]]:
    """Crops to `box_px` and half its size on each side, unless it is outside; maps `boxes` to pixels of the crop."""
    size_wh = (image.shape[1], image.shape[0])
    inside = clip_box(box_px, size_wh) if is_box(box_px) else (0, 0, 0, 0)
    if not box_area(inside):
        return image, list(boxes)
    dx, dy = 0.5 * (inside[2] - inside[0]), 0.5 * (inside[3] - inside[1])
    x0, y0, x1, y1 = clip_box((inside[0] - dx, inside[1] - dy, inside[2] + dx, inside[3] + dy), size_wh)
    x0, y0, x1, y1 = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
    moved = [b._replace(box_px=tuple(v - o for v, o in zip(b.box_px, (x0, y0, x0, y0), strict=True))) for b in boxes]
    return image[y0:y1, x0:x1], moved


def _layout(boxes, frame_wh, size_wh, scale, line, max_chars) -> tuple[list[tuple], list[tuple]]:
    """Outlines (edge, colour, truth) and labels (text, box, colour, truth), in pixels of the enlarged image."""
    colours = claim_colours(box.name for box in boxes)
    outlines, labels = [], []
    for name, box_px, colour, truth in dict.fromkeys((b.name, tuple(b.box_px), b.colour, b.truth) for b in boxes):
        colour = colour or colours[name]
        inside = clip_box([v if math.isfinite(v) else 0 for v in box_px], frame_wh)
        x0, y0, x1, y1 = shown = tuple(round(v * scale) for v in inside)
        fault = "" if is_box(box_px) and box_area(inside) else " (outside)" if is_box(box_px) else " (not a box)"
        if not fault:
            outwards = line if truth else 0  # a claim fits into an equal true box
            x0, y0 = max(0, x0 - outwards), max(0, y0 - outwards)
            x1, y1 = min(size_wh[0], x1 + outwards) - 1, min(size_wh[1], y1 + outwards) - 1
            outlines.append(((x0, y0, max(x0, x1), max(y0, y1)), colour, truth))
        labels.append((short_name(name, max(4, max_chars - len(fault))) + fault, shown, colour, truth))
    return outlines, labels


def _dashes(draw: ImageDraw.ImageDraw, edge: Sequence[int], colour: str, line: int) -> None:
    (x0, y0, x1, y1), dash, step = edge, 4 * line, 7 * line
    for start, top in product(range(x0, x1 + 1, step), (y0, max(y1 - line + 1, y0))):
        draw.rectangle((start, top, min(start + dash, x1), min(top + line - 1, y1)), fill=colour)
    for start, left in product(range(y0, y1 + 1, step), (x0, max(x1 - line + 1, x0))):
        draw.rectangle((left, start, min(left + line - 1, x1), min(start + dash, y1)), fill=colour)


def _free_place(label_wh: Size, box: Box, size_wh: Size, taken: Sequence[Box], below: bool) -> tuple[int, int] | None:
    """Top left corner of the first place around or in a box where a label covers no other label, or None."""
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
    """Returns DejaVu Sans, which is part of matplotlib."""
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size_px)


def short_name(name: str, max_chars: int = NAME_CHARS) -> str:
    """One line of at most `max_chars` characters: white space collapsed, lone surrogates replaced by "?".

    Other control characters become escape codes.
    """
    text = printable(" ".join(name.encode("utf-8", "replace").decode().split())) or "(no name)"
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def ink_on(colour: str) -> str:
    """Returns black or white, whichever has more contrast on the colour (WCAG relative luminance)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return "#000000" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "#FFFFFF"
