"""Probes: measures what a model can answer in plain words about held-out clips, one number with interval per ability.

The questions are those of `video_qa` and `crop_qa`. The clips are of the `eval` split, whose combinations of objects
are in no training clip. Decoding is greedy. Intervals are 95% percentile bootstraps over items. Not part of the paper.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from o3v import prompts
from o3v.evaluation.bootstrap import MeanWithInterval, mean_with_interval
from o3v.geometry import box_iou
from o3v.models.vlm import VideoModel, batches, generate
from o3v.prompts import Prompt
from o3v.rewards.grounded import format_score
from o3v.schema import Task
from o3v.tinybase import crop_qa, plain_answers, video_qa
from o3v.tinybase.clips import Boxes, Clip
from o3v.tinybase.plain_answers import SCORES, QuestionAnswer
from o3v.toyworld.narration import BEFORE_OPTIONS


@dataclass(frozen=True)
class Item:
    """A prompt about a clip with its correct answer. `family` is the kind of question, "" if there is only one."""

    prompt: Prompt
    qa: QuestionAnswer
    family: str = ""


def _image_item(image: np.ndarray, qa: QuestionAnswer, family: str = "") -> Item:
    return Item(prompts.plain_prompt(image[None], (), 0.0, qa.question), qa, family)


def _video_item(clip: Clip, qa: QuestionAnswer, family: str = "") -> Item:
    n = clip.n_uniform
    return Item(prompts.plain_prompt(clip.images[:n], clip.times_s[:n], clip.duration_s, qa.question), qa, family)


def _choose(qa_pairs: Iterable[QuestionAnswer], ability: str, rng: np.random.Generator) -> QuestionAnswer | None:
    """A random question of the ability, None when there is none."""
    matching = [qa for qa in qa_pairs if qa.ability == ability]
    return matching[int(rng.integers(len(matching)))] if matching else None


def _choose_what(clip: Clip, rng: np.random.Generator) -> QuestionAnswer:
    facts, frames = video_qa.worded_facts(clip), range(clip.n_uniform)
    return _choose((video_qa.fact_question(fact, clip, frames) for fact in facts), "what", rng)


def _dense_caption(clip: Clip, rng: np.random.Generator) -> Item:
    return _video_item(clip, video_qa.dense_caption(clip, range(clip.n_uniform)))


def _find(clip: Clip, rng: np.random.Generator) -> Item | None:
    qa = _choose(video_qa.find(clip, range(clip.n_uniform)), "find", rng)
    return qa and _video_item(clip, qa)


def _find_in_image(clip: Clip, rng: np.random.Generator) -> Item:
    return _image_item(clip.images[-1], _choose(video_qa.find_in_image(clip), "find", rng))


def _visible(clip: Clip, rng: np.random.Generator) -> Item | None:
    qa = _choose(video_qa.when(clip, range(clip.n_uniform)), "visible", rng)
    return qa and _video_item(clip, qa)


def _what(clip: Clip, rng: np.random.Generator) -> Item:
    qa = _choose_what(clip, rng)
    return _video_item(clip, qa, qa.truth)


def _choice(clip: Clip, rng: np.random.Generator) -> Item:
    facts = video_qa.worded_facts(clip)
    fact = facts[int(rng.integers(len(facts)))]
    answer = video_qa.stepwise_answer(fact, clip, range(clip.n_uniform), BEFORE_OPTIONS)
    return _video_item(clip, video_qa.choice(fact, answer, rng), fact.family)


def _is_this(clip: Clip, rng: np.random.Generator) -> Item | None:
    """The answer is "yes" half of the time. The three reasons for "no" are equally frequent."""
    family = ("right", "wrong colour", "right", "wrong thing", "right", "background")[int(rng.integers(6))]
    for i in rng.permutation(len(clip.crops)).tolist():
        for _ in range(4):
            for qa in crop_qa.is_this(clip.crop_names[i], rng):
                if qa.truth == family:
                    return _image_item(clip.crops[i], qa, family)
    return None


def _relevance(clip: Clip, rng: np.random.Generator) -> Item | None:
    """The three levels are equally frequent."""
    level = int(rng.integers(3))
    for i in rng.permutation(len(clip.crops)).tolist():
        for qa in crop_qa.relevance(clip, clip.crop_names[i], rng):
            if qa.truth == level:
                return _image_item(clip.crops[i], qa, str(level))
    return None


def _evidence(clip: Clip, rng: np.random.Generator) -> Item:
    """A question with the system prompt that asks for evidence."""
    item = _video_item(clip, _choose_what(clip, rng))
    parts = item.prompt.messages[-1]["content"][:-1]
    messages = prompts.conversation(Task.SPATIO_TEMPORAL, item.qa.question, parts)
    row = {"task": str(Task.SPATIO_TEMPORAL)}
    return replace(item, prompt=replace(item.prompt, messages=messages, row=row))


def recall(reply: str, qa: QuestionAnswer) -> float:
    """Share of all visible objects that the reply names in the line of their frame."""
    named = [name in line for line, boxes in _captions(reply, qa) for name in boxes]
    return float(np.mean(named)) if named else 1.0


def recalled_iou(reply: str, qa: QuestionAnswer) -> float:
    """Mean box IoU of the objects that the reply names in the line of their frame; NaN when it names none."""
    ious = [box_iou(line[n], box) for line, boxes in _captions(reply, qa) for n, box in boxes.items() if n in line]
    return float(np.mean(ious)) if ious else float("nan")


def _captions(reply: str, qa: QuestionAnswer) -> list[tuple[Boxes, Boxes]]:
    """For each frame the boxes in its line of the reply, empty without a line, and the true boxes."""
    lines = [plain_answers.parse_boxes(line.split("s: ", 1)[-1]) for line in reply.split("\n")]
    return list(zip([*lines, *[{}] * len(qa.truth)], qa.truth, strict=False))


class Probe(NamedTuple):
    """How an ability is measured: an item of a clip (None if impossible), scores by name, longest reply in tokens."""

    make_item: Callable[[Clip, np.random.Generator], Item | None]
    scores: dict[str, Callable[[str, QuestionAnswer], float]]
    max_new_tokens: int


PROBES = {
    "every frame": Probe(_dense_caption, {"per-frame recall": recall, "box IoU of the found": recalled_iou}, 600),
    "find": Probe(_find, {"find in a frame, IoU": SCORES["find"]}, 40),
    "picture": Probe(_find_in_image, {"find in a picture, IoU": SCORES["find"]}, 24),
    "visible": Probe(_visible, {"visible interval, tIoU": SCORES["visible"]}, 160),
    "is this": Probe(_is_this, {"crop yes/no, accuracy": SCORES["is this"]}, 4),
    "relevance": Probe(_relevance, {"relevance 0/1/2, accuracy": SCORES["relevance"]}, 4),
    "what": Probe(_what, {"what/which, accuracy": SCORES["what"]}, 176),
    "choice": Probe(_choice, {"four options, accuracy": SCORES["choice"]}, 208),
    "format": Probe(_evidence, {"format reward": lambda reply, qa: format_score(reply, str(Task.SPATIO_TEMPORAL))}, 64),
}


def measure(
    vlm: VideoModel,
    clips: Sequence[Clip],
    seed: int = 0,
    batch_size: int = 64,
    abilities: Sequence[str] = tuple(PROBES),
) -> dict[str, MeanWithInterval]:
    """Measures abilities with at most one item per clip. Returns the means by name of the score.

    Args:
        vlm: the model.
        clips: held-out clips.
        seed: seed of the items and of the bootstrap.
        batch_size: number of prompts per call of `generate`.
        abilities: keys of PROBES.
    """
    means: dict[str, MeanWithInterval] = {}
    for number, (ability, probe) in enumerate(PROBES.items()):
        if ability not in abilities:
            continue
        rng = np.random.default_rng([seed, number])
        items = [item for clip in clips if (item := probe.make_item(clip, rng))]
        replies: list[str] = []
        for batch in tqdm(list(batches(items, batch_size)), desc=ability, mininterval=5):
            replies += generate(vlm, [item.prompt for item in batch], probe.max_new_tokens)
        for name, score in probe.scores.items():
            values = np.array([score(reply, item.qa) for reply, item in zip(replies, items, strict=True)])
            means[name] = mean_with_interval(values, [item.family for item in items], seed)
    return means
