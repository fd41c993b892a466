# Written by `make mirror` from 02_sft.ipynb. Edit the notebook, not this file.

# # 02 · Cold start: learning to write evidence by imitation
#
# A base model can answer questions about a video, but it does not write its evidence in the grammar. Supervised
# fine-tuning (SFT) on reasoning chains with evidence teaches the grammar. SFT imitates these chains with all their
# imprecision: boxes that are too large, spans that are too wide (01). In 03, reinforcement learning compares with exact
# truth.
#
# On the profile `full` the base is Qwen2.5-VL-7B. On a laptop it is a tiny model of the same classes that comes with this
# repository (`data/o3v-tiny-base/`). It was pretrained to find objects, to give the times when they are visible, and to
# answer simple questions in plain words; its model card says how well. It has never seen the evidence tags. The notebook
# `appendix_tiny_base` trains it.
#
# - **Needs** 01 with the same `run_dir`. It has no short form, because it trains on all rows of 01. To look without
#   training, open the executed page named below.
# - **Takes** about four minutes on two cores.
# - **You will see** which tokens enter the loss, the learning curve, and the same questions before and after.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/02_sft](exercises/02_sft.ipynb). This page, executed:
# [docs/tour](../docs/tour/02_sft.html).

# **Parameters.** `base` is the base model, a folder or a name on the hub; empty: the profile's. `None` takes the value
# of the profile. `lora_rank` 0 trains all weights; a larger rank trains LoRA
# adapters of this rank on the attention of the language model. `report_to` names an installed tracker (`tensorboard`,
# `trackio`); `log.jsonl` beside the checkpoints is always written. `frame_cache` is a folder for decoded
# frames, for many long videos: each is decoded once instead of at each use, and JPEG changes its pixels a little.
# `num_processes` is the number of processes that train, one for each GPU or CPU core; they share each batch. The
# profile `smoke` only checks that everything runs, and its model learns almost nothing.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"
base = ""
learning_rate: float | None = None
lora_rank: int | None = None
report_to = "none"
frame_cache: str | None = None
num_processes: int | None = None


# **Setup.** Imports, the settings of the profile, and the rows that 01 wrote. A row whose video cannot be read is left
# out, named in `unreadable.jsonl`, and replaced by the next row. If there are more than the profile allows, the notebook
# stops. All computation is in the package `o3v`.

from dataclasses import replace
from pathlib import Path

import pandas as pd
from IPython.display import HTML, display

from o3v import evidence, files, inference, models, runner, schema, training
from o3v.config import find_base, load_profile
from o3v.data.quarantine import Quarantine
from o3v.evaluation.vstar_items import read_items
from o3v.rewards import RewardConfig
from o3v.schema import Task
from o3v.training import launch, sft
from o3v.training.trainer import TrainingRun
from o3v.video import FrameCache
from o3v.viz import charts
from o3v.viz.response_html import response_html, token_strip

settings = load_profile(profile)
stage = runner.open_stage(run_dir, "02_sft")
roots = stage.require_media("01_data_pipeline/data.media.json")
examples = list(schema.read_examples(stage.require("01_data_pipeline/sft.jsonl")))
items = read_items(stage.require("01_data_pipeline/eval.jsonl"))
config = launch.with_processes(settings.sft.with_rank(lora_rank, learning_rate), num_processes)
quarantine = Quarantine(stage.path("unreadable.jsonl"), len(examples) + len(items), settings.data.max_unreadable)


# ## The base model
#
# The cell loads the base model and prints its class, its size, and the unit in which it writes boxes.

base = base or settings.base
base_hash = stage.base_digest(base)  # unfinished work resumes only with the same weights
vlm = models.load(find_base(base), master_weights=not config.lora_rank)
cache = FrameCache(Path(frame_cache)) if frame_cache else None
builder = vlm.prompt_builder(roots["data"], settings.frames, cache)
parameters = sum(p.numel() for p in vlm.model.parameters())
print(f"{base}: {type(vlm.model).__name__} with {parameters / 1e6:.1f} million parameters")
print(f"boxes in {vlm.box_space}")


# ## Before
#
# The base answers held-out questions. The system prompt describes the grammar. The cell prints one question and its
# response, to show what SFT has to change. The answer can be right, and the response can even contain boxes and times in
# plain words. But the tiny base does not know the tags, so a program finds no claims in its response.

