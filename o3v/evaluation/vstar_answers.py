"""Reads the boxes of a raw response to V-STAR's *where* questions: evidence grammar, or JSON with the usual damage.

The benchmark asks for `{"3": [x0, y0, x1, y1], …}`. Models write it with code fences, single quotes, comments, commas
at the end, units ("3s") or clock times ("00:03") as keys, several boxes a second, as a list of one-key objects, as
`{"timestamp": 3, "bbox_2d": […]}`, and break it off in the middle. So no JSON parser is used: every complete box counts
for the second named before it. Spans are read in `vstar` and `vstar_times`. This module does not know the scores.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from o3v import evidence, video
from o3v.evaluation.vstar_items import CHAINS, EMPTY, has_size, item_boxes
from o3v.evaluation.vstar_times import clock_s
from o3v.geometry import Box, Size, fit_size, rescale_box
from o3v.schema import Row

# White space is collapsed first, so that each pattern reads at most one space and the scan takes linear time.
_NUMBER = r"[-+]?[0-9]{1,9}+(?:\.[0-9]{0,15}+)?"
_FOUR = r" ?, ?".join([rf"({_NUMBER})"] * 4)
_SECOND = r"[0-9]{1,6}+(?::[0-9]{1,2}+){0,2}(?:\.[0-9]{1,9}+)?"
_SIDES = r" ?, ?".join(rf"[\"']?{side}[\"']? ?: ?({_NUMBER})" for side in ("xmin", "ymin", "xmax", "ymax"))
_PART = re.compile(
    # "3": […   3s: {…   [3, […   — a second and the boxes after it
    rf"(?<![0-9.:])(?P<key>{_SECOND}) ?(?:s|secs?|seconds?)?[\"']? ?[:,] ?(?=[\[({{])(?P<object>{{)?"
    rf"|[\"']?\b(?:time|timestamp|second|sec|t)s?[\"']? ?: ?[\"']?(?P<named>{_SECOND})"  # "timestamp": 3
    rf"|[\[(] ?{_FOUR} ?,? ?[\])]|{_SIDES}|(?P<start>{{)",
    re.IGNORECASE,
)
BOX_SPACES = ("video", "pixels", "thousandths", "shares")


def read_boxes(text: str) -> dict[float, list[Box]]:
    """The boxes of a response by second, in the coordinates of the text; boxes without a second are left out.

    >>> read_boxes('```json\\n{"3": [1, 2, 30, 40], "4s": [[1, 2, 5, 6], [0, 0, 1, 1]], "5": [1, 2')
    {3.0: [(1.0, 2.0, 30.0, 40.0)], 4.0: [(1.0, 2.0, 5.0, 6.0), (0.0, 0.0, 1.0, 1.0)]}
    >>> read_boxes("[{'bbox_2d': [1, 2, 3, 4], 'timestamp': 7}]")
    {7.0: [(1.0, 2.0, 3.0, 4.0)]}
    """
    found: dict[float, list[Box]] = {}
    second, waiting = None, []  # boxes of an object that names its second after them
    for match in _PART.finditer(re.sub(r"\s+", " ", text)):
        if match["start"]:
            second, waiting = None, []
        elif match["key"] or match["named"]:
            second = clock_s(match["key"] or match["named"])
            if match["named"] and waiting:
                found.setdefault(second, []).extend(waiting)
            waiting = []
        else:
            box = tuple(float(side) for side in match.groups() if side is not None)
            if second is None:
                waiting.append(box)
            else:
                found.setdefault(second, []).append(box)
    return found


def space_size(item: Mapping[str, Any], box_space: str, max_pixels: int) -> Size:
    """The size (width, height) of the space in which boxes of an item's response are written.

    `box_space` is one of BOX_SPACES: pixels of the video, pixels of the frame after resizing to at most `max_pixels`
    (Qwen2.5-VL), thousandths (Qwen3-VL) or shares of the frame. Raises ValueError for another name.
    """
    video_wh = (item["width"], item["height"])
    sizes = {
        "video": lambda: video_wh,
        "pixels": lambda: fit_size(video_wh, max_pixels),
        "thousandths": lambda: (1000, 1000),
        "shares": lambda: (1, 1),
    }
    if box_space not in sizes:
        raise ValueError(f"box space {box_space!r} is none of {', '.join(sizes)}")
    return sizes[box_space]()


def spatial_answer(
    response: evidence.Response, space_wh: Sequence[int], item: Row, seconds: Sequence[float], span_given: bool
) -> dict[str, Any]:
    """The boxes of a response by second, in pixels of the original video, as V-STAR's result files hold them.

    Boxes by second in the answer (`read_boxes`) come first. Without them, each annotated second gets the box that the
    thinking claims nearest in time. Claims that name the item's object count; if none does, all claims count.

    Args:
        response: the parsed answer.
        space_wh: size of the box space of the response.
        item: the V-STAR item.
        seconds: the annotated seconds.
        span_given: whether the question gave the true span (chain 1). Otherwise only seconds between the first and
            the last claim are answered.
    """
    to_video = [space_wh, (item["width"], item["height"])]

    def in_video(box: Box) -> list[float]:
        return [round(side, 2) for side in rescale_box(box, *to_video)]

    written = read_boxes(response.text if response.answer is None else response.answer)
    if written:
        boxes = {f"{second:g}": [in_video(box) for box in boxes] for second, boxes in written.items()}
        return {second: several[0] if len(several) == 1 else several for second, several in boxes.items()}
    timed = [claim for claim in response.claims if claim.time_s is not None and claim.boxes]
    claims = [claim for claim in timed if claim.name.strip().lower() == item["object"].strip().lower()] or timed
    if not claims:
        return {}
    times_s = [claim.time_s for claim in claims]
    nearest = {second: claims[video.nearest_frame(times_s, second, math.inf)].boxes[0] for second in seconds}
    first, last = math.floor(min(times_s)), math.ceil(max(times_s))
    return {f"{s:g}": in_video(box) for s, box in nearest.items() if span_given or first <= s <= last}


def read_texts(row: Row, box_space: str, max_pixels: int) -> Row:
    """The row with the boxes that its raw responses (`answer_spatial_pre…`) hold, where it has no read ones.

    `box_space` and `max_pixels` are those of `space_size`. Rows without the size of their video are left as they are.
    """
    read = dict(row)
    for chain in CHAINS if has_size(row) else ():
        text = row.get(f"answer_spatial_pre{chain}")
        if isinstance(text, str) and text and row.get(f"answer_spatial{chain}") in EMPTY:
            space_wh, item = space_size(row, box_space, max_pixels), {"object": "", **row}
            parsed = evidence.parse_response(text)
            read[f"answer_spatial{chain}"] = spatial_answer(parsed, space_wh, item, list(item_boxes(row)), not chain)
    return read
