"""Rewards: what a completion earns on a row, r = r_acc + r_thk + r_fmt (Open-o3 Video, arXiv:2510.20579).

One table of terms a task and two readings of the method: `RewardConfig.paper()` follows the article,
`RewardConfig.official()` the public code (commit 1eb6eca); every difference is a field. A term that does not apply
is None in the first and 0 in the second. The terms themselves are in `reward_terms`. Completions speak in pixels of
the resized frame, and truth is brought there. Knows nothing of models or trainers.

Choices where the article is silent: an answer is judged by its first box and a `visual QA` row by the first box of
its answer; strict format asks for a time in the thinking of temporal rows, a claim for pictures, a claim with a
time for spatio-temporal rows, and nothing for general questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from o3v.evidence import Claim, Response, answer_boxes, answer_choice, answer_span, parse_response
from o3v.geometry import Box, Size, Span, rescale_box
from o3v.rewards.official_parser import OfficialReading, read_official
from o3v.rewards.terms import (
    KeyBoxes,
    answered_box,
    answered_span,
    best_box,
    counting_format,
    evidence_recall,
    exact_choice,
    gated_spatial,
    rouge,
    strict_format,
    temporal_point,
    temporal_segment,
)
from o3v.schema import Example, Row, Task

TERMS = ("ans_acc", "ans_tiou", "ans_viou", "thk_temporal_point", "thk_temporal_segment", "thk_spatial", "format")


@dataclass(frozen=True)
class RewardConfig:
    """One reading of the reward. Times in seconds; `progress` is the share of training done, 0–1."""

    reading: Literal["grammar", "public"] = "grammar"  # which parser reads the text
    gate: Literal["two_sided", "one_sided"] = "two_sided"  # paper: |Δt| ≤ τ; code: key − t < τ, no abs
    gate_s: float = 3.0  # paper: τ = 3 s; code: 1 s (math.inf opens the gate)
    sigma_start_s: float = 4.0  # paper: σ from 4 …
    sigma_end_s: float = 1.0  # … to 1
    sigma_until: float = 0.75  # code: reached at p = 3/4
    spatial_mean: Literal["timestamps", "claims"] = "timestamps"  # paper: over the M timestamps; code: over the claims
    box_match: Literal["best_pair", "mean_over_truth"] = "best_pair"  # paper: v_m is the best IoU; code: best_object
    spatial_needs_answer: bool = False  # code: no spatial term without a closed answer
    format: Literal["strict", "counting"] = "strict"  # paper: correct tags; code: equal numbers of tags
    not_applicable: float | None = None  # code: 0
    names: Literal["ignored", "required"] = "ignored"  # of a claim and its box; paper and code ignore them
    recall_weight: float = 0.0  # ours: what claiming all of the annotated evidence pays on top

    def __post_init__(self) -> None:
        if min(self.sigma_start_s, self.sigma_end_s) <= 0 or not 0 <= self.sigma_until <= 1:
            raise ValueError(f"{self}: σ must be positive and sigma_until in 0–1")
        if min(self.gate_s, self.recall_weight) < 0:
            raise ValueError(f"{self}: gate_s and recall_weight must not be negative")

    @classmethod
    def paper(cls) -> RewardConfig:
        """The article's reading, the default."""
        return cls()

    @classmethod
    def official(cls) -> RewardConfig:
        """The public code's reading, commit 1eb6eca."""
        return cls(
            reading="public",
            gate="one_sided",
            gate_s=1.0,
            spatial_mean="claims",
            box_match="mean_over_truth",
            spatial_needs_answer=True,
            format="counting",
            not_applicable=0.0,
        )


def sigma_at(progress: float, config: RewardConfig) -> float:
    """Width in seconds of the temporal reward at a training progress in 0–1: linear, then constant.

    Paper: adaptive temporal proximity; code: σ = 4(1 − p) while p < 3/4, else 1. ValueError below 0 and for nan.

    >>> [sigma_at(p, RewardConfig()) for p in (0, 0.5, 0.75, 1)]
    [4.0, 2.0, 1.0, 1.0]
    """
    if not progress >= 0:
        raise ValueError(f"progress is the share of training done, 0–1, not {progress}")
    if progress >= config.sigma_until:
        return config.sigma_end_s
    return config.sigma_start_s + (config.sigma_end_s - config.sigma_start_s) * progress / config.sigma_until


PAPER = RewardConfig.paper()


