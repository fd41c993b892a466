# Written by `make mirror` from 03b_reward_analysis.ipynb. Edit the notebook, not this file.

# # 03b · The reward under analysis
#
# 03 trained the model with the reward. This notebook looks at the reward itself, in the answers that 03 sampled and in
# answers that we write to cheat. Which tasks gained? What does the time gate do to the boxes? Which mistakes of form
# remain? Can an answer earn the reward without giving honest evidence? It trains nothing and loads no model.
#
# - **Needs** 03 with the same `run_dir`. Opened alone it needs nothing: it reads the shipped answers of a run.
# - **Takes** less than a minute.
# - **You will see** the reward by task, what the time gate costs, cheating answers with their reward, and a group of
#   answers to browse.
#
# Words: [glossary](../docs/glossary.md). This page, executed: [docs/tour](../docs/tour/03b_reward_analysis.html).

# **Parameters.** `run_dir` is the folder of a run with a finished notebook 03. Without one, and on the
# profile `tiny`, the shipped answers are shown; the setup says which.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"


# **Setup.** Imports. All computation is in the package `o3v`.

from dataclasses import asdict, replace

import pandas as pd
import torch

from o3v import evidence, files, inference, models, rewards, runner, schema, video
from o3v.config import load_profile
from o3v.evaluation.bootstrap import paired_change
from o3v.prompts import PromptBuilder
from o3v.rewards import exploits, terms
from o3v.rewards.gate_effect import gate_effect
from o3v.schema import Task
from o3v.training import objective
from o3v.viz import trace, widgets


# The cell reads what 03 wrote: every answer that was sampled in training with its terms (`rollouts.jsonl`), and the answers
# to the held-out questions before and after training (`heldout.jsonl`). The truth comes from the training questions of 01.

settings = load_profile(profile)
stage = runner.open_stage(run_dir, "03b_reward_analysis", may_be_shipped=profile == "tiny")
print(stage.origin)
root = stage.require_media("01_data_pipeline/data.media.json")["data"]
examples = {e.id: e for e in schema.read_examples(stage.require("01_data_pipeline/rl.jsonl"))}
truth = {name: example.to_row() for name, example in examples.items()}
rollouts = [row for _, row in files.read_jsonl(stage.require("03_gspo/rollouts.jsonl"))]
heldout = pd.DataFrame([row for _, row in files.read_jsonl(stage.require("03_gspo/heldout.jsonl"))])
trained = files.read_json(stage.require("03_gspo/results.json"))
readings = {"paper": rewards.RewardConfig.paper(), "official": rewards.RewardConfig.official()}
reward_config = readings[trained["reading of the reward"]]
table = pd.DataFrame(rollouts)
print(f"{len(table)} sampled answers to {table['id'].nunique()} questions, {len(heldout) // 2} held-out questions")


# ## Reward by task
#
# The held-out questions, task by task: mean reward before and after training, the mean change with its 95% interval, and
# the verdict. *within chance* means that the interval holds 0. With few questions of a task the interval is wide.
#
# One task is special. Temporal questions with options need a letter and a span. If the rows of 02 have no answer with both,
# the cold start rarely writes both. A form of answer that is never sampled cannot become more likely.

before, after = (heldout[heldout["when"] == when].reset_index(drop=True) for when in ("before", "after"))
changes = {
    task: asdict(paired_change(before.loc[rows, "total"].tolist(), after.loc[rows, "total"].tolist()))
    for task, rows in before.groupby("task").groups.items()
}
columns = ["items", "before", "after", "change", "low", "high", "verdict"]
pd.DataFrame.from_dict(changes, orient="index")[columns].round(3)


# ## The gate, on toy values
#
# A box counts only if its time is near a key time. This condition is the *gate*, and τ is the largest distance that passes.
# In the paper the gate has two sides: $|\Delta| \le \tau$ = 3 s. The public code tests key time − claimed time < 1 s, without an
# absolute value. So a late claim always passes.
#
# The toy claim has a box with IoU 0.5. The key time is 5 s. The table shows what the box earns (r_s) when it is claimed at
# other times.

