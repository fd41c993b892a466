# Written by `make mirror` from 02_sft.ipynb. Edit the notebook, not this file.

# # Answers 02 · Imitation
#
# One way to solve each exercise of [02_sft](../02_sft.ipynb). Each check passes.

# **Setup.**

import math
import re

from o3v.geometry import box_area, box_iou


# ## 1. The loss by hand
#
# The model gives the three tokens of a response the probabilities 0.5, 0.25 and 1.0. What is the cross-entropy loss, the
# mean of $-\log \pi$? (Natural logarithm.)

loss = (math.log(2) + math.log(4) + 0) / 3

assert loss is not None, "Replace None. −log 0.5 is 0.693; add the three values and divide by 3."
expected = -sum(math.log(p) for p in (0.5, 0.25, 1.0)) / 3
assert abs(loss - expected) < 0.001, f"Not {loss}: a token with probability 1 adds 0, but counts in the mean."


# ## 2. Which tokens are trained?
#
# A row has 5 prompt tokens and 3 response tokens, then 2 tokens of padding. Write the mask of the loss (1 for trained), and the
# share of the row's tokens (without padding) that enter the loss.

mask = [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
share = 3 / 8

assert mask is not None and share is not None, "Replace both. Only the response enters the loss."
assert len(mask) == 10, f"The mask has {len(mask)} numbers; it needs one for each of the 10 tokens."
assert list(mask) == [0] * 5 + [1] * 3 + [0] * 2, "Neither the prompt nor the padding is trained."
assert abs(share - 3 / 8) < 0.001, "Padding does not count: 3 of 8 tokens."


# ## 3. The base knows boxes, but not the tags
#
# The base writes boxes in plain words. Write a regular expression with four groups that finds them, so that the parsed box can
# be compared with the truth.

pattern = r"\[(\d+),(\d+),(\d+),(\d+)\]"

assert pattern is not None, "Replace None with a pattern: r'\\[(\\d+),…' with a group for each number."
text = "Frame 11 blue cup middle left [2,21,24,43] at 7.7s is new."
found = re.search(pattern, text)
assert found, "The pattern finds nothing. Brackets need a backslash: \\[ and \\]."
assert len(found.groups()) == 4, f"The pattern has {len(found.groups())} groups; it needs one for each side of the box."
box = tuple(map(int, found.groups()))
assert box == (2, 21, 24, 43), f"The pattern reads {box}."
assert box_iou(box, (0, 20, 24, 44)) > 0.8, "The base points well; a program just cannot read it as a claim."


# ## 4. Imitation copies loose boxes
#
# The cold start answers with boxes of 1.8 times the true area, around the true box. What is the best mean IoU it can reach?

best_iou = 1 / 1.8

assert best_iou is not None, "Replace None. The true box lies inside the answered one."
assert abs(best_iou - 1 / 1.8) < 0.005, f"Not {best_iou}: shared area 1, covered area 1.8."
side = math.sqrt(1.8)
assert abs(best_iou - box_iou((0, 0, 1, 1), (0, 0, side, side))) < 0.005 and box_area((0, 0, side, side)) > 1.79
