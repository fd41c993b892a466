"""A trace as a film: the frames in the order in which the reasoning names them, boxes as they are named, words below.

Pure: pictures in, an animated GIF out. Knows nothing of widgets or models.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from o3v import files
from o3v.evidence import strip_tags
from o3v.viz.boxes import INK, LabelledBox, claim_colours, draw_boxes, font, short_name
from o3v.viz.trace import frame_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from o3v.evidence import Response
    from o3v.video.frames import Frames

WIDTH_PX, TEXT_PX, LINES = 420, 15, 6  # of the film; lines of text under the picture
FIRST_MS, CLAIM_MS, ANSWER_MS = 350, 1400, 2600
CLAIMS = 12  # shown one by one; later ones are only text


def write_gif(path: Path | str, frames: Frames, response: Response, question: str = "") -> Path:
    """Writes an animated GIF: the frames run by, then each claim's frame with its box, then the answer.

    Boxes are in pixels of the frames; claims outside of the video are skipped. Raises ValueError without a frame.
    """
    if not len(frames.images):
        raise ValueError("there is no frame to make a film of")
    colours = claim_colours(claim.name for claim in response.claims)
    pictures = [_picture(frames, i, (), f"{question}\n") for i in range(len(frames.images))]
    lasts_ms = [FIRST_MS] * len(pictures)
    shown, at = [], len(frames.images) - 1
    for claim in response.claims[:CLAIMS]:
        index = frame_of(claim, frames)
        if index is None:
            continue
        shown = [
            *(shown if index == at else []),
            *(LabelledBox(claim.name, b, colours[claim.name]) for b in claim.boxes),
        ]
        at = index
        moment = "" if claim.time_s is None else f" at {claim.time_s:g} s"
        said = strip_tags(response.text[max(0, claim.start - 120) : claim.start]).strip()
        pictures.append(_picture(frames, at, shown, f"{question}\n… {said[-90:]} {short_name(claim.name)}{moment}"))
        lasts_ms.append(CLAIM_MS)
    answer = short_name((response.answer or "no answer").strip(), 160)
    pictures.append(_picture(frames, at, shown, f"{question}\nAnswer: {answer}"))
    lasts_ms.append(ANSWER_MS)
    few = [picture.quantize(64) for picture in pictures]
    with files.atomic_path(Path(path)) as unfinished:
        few[0].save(unfinished, format="gif", save_all=True, append_images=few[1:], duration=lasts_ms, loop=0)
    return Path(path)


def _picture(frames: Frames, index: int, boxes: Sequence[LabelledBox], words: str) -> Image.Image:
    """A frame with its boxes, its time, and words under it; every picture of a film has one size."""
    image = frames.images[index]
    drawn = draw_boxes(image, boxes, WIDTH_PX / image.shape[1])
    height = drawn.height + LINES * (TEXT_PX + 5) + 14
    picture = Image.new("RGB", (WIDTH_PX, height), "#FFFFFF")
    picture.paste(drawn, (0, 0))
    pen = ImageDraw.Draw(picture)
    lines = [f"{frames.times_s[index]:.1f} s"]
    for part in words.split("\n"):
        lines += textwrap.wrap(part, 54)
    for n, line in enumerate(lines[:LINES]):
        pen.text((8, drawn.height + 6 + n * (TEXT_PX + 5)), line, fill=INK, font=font(TEXT_PX))
    return picture