questions = inference.vstar_questions(items, replace(builder, root=roots["vstar"]))
what = [q for q in questions if q.key.endswith("/what")]
work = stage.work_folder("before", base_hash, seed, code=[inference])
before = inference.answer(vlm, what, settings.inference, work, "before", quarantine)
print(before[0]["row"]["question"], "\n\n", before[0]["response"])


# ## What it learns from
#
# The figure shows one row as the trainer sees it. The prompt holds the frames; annotated key frames are inserted among
# the uniformly sampled ones. Then comes the response to imitate, with its boxes in pixels of the frame.
#
# The response has four steps, because so small a model needs them in its text. First it lists the objects of each frame
# in plain words, numbers each new object, and marks the object of the question with *here*. Where the order or the
# position of objects matters, it lists that, too. Then it writes its claims, each after the frame number, the name and
# the position of the object. Last, it often repeats the object that answers the question.
#
# Only the **dark** tokens, those of the response, enter the loss. The public code trains on all tokens except padding and
# vision tokens, so it trains on the question, too. One `<|image_pad|>` stands for all tokens of a frame.

facts = (base_hash, config, settings.frames, seed, frame_cache)
work = stage.work_folder("trainer", *facts, code=[sft, launch])
run = TrainingRun(work, seed, report_to, quarantine)
trainer = sft.make_trainer(vlm, examples, builder, config, run)
row_index = next(i for i, e in enumerate(examples) if e.task == "temporal-spatial free-form QA")
tokens, mask = sft.label_mask(trainer, row_index)
display(HTML(token_strip(tokens, mask)))
print(f"{sum(mask)} of {len(mask)} tokens enter the loss")


# The histogram shows the length of prompts and responses in tokens, for up to 64 rows. On `tiny` each frame is nine
# tokens; frames and their times fill most of the prompt. Only the response enters the loss. The cell also computes the
# loss of each task before training, for the table after training.

counts = sft.token_counts(trainer, min(len(examples), 64))
display(charts.histogram(counts, "tokens of a row", bins=25))
losses = {"before": sft.task_losses(trainer, examples, settings.sft.effective_batch_size)}


# ## Training
#
# SFT makes the written response $y$ more likely, given the prompt $x$. Its loss is the mean cross-entropy of a response
# token:
#
# $$L = -\frac{1}{|y|} \sum_{t=1}^{|y|} \log \pi(y_t \mid x, y_{<t})$$
#
# The curves show whether the model learns. `loss` is $L$ over the rows of a step. `mean_token_accuracy` is
# the share of response tokens that the model predicts correctly. `entropy` measures how uncertain its predictions are.
# The faint line is the logged value, the strong line is a moving average. The weights are saved for the next notebooks.
# With several processes each takes a part of every batch, and they add up their gradients; the batch stays the same.

rows_path = stage.require("01_data_pipeline/sft.jsonl")
job = launch.make_job("sft", find_base(base), rows_path, builder, config, run)
with builder.fill_ahead(examples, workers=2):
    metrics = pd.DataFrame(launch.train(trainer, job))
metrics.to_csv(stage.path("metrics.csv"), index=False)
vlm = training.merge_adapters(trainer, vlm)
models.save(vlm, stage.path("checkpoint"))
curves = charts.learning_curves(metrics, "step", ["loss", "mean_token_accuracy", "entropy"])
curves.savefig(stage.path("learning.png"), dpi=110, bbox_inches="tight")
curves


# The table shows the loss of each task, on a few rows, before and after training. Compare the two numbers of one row. Do
# not compare tasks with each other: the loss also depends on how predictable the responses of a task are.

losses["after"] = sft.task_losses(trainer, examples, settings.sft.effective_batch_size)
pd.DataFrame(losses).round(3).rename_axis("loss per token")


# ## All weights, or adapters?
#
# LoRA keeps the weights fixed and learns a low-rank change of the attention weights. For a large model this needs much
# less memory. For a few steps, the cell also trains the choice that the run above did not use. It takes the same rows in
# the same order and the learning-rate schedule of a whole run; each choice has its usual learning rate. The curves
# compare the first steps of both, and the cell prints which has the lower loss at their end. That choice learns faster at
# the start, which says nothing about the end.

other = launch.with_processes(settings.sft.with_rank(0 if config.lora_rank else 8), num_processes)
other_rows = []
if other.compared_steps:
    folder = stage.work_folder("compared", *facts, code=[sft, launch])
    fresh = models.load(find_base(base), master_weights=not other.lora_rank)
    run = TrainingRun(folder, seed, quarantine=quarantine)
    trial = sft.make_trainer(fresh, examples, builder, other, run)
    job = launch.make_job("sft", find_base(base), rows_path, builder, other, run, stop_at=other.compared_steps)
    other_rows = launch.train(trial, job)
