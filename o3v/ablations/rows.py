"""The training rows of a cell, drawn from those of its run. This module does not know models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from o3v.evidence import strip_tags
from o3v.schema import Example, Task

GENERAL = (Task.MCQ, Task.FREE_FORM)
MORE_GENERAL = 0.75  # share of general questions in `general_more`; the run has a half
ESPRESSO = ("videoespresso_train_video", "synth_videoespresso")  # as STGR and the synthetic world spell it


def is_own(example: Example) -> bool:
    """Whether a row comes from the annotation pipeline: all spatio-temporal rows but those of VideoEspresso."""
    return example.task is Task.SPATIO_TEMPORAL and example.source not in ESPRESSO


def _without(examples: Sequence[Example], drop: Callable[[Example], bool]) -> list[Example]:
    return [example for example in examples if not drop(example)]


def _without_evidence(example: Example) -> Example:
    """The row with a reasoning in words only: without boxes, and without tags around names and times."""
    reasoning = example.reasoning_process
    return replace(example, reasoning_process=reasoning and strip_tags(reasoning))


def _with_other_targets(examples: Sequence[Example]) -> list[Example]:
    """Each row with the reasoning and the answer of another row of its task: only their form can be learned."""
    by_task = [[example for example in examples if example.task is task] for task in Task]
    others = {id(e): rows[number - len(rows) // 2] for rows in by_task for number, e in enumerate(rows)}
    return [
        replace(e, reasoning_process=others[id(e)].reasoning_process, answer=others[id(e)].answer) for e in examples
    ]


SELECTIONS: Mapping[str, Callable[[Sequence[Example]], list[Example]]] = {
    "all": list,
    "without_own": lambda examples: _without(examples, is_own),
    "without_espresso": lambda examples: _without(examples, lambda example: example.source in ESPRESSO),
    "text_only": lambda examples: [_without_evidence(example) for example in examples],
    "other_targets": _with_other_targets,
    "general_none": lambda examples: _without(examples, lambda example: example.task in GENERAL),
    "general_more": list,
}


def heldout_general(examples: Sequence[Example], count: int) -> tuple[list[Example], list[Example]]:
    """Splits SFT rows: those to train on, and the last `count` multiple-choice questions.

    No row to train on has a video of a held-out question.
    """
    heldout = [example for example in examples if example.task is Task.MCQ][-count:] if count else []
    media = {example.media_path for example in heldout}
    return [example for example in examples if example.media_path not in media], heldout


def training_rows(examples: Sequence[Example], selection: str, count: int, seed: int) -> list[Example]:
    """`count` rows of a selection, drawn at random without repeats; all in a random order where there are fewer."""
    rows, rng = SELECTIONS[selection](examples), np.random.default_rng(seed)
    if selection == "general_more":
        general = [example for example in rows if example.task in GENERAL]
        others = [example for example in rows if example.task not in GENERAL]
        drawn = _draw(general, round(MORE_GENERAL * count), rng)
        return _draw([*drawn, *_draw(others, count - len(drawn), rng)], count, rng)
    return _draw(rows, count, rng)


def _draw(rows: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    return [rows[i] for i in rng.permutation(len(rows))[:count]]
