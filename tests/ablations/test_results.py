"""Tests of means, intervals and verdicts of the ablations, with values by hand."""

import pytest

from o3v.ablations import results, store
from o3v.ablations.results import Estimate
from o3v.ablations.tables import TABLES, Table, TableRow
from o3v.config import REPOSITORY

TABLE = Table(
    "table 0",
    "a test",
    "full",
    (
        TableRow("low", "less", {"mam": 30.0}),
        TableRow("ours", "ours"),
        TableRow("full", "full", {"mam": 33.0}),
    ),
)


def record(cell, seed, tiou, judge=3, totals=(1.0, 2.0), status="finished", **others):
    """A cell whose items have these tIoUs in both chains, and a vIoU of 0.25."""
    vstar = {"judge": [judge] * len(tiou), "tiou": [[t, t] for t in tiou], "viou": [[0.25, 0.25]] * len(tiou)}
    scores = {"vstar": vstar, "questions": {"total": list(totals)}}
    return {"cell": cell, "seed": seed, "status": status, "settings": {}, "inputs": {}, "scores": scores, **others}


@pytest.mark.parametrize(
    "scores", [{}, {"questions": {"total": [1.0]}}, {"vstar": {"judge": [3], "tiou": [0.5], "viou": [[0, 0]]}}]
)
def test_scores_that_cannot_be_read_name_the_cell(scores):
    bad = {**record("full", 4, [0.5]), "scores": scores}
    with pytest.raises(ValueError, match="cell full, seed 4: scores cannot be read"):
        results.table_rows(TABLE, [bad])


def test_cells_with_different_items_are_not_compared():
    cells = results.finished_cells([record("low", 0, [0.5]), record("full", 0, [0.5, 0.5])])
    with pytest.raises(ValueError, match="low and full, seed 0: different numbers of items"):
        results.changes(cells, TABLE.rows[0], TABLE.reference_row())


def test_without_any_record_every_table_says_so():
    for table in TABLES:
        assert {row["seeds"] for row in results.table_rows(table, [])} == {"not run"}
        assert "Not finished in a common seed" in results.sentence(table, [])


def test_metrics_by_hand():
    found = results.estimates(results.finished_cells([record("full", 0, [0.5, 0.5])]), TABLE.reference_row())
    assert found["accuracy"] == Estimate(1.0, 1.0, 1.0)
    assert found["mam"].value == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert found["m_tiou"].low == found["m_tiou"].high == pytest.approx(0.5)
    assert found["reward"].value == pytest.approx(1.5)
    assert (found["reward"].low, found["reward"].high) == pytest.approx((1.0, 2.0))  # of two items: 1, 1.5 or 2


def test_an_interval_holds_the_spread_between_seeds():
    cells = results.finished_cells([record("full", seed, [tiou] * 3) for seed, tiou in ((0, 0.2), (1, 0.4))])
    found = results.estimates(cells, TABLE.reference_row())["m_tiou"]
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.2, 0.4))


def test_a_change_is_paired_by_seed_and_item():
    noisy = {0: [0.1, 0.9, 0.3], 1: [0.8, 0.0, 0.5]}
    records = [record("full", seed, values) for seed, values in noisy.items()]
    records += [record("low", seed, [v - 0.06 for v in values]) for seed, values in noisy.items()]
    records.append(record("low", 2, [0.0, 0.0, 0.0]))  # no reference with this seed
    cells = results.finished_cells(records)
    change = results.changes(cells, TABLE.rows[0], TABLE.reference_row())
    assert (change["m_tiou"].value, change["m_tiou"].low, change["m_tiou"].high) == pytest.approx((-0.06,) * 3)
    assert change["mam"].value == pytest.approx(-0.02)
    assert results.verdict(change["mam"]) == "worse" and results.verdict(change["m_viou"]) == "within noise"


