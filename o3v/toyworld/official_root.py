"""Writes a small data root in the layout of the real STGR and V-STAR downloads, with all sources and some broken rows.

For tests and the profile `rehearsal`: the file names, the folders of each source, the paths relative to them and the
names of the sources are the real ones; a moving red block replaces the videos. Rows and boxes are exact. A stated
share of the rows is broken, each in one of `BREAKAGES`. Layout: README of the public code (`json_data/`, `videos/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from o3v import files
from o3v.data.sources import SOURCES, Source
from o3v.schema import Row, Task
from o3v.toyworld.writing import write_video

SIZE_WH, FPS, DURATION_S = (112, 84), 4, 12.0  # of a video; the filters by source want 10 s to 3 min
IMAGE_WH = (160, 120)
MEDIA_PER_SOURCE = 2
SPAN_S, KEY_TIMES_S = (2.0, 6.0), (2.0, 4.5)
BLOCK_WH = (0.25, 0.3)  # share of the frame
VSTAR = "V-STaR"  # folder of the V-STAR files below the root


@dataclass(frozen=True)
class RootSummary:
    """What `write_root` wrote. `broken` maps the file name and the id of each broken row to its kind of breakage."""

    data_root: Path
    vstar_root: Path
    rows: Mapping[str, int]
    broken: Mapping[tuple[str, str], str]


def write_root(
    root: Path | str, rows: int = 60, broken_share: float = 0.0, seed: int = 0, vstar_items: int = 4
) -> RootSummary:
    """Writes `json_data/STGR-SFT.json`, `json_data/STGR-RL.json`, their media, and `V-STaR/` with its test file.

    The same arguments give the same bytes.

    Args:
        root: folder to write to.
        rows: rows of each STGR file; from 60 rows on, every source occurs under each of its names.
        broken_share: share of the rows of each file that are broken, rounded; the kinds take turns.
        seed: moves the block and chooses the broken rows.
        vstar_items: rows of V-STAR's test file; none of them is broken.

    Raises ValueError for a count below 1 and for a share outside of 0–1.
    """
    if min(rows, vstar_items) < 1 or not 0 <= broken_share <= 1:
        raise ValueError(f"rows {rows}, items {vstar_items}, share {broken_share}: at least 1, and a share in 0–1")
    root, rng, counts, broken = Path(root), np.random.default_rng(seed), {}, {}
    kinds = list(BREAKAGES)
    for split, name in (("sft", "STGR-SFT.json"), ("rl", "STGR-RL.json")):
        written = list(_rows(root, split, rows, seed))
        chosen = sorted(rng.choice(rows, round(broken_share * rows), replace=False).tolist())
        for turn, index in enumerate(chosen):
            kind = kinds[turn % len(kinds)]
            broken[name, written[index]["id"]] = kind
            written[index] = BREAKAGES[kind](root, written[index])
        files.write_text(root / "json_data" / name, json.dumps(written))
        counts[name] = rows
    items = [_vstar_item(root / VSTAR, number, seed) for number in range(vstar_items)]
    files.write_text(root / VSTAR / "V_STaR_test.json", json.dumps(items))
    return RootSummary(root, root / VSTAR, counts | {"V_STaR_test.json": vstar_items}, broken)


def _rows(root: Path, split: str, number: int, seed: int) -> Iterator[Row]:
    sources = [source for source in SOURCES if getattr(source, split)]
    for index in range(number):
        source = sources[index % len(sources)]
        copy = index // len(sources)
        row = _row(root, source, split, copy, seed)
        row |= {"id": f"{row['source']}_{split}_{copy}"}
        yield row if split == "sft" else {name: value for name, value in row.items() if name != "reasoning_process"}


def _row(root: Path, source: Source, split: str, copy: int, seed: int) -> Row:
    """A row of a source; its path starts at the source's folder, as in the real files."""
    name = source.names[copy % len(source.names)].replace("*", "rl" if split == "rl" else "coldstart")
    task, medium = source.task, copy % MEDIA_PER_SOURCE
    row = {"source": name, "task": str(task), "video_path": None, "image_path": None, "image_size": None}
    row |= {"key_frames": [], "key_items": {}}
    if task is Task.SPATIAL:
        path = f"{'images/' if name == 'TreeVGR' else ''}p{medium}.jpg"
        _image(root / "videos" / source.folder / path, medium + seed)
        box = [round(v * side) for v, side in zip(_box(0.0, medium + seed), IMAGE_WH * 2, strict=True)]
        claim = f"<obj>block</obj><box>{json.dumps(box)}</box>"
        texts = {"question": "Where is the block?", "answer": claim, "reasoning_process": f"There is the {claim}."}
        return row | texts | {"image_path": path, "image_size": list(IMAGE_WH)}
    path = f"{'GroundedVLLM/' if source.folder == 'tvg_r1' else name + '/'}clip{medium}.mp4"
    phase = medium + seed
    _video(root / "videos" / source.folder / path, phase)
    row |= {"video_path": path, **_TEXTS[task]}
    if task is Task.SPATIO_TEMPORAL:
        row |= _evidence(root / "videos" / source.key_frames, f"{name}/clip{medium}", phase)
    return row


_FORM = "<obj>red block</obj><box>{box}</box>at<t>{time}</t>s"
_SPAN = json.dumps(list(SPAN_S))
_COLOURS = "Which colour has the block? A. red B. blue C. green"
_TEXTS: Mapping[Task, Row] = {
    Task.TEMPORAL: {
        "question": "When does the lamp shine?",
        "answer": _SPAN,
        "reasoning_process": f"It goes on at <t>{SPAN_S[0]}</t>s and off at <t>{SPAN_S[1]}</t>s.",
    },
    Task.TEMPORAL_MCQ: {"question": f"{_COLOURS} When does the lamp shine?", "answer": f"A\n{_SPAN}"},
    Task.SPATIO_TEMPORAL: {"question": "What is the red block doing?", "answer": "It moves to the right."},
    Task.MCQ: {"question": _COLOURS, "answer": "A", "reasoning_process": "The block is red all the time."},
    Task.FREE_FORM: {"question": "Which colour?", "answer": "red", "reasoning_process": "The block is red."},
}


