"""A trace: claims that lead to their frames, notes on their distance from the truth, and several responses."""

import json

import pytest
from helpers.html_reader import Reader
from helpers.viewing import EVIL, claim, frames

from o3v.evidence import parse_response
from o3v.viz import trace


def shown(text: str, *more) -> trace.ShownResponse:
    return trace.ShownResponse(parse_response(text), *more)


def chips(page: str) -> list[dict[str, str]]:
    return [attributes for _, attributes in Reader(page).tags if "data-frame" in attributes]


def test_a_chip_leads_to_the_frame_of_its_time():
    claims = f"{claim('cup', '[21,0,42,84]', 0.6)} and {claim('car', '[0,0,200,42]', 1.4)}"
    text = f"<think>{claims}</think><answer>A</answer>"
    first, second = chips(trace.trace_html(frames(4), shown(text), "What?"))
    assert (first["data-frame"], second["data-frame"]) == ("1", "3")
    assert json.loads(first["data-boxes"]) == [[0.25, 0, 0.5, 1]]
    assert json.loads(second["data-boxes"]) == [[0, 0, 1, 0.5]]  # cut to the frame
    assert first["role"] == "button" and first["tabindex"] == "0"


@pytest.mark.parametrize("time_s", [99, 2.1])
def test_a_claim_outside_of_the_video_leads_nowhere(time_s):
    text = f"<think>{claim('cup', '[1,1,9,9]', time_s)}</think><answer>A</answer>"
    assert chips(trace.trace_html(frames(4), shown(text))) == []


def test_five_hundred_claims_and_boxes_outside_of_the_frame():
    text = " ".join(claim("cup", "[90,90,99,99]", n % 4 / 2) for n in range(500))
    html = trace.trace_html(frames(4), shown(f"<think>{text}</think><answer>A</answer>"))
    assert len(chips(html)) == 500 and {chip["data-boxes"] for chip in chips(html)} == {"[]"} and len(html) < 1.5e6


def test_the_text_of_a_model_never_runs():
    text = f"<think>{claim(EVIL, '[1,1,9,9]', 0.5)} {EVIL}</think><answer>{EVIL}</answer>"
    html = trace.html_page(trace.trace_html(frames(2), shown(text, {EVIL: 1.0}, EVIL), EVIL), EVIL)
    assert "<script>alert" not in html and html.count("<script>") == 2  # the player's and the trace's
    assert "http" not in html.replace("http-equiv", "")


def test_terms_are_listed_below():
    html = trace.trace_html(frames(2), shown("no form", {"ans_acc": 0.5, "ans_tiou": None}))
    assert "<td>ans_acc</td><td>0.50</td>" in html and "<td>ans_tiou</td><td>–</td>" in html


def test_a_claim_is_compared_with_the_nearest_key_time():
    text = f"<think>{claim('cup', '[0,0,10,10]', 0.6)}{claim('car', '[0,0,10,10]', 1.0)}</think><answer>A</answer>"
    truth = {0.5: {"cup": [(0, 0, 10, 20)]}, 3.0: {"cup": [(0, 0, 10, 10)]}}
    _, notes, _ = trace.evidence(frames(4), parse_response(text), truth)
    assert notes[1] == ["cup: Δt +0.1 s to the key time, IoU 0.50"]
    assert notes[2] == ["car: Δt +0.5 s to the key time, IoU 0.50"]  # no true box has its name: all are compared
    _, no_notes, _ = trace.evidence(frames(4), parse_response(text))
    assert no_notes == [[], [], [], []]


def test_rollouts_side_by_side():
    texts = [f"<think>{claim('cup', '[0,0,9,9]', 0.5)}</think><answer>{answer}</answer>" for answer in "ABC"]
    totals = ({"total": 0.5, "ans_tiou": None}, {"total": 2.0, "ans_tiou": None}, {"total": 1.0, "ans_tiou": None})
    rollouts = [shown(t, terms) for t, terms in zip(texts, totals, strict=True)]
    html = trace.rollouts_html(frames(2), rollouts, "What?")
    assert "<td>2 · best</td><td>2.00</td><td>B</td>" in html and "<td>1 · worst</td>" in html
    assert "<th>ans_tiou</th>" not in html and html.count("<details>") == 1 and len(chips(html)) == 2
    with pytest.raises(ValueError, match="no rollout"):
        trace.rollouts_html(frames(2), [])
