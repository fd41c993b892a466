"""Tests of the training rows of cells."""

from dataclasses import replace

import pytest

from o3v.ablations import rows
from o3v.schema import Example, Task


def example(number, task=Task.MCQ, source="synth_videor1_mcq", video=None):
    think = "The <obj>cup</obj><box>[0.1,0.2,0.5,0.9]</box>at<t>2.0</t>s falls."
    path = f"videos/{video or number}.mp4"
    return Example(f"row-{number}", task, source, "?", "A", video_path=path, reasoning_process=think)


MIXED = [example(n) for n in range(60)] + [
    example(n, Task.SPATIO_TEMPORAL, "synth_str_tg" if n % 2 else "synth_videoespresso") for n in range(60, 100)
]


@pytest.mark.parametrize("selection", rows.SELECTIONS)
def test_a_selection_of_nothing_is_nothing(selection):
    assert rows.training_rows([], selection, 8, 0) == []


def test_fewer_rows_than_asked_for_are_all_rows():
    assert {e.id for e in rows.training_rows(MIXED[:3], "all", 8, 0)} == {"row-0", "row-1", "row-2"}


def test_rows_are_drawn_once_and_depend_on_the_seed_only():
    first, again, other = (rows.training_rows(MIXED, "all", 40, seed) for seed in (0, 0, 1))
    assert first == again and first != other
    assert len({e.id for e in first}) == 40


def test_other_targets_are_of_the_same_task_and_of_no_row_itself():
    source = [replace(e, reasoning_process=e.id, answer=e.id) for e in MIXED]
    found = rows.SELECTIONS["other_targets"](source)
    tasks = {e.id: e.task for e in source}
    assert [(e.id, e.question) for e in found] == [(e.id, e.question) for e in source]
    assert all(e.answer == e.reasoning_process != e.id and tasks[e.answer] is e.task for e in found)
    assert sorted(e.answer for e in found) == sorted(tasks)


def test_own_rows_are_those_of_the_pipeline_and_not_those_of_espresso():
    kept = rows.training_rows(MIXED, "without_own", 100, 0)
    assert len(kept) == 80 and {e.source for e in kept} == {"synth_videor1_mcq", "synth_videoespresso"}
    kept = rows.training_rows(MIXED, "without_espresso", 100, 0)
    assert len(kept) == 80 and {e.source for e in kept} == {"synth_videor1_mcq", "synth_str_tg"}
    real = [example(0, Task.SPATIO_TEMPORAL, "STR_plm_rdcap"), example(1, Task.SPATIO_TEMPORAL, rows.ESPRESSO[0])]
    assert [rows.is_own(e) for e in real] == [True, False]


def test_the_share_of_general_questions():
    shares = {}
    for selection in ("general_none", "all", "general_more"):
        drawn = rows.training_rows(MIXED, selection, 40, 0)
        assert len(drawn) == 40
        shares[selection] = sum(e.task in rows.GENERAL for e in drawn) / 40
    assert shares["general_none"] == 0 and shares["general_more"] == 0.75
    assert 0.4 < shares["all"] < 0.75


def test_a_reasoning_without_evidence_keeps_its_words():
    (row,) = rows.training_rows(MIXED[:1], "text_only", 1, 0)
    assert row.reasoning_process == "The cup at 2.0s falls."
    assert row.answer == "A"


def test_no_row_shares_a_video_with_a_held_out_question():
    shared = [example(0, video="a"), example(1, video="b"), example(2, video="a"), example(3, video="c")]
    kept, heldout = rows.heldout_general(shared, 2)
    assert [e.id for e in heldout] == ["row-2", "row-3"]
    assert [e.id for e in kept] == ["row-1"]
    assert rows.heldout_general(shared, 0) == (shared, [])