def _evidence(folder: Path, stem: str, phase: int) -> Row:
    """Key frames with their images, boxes and a chain that claims them."""
    frames, items, claims = [], {}, []
    for time_s in KEY_TIMES_S:
        idx, box = int(time_s * FPS), [round(v, 3) for v in _box(time_s, phase)]
        path = f"{stem}_{idx}.jpg"
        _save(folder / path, _frame(time_s, phase, SIZE_WH))
        frames.append({"idx": idx, "time": time_s, "path": path})
        items[str(idx)] = {"red block": [box]}
        claims.append(_FORM.format(box=json.dumps(box), time=time_s))
    chain = f"I see the {claims[0]}, then the {claims[1]}, further to the right."
    return {"key_frames": frames, "key_items": items, "reasoning_process": chain}


def _box(time_s: float, phase: int) -> tuple[float, float, float, float]:
    """The block's box at a time, in 0–1: it moves to the right, at a height that the phase sets."""
    x, y = 0.05 + 0.6 * time_s / DURATION_S, 0.1 + 0.1 * (phase % 5)
    return x, y, x + BLOCK_WH[0], y + BLOCK_WH[1]


def _frame(time_s: float, phase: int, size_wh: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8 RGB: a grey field, the red block, and a lamp in the corner that shines in the span."""
    width, height = size_wh
    image = np.full((height, width, 3), 90 + 20 * (phase % 5), np.uint8)
    x0, y0, x1, y1 = (round(v * side) for v, side in zip(_box(time_s, phase), size_wh * 2, strict=True))
    image[y0:y1, x0:x1] = (220, 30, 30)
    image[-12:, -12:] = 255 if SPAN_S[0] <= time_s < SPAN_S[1] else 0
    return image


def _video(path: Path, phase: int) -> None:
    if not path.exists():
        write_video(path, (_frame(n / FPS, phase, SIZE_WH) for n in range(int(DURATION_S * FPS))), FPS)


def _image(path: Path, phase: int) -> None:
    _save(path, _frame(0.0, phase, IMAGE_WH))


def _save(path: Path, image: np.ndarray) -> None:
    if not path.exists():
        with files.atomic_path(path) as unfinished:
            Image.fromarray(image).save(unfinished, quality=90)


def _vstar_item(root: Path, number: int, seed: int) -> Row:
    """An item of V-STAR: its `vid` has no ending, and its video lies two folders below the root."""
    vid, phase = f"v{number:04d}", number + seed
    _video(root / f"videos/part{number % 2}/{vid}.mp4", phase)
    (width, height), boxes = SIZE_WH, []
    for second in range(int(SPAN_S[0]), int(SPAN_S[1]) + 1):
        x0, y0, x1, y1 = (round(v * side, 1) for v, side in zip(_box(second, phase), SIZE_WH * 2, strict=True))
        moment = {"timestamp": second, "frame_index": second * FPS}
        boxes.append(moment | {"xmin": x0, "ymin": y0, "xmax": x1, "ymax": y1})
    return {
        "vid": vid,
        "domain": ("Sports", "Animals")[number % 2],
        "fps": float(FPS),
        "width": width,
        "height": height,
        "frame_count": int(DURATION_S * FPS),
        "question": "What moves?",
        "chain": "",
        "object": "red block",
        "answer": "red block",
        "temporal_question": "When does the lamp shine?",
        "timestamps": list(SPAN_S),
        "spatial_question": "Where is the red block?",
        "spatial_question_2": "Where is the red block?",
        "bboxes": boxes,
    }


def _medium(row: Row) -> str:
    return "image_path" if row["image_path"] else "video_path"


def _missing(root: Path, row: Row) -> Row:
    path = Path(row[_medium(row)])
    return row | {_medium(row): str(path.with_name(f"missing-{path.name}"))}


def _spoiled(root: Path, row: Row, data: Callable[[bytes], bytes], name: str) -> Row:
    """The row with a medium of its own, whose content is changed."""
    source = next(s for s in SOURCES if s.fits(row["source"]))
    path = Path(row[_medium(row)])
    copy = path.with_name(f"{name}-{row['id']}{path.suffix}")
    folder = root / "videos" / source.folder
    with files.atomic_path(folder / copy) as unfinished:
        unfinished.write_bytes(data((folder / path).read_bytes()))
    return row | {_medium(row): str(copy)}


def _damaged(data: bytes) -> bytes:
    """A video that opens, with frames that cannot be decoded: its last third is overwritten; an image is cut."""
    start = data.find(b"mdat")
    if start < 0:
        return data[: len(data) // 2]
    end = start + int.from_bytes(data[start - 4 : start], "big") - 4
    middle = start + (end - start) // 2
    return data[:middle] + b"\xff" * (end - middle) + data[end:]


# what happens to media and rows of real downloads; each kind makes a broken row out of a good one
BREAKAGES: Mapping[str, Callable[[Path, Row], dict[str, Any]]] = {
    "medium missing": _missing,
    "frames damaged": lambda root, row: _spoiled(root, row, _damaged, "damaged"),
    "no medium": lambda root, row: _spoiled(root, row, lambda data: b"<html>404</html>", "page"),
    "no answer": lambda root, row: row | {"answer": ""},
}
