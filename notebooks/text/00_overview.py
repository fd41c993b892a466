# Written by `make mirror` from 00_overview.ipynb. Edit the notebook, not this file.

# # 00 · One answer, taken apart
#
# A user gives a video-language model the question *"When does the red car leave?"* It answers *"after about eight
# seconds"*. From this answer alone we cannot know whether the model used the video or guessed. **Open-o3 Video**
# (arXiv:2510.20579) trains the model to write its evidence while it reasons: **what** it sees, **where**, and **when**.
# The evidence has a small grammar, so a program can check it:
#
# `<obj>red car</obj><box>[x0,y0,x1,y1]</box>at<t>12.5</t>s`
#
# One object with its box and its time is a **claim**. The whole method:
#
# ![The method: data, then SFT, which imitates, then GSPO, which samples and compares, then inference](../docs/method.svg)
#
# This notebook takes one such answer apart: the text, its claims, the boxes on the frames, and every term of the reward
# that later trains the model. It loads no model and runs in seconds.
#
# - **Needs** nothing: no model, no other notebook.
# - **Takes** seconds.
# - **You will see** an answer as text, its claims on the frames of a video, and bars of its reward.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/00_overview](exercises/00_overview.ipynb). This page, executed:
# [docs/tour](../docs/tour/00_overview.html).

# **Parameters.** Every notebook starts with its parameters; papermill can replace the values. `profile` sets the size of
# the work, `seed` fixes the random numbers, and `run_dir` is the folder of the run.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"


# **Setup.** Imports, the settings of the profile, and the folder of this notebook in the run.

import pandas as pd
from IPython.display import HTML, display

from o3v import evidence, rewards, runner, toyworld, video
from o3v.config import load_profile
from o3v.rewards.terms import temporal_proximity
from o3v.viz import charts, plots
from o3v.viz.response_html import response_html

settings = load_profile(profile)
stage = runner.open_stage(run_dir, "00_overview")


# ## A short video with known ground truth
#
# The repository has a synthetic world: a few coloured objects appear, move, meet and leave. A program draws each video,
# so we know the exact box of every object in every frame. The video is written as an H.264 file. Then it is read as a
# model reads it: a few frames, spread evenly over the video, each with its time and resized for the model. The figure
# shows these frames.

scene = toyworld.make_scene("sft", 8, seed)
video_path = stage.path("scene.mp4")
toyworld.render(scene, video_path)
frames = video.sample_frames(video_path, settings.frames.n_frames, settings.frames.max_pixels)
plots.filmstrip(frames.images, frames.times_s, title=f"{scene.duration_s:.1f} s, read with {frames.backend}")


# ## An answer with evidence
#
# We write one response ourselves. It is partly wrong on purpose, so that the reward has something to measure. This cell
# takes one object of the video and looks up its true boxes at two times. It prints each time in seconds with its box in
# pixels. The first claim will use the true box, rounded to whole pixels. The second claim will have the right time, but
# its box will be shifted to the right by a quarter of its width.

