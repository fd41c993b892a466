"""Rewards of whole completions by hand in both readings, and against what the public code returns."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from o3v.evidence import TAGS, format_claim, format_object, format_response, format_span, format_time
from o3v.rewards.config import RewardConfig, sigma_at
from o3v.rewards.grounded import TASK_RULES, TERMS, score_completion
from o3v.schema import Example, Task

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "rewards_visible.jsonl"
PAPER, OFFICIAL = RewardConfig.paper(), RewardConfig.official()

TEMPORAL = {"task": "temporal QA", "answer": "[2.0, 6.0]"}
TEMPORAL_MCQ = {"task": "temporal QA (MCQ)", "answer": "B\n[2.0, 6.0]"}
# the true box is [10, 10, 50, 30] in the resized image
SPATIAL = {
    "task": "visual QA",
    "answer": "<obj>cup</obj><box>[20,40,100,120]</box>",
    "image_size": [200, 400],
    "image_size_refine": [100, 100],
}
# the cup is [10, 10, 50, 50] at 2 s and [50, 50, 90, 90] at 8 s
MIXED = {
    "task": "temporal-spatial free-form QA",
    "answer": "The cup falls.",
    "image_size": [100, 100],
    "key_frames": [{"idx": 4, "time": 2.0}, {"idx": 16, "time": 8.0}],
    "key_items": {
        "4": {"cup": [[0.1, 0.1, 0.5, 0.5]], "dog": None},
        "16": {"dog": [[0.0, 0.0, 0.2, 0.2]], "cup": [[0.5, 0.5, 0.9, 0.9]]},
    },
}
MCQ = {"task": "General video QA MCQ", "answer": "C"}
FREE_FORM = {"task": "General video QA Free-form", "answer": "The cup falls."}
ROWS = [TEMPORAL, TEMPORAL_MCQ, SPATIAL, MIXED, MCQ, FREE_FORM]
FOUND = [format_claim("cup", [(10, 10, 50, 50)], 2.0), format_claim("cup", [(50, 50, 90, 70)], 9.0)]  # IoU 1 and ½
THOUGHT = " ".join([*FOUND, format_time(20.0)])


def score(text: str, row: dict, progress: float = 1.0, config: RewardConfig = PAPER) -> dict:
    """The terms that apply, without the total, which must be their sum."""
    scores = score_completion(text, row, progress, config)
    ours = ["thk_recall"] if config.recall_weight else []
    assert list(scores) == [*TERMS, *ours, "total"]
    applying = {name: value for name, value in scores.items() if value is not None}
    assert applying.pop("total") == pytest.approx(sum(applying.values()))
    return applying


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({}, "task"),
        ({"task": "juggling"}, "task"),
        (TEMPORAL | {"answer": "from 2 to 6"}, "answer"),
        (TEMPORAL | {"answer": "[1, 2, 3]"}, "answer"),
        (TEMPORAL_MCQ | {"answer": "maybe\n[2.0, 6.0]"}, "answer"),
        (MCQ | {"answer": "all of them"}, "answer"),
        (SPATIAL | {"answer": "a cup"}, "answer"),
        (SPATIAL | {"image_size_refine": None}, "image_size_refine"),
        ({**MIXED, "image_size": None}, "image_size"),
    ],
)
def test_unusable_truth_is_named(row, field):
    with pytest.raises(ValueError, match=f"row 'r7': field '{field}'"):
        score_completion("", {"id": "r7"} | row, 0.5)


@pytest.mark.parametrize("progress", [-0.1, math.nan])
def test_progress_is_a_share(progress):
    with pytest.raises(ValueError, match="progress"):
        score_completion(format_response(THOUGHT, "a"), MIXED, progress)


@pytest.mark.parametrize("change", [{"sigma_start_s": 0}, {"sigma_end_s": -1}, {"gate_s": -1}, {"sigma_until": 2}])
def test_an_invalid_config_is_an_error(change):
    with pytest.raises(ValueError):
        replace(PAPER, **change)


@pytest.mark.parametrize(
    ("progress", "sigma"), [(0, 4), (0.25, 3), (0.5, 2), (0.7499, 1.0004), (0.75, 1), (0.9, 1), (1, 1), (1.2, 1)]
)
def test_sigma(progress, sigma):
    assert sigma_at(progress, PAPER) == pytest.approx(sigma)
    assert sigma_at(progress, OFFICIAL) == pytest.approx(sigma)


def test_sigma_can_be_fixed():
    fixed = RewardConfig(sigma_start_s=4.0, sigma_end_s=4.0)
    assert [sigma_at(p, fixed) for p in (0, 0.5, 1)] == [4.0, 4.0, 4.0]
    assert sigma_at(0, RewardConfig(sigma_until=0.0)) == 1.0


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("text", ["", "<think>", "B", "<think>cut at", *TAGS])
def test_a_response_without_content_earns_nothing(row, text):
    assert set(score(text, row).values()) == {0.0}
    assert score(text, row, config=OFFICIAL) == dict.fromkeys(TERMS, 0.0)


def test_terms_that_do_not_apply_are_none():
    terms = {
        Task.TEMPORAL: {"ans_tiou", "thk_temporal_segment"},
        Task.TEMPORAL_MCQ: {"ans_acc", "ans_tiou", "thk_temporal_segment"},
        Task.SPATIAL: {"ans_viou", "thk_spatial"},
        Task.SPATIO_TEMPORAL: {"ans_acc", "thk_temporal_point", "thk_spatial"},
        Task.MCQ: {"ans_acc"},
        Task.FREE_FORM: {"ans_acc"},
    }
    for row in ROWS:
        assert set(score("", row)) == terms[Task(row["task"])] | {"format"}
    assert set(TASK_RULES) == set(Task)


@pytest.mark.parametrize("row", [MIXED | {"key_frames": []}, MIXED | {"key_frames": None, "key_items": None}])
def test_without_key_frames_the_thinking_terms_do_not_apply(row):
    text = format_response(THOUGHT, "The cup falls.")
    assert score(text, row) == {"ans_acc": 1.0, "format": 1.0}
    assert score(text, row, config=OFFICIAL) == dict.fromkeys(TERMS, 0.0) | {"ans_acc": 1.0, "format": 1.0}


def test_key_times_without_boxes_give_only_the_time_term():
    row = MIXED | {"key_items": {}, "image_size": None}
    assert set(score(format_response(THOUGHT, "a"), row)) == {"ans_acc", "thk_temporal_point", "format"}


def test_temporal():
    # times 2, 6 and 7 of which two are inside; the answer 4–8 overlaps 2–6 by 2 of 6
    text = format_response("".join(map(format_time, (2, 6, 7))), format_span(4, 8))
    assert score(text, TEMPORAL) == pytest.approx({"ans_tiou": 2 / 6, "thk_temporal_segment": 2 / 3, "format": 1.0})
    # an answer without its span, and no timestamp (M = 0): only the sections are correct
    assert score(format_response("hm", "From 4s to 8s"), TEMPORAL) == {
        "ans_tiou": 0.0,
        "thk_temporal_segment": 0.0,
        "format": 0.5,
    }


def test_temporal_mcq_rewards_letter_and_span():
    text = format_response(format_time(3), f"{format_span(2, 6)}\nCorrect Option: B.")
    assert score(text, TEMPORAL_MCQ) == {"ans_acc": 1.0, "ans_tiou": 1.0, "thk_temporal_segment": 1.0, "format": 1.0}
    assert score(text, TEMPORAL_MCQ, config=OFFICIAL)["format"] == 0.5  # the code requires two times
    assert score(format_response("", "B"), TEMPORAL_MCQ)["ans_acc"] == 0.0


def test_boxes_are_compared_in_the_resized_image():
    # the thinking claims half of the true box, the answer three quarters
    thought = format_object("dog", (60, 60, 70, 70)) + format_object("red cup", (10, 10, 30, 30))
    text = format_response(thought, format_object("cup", (10, 10, 40, 30)))
    assert score(text, SPATIAL) == pytest.approx({"ans_viou": 0.75, "thk_spatial": 0.5, "format": 1.0})
    # the code requires a name of one word, which may be in the answer
    assert score(text, SPATIAL, config=OFFICIAL)["format"] == 1.0
    assert (
        score(text.replace(">cup<", ">the cup<").replace(">dog<", ">a dog<"), SPATIAL, config=OFFICIAL)["format"] == 0.5
    )


@pytest.mark.parametrize(("progress", "spread"), [(0.0, 4.0), (0.5, 2.0), (0.75, 1.0), (1.0, 1.0)])
def test_mixed_by_the_paper(progress, spread):
    # Δ = 0, 1 and 12 s; IoU 1, ½ and none; M = 3
    point = (1 + math.exp(-1 / (2 * spread**2)) + math.exp(-144 / (2 * spread**2))) / 3
    expected = {"ans_acc": 1.0, "thk_temporal_point": point, "thk_spatial": 1.5 / 3, "format": 1.0}
    assert score(format_response(THOUGHT, "The cup falls."), MIXED, progress) == pytest.approx(expected)


def test_mixed_by_the_code_averages_claims():
    scores = score(format_response(THOUGHT, "The cup falls."), MIXED, config=OFFICIAL)
    assert scores["thk_spatial"] == pytest.approx(1.5 / 2)
    assert scores["ans_tiou"] == scores["ans_viou"] == scores["thk_temporal_segment"] == 0.0


@pytest.mark.parametrize(
    ("change", "spatial"),
    [
        ({}, 0.5 / 2),  # 3.5 is within 3 s of 2, 12.5 of no key time
        ({"gate": "one_sided", "gate_s": 1.0}, 1.5 / 2),  # both are late, so both pass; 12.5 is nearest to 8
        ({"gate_s": math.inf}, 1.5 / 2),
        ({"gate_s": 1.0}, 0.0),
        ({"spatial_mean": "claims"}, 0.5 / 2),
    ],
)
def test_gates(change, spatial):
    thought = format_claim("cup", [(10, 10, 50, 30)], 3.5) + format_claim("cup", [(50, 50, 90, 90)], 12.5)
    assert score(format_response(thought, "a"), MIXED, config=replace(PAPER, **change))["thk_spatial"] == spatial


def test_a_missing_answer_removes_the_spatial_term_only_in_the_code():
    text = f"<think>{FOUND[0]}</think>"
    assert score(text, MIXED)["thk_spatial"] == 1.0
    assert score(text, MIXED, config=OFFICIAL)["thk_spatial"] == 0.0


@pytest.mark.parametrize(
    ("row", "thought", "strict"),
    [
        (TEMPORAL, "", 0.5),
        (TEMPORAL, format_time(1), 1.0),
        (SPATIAL, format_time(1), 0.5),
        (SPATIAL, format_object("cup", (1, 2, 3, 4)), 1.0),
        (MIXED, format_object("cup", (1, 2, 3, 4)) + format_time(1), 0.5),  # object and time, but no claim of both
        (MIXED, FOUND[0], 1.0),
        (MIXED, FOUND[0] + "<obj>", 0.5),
        (MCQ, "", 1.0),
        (FREE_FORM, "", 1.0),
        (FREE_FORM, "<t>", 0.5),
    ],
)
def test_strict_format_asks_for_the_evidence_of_the_task(row, thought, strict):
    assert score(format_response(thought, "a"), row)["format"] == strict


def test_general_questions():
    assert score(format_response("", "(C)"), MCQ) == {"ans_acc": 1.0, "format": 1.0}
    assert score(format_response("", "Correct Option: C"), MCQ) == {"ans_acc": 0.0, "format": 1.0}
    assert score(format_response("", " the cups fall "), FREE_FORM) == {"ans_acc": 1.0, "format": 1.0}


def test_an_example_scores_as_the_row_it_writes():
    row = {**MIXED, "id": "x", "question": "What falls?", "video_path": "v.mp4"}
    text = format_response(THOUGHT, "The cup falls.")
    assert score_completion(text, Example.from_row(row), 0.3) == score_completion(text, row, 0.3)
    without = Example.from_row({**row, "image_size": None})
    with pytest.raises(ValueError, match="'image_size'"):
        score_completion(text, without, 0.3)
    image_row = Example.from_row({**SPATIAL, "id": "y", "question": "Where?", "image_path": "p.jpg"})
    with pytest.raises(ValueError, match="'image_size_refine'"):
        score_completion(text, image_row, 0.3)


def test_the_row_is_not_changed():
    before = json.dumps(SPATIAL)
    score_completion(format_response("", format_object("cup", (1, 2, 3, 4))), SPATIAL, 0.5, OFFICIAL)
    assert json.dumps(SPATIAL) == before


def test_random_texts_do_not_raise():
    rng = random.Random(0)
    pieces = [*TAGS, *FOUND, "[1,2,3,4]", "at", "s", "\n", "nan", "1e999", "-0", "٣", "Correct Option:", "B", "\ud800"]
    for _ in range(2_000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 20)))
        for config in (PAPER, OFFICIAL):
            for row in ROWS:
                assert math.isfinite(score_completion(text, row, rng.random(), config)["total"])


@pytest.mark.parametrize("unit", ["<obj>", FOUND[0], "<obj>a</obj><box>[", "word ", "<t>9"])
def test_long_texts_are_scored_in_linear_time(unit):
    body = unit * (200_000 // len(unit))
    started = time.perf_counter()
    for text in (f"<think>{body}</think><answer>a</answer>", f"<think></think><answer>{body}</answer>"):
        for config in (PAPER, OFFICIAL):
            score_completion(text, MIXED, 0.5, config)
    assert time.perf_counter() - started < 4  # 0.2 s are usual


def test_agrees_with_the_public_code():
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here")
    cases = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == 360
    for case in cases:
        scores = score_completion(case["completion"], case["row"], case["step_percent"], OFFICIAL)
        assert {name: scores[name] for name in case["official"]} == pytest.approx(case["official"], abs=1e-9), case[
            "id"
        ]


TWO_THINGS = {
    "task": "temporal-spatial free-form QA",
    "image_size": [100, 100],
    "answer": "a",
    "key_frames": [{"idx": 10, "time": 5.0}],
    "key_items": {"10": {"cup": [[0.1, 0.1, 0.5, 0.5]], "dog": [[0.6, 0.1, 0.9, 0.5]]}},
}
CUP, DOG = (10, 10, 50, 50), (60, 10, 90, 50)


@pytest.mark.parametrize(
    ("name", "box", "ignored", "required"),
    [("cup", CUP, 1.0, 1.0), ("Cup ", CUP, 1.0, 1.0), ("dog", CUP, 1.0, 0.0), ("cat", DOG, 1.0, 0.0)],
)
def test_names_may_be_required(name, box, ignored, required):
    text = format_response(format_claim(name, [box], 5.0), "a")
    assert score(text, TWO_THINGS)["thk_spatial"] == ignored
    assert score(text, TWO_THINGS, config=replace(PAPER, names="required"))["thk_spatial"] == required


def test_recall_rewards_all_of_the_evidence():
    config = replace(PAPER, recall_weight=0.5)
    cup, dog = format_claim("cup", [CUP], 5.0), format_claim("dog", [DOG], 6.0)
    one, both = (score(format_response(thought, "a"), TWO_THINGS, config=config) for thought in (cup, cup + dog))
    assert one["thk_spatial"] == both["thk_spatial"] == 1.0  # one good box earns the full reward, as in the paper
    assert (one["thk_recall"], both["thk_recall"]) == (0.25, 0.5)
    assert "thk_recall" not in score(format_response(cup, "a"), TWO_THINGS)
    late = format_response(format_claim("cup", [CUP], 8.5), "a")
    assert score(late, TWO_THINGS, config=config)["thk_recall"] == 0.0
    with pytest.raises(ValueError, match="recall_weight"):
        replace(PAPER, recall_weight=-1.0)
