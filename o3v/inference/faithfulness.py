"""Tests whether an answer depends on its evidence: removes or falsifies it, and checks whether the answer changes.

Frames: those nearest to the claimed times are removed, compared with the same number at random (paper, table 6); the
claimed boxes, or everything around them, are blurred. Thinking: the claimed times are shifted or the boxes exchanged,
and the model continues from there. Only the removal of frames is the paper's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from o3v import evidence, video
from o3v.config import InferenceConfig
from o3v.evaluation.bootstrap import PairedChange, mean_with_interval, paired_change
from o3v.evaluation.vstar import judge_exact
from o3v.evidence import Response, parse_response
from o3v.evidence.parsing import SECTION_TAG
from o3v.geometry import Box, clip_box, rescale_box
from o3v.models.vlm import VideoModel, batches, generate
from o3v.models.workers import run_batches
from o3v.prompts import Prompt, select_frames

BLUR_FACTOR = 8  # blurring scales an image down by this factor and up again

# prompt, parsed response, random numbers → changed prompt, or None where nothing can be changed
Perturbation = Callable[[Prompt, Response, np.random.Generator], Prompt | None]


@dataclass(frozen=True)
class Trial:
    """Final answers to one question without and with a perturbation, and the right answer.

    `question` is the position of the question.
    """

    change: str
    before: str
    after: str
    truth: str
    question: int = 0


def claimed_frames(prompt: Prompt, response: Response) -> list[int]:
    """Positions of the frames nearest to the claimed times, sorted, without repeats."""
    return sorted({video.nearest_frame(prompt.times_s, time_s, math.inf) for time_s in response.times_s})


def remove_claimed_frames(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Removes the frames nearest to the claimed times."""
    return _without(prompt, claimed_frames(prompt, response))


