# Written by `make mirror` from 05_evaluation.ipynb. Edit the notebook, not this file.

# # Answers 05 · V-STAR by hand
#
# One way to solve each exercise of [05_evaluation](../05_evaluation.ipynb). Each check passes.

# **Setup.**

from o3v.evaluation import vstar
from o3v.evaluation.bootstrap import paired_change
from o3v.geometry import box_iou, span_iou

item = {
    "vid": "a.mp4",
    "domain": "Park",
    "fps": 10,
    "frame_count": 300,
    "question": "What falls?",
    "answer": "the cup",
    "timestamps": [2.0, 8.0],
    "bboxes": [{"timestamp": 3, "frame_index": 30, "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}],
}
nothing = {"answer_vqa": "", "answer_temporal": [], "answer_temporal_2": []}
nothing |= {"answer_spatial": {}, "answer_spatial_2": {}}
good = {"answer_vqa": "A cup falls", "answer_temporal": [5.0, 11.0], "answer_temporal_2": [2.0, 8.0]}
good |= {"answer_spatial": {"3": [0, 0, 10, 5]}, "answer_spatial_2": {}}


# ## 1. LGM
#
# A model has accuracy 0.7, tIoU 0.79 and vIoU 0.6. Compute $-\frac{1}{3} \sum \ln(1 - x_i)$ to three decimals.

lgm = 1.227

assert lgm is not None, "Replace None. ln 0.3 = −1.204, ln 0.21 = −1.561, ln 0.4 = −0.916."
assert abs(lgm - vstar.log_geometric_mean(0.7, 0.79, 0.6)) < 0.002, f"Not {lgm}: add the logarithms, divide by −3."


# ## 2. Read a prediction
#
# The truth of `item`: the cup, from 2 s to 8 s, at second 3 in the box (0, 0, 10, 10). The prediction `good` says from 5 s to
# 11 s and the box (0, 0, 10, 5). Give tIoU and vIoU of chain 1.

tiou = 3 / 9  # shared 5–8, covered 2–11
viou = 0.5

assert tiou is not None and viou is not None, "Replace both: shared divided by covered, in seconds and in pixels."
score = vstar.score_item({**item, **good}, "strict")
assert abs(tiou - score.tiou[0]) < 0.005 and abs(tiou - span_iou((5, 11), (2, 8))) < 0.005, "tIoU: 3 s of 9 s."
assert abs(viou - score.viou[0]) < 0.005 and box_iou((0, 0, 10, 5), (0, 0, 10, 10)) == 0.5, "vIoU: half of the box."


# ## 3. An item without an answer
#
# Two items: one is answered perfectly in time (chain 2 of `good`), the other has no answer. What is m_tIoU of chain 2 in the
# protocol `strict`, which counts every item, and in `official`, which leaves unanswered items out?

fixed = 0.5
official = 1.0

assert fixed is not None and official is not None, "Replace both. The mean is over two items, or over one."
items = [{**item, **good}, {**item, **nothing}]
assert abs(fixed - vstar.score_items(items, "strict")["overall"]["m_tiou"][1]) < 0.001, "fixed: (1 + 0) / 2."
assert abs(official - vstar.score_items(items, "official")["overall"]["m_tiou"][1]) < 0.001, "official: 1 / 1."


# ## 4. Flips
#
# Ten questions before and after training, 1 is right. Count the flips to right and to wrong. The change of accuracy is their
# difference over ten. Is it more than chance?

before = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
after = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
to_right = 1
to_wrong = 2
verdict = "within chance"

assert None not in (to_right, to_wrong, verdict), (
    "Replace all three values of None. Compare the lists column by column."
)
change = paired_change(before, after)
assert to_right == change.rose, "A flip to right: 0 before, 1 after."
assert to_wrong == change.fell, "A flip to wrong: 1 before, 0 after."
assert verdict == change.verdict, f"The interval of the change is {change.low:.1f} to {change.high:.1f}."
