"""The images of the synthetic world: objects of six kinds in six colours, and three backgrounds.

Each object is drawn once at a large size and then scaled down, so outlines are smooth and a frame needs only a few
pastes. The image of an object touches all four edges of its canvas, so the canvas is its bounding box. This module
does not know scenes, time or questions. The paper has no synthetic world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from o3v.geometry import Size

SIZE_WH: Size = (224, 224)
MASTER_PX = 400  # side of the large drawings

Rgb = tuple[int, int, int]

COLORS: Mapping[str, Rgb] = {
    "red": (218, 54, 50),
    "yellow": (250, 204, 48),
    "green": (40, 156, 84),
    "blue": (44, 106, 216),
    "purple": (148, 70, 190),
    "white": (246, 246, 244),
}

# parts in drawing order: (shape, role, numbers on a canvas of 100 × 100); `outline` parts get a dark edge
KINDS: Mapping[str, tuple[tuple[str, str, tuple[float, ...]], ...]] = {
    "car": (
        ("outline", "fill", (2, 52, 14, 46, 27, 19, 69, 19, 85, 46, 98, 52, 98, 76, 2, 76)),
        ("shape", "glass", (23, 45, 32, 26, 46, 26, 46, 45)),
        ("shape", "glass", (51, 45, 51, 26, 65, 26, 75, 45)),
        ("shape", "lamp", (90, 55, 97, 55, 97, 62, 90, 62)),
        ("oval", "tyre", (12, 62, 38, 88)),
        ("oval", "steel", (19, 69, 31, 81)),
        ("oval", "tyre", (62, 62, 88, 88)),
        ("oval", "steel", (69, 69, 81, 81)),
    ),
    "ball": (
        ("oval", "fill", (2, 2, 98, 98)),
        ("oval", "pale", (26, 3, 74, 97)),
        ("oval", "fill", (40, 3, 60, 97)),
    ),
    "house": (
        ("outline", "deep", (70, 8, 82, 8, 82, 40, 70, 40)),
        ("outline", "fill", (13, 44, 87, 44, 87, 98, 13, 98)),
        ("outline", "deep", (2, 48, 50, 3, 98, 48)),
        ("outline", "wood", (55, 66, 73, 66, 73, 98, 55, 98)),
        ("outline", "glass", (23, 60, 43, 60, 43, 78, 23, 78)),
    ),
    "tree": (
        ("outline", "wood", (42, 78, 58, 78, 58, 98, 42, 98)),
        ("outline", "fill", (50, 42, 94, 82, 6, 82)),
        ("outline", "fill", (50, 22, 84, 58, 16, 58)),
        ("outline", "fill", (50, 2, 73, 34, 27, 34)),
    ),
    "star": (
        ("outline", "fill", (50, 2, 62, 37, 98, 38, 69, 60, 80, 96, 50, 75, 20, 96, 31, 60, 2, 38, 38, 37)),
        ("shape", "pale", (50, 22, 57, 43, 78, 44, 61, 57, 67, 77, 50, 65, 33, 77, 39, 57, 22, 44, 43, 43)),
    ),
    "cup": (
        ("ring", "fill", (56, 30, 97, 74)),
        ("outline", "fill", (4, 12, 74, 12, 68, 92, 60, 97, 18, 97, 10, 92)),
        ("oval", "deep", (4, 4, 74, 22)),
    ),
}
NAMES = tuple(f"{color} {kind}" for color in COLORS for kind in KINDS)
FIXED: Mapping[str, Rgb] = {
    "glass": (190, 226, 242),
    "lamp": (255, 240, 170),
    "tyre": (48, 48, 54),
    "steel": (206, 208, 212),
    "wood": (132, 88, 52),
}

# for each place: colours of sky or wall at the top and the horizon, of ground or floor at the horizon and the bottom
PLACES: Mapping[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {
    "park": ((158, 196, 224), (208, 226, 232), (172, 198, 148), (128, 160, 112)),
    "beach": ((132, 190, 206), (190, 222, 224), (226, 208, 168), (198, 172, 128)),
    "room": ((206, 186, 178), (224, 208, 200), (170, 144, 126), (132, 108, 96)),
}


@dataclass(frozen=True)
class Background:
    """How to draw a place: horizon (0–1 from the top), warmth (−1 to 1), light (0–1), seed of the texture."""

    place: str
    horizon: float
    warmth: float
    light: float
    grain: int


@lru_cache(maxsize=512)
def sprite_image(color: str, kind: str, side_px: int) -> Image.Image:
    """RGBA image of an object whose longer side has `side_px` pixels. It touches every edge of the canvas."""
    master = _master(color, kind)
    scale = side_px / max(master.size)
    size = tuple(max(1, round(side * scale)) for side in master.size)
    image = master.resize(size, Image.Resampling.BOX)
    image.putalpha(image.getchannel("A").point(lambda a: 0 if a < 24 else a))
    return image.crop(image.getbbox())


@lru_cache(maxsize=64)
def _master(color: str, kind: str) -> Image.Image:
    base = np.array(COLORS[color], dtype=float)
    roles = {name: np.array(rgb, dtype=float) for name, rgb in FIXED.items()}
    roles |= {
        "fill": base,
        "deep": base * 0.72,
        "pale": base + (255 - base) * 0.42 if color != "white" else base * 0.84,
    }
    edge = tuple((base * 0.42).astype(int)) if color != "white" else (118, 118, 126)
    canvas = Image.new("RGBA", (MASTER_PX, MASTER_PX))
    pen = ImageDraw.Draw(canvas)
    for shape, role, numbers in KINDS[kind]:
        points = [n * MASTER_PX / 100 for n in numbers]
        fill = tuple(roles[role].astype(int))
        if shape == "ring":
            width = MASTER_PX // 8
            pen.ellipse(points, outline=edge, width=width)
            inset = MASTER_PX // 50
            inner = [points[0] + inset, points[1] + inset, points[2] - inset, points[3] - inset]
            pen.ellipse(inner, outline=fill, width=width - 2 * inset)
        elif shape == "oval":
            pen.ellipse(points, fill=fill, outline=edge, width=MASTER_PX // 50)
        else:
            pen.polygon(points, fill=fill)
            if shape == "outline":
                pen.line([*points, *points[:4]], fill=edge, width=MASTER_PX // 50, joint="curve")
    light = Image.linear_gradient("L").resize(canvas.size).point(lambda v: 255 - v // 5)  # lit from above
    shaded = ImageChops.multiply(canvas.convert("RGB"), Image.merge("RGB", [light] * 3))
    shaded.putalpha(canvas.getchannel("A"))
    return shaded.crop(shaded.getbbox())


@lru_cache(maxsize=4)
def background_image(background: Background, size_wh: Size = SIZE_WH) -> Image.Image:
    """RGB image of a place. Light comes from the left and colours change with height, which are cues for position."""
    width, height = size_wh
    top, skyline, ground, bottom = (np.array(c, dtype=float) for c in PLACES[background.place])
    ys = np.linspace(0, 1, height)[:, None]
    horizon = background.horizon
    sky = top + (skyline - top) * (ys / horizon).clip(0, 1)
    floor = ground + (bottom - ground) * ((ys - horizon) / (1 - horizon)).clip(0, 1)
    edge = ((ys - horizon) * height / 2 + 0.5).clip(0, 1)  # a soft line two pixels wide
    column = sky * (1 - edge) + floor * edge
    image = np.repeat(column[:, None, :], width, axis=1)
    image += (0.5 - np.linspace(0, 1, width))[None, :, None] * 26 * background.light
    image += np.array([7, 0, -7]) * background.warmth
    rng = np.random.default_rng(background.grain)
    clouds = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).resize(size_wh, Image.Resampling.BICUBIC)
    image += (np.asarray(clouds, dtype=float)[..., None] - 128) / 26
    smooth = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    return smooth.filter(ImageFilter.SMOOTH)
