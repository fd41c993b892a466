"""Is the evidence what the answer rests on? Takes it away or falsifies it, and looks whether the answer changes.

Frames: those nearest to the claimed times are removed, against as many at random (paper, table 6); the claimed boxes
are blurred, or all around them. Thinking: the claimed times are shifted, or the boxes exchanged, and the model goes on
from there. Only the first is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from o3v import evidence, video
from o3v.evaluation.bootstrap import mean_with_interval
from o3v.evaluation.vstar import judge_exact
from o3v.evidence import Response, parse_response
from o3v.geometry import Box, clip_box, rescale_box
from o3v.models.vlm import VideoModel, batches, generate
from o3v.prompts import Prompt, select_frames

BLUR_FACTOR = 8  # a blurred picture is one scaled down so many times and up again

Perturbation = Callable[[Prompt, Response, np.random.Generator], Prompt | None]  # None where there is nothing to change


@dataclass(frozen=True)
class Trial:
    """A question asked twice: as it is, and changed. `truth` is the right answer."""

    change: str
    before: str
    after: str
    truth: str


def claimed_frames(prompt: Prompt, response: Response) -> list[int]:
    """Positions of the frames nearest to the claimed times, in order, none twice."""
    times_s = np.array(prompt.times_s)
    return sorted({int(np.abs(times_s - time_s).argmin()) for time_s in response.times_s})


def remove_claimed_frames(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Without the frames nearest to the claimed times."""
    return _without(prompt, claimed_frames(prompt, response))


def remove_random_frames(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Without as many frames, any of them."""
    count = len(claimed_frames(prompt, response))
    return _without(prompt, rng.choice(len(prompt.times_s), count, replace=False).tolist())


def _without(prompt: Prompt, gone: Sequence[int]) -> Prompt | None:
    kept = [i for i in range(len(prompt.times_s)) if i not in gone]
    return select_frames(prompt, kept) if gone and kept else None


def blur_inside_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """With the claimed boxes blurred, each in the frame nearest to its time."""
    return _blurred(prompt, response, inside=True)


def blur_outside_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """With all but the claimed boxes blurred in those frames."""
    return _blurred(prompt, response, inside=False)


def _blurred(prompt: Prompt, response: Response, inside: bool) -> Prompt | None:
    height, width = prompt.images[0].shape[:2]
    times_s, boxes = np.array(prompt.times_s), {}
    for claim in response.claims:
        if claim.time_s is not None:
            at = int(np.abs(times_s - claim.time_s).argmin())
            found = [
                clip_box(rescale_box(box, prompt.space_wh, (width, height)), (width, height)) for box in claim.boxes
            ]
            boxes.setdefault(at, []).extend(found)
    images = list(prompt.images)
    for at, found in boxes.items():
        mask = np.zeros((height, width, 1), bool)
        for x0, y0, x1, y1 in (map(round, clip_box(box, (width, height))) for box in found):
            mask[y0:y1, x0:x1] = True
        small = video.resize(images[at], (max(1, width // BLUR_FACTOR), max(1, height // BLUR_FACTOR)))
        images[at] = np.where(mask == inside, video.resize(small, (width, height)), images[at])
    return replace(prompt, images=images) if boxes else None


def shift_times(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Going on from a thinking whose times all lie half a film later, round its end."""
    if not response.think or not response.times_s or not prompt.duration_s:
        return None
    half = prompt.duration_s / 2
    return _thinking(prompt, evidence.map_times(response.think, lambda t: round((t + half) % prompt.duration_s, 1)))


def exchange_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Going on from a thinking in which each box has the place of the next."""
    boxes = [box for claim in response.claims for box in claim.boxes]
    if not response.think or len(set(boxes)) < 2:
        return None
    turned: Iterator[Box] = iter([*boxes[1:], boxes[0]])
    return _thinking(prompt, evidence.map_boxes(response.think, lambda box: next(turned, box)))


def _thinking(prompt: Prompt, think: str) -> Prompt:
    return replace(prompt, response_prefix=evidence.begin_answer(think))


PERTURBATIONS: Mapping[str, Perturbation] = {
    "claimed frames removed": remove_claimed_frames,
    "random frames removed": remove_random_frames,
    "blurred inside the boxes": blur_inside_boxes,
    "blurred outside the boxes": blur_outside_boxes,
    "claimed times shifted": shift_times,
    "boxes exchanged": exchange_boxes,
}


def run_trials(
    vlm: VideoModel, prompts: Sequence[Prompt], truths: Sequence[str], longest: int, batch: int, seed: int = 0
) -> list[Trial]:
    """Asks each question as it is and with every change that its response allows; greedy."""
    said = [parse_response(text) for text in _answer(vlm, prompts, longest, batch)]
    trials = []
    for number, (name, change) in enumerate(PERTURBATIONS.items()):
        rng = np.random.default_rng([seed, number])
        changed = [change(prompt, response, rng) for prompt, response in zip(prompts, said, strict=True)]
        asked = [i for i, prompt in enumerate(changed) if prompt is not None]
        texts = _answer(vlm, [changed[i] for i in asked], longest, batch)
        for i, text in zip(asked, texts, strict=True):
            after = parse_response(changed[i].response_prefix + text)
            trials.append(Trial(name, _told(said[i]), _told(after), truths[i]))
    return trials


def _answer(vlm: VideoModel, prompts: Sequence[Prompt], longest: int, batch: int) -> list[str]:
    return [text for part in batches(prompts, batch) for text in generate(vlm, part, longest)]


def _told(response: Response) -> str:
    return (response.text if response.answer is None else response.answer).strip()


def trial_table(trials: Sequence[Trial], seed: int = 0) -> list[dict[str, object]]:
    """A row a change: how many questions, the share of changed answers and of right ones, with 95% intervals.

    NaN where no response allowed the change.
    """
    rows = []
    for name in PERTURBATIONS:
        part = [trial for trial in trials if trial.change == name]
        values = {
            "changed": [judge_exact(t.after, t.before) < 2 for t in part],
            "right before": [judge_exact(t.before, t.truth) >= 2 for t in part],
            "right after": [judge_exact(t.after, t.truth) >= 2 for t in part],
        }
        told: dict[str, object] = {"change": name, "n": len(part)}
        for key, found in values.items():
            mean = mean_with_interval(np.array(found, float), [""] * len(found), seed)
            span = f"{mean.low:.2f}–{mean.high:.2f}" if part else "–"
            told |= {key: mean.value if part else float("nan"), f"{key}, 95%": span}
        rows.append(told)
    return rows
