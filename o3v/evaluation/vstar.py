"""V-STAR's metrics from saved predictions: what, when and where (arXiv:2510.20579, table 1).

Each item has an answer (what), and in two chains a span (when) and boxes by second (where). Chain 1 asks
what–when–where, chain 2 what–where–when. Every pair [a, b] in the results is chain 1, then chain 2. Boxes are in
pixels of the original video, times in seconds. This module does not know models; a judge is any callable.

Two protocols: "official" computes what the public scorer prints (code, commit 1eb6eca), except where that divides by
zero or takes the logarithm of 0. "strict" differs from it in the fields of PROTOCOLS.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from o3v.evaluation.vstar_items import CHAINS, annotated_boxes, as_number, is_numbers, read_span, result_problems
from o3v.evaluation.vstar_times import clock_s, spoken_times
from o3v.evidence import parse_response
from o3v.geometry import Box, box_iou, span_iou
from o3v.text import tokens

logger = logging.getLogger(__name__)

R1_THRESHOLDS = (0.3, 0.5, 0.7)
AP_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
JOINT_TIOU, JOINT_VIOU, CORRECT_SCORE = 0.3, 0.1, 2  # thresholds of an item that is right in time, place, answer
JOINT_RATES = {
    "vqa_temporal": ("what", "when"),
    "vqa_spatial": ("what", "where"),
    "temporal_spatial": ("when", "where"),
    "vqa_temporal_spatial": ("what", "when", "where"),
}
# evidence levels after VideoZeroBench (arXiv:2604.01569): share of items that are right for the shown reason
EVIDENCE_IOU = 0.3
EVIDENCE_LEVELS = {"right_answer": 1, "and_tiou_above_0.3": 2, "and_viou_above_0.3": 3}
DURATIONS = {"short": 60.0, "medium": 180.0, "long": math.inf}  # upper limits in seconds
LGM_CEILING = 1 - 1e-6  # ours: a perfect metric adds −ln(1e-6)/3 = 4.6; the scorer's logarithm fails

Metrics = dict[str, Any]
Judge = Callable[[str, str], int]


@dataclass(frozen=True)
class Protocol:
    """How items are read and counted."""

    numeric_seconds: bool  # "3" equals "3.0"; the scorer compares str(timestamp) with the key
    units_in_times: bool  # "26s to 30.5s" is a span; the scorer reads only the 30
    count_unanswered: bool  # wrong in all metrics; the scorer: only in accuracy and joint rates


PROTOCOLS: Mapping[str, Protocol] = {
    "official": Protocol(numeric_seconds=False, units_in_times=False, count_unanswered=False),
    "strict": Protocol(numeric_seconds=True, units_in_times=True, count_unanswered=True),
}


@dataclass(frozen=True)
class ItemScore:
    """Scores of one item."""

    answered: bool  # whether there is an answer
    judge: int  # score of the answer, 0–3
    tiou: tuple[float, float]  # temporal IoU of chain 1 and 2
    ious: tuple[tuple[float, ...], tuple[float, ...]]  # box IoU at each annotated second, of chain 1 and 2

    @property
    def viou(self) -> tuple[float, float]:
        """Mean box IoU of each chain over the annotated seconds, 0 without any."""
        return (_mean(self.ious[0]), _mean(self.ious[1]))

    def right(self, chain: int) -> set[str]:
        """Whether the answers to what, when and where count as right in the joint rates."""
        when, where = self.tiou[chain] >= JOINT_TIOU, self.viou[chain] >= JOINT_VIOU
        parts = {"what": self.judge >= CORRECT_SCORE, "when": when, "where": where}
        return {part for part, passed in parts.items() if passed}

    def evidence_level(self, chain: int) -> int:
        """0: wrong; 1: right answer; 2: and tIoU above EVIDENCE_IOU; 3: and vIoU above it."""
        passed = (self.judge >= CORRECT_SCORE, self.tiou[chain] > EVIDENCE_IOU, self.viou[chain] > EVIDENCE_IOU)
        return 3 if all(passed) else passed.index(False)


def judge_exact(predicted: str, truth: str) -> int:
    """Replaces the LLM judge (0–3): 3 if the prediction contains the words of the truth in a row, else 0.

    Case, punctuation and articles are ignored. It never gives 1 or 2.

    >>> judge_exact("It is the red car.", "a red car"), judge_exact("red cart", "red car")
    (3, 0)
    """
    predicted_words, true_words = _words(predicted), _words(truth)
    found = f" {' '.join(true_words)} " in f" {' '.join(predicted_words)} "
    return 3 if true_words and found else 0


def _words(text: str) -> list[str]:
    words = tokens(text)
    return [word for word in words if word not in ("a", "an", "the")] or words


def temporal_iou(predicted: Any, truth: Sequence[float]) -> float:
    """Temporal IoU of an answered span [start, end] in seconds, a list or its text. 0 for anything else."""
    span_s = read_span(predicted)
    return span_iou(span_s, truth) if span_s else 0.0


def spoken_span(text: str, protocol: str = "official") -> list[float]:
    """The span in seconds in a raw temporal response: its only two times; [] otherwise.

    Protocol "strict" reads `spoken_times`.

    >>> spoken_span("00:01:05 --> 00:01:10.5", "strict"), spoken_span("12.5 s to 30 secs", "strict")
    ([65.0, 70.5], [12.5, 30.0])
    """
    answer = parse_response(text).answer
    text = text if answer is None else answer
    if PROTOCOLS[protocol].units_in_times:
        times = spoken_times(text)
    else:
        for clock in re.findall(r"[0-9]{1,9}:[0-9]{1,9}", text)[:3]:  # as the scorer: also inside a longer clock time
            text = text.replace(clock, f"<{clock_s(clock):.0f}>s")
        times = [float(number) for number in re.findall(r"\b[0-9]+(?:\.[0-9]+)?\b", text)]
    return times if len(times) == 2 else []


def second_ious(predicted: Any, truth: Sequence[tuple[str, Box]], protocol: str = "official") -> tuple[float, ...]:
    """Box IoU at each annotated second: the best of several boxes, 0 without a prediction.

    `predicted` maps seconds to a box or a list of boxes; `truth` lists seconds, as written, with their boxes.
    """
    as_key = as_number if PROTOCOLS[protocol].numeric_seconds else str
    by_second = {as_key(second): boxes for second, boxes in predicted.items()} if isinstance(predicted, Mapping) else {}
    return tuple(_best_iou(by_second.get(as_key(second)), box) for second, box in truth)


def _best_iou(predicted: Any, truth: Box) -> float:
    boxes = [predicted] if is_numbers(predicted, 4) else predicted if isinstance(predicted, list | tuple) else []
    return max((box_iou(box, truth) for box in boxes if is_numbers(box, 4)), default=0.0)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def score_item(item: Mapping[str, Any], protocol: str = "official", judge: Judge = judge_exact) -> ItemScore:
    """Scores one row of the benchmark with its results. A `judge_score` in the row replaces the judge; −1 counts 0.

    Missing or malformed results score 0. Raises KeyError if the row lacks its ground truth.
    """
    answer, rating = item.get("answer_vqa"), item.get("judge_score")
    if answer and rating is None:
        rating = judge(str(answer), item["answer"])
    tious, ious = [], []
    for chain in CHAINS:
        span = item.get(f"answer_temporal{chain}")
        if span == []:
            span = spoken_span(str(item.get(f"answer_temporal_pre{chain}") or ""), protocol)
        tious.append(temporal_iou(span, item["timestamps"]))
        ious.append(second_ious(item.get(f"answer_spatial{chain}"), annotated_boxes(item), protocol))
    score = max(0, rating) if answer and is_numbers([rating], 1) else 0
    return ItemScore(bool(answer), score, tuple(tious), tuple(ious))


def arithmetic_mean(accuracy: float, m_tiou: float, m_viou: float) -> float:
    """AM = (acc + m_tIoU + m_vIoU) / 3. Source: V-STAR."""
    return (accuracy + m_tiou + m_viou) / 3


def log_geometric_mean(accuracy: float, m_tiou: float, m_viou: float) -> float:
    """LGM = −(ln(1 − acc) + ln(1 − m_tIoU) + ln(1 − m_vIoU)) / 3. Source: V-STAR. Each at most LGM_CEILING.

    >>> round(log_geometric_mean(0.5, 0.5, 0.0), 4)  # 2 ln 2 / 3
    0.4621
    """
    return -sum(math.log(1 - min(value, LGM_CEILING)) for value in (accuracy, m_tiou, m_viou)) / 3


def summarise(scores: Sequence[ItemScore], total: int) -> Metrics:
    """The metrics of a group: means over `scores`, accuracy and joint rates over `total` items; 0 over none."""

    def per_chain(value: Callable[[ItemScore, int], float], count: int = len(scores)) -> list[float]:
        return [math.fsum(value(score, chain) for score in scores) / count if count else 0.0 for chain in (0, 1)]

    accuracy = per_chain(lambda score, _: score.judge >= CORRECT_SCORE, total)[0]
    m_tiou = per_chain(lambda score, chain: score.tiou[chain])
    m_viou = per_chain(lambda score, chain: score.viou[chain])
    am = [arithmetic_mean(accuracy, m_tiou[chain], m_viou[chain]) for chain in (0, 1)]
    lgm = [log_geometric_mean(accuracy, m_tiou[chain], m_viou[chain]) for chain in (0, 1)]
    metrics: Metrics = {"items": total, "answered": sum(score.answered for score in scores), "accuracy": accuracy}
    metrics |= {"m_tiou": m_tiou, "m_viou": m_viou, "am": am, "lgm": lgm, "mam": fmean(am), "mlgm": fmean(lgm)}
    metrics["r1"] = {at: per_chain(lambda score, chain, at=at: score.tiou[chain] >= at) for at in R1_THRESHOLDS}
    metrics["ap"] = {
        at: per_chain(lambda item, chain, at=at: _mean([iou >= at for iou in item.ious[chain]])) for at in AP_THRESHOLDS
    }
    for name, parts in JOINT_RATES.items():
        metrics[name] = per_chain(lambda score, chain, parts=parts: score.right(chain).issuperset(parts), total)
    metrics["evidence"] = {
        name: per_chain(lambda score, chain, level=level: score.evidence_level(chain) >= level, total)
        for name, level in EVIDENCE_LEVELS.items()
    }
    return metrics


@dataclass(frozen=True)
class ScoredItems:
    """The scores of all items, in order, with what the report needs to group them."""

    scores: list[ItemScore]
    counted: list[bool]  # whether an item counts in the means; "official" leaves out items without an answer
    durations: list[str]  # short, medium or long
    domains: list[str]
    malformed: list[str]  # results that cannot be read and score 0, with item, field and reason

    def select(self, chosen: Sequence[bool]) -> list[ItemScore]:
        """The scores of the chosen items that count."""
        return [s for s, counts, mine in zip(self.scores, self.counted, chosen, strict=True) if counts and mine]


def score_each(
    items: Iterable[Mapping[str, Any]], protocol: str = "official", judge: Judge = judge_exact
) -> ScoredItems:
    """Scores rows with results. Raises ValueError for no items, an unknown protocol, or an item without its truth."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {list(PROTOCOLS)}")
    scored = ScoredItems([], [], [], [], [])
    for number, item in enumerate(items, 1):
        scored.malformed.extend(f"item {number} ({item.get('vid')}): {problem}" for problem in result_problems(item))
        try:
            scored.scores.append(score_item(item, protocol, judge))
            scored.durations.append(duration_name(item))
        except KeyError as error:
            raise ValueError(f"item {item.get('vid', number)!r}: field {error} is missing") from None
        scored.domains.append(str(item.get("domain", "unknown")))
        scored.counted.append(scored.scores[-1].answered or PROTOCOLS[protocol].count_unanswered)
    if not scored.scores:
        raise ValueError("there are no items to score")
    return scored


