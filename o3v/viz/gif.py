"""A response as an animated GIF: the frames in the order of its claims, with the claimed boxes and the text below.

Pure: frames in, a GIF file out. Does not know widgets or models.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from o3v import files
from o3v.evidence import strip_tags
from o3v.viz.boxes import INK, LabelledBox, claim_colours, draw_boxes, font, short_name
from o3v.viz.plots import frame_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from o3v.evidence import Response
    from o3v.video.frames import Frames

WIDTH_PX, TEXT_PX, MAX_LINES = 420, 15, 6  # width of the GIF, height of letters, lines of text below a frame
FRAME_MS, CLAIM_MS, ANSWER_MS = 350, 1400, 2600
MAX_CLAIMS = 12  # claims shown one by one; later ones are left out


def write_gif(path: Path | str, frames: Frames, response: Response, question: str = "") -> Path:
    """Writes an animated GIF: all frames, then the frame of each claim with its boxes, then the answer.

    Boxes are in pixels of the frames. Claims outside the video are skipped. Raises ValueError when there is no frame.
    """
    if not len(frames.images):
        raise ValueError("there is no frame to show in a GIF")
    colours = claim_colours(claim.name for claim in response.claims)
    images = [_caption_frame(frames, i, (), f"{question}\n") for i in range(len(frames.images))]
    durations_ms = [FRAME_MS] * len(images)
    boxes, current = [], len(frames.images) - 1
    for claim in response.claims[:MAX_CLAIMS]:
        index = frame_of(claim, frames)
        if index is None:
            continue
        added = [LabelledBox(claim.name, box, colours[claim.name]) for box in claim.boxes]
        boxes, current = [*(boxes if index == current else []), *added], index
        moment = "" if claim.time_s is None else f" at {claim.time_s:g} s"
        before = strip_tags(response.text[max(0, claim.start - 120) : claim.start]).strip()
        text = f"{question}\n… {before[-90:]} {short_name(claim.name)}{moment}"
        images.append(_caption_frame(frames, current, boxes, text))
        durations_ms.append(CLAIM_MS)
    answer = short_name((response.answer or "no answer").strip(), 160)
    images.append(_caption_frame(frames, current, boxes, f"{question}\nAnswer: {answer}"))
    durations_ms.append(ANSWER_MS)
    first, *rest = [image.quantize(64) for image in images]
    with files.atomic_path(Path(path)) as unfinished:
        first.save(unfinished, format="gif", save_all=True, append_images=rest, duration=durations_ms, loop=0)
    return Path(path)


def _caption_frame(frames: Frames, index: int, boxes: Sequence[LabelledBox], text: str) -> Image.Image:
    """A frame with its boxes, its time and text below it. All results for one video have the same size."""
    frame = frames.images[index]
    drawn = draw_boxes(frame, boxes, WIDTH_PX / frame.shape[1])
    image = Image.new("RGB", (WIDTH_PX, drawn.height + MAX_LINES * (TEXT_PX + 5) + 14), "#FFFFFF")
    image.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(image)
    lines = [f"{frames.times_s[index]:.1f} s"]
    for part in text.split("\n"):
        lines += textwrap.wrap(part, 54)
    for n, line in enumerate(lines[:MAX_LINES]):
        draw.text((8, drawn.height + 6 + n * (TEXT_PX + 5)), line, fill=INK, font=font(TEXT_PX))
    return image
