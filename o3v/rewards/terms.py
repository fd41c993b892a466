"""The formulas of the reward: each term is a pure function of response and ground truth (arXiv:2510.20579).

Spans and times in seconds; boxes (x0, y0, x1, y1) of one image in the same frame of reference. A term is None if the
row has no ground truth for it, and 0 if the response has nothing to compare. Object names are not compared, as in the
paper and its public code (commit 1eb6eca). This module does not know tasks: `rewards.grounded` combines the terms.

Choices where the article is silent: the boxes of a timestamp are those of its claim; a distance of exactly τ passes
the gate; an answer of more than MAX_ROUGE_CHARS earns no ROUGE, so that scoring stays linear in the text.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from o3v.evidence import STRUCTURE_KINDS, Claim, Response, answer_choice
from o3v.geometry import Box, Span, box_iou, span_iou
from o3v.text import tokens

MAX_ROUGE_CHARS = 10_000  # twice the longest completion (768 tokens, paper)

KeyBoxes = tuple[float, Mapping[str, Sequence[Box]]]
"""A key frame for the spatial term: time in seconds, and boxes by object name."""

GATES: Mapping[str, Callable[[float, float], bool]] = {  # of key time − predicted time, and τ
    "two_sided": lambda ahead_s, gate_s: abs(ahead_s) <= gate_s + 1e-9,  # paper; 3.0 s apart may be 3.0000000000000004
    "one_sided": lambda ahead_s, gate_s: ahead_s < gate_s,  # code: no absolute value, so late predictions always pass
}
"""Whether a key frame is near enough to a predicted time for its boxes to count."""


def exact_choice(answer: str, letter: str, marked: bool) -> float:
    """1 if the chosen letter is right, else 0. Paper: r_acc of multiple choice is an exact match.

    `marked`: the letter follows `Correct Option:` (temporal MCQ); otherwise it is the whole answer.

    >>> exact_choice("(B)", "B", marked=False), exact_choice("I think B", "B", marked=False)
    (1.0, 0.0)
    """
    return float(answer_choice(answer, marked) == letter)


class _UnicodeTokenizer:
    """`text.tokens` with the stems of English words, for rouge_score, whose own tokenizer drops other scripts."""

    def tokenize(self, text: str) -> list[str]:
        """Tokens of a text, English words stemmed."""
        from rouge_score.tokenizers import DefaultTokenizer

        stem = DefaultTokenizer(use_stemmer=True).tokenize
        return [stem(token)[0] if token.isascii() and token.isalnum() else token for token in tokens(text)]


@cache
def _rouge_scorer(unicode: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    kinds = ["rouge1", "rouge2", "rougeL"]
    return RougeScorer(kinds, use_stemmer=True, tokenizer=_UnicodeTokenizer() if unicode else None)


def rouge(answer: str, truth: str, unicode: bool = True) -> float:
    """Mean F of ROUGE-1, ROUGE-2 and ROUGE-L with stemming, 0–1. Paper: r_acc of free-form questions; mean: code.

    `unicode` compares words of any script and keeps numbers whole (`text.tokens`); the public code sees only a–z and
    0–9.

    >>> round(rouge("the cat", "the dog"), 4)  # (1/2 + 0 + 1/2) / 3
    0.3333
    """
    if len(answer) > MAX_ROUGE_CHARS:
        return 0.0
    return sum(score.fmeasure for score in _rouge_scorer(unicode).score(truth, answer).values()) / 3


def answered_span(span: Span | None, truth: Span) -> float:
    """Temporal IoU of the answered span in seconds, 0 without a span. Paper: r_acc of temporal grounding.

    >>> answered_span((0.0, 4.0), (2.0, 6.0))
    0.3333333333333333
    """
    return span_iou(span, truth) if span else 0.0


def span_distance(span: Span | None, truth: Span) -> float:
    """exp(−W/L): W is the Wasserstein-2 distance of the spans as uniform distributions, L the length of the true one.

    Unlike the IoU it still pays a span that is near the true one without touching it. 0 without a span. Ours, after the
    Wasserstein term of TimeLens2.

    >>> [round(span_distance(span, (2.0, 6.0)), 3) for span in ((2.0, 6.0), (6.0, 10.0), (10.0, 14.0))]
    [1.0, 0.368, 0.135]
    """
    if span is None:
        return 0.0
    start, longer = span[0] - truth[0], (span[1] - span[0]) - (truth[1] - truth[0])
    distance = math.sqrt(start**2 + start * longer + longer**2 / 3)
    return math.exp(-distance / max(truth[1] - truth[0], 1e-6))


def answered_box(box_px: Box | None, truth_px: Box) -> float:
    """IoU of the answered box, both boxes in the same space, 0 without a box. Paper: r_acc of grounding.

    >>> answered_box((0, 0, 2, 2), (0, 0, 2, 4))
    0.5
    """
    return box_iou(box_px, truth_px) if box_px else 0.0


def temporal_segment(times_s: Sequence[float], span: Span) -> float:
    """r_t with a span as ground truth: share of the M timestamps in [start, end], ends included; 0 for M = 0.

    >>> temporal_segment([1.0, 2.0, 9.0], (2.0, 5.0))
    0.3333333333333333
    """
    return sum(span[0] <= time_s <= span[1] for time_s in times_s) / len(times_s) if times_s else 0.0


def temporal_proximity(pred_s: float, key_s: Sequence[float], sigma_s: float) -> float | None:
    """exp(−Δ²/2σ²), Δ the distance to the nearest key time. Paper: r_t. None without key times.

    >>> round(temporal_proximity(4.0, [3.0, 9.0], sigma_s=1.0), 3)
    0.607
    """
    if not key_s:
        return None
    widths = min(abs(pred_s - key) for key in key_s) / sigma_s
    return math.exp(-widths * widths / 2)


def temporal_point(times_s: Sequence[float], key_s: Sequence[float], sigma_s: float) -> float | None:
    """r_t with key frames: mean proximity of the M timestamps; 0 for M = 0, None without key times.

    >>> temporal_point([3.0, 9.0], [3.0, 9.0], sigma_s=1.0)
    1.0
    """
    if not key_s:
        return None
    return sum(temporal_proximity(time_s, key_s, sigma_s) or 0.0 for time_s in times_s) / max(1, len(times_s))


def best_box(boxes: Sequence[Box], truth: Sequence[Box]) -> float:
    """Best IoU of any claimed box with any true box, 0 without a box. Paper: r_s of images.

    >>> best_box([(0, 0, 1, 1), (0, 0, 2, 2)], [(0, 0, 2, 4)])
    0.5
    """
    return max((box_iou(box, other) for box in boxes for other in truth), default=0.0)


def best_pair(boxes: Sequence[Box], objects: Mapping[str, Sequence[Box]]) -> float:
    """v_m as in the paper: the best IoU of any claimed box with any annotated box.

    >>> best_pair([(0, 0, 2, 2)], {"cup": [(0, 0, 2, 2), (4, 4, 6, 6)]})
    1.0
    """
    return max((best_box(boxes, truth) for truth in objects.values()), default=0.0)


def best_object(boxes: Sequence[Box], objects: Mapping[str, Sequence[Box]]) -> float:
    """v_m as in the code: for each object the mean over its boxes of the best claimed box; then the best object.

    >>> best_object([(0, 0, 2, 2)], {"cup": [(0, 0, 2, 2), (4, 4, 6, 6)]})
    0.5
    """
    means = (sum(best_box(boxes, [box]) for box in truth) / len(truth) for truth in objects.values() if truth)
    return max(means, default=0.0)


BOX_MATCHES = {"best_pair": best_pair, "mean_over_truth": best_object}


def soft_name_match(name: str, other: str) -> float:
    """Share of equal words among all words of two names, ignoring case. Source: VisionCoach's soft identity match.

    >>> soft_name_match("Red car", "red cup"), soft_name_match("red car", "red car")
    (0.3333333333333333, 1.0)
    """
    words, others = set(name.lower().split()), set(other.lower().split())
    return len(words & others) / max(1, len(words | others))


# how a claimed name is compared with that of an annotated object: paper and code ignore it
NAME_MATCHES: Mapping[str, Callable[[str, str], float]] = {
    "ignored": lambda name, other: 1.0,
    "soft": soft_name_match,
    "required": lambda name, other: float(name.strip().lower() == other.strip().lower()),
}


def gated_spatial(
    claims: Sequence[Claim],
    n_times: int,
    key_boxes: Sequence[KeyBoxes],
    gate: str = "two_sided",
    gate_s: float = 3.0,
    mean_over: str = "timestamps",
    box_match: str = "best_pair",
    names: str = "ignored",
) -> float | None:
    """r_s = mean of 1[|t − t_key| ≤ τ]·v over the M timestamps, t_key the nearest key time that passes the gate.

    Args:
        claims: claims of the thinking; those without a time earn nothing.
        n_times: M, the number of all timestamps of the thinking; one without a claim counts 0.
        key_boxes: annotated key frames.
        gate: key of GATES.
        gate_s: τ in seconds.
        mean_over: "timestamps" (paper), "claims" with a time (code), or "matched": claims that pass the gate.
        box_match: key of BOX_MATCHES, the definition of v.
        names: key of NAME_MATCHES; v of an object is multiplied by the match of its name with the claimed one.

    0 for M = 0, None without annotated boxes. Paper: r_s.

    >>> cup = Claim("cup", ((0, 0, 2, 2),), 5.0, 0, 0)
    >>> gated_spatial([cup], 2, [(8.0, {"cup": [(0, 0, 2, 4)]})])
    0.25
    """
    if not any(boxes for _, objects in key_boxes for boxes in objects.values()):
        return None
    passes, match, same = GATES[gate], BOX_MATCHES[box_match], NAME_MATCHES[names]
    timed = [(claim, claim.time_s) for claim in claims if claim.time_s is not None]
    total, matched = 0.0, 0
    for claim, time_s in timed:
        near = [key for key in key_boxes if math.isfinite(time_s) and passes(key[0] - time_s, gate_s)]
        if near:
            objects = min(near, key=lambda key: abs(key[0] - time_s))[1]
            values = (same(claim.name, name) * match(claim.boxes, {name: objects[name]}) for name in objects)
            total += max(values, default=0.0)
            matched += 1
    return total / max(1, {"timestamps": n_times, "claims": len(timed), "matched": matched}[mean_over])


def evidence_recall(
    claims: Sequence[Claim], key_boxes: Sequence[KeyBoxes], gate_s: float = 3.0, names: str = "ignored"
) -> float | None:
    """Recall of the annotated evidence: mean over the objects of key frames of the best IoU with a claim.

    A claim counts within `gate_s` seconds of the key frame. Ours, not the paper's: without it, one good box earns the
    full reward where two objects are annotated. None without annotated boxes.

    >>> cup = Claim("cup", ((0, 0, 2, 2),), 5.0, 0, 0)
    >>> evidence_recall([cup], [(5.0, {"cup": [(0, 0, 2, 2)], "car": [(4, 4, 6, 6)]})])
    0.5
    """
    found = []
    for time_s, objects in key_boxes:
        near = [c for c in claims if c.time_s is not None and abs(c.time_s - time_s) <= gate_s]
        for name, boxes in objects.items():
            matches = (NAME_MATCHES[names](claim.name, name) * best_box(claim.boxes, boxes) for claim in near)
            found.append(max(matches, default=0.0))
    return sum(found) / len(found) if found else None


def strict_format(response: Response, has_evidence: bool) -> float:
    """r_fmt by correct tags: 1 without problems and with the evidence of the task, 0.5 for correct sections, else 0.

    Paper: 1.0 for correct sections and evidence tags, 0.5 for only the sections, else 0. `has_evidence`: the thinking
    has the evidence that the task requires.
    """
    kinds = {problem.kind for problem in response.problems}
    if kinds & STRUCTURE_KINDS:
        return 0.0
    return 1.0 if has_evidence and not kinds else 0.5


def counting_format(paired: bool, has_evidence: bool) -> float:
    """r_fmt by numbers of tags: 0 if unequal, 1 with the evidence of the task, else 0.5. Source: code."""
    return (1.0 if has_evidence else 0.5) if paired else 0.0
