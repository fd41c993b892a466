"""Short clips for pretraining: drawn frames and crops of scenes, with their truth.

Drawn at the size that the model sees and never encoded. The scenes lie beyond those that any row asks about, with
films of one to four minutes in the share that the `eval` split holds. Knows nothing of models or of words.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from tqdm.auto import tqdm

from o3v import toyworld, video
from o3v.config import FrameConfig
from o3v.geometry import Size, fit_size, rescale_box
from o3v.toyworld.questions import image_facts, time_facts, video_facts
from o3v.toyworld.scene_view import Fact
from o3v.video.image import letterbox

FIRST_SCENE = 1_000_000  # scenes before it may be those of rows and items
CROPS = 4  # of things, for each clip
EMPTY_CROPS = 2  # of background

PixelBox = tuple[int, ...]
Boxes = dict[str, PixelBox]


@dataclass(frozen=True)
class Clip:
    """One scene as the model sees it.

    images (n, height, width, 3) uint8 with their times in seconds and boxes in pixels by name. The first
    `uniform` are evenly spread, as at inference; then come half as many at random times, then the one that
    `image_facts` ask about. crops (c, height, width, 3) with the name of what each shows, "" for background.
    `place` is a key of `synth_draw.PLACES`.
    """

    scene_id: str
    images: np.ndarray
    times_s: tuple[float, ...]
    boxes_px: tuple[Boxes, ...]
    uniform: int
    duration_s: float
    fps: int
    spans_s: dict[str, tuple[float, float]]
    video_facts: tuple[Fact, ...]
    time_facts: tuple[Fact, ...]
    image_facts: tuple[Fact, ...]
    crops: np.ndarray
    crop_names: tuple[str, ...]
    place: str

    @property
    def size_wh(self) -> Size:
        return self.images.shape[2], self.images.shape[1]


def draw_clips(
    count: int, frames: FrameConfig, seed: int, split: str = "sft", workers: int = 2, progress: bool = True
) -> list[Clip]:
    """The first `count` clips of a split. The same arguments give the same clips, whatever the number of workers."""
    draw = functools.partial(draw_clip, frames=frames, seed=seed, split=split)
    bar = functools.partial(tqdm, total=count, desc="drawing", disable=not progress, mininterval=5)
    if workers <= 1:
        return list(bar(map(draw, range(count))))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:  # a notebook's process has threads
        return list(bar(pool.map(draw, range(count), chunksize=32)))


def draw_clip(number: int, frames: FrameConfig, seed: int, split: str = "sft") -> Clip:
    """Clip number `number` of a split."""
    index = FIRST_SCENE + toyworld.mixed_index(split, number)
    scene = toyworld.make_scene(split, index, seed)
    rng = np.random.default_rng([seed, toyworld.SPLITS.index(split), number, 1])
    uniform = video.uniform_indices(scene.n_frames, frames.n_frames)
    asked = image_facts(scene)
    picked = [
        *uniform.tolist(),
        *np.sort(rng.choice(scene.n_frames, len(uniform) // 2, replace=False)).tolist(),
        asked[0].shown[0][1],
    ]
    size_wh = fit_size(scene.size_wh, frames.max_pixels)
    drawn = [toyworld.draw_frame(scene, i) for i in picked]
    boxes = [
        {name: tuple(round(v) for v in rescale_box(box, (1, 1), size_wh)) for name, box in scene.boxes_at(i).items()}
        for i in picked
    ]
    crops, names = _crops(scene, drawn, picked, size_wh, rng)
    return Clip(
        scene.scene_id,
        np.stack([video.resize(frame, size_wh) for frame in drawn]),
        tuple(scene.frame_time_s(i) for i in picked),
        tuple(boxes),
        len(uniform),
        scene.duration_s,
        scene.fps,
        {sprite.name: sprite.span_s for sprite in scene.sprites},
        tuple(video_facts(scene)),
        tuple(time_facts(scene)),
        tuple(asked),
        crops,
        names,
        scene.background.place,
    )


def _crops(
    scene: toyworld.Scene, drawn: Sequence[np.ndarray], picked: Sequence[int], size_wh: Size, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Crops of things by boxes that are a few pixels off, and of places where there is nothing."""
    found = [(n, i, box) for n, i in enumerate(picked) for box in scene.boxes_at(i).items()]
    crops, names = [], []
    for at in rng.permutation(len(found))[:CROPS]:
        n, _, (name, box) = found[at]
        box_px = np.array(rescale_box(box, (1, 1), scene.size_wh))
        crops.append(letterbox(video.crop(drawn[n], _shaken(box_px, scene.size_wh, rng)), size_wh))
        names.append(name)
    for _ in range(EMPTY_CROPS):
        n = int(rng.integers(len(picked)))
        tracks = [track[picked[n]] for track in scene.tracks_px.values()]
        for _ in range(20):
            corner, size = rng.uniform(0, 0.75, 2), rng.uniform(0.2, 0.4, 2)
            box_px = np.concatenate([corner, np.minimum(corner + size, 1)]) * (*scene.size_wh, *scene.size_wh)
            if all(_overlap(box_px, track) <= 0 for track in tracks):
                crops.append(letterbox(video.crop(drawn[n], box_px), size_wh))
                names.append("")
                break
    return np.stack(crops), tuple(names)


def _shaken(box_px: np.ndarray, size_wh: Size, rng: np.random.Generator) -> np.ndarray:
    """The box as a model may have it: every side off by up to a twelfth."""
    width, height = box_px[2] - box_px[0], box_px[3] - box_px[1]
    off = rng.uniform(-1, 1, 4) * (width, height, width, height) / 12
    return np.clip(box_px + off, 0, (*size_wh, *size_wh))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min())
