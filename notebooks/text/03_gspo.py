# Written by `make mirror` from 03_gspo.ipynb. Edit the notebook, not this file.

# # 03 · GSPO: reinforcement learning improves the evidence
#
# The cold start of 02 **imitates** written answers. The annotators of these answers were imprecise: their boxes are loose
# and their spans are too wide. Imitation copies this, because its loss compares words with the annotation and not places
# with the video.
#
# **Reinforcement learning** needs no written answers. The model samples its own answers to training questions, and a
# reward compares each of them with exact ground truth. Answers that earn more than the other answers to the same question
# become more likely. So reinforcement learning can tighten what imitation cannot.
#
# The model that is trained is called the *policy*, π. The optimiser is **GSPO** (group sequence policy optimisation). The
# notebook goes from rewards to advantages, ratios and the clipped loss, makes one training step in visible cells, then
# trains, and then asks whether the model learned anything. `03b_reward_analysis` looks at the reward itself.
#
# - **Needs** 01 and 02 with the same `run_dir`. It has no short form, because it trains for 120 steps. To look without
#   training, open the executed page named below.
# - **Takes** about nine minutes on two cores.
# - **You will see** each formula on toy values, one step in visible cells, the training curves, and what changed.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/03_gspo](exercises/03_gspo.ipynb). This page, executed:
# [docs/tour](../docs/tour/03_gspo.html).

# **Parameters.** `None` takes the value of the profile. `reward` is `paper` or `official` (the reward as the public code
# computes it). `lora_rank`, `report_to`, `frame_cache` and `num_processes` are as in 02.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"
learning_rate: float | None = None
max_steps: int | None = None
reward = "paper"
lora_rank: int | None = None
report_to = "none"
frame_cache: str | None = None
num_processes: int | None = None


# **Setup.** Imports. All computation is in the package `o3v`.

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import pad

from o3v import evidence, files, inference, models, rewards, runner, schema, training
from o3v.config import load_profile
from o3v.data.quarantine import Quarantine
from o3v.evaluation.bootstrap import paired_change
from o3v.evaluation.vstar_items import read_items
from o3v.geometry import box_iou, span_iou
from o3v.models import prefix_cache
from o3v.rewards.terms import temporal_proximity
from o3v.training import gspo, gspo_trainer, launch, objective, off_policy
from o3v.training.trainer import TrainingRun
from o3v.video import FrameCache
from o3v.viz import charts, curves


# The cell loads the settings, the training questions of 01, the cold start of 02, and one reading of the reward. Some
# questions are *held out*: they are never used for training. Questions whose videos cannot be read are left out and named
# in `unreadable.jsonl`.

settings = load_profile(profile)
stage = runner.open_stage(run_dir, "03_gspo")
roots = stage.require_media("01_data_pipeline/data.media.json")
start = stage.require("02_sft/checkpoint")
config = replace(
    launch.with_processes(settings.gspo.with_rank(lora_rank, learning_rate), num_processes),
    max_steps=settings.gspo.max_steps if max_steps is None else max_steps,
)
rows_path = stage.require("01_data_pipeline/rl.jsonl")
examples = list(schema.read_examples(rows_path))
examples, heldout = gspo.split_heldout(examples, config.num_heldout)
quarantine = Quarantine(stage.path("unreadable.jsonl"), len(examples), settings.data.max_unreadable)
reward_config = {"paper": rewards.RewardConfig.paper, "official": rewards.RewardConfig.official}[reward]()
vlm = models.load(start, master_weights=not config.lora_rank)
cache = FrameCache(Path(frame_cache)) if frame_cache else None
builder = vlm.prompt_builder(roots["data"], settings.frames, cache)


# ## What imitation leaves to gain
#
# First on toy values. The true box is 40 × 40 pixels. In a loose box, every side lies 6 pixels too far out. The true span
# is 4 seconds long. In a wide span, each end lies 0.7 seconds too far out. IoU is the area (or the time) that both share,
# divided by the area (or the time) that they cover together. The cell prints the IoU that a perfect imitation of such an
# annotation would earn.

