"""Requests to annotators: order, retries, and a cache that prevents repeated requests."""

import json
import threading
from dataclasses import dataclass, field

import pytest

from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_requests import Reply, RequestLimits, RequestReport, ServiceUnavailable, annotate

LIMITS = RequestLimits(workers=4, per_minute=1e6, attempts=3, min_wait_s=0.0, max_wait_s=0.01)
VALID = json.dumps({"question": "Who?", "answer": "He", "key_frames": [], "reasoning": "So."})
MALFORMED = VALID.replace('"He"', "7")


def make_items(count):
    return [AnnotationItem(f"i{n}", "STR_coin", f"videos/{n}.mp4", duration_s=10.0, fps=10.0) for n in range(count)]


@dataclass
class FakeAnnotator:
    """Gives the answers listed for an item in turn and repeats the last one; raises an answer that is an exception."""

    answers: dict = field(default_factory=dict)
    deterministic: bool = False
    name: str = "fake"
    requests: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, item):
        with self.lock:
            self.requests.append(item.id)
            answers = self.answers.get(item.id, [VALID])
            answer = answers[min(self.requests.count(item.id), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, 10, 5)


def run(annotator, items, folder, report=None):
    return [(item.id, text) for item, text in annotate(items, annotator, folder, LIMITS, report)]


def test_answers_come_in_order_and_are_stored(tmp_path):
    annotator, report = FakeAnnotator(), RequestReport()
    answers = run(annotator, make_items(50), tmp_path, report)
    assert [name for name, _ in answers] == [f"i{n}" for n in range(50)]
    assert (report.requests, report.cached, report.tokens_in, report.tokens_out) == (50, 0, 500, 250)
    assert report.cost_usd(2.0, 10.0) == pytest.approx(0.0035)
    second = RequestReport()
    assert run(annotator, make_items(51), tmp_path, second)[:50] == answers
    assert (second.requests, second.cached) == (1, 50)


def test_a_changed_item_of_the_same_id_is_a_new_request(tmp_path):
    annotator = FakeAnnotator()
    changed = AnnotationItem("i0", "STR_coin", "videos/0.mp4", duration_s=11.0, fps=10.0)
    run(annotator, [*make_items(1), changed], tmp_path)
    assert annotator.requests == ["i0", "i0"]


def test_requests_are_repeated_for_a_busy_service_and_for_a_malformed_answer(tmp_path):
    report = RequestReport()
    annotator = FakeAnnotator({"i0": [ServiceUnavailable("429"), '{"half', VALID], "i1": [MALFORMED]})
    answers = dict(run(annotator, make_items(2), tmp_path, report))
    assert answers == {"i0": VALID, "i1": MALFORMED}  # after the last attempt, a malformed answer is kept too
    assert sorted(annotator.requests) == ["i0"] * 3 + ["i1"] * 3 and report.retries == 4


def test_a_deterministic_annotator_gets_no_second_request(tmp_path):
    annotator = FakeAnnotator({"i0": [MALFORMED]}, deterministic=True)
    assert run(annotator, make_items(1), tmp_path) == [("i0", MALFORMED)] and annotator.requests == ["i0"]


def test_a_service_that_is_down_loses_only_its_own_items(tmp_path):
    report, annotator = RequestReport(), FakeAnnotator({"i1": [ServiceUnavailable("500")]})
    assert [name for name, _ in run(annotator, make_items(3), tmp_path, report)] == ["i0", "i2"]
    assert report.failed == 1
    annotator.answers = {}
    assert len(run(annotator, make_items(3), tmp_path)) == 3  # the failure was not stored


def test_an_error_that_a_retry_cannot_solve_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="no key"):
        run(FakeAnnotator({"i1": [ValueError("no key")]}), make_items(3), tmp_path)
