"""Judges: scores in replies, a server with faults, stored verdicts, agreement."""

import json

import pytest
from helpers.annotation_server import Server
from helpers.vstar_rows import RIGHT

from o3v.evaluation.judges import (
    EXACT,
    NO_VERDICT,
    ChatEndpoint,
    JudgeReport,
    ModelJudge,
    SimilarityJudge,
    agreement,
    cohen_kappa,
    judge_rows,
    read_score,
    with_scores,
)
from o3v.evaluation.vstar import score_items
from o3v.http_json import Reply, ServiceError
from o3v.rewards.terms import rouge

ROWS = [RIGHT, RIGHT | {"answer_vqa": "a ball"}, RIGHT | {"answer_vqa": ""}, RIGHT | {"vid": "b.mp4"}]


def endpoint(server):
    return ModelJudge("m", ChatEndpoint("m", f"{server.url}/v1", timeout_s=1))


@pytest.mark.parametrize("text", ["", "yes", "1 or 2", "4", "-", "10", "2.5", "score"])
def test_a_reply_without_one_score_has_none(text):
    assert read_score(text) == NO_VERDICT


@pytest.mark.parametrize(("text", "score"), [("0", 0), (" 3\n", 3), ("Score: 2.", 2), ("**1**", 1), ("2, so 2", 2)])
def test_the_score_of_a_reply(text, score):
    assert read_score(text) == score


def test_exact_and_rouge_have_the_same_face():
    assert judge_rows(ROWS, EXACT).scores == [3, 0, None, 3]
    similar = SimilarityJudge("rouge", rouge)
    assert similar("", "the red cup", "the red cup").score == 3 and similar("", "cup", "ball").score == 0
    assert [SimilarityJudge("x", lambda a, b, x=x: x)("", "", "").score for x in (0.49, 0.5, 0.84)] == [1, 2, 3]


def test_a_server_is_asked_once_for_equal_answers_and_never_again_for_stored_ones(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server(text="2")
    report = judge_rows(ROWS, endpoint(server), tmp_path, workers=2)
    assert report.scores == [2, 2, None, 2] and (report.asked, report.cached) == (2, 0) and len(server.requests) == 2
    assert (report.tokens_in, report.tokens_out) == (200, 46) and report.cost_usd(1.0, 10.0) == pytest.approx(660e-6)
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer none" and body["temperature"] == 0
    assert "What falls?" in body["messages"][0]["content"] and "the cup" in body["messages"][0]["content"]
    again = judge_rows(ROWS, endpoint(server), tmp_path)
    assert again.scores == report.scores and (again.asked, again.cached, again.tokens_in) == (0, 2, 0)
    assert len(server.requests) == 2
    other = judge_rows(ROWS[:1], ModelJudge("other", ChatEndpoint("m", f"{server.url}/v1")), tmp_path)
    assert other.asked == 1  # another judge has its own verdicts


@pytest.mark.parametrize("damaged", ["", "{}", "[]", '{"score": "3"}', '{"score": 7}'])
def test_a_damaged_verdict_is_asked_for_again(tmp_path, damaged):
    server = Server(text="3")
    judge_rows(ROWS[:1], endpoint(server), tmp_path)
    (stored,) = tmp_path.glob("*.json")
    stored.write_text(damaged)
    assert judge_rows(ROWS[:1], endpoint(server), tmp_path).asked == 1
    assert json.loads(stored.read_text())["score"] == 3


def test_a_busy_server_is_asked_again(tmp_path):
    server = Server(faults=[503, "half a JSON", 429], text="3")
    assert judge_rows(ROWS[:1], endpoint(server), tmp_path, max_wait_s=0.01).scores == [3]
    assert len(server.requests) == 4


@pytest.mark.parametrize("faults", [[500] * 9, ["half a JSON"] * 9, [400]])
def test_an_answer_without_a_verdict_is_counted_and_not_stored(tmp_path, faults):
    report = judge_rows(ROWS[:1], endpoint(Server(faults=faults, text="3")), tmp_path, max_wait_s=0.01)
    assert report.scores == [NO_VERDICT] and (report.failed, report.asked) == (1, 0)
    assert list(tmp_path.glob("*.json")) == []


def test_an_unreadable_verdict_is_counted_and_not_stored(tmp_path):
    report = judge_rows(ROWS[:1], endpoint(Server(text="It is fine.")), tmp_path)
    assert report.scores == [NO_VERDICT] and (report.unreadable, report.failed) == (1, 0)
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_everything_ends_the_judging(tmp_path, status):
    with pytest.raises(ServiceError, match=f"status {status}"):
        judge_rows(ROWS, endpoint(Server(faults=[status] * 9)), tmp_path)


def test_scores_of_a_judge_replace_those_of_the_file():
    rows = with_scores(ROWS, [0, 3, None, NO_VERDICT])
    assert score_items(rows, "strict")["overall"]["accuracy"] == 0.25
    assert ROWS[0]["judge_score"] == 3


def test_answers_and_questions_with_braces_are_asked_as_they_are():
    prompts = []
    judge = ModelJudge("m", lambda prompt: prompts.append(prompt) or Reply("1"))
    assert judge("{x}?", "{answer}", "{0}").score == 1
    assert "Question: {x}?" in prompts[0] and "Answer to judge: {0}" in prompts[0]


def test_kappa_by_hand():
    """20 answers: both right 8, both wrong 6, first only 4, second only 2. 0.7 observed, 0.5 by chance."""
    first = [3] * 8 + [0] * 6 + [3] * 4 + [0] * 2
    second = [3] * 8 + [0] * 6 + [0] * 4 + [3] * 2
    assert cohen_kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa(first, first) == 1.0 and cohen_kappa([], []) is None and cohen_kappa([1, 1], [1, 1]) is None
    with pytest.raises(ValueError):
        cohen_kappa([1], [1, 2])


def test_agreement_leaves_out_answers_without_a_verdict_and_tells_right_from_scores():
    first = JudgeReport("a", [3, 2, 0, None, NO_VERDICT, 1])
    second = JudgeReport("b", [2, 3, 0, 3, 3, 1])
    found = agreement(first, second)
    assert found["judges"] == ["a", "b"] and (found["n"], found["same"], found["kappa_right"]) == (4, 1.0, 1.0)
    assert found["kappa_0_to_3"] == pytest.approx((0.5 - 0.25) / 0.75)
    assert agreement(JudgeReport("a", [None]), JudgeReport("b", [None]))["same"] is None
