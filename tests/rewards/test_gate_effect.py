"""The gate's effect on answers, by hand."""

from o3v.rewards.config import RewardConfig
from o3v.rewards.gate_effect import gate_effect
from o3v.schema import Example, KeyFrame, Task

TRUTH = {
    "r": Example(
        "r",
        Task.SPATIO_TEMPORAL,
        "STR_coin",
        "Where?",
        "On the left",
        video_path="v.mp4",
        key_frames=(KeyFrame(10, 2.0, None, {"dog": ((0.1, 0.1, 0.5, 0.5),)}),),
    ).to_row()
}


def rollout(time_s, **fields):
    claim = f"<obj>dog</obj><box>[10,10,50,50]</box>at<t>{time_s}</t>s"
    text = f"<think>{claim}</think><answer>left</answer>"
    row = {"id": "r", "task": str(Task.SPATIO_TEMPORAL), "completion": text, "image_size_refine": [100, 100]}
    return {**row, "thk_spatial": 0.0, **fields}


def test_a_right_box_at_a_wrong_time_is_paid_without_a_gate_only():
    near, far = gate_effect([rollout(4.0), rollout(9.0)], TRUTH, RewardConfig.paper())
    assert (near["with gate"], near["without gate"], near["lowered"]) == (1.0, 1.0, False)
    assert (far["with gate"], far["without gate"], far["lowered"]) == (0.0, 1.0, True)
    (late,) = gate_effect([rollout(9.0)], TRUTH, RewardConfig.official())  # key − t is below 1 s
    assert (late["with gate"], late["lowered"]) == (1.0, False)


def test_answers_without_a_gated_term_are_left_out():
    others = [rollout(4.0, task=str(Task.SPATIAL)), rollout(4.0, thk_spatial=None)]
    assert gate_effect(others, TRUTH, RewardConfig.paper()) == []
