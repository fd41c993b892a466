"""Filters on rows made by hand: each fault is dropped for its reason, and clean rows are kept."""

from dataclasses import replace

import numpy as np
import pytest

from o3v.data import filters
from o3v.data.filter_report import filter_rows
from o3v.data.filters import drop_inconsistent_rows, drop_large_boxes
from o3v.evidence import format_claim, format_time
from o3v.schema import Example, KeyFrame, Task
from o3v.toyworld.writing import write_video

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
    kept, report = filter_rows([CLEAN])
    assert kept == [CLEAN]
    assert [line["count"] for line in report] == [0, 0]


@pytest.mark.parametrize(("side", "kept"), [(0.894, 1), (0.895, 0)])  # 0.894² = 0.799, 0.895² = 0.801
def test_boxes_over_80_percent_of_the_frame_are_removed(side, kept):
    row = replace(CLEAN, key_frames=(KeyFrame(20, 2.0, None, {"dog": ((0.0, 0.0, side, side),)}),))
    result = drop_large_boxes([row])
    assert len(result.kept[0].key_frames) == kept
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
def test_a_row_whose_reasoning_goes_beyond_its_annotation_is_dropped(chain, reason):
    result = drop_inconsistent_rows([replace(CLEAN, reasoning_process=chain), CLEAN])
    assert result.kept == [CLEAN]
    assert [d.reason for d in result.dropped] == [reason]


def test_rows_of_other_tasks_need_no_key_frames():
    general = replace(CLEAN, task=Task.FREE_FORM, key_frames=(), reasoning_process="Just so.")
    assert drop_inconsistent_rows([general]).kept == [general]


def test_a_removed_box_makes_its_reasoning_inconsistent():
    huge = replace(CLEAN, id="huge", key_frames=(KeyFrame(20, 2.0, None, {"dog": ((0.0, 0.0, 1.0, 1.0),)}),))
    kept, report = filter_rows([CLEAN, huge])
    assert kept == [CLEAN]
    assert [(line["reason"], line["rows_after"]) for line in report] == [
        ("large box", 2),
        ("time without key frame", 1),
    ]


def perfect_judge(truth):
    """A crop reader and a judge that know from `truth` what is in each box at each time."""

    def read_crops(example, boxes):
        return [truth.get((time_s, box), "nothing") for time_s, box in boxes]

    def judge(crops, questions):
        return [crop in question for crop, question in zip(crops, questions, strict=True)]

    return read_crops, judge


BOX, OTHER = (0.1, 0.1, 0.5, 0.5), (0.6, 0.1, 0.9, 0.5)
TWO = replace(
    CLEAN,
    key_frames=(KeyFrame(20, 2.0, None, {"dog": (BOX,), "cat": (OTHER,)}),),
    reasoning_process=f"Here is the {format_claim('dog', [BOX], 2.0)}. "
    f"There is the {format_claim('cat', [OTHER], 2.0)}.",
)


def test_boxes_of_other_objects_are_removed():
    read_crops, judge = perfect_judge({(2.0, BOX): "dog", (2.0, OTHER): "cow"})
    result = filters.verify_crops([TWO], read_crops, judge)
    assert result.kept[0].key_frames == (KeyFrame(20, 2.0, None, {"dog": (BOX,)}),)
    assert [(d.reason, d.detail, d.box) for d in result.dropped] == [
        ("not what it is called", "cat in frame 20", OTHER)
    ]
    read_crops, judge = perfect_judge({})
    assert filters.verify_crops([TWO], read_crops, judge).kept[0].key_frames == ()
    assert filters.verify_crops([], read_crops, judge) == filters.FilterResult([], [])


def test_a_row_with_a_sentence_that_does_not_fit_is_dropped():
    read_crops, judge = perfect_judge(
        {(2.0, BOX): "Here is the dog at 2.0s.", (2.0, OTHER): "There is the cat at 2.0s."}
    )
    assert filters.verify_sentences([TWO], read_crops, judge, "{sentence}").kept == [TWO]
    read_crops, judge = perfect_judge(
        {(2.0, BOX): "Here is the dog at 2.0s.", (2.0, OTHER): "There is the cow at 2.0s."}
    )
    result = filters.verify_sentences([TWO, CLEAN], read_crops, judge, "{sentence}")
    assert [d.detail for d in result.dropped][:1] == ["There is the cat at 2.0s."]
    assert TWO not in result.kept


def test_boxes_that_the_reasoning_never_claims_are_removed():
    silent = replace(TWO, reasoning_process=TWO.reasoning_process.split(" There")[0])
    result = filters.drop_unmentioned_boxes([silent, TWO])
    assert [frame.items for frame in result.kept[0].key_frames] == [{"dog": (BOX,)}]
    assert result.kept[1] == TWO
    assert [(d.reason, d.detail, d.box) for d in result.dropped] == [("box without mention", "cat in frame 20", OTHER)]


def test_claims_are_rewritten_from_their_key_frames():
    near = (0.11, 0.1, 0.5, 0.5)
    exact, rough = (format_claim("dog", [box], 2.0) for box in (BOX, near))
    loose = replace(TWO, reasoning_process=TWO.reasoning_process.replace(exact, rough))
    assert loose != TWO
    assert filters.rewrite_chains([loose, TWO]).kept == [TWO, TWO]


def test_a_claim_at_0_s_is_rewritten():
    exact, rough = (format_claim("dog", [box], 0.0) for box in (BOX, OTHER))
    row = replace(CLEAN, key_frames=(KeyFrame(0, 0.0, None, {"dog": (BOX,)}),), reasoning_process=f"I see {rough}.")
    assert filters.rewrite_chains([row]).kept[0].reasoning_process == f"I see {exact}."


@pytest.mark.parametrize("verify", [filters.verify_crops, filters.verify_sentences])
def test_a_row_whose_crops_cannot_be_read_does_not_affect_the_others(tmp_path, verify):
    write_video(tmp_path / "v.mp4", np.zeros((30, 56, 56, 3), np.uint8), fps=10)
    frames, late = (KeyFrame(9990, 999.0, None, {"dog": (BOX,)}),), f"See {format_claim('dog', [BOX], 999.0)}."
    bad = [
        replace(CLEAN, id="late", key_frames=frames, reasoning_process=late),
        replace(CLEAN, id="gone", video_path="no.mp4"),
    ]
    result = verify([bad[0], CLEAN, bad[1]], filters.read_crops_from(tmp_path), lambda crops, _: [True] * len(crops))
    assert result.kept == [CLEAN]
    assert [(d.id, d.reason) for d in result.dropped] == [(row.id, "crops cannot be read") for row in bad]
    assert "999" in result.dropped[0].detail and "no.mp4" in result.dropped[1].detail


def test_crops_come_from_the_frame_at_their_time(tmp_path):
    frames = np.zeros((20, 56, 56, 3), np.uint8)
    frames[10:, :28, 28:] = (200, 30, 30)
    write_video(tmp_path / "a.mp4", frames, fps=10)
    row = replace(CLEAN, video_path="a.mp4")
    before, after = filters.read_crops_from(tmp_path)(row, [(0.5, (0.5, 0.0, 1.0, 0.5)), (1.5, (0.5, 0.0, 1.0, 0.5))])
    assert before.shape == after.shape == (28, 28, 3)
    assert before.mean() < 10 and after[..., 0].mean() > 150
