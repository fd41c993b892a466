# Written by `make mirror` from 04_inference.ipynb. Edit the notebook, not this file.

# # 04 · Answers to look at
#
# The trained model answers questions about held-out videos, and we look at its evidence: every claim leads to its frame
# and its box. Then the model gives several answers instead of one, and a vote chooses. Last, we test whether the answer
# depends on the evidence at all.
#
# - **Needs** 03 with the same `run_dir`. Opened alone it needs nothing: it loads the shipped model and ten held-out videos.
# - **Takes** one to two minutes, alone and after 03. The slider comes first.
# - **You will see** answers whose claims lead to frames and boxes, a vote of 16 answers, and what happens to an answer
#   when its evidence is removed.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/04_inference](exercises/04_inference.ipynb). This page, executed:
# [docs/tour](../docs/tour/04_inference.html).

# **Parameters.** If `video_path` is empty, the questions are held-out ones. To use your own video, set `video_path` and
# `question`. A model trained on the synthetic world knows only this world, so its answers about real videos are
# meaningless. `response_text` shows your own text in place of the first response; write its boxes in pixels of the
# frames. `shipped_items` is the number of held-out videos when the shipped model is shown, because `run_dir` has no
# finished notebook 03 (at most 10; fewer are faster).

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"
video_path = ""
question = "What happens in the video?"
response_text = ""
shipped_items = 10


# **Setup.** Imports, the model that 03 saved, and the held-out questions; the first line says whether they are those of
# your run or the shipped ones. Those whose videos cannot be read are left out.

import json
import time
from dataclasses import asdict

import pandas as pd
from IPython.display import HTML, display

from o3v import evidence, files, inference, models, runner
from o3v.config import load_profile
from o3v.data.quarantine import Quarantine
from o3v.evaluation.vstar_items import read_items
from o3v.viz import charts, plots, trace, widgets
from o3v.viz.response_html import escape, response_html

settings = load_profile(profile)
stage = runner.open_stage(run_dir, "04_inference", may_be_shipped=profile == "tiny")
print(stage.origin)
root = stage.require_media("01_data_pipeline/data.media.json")["vstar"]
items = read_items(stage.require("01_data_pipeline/eval.jsonl"))[: shipped_items if stage.shipped else None]
trained = stage.require("03_gspo/checkpoint")
vlm = models.load(trained)
builder = vlm.prompt_builder(root, settings.frames)
quarantine = Quarantine(stage.path("unreadable.jsonl"), len(items), settings.data.max_unreadable)


# ## Asking
#
# Frames are sampled uniformly. In training, annotated key frames are inserted; here they are not, so the model has to
# find its evidence. The cell prints each question with its answer.

heldout = [q for q in inference.vstar_questions(items, builder) if q.key.endswith(("/what", "/where"))]
own = inference.file_questions(video_path, question, builder)
questions = own or [q for q, _ in inference.readable(heldout, settings.inference.num_shown, quarantine)]
work = stage.work_folder("answers", video_path, question, settings.frames, settings.inference, code=[inference])
answers = inference.answer(vlm, questions, settings.inference, work)
for row in answers:
    print(row["key"], "·", row["row"]["question"], "→", evidence.parse_response(row["response"]).answer)


# ## The first answer, claim by claim
#
# The figure shows the claimed boxes on the frames nearest to the claimed times, above a timeline. For held-out questions
# the true boxes are dashed. Each is drawn on the frame of its own second (*key*, with a thick border). These frames are
# added to the sampled ones here; the model did not see them.

first = answers[0]
key_times_s = inference.item_times_s(first["key"], items)
frames = builder.read_frames(questions[0].path, key_times_s)
response = inference.response_in_frames({**first, "response": response_text or first["response"]}, frames)
truth = inference.item_boxes_px(first["key"], items, frames)
claims = plots.trace_figure(frames, response, truth)
claims.savefig(stage.path("trace.png"), dpi=110, bbox_inches="tight")
claims


# A click on a claim shows its frame and highlights its box. The line under the frame gives the distance to the truth in
# time and the IoU. This works in a live notebook, and in the exported page without kernel and network. The command
# `o3v ask VIDEO QUESTION` writes such a page, too.

