"""Filters on hand-made rows: each fault dropped for its reason, clean rows kept."""

from dataclasses import replace

import pytest

from o3v.curate import drop_inconsistent, drop_large_boxes, sift
from o3v.evidence import format_claim, format_time
from o3v.schema import Example, KeyFrame, Task

CHAIN = f"I see {format_claim('dog', [(0.1, 0.1, 0.4, 0.4)], 2.0)}."
CLEAN = Example(
    id="clean",
    task=Task.SPATIO_TEMPORAL,
    source="here",
    question="Where is the dog?",
    answer="Left",
    reasoning_process=CHAIN,
    video_path="v.mp4",
    key_frames=(KeyFrame(20, 2.0, None, {"dog": ((0.1, 0.1, 0.4, 0.4),)}),),
)


def test_a_clean_row_passes_unchanged():
    kept, audit = sift([CLEAN])
    assert kept == [CLEAN]
    assert [line["count"] for line in audit] == [0, 0]


@pytest.mark.parametrize(("side", "kept"), [(0.894, 1), (0.895, 0)])  # 0.894² = 0.799, 0.895² = 0.801
def test_boxes_over_four_fifths_go(side, kept):
    row = replace(CLEAN, key_frames=(KeyFrame(20, 2.0, None, {"dog": ((0.0, 0.0, side, side),)}),))
    result = drop_large_boxes([row])
    assert len(result.kept[0].key_frames[0].items) == kept
    assert [d.reason for d in result.dropped] == ["large box"] * (1 - kept)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (f"{CHAIN} Then {format_time(7.0)}.", "time without key frame"),
        (f"{CHAIN} And {format_claim('cat', [(0.1, 0.1, 0.2, 0.2)], 2.0)}.", "object without box"),
        ("Nothing to see.", "no evidence"),
        (CHAIN.replace("</box>", ""), "malformed chain"),
    ],
)
def test_chains_that_say_more_than_was_annotated(chain, reason):
    result = drop_inconsistent([replace(CLEAN, reasoning_process=chain), CLEAN])
    assert result.kept == [CLEAN]
    assert [d.reason for d in result.dropped] == [reason]


def test_other_tasks_need_no_key_frames():
    general = replace(CLEAN, task=Task.FREE_FORM, key_frames=(), reasoning_process="Just so.")
    assert drop_inconsistent([general]).kept == [general]


def test_a_lost_box_makes_its_chain_inconsistent():
    huge = replace(CLEAN, id="huge", key_frames=(KeyFrame(20, 2.0, None, {"dog": ((0.0, 0.0, 1.0, 1.0),)}),))
    kept, audit = sift([CLEAN, huge])
    assert kept == [CLEAN]
    assert [(line["reason"], line["rows_after"]) for line in audit] == [("large box", 2), ("object without box", 1)]
