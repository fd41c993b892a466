"""Asking annotators: order, patience, and never twice for the same."""

import json
import threading
from dataclasses import dataclass, field

import pytest

from o3v.data import annotation_requests
from o3v.data.annotation import AnnotationError, AnnotationItem, parse_annotation, to_example
from o3v.data.annotation_requests import Reply, RequestLimits, RequestReport, ServiceUnavailable
from o3v.evidence import parse_response
from o3v.toyworld import scripted_annotator

QUICK = RequestLimits(workers=4, per_minute=1e6, attempts=3, shortest_s=0.0, longest_s=0.01)
GOOD = {
    "question": "Who comes?",
    "answer": "The man",
    "key_frames": [{"at": 4.7, "objects": [{"name": "man", "box": [0.1, 0.2, 0.5, 0.9]}]}],
    "reasoning": "The <obj>man</obj><box>[0.1,0.2,0.5,0.9]</box>at<t>4.7</t>s comes.",
}


def item(number=0, **change):
    return AnnotationItem(
        f"i{number}", "STR_coin", f"videos/{number}.mp4", **({"duration_s": 10.0, "fps": 10.0} | change)
    )


@dataclass
class Fake:
    """Answers from a list for each item, the last one for ever; an exception in it is raised."""

    script: dict = field(default_factory=dict)
    repeats: bool = False
    name: str = "fake"
    asked: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, one):
        with self.lock:
            self.asked.append(one.id)
            turns = self.script.get(one.id, [json.dumps(GOOD)])
            said = turns[min(self.asked.count(one.id), len(turns)) - 1]
        if isinstance(said, Exception):
            raise said
        return Reply(said, 10, 5)


def run(fake, items, folder, report=None):
    return [(one.id, text) for one, text in annotation_requests.annotate(items, fake, folder, QUICK, report)]


def test_answers_come_in_order_and_are_kept(tmp_path):
    fake, report = Fake(), RequestReport()
    found = run(fake, [item(n) for n in range(50)], tmp_path, report)
    assert [name for name, _ in found] == [f"i{n}" for n in range(50)]
    assert (report.asked, report.cached, report.tokens_in, report.tokens_out) == (50, 0, 500, 250)
    assert report.cost_usd(2.0, 10.0) == pytest.approx(0.0035)
    again = RequestReport()
    assert run(fake, [item(n) for n in range(51)], tmp_path, again)[:50] == found
    assert (again.asked, again.cached) == (1, 50) and len(fake.asked) == 51


def test_another_item_of_the_same_name_is_asked_about_anew(tmp_path):
    fake = Fake()
    run(fake, [item(0), item(0, duration_s=11.0)], tmp_path)
    assert len(fake.asked) == 2


def test_a_busy_service_is_asked_again_and_bad_answers_too(tmp_path):
    report = RequestReport()
    fake = Fake(
        {"i0": [ServiceUnavailable("429"), '{"half', json.dumps(GOOD)], "i1": [json.dumps(GOOD | {"answer": 7})]}
    )
    found = dict(run(fake, [item(0), item(1)], tmp_path, report))
    assert json.loads(found["i0"]) == GOOD and json.loads(found["i1"])["answer"] == 7  # told, for the filters to see
    assert fake.asked.count("i0") == 3 and fake.asked.count("i1") == 3 and report.retries == 4


def test_a_service_that_is_down_loses_its_items_only(tmp_path):
    report, fake = RequestReport(), Fake({"i1": [ServiceUnavailable("500")]})
    assert [name for name, _ in run(fake, [item(n) for n in range(3)], tmp_path, report)] == ["i0", "i2"]
    assert report.failed == 1
    fake.script = {}
    assert len(run(fake, [item(n) for n in range(3)], tmp_path)) == 3  # no failure was kept


def test_what_asking_again_cannot_help_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="no key"):
        run(Fake({"i1": [ValueError("no key")]}), [item(n) for n in range(3)], tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a', "is not JSON"),
        ("[]", "must be of type object"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "reasoning"}), "has no 'reasoning'"),
        (json.dumps(GOOD | {"key_frames": [{"at": "4", "objects": []}]}), r"key_frames\[0\].at must be of type number"),
    ],
)
def test_what_is_no_annotation(text, message):
    with pytest.raises(AnnotationError, match=message):
        parse_annotation(text)


def test_fences_are_no_harm():
    assert parse_annotation(f"```json\n{json.dumps(GOOD)}\n```") == GOOD


def test_an_annotation_becomes_a_row():
    example = to_example(item(), json.dumps(GOOD))
    assert (example.id, example.source, example.video_path) == ("i0", "STR_coin", "videos/0.mp4")
    (frame,) = example.key_frames
    assert (frame.idx, frame.time_s, frame.items) == (47, 4.7, {"man": ((0.1, 0.2, 0.5, 0.9),)})


def test_frame_indices_become_seconds():
    said = GOOD | {"key_frames": [GOOD["key_frames"][0] | {"at": 47}], "reasoning": "At <t>47</t>s."}
    example = to_example(item(kind="regions"), json.dumps(said))
    assert example.key_frames[0].time_s == 4.7 and example.reasoning_process == "At <t>4.7</t>s."


def test_a_bad_box_is_named():
    bad = json.dumps(GOOD).replace("[0.1, 0.2, 0.5, 0.9]", "[0.1, 0.2, 5, 0.9]")
    with pytest.raises(AnnotationError, match=r"key_items\.47\.man"):
        to_example(item(), bad)


def test_the_script_spoils_a_known_share():
    script = scripted_annotator.ScriptedAnnotator(seed=3, share=0.5)
    items = list(scripted_annotator.items("sft", 0, range(120)))
    faults = {one.id: script.fault(one) for one in items}
    assert 40 < sum(fault is not None for fault in faults.values()) < 80
    assert set(filter(None, faults.values())) == set(scripted_annotator.FAULTS)
    for one in items:
        text, true = script(one).text, scripted_annotator.ScriptedAnnotator(share=0.0)(one).text
        assert (text == true) == (faults[one.id] is None) and script(one).text == text
        if faults[one.id] == scripted_annotator.MALFORMED:
            with pytest.raises(AnnotationError, match="not JSON"):
                parse_annotation(text)
            continue
        example = to_example(one, text)
        assert all(frame.time_s <= one.duration_s for frame in example.key_frames)
        problems = parse_response(f"<think>{example.reasoning_process}</think><answer>x</answer>").problems
        assert bool(problems) == (faults[one.id] == "truncated chain")
