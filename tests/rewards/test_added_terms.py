"""Terms that the field has added since the paper, each by hand: names, the distance of spans."""

import math

import pytest

from o3v.evidence import Claim
from o3v.rewards import RewardConfig, score_completion, terms


def test_soft_names_pay_for_the_words_that_agree():
    """IoU 0.5; "blue cup" and "red cup" share one of three words, "red cup" and "red cup" all."""
    keys = [(5.0, {"red cup": [(0, 0, 2, 4)]})]
    claims = [Claim(name, ((0, 0, 2, 2),), 5.0, 0, 0) for name in ("blue cup", "Red cup", "car")]
    paid = {
        names: [terms.gated_spatial([claim], 1, keys, names=names) for claim in claims]
        for names in ("ignored", "soft", "required")
    }
    assert paid["ignored"] == [0.5, 0.5, 0.5]
    assert paid["soft"] == [pytest.approx(0.5 / 3), 0.5, 0.0]
    assert paid["required"] == [0.0, 0.5, 0.0]


def test_soft_recall_takes_the_claim_with_the_best_product():
    keys = [(5.0, {"red cup": [(0, 0, 2, 4)]})]
    wrong_name, half = ((0, 0, 2, 4),), ((0, 0, 2, 2),)
    claims = [Claim("blue cup", wrong_name, 5.0, 0, 0), Claim("red cup", half, 5.0, 0, 0)]
    assert terms.evidence_recall(claims, keys, names="soft") == 0.5  # 1/3 of 1.0, or 1 of 0.5


def test_the_distance_of_spans_by_hand():
    # the same start, twice as long: W² = 4²/3, W/L = 1/√3
    assert terms.span_distance((2.0, 10.0), (2.0, 6.0)) == pytest.approx(math.exp(-1 / math.sqrt(3)))
    near, far = terms.span_distance((7.0, 9.0), (2.0, 6.0)), terms.span_distance((20.0, 22.0), (2.0, 6.0))
    assert 0 < far < near < 1 and terms.answered_span((7.0, 9.0), (2.0, 6.0)) == 0.0
    assert terms.span_distance(None, (2.0, 6.0)) == 0.0


def test_the_distance_is_a_term_only_if_it_has_a_weight():
    row = {"task": "temporal QA", "answer": "[2.0, 6.0]"}
    text = "<think>At <t>3.0</t>s.</think><answer>From <t>6.0</t>s to <t>10.0</t>s</answer>"
    plain, added = (score_completion(text, row, 1.0, RewardConfig(span_distance_weight=w)) for w in (0.0, 2.0))
    assert "ans_tdist" not in plain
    assert added["ans_tdist"] == pytest.approx(2 * math.exp(-1))
    assert added["total"] == pytest.approx(plain["total"] + 2 * math.exp(-1))
