# Written by `make mirror` from 01_data_pipeline.ipynb. Edit the notebook, not this file.

# # Answers 01 · Rows and filters
#
# One way to solve each exercise of [01_data_pipeline](../01_data_pipeline.ipynb). Each check passes.

# **Setup.**

from o3v import schema
from o3v.data import filters

SHARES = (0.1, 0.3, 0.6, 0.9)  # area of the box, share of the frame
rows = [
    schema.Example(
        id=f"row-{i}",
        task=schema.Task.SPATIO_TEMPORAL,
        source="own",
        question="What stands on the table?",
        answer="A red cup",
        video_path="a.mp4",
        key_frames=(schema.KeyFrame(idx=0, time_s=4.5, items={"red cup": ((0.0, 0.0, 1.0, share),)}),),
        reasoning_process=f"The <obj>red cup</obj><box>[0,0,1,{share}]</box>at<t>4.5</t>s stands there.",
    )
    for i, share in enumerate(SHARES)
]


# ## 1. Choose a threshold
#
# `drop_large_boxes` removes boxes over a share of the frame. The four rows have boxes of 10, 30, 60 and 90%. Choose
# `max_share` so that exactly two boxes go.

max_share = 0.5

assert max_share is not None, "Replace None with a share between two of the four sizes."
dropped = len(filters.drop_large_boxes(rows, max_share).dropped)
assert dropped == 2, f"{dropped} boxes were removed. Only those *over* the share go: 60% and 90% must lie above it."


# ## 2. Find the faulty claim
#
# This chain names a time that no key frame has. Which stage drops the row: `drop_large_boxes`, `drop_unmentioned_boxes` or
# `drop_inconsistent_rows`?

stage = filters.drop_inconsistent_rows

assert stage is not None, "Replace None with a function, for example filters.drop_large_boxes."
chain = "The <obj>red cup</obj><box>[0,0,1,0.1]</box>at<t>0.3</t>s stands there."
faulty = schema.Example(**{**vars(rows[0]), "reasoning_process": chain})
assert not stage([faulty]).kept, (
    f"{stage.__name__} keeps this row. Look for the one that compares times with key frames."
)
assert stage([rows[0]]).kept, "This stage drops the correct row, too."


# ## 3. How bad is a loose box?
#
# An annotator draws every side too far out by 35% of the object's width or height. What is the *relative size* of the box
# (its area divided by the true one), and what IoU does it have with the true box?

relative_size = 1.7**2  # the box is 1 + 2 · 0.35 times as wide and as high
iou = 1 / relative_size  # the true box lies inside

assert relative_size is not None and iou is not None, (
    "Replace both. Each side moves out, so the width grows twice by 35%."
)
assert abs(relative_size - 2.89) < 0.01, f"Not {relative_size}: width and height are both 1.7 times as large."
assert abs(iou - 1 / 2.89) < 0.005, "The true box lies inside, so the shared area is the true area."


# ## 4. A filter for a ninth fault
#
# Some annotators give the answer away in the question (*What is the red cup?* — *A red cup*). Write a stage that drops such
# rows: a function from examples to `filters.FilterResult(kept, dropped)`. Compare without articles and without case.

def drop_given_away(examples):
    kept, dropped = [], []
    for row in examples:
        words = row.answer.lower().removeprefix("a ").removeprefix("the ")
        if words in row.question.lower():
            dropped.append(schema.DroppedRow(row.id, row.source, "given away", row.question))
        else:
            kept.append(row)
    return filters.FilterResult(kept, dropped)


given_away = schema.Example(**{**vars(rows[0]), "id": "bad", "question": "Where does the Red Cup stand?"})
result = drop_given_away([*rows, given_away])
assert isinstance(result, filters.FilterResult), "Replace the dots: return filters.FilterResult(kept, dropped)."
assert [row.id for row in result.dropped] == ["bad"], f"Dropped: {[d.id for d in result.dropped]}. Only 'bad' must go."
assert result.kept == rows, "The other rows are kept, unchanged and in order."
