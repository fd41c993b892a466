"""Probes: scores by hand, and that correct replies get full scores."""

import numpy as np
import pytest

from o3v.tinybase import probes
from o3v.tinybase.plain_answers import QuestionAnswer


def test_recall_and_iou_of_captions_by_hand():
    truth = [{"red car": (0, 0, 10, 10)}, {"red car": (0, 0, 10, 10), "blue cup": (20, 0, 40, 10)}]
    qa = QuestionAnswer("every frame", "?", "", truth)
    reply = "0.0s: red car [0,0,10,5]\n1.0s: blue cup [20,0,40,10]"
    assert probes.recall("", qa) == 0.0 and np.isnan(probes.recalled_iou("", qa))
    assert probes.recall(reply, qa) == pytest.approx(2 / 3)
    assert probes.recalled_iou(reply, qa) == 0.75
    assert probes.recall("0.0s: nothing\n" + reply, qa) == pytest.approx(1 / 3)  # the first line is the first frame


def test_correct_replies_get_full_scores(clips, monkeypatch):
    replies = {}

    def generate(vlm, prompts, max_new_tokens):
        return [replies[id(prompt)] for prompt in prompts]

    def with_reply(probe):
        def make_item(clip, rng):
            item = probe.make_item(clip, rng)
            if item:
                # the answer of `visible` has the times of frames, so its score is below 1
                visible = item.qa.ability == "visible"
                replies[id(item.prompt)] = (
                    "from {:.1f}s to {:.1f}s".format(*item.qa.truth) if visible else item.qa.answer
                )
            return item

        return probe._replace(make_item=make_item)

    for name, probe in list(probes.PROBES.items()):
        monkeypatch.setitem(probes.PROBES, name, with_reply(probe))
    monkeypatch.setattr(probes, "generate", generate)
    for name, mean in probes.measure(None, clips).items():
        expected = 0.0 if name == "format reward" else 1.0
        assert mean.value == pytest.approx(expected, abs=0.01), name


def test_yes_and_no_are_equally_frequent(clips):
    rng = np.random.default_rng(0)
    items = [probes.PROBES["is this"].make_item(clip, rng) for _ in range(40) for clip in clips]
    items = [item for item in items if item]
    assert 0.42 < np.mean([item.qa.answer == "yes" for item in items]) < 0.58
    assert {item.family for item in items} == {"right", "wrong colour", "wrong thing", "background"}