def remove_random_frames(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Removes the same number of frames at random."""
    count = len(claimed_frames(prompt, response))
    return _without(prompt, rng.choice(len(prompt.times_s), count, replace=False).tolist())


def _without(prompt: Prompt, removed: Sequence[int]) -> Prompt | None:
    remaining = [i for i in range(len(prompt.times_s)) if i not in removed]
    return select_frames(prompt, remaining) if removed and remaining else None


def blur_inside_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Blurs the claimed boxes, each in the frame nearest to its time."""
    return _blurred(prompt, response, inside=True)


def blur_outside_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Blurs everything but the claimed boxes in those frames."""
    return _blurred(prompt, response, inside=False)


def _blurred(prompt: Prompt, response: Response, inside: bool) -> Prompt | None:
    height, width = prompt.images[0].shape[:2]
    size_wh, boxes_px = (width, height), {}
    for claim in response.claims:
        if claim.time_s is not None:
            index = video.nearest_frame(prompt.times_s, claim.time_s, math.inf)
            found = [clip_box(rescale_box(box, prompt.space_wh, size_wh), size_wh) for box in claim.boxes]
            boxes_px.setdefault(index, []).extend(found)
    images = list(prompt.images)
    for index, found in boxes_px.items():
        mask = np.zeros((height, width, 1), bool)
        for x0, y0, x1, y1 in (map(round, box) for box in found):
            mask[y0:y1, x0:x1] = True
        small = video.resize(images[index], (max(1, width // BLUR_FACTOR), max(1, height // BLUR_FACTOR)))
        images[index] = np.where(mask == inside, video.resize(small, size_wh), images[index])
    return replace(prompt, images=images) if boxes_px else None


def shift_times(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Continues from a thinking whose times are shifted by half the video, modulo its length."""
    if not response.think or not response.times_s or not prompt.duration_s:
        return None
    half = prompt.duration_s / 2
    return _thinking(prompt, evidence.map_times(response.think, lambda t: round((t + half) % prompt.duration_s, 1)))


def exchange_boxes(prompt: Prompt, response: Response, rng: np.random.Generator) -> Prompt | None:
    """Continues from a thinking in which each box is replaced by the next one."""
    boxes = [box for claim in response.claims for box in claim.boxes]
    if not response.think or len(set(boxes)) < 2:
        return None
    following: Iterator[Box] = iter([*boxes[1:], boxes[0]])
    return _thinking(prompt, evidence.map_boxes(response.think, lambda box: next(following, box)))


def _thinking(prompt: Prompt, think: str) -> Prompt | None:
    """The prompt with this thinking. None for a malformed one: no answer can follow a section tag inside."""
    if SECTION_TAG.search(think):
        return None
    return replace(prompt, response_prefix=evidence.begin_answer(think))


PERTURBATIONS: Mapping[str, Perturbation] = {
    "claimed frames removed": remove_claimed_frames,
    "random frames removed": remove_random_frames,
    "blurred inside the boxes": blur_inside_boxes,
    "blurred outside the boxes": blur_outside_boxes,
    "claimed times shifted": shift_times,
    "boxes exchanged": exchange_boxes,
}
COMPARED = (  # something else, the own evidence
    ("random frames removed", "claimed frames removed"),
    ("blurred outside the boxes", "blurred inside the boxes"),
)


def run_trials(
    vlm: VideoModel, prompts: Sequence[Prompt], truths: Sequence[str], config: InferenceConfig, seed: int = 0
) -> list[Trial]:
    """Answers each question without and with every perturbation that its response allows, by greedy decoding.

    Args:
        vlm: the model.
        prompts: the questions.
        truths: the right answer of each.
        config: batch size and largest number of tokens.
        seed: seed of the random frames.
    """
    responses = [parse_response(text) for text in _answers(vlm, prompts, config)]
    trials = []
    for number, (name, perturb) in enumerate(PERTURBATIONS.items()):
        rng = np.random.default_rng([seed, number])
        changed = [perturb(prompt, response, rng) for prompt, response in zip(prompts, responses, strict=True)]
        indices = [i for i, prompt in enumerate(changed) if prompt is not None]
        texts = _answers(vlm, [changed[i] for i in indices], config)
        for i, text in zip(indices, texts, strict=True):
            after = parse_response(changed[i].response_prefix + text)
            trials.append(Trial(name, responses[i].final_answer, after.final_answer, truths[i], i))
    return trials


def _answers(vlm: VideoModel, prompts: Sequence[Prompt], config: InferenceConfig) -> list[str]:
    answer = partial(generate, vlm, max_new_tokens=config.max_new_tokens, repetition_penalty=config.repetition_penalty)
    parts = list(batches(prompts, config.batch_size))
    return [text for texts in run_batches(answer, vlm, parts, config.num_workers, _describe) for text in texts]


def _describe(prompts: Sequence[Prompt]) -> str:
    return f"{len(prompts)} questions from {prompts[0].row.get('question', '?')!r} on"


def _changed(trial: Trial) -> bool:
    return judge_exact(trial.after, trial.before) < 2


def paired_effects(trials: Sequence[Trial], seed: int = 0) -> dict[str, PairedChange]:
    """How much more often an answer changes when its own evidence is hit than when something else is (COMPARED).

    Question by question, over those with both perturbations. The verdict "rose" means: more than chance.
    """
    flags: dict[str, dict[int, float]] = {name: {} for name in PERTURBATIONS}
    for trial in trials:
        flags[trial.change][trial.question] = float(_changed(trial))
    effects = {}
    for other, own in COMPARED:
        shared = sorted(flags[own].keys() & flags[other].keys())
        pair = ([flags[name][i] for i in shared] for name in (other, own))
        effects[f"{own}, compared with {other}"] = paired_change(*pair, seed=seed)
    return effects


def trial_table(trials: Sequence[Trial], seed: int = 0) -> list[dict[str, object]]:
    """One row per perturbation: number of questions, shares of changed and of right answers, with 95% intervals.

    NaN where no response allowed the perturbation.
    """
    rows = []
    for name in PERTURBATIONS:
        part = [trial for trial in trials if trial.change == name]
        shares = {
            "changed": [_changed(t) for t in part],
            "right before": [judge_exact(t.before, t.truth) >= 2 for t in part],
            "right after": [judge_exact(t.after, t.truth) >= 2 for t in part],
        }
        row: dict[str, object] = {"change": name, "n": len(part)}
        for key, values in shares.items():
            mean = mean_with_interval(np.array(values, float), [""] * len(values), seed)
            interval = f"{mean.low:.2f}–{mean.high:.2f}" if part else "–"
            row |= {key: mean.value if part else float("nan"), f"{key}, 95%": interval}
        rows.append(row)
    return rows
