# Written by `make mirror` from 03_gspo.ipynb. Edit the notebook, not this file.

# # Answers 03 · Advantages, clipping, rewards
#
# One way to solve each exercise of [03_gspo](../03_gspo.ipynb). Each check passes.

# **Setup.**

import torch

from o3v import rewards
from o3v.training import objective

row = {
    "task": "temporal-spatial free-form QA",
    "question": "What is on the table?",
    "answer": "A red cup",
    "image_size": [100, 100],
    "key_frames": [{"idx": 0, "time": 2.0, "path": None}, {"idx": 1, "time": 8.0, "path": None}],
    "key_items": {"0": {"red cup": [[0.2, 0.2, 0.6, 0.6]]}, "1": {"red cup": [[0.5, 0.2, 0.9, 0.6]]}},
}
FIRST = "<obj>red cup</obj><box>[20,20,60,60]</box>at<t>2.0</t>s"
SECOND = "<obj>red cup</obj><box>[40,10,100,70]</box>at<t>8.0</t>s"  # a loose box
HONEST = f"<think>First {FIRST}, later {SECOND}.</think><answer>A red cup</answer>"


# ## 1. Advantages
#
# Four answers earn 1, 1, 1 and 3. What is the advantage of the best one? (The standard deviation divides by n − 1.) And if
# all rewards are doubled?

best = 1.5  # mean 1.5, standard deviation 1
best_doubled = 1.5

assert best is not None and best_doubled is not None, (
    "Replace both. The mean is 1.5; the squared distances add up to 3."
)
group = torch.tensor([[1.0, 1.0, 1.0, 3.0]])
assert abs(best - objective.advantages(group)[0, 3].item()) < 0.01, "std = √(3 / 3) = 1, so A = (3 − 1.5) / 1."
assert abs(best_doubled - objective.advantages(2 * group)[0, 3].item()) < 0.01, "Mean and std double, too."


# ## 2. Drop the clip
#
# With A = +1, ε = 0.2 and the ratio s = 1.252 the clipped objective is flat. Write the objective *without* the clip, as an
# expression of `s` and `A`. What is its slope?

s, A = torch.tensor(1.252, requires_grad=True), 1.0
unclipped = s * A
slope = 1.0

assert unclipped is not None and slope is not None, "Replace both. Without the clip, only the product is left."
(clipped_slope,) = torch.autograd.grad(objective.clipped_gain(s, A, 0.2), s)
assert clipped_slope == 0, "With the clip, this answer gives no gradient."
assert abs(unclipped.item() - 1.252) < 1e-6, "The objective is s · A."
(true_slope,) = torch.autograd.grad(unclipped, s)
assert abs(slope - true_slope.item()) < 1e-6, "The slope of s · A is A: nothing stops the update any more."


# ## 3. Forge a completion
#
# `HONEST` gives all its evidence; its second box is loose. Write a completion that earns **more** in the paper's reading, and
# says less. (Use `FIRST` and `SECOND`.)

forged = f"<think>There is {FIRST}.</think><answer>A red cup</answer>"  # silence about the weak claim pays

assert forged is not None, "Replace None. The terms are means over the claims that you make."
honest = rewards.score_completion(HONEST, row, 1.0)["total"]
paid = rewards.score_completion(forged, row, 1.0)["total"]
assert paid > honest + 0.01, f"It earns {paid:.2f}, the honest one {honest:.2f}. Leave out what lowers the mean."


# ## 4. Pay for completeness
#
# `recall_weight` of `RewardConfig` pays for the share of the annotated evidence that is claimed. Choose it so that the honest
# completion earns more than one that claims the first object only.

recall_weight = 2.0

assert recall_weight is not None, "Replace None. 0 is the paper's reading."
config = rewards.RewardConfig(recall_weight=recall_weight)
short = f"<think>There is {FIRST}.</think><answer>A red cup</answer>"
honest, silent = (rewards.score_completion(text, row, 1.0, config)["total"] for text in (HONEST, short))
assert honest > silent, f"honest {honest:.2f}, silent {silent:.2f}: the weight is still too small."


# ## 5. A reward of your own
#
# The tiny policy below is a table of logits: it writes four words from a list of five. Write a reward, from a list of words to
# a number, in at most ten lines. Then 20 steps of GSPO train the policy with it. Its mean reward
# should rise clearly: by a quarter of the most that you pay.

WORDS = ("red", "cup", "the", "sees", "blue")


def reward(words):
    return words.count("red") / 4


assert reward(["red", "cup", "the", "the"]) is not None, "Return a number: replace the dots."
torch.manual_seed(0)
logits, means, epsilon = torch.zeros(4, 5, requires_grad=True), [], 0.2
for _ in range(20):
    table = logits.log_softmax(1)
    ids = torch.multinomial(table.detach().exp(), 16, replacement=True).T  # (16 answers, 4 words)
    paid = torch.tensor([[float(reward([WORDS[i] for i in answer])) for answer in ids.tolist()]])
    logp = table.expand(16, 4, 5).gather(2, ids[..., None])[..., 0]
    loss = objective.gspo_loss(logp, logp.detach(), torch.ones(16, 4), objective.advantages(paid)[0], epsilon)
    (gradient,) = torch.autograd.grad(loss, logits)
    logits = (logits - 8.0 * gradient).detach().requires_grad_()
    means.append(paid.mean().item())
spread = max(1e-9, paid.max().item() - min(0.0, means[0]))
assert means[-1] > means[0] + 0.25 * spread, f"{means[0]:.2f} → {means[-1]:.2f}: do all answers earn the same at first?"