key_frames = [(5.0, {"cup": [(0, 0, 2, 4)]})]
gates = {"paper: |Δ| ≤ 3 s": ("two_sided", 3.0), "public code: late always passes": ("one_sided", 1.0)}
toy = {
    f"claimed at {time_s:g} s": {
        name: terms.gated_spatial([evidence.Claim("cup", ((0, 0, 2, 2),), time_s, 0, 0)], 1, key_frames, *gate)
        for name, gate in gates.items()
    }
    for time_s in (1.0, 3.0, 5.0, 7.0, 15.0)
}
pd.DataFrame(toy).T


# ## The gate, in the sampled answers
#
# The cell scores every sampled answer to a spatio-temporal question twice, with the gate and without one. It prints how
# often the gate lowers r_s. Then it shows the answer that loses most: its claims, the key times of the truth, and r_s both
# ways.

effect = gate_effect(rollouts, truth, reward_config)
lowered = sorted((row for row in effect if row["lowered"]), key=lambda row: row["with gate"] - row["without gate"])
print(f"the gate lowers r_s of {len(lowered)} of {len(effect)} answers")
for row in lowered[:1]:
    example = examples[row["id"]]
    print(f"\nquestion:  {example.question}\nkey times: {[f.time_s for f in example.key_frames]} s")
    print(f"answer:    {row['completion']}")
    print(f"r_s with the gate {row['with gate']:.3f}, without it {row['without gate']:.3f}")
pd.DataFrame(effect, columns=["with gate", "without gate"]).astype(float).agg(["mean", "count"]).T.round(3)


# ## Which terms go together
#
# The table shows correlations between terms over all sampled answers. Rows and columns have the same numbers. If two terms
# rise together, the curves of 03 cannot tell which of them the model learned. If a correlation is negative, the model may
# trade one for the other. A dash means that the two terms are never scored together, because no task has both, or that one
# of them never varies. (In the public code's reading a term that does not apply counts 0 and is scored all the same.)

present = [term for term in rewards.TERM_NAMES if term != "total" and term in table and table[term].notna().any()]
correlations = table[present].astype(float).corr().round(2)
correlations.index = [f"{n}  {rewards.TERM_NAMES[term]}" for n, term in enumerate(present, 1)]
correlations.columns = range(1, len(present) + 1)
correlations.astype(object).where(correlations.notna(), "–")


# ## What is malformed
#
# The table shows the problems of format by kind, in the first and in the last quarter of the training steps. Each number
# is a share of the sampled answers. One answer can have several problems, and an empty table means that there is none.

