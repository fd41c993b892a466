# Written by `make mirror` from appendix_tiny_base.ipynb. Edit the notebook, not this file.

# # Appendix · A base model made on two cores
#
# The method starts from Qwen2.5-VL-7B, which already understands images but does not run on a laptop. A model with random
# weights would learn only the format from a few hundred reasoning chains. So this repository has its own base,
# `data/o3v-tiny-base/`: the classes and processor of Qwen2.5-VL with 2.9 million parameters. This notebook trains it. It
# is not part of the main notebooks; notebook 02 loads the result.
#
# The base learns to name and box objects, to find one, to say when it is visible, to answer simple questions, to answer
# "Is this a red car?" with yes or no, and to rate the relevance of a crop as 0, 1 or 2. No training text contains an
# evidence tag.

# **Parameters.** `smoke` takes seconds and learns nothing. `tiny`, the profile of the shipped weights, takes hours on two
# cores; started again with the same `run_dir` it resumes from a checkpoint. With `start`, the folder of a base, only a
# further stage is trained from its weights.

profile = "smoke"
seed = 0
run_dir = "../runs/by-hand"
start = ""


# A clip is a rendered scene: twelve evenly spaced frames as at inference, half as many at random times, and a few crops.
# No training row of the main notebooks uses these scenes. You see the evenly spaced frames of one clip.

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from o3v import files, models, runner
from o3v.config import load_profile
from o3v.runner.fingerprint import machine
from o3v.tinybase import architecture, detection_head, model_card, pretrain, probes, shared_prefix
from o3v.tinybase.batches import ROW_FACTORS, draw_batch, tokenizer_texts
from o3v.tinybase.clips import FIRST_SCENE, draw_clip, draw_clips
from o3v.viz import charts, plots

settings = load_profile(profile)
config = settings.pretrain
stage = runner.open_stage(run_dir, "appendix_tiny_base")
clip = draw_clip(0, settings.frames, seed)
plots.filmstrip(clip.images[: clip.n_uniform], clip.times_s[: clip.n_uniform], title=clip.scene_id)


# Its crops: objects, with slightly wrong boxes like those of a model, and background. They teach "Is this a …?", the
# question of the filter in the data pipeline.

names = ", ".join(name or "background" for name in clip.crop_names)
plots.filmstrip(clip.crops, range(len(clip.crops)), title=names)


# ## Questions
#
# You see a sample of the questions about one clip. An answer consists of small steps, because the model reads each step
# off the frames or off earlier steps:
#
# - Frame, name and place come before a box.
# - The objects of every frame come before the answer, numbered where they appear (*first*, *second*, …), the requested
#   one marked *here*. Then follow their order and the requested object once more.
# - The first and the last place of an object come before its action.
# - After *So:* the options are repeated with a mark at the correct one, then comes the letter.
#
# A span starts at the first frame in it and ends at the first frame after it, because frames show no other times. Asked
# to explain, the base describes what it sees with boxes and times. SFT asks the same and teaches the evidence format.

rng = np.random.default_rng(seed)
batches = [draw_batch(kind, [clip], 1, rng) for kind in ROW_FACTORS]
qa_pairs = [qa for batch in batches for qa in batch.qa_pairs[0]]
table = pd.DataFrame([{"ability": qa.ability, "question": qa.question, "answer": qa.answer} for qa in qa_pairs])
table.style.set_properties(**{"text-align": "left", "white-space": "pre-wrap"}).hide(axis="index")


# ## Stage 1: the vision tower
#
# Text alone teaches vision only slowly, so the vision tower first learns object detection. For each of the nine
# tokens of a frame, a linear map predicts whether the centre of an object is there, its colour and kind (separately and
# as one word), its box and the background. It scores words through **the embeddings of the language model**: after this
# stage the embedding of 41 lies between those of 40 and 42. The map is then discarded.
#
# You see the boxes of one frame and its targets: one row per token, −1 for nothing.

columns = ["colour", "kind", "x0", "y0", "x1", "y1", "place"]
print(clip.boxes_px[0])
pd.DataFrame(detection_head.cell_targets(clip.boxes_px[0], clip.size_wh, clip.place).tolist(), columns=columns)


# ## Stages 2 to 4: the language model
#
# The frames of a video are some 220 tokens, a question with its answer some 40. So the language model reads a video once,
# and every question attends to its keys and values. The loss is that of separate prompts (a test compares them).
# Questions of similar length share a group, so that a long answer does not pad all others. You see how many tokens this
# saves.

