"""Short clips for pretraining: drawn frames, their boxes, and what can be said about them in plain words.

Drawn at the size that the model sees and never encoded; the scenes are of the sft split, but none that a row asks
about. No text here holds an evidence tag. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from o3v import prompts, synth, video
from o3v.config import FrameConfig
from o3v.geometry import fit_size, rescale_box

FIRST_SCENE = 1_000_000  # scenes of the sft split that no row asks about


@dataclass(frozen=True)
class Clip:
    """Drawn frames of one scene: images (n, height, width, 3) uint8, times in seconds, boxes in pixels by name."""

    images: np.ndarray
    times_s: tuple[float, ...]
    duration_s: float
    boxes_px: tuple[dict[str, tuple[int, ...]], ...]


def draw_clips(count: int, frames: FrameConfig, seed: int) -> list[Clip]:
    """Scenes of a split of their own, drawn at the size that the model sees, never encoded."""
    clips = []
    for index in tqdm(range(count), desc="drawing", leave=False):
        scene = synth.make_scene("sft", FIRST_SCENE + index, seed)
        picked = video.uniform_indices(scene.n_frames, frames.n_frames).tolist()
        size_wh = fit_size(scene.size_wh, frames.max_pixels)
        images = np.stack([video.resize(synth.draw_frame(scene, i), size_wh) for i in picked])
        boxes = tuple(
            {name: tuple(round(v) for v in rescale_box(box, (1, 1), size_wh)) for name, box in found.items()}
            for found in map(scene.boxes_at, picked)
        )
        clips.append(Clip(images, tuple(scene.frame_time_s(i) for i in picked), scene.duration_s, boxes))
    return clips


def some_frames(clip: Clip, kept: Sequence[int]) -> Clip:
    """The same clip with only those of its frames."""
    times_s, boxes_px = (tuple(values[i] for i in kept) for values in (clip.times_s, clip.boxes_px))
    return Clip(clip.images[kept], times_s, clip.duration_s, boxes_px)


def describe(clip: Clip) -> str:
    """The dense caption: every frame's time and every object in it with its box."""
    return "\n".join(
        f"{time_s:.1f}s: " + ("; ".join(f"{name} {_box(box)}" for name, box in boxes.items()) or "nothing")
        for time_s, boxes in zip(clip.times_s, clip.boxes_px, strict=True)
    )


def questions(clip: Clip, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Plain questions about a clip and their answers, in random order."""
    names = sorted({name for boxes in clip.boxes_px for name in boxes})
    asked = []
    for name in names:
        seen = [i for i, boxes in enumerate(clip.boxes_px) if name in boxes]
        asked.append(
            (f"When is the {name} visible?", f"From {clip.times_s[seen[0]]:.1f}s to {clip.times_s[seen[-1]]:.1f}s")
        )
        at = seen[rng.integers(len(seen))]
        asked.append((f"Where is the {name} at {clip.times_s[at]:.1f}s?", _box(clip.boxes_px[at][name])))
        asked.append((f"At which times is the {name} there?", ", ".join(f"{clip.times_s[i]:.1f}s" for i in seen)))
    yield from (asked[i] for i in rng.permutation(len(asked)))


def _box(box_px: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, box_px)) + "]"


def plain_texts(clips: Iterable[Clip], seed: int) -> list[str]:
    """What the stand-in reads and says, for making a tokenizer."""
    rng = np.random.default_rng(seed)
    said = [text for clip in clips for text in (describe(clip), *(f"{q} {a}" for q, a in questions(clip, rng)))]
    return said + [
        part.get("text", "") for clip in clips for part in prompts.frame_parts(clip.times_s, clip.duration_s)
    ]
