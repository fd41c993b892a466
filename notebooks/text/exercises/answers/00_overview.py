# Written by `make mirror` from 00_overview.ipynb. Edit the notebook, not this file.

# # Answers 00 · Evidence and its reward
#
# One way to solve each exercise of [00_overview](../00_overview.ipynb). Each check passes.

# **Setup.**

from o3v import evidence, rewards
from o3v.geometry import box_iou
from o3v.rewards.terms import temporal_proximity

row = {
    "task": "temporal-spatial free-form QA",
    "question": "What stands on the table?",
    "answer": "A red cup",
    "image_size": [100, 100],
    "key_frames": [{"idx": 0, "time": 8.0, "path": None}],
    "key_items": {"0": {"red cup": [[0.2, 0.2, 0.6, 0.6]]}},
}


# ## 1. Write a claim
#
# Write one claim: the *red cup* is seen in the box from (20, 20) to (60, 60) at 8.0 seconds.

claim = "<obj>red cup</obj><box>[20,20,60,60]</box>at<t>8.0</t>s"

assert isinstance(claim, str), "Replace None with a text such as '<obj>…</obj><box>[…]</box>at<t>…</t>s'."
parsed = evidence.parse_response(f"<think>{claim}</think><answer>A red cup</answer>")
assert not parsed.problems, f"The parser reports: {[p.kind for p in parsed.problems]}. Compare with the grammar in 00."
assert [c.name for c in parsed.claims] == ["red cup"], "There must be one claim, and its object is 'red cup'."
assert parsed.claims[0].boxes == ((20, 20, 60, 60),), "The box is [x0,y0,x1,y1], here [20,20,60,60]."
assert parsed.claims[0].time_s == 8.0, "The time stands as at<t>8.0</t>s, directly after the box."


# ## 2. Predict the time term
#
# With σ = 2 s, what does a claim earn whose time is 1 s off? Compute $\exp(-\Delta^2 / 2\sigma^2)$ to three decimals.

earned = 0.882

assert earned is not None, "Replace None with your number. The exponent is −1² / (2 · 2²)."
expected = temporal_proximity(9.0, [8.0], sigma_s=2.0)
assert abs(earned - expected) < 0.001, f"Not {earned}: the exponent is −1/8; e to this power is a little below 0.9."


# ## 3. Predict an IoU
#
# The true box is (20, 20, 60, 60). A claim is shifted to the right by a quarter of its width: (30, 20, 70, 60). What is the
# IoU? Shared area divided by covered area.

iou = 1200 / 2000

assert iou is not None, "Replace None. The boxes share 30 × 40 pixels; together they cover 50 × 40."
expected = box_iou((30, 20, 70, 60), (20, 20, 60, 60))
assert abs(iou - expected) < 0.005, f"Not {iou}: count the covered area once, not twice."


# ## 4. A right box at a wrong time
#
# Choose a time for this claim so that its box still earns its full IoU but its time earns less than 0.1. (The key time is
# 8 s, τ = 3 s, and at the end of training σ = 1 s.)

time_s = 10.5  # 2.5 s late: inside the gate, and exp(−3.125) = 0.04

assert time_s is not None, "Replace None with a time in seconds. The gate closes 3 s away from the key time."
text = f"<think><obj>red cup</obj><box>[20,20,60,60]</box>at<t>{time_s}</t>s</think><answer>A red cup</answer>"
terms = rewards.score_completion(text, row, progress=1.0)
assert terms["thk_spatial"] > 0.99, f"The box earns {terms['thk_spatial']:.2f}: more than 3 s away, the gate is closed."
assert terms["thk_temporal_point"] < 0.1, f"The time earns {terms['thk_temporal_point']:.2f}: move it further away."
