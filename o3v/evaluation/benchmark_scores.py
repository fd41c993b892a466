"""Scores of responses to the items of `benchmarks`: accuracy, or temporal IoU with R1@0.3, 0.5 and 0.7."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from o3v import evidence
from o3v.evaluation.benchmarks import BenchmarkItem
from o3v.evaluation.bootstrap import mean_with_interval, paired_change
from o3v.evaluation.vstar import R1_THRESHOLDS, judge_exact
from o3v.evaluation.vstar_times import spoken_times
from o3v.geometry import Span, span_iou

# ways in which models name an option, tried in order on the answer; bare letters are capitals, as "a" is a word
_CHOICES = [
    re.compile(pattern)
    for pattern in (
        r"(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(?([A-Z])(?=\)|\s*(?:[.,;:\n]|$))",
        r"(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(([a-z])\)",
        r"\\boxed\{([A-Z])\}",
        r"\(([A-Z])\)",
        r"^\s*\(?([A-Z])[.):]",
    )
]


def read_choice(response: str, letters: str) -> str | None:
    """The one option that a response names, None if it names none of `letters` or several.

    >>> [read_choice(text, "ABCD") for text in ("<answer>B</answer>", "The answer is (c).", "B. a cat", "A cat", "E")]
    ['B', 'C', 'B', None, None]
    """
    answer = evidence.parse_response(response).final_answer
    letter = evidence.answer_choice(answer)
    for pattern in _CHOICES:
        if letter is None and (found := set(map(str.upper, pattern.findall(answer)))):
            letter = found.pop() if len(found) == 1 else ""  # several: none
    return letter if letter and letter in letters else None


def read_answered_span(response: str) -> Span | None:
    """The span of a response: in the grammar, else the only two times of its answer.

    >>> [read_answered_span(text) for text in ("From <t>1.5</t>s to <t>4.0</t>s", "0:10 - 0:12", "?")]
    [(1.5, 4.0), (10.0, 12.0), None]
    """
    answer = evidence.parse_response(response).final_answer
    times = evidence.answer_span(answer) or spoken_times(answer)
    return (times[0], times[1]) if len(times) == 2 else None


def item_scores(
    items: Sequence[BenchmarkItem], predictions: Sequence[Any]
) -> tuple[list[dict[str, float]], dict[str, list[str]]]:
    """The scores of each item by metric, and what is wrong with the predictions by kind.

    Predictions are rows with `key` and `response`. An item without one scores 0 and is named.
    """
    findings: dict[str, list[str]] = {
        kind: [] for kind in ("unreadable", "unknown", "duplicate", "missing", "unparsed")
    }
    keys, responses = {item.key for item in items}, {}
    for number, row in enumerate(predictions, 1):
        key, text = (row.get("key"), row.get("response")) if isinstance(row, Mapping) else (None, None)
        if not isinstance(key, str) or not isinstance(text, str):
            findings["unreadable"].append(f"row {number} has no key and response")
        elif key not in keys or key in responses:
            findings["unknown" if key not in keys else "duplicate"].append(key)
        else:
            responses[key] = text
    scores = []
    for item in items:
        text = responses.get(item.key)
        if text is None:
            findings["missing"].append(item.key)
        score, parsed = _score(item, text or "")
        if text is not None and not parsed:
            findings["unparsed"].append(f"{item.key}: {text[-60:]!r}")
        scores.append(score)
    return scores, {kind: found for kind, found in findings.items() if found}


def _score(item: BenchmarkItem, text: str) -> tuple[dict[str, float], bool]:
    """The scores of a response, and whether an answer was found in it."""
    if item.span_s is not None:
        span_s = read_answered_span(text)
        tiou = span_iou(span_s, item.span_s) if span_s else 0.0
        return {"miou": tiou, **{f"r1@{at}": float(tiou >= at) for at in R1_THRESHOLDS}}, span_s is not None
    if item.letters:
        letter = read_choice(text, item.letters)
        return {"accuracy": float(letter == item.answer)}, letter is not None
    answer = evidence.parse_response(text).final_answer
    return {"accuracy": float(judge_exact(answer, item.answer) > 0)}, bool(answer)


def benchmark_report(items: Sequence[BenchmarkItem], predictions: Sequence[Any], seed: int = 0) -> dict[str, Any]:
    """Metrics with intervals, over all items and by group, and the findings, as JSON values."""
    scores, findings = item_scores(items, predictions)

    def block(chosen: Sequence[dict[str, float]]) -> dict[str, Any]:
        names = list(chosen[0])
        means = {
            name: mean_with_interval(np.array([s[name] for s in chosen]), [""] * len(chosen), seed) for name in names
        }
        return {
            name: {k: v for k, v in asdict(m).items() if k != "families"} | {"at_ceiling": False}
            for name, m in means.items()
        }

    groups = Counter(item.group for item in items)
    by_group = {g: block([s for s, i in zip(scores, items, strict=True) if i.group == g]) for g in sorted(groups) if g}
    listed = {kind: {"number": len(found), "cases": found} for kind, found in findings.items()}
    return {"items": len(items), "overall": block(scores), "by_group": by_group, "findings": listed}


def benchmark_comparison(items: Sequence[BenchmarkItem], before: Sequence[Any], after: Sequence[Any]) -> dict[str, Any]:
    """Paired changes of each metric from one file of predictions to another, and those that fell."""
    first, second = item_scores(items, before)[0], item_scores(items, after)[0]
    changes = {n: paired_change([s[n] for s in first], [s[n] for s in second]) for n in first[0]}
    verdicts = {"rose": "better", "fell": "worse"}
    found = {n: asdict(c) | {"verdict": verdicts.get(c.verdict, c.verdict)} for n, c in changes.items()}
    return {"differences": found, "worse": [n for n, c in changes.items() if c.verdict == "fell"]}