@dataclass(frozen=True)
class ParsedResponse:
    """What the terms read in a response, whichever parser found it; `answer` is None without a closed one."""

    answer: str | None
    times_s: Sequence[float]
    claims: Sequence[Claim]
    think_boxes: Sequence[Box]
    answer_box: Box | None


@dataclass(frozen=True)
class Sample:
    """A completion and its STGR row; the terms of TASK_RULES are functions of it. Boxes come out in pixels."""

    text: str
    row: Mapping[str, Any]
    progress: float
    config: RewardConfig

    @cached_property
    def response(self) -> Response:
        """The text by the grammar."""
        return parse_response(self.text)

    @cached_property
    def public(self) -> OfficialReading:
        """The text as the public code reads it."""
        return read_official(self.text)

    @cached_property
    def words(self) -> ParsedResponse:
        """The text by the parser that the config names."""
        if self.config.reading == "public":
            found = self.public
            words = ParsedResponse(found.answer, found.times_s, found.claims, found.think_boxes, found.answer_box)
        else:
            said = self.response
            answered = answer_boxes(said.answer or "")
            think_boxes = answer_boxes(said.think or "")
            words = ParsedResponse(
                said.answer, said.times_s, said.claims, think_boxes, answered[0] if answered else None
            )
        if self.config.spatial_needs_answer and words.answer is None:
            words = ParsedResponse(None, words.times_s, (), (), None)
        return words

    @property
    def answer(self) -> str:
        """The answer without the white space around it; empty without one."""
        return (self.words.answer or "").strip()

    def true_span(self) -> Span:
        """The span in seconds at the end of the row's answer."""
        try:
            start_s, end_s = map(float, json.loads(self.row["answer"].rsplit("\n", 1)[-1]))
        except (ValueError, TypeError):
            raise self.error("answer", f"is {self.row['answer']!r:.60}, without a span [start, end]") from None
        return start_s, end_s

    def true_letter(self) -> str:
        """The letter at the beginning of the row's answer."""
        letter = answer_choice(self.row["answer"].split("\n", 1)[0], marked=False)
        if letter is None:
            raise self.error("answer", f"is {self.row['answer']!r:.60}, not the letter of an option")
        return letter

    def true_box_px(self) -> Box:
        """The first box of a `visual QA` answer, from pixels of the original picture to the resized one's."""
        boxes = answer_boxes(self.row["answer"])
        if not boxes:
            raise self.error("answer", f"is {self.row['answer']!r:.60}, without a box")
        return rescale_box(boxes[0], self._size("image_size"), self._size("image_size_refine"))

    def key_times_s(self) -> list[float]:
        """Times of the key frames."""
        return [frame["time"] for frame in self.row.get("key_frames") or ()]

    def key_boxes_px(self) -> list[KeyBoxes]:
        """Key frames with their boxes, from 0–1 to pixels of the resized frame."""
        items = self.row.get("key_items") or {}
        frames = []
        for frame in self.row.get("key_frames") or ():
            objects = {name: boxes for name, boxes in (items.get(str(frame["idx"])) or {}).items() if boxes}
            to_px = {n: [rescale_box(b, (1, 1), self._size("image_size")) for b in bs] for n, bs in objects.items()}
            frames.append((frame["time"], to_px))
        return frames

    def _size(self, name: str) -> Size:
        size = self.row.get(name)
        if not size:
            raise self.error(name, "is missing; boxes need it ([width, height] in pixels)")
        return size

    def error(self, name: str, fault: str) -> ValueError:
        """The error that names row and field."""
        return ValueError(f"row {self.row.get('id', '?')!r}: field {name!r} {fault}")


@dataclass(frozen=True)
class TaskRule:
    """What a task pays: its terms, and when a response holds the evidence it asks for (strictly, by counting)."""

    terms: Mapping[str, Callable[[Sample], float | None]]
    evidence: Callable[[Response], bool] = lambda response: True
    counted: Callable[[OfficialReading], bool] = lambda reading: True


def _spatial(sample: Sample) -> float | None:
    words, config = sample.words, sample.config
    options = (config.gate, config.gate_s, config.spatial_mean, config.box_match, config.names == "required")
    return gated_spatial(words.claims, len(words.times_s), sample.key_boxes_px(), *options)


def _recall(sample: Sample) -> float | None:
    config, claims = sample.config, sample.words.claims
    found = evidence_recall(claims, sample.key_boxes_px(), config.gate_s, config.names == "required")
    return None if found is None else config.recall_weight * found