height, width = frames.images.shape[1:3]
name = scene.sprites[0].name
visible = [i for i in range(scene.n_frames) if name in scene.boxes_at(i)]
key_indices = [visible[len(visible) // 4], visible[3 * len(visible) // 4]]
true_px = {
    scene.frame_time_s(i): tuple(
        round(v * s) for v, s in zip(scene.boxes_at(i)[name], (width, height) * 2, strict=True)
    )
    for i in key_indices
}
true_px


# The cell writes this evidence in the grammar and prints the response. The package `o3v.evidence` writes these tags
# (`format_claim`, `format_response`) and reads them (`parse_response`).

(first_s, first_box), (second_s, second_box) = true_px.items()
shift = (second_box[2] - second_box[0]) // 4
shifted_box = (second_box[0] + shift, second_box[1], second_box[2] + shift, second_box[3])
think = (
    f"First I see {evidence.format_claim(name, [first_box], round(first_s, 1))}. "
    f"Later {evidence.format_claim(name, [shifted_box], round(second_s, 1))} is still there."
)
text = evidence.format_response(think, f"It is the {name}.")
print(text)


# ## The claims, as a program reads them
#
# The parser finds the claims in the text. Each coloured chip is one claim. A malformed part would be underlined, with the
# reason. The table lists object, box and time of each claim.

response = evidence.parse_response(text)
display(HTML(response_html(response)))
pd.DataFrame([{"object": c.name, "box": c.boxes[0], "time (s)": c.time_s} for c in response.claims])


# ## The claims on the frames
#
# Full lines are claimed boxes, dashed lines are true boxes. The timeline below shows the times of the frames, of the true
# boxes and of the claims. The box of the second claim should lie to the right of the true one.

truth = {time_s: {name: [box]} for time_s, box in true_px.items()}
anatomy = plots.trace_figure(video.frames_at(video_path, list(true_px), settings.frames.max_pixels), response, truth)
anatomy.savefig(stage.path("anatomy.png"), dpi=110, bbox_inches="tight")
anatomy


# ## The reward of this answer
#
# The reward is
#
# $$r = r_\text{acc} + r_\text{thk} + r_\text{fmt}$$
#
# $r_\text{acc}$ scores the answer, $r_\text{thk}$ scores the times and boxes of the evidence, and $r_\text{fmt}$ scores
# the format. The ground truth is a row in the form of the STGR files; its boxes are shares of the frame.
# The bars show each term and the total. A term without ground truth in this row "does not apply". `ans_acc` is a ROUGE
# score here. It is below 1, because the answer has more words than the true answer.

row = {
    "task": "temporal-spatial free-form QA",
    "question": "What is in the picture at both moments?",
    "answer": f"The {name}",
    "image_size": [width, height],
    "key_frames": [{"idx": i, "time": scene.frame_time_s(i), "path": None} for i in key_indices],
    "key_items": {str(i): {name: [list(scene.boxes_at(i)[name])]} for i in key_indices},
}
terms = rewards.score_completion(text, row, progress=0.0)
charts.reward_bars(terms)


# The next two cells show two of these terms on simple numbers.
#
# **When**: a claimed time earns
#
# $$r_t = \exp\left(-\frac{\Delta^2}{2\sigma^2}\right)$$
#
# where $\Delta$ is the distance to the nearest annotated key time. The paper lowers $\sigma$ during training, from 4 s to
# 1 s. A large σ at the start gives a reward even to inaccurate times, so the model
# has a signal to learn from. A small σ later requires accurate times. The paper calls this *adaptive temporal proximity*.
# The table shows the reward of several errors Δ at three points of the training.

config = rewards.RewardConfig.paper()
table = pd.DataFrame(
    {
        f"progress {p:g} (σ = {rewards.sigma_at(p, config):g} s)": {
            error: temporal_proximity(5.0 + error, [5.0], rewards.sigma_at(p, config))
            for error in (0.0, 0.5, 1.0, 2.0, 4.0)
        }
        for p in (0.0, 0.5, 1.0)
    }
)
table.rename_axis("error (s)").round(3)


# **Where**: a box earns its overlap (IoU) with the true box, but only if its time is within $\tau$ = 3 s of the key frame:
#
# $$r_s = \begin{cases} \text{IoU} & \text{if } |\Delta| \le \tau \\ 0 & \text{otherwise} \end{cases}$$
#
# The paper calls this *temporal gating*: a box at a wrong time earns nothing, even if it overlaps the true box. The cell
# moves the first claim in time and scores it again. The value stays the same up to 3 s and is 0 beyond. It can be a
# little below 1, because the claimed box is rounded to whole pixels.

moved = {}
for error in (0.0, 2.0, 3.0, 3.5, 6.0):
    lone = evidence.format_response(evidence.format_claim(name, [first_box], first_s + error), "yes")
    one_key = {**row, "key_frames": row["key_frames"][:1]}
    moved[error] = rewards.score_completion(lone, one_key, progress=0.0)["thk_spatial"]
pd.Series(moved, name="thk_spatial").rename_axis("error (s)").to_frame().round(3)


# ## The other notebooks
#
# | notebook | what it does |
# |---|---|
# | 01_data_pipeline | makes rows from videos: questions, reasoning chains with evidence, filters |
# | 02_sft | teaches the grammar by supervised fine-tuning (SFT), the cold start |
# | 03_gspo | trains the model further by reinforcement learning (GSPO) with this reward |
# | 03b_reward_analysis | looks at this reward: its gate, its terms together, ways to cheat |
# | 04_inference | shows answers of the trained model |
# | 05_evaluation | compares base, SFT and SFT+GSPO on held-out questions |
# | 06_ablations | shows what each part of the method contributes |
#
# The last cell of every notebook records its results as JSON, and lists the files that it wrote.

stage.record({"terms": terms, "claims": len(response.claims)}, ["anatomy.png", "scene.mp4"])
terms