print(f"loose box: IoU {box_iou((4, 4, 56, 56), (10, 10, 50, 50)):.2f}")
print(f"wide span: IoU {span_iou((1.3, 6.7), (2.0, 6.0)):.2f}")


# Now the cold start of this run. It answers the held-out questions with greedy decoding. The table shows the mean of
# every term of the reward over the questions that have it. The largest possible value of a term is 1, and `reward` is the
# sum of the terms of a question. What a term lacks to 1 is the most that reinforcement learning can gain.

score_heldout = partial(inference.score_examples, vlm, heldout, builder, settings.inference, reward_config)
rows_before = score_heldout(stage.work_folder("before", reward_config, code=[inference]), "before", quarantine)
before = pd.DataFrame(rows_before)
scored = [term for term in rewards.TERM_NAMES if term in before and before[term].notna().any()]
print(f"{len(before)} held-out questions, mean reward {before['total'].mean():.3f}")
pd.DataFrame({"mean": before[scored].astype(float).mean(), "questions": before[scored].count()}).rename(
    index=rewards.TERM_NAMES
).round(3)


# ## One group of answers
#
# For each training question the policy samples a **group** of G answers. The cell samples groups for a few questions, and
# shows the group whose rewards differ most: the terms of each answer, their sum (`reward`), and the **advantage**. The
# advantage says how much better an answer is than the others of its group. Answers with a positive advantage will become
# more likely, those with a negative one less likely.

