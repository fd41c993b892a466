"""The text of a model is shown and never run; claims and problems are marked at their place."""

import re

import pytest
from helpers.html_reader import Reader
from helpers.viewing import claim
from hypothesis import given
from hypothesis import strategies as st

from o3v.evidence import Claim, Problem, Response, parse_response
from o3v.viz.boxes import claim_colours
from o3v.viz.response_html import response_html, token_strip

BOX = "[1,2,30,40]"
TEXT = f"<think>A {claim('cup', BOX, 2.5)} near {claim('dog', BOX, 4)}.</think><answer>B</answer>"


def chips(read: Reader) -> list[dict]:
    return [attributes for attributes in read.all("span") if attributes.get("title", "").startswith("claim:")]


def response(text: str, claims=(), problems=()) -> Response:
    return Response(text, None, None, tuple(claims), (), tuple(problems))


def test_names_with_markup_are_shown_and_not_run():
    name = '<script>alert("1")</script>'
    text = f"{name} and more"
    page = response_html(response(text, [Claim(name, ((0, 0, 1, 1),), 1.0, 0, len(name))]))
    read = Reader(page)
    assert {tag for tag, _ in read.tags} == {"div", "span"}
    assert read.text == text
    assert 'alert("1")' not in page  # the quotes are escaped in the tooltip too


@given(st.text(alphabet="<>&\"'/ab ot=\n", max_size=60))
def test_any_text_reads_back(text):
    read = Reader(response_html(response(text)))
    assert read.text == text
    assert {tag for tag, _ in read.tags} <= {"div", "span"}


@pytest.mark.parametrize("text", ["", "no tags at all", "<think><obj>", "a\ud800b", "\x00"])
def test_text_without_evidence_is_shown(text):
    page = response_html(parse_response(text))
    assert not chips(Reader(page))
    page.encode()  # a lone surrogate would raise here


def test_claims_are_chips_in_the_colours_of_their_names():
    parsed = parse_response(TEXT)
    read, colours = Reader(response_html(parsed)), claim_colours(["cup", "dog"])
    assert read.text == TEXT
    assert [chip["title"] for chip in chips(read)] == ["claim: cup · 2.5 s · boxes: 1", "claim: dog · 4 s · boxes: 1"]
    assert [colours[n] in chip["style"] for n, chip in zip(["cup", "dog"], chips(read), strict=True)] == [True, True]


def test_no_text_is_lost_when_claims_overlap_or_exceed_it():
    claims = [
        Claim("a", (), None, 2, 6),
        Claim("b", (), None, 4, 8),
        Claim("c", (), None, 9, 99),
        Claim("d", (), None, 50, 60),
    ]
    read = Reader(response_html(response("0123456789", claims)))
    assert read.text == "0123456789"
    assert len(chips(read)) == 3


def test_problems_are_underlined_with_their_messages():
    problem = Problem("bad_time", 4, 7, 'a "time" < 0')
    page = response_html(response("abc def ghi", problems=[problem]))
    underlined = [a["title"] for _, a in Reader(page).tags if "underline" in a.get("style", "")]
    assert underlined == ['a "time" < 0']
    assert re.search(r"underline[^>]*>def</span>", page)
    assert 'bad_time × 1: a "time" < 0' in Reader(page).text


def test_problems_that_overlap_claims_keep_the_text():
    claims, problems = [Claim("x", (), 1.0, 3, 8)], [Problem("k", 1, 5, "m"), Problem("k", 4, 6, "n")]
    read = Reader(response_html(response("0123456789", claims, problems)))
    assert read.text.startswith("0123456789")
    titles = [a["title"] for _, a in read.tags if "underline" in a.get("style", "")]
    assert titles == ["m", "m", "m; n", "n"]  # 1–3, then in the chip 3–4, 4–5, 5–6


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 3), (5, 5), (9, 9), (0, 201)])
def test_a_problem_without_length_or_too_long_is_a_sign(start, end):
    page = response_html(
        response("abcde" if end < 100 else "a" * 300, problems=[Problem("no_think", start, end, "none")])
    )
    assert page.count("⚠") == 1
    assert "underline" not in page


def test_five_hundred_claims_are_five_hundred_chips():
    text = "<think>" + " ".join(claim(f"object {i}", BOX, i) for i in range(500)) + "</think><answer>A</answer>"
    read = Reader(response_html(parse_response(text)))
    assert len(chips(read)) == 500
    assert read.text == text


def test_tokens_and_mask_must_fit():
    with pytest.raises(ValueError):
        token_strip(["a", "b"], [1])


def test_trained_tokens_are_counted_and_coloured():
    page = token_strip(["<|im_start|>", "user", "\n", "It", " is", "<b>"], [0, 0, 0, 1, 1, 1])
    read = Reader(page)
    assert "3 of 6" in read.text
    backgrounds = [a["style"].split(";")[0] for tag, a in read.tags if tag == "span"]
    assert backgrounds == ["background:#EDEDED"] * 3 + ["background:#0072B2"] * 3
    assert "<b>" not in page and "&lt;b&gt;" in page
    assert "⏎" in read.text and "␣is" in read.text


def test_equal_tokens_in_a_row_are_one_chip():
    read = Reader(token_strip(["pad"] * 9 + ["a"] * 3 + ["a"], [0] * 9 + [1] * 3 + [0]))
    assert "pad ×9" in read.text
    assert len([tag for tag, _ in read.tags if tag == "span"]) == 1 + 3 + 1


def test_no_tokens():
    assert "0 of 0" in token_strip([], [])