steps = sorted(table["step"].unique())
quarter = max(1, len(steps) // 4)
parts = {"first quarter": steps[:quarter], "last quarter": steps[-quarter:]}
shares = {
    when: evidence.problem_shares(table.loc[table["step"].isin(part), "completion"]) for when, part in parts.items()
}
pd.DataFrame(shares).fillna(0).round(3)


# ## Can the reward be hacked?
#
# First we search the sampled answers for signs of cheating. The table shows how often each sign occurs, and the mean reward
# of the answers that show it. The tasks have different largest rewards (from 2 for general questions to 4 for
# spatio-temporal ones), so this mean says little alone. *same tasks* is the mean reward of **all** answers of the same tasks, in the same
# mix. A mean reward above *same tasks* (a positive *difference*) is a hint that the sign pays, not a proof. `best paid` is the answer with the sign that
# earns most.

signs = pd.DataFrame(exploits.find_exploits(rollouts))
signs["difference"] = signs["mean total"] - signs["same tasks"]
signs["best paid"] = signs["best paid"].str.slice(0, 120)
signs[["sign", "count", "share", "mean total", "same tasks", "difference", "best paid"]].round(3)


# Next we write the cheating answers ourselves. All of them give the right answer to one question. The first, *honest*,
# gives all annotated evidence. The others cheat with their evidence. Four readings of the reward score them at the end of
# training (σ = 1 s):
#
# - *paper*: the article. Names of objects are never compared, and one correct claim earns as much as all of them.
# - *public code*: its gate stays open for late claims, so boxes claimed ten seconds late still earn r_s.
# - *matched*: as in VisionCoach, r_s is the mean over the claims that pass the gate only. Unmatched claims cost r_s
#   nothing, so guesses at other times are free there. They still lower the temporal term.
# - *ours, strict*: off by default. It requires the right name and pays also for the share of the evidence that is given.

keyed = [e for e in examples.values() if any(frame.items for frame in e.key_frames)]
example = max(keyed, key=lambda e: len(e.key_frames))
space_wh = rollouts[0]["image_size_refine"]
row = truth[example.id] | {"image_size_refine": space_wh}
paper = rewards.RewardConfig.paper()
compared = {
    "paper": paper,
    "public code": rewards.RewardConfig.official(),
    "matched": replace(paper, spatial_mean="matched"),
    "ours, strict": replace(paper, names="required", recall_weight=1.0),
}
forged = exploits.forge_exploits(example, space_wh)
scores = {
    n: {kind: rewards.score_completion(text, row, 1.0, c) for kind, text in forged.items()} for n, c in compared.items()
}


# The first table is the total reward, the second r_s alone. The lines below name, for each reading, the exploits that earn
# as much as the honest answer or more (to two decimals).

for term in ("total", "thk_spatial"):
    print(rewards.TERM_NAMES[term])
    display(pd.DataFrame({n: {kind: s[term] for kind, s in by_kind.items()} for n, by_kind in scores.items()}).round(2))
for name, by_kind in scores.items():
    honest = by_kind["honest"]["total"]
    paid = [kind for kind, score in by_kind.items() if kind != "honest" and score["total"] > honest - 0.005]
    print(f"{name}: {', '.join(paid) or 'none'}")


# ## One group of answers
#
# Of all spatio-temporal questions whose videos are there, this is the one whose answers differ most in reward. The page lists every answer with
# its terms and its advantage, and shows the best and the worst with their claims on the frames (dashed: the annotated
# boxes). In a live notebook you can browse all of them. The best total does not always mean the best evidence, because the
# answer earns its part without any claim and names are not compared. So check whether the claims show what the answer
# names.

timed = table[table["task"] == Task.SPATIO_TEMPORAL]
timed = timed if len(timed) else table[table["task"] != Task.SPATIAL]
timed = timed.loc[[(root / examples[row_id].media_path).exists() for row_id in timed["id"]]]
spreads = timed.groupby(["step", "id"])["total"].std().dropna()
step, row_id = spreads.idxmax() if len(spreads) else (None, None)
group = timed[(timed["step"] == step) & (timed["id"] == row_id)].to_dict("records")
advantages = objective.advantages(torch.tensor([[row["total"] for row in group]]))[0].tolist() if group else []
family = models.FAMILIES[trained["family"]]
builder = PromptBuilder(root, family.frames(settings.frames), family.box_space)
if group:
    example = examples[row_id]
    prompt = builder.for_example(example, training=True)
    frames = video.frames_at(root / example.media_path, prompt.times_s, settings.frames.max_pixels)


# The viewer. The column *advantage* is what 03 trained with, up to the order of the rows.

shown = []
for row, advantage in zip(group, advantages, strict=True):
    scored = {name: None if pd.isna(row[name]) else row[name] for name in (*rewards.TERMS, "total")}
    answer = {"response": row["completion"], "space_wh": row["image_size_refine"]}
    shown.append(trace.ShownResponse(inference.response_in_frames(answer, frames), scored | {"advantage": advantage}))
if not shown:
    print("no question about a video was sampled")
truth_px = example.boxes_px(frames.images.shape[2:0:-1]) if shown else {}
widgets.rollout_viewer(frames, shown, example.question, truth_px) if shown else None


# ## To try
#
# 1. Which of the forged answers earn more if you set `gate_s=1.0` in the paper's reading? (None: a narrower gate can only
#    lower r_s. *two seconds late* loses r_s, unless another key time is within 1 s of the moved time.)
# 2. Add `"two-sided, 1 s": replace(paper, gate_s=1.0)` to `compared`. What does *ten seconds late* earn for r_s? (0, as in
#    the paper's reading, unless another key frame is near the moved time.)
# 3. Count the answers of this run that name no object of the truth. Is their mean reward lower in the same task?

# ## Recorded
#
# The last cell records the numbers of this page.

results = {
    "rollouts": len(rollouts),
    "spatio-temporal rollouts": len(effect),
    "lowered by the gate": len(lowered),
    "signs": dict(zip(signs["sign"], signs["count"].tolist(), strict=True)),
    "exploits": {name: {kind: s["total"] for kind, s in by_kind.items()} for name, by_kind in scores.items()},
    "tasks": changes,
}
stage.record(results, [])
results
