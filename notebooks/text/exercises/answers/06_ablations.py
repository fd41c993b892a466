# Written by `make mirror` from 06_ablations.ipynb. Edit the notebook, not this file.

# # Answers 06 · What does a comparison show?
#
# One way to solve each exercise of [06_ablations](../06_ablations.ipynb). Each check passes.

# **Setup.**

import numpy as np

from o3v.ablations.results import Estimate, direction
from o3v.evaluation.bootstrap import paired_change


# ## 1. Paired or not?
#
# Two models answer the same questions with these scores. Compute the mean difference, and the standard deviation of the
# differences (numpy's `std`).

scores_a, scores_b = np.array([0.1, 0.9, 0.5, 0.7]), np.array([0.2, 1.0, 0.6, 0.8])
mean_difference = (scores_b - scores_a).mean()
spread = (scores_b - scores_a).std()

assert mean_difference is not None and spread is not None, (
    "Replace both. Subtract question by question, then take the mean."
)
assert abs(mean_difference - 0.1) < 1e-9, f"Not {mean_difference}: every question differs by 0.1."
assert spread < 1e-9, "The differences are all equal, so their spread is 0, however different the questions are."
change = paired_change(scores_a, scores_b)
assert change.verdict == "rose" and change.high - change.low < 1e-9


# ## 2. What does an interval say?
#
# The paper's number falls by 0.7 when a piece is removed. Here the change of three experiments and its interval are known.
# Write for each "shows", "is reversed" or "is within noise".

measured = [(-0.02, -0.05, 0.01), (-0.03, -0.04, -0.01), (0.04, 0.01, 0.07)]  # change, low, high
says = ["is within noise", "shows", "is reversed"]

assert says is not None, (
    "Replace None with a list of three texts. Look only at whether the interval holds 0, and at the sign."
)
expected = [direction(Estimate(*m), -0.7) for m in measured]
assert len(says) == 3, f"There are three experiments, and {len(says)} texts."
assert says[0] == expected[0], "An interval that holds 0 shows no direction, however the mean looks."
assert says == expected, "A fall like the paper's shows its direction; a rise beyond noise is reversed."


# ## 3. Many comparisons
#
# You compare 20 cells with the reference, and no piece does anything. With 95% intervals, how many verdicts "better" or
# "worse" do you expect by chance?

by_chance = 20 * 0.05

assert by_chance is not None, "Replace None. Each interval misses the true change with a probability of 5%."
assert abs(by_chance - 1) < 1e-9, f"Not {by_chance}: 20 comparisons, each wrong with probability 0.05."


# ## 4. Is the comparison fair?
#
# An epoch of SFT with 2.3 s a step is followed by 40 updates of GSPO with 7 s each. How many more steps of SFT take the same
# time as GSPO? (Rounded down.)

more_steps = int(40 * 7 / 2.3)

assert more_steps is not None, "Replace None. Divide the seconds of all updates by the seconds of a step of SFT."
assert more_steps == int(40 * 7 / 2.3), f"Not {more_steps}: GSPO takes 280 s, and a step of SFT 2.3 s."