compared = config.compared_prompts or max(1, config.prompts_per_step // 2)
grounded = [e for e in examples if e.key_frames] or examples
readable = quarantine.first(grounded, compared, builder.describe, partial(builder.for_example, training=True))
grounded, prompts = zip(*readable, strict=True)
rollouts = off_policy.sample_rollouts(vlm, prompts, config, reward_config, seed)
totals = torch.tensor([score["total"] for score in rollouts.scores]).view(-1, config.num_generations)
shown = int(totals.std(1).argmax())
members = slice(shown * config.num_generations, (shown + 1) * config.num_generations)
group = pd.DataFrame(rollouts.scores[members]).dropna(axis=1, how="all").rename(columns=rewards.TERM_NAMES)
group["advantage"] = rollouts.advantage[members].tolist()
group["answer"] = [evidence.parse_response(text).final_answer[:40] for text in rollouts.texts[members]]
print(grounded[shown].question)
print(f"groups with equal rewards: {(totals.amax(1) == totals.amin(1)).sum().item()} of {len(totals)}")
group.sort_values("advantage", ascending=False).round(2)


# ## By hand: the advantage
#
# $$A_i = \frac{r_i - \text{mean}(r)}{\text{std}(r)}$$
#
# with mean and standard deviation of the group. Take the rewards 2.1, 1.4, 1.4 and 0.5.
# Their mean is 1.35 and their standard deviation is 0.66, so the best answer has A = 0.75 / 0.66 = 1.14. The table shows
# two properties:
#
# - Rewards times 2, or plus 10, give the same advantages. Only the order and the relative distances count.
# - If all rewards are equal, every advantage is 0. Such a group teaches nothing, whether all answers are right or wrong.

toy_rewards = torch.tensor([[2.1, 1.4, 1.4, 0.5]])
variants = {
    "rewards": toy_rewards,
    "rewards × 2": toy_rewards * 2,
    "rewards + 10": toy_rewards + 10,
    "equal rewards": torch.full((1, 4), 1.4),
}
pd.DataFrame({name: objective.advantages(r)[0].tolist() for name, r in variants.items()}).T.round(2)


# ## By hand: σ, the moving target
#
# A claimed time with an error of Δ seconds earns $\exp(-\Delta^2 / 2\sigma^2)$. σ is the width of this curve. It falls from 4 s at the
# start to 1 s at three quarters of the training, and then stays. The figure shows the curve for both values, with two
# answers: one with an error of 1 s, the other of 3 s.
#
# Below it are the differences that the advantage is made of. Early (σ = 4 s), answers that are 3 s and 5 s away differ by
# 0.30: there is a signal even far from the target. Late (σ = 1 s), they differ by 0.01, but answers that are 1 s and 3 s
# away differ by 0.60 instead of 0.21: a precise time pays more.

errors_s = [n / 20 for n in range(121)]
by_sigma = {
    f"σ = {sigma_s:.0f} s, {when}": [temporal_proximity(error, [0.0], sigma_s) for error in errors_s]
    for when, sigma_s in (("early", 4.0), ("late", 1.0))
}
pays = {name: {f"{n} s": curve[20 * n] for n in (1, 3, 5)} for name, curve in by_sigma.items()}
differences = {
    name: {"1 s against 3 s": p["1 s"] - p["3 s"], "3 s against 5 s": p["3 s"] - p["5 s"]} for name, p in pays.items()
}
display(curves.functions({"reward": by_sigma}, errors_s, "error Δ of the time, s", {"answer 1": 1.0, "answer 2": 3.0}))
pd.DataFrame(differences).T.round(2)


# One consequence: the same error, unless it is 0, earns **less** as training goes on. If the temporal term falls in the curves below, the
# model did not necessarily get worse.
#
# ## By hand: log-probabilities and ratios
#
# The policy gives each token yₜ of an answer a probability. It is stored as a **log-probability**, because those of many
# tokens can be added. The policy that sampled the answers is called the *old* policy, π_old. After an update, the policy π
# gives the same tokens other probabilities. The **token ratio** $\pi(y_t) / \pi_\text{old}(y_t)$ says how much more likely
# a token became. GRPO uses one ratio for each token. GSPO uses one for the whole answer, the **sequence ratio**. It is the
# geometric mean of the token ratios:
#
# $$s = \exp\left( \frac{1}{|y|} \sum_{t=1}^{|y|} \log \frac{\pi(y_t)}{\pi_\text{old}(y_t)} \right)$$
#
# where $|y|$ is the number of tokens.
#
# The toy answer has four tokens, and its log-probabilities change by 0, 0.1, 1.0 and −0.2. The third token became
# e¹ = 2.72 times as likely. The mean change is 0.9 / 4 = 0.225, so s = e^0.225 = 1.252. In an answer with three times as
# many tokens, whose other tokens do not change, the mean change is 0.9 / 12 = 0.075, and s = 1.078: the longer the answer,
# the less one token counts.

old = torch.log(torch.tensor([[0.30, 0.60, 0.20, 0.50]]))
new = old + torch.tensor([[0.0, 0.1, 1.0, -0.2]])
mask = torch.ones(1, 4)  # 1 for the tokens of the answer, 0 for padding
print("log-probabilities, old", old[0].numpy().round(2))
print("log-probabilities, new", new[0].numpy().round(2))
print("token ratios          ", objective.token_ratios(new, old)[0].numpy().round(2))
print("sequence ratio        ", objective.sequence_ratio(new, old, mask)[0].numpy().round(3))
print(
    "the same with 12 tokens",
    objective.sequence_ratio(pad(new, (0, 8)), pad(old, (0, 8)), torch.ones(1, 12))[0].numpy().round(3),
)


# ## By hand: the clipped loss
#
# The objective of one answer is
#
# $$J = \min\big( s A,\ \text{clip}(s, 1 - \varepsilon, 1 + \varepsilon) A \big)$$
#
# The loss is its negative mean. ε limits how far an
# update may move the ratio before the answer stops pushing. In this lesson ε = 0.2, the value of the public code of
# Open-o3 Video.
#
# The left panel shows the objective, the right panel its slope. **Where the curve is flat, the slope is 0 and there is no
# gradient.** For a good answer (A = +1) this is the part above 1 + ε: it is likely enough. For a bad answer (A = −1) it is
# the part below 1 − ε: it is unlikely enough.
#
# The toy answer has s = 1.252. With A = +1 it is clipped, and its loss is −1.2. With A = −1 the curve is **not** flat
# there: a bad answer that became more likely must still be pushed down. Its loss is +1.252.

epsilon = 0.2
ratio = torch.linspace(0.6, 1.5, 181, requires_grad=True)
gains, slopes = {}, {}
for advantage in (1.0, -1.0):
    gain = objective.clipped_gain(ratio, advantage, epsilon)
    (slope,) = torch.autograd.grad(gain.sum(), ratio)
    gains[f"A = {advantage:+.0f}"], slopes[f"A = {advantage:+.0f}"] = gain.tolist(), slope.tolist()
    loss = objective.gspo_loss(new, old, mask, torch.tensor([advantage]), epsilon)
    print(f"A = {advantage:+.0f}: loss of the toy answer {loss:+.3f}")
panels = {"objective": gains, "slope of the objective": slopes}
curves.functions(panels, ratio.tolist(), "ratio s", {"1 − ε": 1 - epsilon, "1 + ε": 1 + epsilon})


# ## On-policy: every ratio is 1
#
# If each group of answers is used for one update only, training is **on-policy**: at this update π is still π_old. Every
# ratio is 1 and nothing is clipped. The advantages of a group add up to 0, so the loss is 0 too. But the gradient is not
# 0, because a loss can be 0 and still have a slope:
#
# $$\nabla s = s \cdot \frac{1}{|y|} \sum_{t=1}^{|y|} \nabla \log \pi(y_t)$$
#
# At s = 1 this is also the gradient of GRPO, when GRPO takes the mean over the tokens of each answer. **On-policy, GSPO and
# GRPO are the same method.** The cell has two answers, with two and four tokens and A = +1 and −1. It prints loss and
# gradient for each token. A negative gradient makes the token more likely. Zeros are padding.

logp = torch.log(torch.tensor([[0.3, 0.6, 1.0, 1.0], [0.2, 0.5, 0.4, 0.7]])).requires_grad_()
mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
for name, loss_function in off_policy.LOSSES.items():
    loss = loss_function(logp, logp.detach(), mask, torch.tensor([1.0, -1.0]), epsilon)
    (gradient,) = torch.autograd.grad(loss, logp)
    print(f"{name}: loss {abs(loss.item()):.3f}, gradient {gradient.round(decimals=3).tolist()}")


# One more part of the loss is optional. A **KL penalty**, weighted by β, holds the policy near the cold start: it grows
# with the distance between their probabilities. The paper of Open-o3 Video uses β = 0.04; the table shows the β of this
# run, where 0 means that there is no penalty.
#
# The table shows the settings of the training below, beside those of the public code and of the paper of GSPO.
# `steps_per_generation` and `num_iterations` say how long a group is used. If their product is 1, training is on-policy.

names = (
    "num_generations steps_per_generation num_iterations epsilon epsilon_high beta importance_sampling learning_rate"
)
columns = {"this run": config, "public code": config.official(), "GSPO paper": config.gspo_paper()}
print("this run is", "on-policy" if config.cycle == 1 else f"off-policy, {config.cycle} updates for each sampling")
table = pd.DataFrame({label: {name: getattr(c, name) for name in names.split()} for label, c in columns.items()})
table.astype(object).where(table.notna(), "as epsilon")


# ## One training step in visible cells
#
# This is the whole step, on the groups sampled above and on a copy of the model. (A model that is too large for
# gradients of all its weights gets adapters here.) First the log-probabilities: each
# distinct prompt runs through the model once (*prefill*), and all answers of its group continue from there. The cell prints
# the number of answers and the length of the longest one, in tokens.

rate = config.with_rank(config.compared_rank).learning_rate
model = off_policy.trial_model(vlm.model, config.compared_rank)
optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
prefix = prefix_cache.prefill(model, rollouts.inputs)
logp, _ = prefix_cache.log_probs(model, prefix, rollouts.ids, rollouts.mask, temperature=1.0)
logp_old = logp.detach()  # the policy that sampled is the policy now
print(f"log-probabilities of {logp.shape[0]} answers with up to {logp.shape[1]} tokens")


# Then loss, gradient and update. The norm is the length of the gradient over all weights; a longer one than
# `max_grad_norm` is shortened. The update is on-policy, so the loss should be 0 up to rounding. The norm is 0 only if all
# rewards were equal within every group.

loss = objective.gspo_loss(logp, logp_old, rollouts.mask, rollouts.advantage, epsilon)
loss.backward()
norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
optimizer.step()
print(f"loss {abs(loss.item()):.6f}, norm of the gradient {norm:.4f}")


# ## Several updates on the same answers: GSPO and GRPO differ
#
# Now the same step is repeated on the same answers, once with each loss, from the same start. After the first update π
# differs from π_old: the ratios leave 1, and training is **off-policy**. The loop stores the ratios before each update,
# tokens for GRPO and answers for GSPO, and the share of them that is clipped.

updates, last = [], {}
for name, loss_function in off_policy.LOSSES.items():
    model = off_policy.trial_model(vlm.model, config.compared_rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for number in range(1, config.compared_updates + 1):
        optimizer.zero_grad()
        prefix = prefix_cache.prefill(model, rollouts.inputs)
        logp, _ = prefix_cache.log_probs(model, prefix, rollouts.ids, rollouts.mask, temperature=1.0)
        loss = loss_function(logp, logp_old, rollouts.mask, rollouts.advantage, epsilon)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        ratios, weights = last[name] = off_policy.clipped_ratios(name, logp.detach(), logp_old, rollouts)
        row = {
            "loss": name,
            "update": number,
            "value": round(loss.item(), 4) + 0.0,
            "norm of the gradient": norm.item(),
        }
        spread = {"lowest ratio": ratios.min().item(), "highest ratio": ratios.max().item()}
        updates.append(row | spread | {"clipped": objective.clipped_share(ratios, weights, epsilon)})


# The first gradients of both losses should be equal up to rounding. The cell computes both on the model that sampled, and
# prints the norms of each and of their difference. The table shows how the ratios spread with each update.

model = off_policy.trial_model(vlm.model, config.compared_rank)
for name, norm in off_policy.first_gradient_norms(model, rollouts, epsilon).items():
    print(f"norm of the first gradient, {name}: {norm:.1e}")
pd.DataFrame(updates).round(4)


# The histogram shows the ratios before the last update, with the lines of ε. Both axes are logarithmic, so that single
# extreme ratios can be seen. The sequence ratio is a mean over an answer, so it always lies between the lowest and the
# highest of its token ratios.
#
# The table shows the share of ratios that are clipped with ε = 0.2, and that would be clipped with the values of the GSPO
# paper (3e-4 below 1, 4e-4 above). Token ratios and sequence ratios have different sizes, so the paper of GSPO gives each
# method an ε of its own. It clips answers with far smaller values than GRPO clips tokens.

figure = charts.histogram(
    {"GRPO, tokens": last["GRPO"][0].tolist(), "GSPO, answers": last["GSPO"][0].tolist()},
    "ratio of new to old probability",
    bins=40,
    log=True,
    verticals={"1 − ε": 1 - epsilon, "1 + ε": 1 + epsilon},
)
figure.savefig(stage.path("ratios.png"), dpi=110, bbox_inches="tight")
display(figure)
limits = {"ε = 0.2": (0.2,), "ε = 3e-4 and 4e-4": (3e-4, 4e-4)}
pd.DataFrame({n: {e: objective.clipped_share(*last[n], *ends) for e, ends in limits.items()} for n in last}).T.round(3)


# ## Before training: can it learn at all?
#
# GSPO fails silently in two ways. If all rewards of a group are equal, every advantage is 0. If the answers do not have
# the format, almost no term can be above 0. So the cell samples and scores answers for a few questions first. If no group
# can teach anything, or almost no answer has any format, the notebook stops here and says what to do. The table shows the
# mean reward of each question, its spread (standard deviation), and the share of answers with a format term above 0. The
# profile `smoke` skips this check.

pd.DataFrame(gspo.preflight(vlm, examples, builder, config, reward_config, seed, quarantine=quarantine)).round(2)


# ## Training
#
# The trainer makes the same step with the same gradient (tests compare them), and adds checkpoints, exact resuming and
# measurements. At every checkpoint the model answers every second held-out question, for the curve below. These answers
# choose nothing: the last checkpoint is kept. A profile can also set videos apart (`DataConfig.dev_items`). Then the
# checkpoint with the best mAM on them is kept (05 explains mAM and measures other videos). The cold start is not a
# candidate. The trained model is saved at once, for 04 and 05. With several processes, each samples the answers to a part
# of the questions of a step, and they add up their gradients.

dev_path = stage.require("01_data_pipeline/dev.jsonl") if settings.data.dev_items else None
dev = read_items(dev_path) if dev_path else []
dev_builder = replace(builder, root=roots["vstar"])
heldout_mam = partial(inference.heldout_mam, vlm, dev, dev_builder, settings.inference, quarantine) if dev else None
checked = heldout[:: gspo.HELDOUT_EVERY]
scored_rows = partial(inference.heldout_rewards, vlm, checked, builder, settings.inference, reward_config)
work = stage.work_folder("trainer", config, settings.frames, reward, seed, frame_cache, code=[gspo, launch, inference])
run = TrainingRun(work, seed, report_to, quarantine)
heldout_rows = partial(scored_rows, quarantine)
trainer = gspo.make_trainer(vlm, examples, builder, config, run, reward_config, heldout_mam, heldout_rows)
scoring = {"reward": reward_config, "inference": settings.inference}
scoring |= {"dev_items": dev_path, "vstar_root": roots["vstar"]}
job = launch.make_job("gspo", start, rows_path, builder, config, run, **scoring)
with builder.fill_ahead(examples, workers=2):
    metrics = pd.DataFrame(launch.train(trainer, job))
mam = training.load_best(trainer)
models.save(training.merge_adapters(trainer, vlm), stage.path("checkpoint"))
print(f"{len(metrics)} steps of {config.prompts_per_step} questions with {config.num_generations} answers each")
if dev:
    print(f"mAM on {len(dev)} videos after step:", {step: round(value, 3) for step, value in mam.items()})


# **Where the time goes.** The bars show the mean seconds of each part of a step. *generation* samples the answers, *reward*
# scores them, *forward* computes their log-probabilities and the loss, and *backward* is the rest of the step.

parts = gspo_trainer.seconds_by_part(trainer)
step_time = charts.before_after({"one step": parts}, ".2f", "seconds")
step_time.savefig(stage.path("step_time.png"), dpi=110, bbox_inches="tight")
step_time


# ## Did it learn?
#
# The same held-out questions were answered by the cold start (step 0) and at every checkpoint. The figure shows their mean
# reward. The bar at a point is the 95% interval of the mean **change** since step 0, question by question. If the bar does
# not touch the dashed line of step 0, the change is more than chance. The table says the same in numbers: the package
# resamples the questions 2,000 times (bootstrap). *within chance* means that the interval of the change holds 0.

asked = {e.id for e in checked}
answers = {0: [row for row in rows_before if row["id"] in asked], **training.read_heldout(work)}
answers = dict(zip(answers, inference.align_rows(*answers.values()), strict=True))
rewards_at = {step: [row["total"] for row in rows] for step, rows in answers.items()}
points = {step: paired_change(rewards_at[0], now) for step, now in rewards_at.items()}
curve = {step: [p.after, p.before + p.low, p.before + p.high] for step, p in points.items()}
learned = curves.interval_curve(curve, "training step", "mean reward of held-out questions")
learned.savefig(stage.path("heldout.png"), dpi=110, bbox_inches="tight")
display(learned)
by_step = pd.DataFrame.from_dict({step: asdict(p) for step, p in points.items()}, orient="index")
by_step.rename_axis("step").drop(columns=["rose", "fell"]).round(3)


# **What the training batches show.** Each step has other questions, so single steps vary much. The faint line is the
# step, the strong line the mean over nine steps. σ falls during training, so the reward is scored again with the σ of the
# first step; only then can steps be compared.
#
# - *groups with equal rewards* teach nothing.
# - *cut at the length limit*: share of answers that reached the limit and were cut. This has nothing to do with clipping
#   by ε.

sampled_at = (metrics["step"] - 1) // config.cycle * config.cycle  # the step that sampled the answers
metrics["sigma_s"] = [rewards.sigma_at(step / len(metrics), reward_config) for step in sampled_at]
wasted = {"frac_reward_zero_std": "groups with equal rewards", "completions/clipped_ratio": "cut at the length limit"}
panels = [
    curves.CurvePanel("sampled reward", "reward at the first σ", {"terms/total_at_start": "reward"}),
    curves.CurvePanel("answers that teach little", "share", wasted),
    curves.CurvePanel("length of an answer", "tokens", {"completions/mean_length": "length"}),
    curves.CurvePanel("σ of the temporal reward", "seconds", {"sigma_s": "σ"}),
]
batches = curves.named_curves(metrics, "step", panels)
batches.savefig(stage.path("reward.png"), dpi=110, bbox_inches="tight")
batches


# **What the updates did.** On-policy, every sequence ratio is 1 and no answer is clipped. Without a KL penalty the loss is
# 0, up to rounding. The norm of the gradient shows that the model is trained all the same. Off-policy, the ratios spread, and ε can
# clip some of them. The upper and lower line of the ratios are those that 5% of the answers exceed or stay below.

quantiles = {"ratio/q95": "95% of answers below", "ratio/q50": "median", "ratio/q05": "5% of answers below"}
clipped = {"clip_ratio/low_mean": "clipped below 1 − ε", "clip_ratio/high_mean": "clipped above 1 + ε"}
panels = [
    curves.CurvePanel("sequence ratio", "ratio", quantiles),
    curves.CurvePanel("clipped by ε", "share", clipped),
    curves.CurvePanel("loss", "loss", {"loss": "loss"}),
    curves.CurvePanel("gradient", "norm", {"grad_norm": "norm"}),
]
moved = curves.named_curves(metrics, "step", panels)
moved.savefig(stage.path("updates.png"), dpi=110, bbox_inches="tight")
moved


# **The terms of the reward** in the training batches. Each value is the mean over the answers to which the term applies.
# Terms with claimed times also depend on σ.

labels = {f"terms/{term}": name for term, name in rewards.TERM_NAMES.items()}
kinds = {"answers": "terms/ans", "claims in the thinking": "terms/thk", "format": "terms/format"}
panels = [
    curves.CurvePanel(kind, "mean of the term", {c: n for c, n in labels.items() if c.startswith(beginning)})
    for kind, beginning in kinds.items()
]
terms = curves.named_curves(metrics, "step", panels)
terms.savefig(stage.path("terms.png"), dpi=110, bbox_inches="tight")
terms


# ## Before and after
#
# All held-out questions, answered by the cold start and by the kept checkpoint, and scored with σ = 1 s. For every term the
# table shows both means, the mean change with its 95% interval, on how many questions the term rose and fell, and the
# verdict.

rows_after = score_heldout(stage.work_folder("after", work.name, code=[inference]), "after", quarantine)
rows_before, rows_after = inference.align_rows(rows_before, rows_after)
before, after = pd.DataFrame(rows_before), pd.DataFrame(rows_after)
changes = {term: paired_change(before[term].tolist(), after[term].tolist()) for term in scored}
total = changes["total"]
interval = f"{total.change:+.3f} ({total.low:+.3f} to {total.high:+.3f})"
print(f"reward {total.before:.3f} → {total.after:.3f}, change {interval}: {total.verdict}")
for verdict in ("rose", "fell", "within chance"):
    names = [rewards.TERM_NAMES[term] for term in scored if changes[term].verdict == verdict]
    print(f"{verdict}: {', '.join(names) or 'none'}")
rows = {rewards.TERM_NAMES[term]: asdict(change) for term, change in changes.items()}
pd.DataFrame.from_dict(rows, orient="index").round(3)


# Did the answers become tighter? 02 measured the *relative size* of the cold start's answers: the area of the answered box,
# or the length of the answered span, divided by the true one. An exact answer has 1. The table shows the medians over the
# held-out questions with a readable box or span in both answers. The cell prints in which tasks the median came closer
# to 1.

sizes = pd.DataFrame({"task": before["task"], "before": before["relative_size"], "after": after["relative_size"]})
sizes = sizes.dropna().astype({"before": float, "after": float}).groupby("task")
medians = sizes.agg(questions=("before", "count"), before=("before", "median"), after=("after", "median"))
closer = medians[(medians["after"] - 1).abs() < (medians["before"] - 1).abs()]
print("closer to 1 after training:", ", ".join(closer.index) or "none")
medians.round(3)


# One run is one sample: another seed trains another model. The README gives the results over several seeds.
#
# ## To try
#
# 1. *Advantage.* Change one of the toy rewards 1.4 to 2.1. Which advantages change? (All: the mean and the standard
#    deviation of the group change.)
# 2. *Clipping.* Set `epsilon = 0.3` in the cell of the clipped loss. Is the toy answer still clipped? (No: 1.252 is below
#    1.3, and the loss for A = +1 becomes −1.252.)
# 3. *Length.* Append 96 unchanged tokens to the toy answer instead of 8. (The mean change is 0.009, so s = 1.009.)
# 4. *Settings.* Run the notebook with `lora_rank=0` and a higher `learning_rate`, and compare the verdicts.

# ## Recorded
#
# The last cell saves what 03b reads: all sampled answers, and the held-out answers before and after training.

metrics.to_csv(stage.path("metrics.csv"), index=False)
sampled = [row for part in sorted((work / "rollouts").glob("step_*.jsonl")) for _, row in files.read_jsonl(part)]
files.write_jsonl(stage.path("rollouts.jsonl"), sampled)
answered = {"before": rows_before, "after": rows_after}
files.write_jsonl(
    stage.path("heldout.jsonl"), [{"when": when, **row} for when, rows in answered.items() for row in rows]
)
files.write_json(stage.path("heldout_curve.json"), {step: asdict(p) for step, p in points.items()})
results = {
    "steps": len(metrics),
    "best step": max(mam, key=mam.get) if mam else len(metrics),
    "questions": len(heldout),
    "reading of the reward": reward,
    "family": vlm.family.model_type,
    "verdict": total.verdict,
    **{f"{name}, {when}": getattr(changes[name], when) for name in scored for when in ("before", "after")},
}
names = ("ratios", "step_time", "heldout", "reward", "updates", "terms")
written = ["metrics.csv", "rollouts.jsonl", "heldout.jsonl", "heldout_curve.json", "unreadable.jsonl"]
stage.record(results, ["checkpoint", *written, *(f"{name}.png" for name in names)])
results
