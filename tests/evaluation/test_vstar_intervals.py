"""Intervals of V-STAR's metrics: the same means as the scorer, percentiles of resamples, paired differences."""

import math

import numpy as np
import pytest
from helpers.vstar_rows import RIGHT, random_rows

from o3v.evaluation.bootstrap import resampled_means
from o3v.evaluation.vstar import EVIDENCE_LEVELS, JOINT_RATES, score_each, score_items
from o3v.evaluation.vstar_intervals import BY_CHAIN, HEADLINE, compare, intervals, metrics_of_means


def test_resampled_means_do_not_count_nan():
    means = resampled_means(np.array([[1.0, np.nan], [1.0, 3.0], [1.0, np.nan]]))
    assert (means[:, 0] == 1).all()
    assert set(means[:, 1].tolist()) == {0.0, 3.0}  # 0 where item 2 was not drawn
    assert np.array_equal(means, resampled_means(np.array([[1.0, np.nan], [1.0, 3.0], [1.0, np.nan]]), block=7))


def test_no_item_has_no_metric():
    assert intervals(score_each([RIGHT]), [False]) == {}


@pytest.mark.parametrize("protocol", ["official", "strict"])
def test_values_are_those_of_the_scorer(protocol):
    rows = random_rows(40)
    found, metrics = intervals(score_each(rows, protocol)), score_items(rows, protocol)["overall"]
    assert tuple(found)[: len(HEADLINE)] == HEADLINE
    assert [found[name].value for name in ("accuracy", "mam", "mlgm")] == pytest.approx(
        [metrics[name] for name in ("accuracy", "mam", "mlgm")]
    )
    expected = {name: metrics[name] for name in ("m_tiou", "m_viou", "am", "lgm", *JOINT_RATES)}
    expected |= {f"r1@{at}": pair for at, pair in metrics["r1"].items()}
    expected |= {f"ap@{at}": pair for at, pair in metrics["ap"].items()}
    expected |= {name: metrics["evidence"][name] for name in EVIDENCE_LEVELS}
    for name, pair in expected.items():
        assert [found[f"{name}.{chain}"].value for chain in (1, 2)] == pytest.approx(pair), name
    assert all(one.low <= one.value <= one.high and one.items == 40 for one in found.values())


def test_equal_items_have_intervals_without_width_and_two_different_ones_the_widest():
    same = intervals(score_each([RIGHT] * 5))
    assert all(one.low == one.high for one in same.values())
    wrong = RIGHT | {"judge_score": 0}
    one = intervals(score_each([RIGHT, wrong]))["accuracy"]
    assert (one.low, one.value, one.high) == (0.0, 0.5, 1.0)


def test_a_metric_of_one_is_marked_as_the_ceiling():
    found = intervals(score_each([RIGHT] * 3))
    limit = -math.log(1e-6) / 3
    assert found["lgm.1"].at_ceiling and found["mlgm"].at_ceiling and not found["mam"].at_ceiling
    assert found["lgm.1"].value == pytest.approx(limit + math.log(2) / 3 + math.log(4) / 3)  # tIoU 1/2, vIoU 3/4
    assert not intervals(score_each([RIGHT | {"judge_score": 0}] * 3))["mlgm"].at_ceiling


def test_am_and_lgm_of_means_by_hand():
    means = np.zeros((len(BY_CHAIN), 2))
    for name, pair in {"accuracy": (0.5, 0.5), "m_tiou": (0.25, 0.5), "m_viou": (0.0, 0.5)}.items():
        means[BY_CHAIN.index(name)] = pair
    found = metrics_of_means(means)
    assert (found["am.1"], found["am.2"], found["mam"]) == (0.25, 0.5, 0.375)
    assert found["lgm.1"] == pytest.approx(-math.log(0.5 * 0.75) / 3) and found["lgm.2"] == pytest.approx(math.log(2))
    assert found["mlgm"] == pytest.approx((found["lgm.1"] + found["lgm.2"]) / 2)


def test_a_paired_difference_is_narrower_than_two_intervals():
    """Model B is longer by 1 s in each item, which two separate intervals would hide."""
    before = random_rows(30)
    after = [row | {"answer_temporal": [row["answer_temporal"][0], row["answer_temporal"][1] + 1]} for row in before]
    difference = compare(score_each(before, "strict"), score_each(after, "strict"))
    assert difference["accuracy"].change == difference["m_tiou.2"].change == 0
    single = intervals(score_each(before, "strict"))["m_tiou.1"]
    paired = difference["m_tiou.1"]
    assert paired.high - paired.low < single.high - single.low and paired.before == single.value


def test_verdicts():
    good, bad = [RIGHT] * 8, [RIGHT | {"answer_temporal": [20.0, 30.0]}] * 8
    down, up, same = (compare(score_each(a), score_each(b)) for a, b in ((good, bad), (bad, good), (good, good)))
    assert (down["m_tiou"].verdict, up["m_tiou"].verdict, same["m_tiou"].verdict) == (
        "worse",
        "better",
        "within chance",
    )
    assert down["m_tiou"].change == pytest.approx(-0.25) and down["m_viou"].verdict == "within chance"
    assert compare(score_each(good[:1]), score_each(bad[:1]))["m_tiou"].verdict == "within chance"  # one item
    with pytest.raises(ValueError, match="the same items, found 8 and 7"):
        compare(score_each(good), score_each(bad[:7]))
