"""Each term of the reward at its boundaries, worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3v.evidence import Claim, format_claim, format_response, parse_response
from o3v.rewards.terms import (
    MAX_ROUGE_CHARS,
    answered_box,
    answered_span,
    best_object,
    best_pair,
    counting_format,
    exact_choice,
    gated_spatial,
    rouge,
    strict_format,
    temporal_point,
    temporal_proximity,
    temporal_segment,
)

FRAME = (10.0, {"cup": [(0, 0, 10, 10)]})
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU ½ with the cup


def claim(time_s: float | None, *boxes: tuple) -> Claim:
    return Claim("dog", boxes or (HALF,), time_s, 0, 0)


@pytest.mark.parametrize(("answer", "value"), [("", 0), ("b", 0), ("Option B", 0), ("C", 0), (" B. ", 1), ("[B]", 1)])
def test_choice(answer, value):
    assert exact_choice(answer, "B", marked=False) == value
    assert exact_choice(f"From …\nCorrect Option: {answer}", "B", marked=True) == value
    assert exact_choice(answer, "B", marked=True) == 0  # the mark is missing


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", 0.0),
        ("…", 0.0),
        ("the man opens the door", 1.0),
        ("the man opened the doors", 1.0),  # stems are equal
        ("the man closes the door", (4 / 5 + 2 / 4 + 4 / 5) / 3),  # 4 of 5 words, 2 of 4 pairs, 4 in a row
        ("door", (2 * 1 * 0.2 / 1.2 + 0 + 2 * 1 * 0.2 / 1.2) / 3),  # precision 1, recall 1/5
        ("the man opens the door " * (MAX_ROUGE_CHARS // 20), 0.0),
    ],
)
def test_rouge(answer, expected):
    assert rouge(answer, "the man opens the door") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("span", "expected"),
    [(None, 0), ((9, 12), 0), ((6, 9), 0), ((4, 4), 0), ((2, 6), 1), ((0, 4), 2 / 6), ((3, 5), 0.5), ((0, 8), 0.5)],
)
def test_answered_span(span, expected):
    assert answered_span(span, (2.0, 6.0)) == pytest.approx(expected)


def test_answered_box():
    assert answered_box(None, HALF) == 0
    assert answered_box((20, 20, 30, 30), HALF) == 0
    assert answered_box((0, 0, 10, 10), HALF) == 0.5


@pytest.mark.parametrize(
    ("times_s", "expected"), [([], 0), ([1.9, 6.1], 0), ([2.0], 1), ([6.0], 1), ([2.0, 6.0, 7.0, 4.0], 0.75)]
)
def test_segment_counts_its_ends(times_s, expected):
    assert temporal_segment(times_s, (2.0, 6.0)) == expected


@pytest.mark.parametrize(("pred_s", "sigma_s", "expected"), [(4, 4, 1), (8, 4, math.exp(-0.5)), (8, 2, math.exp(-2))])
def test_proximity(pred_s, sigma_s, expected):
    assert temporal_proximity(pred_s, [4.0, 100.0], sigma_s) == pytest.approx(expected)


def test_proximity_of_absurd_times_is_zero():
    assert temporal_proximity(1e300, [4.0], 1.0) == temporal_proximity(math.inf, [4.0], 1.0) == 0.0


def test_point_without_key_frames_or_timestamps():
    assert temporal_proximity(1.0, [], 1.0) is None
    assert temporal_point([1.0], [], 1.0) is None
    assert temporal_point([], [1.0], 1.0) == 0.0  # M = 0


def test_point_is_a_mean_over_timestamps_to_the_nearest_key():
    # Δ = 0, 1 (to 10, not to 4) and 2; σ = 1
    expected = (1 + math.exp(-0.5) + math.exp(-2)) / 3
    assert temporal_point([4.0, 9.0, 12.0], [4.0, 10.0], 1.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("time_s", "two_sided", "one_sided"),
    [
        (6.99, 0, 0),
        (7.0, 0.5, 0),  # Δt = τ is near enough
        (9.0, 0.5, 0),  # one-sided: key − t = 1 is not below 1
        (9.01, 0.5, 0.5),
        (10.0, 0.5, 0.5),
        (13.0, 0.5, 0.5),  # Δt = τ on the other side
        (13.01, 0, 0.5),
        (500.0, 0, 0.5),  # one-sided: late always passes
        (None, 0, 0),
        (math.nan, 0, 0),
        (math.inf, 0, 0),
    ],
)
def test_gate(time_s, two_sided, one_sided):
    assert gated_spatial([claim(time_s)], 1, [FRAME]) == two_sided
    assert gated_spatial([claim(time_s)], 1, [FRAME], gate="one_sided", gate_s=1.0) == one_sided


def test_the_gate_includes_tau_in_spite_of_rounding():
    assert 4.4 - 1.4 > 3.0  # as floats
    assert gated_spatial([claim(1.4)], 1, [(4.4, FRAME[1])]) == 0.5


def test_an_infinite_gate_is_open():
    assert gated_spatial([claim(500.0)], 1, [FRAME], gate_s=math.inf) == 0.5


def test_the_nearest_key_frame_is_the_one_compared():
    other = (14.0, {"cup": [HALF]})
    assert gated_spatial([claim(11.9)], 1, [FRAME, other]) == 0.5
    assert gated_spatial([claim(12.1)], 1, [FRAME, other]) == 1.0
    assert gated_spatial([claim(12.0)], 1, [FRAME, other]) == 0.5  # as near: the first


def test_one_sided_takes_the_nearest_that_passes():
    later = (12.0, {"cup": [HALF]})  # nearer to 11, but 1 s ahead: closed
    assert gated_spatial([claim(11.0)], 1, [(5.0, FRAME[1]), later], gate="one_sided", gate_s=1.0) == 0.5


def test_spatial_without_claims_or_truth():
    assert gated_spatial([], 0, [FRAME]) == 0.0  # M = 0
    assert gated_spatial([], 3, [FRAME]) == 0.0
    assert gated_spatial([claim(1.0)], 1, []) is None
    assert gated_spatial([claim(10.0)], 1, [(10.0, {})]) is None
    assert gated_spatial([claim(1.0)], 1, [(1.0, {}), FRAME]) == 0.0  # the matched frame has no boxes


def test_averages_over_timestamps_and_over_claims():
    claimed = [claim(10.0, (0, 0, 10, 10)), claim(11.0)]  # 1 and ½, and two more times without a claim
    assert gated_spatial(claimed, 4, [FRAME]) == pytest.approx(1.5 / 4)
    assert gated_spatial(claimed, 4, [FRAME], mean_over="claims") == pytest.approx(1.5 / 2)
    assert gated_spatial([*claimed, claim(500.0)], 5, [FRAME], mean_over="matched") == pytest.approx(1.5 / 2)
    assert gated_spatial([claim(500.0)], 1, [FRAME], mean_over="matched") == 0.0  # nothing passes the gate


def test_several_boxes():
    truth = {"cup": [(0, 0, 10, 10), (20, 0, 30, 10)], "dog": [(50, 50, 60, 90)]}
    claimed = [HALF, (20, 0, 30, 10), (50, 50, 60, 80)]
    assert best_pair(claimed, truth) == 1.0  # the second cup
    assert best_object(claimed, truth) == 0.75  # cups (½ + 1) / 2, dog ¾
    assert best_object([(50, 50, 60, 90)], truth) == 1.0
    assert best_pair([], truth) == best_object([], truth) == 0.0
    assert best_object([HALF], {"cup": []}) == 0.0


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(1, 20)), max_size=5), st.integers(0, 5))
def test_spatial_stays_between_zero_and_one(claimed, extra):
    claims = [claim(time_s, (0.0, 0.0, side, side)) for time_s, side in claimed]
    assert 0 <= gated_spatial(claims, len(claims) + extra, [FRAME]) <= 1


@pytest.mark.parametrize(
    ("text", "with_evidence", "without"),
    [
        ("", 0, 0),
        ("<think>a</think>", 0, 0),
        ("<think>a</think><answer>b</answer> and so on", 0, 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0, 0),
        ("<think><obj>a</think><answer>b</answer>", 0.5, 0.5),
        ("<think>a</think><answer><t>x</t>s</answer>", 0.5, 0.5),
        ("<think>a</think><answer>b</answer>", 1, 0.5),
        (format_response(format_claim("cup", [HALF], 1.0), "b"), 1, 0.5),
    ],
)
def test_strict_format(text, with_evidence, without):
    assert strict_format(parse_response(text), True) == with_evidence
    assert strict_format(parse_response(text), False) == without


def test_counting_format():
    assert [counting_format(*case) for case in [(False, True), (True, False), (True, True)]] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "text", ["一个男人在厨房里切菜", "красная машина едет", "บนโต๊ะ", "हिन्दी की किताब", "the man opens it"]
)
def test_rouge_of_a_text_with_itself_is_one_in_any_script(text):
    assert rouge(text, text) == pytest.approx(1.0)


def test_rouge_reads_composed_letters_and_whole_numbers():
    assert rouge("cafe\u0301 noir", "café noir") == pytest.approx(1.0)
    assert rouge("2.5", "2") == 0 and rouge("2.5", "2", unicode=False) > 0  # the public code splits numbers
    assert rouge("naïve", "nave") == 0


@given(st.text(alphabet="abcdefghij ,'!?-XYZ\n", max_size=60), st.text(alphabet="abcdefghij ,'!?-XYZ\n", max_size=60))
def test_rouge_of_plain_english_equals_the_public_codes(answer, truth):
    assert rouge(answer, truth) == rouge(answer, truth, unicode=False)
