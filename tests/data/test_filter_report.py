"""The report of the filters, by hand."""

from o3v.data.filter_report import FilterStep, report_table, run_filters
from o3v.data.filters import FilterResult
from o3v.schema import DroppedRow, Example, Task

ROWS = [Example(name, Task.FREE_FORM, "own", "What?", "This", video_path="v.mp4") for name in "abc"]


def test_each_stage_runs_on_the_rows_that_are_left():
    def drop_first(examples):
        first, *others = examples
        return FilterResult(others, [DroppedRow(first.id, first.source, "first", "")])

    steps = run_filters(ROWS, {"one": drop_first, "two": drop_first})
    assert [(s.stage, s.rows_before, s.result.dropped[0].id) for s in steps] == [("one", 3, "a"), ("two", 2, "b")]
    assert steps[-1].result.kept == ROWS[2:]


def test_drops_are_counted_by_reason_and_source():
    dropped = [DroppedRow("x", source, reason, "") for source, reason in ("as", "bs", "as", "ar")]
    lines = report_table(
        [FilterStep("one", 5, FilterResult(ROWS, dropped)), FilterStep("two", 3, FilterResult([], []))]
    )
    assert [tuple(line.values()) for line in lines] == [
        ("one", "r", "a", 1, 5, 3),
        ("one", "s", "a", 2, 5, 3),
        ("one", "s", "b", 1, 5, 3),
        ("two", "nothing", "all", 0, 3, 0),
    ]