widgets.trace_viewer(frames, trace.ShownResponse(response), first["row"]["question"], truth)


# ## Through the video
#
# All frames that the model saw, and those of the true boxes. In a live notebook they have a slider; you can hide the claimed or the true boxes and
# zoom in on one box. The exported page shows all frames as one image.

widgets.frame_viewer(frames, *trace.evidence(frames, response, truth))


# ## More answers
#
# The other questions in the same form: the response with its claims, and its boxes on the frames. Compare each answer
# with its claims. An answer can be right while its claims are wrong or show another object.

for q, row in zip(questions[1:], answers[1:], strict=True):
    its_frames = builder.read_frames(q.path, inference.item_times_s(row["key"], items))
    parsed = inference.response_in_frames(row, its_frames)
    display(HTML(f"<b>{escape(row['row']['question'])}</b>" + response_html(parsed)))
    display(plots.trace_figure(its_frames, parsed, inference.item_boxes_px(row["key"], items, its_frames)))


# ## Several answers instead of one
#
# This is the test-time scaling of the paper. The model samples N responses from one prompt. Each claimed box is cropped
# from its frame, and the same model rates how relevant the crop is to the question: 0, 1 or 2, with the values 0.2, 0.6
# and 1. The mean over the crops is the **confidence** of the response. Then each response votes for its answer, and its
# vote counts as much as its confidence.
#
# By hand: two of three responses agree, but their confidence is low (one has no claim at all). Voting by count and voting
# by confidence choose different answers.

from o3v.geometry import fit_size
from o3v.inference import voting
from o3v.models import crop_judge

toy = [
    voting.Candidate("", "The cup", ("0",), 0.2),
    voting.Candidate("", "The cup", (), 0.2),
    voting.Candidate("", "A ball", ("2", "1"), 0.8),
]
print("by count:", voting.vote(toy, weighted=False), "· by confidence:", voting.vote(toy))


# Now the same with the model, on held-out questions. The table shows the accuracy for each N. *single* is the mean
# accuracy of the first N responses, that is, of one sampled response without a vote. *majority* votes by count,
# *confidence* votes by confidence. The answers above were decoded greedily, so their accuracy can differ from *single*.
# Each question's responses are stored on disk as soon as they are complete.

votes = settings.inference.vote_sizes
what = [q for q in inference.vstar_questions(items, builder) if q.key.endswith("/what")]
what = [q for q, _ in inference.readable(what, settings.inference.num_voted, quarantine)]
crop_wh = fit_size((items[0]["width"], items[0]["height"]), settings.frames.max_pixels)
judge = crop_judge.CropJudge(vlm, crop_wh if settings.pretrain else None)
pools_at = stage.work_folder("pools", trained.name, settings.frames, settings.inference, seed, code=[voting])
pools = voting.sample_pools(vlm, what, settings.inference, judge.ask, pools_at, seed)
truths = [items[int(q.key.split("/")[0])]["answer"] for q in what]
scaled = pd.DataFrame(voting.accuracy(pools, truths, votes)).set_index("N")
scaled.round(3)


# The responses to the first of these questions. The table lists up to twelve, each with its confidence. The column
# `total` repeats the confidence, because the viewer marks the best and the worst by `total`. These two are shown in full.
# In a live notebook you can open every response. If the answer of a response shown in full won the vote, *chosen* stands
# beside it.

chosen = voting.vote(pools[0])
voted_frames = builder.read_frames(what[0].path, inference.item_times_s(what[0].key, items))
voted_prompt = what[0].make()
rollouts = [
    trace.ShownResponse(
        inference.response_in_frames({"response": c.text, "space_wh": voted_prompt.space_wh}, voted_frames),
        {"confidence": c.confidence, "total": c.confidence},
        "chosen" if c.answer == chosen else "",
    )
    for c in pools[0]
]
truth = inference.item_boxes_px(what[0].key, items, voted_frames)
widgets.rollout_viewer(voted_frames, rollouts, voted_prompt.row["question"], truth)


# What this costs: the time for one question at each N, with the scoring of the crops. The prompt is prefilled once for
# all N responses.

