"""Voting with confidence, by hand."""

import numpy as np
import pytest

from o3v.config import InferenceConfig
from o3v.inference import voting
from o3v.inference.answering import Question
from o3v.inference.voting import Candidate
from o3v.prompts import Prompt

FRAMES = [np.full((20, 20, 3), shade, np.uint8) for shade in (10, 90, 200)]
PROMPT = Prompt([], FRAMES, (0.0, 2.0, 4.0), (40, 40), {})  # the model writes boxes in units of 40 × 40
CLAIM = "<obj>cup</obj><box>{}</box>at<t>{}</t>s"

CONFIG = InferenceConfig(max_new_tokens=8, vote_sizes=(1, 3))


def response(claims, answer):
    return f"<think>I see {' '.join(CLAIM.format(*claim) for claim in claims)}.</think><answer>{answer}</answer>"


def test_each_claim_is_cropped_from_the_frame_nearest_to_it():
    seen = []

    def ask(crops, questions):
        seen.extend((crop.shape, int(crop[0, 0, 0]), question) for crop, question in zip(crops, questions, strict=True))
        return ["2", " 1\n", "0"]

    texts = [
        response([("[0,0,20,10]", 1.9), ("[0,0,40,40]", 9.0)], "The cup"),
        response([("[0,0,20,20]", 0.5), ("[90,90,99,99]", 1.0)], "A ball"),  # the second lies outside of the frame
        "no form at all",
    ]
    one, two, three = voting.score_candidates(texts, PROMPT, "What is it?", ask)
    assert [entry[:2] for entry in seen] == [((5, 10, 3), 90), ((20, 20, 3), 200), ((10, 10, 3), 10)]
    assert all("What is it?" in question for *_, question in seen)
    assert (one.scores, one.confidence) == (("2", "1"), pytest.approx(0.8))
    assert (two.scores, two.confidence) == (("0",), 0.2)
    assert (three.scores, three.confidence, three.answer) == ((), 0.2, "no form at all")


def test_without_evidence_no_crop_is_scored():
    (one,) = voting.score_candidates(["<answer>B</answer>"], PROMPT, "?", lambda *_: pytest.fail("called"))
    assert one.answer == one.vote_key == "B"


def test_confidence_outweighs_a_majority():
    found = [Candidate("", "The cup.", (), 0.2), Candidate("", "the CUP", (), 0.2), Candidate("", "A ball", (), 1.0)]
    assert voting.vote(found) == "A ball" and voting.vote(found, weighted=False) == "The cup."
    assert voting.vote(found[:2]) == "The cup."  # as its first candidate wrote it
    with pytest.raises(ValueError, match="no candidates"):
        voting.vote([])


@pytest.mark.parametrize(("answer", "vote"), [("B.", "B"), ("(B)", "B"), ("B", "B"), ("It is  red!", "it is red")])
def test_answers_that_are_the_same_vote(answer, vote):
    assert Candidate("", answer, (), 0.2).vote_key == vote


def test_calibration_by_hand():
    low, high = voting.calibration([0.2, 0.3, 1.0, 0.9], [False, True, True, True], bins=2)
    assert (low["n"], low["confidence"], low["right"]) == (2, pytest.approx(0.25), 0.5)
    assert (high["n"], high["confidence"], high["right"], high["to"]) == (2, pytest.approx(0.95), 1.0, 1.0)
    assert len(voting.calibration([0.2], [True], bins=4)) == 1


def test_accuracy_by_number_of_candidates():
    cup, ball = Candidate("", "The cup", (), 0.2), Candidate("", "A ball", (), 1.0)
    one, two, three = voting.accuracy([[cup, cup, ball], [ball, cup, cup]], ["cup", "cup"], (1, 2, 3))
    assert (one["single"], one["majority"], one["confidence"]) == (0.5, 0.5, 0.5)
    assert (two["single"], two["majority"], two["confidence"]) == (0.75, 0.5, 0.5)
    assert three["single"] == pytest.approx(4 / 6) and (three["majority"], three["confidence"]) == (1.0, 0.0)


def test_pools_are_made_once(tmp_path, monkeypatch):
    made = []

    def generate(vlm, prompts, longest, temperature, seed, repeats, repetition_penalty):
        made.append(seed)
        return [response([("[0,0,20,10]", 1.9)], f"answer {seed}")] * repeats

    monkeypatch.setattr(voting, "generate", generate)
    prompt = Prompt([], FRAMES, (0.0, 2.0, 4.0), (40, 40), {"question": "What?"})
    pooled = [Question(str(n), tmp_path, lambda: prompt) for n in range(2)]
    pools = voting.sample_pools(None, pooled[:1], CONFIG, lambda crops, _: ["2"] * len(crops), tmp_path)
    again = voting.sample_pools(None, pooled, CONFIG, lambda crops, _: ["0"] * len(crops), tmp_path)
    assert made == [0, 1] and again[0] == pools[0] and len(again[1]) == 3
    assert {c.confidence for c in again[0]} == {1.0} and {c.confidence for c in again[1]} == {0.2}