@pytest.mark.parametrize(
    ("change", "paper", "expected"),
    [
        (Estimate(-0.2, -0.3, -0.1), -3.0, "shows"),
        (Estimate(-0.2, -0.3, -0.1), 3.0, "is reversed"),
        (Estimate(-0.2, -0.3, 0.1), -3.0, "is within noise"),
        (Estimate(0.2, 0.1, 0.3), 3.0, "shows"),
    ],
)
def test_the_direction_of_the_paper(change, paper, expected):
    assert results.direction(change, paper) == expected


def test_a_table_and_its_sentence():
    records = [record("full", 0, [0.5] * 2), record("low", 0, [0.2] * 2), record("ours", 0, [0.5] * 2)]
    records.append({**record("ours", 1, []), "status": "started"})
    lines = {row[""]: row for row in results.table_rows(TABLE, records)}
    assert lines["less"]["change of mAM"] == "-0.100 (-0.100 to -0.100)" and lines["less"]["paper"] == "mAM 30.0"
    assert lines["ours"]["seeds"] == "0, 1 (started)" and lines["ours"]["paper"] == "–"
    assert lines["full"]["change of mAM"] == "–" and lines["full"]["m_tIoU"] == "0.500 (0.500–0.500)"
    assert results.sentence(TABLE, records) == (
        "Table 0 (a test), compared with “full”. mAM: the paper's direction shows for “less”; within noise: “ours”. "
        "reward: within noise: “less”, “ours”."
    )


def of_inference(cell, **scores):
    return {"cell": cell, "seed": 0, "status": "finished", "settings": {}, "inputs": {}, "scores": scores}


def test_removed_frames_are_compared_on_common_questions():
    table = next(table for table in TABLES if table.name == "table 6")
    claimed = {"question": [0, 1, 2], "before": [1, 1, 0], "after": [0, 0, 0], "changed": [1, 1, 0]}
    random = {"question": [0, 1], "before": [1, 1], "after": [1, 1], "changed": [0, 0]}
    changes = {"claimed frames removed": claimed, "random frames removed": random}
    lines = {row[""]: row for row in results.table_rows(table, [of_inference("removal", removal=changes)])}
    assert lines["all frames"]["right answers"] == "1.000 (1.000–1.000)"  # question 2 has no random removal
    assert lines["claimed frames removed"]["change of right answers"] == "-1.000 (-1.000 to -1.000)"
    assert lines["claimed frames removed"]["paper"] == "right answers 66.0"
    nothing = results.table_rows(table, [of_inference("removal", removal={})])
    assert {row["right answers"] for row in nothing} == {"–"}


def test_votes():
    table = next(table for table in TABLES if table.name == "table 13")
    votes = {"single": [0.5, 0.5], "majority": [0.0, 1.0], "confidence": [1.0, 1.0]}
    lines = {row[""]: row for row in results.table_rows(table, [of_inference("voting", voting=votes)])}
    assert lines["by confidence"]["right answers"] == "1.000 (1.000–1.000)"
    assert lines["single response"]["change of right answers"] == "+0.000 (-0.500 to +0.500)"


def test_what_was_spent():
    seconds = {"seconds": {"all": 3600.0, "cpu": 1800.0}, "starts": 2}
    records = [record("full", 0, [0.5], **seconds), record("low", 0, [0.5], status="failed")]
    expected = {"finished": 1, "started": 0, "failed": 1, "resumed": 1, "hours": 1.0, "cpu_hours": 0.5}
    assert results.spent(records) == expected


def test_every_row_of_the_tables_is_a_cell_and_every_cell_is_in_a_table():
    from o3v.ablations.cells import CELLS

    shown = {row.cell for table in TABLES for row in table.rows}
    assert shown - CELLS.keys() == set()
    assert CELLS.keys() - shown == {"sft_without_own"}  # a start only
    assert all(table.reference_row() for table in TABLES)


def test_the_docs_say_what_the_committed_cells_show():
    records = store.read_assembled(REPOSITORY / "data/ablations.json")
    shown = " ".join((REPOSITORY / "docs/ablations.md").read_text(encoding="utf-8").split())
    assert [table.name for table in TABLES if results.sentence(table, records) not in shown] == []