cost = []
for n in votes:
    start_s = time.perf_counter()
    texts = models.generate(vlm, [voted_prompt], settings.inference.max_new_tokens, 1.0, seed, n)
    voting.score_candidates(texts, voted_prompt, voted_prompt.row["question"], judge.ask)
    tokens = sum(len(ids) for ids in vlm.processor.tokenizer(texts)["input_ids"])
    cost.append({"N": n, "seconds": time.perf_counter() - start_s, "tokens written": tokens})
pd.DataFrame(cost).set_index("N").round(2)


# Does the confidence tell right answers from wrong ones? The table groups the responses by confidence and shows how often
# each group is right. If the confidence is useful, the last column rises from row to row; the cell prints whether it does.
# If not, weighted voting has no reason to be better than the majority.

confidences = [c.confidence for pool in pools for c in pool]
hits = [voting.is_right(c.answer, truth) for pool, truth in zip(pools, truths, strict=True) for c in pool]
calibrated = pd.DataFrame(voting.calibration(confidences, hits))
print(
    "the share of right answers", "rises" if calibrated["right"].is_monotonic_increasing else "does not rise", "by row"
)
calibrated.round(3)


# ## Does the answer rest on the evidence?
#
# A claim can be true and still have no effect on the answer. So the model answers each question again after its evidence
# was removed or changed. The table has six rows:
#
# - Rows 1 and 2: the frames nearest to the claimed times are removed, or as many random frames (the paper's table 6).
# - Rows 3 and 4: the claimed boxes are blurred, or everything around them.
# - Rows 5 and 6: the model continues from its own reasoning, with all times shifted by half the video, or with the boxes
#   exchanged.
#
# *n* is the number of questions, and *changed* is the share of answers that became another answer. *right before* and
# *right after* are the accuracies without and with the change. If the answer depends on the evidence, row 1 should change
# more answers than row 2, and row 3 more than row 4. Small differences between rows can be chance, so the second table compares
# these rows question by question: the difference of the shares, its 95% interval, and a verdict. Only *rose* says that the
# own evidence matters more than something else.

from o3v.inference import faithfulness

prompts = [q.make() for q in what]
trials = faithfulness.run_trials(vlm, prompts, truths, settings.inference, seed)
changes = pd.DataFrame(faithfulness.trial_table(trials)).set_index("change")
display(changes.round(2))
effects = {name: asdict(effect) for name, effect in faithfulness.paired_effects(trials).items()}
pd.DataFrame.from_dict(effects, orient="index")[["items", "change", "low", "high", "verdict"]].round(3)


# The figure shows the share of changed answers with its 95% interval. Read the intervals with care. Rows 1 and 2 use the
# same questions, and so do rows 3 and 4; whether they differ is in the second table above, not in overlapping intervals.
# And if no answer changed, the interval is 0.00–0.00, which is too narrow: with 0 of n answers the true share
# can be up to about 3/n.

spans = {
    name: (row["changed"], *map(float, row["changed, 95%"].split("–"))) for name, row in changes.iterrows() if row["n"]
}
figure = charts.intervals(spans, "share of answers that changed, with 95% intervals") if spans else None
files.write_text(stage.path("faithful.json"), json.dumps(spans))
figure


# ## The answer as an animation
#
# The first answer as an animation: first all frames, then each claim with its box, then the answer. The file `trace.gif`
# can be shown anywhere.

gif_path = plots.write_gif(stage.path("trace.gif"), frames, response, first["row"]["question"])
gif = trace.image_html(gif_path.read_bytes(), "the first answer as an animation", "gif")
HTML(f'<div style="max-width:{plots.GIF_WIDTH_PX}px">{gif}</div>')


# ## Recorded
#
# The last cell records the accuracies and the shares of changed answers, and the files that it wrote.

files.write_jsonl(stage.path("responses.jsonl"), answers)
results = {"answers": len(answers), "format_rate": inference.format_rate(answers)}
results |= {f"{name}, N = {max(votes)}": float(scaled[name].iloc[-1]) for name in scaled}
results |= {f"changed, {name}": float(value) for name, value in changes["changed"].dropna().items()}
stage.record(results, ["responses.jsonl", "trace.png", "trace.gif", "faithful.json", "unreadable.jsonl"])
results
