"""The table of STGR's sources, and the paper's filters by source."""

from dataclasses import replace

import pytest

from o3v.data.source_filters import filter_by_source
from o3v.data.sources import SOURCES, source_of
from o3v.schema import Example, KeyFrame, Task

SPAN = Example("a", Task.TEMPORAL, "timerft", "When?", "[0.0, 6.9]", "So.", "a.mp4")
BOX = (0.1, 0.1, 0.4, 0.4)
KEYED = Example("a", Task.SPATIO_TEMPORAL, "STR_coin", "Who?", "He", "So.", "a.mp4")


def keyed(*times_s, source="STR_coin"):
    frames = [KeyFrame(round(10 * t), t, None, {"man": (BOX,)}) for t in times_s]
    return replace(KEYED, key_frames=tuple(frames), source=source)


def test_the_numbers_of_rows_are_those_of_the_paper():
    assert sum(source.sft for source in SOURCES) == pytest.approx(30.0)
    assert sum(source.rl for source in SOURCES) == pytest.approx(36.1)


def test_a_name_belongs_to_the_source_of_its_split():
    assert source_of("TVG_anything", "sft").label == "TVG-Coldstart"
    assert source_of("TVG_anything", "rl").label == "TVG-RL"
    assert source_of("STR_didemo", "rl").label == source_of("STR_coin", "sft").label == "own, temporal grounding"
    assert source_of("gqa", "sft").label == "VisCoT/GQA"  # not in this split: the one source that it can be
    assert source_of("synth_gqa", "rl") is None and source_of("own", "sft") is None


CASES = [  # row, length of its video, why it is dropped
    (SPAN, 10.0, None),  # 69%
    (SPAN, 9.8, "long span"),  # 70.4%
    (replace(SPAN, reasoning_process="x" * 5_999), 10.0, None),
    (replace(SPAN, reasoning_process="x" * 6_000), 10.0, "long reasoning"),
    (keyed(1.0, 6.0), 10.0, None),  # half of the video
    (keyed(1.0, 6.1), 10.0, "long action"),
    (keyed(1.0), 9.9, "length of the video"),
    (keyed(1.0), 180.1, "length of the video"),
    (keyed(1.0, 9.0, source="STR_plm_rdcap"), 9.5, None),  # no limits for this source
    (replace(SPAN, source="synth_timerft"), 7.0, None),  # nor for the synthetic world
    (replace(SPAN, source="own"), 7.0, None),
    (SPAN, None, None),  # the length is not known
]


@pytest.mark.parametrize(("row", "duration_s", "reason"), CASES)
def test_the_limits_of_each_source(row, duration_s, reason):
    result = filter_by_source([row], lambda _: duration_s, "sft", 0)
    assert [drop.reason for drop in result.dropped] == ([reason] if reason else [])
    assert result.kept == ([] if reason else [row])


def test_tvg_of_rl_has_the_limits_of_the_grounding_collections():
    row = replace(SPAN, source="TVG_x", task=Task.TEMPORAL_MCQ, answer="A\n[0.0, 6.0]")
    assert [d.reason for d in filter_by_source([row], lambda _: 11.0, "rl", 0).dropped] == ["long action"]
    assert filter_by_source([row], lambda _: 11.0, "sft", 0).dropped == []  # 55%, and the limit there is 70%


def test_as_many_rows_as_in_the_paper_are_drawn_in_their_order():
    image = Example("", Task.SPATIAL, "gqa", "Where?", "<box>[1,1,2,2]</box>", None, None, "a.jpg", (9, 9))
    rows = [replace(image, id=str(n)) for n in range(5_010)]
    result = filter_by_source([*rows, SPAN], lambda _: None, "rl", 3)
    assert len(result.kept) == 5_001 and len(result.dropped) == 10
    numbers = [int(e.id) for e in result.kept[:-1]]
    assert numbers == sorted(numbers) and result.kept[-1] == SPAN
    assert {drop.reason for drop in result.dropped} == {"not drawn"}
    assert filter_by_source([*rows, SPAN], lambda _: None, "rl", 3).kept == result.kept
    assert filter_by_source([*rows, SPAN], lambda _: None, "rl", 4).kept != result.kept
