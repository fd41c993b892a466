"""Measuring abilities: items by hand, intervals, and a model that says the right thing."""

import numpy as np
import pytest

from o3v.config import FrameConfig
from o3v.evaluation.bootstrap import MeanWithInterval, mean_with_interval
from o3v.tinybase import probes
from o3v.tinybase.clips import draw_clips
from o3v.tinybase.video_qa import Asked

FRAMES = FrameConfig(n_frames=4, max_pixels=84 * 84)


@pytest.fixture(scope="module")
def clips():
    return draw_clips(12, FRAMES, seed=0, split="eval", workers=1, progress=False)


def test_recall_and_iou_of_captions_by_hand():
    truth = [{"red car": (0, 0, 10, 10)}, {"red car": (0, 0, 10, 10), "blue cup": (20, 0, 40, 10)}]
    asked = Asked("every frame", "?", "", truth)
    said = "0.0s: red car [0,0,10,5]\n1.0s: blue cup [20,0,40,10]"
    assert probes.recall(said, asked) == pytest.approx(2 / 3)
    assert probes.found_iou(said, asked) == 0.75
    assert probes.recall("", asked) == 0.0 and np.isnan(probes.found_iou("", asked))
    assert probes.recall("0.0s: nothing\n" + said, asked) == pytest.approx(1 / 3)  # lines are frames


def test_an_interval_by_hand():
    found = mean_with_interval(np.array([1.0, 0.0, np.nan, 1.0, 0.0]), ["a", "b", "a", "a", "b"])
    assert (found.value, found.items) == (0.5, 4)
    assert found.low == 0.0 and found.high == 1.0
    assert found.families == {"a": (1.0, 2), "b": (0.0, 2)}
    assert mean_with_interval(np.array([np.nan]), [""]) == MeanWithInterval(0.0, 0.0, 0.0, 0, {})
    sure = mean_with_interval(np.ones(50), [""] * 50)
    assert (sure.low, sure.value, sure.high) == (1.0, 1.0, 1.0) and sure.families == {}


def test_a_model_that_answers_right_scores_full(clips, monkeypatch):
    def right(vlm, prompts, longest):
        return [answers[p.messages[-1]["content"][-1]["text"], id(p)] for p in prompts]

    answers = {}
    for name, (ask, scores, longest) in list(probes.TABLE.items()):

        def noted(clip, rng, ask=ask):
            for item in ask(clip, rng):
                asked = item.asked
                exact = "from {:.1f}s to {:.1f}s".format(*asked.truth) if asked.ability == "visible" else asked.answer
                answers[asked.question, id(item.prompt)] = exact  # frames show only about when
                yield item

        monkeypatch.setitem(probes.TABLE, name, (noted, scores, longest))
    monkeypatch.setattr(probes, "generate", right)
    found = probes.measure(None, clips)
    for name, value in found.items():
        expected = 0.0 if name == "format reward" else 1.0
        assert value.value == pytest.approx(expected, abs=0.01), name


def test_yes_and_no_are_balanced(clips):
    rng = np.random.default_rng(0)
    items = [item for _ in range(40) for clip in clips for item in probes.TABLE["is this"][0](clip, rng)]
    share = np.mean([item.asked.answer == "yes" for item in items])
    assert 0.42 < share < 0.58
    assert {item.family for item in items} == {"right", "wrong colour", "wrong thing", "background"}
