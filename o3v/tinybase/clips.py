"""Short clips for pretraining: rendered frames and crops of scenes, with their ground truth.

Frames are rendered at the size that the model sees and are never encoded as video. The scene indices start after those
of all dataset rows. Clips of one to four minutes have the same share as in the `eval` split. This module does not know
about models or about the wording of questions. Not part of the paper.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from o3v import toyworld, video
from o3v.config import FrameConfig
from o3v.geometry import Size, fit_size, rescale_box
from o3v.processes import worker_pool
from o3v.toyworld.questions import image_facts, time_facts, video_facts
from o3v.toyworld.scene_view import Fact
from o3v.video.image import letterbox

FIRST_SCENE = 1_000_000  # scenes with a lower index may belong to dataset rows
OBJECT_CROPS = 4  # per clip
BACKGROUND_CROPS = 2  # per clip, at most

PixelBox = tuple[int, ...]
Boxes = dict[str, PixelBox]


@dataclass(frozen=True)
class Clip:
    """One scene as the model sees it, with n frames and c crops.

    The first `n_uniform` frames are evenly spaced, as at inference; then come half as many frames at random times, then
    the frame of `image_facts`.
    """

    scene_id: str
    images: np.ndarray  # (n, height, width, 3) uint8
    times_s: tuple[float, ...]  # of each frame
    boxes_px: tuple[Boxes, ...]  # of each frame: (x0, y0, x1, y1) of the visible objects by name
    n_uniform: int
    duration_s: float
    fps: int
    spans_s: dict[str, tuple[float, float]]  # when each object is visible, (start, end) by name
    video_facts: tuple[Fact, ...]
    time_facts: tuple[Fact, ...]
    image_facts: tuple[Fact, ...]
    crops: np.ndarray  # (c, height, width, 3) uint8
    crop_names: tuple[str | None, ...]  # the object of each crop, None for background
    place: str  # kind of background, a key of `toyworld.PLACES`

    @property
    def size_wh(self) -> Size:
        return self.images.shape[2], self.images.shape[1]


def draw_clips(
    count: int, frames: FrameConfig, seed: int, split: str = "sft", workers: int = 2, progress: bool = True
) -> list[Clip]:
    """Renders the first `count` clips of a split. The number of workers does not change the clips.

    Args:
        count: number of clips.
        frames: number of uniform frames and largest frame size in pixels.
        seed: seed of the scenes and of the random frames and crops.
        split: name of the split, one of `toyworld.SPLITS`.
        workers: number of processes; 1 renders in this process.
        progress: whether to show a progress bar.
    """
    draw = functools.partial(draw_clip, frames=frames, seed=seed, split=split)
    bar = functools.partial(tqdm, total=count, desc="drawing", disable=not progress, mininterval=5)
    if workers <= 1:
        return list(bar(map(draw, range(count))))
    with worker_pool(workers) as pool:
        return list(bar(pool.map(draw, range(count), chunksize=32)))


def draw_clip(number: int, frames: FrameConfig, seed: int, split: str = "sft") -> Clip:
    """Renders the clip with this number, counted from 0, of a split. Arguments as in `draw_clips`."""
    scene = toyworld.make_scene(split, FIRST_SCENE + toyworld.mixed_index(split, number), seed)
    rng = np.random.default_rng([seed, toyworld.SPLITS.index(split), number, 1])
    uniform = video.uniform_indices(scene.n_frames, frames.n_frames)
    facts_of_image = image_facts(scene)
    indices = [
        *uniform.tolist(),
        *np.sort(rng.choice(scene.n_frames, len(uniform) // 2, replace=False)).tolist(),
        facts_of_image[0].shown[0][1],
    ]
    size_wh = fit_size(scene.size_wh, frames.max_pixels)
    images = [toyworld.draw_frame(scene, i) for i in indices]
    boxes_px = [
        {name: tuple(round(v) for v in rescale_box(box, (1, 1), size_wh)) for name, box in scene.boxes_at(i).items()}
        for i in indices
    ]
    crops, crop_names = _draw_crops(scene, images, indices, size_wh, rng)
    return Clip(
        scene.scene_id,
        np.stack([video.resize(image, size_wh) for image in images]),
        tuple(scene.frame_time_s(i) for i in indices),
        tuple(boxes_px),
        len(uniform),
        scene.duration_s,
        scene.fps,
        {sprite.name: sprite.span_s for sprite in scene.sprites},
        tuple(video_facts(scene)),
        tuple(time_facts(scene)),
        tuple(facts_of_image),
        crops,
        crop_names,
        scene.background.place,
    )


def _draw_crops(
    scene: toyworld.Scene, images: Sequence[np.ndarray], indices: Sequence[int], size_wh: Size, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str | None, ...]]:
    """Crops of objects, by boxes that are a few pixels off, and crops of background, with their names."""
    visible = [(n, name, box) for n, i in enumerate(indices) for name, box in scene.boxes_at(i).items()]
    crops, crop_names = [], []
    for choice in rng.permutation(len(visible))[:OBJECT_CROPS]:
        n, name, box = visible[choice]
        box_px = _jitter(np.array(rescale_box(box, (1, 1), scene.size_wh)), scene.size_wh, rng)
        crops.append(letterbox(video.crop(images[n], box_px), size_wh))
        crop_names.append(name)
    for _ in range(BACKGROUND_CROPS):
        n = int(rng.integers(len(indices)))
        boxes_px = [track[indices[n]] for track in scene.tracks_px.values()]
        for _ in range(20):
            corner, size = rng.uniform(0, 0.75, 2), rng.uniform(0.2, 0.4, 2)
            box_px = np.concatenate([corner, np.minimum(corner + size, 1)]) * (*scene.size_wh, *scene.size_wh)
            if all(_overlap(box_px, other) <= 0 for other in boxes_px):
                crops.append(letterbox(video.crop(images[n], box_px), size_wh))
                crop_names.append(None)
                break
    return np.stack(crops), tuple(crop_names)


def _jitter(box_px: np.ndarray, size_wh: Size, rng: np.random.Generator) -> np.ndarray:
    """Moves each side by up to 1/12 of the box, like the error of a model, and clips the box to the frame."""
    width, height = box_px[2] - box_px[0], box_px[3] - box_px[1]
    shift = rng.uniform(-1, 1, 4) * (width, height, width, height) / 12
    return np.clip(box_px + shift, 0, (*size_wh, *size_wh))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Smaller side of the intersection of two boxes; not positive when they do not intersect."""
    return float((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min())