def score_items(items: Iterable[Mapping[str, Any]], protocol: str = "official", judge: Judge = judge_exact) -> Metrics:
    """Metrics of rows with results: {"overall": …, "by_duration": {"short": …}, "by_domain": {…}}, not rounded.

    "malformed" lists the results that cannot be read and score 0, with item, field and reason. Raises the errors of
    `score_each`.
    """
    scored = score_each(items, protocol, judge)
    if scored.malformed:
        logger.warning("%d malformed results, the first: %s", len(scored.malformed), scored.malformed[0])
    overall = scored.select([True] * len(scored.scores))
    metrics: Metrics = {"overall": summarise(overall, len(scored.scores)), "malformed": scored.malformed}
    for kind, labels in (("by_duration", scored.durations), ("by_domain", scored.domains)):
        groups = {name: scored.select([label == name for label in labels]) for name in sorted(set(labels))}
        metrics[kind] = {name: summarise(scores, len(scores)) for name, scores in groups.items()}
    return metrics


def result_columns(metrics: Metrics) -> dict[str, float]:
    """The columns of the result table from one block of `score_items`: tIoU and vIoU as means of both chains."""
    means = {name: math.fsum(metrics[name]) / 2 for name in ("m_tiou", "m_viou")}
    return {"accuracy": metrics["accuracy"], **means, "mam": metrics["mam"], "mlgm": metrics["mlgm"]}


def duration_name(item: Mapping[str, Any]) -> str:
    """short < 60 s ≤ medium < 180 s ≤ long, by frame_count / fps rounded to hundredths (code)."""
    length_s = round(item["frame_count"] / item["fps"], 2)
    return next((name for name, limit_s in DURATIONS.items() if length_s < limit_s), "long")


def rounded(metrics: Any, digits: int = 4) -> Any:
    """The metrics with every number rounded as the public scorer prints it."""
    if isinstance(metrics, Mapping):
        return {name: rounded(value, digits) for name, value in metrics.items()}
    if isinstance(metrics, list):
        return [rounded(value, digits) for value in metrics]
    return float(f"{metrics:.{digits}f}") if isinstance(metrics, float) else metrics
