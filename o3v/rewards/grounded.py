"""The reward of a completion on a row, r = r_acc + r_thk + r_fmt (Open-o3 Video, arXiv:2510.20579).

One table of terms for each task, and two readings of the method: `RewardConfig.paper()` follows the article,
`RewardConfig.official()` the public code (commit 1eb6eca). A term that does not apply is None in the first and 0 in
the second. The formulas are in `rewards.terms`. This module does not know models or trainers.

Choices where the article is silent: an answer is judged by its first box, and a `visual QA` row by the first box of
its answer. Strict format requires a time in the thinking of temporal rows, a claim for images, a claim with a time for
spatio-temporal rows, and nothing for general questions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from o3v.evidence import Response, answer_span
from o3v.rewards import terms
from o3v.rewards.config import PAPER, RewardConfig, sigma_at
from o3v.rewards.official_parser import OfficialReading
from o3v.rewards.sample import Sample
from o3v.schema import Example, Task

TERMS = ("ans_acc", "ans_tiou", "ans_viou", "thk_temporal_point", "thk_temporal_segment", "thk_spatial", "format")
TERM_NAMES: Mapping[str, str] = {  # for tables and figures
    "ans_acc": "answer right",
    "ans_tiou": "answered span, IoU",
    "ans_viou": "answered box, IoU",
    "thk_temporal_point": "claimed times near key times",
    "thk_temporal_segment": "claimed times inside the span",
    "thk_spatial": "claimed boxes, IoU",
    "thk_recall": "claimed boxes, recall (ours)",
    "ans_tdist": "answered span, distance (ours)",
    "format": "format",
    "total": "reward",
}


@dataclass(frozen=True)
class TaskRule:
    """The terms of a task, and whether a response has the evidence that the task requires."""

    terms: Mapping[str, Callable[[Sample], float | None]]  # functions of a sample, by name of the term
    # whether a response parsed by the grammar has the evidence (strict format)
    evidence: Callable[[Response], bool] = lambda response: True
    # the same for the public code's reading (counting format)
    counted: Callable[[OfficialReading], bool] = lambda reading: True


def _spatial(sample: Sample) -> float | None:
    parsed, config = sample.parsed, sample.config
    options = (config.gate, config.gate_s, config.spatial_mean, config.box_match, config.names)
    return terms.gated_spatial(parsed.claims, len(parsed.times_s), sample.key_boxes(), *options)


def _recall(sample: Sample) -> float | None:
    config, claims = sample.config, sample.parsed.claims
    recall = terms.evidence_recall(claims, sample.key_boxes(), config.gate_s, config.names)
    return None if recall is None else config.recall_weight * recall


def _point(sample: Sample) -> float | None:
    sigma_s = sigma_at(sample.progress, sample.config)
    return terms.temporal_point(sample.parsed.times_s, sample.key_times_s(), sigma_s)


def _span(sample: Sample) -> float | None:
    return terms.answered_span(answer_span(sample.answer), sample.true_span_s())


def _distance(sample: Sample) -> float:
    value = terms.span_distance(answer_span(sample.answer), sample.true_span_s())
    return sample.config.span_distance_weight * value


def _segment(sample: Sample) -> float | None:
    return terms.temporal_segment(sample.parsed.times_s, sample.true_span_s())


def _rouge(sample: Sample) -> float | None:
    return terms.rouge(sample.answer, sample.row["answer"].strip(), sample.config.words == "unicode")


TASK_RULES: Mapping[Task, TaskRule] = {
    Task.TEMPORAL: TaskRule(
        {"ans_tiou": _span, "thk_temporal_segment": _segment},
        evidence=lambda response: bool(response.times_s),
        counted=lambda reading: reading.opened["t"] >= 2,
    ),
    Task.TEMPORAL_MCQ: TaskRule(
        {
            "ans_acc": lambda sample: terms.exact_choice(sample.answer, sample.true_letter(), marked=True),
            "ans_tiou": _span,
            "thk_temporal_segment": _segment,
        },
        evidence=lambda response: bool(response.times_s),
        counted=lambda reading: reading.opened["t"] >= 2,
    ),
    Task.SPATIAL: TaskRule(
        {
            "ans_viou": lambda sample: terms.answered_box(sample.parsed.answer_box, sample.true_box()),
            "thk_spatial": lambda sample: terms.best_box(sample.parsed.think_boxes, [sample.true_box()]),
        },
        evidence=lambda response: bool(response.claims),
        counted=lambda reading: reading.one_word_object or all(reading.opened.values()),
    ),
    Task.SPATIO_TEMPORAL: TaskRule(
        {"ans_acc": _rouge, "thk_temporal_point": _point, "thk_spatial": _spatial},
        evidence=lambda response: any(claim.time_s is not None for claim in response.claims),
        counted=lambda reading: all(reading.opened.values()),
    ),
    Task.MCQ: TaskRule(
        {"ans_acc": lambda sample: terms.exact_choice(sample.answer, sample.true_letter(), marked=False)}
    ),
    Task.FREE_FORM: TaskRule({"ans_acc": _rouge}),
}

FORMATS: Mapping[str, Callable[[Sample, TaskRule], float]] = {
    "strict": lambda sample, rule: terms.strict_format(sample.response, rule.evidence(sample.response)),
    "counting": lambda sample, rule: terms.counting_format(sample.official.paired, rule.counted(sample.official)),
}


def format_score(text: str, task: Task | str, config: RewardConfig = PAPER) -> float:
    """r_fmt alone, which needs no ground truth: 1, 0.5 or 0. Raises ValueError for an unknown task."""
    return FORMATS[config.format](Sample(text, {}, 0.0, config), TASK_RULES[Task(task)])


def score_completion(
    text: str, row: Mapping[str, Any] | Example, progress: float, config: RewardConfig = PAPER
) -> dict[str, float | None]:
    """Scores one completion: every term of TERMS, and `total`, the sum of the terms that apply.

    Args:
        text: the completion; its boxes are in units of the box space.
        row: STGR row or Example. `image_size_refine` is the (width, height) of the box space; video rows may give it in
            `image_size` alone. Pixel boxes of a `visual QA` row refer to `image_size`.
        progress: share of training done, 0–1; decides σ of the temporal term.
        config: reading of the reward.

    Raises ValueError naming row and field if the ground truth is missing or unreadable. Accepts any text.

    >>> from o3v.evidence import format_response
    >>> row = {"task": "General video QA MCQ", "answer": "B"}
    >>> scores = score_completion(format_response("It is red.", "B"), row, progress=0.0)
    >>> scores["ans_acc"], scores["format"], scores["ans_tiou"], scores["total"]
    (1.0, 1.0, None, 2.0)
    """
    plain = row.to_row() if isinstance(row, Example) else dict(row)
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
    if config.span_distance_weight and "ans_tiou" in rule.terms:
        scores["ans_tdist"] = _distance(sample)
    return scores | {"total": sum(value for value in scores.values() if value is not None)}