def _point(sample: Sample) -> float | None:
    sigma_s = sigma_at(sample.progress, sample.config)
    return temporal_point(sample.words.times_s, sample.key_times_s(), sigma_s)


def _span(sample: Sample) -> float | None:
    return answered_span(answer_span(sample.answer), sample.true_span())


def _segment(sample: Sample) -> float | None:
    return temporal_segment(sample.words.times_s, sample.true_span())


def _rouge(sample: Sample) -> float | None:
    return rouge(sample.answer, sample.row["answer"].strip())


TASK_RULES: Mapping[Task, TaskRule] = {
    Task.TEMPORAL: TaskRule(
        {"ans_tiou": _span, "thk_temporal_segment": _segment},
        evidence=lambda response: bool(response.times_s),
        counted=lambda reading: reading.opened["t"] >= 2,
    ),
    Task.TEMPORAL_MCQ: TaskRule(
        {
            "ans_acc": lambda sample: exact_choice(sample.answer, sample.true_letter(), marked=True),
            "ans_tiou": _span,
            "thk_temporal_segment": _segment,
        },
        evidence=lambda response: bool(response.times_s),
        counted=lambda reading: reading.opened["t"] >= 2,
    ),
    Task.SPATIAL: TaskRule(
        {
            "ans_viou": lambda sample: answered_box(sample.words.answer_box, sample.true_box_px()),
            "thk_spatial": lambda sample: best_box(sample.words.think_boxes, [sample.true_box_px()]),
        },
        evidence=lambda response: bool(response.claims),
        counted=lambda reading: reading.one_word_object or all(reading.opened.values()),
    ),
    Task.SPATIO_TEMPORAL: TaskRule(
        {"ans_acc": _rouge, "thk_temporal_point": _point, "thk_spatial": _spatial},
        evidence=lambda response: any(claim.time_s is not None for claim in response.claims),
        counted=lambda reading: all(reading.opened.values()),
    ),
    Task.MCQ: TaskRule({"ans_acc": lambda sample: exact_choice(sample.answer, sample.true_letter(), marked=False)}),
    Task.FREE_FORM: TaskRule({"ans_acc": _rouge}),
}

FORMATS: Mapping[str, Callable[[Sample, TaskRule], float]] = {
    "strict": lambda sample, rule: strict_format(sample.response, rule.evidence(sample.response)),
    "counting": lambda sample, rule: counting_format(sample.public.paired, rule.counted(sample.public)),
}


def format_score(text: str, task: Task | str, config: RewardConfig = PAPER) -> float:
    """r_fmt alone, which needs no truth: 1, 0.5 or 0. Raises ValueError for an unknown task."""
    return FORMATS[config.format](Sample(text, {}, 0.0, config), TASK_RULES[Task(task)])


def score_completion(
    text: str, row: Mapping[str, Any] | Example, progress: float, config: RewardConfig = PAPER
) -> dict[str, float | None]:
    """Every term of TERMS for one completion, and their `total`, the sum of those that apply.

    `row` is an STGR row that says in `image_size` (and, for `visual QA`, `image_size_refine`) the size of the resized
    frame, in whose pixels the completion speaks; an Example is taken as the row it writes. `progress` is the share of
    training done, 0–1. Raises ValueError naming the row and the field when truth is missing or unreadable; no text
    raises.

    >>> from o3v.evidence import format_response
    >>> row = {"task": "General video QA MCQ", "answer": "B"}
    >>> scores = score_completion(format_response("It is red.", "B"), row, progress=0.0)
    >>> scores["ans_acc"], scores["format"], scores["ans_tiou"], scores["total"]
    (1.0, 1.0, None, 2.0)
    """
    plain: Row = row.to_row() if isinstance(row, Example) else dict(row)
    sample = Sample(text, plain, progress, config)
    try:
        rule = TASK_RULES[Task(plain["task"])]
    except (KeyError, ValueError):
        raise sample.error("task", f"is {plain.get('task')!r:.60}, none of {[str(task) for task in Task]}") from None
    scores: dict[str, float | None] = {name: config.not_applicable for name in TERMS}
    for name, term in rule.terms.items():
        value = term(sample)
        scores[name] = config.not_applicable if value is None else value
    scores["format"] = FORMATS[config.format](sample, rule)
    if config.recall_weight and "thk_spatial" in rule.terms and plain["task"] != Task.SPATIAL:
        scores["thk_recall"] = _recall(sample)
    return scores | {"total": sum(value for value in scores.values() if value is not None)}
