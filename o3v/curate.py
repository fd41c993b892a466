"""The data pipeline's filters: which annotated rows are good enough to learn from, and why the others are not.

A stage is a pure function from examples to a `Sifted`: what is kept and what was dropped, each drop with its
reason. Source: paper, annotation pipeline, steps 2 and 3. The stages here need no model; verifying crops and
sentences with one is not built yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from o3v import evidence
from o3v.geometry import box_area
from o3v.schema import Example, KeyFrame, Task

MAX_BOX_SHARE = 0.8  # of the frame; paper, box filtering
TIME_TOLERANCE_S = 0.051  # chains give times to a tenth of a second


@dataclass(frozen=True)
class Dropped:
    """A row, or one box of a row that stays, and why it went. `detail` names the offender."""

    id: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Sifted:
    """What a stage leaves: the rows that go on, in order, and the drops."""

    kept: list[Example]
    dropped: list[Dropped]


Stage = Callable[[Iterable[Example]], Sifted]


def drop_large_boxes(examples: Iterable[Example], max_share: float = MAX_BOX_SHARE) -> Sifted:
    """Removes boxes of key frames that cover more than `max_share` of the frame; the rows stay. Paper, step 2."""
    kept, dropped = [], []
    for example in examples:
        frames = []
        for frame in example.key_frames:
            items = {n: tuple(b for b in boxes if box_area(b) <= max_share) for n, boxes in frame.items.items()}
            dropped += [
                Dropped(example.id, example.source, "large box", f"{name} in frame {frame.idx}: {box_area(box):.0%}")
                for name, boxes in frame.items.items()
                for box in boxes
                if box_area(box) > max_share
            ]
            frames.append(replace(frame, items={name: boxes for name, boxes in items.items() if boxes}))
        kept.append(replace(example, key_frames=tuple(frames)))
    return Sifted(kept, dropped)


def drop_inconsistent(examples: Iterable[Example]) -> Sifted:
    """Drops spatio-temporal rows whose chain names a time or object that no key frame covers. Paper, step 3."""
    kept, dropped = [], []
    for example in examples:
        found = _uncovered(example) if example.task is Task.SPATIO_TEMPORAL and example.reasoning_process else None
        if found:
            dropped.append(Dropped(example.id, example.source, *found))
        else:
            kept.append(example)
    return Sifted(kept, dropped)


def _uncovered(example: Example) -> tuple[str, str] | None:
    """Reason and detail of the first thing wrong with a chain, or None."""
    response = evidence.parse_response(evidence.format_response(example.reasoning_process or "", example.answer))
    if response.problems:
        return "malformed chain", response.problems[0].message
    if not response.claims:
        return "no evidence", "the chain claims nothing"
    for time_s in response.times_s:
        if not _frames_at(example, time_s):
            return "time without key frame", f"{time_s:g} s"
    for claim in response.claims:
        if claim.time_s is not None and not any(claim.name in f.items for f in _frames_at(example, claim.time_s)):
            return "object without box", f"{claim.name} at {claim.time_s:g} s"
    return None


def _frames_at(example: Example, time_s: float) -> list[KeyFrame]:
    return [frame for frame in example.key_frames if abs(frame.time_s - time_s) <= TIME_TOLERANCE_S]


STAGES: Mapping[str, Stage] = {"large boxes": drop_large_boxes, "consistency": drop_inconsistent}


def sift(examples: Sequence[Example], stages: Mapping[str, Stage] = STAGES) -> tuple[list[Example], list[dict]]:
    """Runs the stages in order. Returns the kept rows and the audit: counts by stage, reason and source."""
    kept, audit = list(examples), []
    for name, stage in stages.items():
        before = len(kept)
        result = stage(kept)
        kept = result.kept
        counts = Counter((drop.reason, drop.source) for drop in result.dropped) or {("nothing", "all"): 0}
        audit += [
            {"stage": name, "reason": r, "source": s, "count": n, "rows_before": before, "rows_after": len(kept)}
            for (r, s), n in sorted(counts.items())
        ]
    return kept, audit
