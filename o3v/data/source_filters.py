"""The paper's filters by source: what each data set of STGR may contribute. The published files have passed them.

Limits and numbers are in the table of `sources`; names that are not in it, as those of the synthetic world (its videos
are shorter than ten seconds) and of one's own annotations, have none. The rules are in `stgr`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from o3v.data import stgr
from o3v.data.filters import FilterResult
from o3v.data.sources import Source, source_of
from o3v.schema import DroppedRow, Example


def filter_by_source(
    examples: Sequence[Example], duration_s: Callable[[Example], float | None], split: str, seed: int
) -> FilterResult:
    """Applies the limits of each row's source, then draws as many rows of a source as the paper, in their order.

    Args:
        examples: rows of one split.
        duration_s: length of a row's video in seconds; None for an image.
        split: "sft" or "rl".
        seed: seed of the draws.
    """
    dropped, fitting = [], []
    for example in examples:
        reason = _reason(example, source_of(example.source, split), duration_s(example))
        if reason:
            dropped.append(DroppedRow(example.id, example.source, *reason))
        else:
            fitting.append(example)
    return _drawn(fitting, dropped, split, seed)


def _reason(example: Example, source: Source | None, duration_s: float | None) -> tuple[str, str] | None:
    """Why a source does not contribute a row, and the detail; None if it does."""
    if source is None:
        return None
    limit = source.max_reasoning_chars
    if limit is not None and not stgr.short_reasoning(example, limit):
        return "long reasoning", f"{len(example.reasoning_process or '')} characters, the limit is {limit}"
    if duration_s is None:
        return None
    if source.video_s is not None and not stgr.fitting_length(duration_s, *source.video_s):
        return "length of the video", f"{duration_s:.1f} s, not {source.video_s[0]:g}–{source.video_s[1]:g} s"
    share = source.max_span_share
    if share is not None and not stgr.short_span(example, duration_s, share):
        return "long span", f"{example.span_s} of {duration_s:.1f} s, the limit is {share:.0%}"
    share = source.max_action_share
    if share is not None and not stgr.short_action(example, duration_s, share):
        return "long action", f"more than {share:.0%} of {duration_s:.1f} s"
    return None


def _drawn(examples: Sequence[Example], dropped: list[DroppedRow], split: str, seed: int) -> FilterResult:
    places: Mapping[Source, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        if (source := source_of(example.source, split)) and source.drawn is not None:
            places[source].append(place)
    left_out = set()
    for source, own in places.items():
        left_out |= set(own) - set(stgr.draw_sample(own, source.drawn or 0, seed))
    dropped += [
        DroppedRow(e.id, e.source, "not drawn", "the paper draws fewer rows of this source")
        for place, e in enumerate(examples)
        if place in left_out
    ]
    return FilterResult([e for place, e in enumerate(examples) if place not in left_out], dropped)
