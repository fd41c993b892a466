"""What the public code finds in unusual texts, derived by hand from its regular expressions."""

from __future__ import annotations

import math
import random
import time

import pytest

from o3v.evidence import TAGS
from o3v.rewards.official_parser import read_official

CUP = "<obj>cup</obj><box>[1,2,3,4]</box>"


def claims(think: str) -> list[tuple]:
    found = read_official(f"<think>{think}</think><answer>b</answer>").claims
    return [(claim.name, claim.boxes, claim.time_s) for claim in found]


@pytest.mark.parametrize(
    "think",
    [
        "",
        CUP,
        CUP + "at<t>1</t>",  # no s
        CUP + " at<t>1</t>s",
        "<obj>cup</obj> <box>[1,2,3,4]</box>at<t>1</t>s",
        CUP + "at<t>one</t>s",
        "<obj>cup</obj><box>[[1,2,3,4]</box>at<t>1</t>s",  # not JSON
        "<obj>cup</obj><box>[a]</box>at<t>1</t>s",
        "<obj>cup</obj><box>[" + "[" * 10**5 + "]</box>at<t>1</t>s",
    ],
)
def test_texts_that_are_not_claims(think):
    assert claims(think) == []


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (CUP + "at<t> 1.5 </t>s", [("cup", ((1, 2, 3, 4),), 1.5)]),
        ("<obj>cup</obj><box>[1,2,3]</box>at<t>1</t>s", [("cup", (), 1.0)]),  # counts in the average
        ("<obj>cup</obj><box>[3,2,1,4]</box>at<t>1</t>s", [("cup", (), 1.0)]),
        (f"{CUP} at <t>1</t>s {CUP}at<t>2</t>s", [("cup", ((1, 2, 3, 4), (1, 2, 3, 4)), 2.0)]),  # takes both boxes
        (f"<obj>a {CUP}at<t>2</t>s", [("a <obj>cup", ((1, 2, 3, 4),), 2.0)]),
        (CUP + "at<t>-1</t>s", [("cup", ((1, 2, 3, 4),), -1.0)]),
        (CUP + "at<t>inf</t>s", [("cup", ((1, 2, 3, 4),), math.inf)]),
        ("<obj>c</obj><box>[NaN,1e999,3,4]</box>at<t>1</t>s", [("c", (), 1.0)]),
        ("<obj>c</obj><box>[1,\n2,3,4]</box>at<t>1</t>s", [("c", (), 1.0)]),  # no bracket closes on its line
    ],
)
def test_texts_that_are_claims(think, expected):
    assert claims(think) == expected


def test_one_bad_time_makes_all_times_invalid():
    assert read_official("<think><t>1</t>s <t>2.</t>s <t>-3</t>s <t>4</t></think>").times_s == (1.0, 2.0)
    assert read_official("<think><t>1</t>s <t>1.2.3</t>s</think>").times_s == ()


def test_a_box_is_on_one_line_and_the_first_box_is_the_answer():
    read = read_official(
        f"<think>{CUP} <box>[1,2,3]</box> <box>[5,6,\n7,8]</box></think><answer><box>[x]</box>{CUP}</answer>"
    )
    assert read.think_boxes == ((1, 2, 3, 4),)
    assert read.answer_box is None
    assert read_official(f"<answer>a {CUP}</answer>").answer_box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "paired"),
    [
        ("", False),
        ("<think>a</think>", False),
        ("<answer>a</answer>", False),
        ("<think>a</think><answer>b</answer>", True),
        ("<think>a</think><answer>b</answer> and <answer>c</answer>", True),
        ("<think>a</think><answer>b</answer></answer>", False),
        ("<think></box><box></think><answer>b</answer>", True),  # equal in number
        ("<think><t></think><answer>b</answer>", False),
        ("<think>a</think><answer><t>b</answer>", True),  # only the thinking counts
    ],
)
def test_tags_are_only_counted(text, paired):
    assert read_official(text).paired is paired


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CUP, True),
        ("<obj>red_cup</obj><box>[]</box>", True),
        ("<obj>red cup</obj><box>[1,2,3,4]</box>", False),
        ("<obj>cup</obj> <box>[1,2,3,4]</box>", False),
        ("<obj>cup</obj><box>[1,2,\n3,4]</box>", False),
    ],
)
def test_objects_of_one_word(text, found):
    assert read_official(text).one_word_object is found


def test_random_texts_do_not_raise():
    rng = random.Random(0)
    pieces = [
        *TAGS,
        "[1,2,3,4]",
        "[1,2",
        "]",
        "at<t>",
        "s",
        " ",
        "\n",
        "nan",
        "1_0",
        "٣",
        "cup",
        "[",
        "<box>[",
        "]</box>at<t>",
    ]
    for _ in range(5_000):
        read_official("<think>" + "".join(rng.choices(pieces, k=rng.randint(0, 30))) + "</think>")


@pytest.mark.parametrize("unit", ["<obj>a</obj><box>[", "<box>[\n", "[", "]</box>at<t>", CUP + "at<t>1</t>s", "<t>9"])
def test_a_million_characters_take_seconds_at_most(unit):
    started = time.perf_counter()
    read_official(f"<think>{unit * (10**6 // len(unit))}</think><answer></answer>")
    assert time.perf_counter() - started < 4  # a quadratic scan takes many minutes
