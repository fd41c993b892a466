"""Cheats: their signs by hand, and what each forged completion is paid."""

import math

import pytest

from o3v import evidence, hacks
from o3v.rewards import RewardConfig, score_completion
from o3v.schema import Example, KeyFrame, Task

CLAIM = "<obj>dog</obj><box>[1,2,3,4]</box>at<t>{}</t>s"
ROW = Example(
    "r",
    Task.SPATIO_TEMPORAL,
    "STR_coin",
    "Where?",
    "On the left",
    video_path="v.mp4",
    key_frames=(
        KeyFrame(10, 2.0, None, {"dog": ((0.1, 0.1, 0.5, 0.5),)}),
        KeyFrame(30, 6.0, None, {"cat": ((0.5, 0.5, 0.9, 0.9),)}),
    ),
)


def said(think, total=0.0):
    return {"completion": f"<think>{think}</think><answer>left</answer>", "total": total}


@pytest.mark.parametrize(
    ("think", "signs"),
    [
        (f"{CLAIM.format(1)} {CLAIM.format(2)}", {"one box for all"}),
        (f"{CLAIM.format(1)} {CLAIM.format(1)}", {"one moment again and again", "the same claim twice"}),
        (" ", {"nothing thought"}),
        ("At <t>1</t>s.", set()),
        (" ".join(f"<t>{n}</t>s" for n in range(7)), {"more than six moments"}),
    ],
)
def test_signs_by_hand(think, signs):
    response = evidence.parse_response(said(think)["completion"])
    assert {name for name, shows in hacks.SIGNS.items() if shows(response)} == signs


def test_a_search_counts_and_shows_the_best_paid():
    table = {row["sign"]: row for row in hacks.search([said("", 1.0), said("", 3.0), said("I see.", 2.0)])}
    found = table["nothing thought"]
    assert (found["count"], found["mean total"]) == (2, 2.0) and found["share"] == pytest.approx(2 / 3)
    assert found["best paid"] == said("")["completion"] and table["(all rollouts)"]["mean total"] == 2.0
    assert math.isnan(table["one box for all"]["mean total"])
    assert [row["count"] for row in hacks.search([])] == [0] * (len(hacks.SIGNS) + 1)


def test_what_each_cheat_is_paid():
    """Key frames at 2 s and 6 s; σ = 1, τ = 3 s. Boxes of 40 × 40 in 100 × 100 lie apart."""
    row = ROW.to_row() | {"image_size": [100, 100]}

    def paid(config):
        forged = hacks.forge(ROW, (100, 100))
        scores = {kind: score_completion(text, row, 1.0, config) for kind, text in forged.items()}
        return {
            kind: (score["thk_temporal_point"], score["thk_spatial"], score["format"]) for kind, score in scores.items()
        }

    paper = paid(RewardConfig.paper())
    assert paper["honest"] == paper["only the first claim"] == paper["the first claim three times"] == (1, 1, 1)
    assert paper["another name"] == paper["honest"]  # names are never matched
    assert paper["one box for all"] == (1, 0.5, 1)
    assert paper["the whole frame"] == (1, pytest.approx(0.16), 1)
    assert paper["two seconds late"] == (pytest.approx(math.exp(-2)), 1, 1)
    assert paper["nothing thought"][0] in (0, None) and paper["nothing thought"][2] == 0.5
    assert paper["a claim every half second"][0] < 0.75
    strict = paid(RewardConfig(names="required"))
    assert strict["another name"][1] == 0 and strict["honest"] == (1, 1, 1)


def test_a_row_without_boxes_cannot_be_forged():
    with pytest.raises(ValueError, match="row 'r' has no boxes"):
        hacks.forge(Example("r", Task.MCQ, "x", "?", "A", video_path="v.mp4"), (84, 84))