untrained = architecture.build(tokenizer_texts([clip], seed), seed)
batch = draw_batch("film", [clip], 1, rng)
packed = shared_prefix.Packer(untrained, clip.size_wh).pack(batch.videos, batch.qa_pairs)
n_video, groups = int(packed.is_token.sum()), [turns.input_ids.shape for turns in packed.turns]
print(f"together: {n_video} + {sum(n * length for n, length in groups)} tokens")
print(f"one by one: {sum(n * (n_video + length) for n, length in groups)} tokens")
pd.DataFrame(groups, columns=["questions", "tokens of each, padded"])


# ## Training
#
# After detection the vision tower is frozen. The language model learns on single images and crops, on videos of two to
# four frames, which are easier to tell apart, and on whole videos. The optimizer is Muon (momentum, orthogonalised) for
# the matrices inside the layers and AdamW for the rest, in bf16 autocast. You see the loss of the first stage.

start_folder = Path(start) if start else None
vlm, history = pretrain.pretrain(settings.frames, config, seed, stage.path("training"), start_folder)
hours = {name: rows[-1]["elapsed_s"] / 3600 for name, rows in history.items()}
print({name: f"{len(rows)} steps, {hours[name]:.2f} h" for name, rows in history.items()})
vision = [{"step": row["step"], "vision loss": row["loss"]} for row in history.get("vision", [])]
charts.learning_curves(vision, "step", ["vision loss"]) if vision else f"the vision tower is that of {start}"


# The language stages, one panel per kind of batch (*short* and *glance* are questions about a few frames and their
# captions). The curves show the share of answer tokens that the model ranks first.

rows = [row for name in history if name != "vision" for row in history[name]]
language = pd.DataFrame(rows).assign(step=range(len(rows)))
shares = [f"{kind} right" for kind in ROW_FACTORS if f"{kind} right" in language]
curves = charts.learning_curves(language, "step", shares, smooth=25)
curves.savefig(stage.path("learning.png"), dpi=110, bbox_inches="tight")
curves


# ## What was tried
#
# Short trials fixed the settings, and nine bases were trained until the shipped one. Their numbers, and what they showed
# about so small a model, are in the [experiment log](../docs/experiments.md#the-tiny-base).
#
# The next cell saves the trained weights in half precision and loads them again for the measurements.

folder = stage.path("o3v-tiny-base")
models.save(vlm, folder, half=True)
saved = models.load(folder)
print(f"{(folder / model_card.WEIGHTS).stat().st_size / 1e6:.1f} MB")


# ## Abilities
#
# On held-out clips of the `eval` split, whose combinations of objects are in no training clip: greedy decoding, the saved
# weights, 95% bootstrap intervals. The last two columns compare with the required values.

held_out = draw_clips(config.num_measured, settings.frames, seed, "eval", progress=False)
measures = probes.measure(saved, held_out, seed)
model_card.table(measures)


# The same numbers by kind of question, hardest first. For *relevance* the kind is the correct answer, for *yes/no* what
# is wrong with the name.

model_card.by_family(measures)


# Descriptions of three clips: the correct answer, then the reply of the model.

for held_out_clip in held_out[:3]:
    item = probes.PROBES["every frame"].make_item(held_out_clip, rng)
    reply = models.generate(saved, [item.prompt], 300)[0]
    print(f"correct\n{item.qa.answer}\nmodel\n{reply}\n")


# ## Recorded
#
# The card is written next to the weights, with these numbers and the facts below. To ship the base, copy the folder to
# `data/`.

small = probes.measure(saved, held_out[:24], seed)
facts = {
    "parameters": sum(p.numel() for p in vlm.model.parameters()),
    "data": f"{config.clips:,} drawn scenes of the sft split, from number {FIRST_SCENE:,} on",
    "steps": ", ".join(f"{name} {len(rows):,}" for name, rows in history.items()),
    "hours": f"{sum(hours.values()):.2f}",
    "machine": f"{machine()['cpu']}, {machine()['cores']} cores, no GPU",
    "command": f"papermill notebooks/appendix_tiny_base.ipynb out.ipynb --cwd notebooks -p profile {profile}"
    + f" -p start {start}" * bool(start),
    "seed": seed,
    **({"started from, sha256": files.hash_path(start_folder / model_card.WEIGHTS)} if start else {}),
    "torch": torch.__version__,
}
model_card.write(folder, measures, small, facts)
stage.record({name: mean.value for name, mean in measures.items()}, ["o3v-tiny-base", "learning.png"])
