"""A model as a judge of crops: short questions about one image each, in batches.

The data pipeline asks whether a crop shows the named object; test-time scaling asks how relevant a crop is to a
question. The tiny base expects letterboxed crops of one size, as in its training; a full-size model takes any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from o3v.geometry import Size
from o3v.models.vlm import VideoModel, batches, generate, load
from o3v.models.workers import run_batches
from o3v.prompts import Prompt, plain_prompt
from o3v.video.image import letterbox, resize

MAX_ANSWER_TOKENS = 4  # tokens of an answer


@dataclass(frozen=True)
class CropJudge:
    """Asks `vlm`, `batch_size` crops at a time, in `num_workers` processes (`workers.run_batches`).

    `letterbox_wh` is the size to which crops are padded, None for none.
    """

    vlm: VideoModel
    letterbox_wh: Size | None = None
    batch_size: int = 64
    num_workers: int | None = 1

    def ask(self, crops: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        """The answer to each question about its crop (height, width, 3), as text. As many questions as crops."""
        prompts = []
        for crop, question in zip(crops, questions, strict=True):
            prompts.append(plain_prompt([self.sized(crop)], (), 0.0, question))
        work = partial(generate, self.vlm, max_new_tokens=MAX_ANSWER_TOKENS)
        parts = list(batches(prompts, self.batch_size))
        return [t for texts in run_batches(work, self.vlm, parts, self.num_workers, _describe) for t in texts]

    def sized(self, crop: np.ndarray) -> np.ndarray:
        """A crop as the model gets it: padded to `letterbox_wh`, else enlarged if its family takes no smaller one."""
        if self.letterbox_wh:
            return letterbox(crop, self.letterbox_wh)
        height, width = crop.shape[:2]
        least = self.vlm.family.min_pixels
        return crop if width * height >= least else resize(crop, self.vlm.family.fit((width, height), 4 * least))

    def __call__(self, crops: Sequence[np.ndarray], questions: Sequence[str]) -> list[bool]:
        """Whether each answer begins with yes."""
        return [text.strip().lower().startswith("yes") for text in self.ask(crops, questions)]


@dataclass(frozen=True)
class LazyCropJudge:
    """As `CropJudge`, of a model that each process loads at its first question; picklable.

    `model` is a folder or a hub name.
    """

    model: str
    batch_size: int = 8

    def __call__(self, crops: Sequence[np.ndarray], questions: Sequence[str]) -> list[bool]:
        """Whether each answer begins with yes."""
        return _loaded_judge(self)(crops, questions)


@cache
def _loaded_judge(judge: LazyCropJudge) -> CropJudge:
    return CropJudge(load(judge.model), batch_size=judge.batch_size)


def _describe(part: Sequence[Prompt]) -> str:
    return f"{len(part)} crops"
