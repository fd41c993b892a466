"""The grammar: malformed text is counted and never raises, and formatted text parses to the same values."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3v import evidence
from o3v.evidence import (
    MAX_PROBLEMS,
    PROBLEM_KINDS,
    TAGS,
    answer_boxes,
    answer_choice,
    answer_span,
    format_box,
    format_claim,
    format_object,
    format_response,
    format_span,
    format_time,
    map_boxes,
    parse_response,
    strip_tags,
)

TRACES = Path(__file__).parents[2] / "shared" / "real" / "traces.json"
CUP = "<obj>cup</obj><box>[1,2,3,4]</box>"


def kinds(text: str) -> list[str]:
    return [problem.kind for problem in parse_response(text).problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["no_think", "no_answer"]),
        ("no tags at all", ["no_think", "no_answer"]),
        ("<think>cut at the tok", ["no_think", "no_answer"]),
        ("<think>a</think>", ["no_answer"]),
        ("<answer>a</answer>", ["no_think"]),
        ("</think><think>a<answer>b</answer>", ["repeated_section", "no_think"]),
        ("<answer>a</answer><think>b</think>", ["section_order"]),
        ("<think>a<answer>b</answer></think>", ["section_order"]),
        ("<think>a</think><answer>b</answer><answer>c</answer>", ["repeated_section"] * 2 + ["outside_text"]),
        ("Sure! <think>a</think><answer>b</answer>", ["outside_text"]),
        ("<think>a</think>so<answer>b</answer>", ["outside_text"]),
        (" <think>a</think>\n<answer>b</answer>\n", []),
    ],
)
def test_missing_sections(text, expected):
    assert sorted(kinds(text)) == sorted(expected)


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        ("<obj>cup", ["unpaired_tag"]),
        ("cup</obj>", ["unpaired_tag"]),
        ("<obj>a<obj>cup</obj><box>[1,2,3,4]</box>", ["unpaired_tag"]),
        ("<box><t>5</t>s</box>", ["unpaired_tag", "unpaired_tag"]),
        ("<obj> </obj><box>[1,2,3,4]</box>", ["bad_name"]),
        ("<obj>cup</obj> stands", ["no_box"]),
        ("<box>[1,2,3,4]</box>", ["no_object"]),
        ("<obj>cup</obj> <box>[1,2,3,4]</box>", ["spacing"]),
        (CUP + " at <t>5</t>s", ["spacing"]),
        ("<t>5</t> seconds", ["no_unit"]),
        ("<t>-5</t>s", ["bad_time"]),
        ("<t></t>s", ["bad_time"]),
        ("<t>five</t>s", ["bad_time"]),
        ("<t>1.2.3</t>s", ["bad_time"]),
    ],
)
def test_malformed_evidence(think, expected):
    assert kinds(format_response(think, "b")) == expected


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "1e3", "-0", "-0.0", "٣", "３", "1_0", "+1", "", "9" * 400])
def test_odd_numbers_are_problems(number):
    box = f"<obj>cup</obj><box>[{number},2,30,40]</box>at<t>{number}</t>s"
    response = parse_response(format_response(box, "b"))
    assert {problem.kind for problem in response.problems} == {"bad_box", "bad_time"}
    assert response.claims == () and response.times_s == ()


@pytest.mark.parametrize(
    "box", ["[1,2,3]", "[1,2,3,4,5]", "1,2,3,4", "[[1,2,3,4]]", "[3,2,1,4]", "[1,4,3,4]", "[a,b,c,d]"]
)
def test_texts_that_are_not_boxes(box):
    response = parse_response(format_response(f"<obj>cup</obj><box>{box}</box>at<t>1</t>s", "b"))
    assert [problem.kind for problem in response.problems] == ["bad_box"]
    assert response.claims == () and response.times_s == (1.0,)


def test_a_bad_box_does_not_affect_a_good_one():
    (claim,) = parse_response(format_response("<obj>cup</obj><box>[1,2]</box><box>[1,2,3,4]</box>", "")).claims
    assert claim.boxes == ((1.0, 2.0, 3.0, 4.0),) and claim.time_s is None


def test_claims_and_times_in_order_with_their_places():
    think = f"At <t>0.5</t>s {CUP}<box>[5, 6, 7.5, 8]</box>at<t>2</t>s, then <obj>red car</obj><box>[-4,0,9,9]</box>."
    response = parse_response(format_response(think, f"{CUP}at<t>9</t>s"))
    assert response.problems == ()
    assert response.times_s == (0.5, 2.0)
    cup, car = response.claims
    assert (cup.name, cup.boxes, cup.time_s) == ("cup", ((1, 2, 3, 4), (5, 6, 7.5, 8)), 2.0)
    assert (car.name, car.boxes, car.time_s) == ("red car", ((-4, 0, 9, 9),), None)
    assert response.text[cup.start : cup.end] == f"{CUP}<box>[5, 6, 7.5, 8]</box>at<t>2</t>s"
    assert (response.think, response.answer) == (think, f"{CUP}at<t>9</t>s")


def test_spaced_claims_are_claims():
    (claim,) = parse_response(format_response(CUP + " at <t>5</t>s", "")).claims
    assert claim.time_s == 5.0 and claim.end == len("<think>" + CUP + " at <t>5</t>s")


def test_markup_in_a_name_is_a_name():
    assert parse_response(format_response("<obj>a <b> < c</obj><box>[1,2,3,4]</box>", "")).claims[0].name == "a <b> < c"


def test_problems_have_a_position_and_a_message():
    (problem,) = parse_response("<think><t>x</t>s</think><answer></answer>").problems
    assert (problem.start, problem.end, problem.message) == (7, 16, PROBLEM_KINDS["bad_time"])


names = st.text(min_size=1, max_size=20).map(str.strip).filter(lambda name: name and not any(t in name for t in TAGS))
coordinates = st.floats(-1e6, 1e6) | st.integers(0, 2000).map(float)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates).filter(lambda b: b[0] < b[2] and b[1] < b[3])
times = st.floats(0, allow_nan=False, allow_infinity=False)
claims = st.tuples(names, st.lists(boxes, min_size=1, max_size=3).map(tuple), st.none() | times)


@given(st.lists(claims, max_size=4), st.lists(times, max_size=3))
def test_parsing_a_formatted_text_gives_its_values(claimed, extra_s):
    think = " then ".join([format_claim(*claim) for claim in claimed] + [format_time(time_s) for time_s in extra_s])
    response = parse_response(format_response(think, "yes"))
    assert [(claim.name, claim.boxes, claim.time_s) for claim in response.claims] == claimed
    assert list(response.times_s) == [time_s for _, _, time_s in claimed if time_s is not None] + extra_s
    assert (response.think, response.answer, response.problems) == (think, "yes", ())


@given(times, times)
def test_a_span_is_read_as_written(a, b):
    assert answer_span(format_span(min(a, b), max(a, b))) == (min(a, b), max(a, b))


@given(boxes)
def test_a_box_is_read_as_written(box):
    assert answer_boxes(format_object("cup", box)) == (box,)


def test_ten_thousand_random_strings_do_not_raise():
    rng = random.Random(0)
    pieces = [
        *TAGS,
        "[1,2,3,4]",
        "[1,2",
        "]",
        "at",
        "s",
        " ",
        "\n",
        "nan",
        "-0",
        "1e999",
        "٣",
        "cup",
        "\ud800",
        "<",
        ">",
    ]
    for _ in range(10_000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 30)))
        response = parse_response(text)
        assert {problem.kind for problem in response.problems} <= set(PROBLEM_KINDS)
        assert all(0 <= problem.start <= problem.end <= len(text) for problem in response.problems)
        assert all(math.isfinite(time_s) for time_s in response.times_s)
        strip_tags(text), answer_span(text), answer_choice(text), map_boxes(text, lambda box: box)


@given(st.text())
def test_any_text_is_parsed(text):
    assert parse_response(text).text == text


@pytest.mark.parametrize(
    "unit", [*TAGS, CUP + "at<t>1.0</t>s ", "<obj>a<b", "<box>[1,", "<t>9", "9", " ", "\n", "<", "at"]
)
def test_a_million_characters_take_seconds_at_most(unit):
    body = unit * (10**6 // len(unit))
    started = time.perf_counter()
    for text in (body, f"<think>{body}</think>", f"<think><obj>{body}", f"<think></think><answer><t>{body}"):
        assert len(parse_response(text).problems) <= MAX_PROBLEMS
    assert time.perf_counter() - started < 8  # 4 texts of 10^6; a quadratic scan takes many minutes


@pytest.mark.parametrize("name", ["", "  ", "a<obj>b", "x</think>"])
def test_names_that_cannot_be_parsed_again_are_refused(name):
    with pytest.raises(ValueError, match="name"):
        format_claim(name, [(1, 2, 3, 4)], 1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: format_claim("cup", [], 1.0),
        lambda: format_claim("cup", [(3, 2, 1, 4)], 1.0),
        lambda: format_box((1, 2, math.nan, 4)),
        lambda: format_box((1, 2, 3)),
        lambda: format_time(-0.1),
        lambda: format_time(math.inf),
        lambda: format_span(2.0, 1.0),
        lambda: format_response("a</think>", "b"),
        lambda: format_response("a", "<answer>b"),
    ],
)
def test_values_that_cannot_be_written_are_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize(
    ("time_s", "text"), [(12.5, "12.5"), (3, "3.0"), (0.0, "0.0"), (-0.0, "0.0"), (12.25, "12.25"), (1e-7, "0.0000001")]
)
def test_times_have_one_decimal_unless_they_need_more(time_s, text):
    assert format_time(time_s) == f"<t>{text}</t>s"


def test_boxes_are_whole_numbers_unless_they_need_more():
    assert format_box((1.0, 2, 3.5, 0.1 + 2)) == "<box>[1,2,3.5,2.1]</box>"
    assert format_object("red car", (0.125, 0, 1, 1)) == "<obj>red car</obj><box>[0.125,0,1,1]</box>"
    assert format_span(1, 2.5) == "From <t>1.0</t>s to <t>2.5</t>s"


@pytest.mark.parametrize(
    ("answer", "span"),
    [
        ("", None),
        ("From 2s to 5s", None),
        ("From <t>5</t>s to <t>2</t>s", None),
        ("From <t>nan</t>s to <t>2</t>s", None),
        ("From <t>2.5</t>s to <t>5</t>s and <t>7</t>s to <t>8</t>s", (2.5, 5.0)),
        ("<t>2.</t>s to <t>2</t>s\nCorrect Option: B", (2.0, 2.0)),
    ],
)
def test_answered_spans(answer, span):
    assert answer_span(answer) == span


@pytest.mark.parametrize(
    ("answer", "whole", "marked"),
    [
        ("", None, None),
        ("b", None, None),
        ("Option C", None, None),
        ("B or C", None, None),
        (" B\n", "B", None),
        ("B.", "B", None),
        ("(B)", "B", None),
        ("[B]", "B", None),
        ("(B", None, None),
        ("From <t>1</t>s to <t>2</t>s\nCorrect Option: (D)", None, "D"),
        ("Correct Option: D Correct Option: B", None, "D"),
        ("Correct Option:", None, None),
    ],
)
def test_chosen_letters(answer, whole, marked):
    assert answer_choice(answer, marked=False) == whole
    assert answer_choice(answer, marked=True) == marked
    assert answer_choice(answer) == (marked if "Correct" in answer else whole)


def test_boxes_are_mapped_and_malformed_ones_are_not_changed():
    text = "<box>[0.1,0.25,0.5,0.999]</box> <box>[x]</box> <box>[0.5,0.5,0.5001,0.5001]</box>"
    mapped = map_boxes(text, lambda box: tuple(100 * side for side in box))
    assert mapped == "<box>[10,25,50,100]</box> <box>[x]</box> <box>[50,50,51,51]</box>"


def test_text_without_tags():
    think = f"The {CUP}<box>[5,6,7,8]</box>at<t>2.0</t>s falls at <t>3.5</t>s."
    plain = strip_tags(format_response(think, format_span(1, 2)))
    assert plain == "The cup at 2.0s falls at 3.5s.\nFrom 1.0s to 2.0s"


def test_claims_written_by_hand_are_parsed_completely():
    if not TRACES.exists():
        pytest.skip(f"{TRACES} is not here")
    for trace, (n_claims, last_s) in zip(json.loads(TRACES.read_text()), [(6, 14.7), (4, 10.0)], strict=True):
        response = evidence.parse_response(trace["response"])
        assert (response.problems, len(response.claims), response.times_s[-1]) == ((), n_claims, last_s)
