# Written by `make mirror` from 04_inference.ipynb. Edit the notebook, not this file.

# # Answers 04 · Votes and evidence
#
# One way to solve each exercise of [04_inference](../04_inference.ipynb). Each check passes.

# **Setup.**

from o3v.evaluation.bootstrap import paired_change
from o3v.inference import voting

pool = [
    voting.Candidate("", "The cup", ("0",), 0.2),
    voting.Candidate("", "The cup", ("0",), 0.2),
    voting.Candidate("", "The cup", ("1",), 0.6),
    voting.Candidate("", "A ball", ("2", "1"), 0.8),
]


# ## 1. Who wins?
#
# Three responses answer *The cup* with confidences 0.2, 0.2 and 0.6, one answers *A ball* with 0.8. Which answer wins by
# count, and which by confidence?

by_count = "The cup"  # 3 to 1
by_confidence = "The cup"  # 1.0 to 0.8

assert by_count is not None and by_confidence is not None, "Replace both with one of the two answers."
assert by_count == voting.vote(pool, weighted=False), "By count, every response has one vote."
assert by_confidence == voting.vote(pool), "By confidence, add 0.2 + 0.2 + 0.6 and compare with 0.8."


# ## 2. How sure is sure enough?
#
# One response answers *A ball* with confidence 1. How many responses with the answer *The cup* and confidence 0.2 are needed to
# out-vote it? (At equal sums the first answer wins, and the ball is first.)

needed = 6

assert needed is not None, "Replace None. The cups together need more than 1."
ball, cup = voting.Candidate("", "A ball", (), 1.0), voting.Candidate("", "The cup", (), 0.2)
assert voting.vote([ball, *[cup] * needed]) == "The cup", f"{needed} cups have {needed * 0.2:.1f}; the ball has 1.0."
assert voting.vote([ball, *[cup] * (needed - 1)]) == "A ball", "One cup less is already enough."


# ## 3. None of 37
#
# After an intervention, 0 of 37 answers changed. The interval 0.00–0.00 is too narrow. How large can the true share still be,
# by the rule of three?

upper = 3 / 37

assert upper is not None, "Replace None. The rule of three: with 0 of n, the 95% bound is about 3/n."
assert abs(upper - 3 / 37) < 0.002, f"Not {upper}: divide 3 by the number of answers."
assert abs((1 - upper) ** 37 - 0.05) < 0.01, "With this share, 0 of 37 would happen in about 5% of the cases."


# ## 4. Paired, or not
#
# The same ten questions: with the claimed frames removed 4 answers change, with random frames removed 3. Is the difference more
# than chance? Give the verdict of the paired comparison: `rose`, `fell` or `within chance`.

verdict = "within chance"

assert verdict is not None, "Replace None. First look at how many single questions differ."
random_frames = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
claimed_frames = [1, 0, 1, 1, 1, 0, 0, 0, 0, 0]
change = paired_change(random_frames, claimed_frames)
assert verdict == change.verdict, f"Its interval is {change.low:.2f} to {change.high:.2f}. Does it hold 0?"
