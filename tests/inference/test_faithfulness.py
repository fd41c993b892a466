"""Evidence that is removed or falsified, by hand."""

import numpy as np
import pytest

from o3v import prompts
from o3v.config import InferenceConfig
from o3v.evidence import parse_response
from o3v.inference import faithfulness

RNG = np.random.default_rng(0)
THINK = (
    "First <obj>cup</obj><box>[0,0,8,8]</box>at<t>2.1</t>s, then <obj>car</obj><box>[8,8,16,16]</box>at<t>6</t>s, "
    "at last <obj>car</obj><box>[8,0,16,8]</box>at<t>6.4</t>s."
)
RESPONSE = parse_response(f"<think>{THINK}</think><answer>The car</answer>")
NOTHING = parse_response("<think>I see.</think><answer>The car</answer>")


@pytest.fixture
def prompt():
    shades = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    return prompts.plain_prompt(list(shades), (0.0, 2.0, 4.0, 6.0), 8.0, "What?")


def text_of(prompt):
    return "".join(part.get("text", "<image>") for part in prompt.messages[-1]["content"])


def test_frames_near_the_claims_are_removed(prompt):
    assert faithfulness.claimed_frames(prompt, RESPONSE) == [1, 3]
    left = faithfulness.remove_claimed_frames(prompt, RESPONSE, RNG)
    assert left.times_s == (0.0, 4.0) and np.array_equal(left.images, [prompt.images[0], prompt.images[2]])
    assert text_of(left) == (
        "Frame 1 at 0.0s: <image>\nFrame 2 at 4.0s: <image>\nThe video is in total 8.0 seconds.\nWhat?"
    )
    assert len(faithfulness.remove_random_frames(prompt, RESPONSE, RNG).times_s) == 2 and len(prompt.times_s) == 4


@pytest.mark.parametrize("inside", [True, False])
def test_only_the_claimed_side_is_blurred(prompt, inside):
    change = faithfulness.blur_inside_boxes if inside else faithfulness.blur_outside_boxes
    after = change(prompt, RESPONSE, RNG)
    assert np.array_equal(after.images[0], prompt.images[0]) and np.array_equal(after.images[2], prompt.images[2])
    changed = (after.images[1] != prompt.images[1]).any(axis=2)
    box = np.zeros((16, 16), bool)
    box[:8, :8] = True
    assert not changed[box != inside].any() and changed[box == inside].mean() > 0.9
    assert ((after.images[3] != prompt.images[3]).any(axis=2)[:, 8:].mean() > 0.9) == inside  # two boxes at one frame


def test_falsified_thinking(prompt):
    shifted = faithfulness.shift_times(prompt, RESPONSE, RNG).response_prefix
    assert shifted.startswith("<think>First") and shifted.endswith("</think><answer>")
    assert parse_response(shifted).times_s == (6.1, 2.0, 2.4)  # half of 8 s later, modulo the length
    exchanged = parse_response(faithfulness.exchange_boxes(prompt, RESPONSE, RNG).response_prefix + "A</answer>")
    assert [c.boxes[0] for c in exchanged.claims] == [(8, 8, 16, 16), (8, 0, 16, 8), (0, 0, 8, 8)]


@pytest.mark.parametrize("tag", ["<think>", "<answer>", "</answer>"])
def test_no_answer_continues_a_thinking_with_section_tags(tag, prompt):
    malformed = parse_response(f"<think>{THINK}{tag}</think><answer>The car</answer>")
    assert malformed.claims
    for name, change in faithfulness.PERTURBATIONS.items():
        changed = change(prompt, malformed, RNG)
        assert changed is None or "frames" in name or "blurred" in name


@pytest.mark.parametrize("change", faithfulness.PERTURBATIONS.values(), ids=faithfulness.PERTURBATIONS)
def test_without_evidence_there_is_nothing_to_change(change, prompt):
    assert change(prompt, NOTHING, RNG) is None


def test_every_perturbation_is_answered_and_counted(prompt, monkeypatch):
    def generate(vlm, changed_prompts, max_new_tokens, repetition_penalty):
        return [
            "ball</answer>" if p.response_prefix else RESPONSE.text if len(p.images) == 4 else NOTHING.text
            for p in changed_prompts
        ]

    monkeypatch.setattr(faithfulness, "generate", generate)
    trials = faithfulness.run_trials(None, [prompt, prompt], ["the car", "a cup"], InferenceConfig(1, 8))
    rows = {row["change"]: row for row in faithfulness.trial_table(trials)}
    assert rows.keys() == faithfulness.PERTURBATIONS.keys() and {row["n"] for row in rows.values()} == {2}
    assert rows["claimed frames removed"]["changed"] == 0.0 and rows["claimed times shifted"]["changed"] == 1.0
    assert rows["boxes exchanged"]["right before"] == 0.5 and rows["boxes exchanged"]["right after"] == 0.0
    assert rows["boxes exchanged"]["changed, 95%"] == "1.00–1.00"


def test_a_perturbation_that_no_response_allows_is_nan():
    (row, *_) = faithfulness.trial_table([])
    assert row["n"] == 0 and np.isnan(row["changed"]) and row["changed, 95%"] == "–"


def test_own_evidence_is_compared_with_something_else_question_by_question():
    own, other = "claimed frames removed", "random frames removed"
    answers = {own: ("A", "B", "B"), other: ("A", "A", "B")}  # "A" stays, "B" is a changed answer
    trials = [faithfulness.Trial(n, "A", after, "A", i) for n, some in answers.items() for i, after in enumerate(some)]
    trials.append(faithfulness.Trial(own, "A", "B", "A", 3))  # question 3 has no random removal
    frames, blurred = faithfulness.paired_effects(trials).values()
    assert (frames.items, frames.before, frames.after) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert frames.change == pytest.approx(1 / 3) and frames.verdict == "within chance" and blurred.items == 0