both = []
for kind, rows in ((config, metrics.head(len(other_rows)).to_dict("records")), (other, other_rows)):
    name = f"LoRA, rank {kind.lora_rank}" if kind.lora_rank else "all weights"
    both += [{"kind": name, **row} for row in rows]
columns = ["loss", "mean_token_accuracy"]
if both:
    last = min(5, len(other_rows))
    ends = pd.DataFrame(both).groupby("kind")["loss"].apply(lambda losses: losses.dropna().tail(last).mean())
    values = ", ".join(f"{kind} {loss:.3f}" for kind, loss in ends.items())
    print(f"mean loss of the last {last} of {len(other_rows)} steps: {values}; lower: {ends.idxmin()}")
charts.learning_curves(both, "step", columns, by="kind") if both else "not compared on this profile"


# ## After
#
# The trained model answers the same questions. The cell shows the response to the first question before and after
# training. Coloured chips are claims; problems of the format are listed below a response.

work = stage.work_folder("after", facts, code=[inference])
after = inference.answer(vlm, what, settings.inference, work, "after", quarantine)
before, after = inference.align_rows(before, after, key="key")
for name, rows in (("before", before), ("after", after)):
    display(HTML(f"<b>{name}</b>" + response_html(evidence.parse_response(rows[0]["response"]))))


# The **format rate** is the share of responses with the full format score of 1: they have no format problem, and they
# hold the evidence that their task requires (here a claim with a time). The reward term `format` in 03 can also be 0.5,
# for correct sections without correct evidence.

rates = {"base": inference.format_rate(before), "SFT": inference.format_rate(after)}
charts.before_after({name: {"format rate": rate} for name, rate in rates.items()}, ".2f", "share of responses")


# The table shows what is malformed: the share of responses with each kind of problem. One response can have several.
# `evidence.PROBLEM_KINDS` explains the kinds.

answers = {"base": before, "SFT": after}
problems = {name: evidence.problem_shares(row["response"] for row in rows) for name, rows in answers.items()}
pd.DataFrame(problems).fillna(0).round(3)


# ## Imprecise like its rows
#
# The trained model answers spatial and temporal questions of the RL split, which have exact truth. The table shows the
# median *relative size*: the area of the answered box, or the length of the answered span, divided by the true one. An
# exact answer has 1. The rows of SFT have boxes of about 1.8 and spans of about 1.5 on average (01). The last column is
# the mean IoU with the truth.

rl_rows = schema.read_examples(stage.require("01_data_pipeline/rl.jsonl"))
exact = [e for e in rl_rows if e.task in (Task.SPATIAL, Task.TEMPORAL)][: settings.inference.batch_size]
work = stage.work_folder("exact", facts, code=[inference])
scored = inference.score_examples(
    vlm, exact, builder, settings.inference, RewardConfig.paper(), work, "exact", quarantine
)
sizes = pd.DataFrame(scored).assign(iou=lambda rows: rows["ans_viou"].fillna(rows["ans_tiou"]).astype(float))
sizes = sizes.assign(relative_size=sizes["relative_size"].astype(float)).groupby("task")
imprecision = sizes.agg(questions=("id", "count"), size=("relative_size", "median"), iou=("iou", "mean"))
imprecision.round(3).rename(columns={"size": "median relative size", "iou": "mean IoU"})


# A well-formed response can still be wrong. Whether the claimed boxes and times are true is what 03 trains and 05
# measures. The cell saves the responses.

samples = [
    {"key": b["key"], "question": b["row"]["question"], "before": b["response"], "after": a["response"]}
    for b, a in zip(before, after, strict=True)
]
files.write_jsonl(stage.path("samples.jsonl"), samples)


# ## Recorded
#
# The last cell records the format rates and the final loss, and the files that the next notebooks read.

results = {
    "base": base,
    "parameters": parameters,
    "format_rate_base": rates["base"],
    "format_rate_sft": rates["SFT"],
    "relative_size": imprecision["size"].dropna().round(3).to_dict(),
    "final_loss": float(metrics["loss"].dropna().tail(10).mean()),
}
stage.record(results, ["checkpoint", "metrics.csv", "samples.jsonl", "learning.png", "unreadable.jsonl"])
results
