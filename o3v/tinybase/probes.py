"""What a model can do in plain words on held-out clips: one number an ability, each with its interval.

The abilities are those of `abilities`; the scenes are of the `eval` split, whose casts no training scene shows.
Greedy decoding. Intervals are 95% percentile bootstraps over items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
from o3v.tinybase.plain_answers import QuestionAnswer
from o3v.toyworld.narration import BEFORE_OPTIONS


@dataclass(frozen=True)
class Item:
    """A question to a model about a clip, and what is right. `family` says of which sort it is within its ability."""

    prompt: Prompt
    asked: QuestionAnswer
    family: str = ""


def _about(clip: Clip, images: np.ndarray, question: str) -> Prompt:
    """A plain question about one picture or crop of a clip."""
    return prompts.plain_prompt(images, (), 0.0, question)


def _film(clip: Clip, asked: QuestionAnswer, family: str = "") -> Item:
    kept = clip.uniform
    asks = prompts.plain_prompt(clip.images[:kept], clip.times_s[:kept], clip.duration_s, asked.question)
    return Item(asks, asked, family)


def _one(
    asked: Iterator[QuestionAnswer] | Sequence[QuestionAnswer], rng: np.random.Generator, ability: str
) -> QuestionAnswer | None:
    found = [a for a in asked if a.ability == ability]
    return found[int(rng.integers(len(found)))] if found else None


def _every_frame(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    yield _film(clip, video_qa.every_frame(clip, range(clip.uniform)))


def _find(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    asked = _one(video_qa.find(clip, range(clip.uniform)), rng, "find")
    if asked:
        yield _film(clip, asked)


def _picture(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    asked = _one(video_qa.find_in_picture(clip), rng, "find")
    yield Item(_about(clip, clip.images[-1:], asked.question), asked)


def _visible(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    asked = _one(video_qa.when(clip, range(clip.uniform)), rng, "visible")
    if asked:
        yield _film(clip, asked)


def _what(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    asked = _one(video_qa.what(clip, range(clip.uniform)), rng, "what")
    yield _film(clip, asked, asked.truth)


def _choice(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    facts = video_qa.choosable(clip)
    fact = facts[int(rng.integers(len(facts)))]
    said = video_qa.in_steps(fact, clip, range(clip.uniform), BEFORE_OPTIONS)
    yield _film(clip, video_qa.choice(fact, said, rng), fact.family)


def _is_this(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    """A yes half of the time, else a no: as often wrong in colour, wrong in kind, and background."""
    wanted = ("right", "wrong colour", "right", "wrong thing", "right", "background")[int(rng.integers(6))]
    order = rng.permutation(len(clip.crops)).tolist()
    for i in order:
        for _ in range(4):
            for asked in crop_qa.is_this(clip.crop_names[i], rng):
                if asked.truth == wanted:
                    yield Item(_about(clip, clip.crops[i : i + 1], asked.question), asked, asked.truth)
                    return


def _relevance(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    wanted = int(rng.integers(3))
    for i in rng.permutation(len(clip.crops)).tolist():
        for asked in crop_qa.relevance(clip, clip.crop_names[i], rng):
            if asked.truth == wanted:
                yield Item(_about(clip, clip.crops[i : i + 1], asked.question), asked, str(wanted))
                return


def _format(clip: Clip, rng: np.random.Generator) -> Iterator[Item]:
    """A question with the system prompt that asks for evidence."""
    asked = _one(video_qa.what(clip, range(clip.uniform)), rng, "what")
    parts = prompts.frame_parts(clip.times_s[: clip.uniform], clip.duration_s)
    task = Task.SPATIO_TEMPORAL
    messages = prompts.conversation(task, asked.question, parts)
    frames, times_s = list(clip.images[: clip.uniform]), clip.times_s[: clip.uniform]
    yield Item(Prompt(messages, frames, times_s, clip.size_wh, {"task": str(task)}), asked)


def recall(said: str, asked: QuestionAnswer) -> float:
    """Share of the things in all frames that are named in their frame's line."""
    lines = _lines(said, len(asked.truth))
    named = [name in line for line, boxes in zip(lines, asked.truth, strict=True) for name in boxes]
    return float(np.mean(named)) if named else 1.0


def found_iou(said: str, asked: QuestionAnswer) -> float:
    """Mean IoU of the boxes of the things that are named in their frame's line; NaN when there is none."""
    lines = _lines(said, len(asked.truth))
    ious = [
        box_iou(line[name], box)
        for line, boxes in zip(lines, asked.truth, strict=True)
        for name, box in boxes.items()
        if name in line
    ]
    return float(np.mean(ious)) if ious else float("nan")


def _lines(said: str, count: int) -> list[Boxes]:
    lines = [plain_answers.parse_boxes(line.split("s: ", 1)[-1]) for line in said.split("\n")]
    return [*lines, *[{}] * count][:count]


Score = Callable[[str, QuestionAnswer], float]

# ability → how to ask, how to score (several measures may share the answers), longest answer in tokens
TABLE: dict[str, tuple[Callable[[Clip, np.random.Generator], Iterator[Item]], dict[str, Score], int]] = {
    "every frame": (_every_frame, {"per-frame recall": recall, "box IoU of the found": found_iou}, 600),
    "find": (_find, {"find in a frame, IoU": plain_answers.SCORES["find"]}, 40),
    "picture": (_picture, {"find in a picture, IoU": plain_answers.SCORES["find"]}, 24),
    "visible": (_visible, {"visible interval, tIoU": plain_answers.SCORES["visible"]}, 160),
    "is this": (_is_this, {"crop yes/no, accuracy": plain_answers.SCORES["is this"]}, 4),
    "relevance": (_relevance, {"relevance 0/1/2, accuracy": plain_answers.SCORES["relevance"]}, 4),
    "what": (_what, {"what/which, accuracy": plain_answers.SCORES["what"]}, 176),
    "choice": (_choice, {"four options, accuracy": plain_answers.SCORES["choice"]}, 208),
    "format": (_format, {"format reward": lambda said, asked: format_score(said, str(Task.SPATIO_TEMPORAL))}, 64),
}


def measure(
    vlm: VideoModel, clips: Sequence[Clip], seed: int = 0, batch: int = 64, only: Sequence[str] = tuple(TABLE)
) -> dict[str, MeanWithInterval]:
    """Every measure over one item a clip (where the clip has one), by name; `batch` prompts at a time."""
    found: dict[str, MeanWithInterval] = {}
    for number, (ability, (ask, scores, longest)) in enumerate(TABLE.items()):
        if ability not in only:
            continue
        rng = np.random.default_rng([seed, number])
        items = [item for clip in clips for item in ask(clip, rng)]
        said: list[str] = []
        for part in tqdm(list(batches(items, batch)), desc=ability, mininterval=5):
            said += generate(vlm, [item.prompt for item in part], longest)
        for name, score in scores.items():
            values = np.array([score(text, item.asked) for text, item in zip(said, items, strict=True)])
            found[name] = mean_with_interval(values, [item.family for item in items], seed)
    return found
