"""The report of predictions, its tables, and the comparison of two files."""

import json
import math

import pytest
from helpers.vstar_rows import RIGHT, golden, random_rows

from o3v.cli import table_text
from o3v.evaluation.vstar import rounded, score_each
from o3v.evaluation.vstar_baselines import SHAPES, baseline_predictions
from o3v.evaluation.vstar_predictions import Predictions
from o3v.evaluation.vstar_report import comparison_report, comparison_rows, report_tables, vstar_report


def test_nothing_to_report():
    with pytest.raises(ValueError, match="no items"):
        vstar_report(Predictions([]))


def test_every_number_has_its_interval_and_n():
    report = vstar_report(Predictions(random_rows(30)))
    json.dumps(report, allow_nan=False)
    blocks = [report["overall"], *report["by_duration"].values(), *report["by_domain"].values()]
    blocks += [*report["baselines"].values(), *report["protocols"].values()]
    for block in blocks:
        for metric in block.values():
            assert metric["low"] <= metric["value"] + 1e-9 and metric["value"] <= metric["high"] + 1e-9
            assert metric["items"] > 0
    assert sum(block["mam"]["items"] for block in report["by_domain"].values()) == report["items"] == 30
    text = "\n".join(table_text(rows) for rows in report_tables(report).values())
    assert all(name in text for name in ("whole frame", "difference", "and_viou_above_0.3", "Sports", "strict"))


def test_rows_without_a_size_have_no_baselines_and_a_ceiling_is_explained():
    row = {name: value for name, value in RIGHT.items() if name != "width"}
    report = vstar_report(Predictions([row] * 2), "official")
    assert report["baselines"] == {} and "limit" in report["notes"][0]
    assert report["overall"]["mlgm"]["at_ceiling"]


def test_the_protocols_differ_by_what_strict_repairs():
    """Two items. "3" against "3.0": vIoU of chain 1 from 0 to 1/2. Unanswered: tIoU of chain 1 from 1/2 to 1/4."""
    boxes = [{"timestamp": 3.0, "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}]
    written = RIGHT | {"bboxes": boxes, "answer_spatial": {"3": [0, 0, 10, 10]}, "answer_spatial_2": {}}
    unanswered = written | {"vid": "b", "answer_vqa": "", "answer_temporal": [], "answer_spatial": {}}
    report = vstar_report(Predictions([written, unanswered]))
    official, strict = report["protocols"]["official"], report["protocols"]["strict"]
    assert (official["m_viou"]["value"], strict["m_viou"]["value"]) == (0.0, 0.25)  # means of both chains
    assert official["m_tiou"]["value"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert strict["m_tiou"]["value"] == pytest.approx((1 / 4 + 1 / 3) / 2)
    difference = report_tables(report)["What the protocol changes"][2]
    assert difference["m_viou"] == "+0.2500" and difference["accuracy"] == "+0.0000"


def test_the_report_has_the_public_scorers_numbers_to_the_printed_digit():
    content = golden()
    if content is None:
        pytest.skip("the golden file is not here")
    report = vstar_report(Predictions(content["items"]), "official")
    titles = {"Overall Statistics": report["overall"]}
    titles |= {f"Video Length: {name.capitalize()}": block for name, block in report["by_duration"].items()}
    titles |= {f"Domain: {name}": block for name, block in report["by_domain"].items()}
    for title, block in titles.items():
        printed = content["official"][title]
        values = rounded({name: metric["value"] for name, metric in block.items()})
        assert printed["accuracy"] == [values["accuracy"]]
        assert printed["mAM"] == [values["mam"]] and printed["mLGM"] == [values["mlgm"]]
        assert printed["mean_tiou"] == [values["m_tiou.1"], values["m_tiou.2"]]
        assert printed["mean_viou"] == [values["m_viou.1"], values["m_viou.2"]]
        assert printed["AM"] == [values["am.1"], values["am.2"]] and printed["LGM"] == [
            values["lgm.1"],
            values["lgm.2"],
        ]
    assert titles.keys() == content["official"].keys()


def test_baselines_by_hand():
    """30 s, span 0–10 s, frame 100×50, box 10×10: the whole frame has IoU 1/50, the centre box misses it."""
    rows = {name: score_each(baseline_predictions([RIGHT], name), "strict").scores[0] for name in SHAPES}
    assert rows["whole frame"].tiou == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert rows["whole frame"].viou == (pytest.approx(1 / 50), pytest.approx(1 / 50))
    assert rows["centre box"].viou == (0.0, 0.0)
    assert rows["centre box"].tiou[0] == pytest.approx(2.5 / 22.5)  # 7.5–22.5 s
    assert all(score.judge == 3 for score in rows.values())  # one item: its answer is the most frequent one
    assert baseline_predictions([RIGHT], "random") == baseline_predictions([RIGHT], "random")
    spans = {tuple(baseline_predictions([RIGHT], "random", seed)[0]["answer_temporal"]) for seed in range(9)}
    assert len(spans) == 9 and all(0 <= start <= end <= 30 for start, end in spans)


def test_a_comparison_names_the_metrics_that_fell():
    good = Predictions([RIGHT] * 6)
    bad = Predictions([RIGHT | {"answer_temporal": [20.0, 30.0]}] * 6)
    report = comparison_report(good, bad)
    assert report["worse"] == ["m_tiou", "mam", "mlgm"] and comparison_report(bad, good)["worse"] == []
    rows = {row["metric"]: row for row in comparison_rows(report)}
    assert rows["m_tiou"]["change"] == "-0.250 (-0.250 to -0.250)" and rows["m_tiou"]["n"] == 6
    assert math.isclose(rows["m_tiou"]["A"], 5 / 12)
