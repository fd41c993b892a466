# Written by `make mirror` from 01_data_pipeline.ipynb. Edit the notebook, not this file.

# # 01 · From videos to questions with evidence
#
# The method needs rows that the usual data sets do not have: a question, an answer, **and** a reasoning chain in which
# every object has a box and a time. In the paper, Gemini 2.5 Pro annotates videos, and filters leave 5.9k annotations.
# The paper adds existing temporal, spatial and general questions. The result is STGR: 30k rows for SFT and 36k for RL.
#
# All data live in a **data root**, a folder in the layout of the published files. Without a real one, this notebook makes
# one from videos of a synthetic world, whose ground truth is exact. A scripted annotator replaces Gemini. All its boxes are loose, some of its moments are late, and in a known share of its replies it makes one of eight
# gross mistakes. So we can count what each filter finds, and measure what no filter can see. The rows that the filters
# keep become the spatio-temporal rows of the cold start (02). The rows for RL (03) have exact ground truth, as the
# human-labelled data sets of STGR-RL. From the data root on, the path is the same for synthetic and for real data.
#
# - **Needs** nothing: it makes its own videos (0.5 GB in `runs/`), or reads your data root.
# - **Takes** about three minutes on two cores.
# - **You will see** videos with boxes, what each filter drops and why, and the rows for 02 and 03.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/01_data_pipeline](exercises/01_data_pipeline.ipynb). This page, executed:
# [docs/tour](../docs/tour/01_data_pipeline.html).

# **Parameters.** `profile` sets the number of rows. `data_root` is the folder of the STGR download (`json_data/` and
# `videos/`), `vstar_root` the folder of V-STAR if it is not in `data_root`; if `data_root` is empty, the variable `O3V_DATA`
# names it, and without both the data are synthetic. To annotate your own videos, set `videos` to their folder and
# `annotator` to "gemini" (key in `GEMINI_API_KEY`) or "openai" (any server with the OpenAI API, given by `endpoint` and
# `model_name`); the rows that the filters keep are added to the data root. `base` is the model that judges crops, a folder
# or a name on the hub; empty: the profile's.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"
data_root = ""
vstar_root = ""
base = ""
annotator = "scripted"
videos = ""
model_name = ""
endpoint = ""


# **Setup.** Imports, the settings of the profile, and the folder of this notebook in the run.

from collections import Counter

import pandas as pd

from o3v import evidence, files, runner, toyworld, video
from o3v.config import find_base, load_profile
from o3v.data import intake, root, sources
from o3v.evaluation.vstar_items import read_items
from o3v.toyworld import tasks
from o3v.viz import charts, plots
from o3v.viz.boxes import LabelledBox, claim_colours

settings = load_profile(profile)
data = settings.data
stage = runner.open_stage(run_dir, "01_data_pipeline")


# ## The data root
#
# `json_data/` holds the rows, `STGR-SFT.json` and `STGR-RL.json`. `videos/` holds a folder for each source, and a row names
# its video relative to that folder. V-STAR names its videos without an ending; they may lie anywhere below its root.
# Folders below `videos/` may be links to collections elsewhere.
#
# If no root is given, the cell makes one. All videos of the synthetic world are rendered, with the questions that come from
# existing data sets. `sft` has temporal, spatial and general questions; the spatio-temporal ones are annotated below. Their
# spans are up to 50% too wide at each end, and the boxes up to 35% too large on each side: human labels are imprecise too
# (on Charades, two annotators agree with a mean IoU of 0.73). `rl` and V-STAR's items are exact. No set of objects occurs in
# two splits. The cell lists the files of rows that are there.

data_root = root.from_environment(data_root)
toy = not data_root and data.made == "world"
data_root = data_root or str(toyworld.make_root(data, stage.path("world"), seed))
vstar_root = vstar_root or data_root
found = [*root.stgr_files(data_root, "sft"), *root.stgr_files(data_root, "rl"), root.vstar_file(vstar_root)]
print(*(f"{path.name}, {path.stat().st_size / 1e6:.2f} MB" for path in found), sep="\n")


# In the synthetic world, questions and answers are built from the facts of a scene: a list of objects, each with its
# visible interval and its path, and a list of events. The table lists the events of one scene with their times in seconds.

events = toyworld.make_scene("sft", 1, seed).events if toy else []
pd.DataFrame(
    [
        {"kind": e.kind, "subject": e.subject, "object": e.object, "from_s": e.span_s[0], "to_s": e.span_s[1]}
        for e in events
    ]
)


# ## Annotation
#
# The annotator gets a video and the notes of its data set. It replies in JSON: a question, an answer, one to five key
# frames with boxes, and a reasoning chain that names its evidence. Many requests run at the same time, and a failed
# request is repeated. Each reply is stored on disk under a hash of its request, so a rerun sends only what is missing.
# The cell prints the number of replies, requests and tokens (the scripted annotator uses no tokens).
#
# Only videos of the synthetic world and your own ones are annotated. With other data, the tables of this part are empty.

from o3v.data import annotation, annotation_clients, annotation_requests
from o3v.toyworld import scripted_annotator

video_root, items = videos or data_root, []
if videos:
    items, unreadable = annotation.find_videos(videos)
    print(*unreadable, sep="\n")
elif toy:
    items = list(scripted_annotator.items("sft", seed, data.annotated_videos))
    scripted_annotator.render_videos(items, video_root)
scripted = toy and not videos and annotator == "scripted"
annotator_model = (
    scripted_annotator.ScriptedAnnotator(seed)
    if annotator == "scripted"
    else annotation_clients.make_annotator(annotator, video_root, model_name, endpoint)
)
report = annotation_requests.RequestReport()
limits = annotation_requests.RequestLimits(per_minute=120 if videos else 1e6)
replies = list(annotation_requests.annotate(items, annotator_model, stage.path("answers"), limits, report))
print(f"{len(replies)} answers to {len(items)} requests for a row: {report.requests} sent, {report.cached} cached")
print(f"{report.tokens_in:,} tokens in, {report.tokens_out:,} out, {report.elapsed_s:.1f} s")


# The cell prints the first reply as it arrived, cut to 700 characters. The scripted annotator adds one gross mistake to
# about 30% of its replies; the cell also prints whether this reply has one.

print(replies[0][1][:700] if replies else "no reply")
if scripted:
    print("\ngross mistake:", annotator_model.fault(replies[0][0]) or "none")


# Each reply is parsed into a row of the STGR schema. Unreadable replies are rejected here, with the reason: incomplete
# JSON, wrong types, or boxes outside of the frame. The table shows up to five of them.

examples, unreadable_replies = annotation.read_annotations(replies)
listed = pd.DataFrame(unreadable_replies, columns=["id", "source", "reason", "detail", "frame_idx", "box"])
listed[["id", "reason", "detail"]].head(5) if unreadable_replies else "every answer was readable"


# ## Filtering
#
# The paper's filters are six stages here:
#
# 1. **Large boxes**: a box over 80% of the frame does not locate an object. It is removed.
# 2. **Crops**: a model sees each crop with the question *Is this a red car?* Only boxes with the reply "yes" stay. On
#    `smoke` and `tiny` the model is the tiny base, on `full` it is Qwen2.5-VL-7B.
# 3. **Consistency**: a row is dropped if its chain names a time or an object that no key frame has.
# 4. **Sentences**: the model compares each claim with the crop of its own box. A row with a wrong claim is dropped.
# 5. **Unmentioned**: boxes that the chain never claims are removed.
# 6. **Rewriting**: each claim gets the boxes and the time of its key frame.
#
# A stage is a pure function. It takes rows and returns the kept rows and what it dropped, with the reason. The table
# counts the drops by stage, reason and source.

from o3v import models
from o3v.data import filter_report, filters
from o3v.geometry import fit_size
from o3v.models import crop_judge
from o3v.viz import widgets

stages, tiny = {}, settings.pretrain is not None
if examples:
    vlm = models.load(find_base(base or settings.base))
    workers = settings.inference.num_workers
    crop_wh = fit_size(toyworld.SIZE_WH, settings.frames.max_pixels) if tiny else None
    judge = crop_judge.CropJudge(vlm, crop_wh, num_workers=workers)
    asked = filters.IS_THIS_QUESTION if tiny else filters.SENTENCE_QUESTION
    stages = filters.pipeline_stages(filters.read_crops_from(video_root), judge, asked, workers or 2)
steps = filter_report.run_filters(examples, stages)
pd.DataFrame(filter_report.report_table(steps))


# ### What was dropped, and why
#
# The figure shows some dropped cases, each with the wrong box, and some kept ones. In a live notebook you can choose a
# reason and browse the cases.

widgets.filter_case_viewer(plots.filter_cases(steps, examples, video_root))


# ### What the filters find
#
# We know which replies of the scripted annotator have a gross mistake, and of which kind. The table has one row for each
# kind and counts which stage found it (*reading* is the parser). *missed* counts the mistakes that no stage found;
# *recall* is the share that was found. The last line counts the rows without a gross mistake that were kept. The others
# are what the filters cost: the model rejects many crops that are loose or come from a moment when the object had moved.
#
# A filter either drops the row or repairs it. *Evidence without mention* is repaired: without the extra box the row is
# correct. Its object is not at the place of the box, so the stage *crops* often removes the box first, and the stage
# *unmentioned* finds nothing more to remove.

kept = steps[-1].result.kept if steps else []
files.write_jsonl(stage.path("annotated.jsonl"), (e.to_row() for e in kept))
if scripted:
    faults = {item.id: annotator_model.fault(item) for item in items}
    counts_by_fault, true_rows = scripted_annotator.count_faults(
        faults, [drop.id for drop in unreadable_replies], steps
    )
    table = pd.DataFrame(counts_by_fault).T.fillna(0).astype(int)
    display(table.assign(recall=(1 - table.missed / table.rows).round(3)))
    print(f"rows without a gross mistake that were kept: {true_rows['kept']} of {true_rows['rows']}")


# ### How precise the kept rows are
#
# Now the boxes and moments of all readable rows are compared with the truth, before and after filtering. *IoU* is the
# mean IoU of a box with the true box, *late* and *early* are the shares of boxes whose moment is late or early. A filter
# can find a wrong moment, because the object has moved away from the box. It cannot find a loose box: the crop still
# shows the object. The cell prints what changed. The cold start learns the boxes that stay, and RL can make them tight.

precision_table, ious = {}, {}
for when, rows in (("before filtering", examples), ("after filtering", kept)) if scripted else ():
    boxes = pd.DataFrame(scripted_annotator.precision(rows, items), columns=["iou", "late_s"])
    ious[when] = boxes["iou"].tolist()
    shares = {"late": (boxes["late_s"] > 0).mean(), "early": (boxes["late_s"] < 0).mean()}
    precision_table[when] = {"rows": len(rows), "boxes": len(boxes), "IoU": boxes["iou"].mean(), **shares}
for what, names in {"boxes at a wrong moment": ["late", "early"], "mean IoU": ["IoU"]}.items() if scripted else ():
    first, last = (sum(row[name] for name in names) for row in precision_table.values())
    print(f"{what}: {first:.3f} before filtering, {last:.3f} after")
display(pd.DataFrame(precision_table).T.round(3))
charts.histogram(ious, "IoU of an annotated box with the true box", bins=20) if ious else None


# The kept rows are added to the data root as a file of their own, `json_data/annotated-SFT.json`: at most as many as in
# the paper's proportion (19.7%). Rows about your own videos become `json_data/own-SFT.json`, and `videos/own` a link to the
# folder of the videos. STGR's own files never change.

if scripted:
    root.add_rows(data_root, "annotated", kept[: tasks.annotated_rows(data.sft_rows)])
if videos and kept:
    root.add_rows(data_root, "own", kept, videos)


# ## Checking the root
#
# Every video and image is opened once. The table has a line for each file and source: how many rows it has, how many of
# their videos and images exist and can be read, and how many rows have a problem. Rows with a problem are left out.

splits = {
    "sft": intake.take_in(data_root, "sft", data.sft_rows, seed),
    "rl": intake.take_in(data_root, "rl", data.rl_rows, seed),
}
vstar_items, vstar_coverage, missing_items = intake.take_in_items(vstar_root, read_items(found[-1]))
pd.DataFrame(
    [*splits["sft"].coverage, *splits["rl"].coverage, *({"file": "V-STAR", **line} for line in vstar_coverage)]
)


# One video of the root: eight of its frames, and the frames with annotated boxes among them.

shown, frames = intake.first_video(data_root, splits["rl"].rows, 8, 224 * 224)
height, width = frames.images.shape[1:3]
truth = {
    video.nearest_frame(frames.times_s, time_s): objects for time_s, objects in shown.boxes_px((width, height)).items()
}
colours = claim_colours(name for objects in truth.values() for name in objects)
boxes = [
    [LabelledBox(name, box, colours[name], truth=True) for name, own in truth.get(n, {}).items() for box in own]
    for n in range(len(frames.times_s))
]
print(shown.question)
plots.filmstrip(frames.images, frames.times_s, boxes, columns=5)


# ## The rows for training
#
# Each row passes the filters that the paper has for its source (length of the video, of the span and of the reasoning,
# and how many rows are drawn), then the two filters that need no model: large boxes and consistency. The published files
# have passed them already. The table shows what is dropped. Everything that is left out is named in `left_out.jsonl`,
# with the reason. With `dev_items` in the profile, the cell also sets held-out items apart (`dev.jsonl`), with which 03
# chooses its best checkpoint; 05 never uses them.

for split, taken in splits.items():
    files.write_jsonl(stage.path(f"{split}.jsonl"), (e.to_row() for e in taken.rows))
counts = {split: len(taken.rows) for split, taken in splits.items()}
left_out = [{"split": split, **line} for split, taken in splits.items() for line in taken.left_out]
left_out += [{"split": "eval", **line} for line in missing_items]
files.write_jsonl(stage.path("left_out.jsonl"), left_out)
used_items = vstar_items[: data.eval_items + data.dev_items]
files.write_jsonl(stage.path("eval.jsonl"), used_items[: data.eval_items])
files.write_jsonl(stage.path("dev.jsonl"), used_items[data.eval_items :])
media = {
    "data": [path for taken in splits.values() for path in intake.media_of(taken.rows)],
    "vstar": [item["video_path"] for item in used_items],
}
stage.list_media("data", {"data": data_root, "vstar": vstar_root}, media)
stage.list_media(
    "left_out", {"data": data_root}, {"data": [path for taken in splits.values() for path in taken.expected]}
)
stage.use(*root.row_files(data_root, vstar_root))
dropped = pd.DataFrame([{"split": split, **line} for split, taken in splits.items() for line in taken.audit])
dropped.to_csv(stage.path("audit.csv"), index=False)
print(f"{counts['sft']} rows for SFT, {counts['rl']} for RL, {len(used_items)} items; {len(left_out)} left out")
dropped


# ## What the data looks like
#
# The bars show the share of each task in the SFT split. It has five of the six tasks; the sixth, temporal questions with
# options, is in the RL split only. The bars with the label "STGR file" are shares of rows in the published SFT file
# (31,166 rows). They differ a little from the paper, which gives 19.7% for spatio-temporal questions.

sft = splits["sft"].rows
real = {
    "General video QA MCQ": 13_000,
    "General video QA Free-form": 2_000,
    "temporal-spatial free-form QA": 7_047,
    "visual QA": 5_000,
    "temporal QA": 4_119,
}
shares = charts.distribution(Counter(str(e.task) for e in sft), real, "STGR file")
shares.savefig(stage.path("tasks.png"), dpi=110, bbox_inches="tight")
shares


# The same by source, for both training splits, beside the shares of the paper's Figure 2. The bars have the names of
# STGR's sources. Temporal: TVG-Coldstart, Time-R1, TVG-RL. Spatial: TreeVGR-SFT, VisCoT/GQA. Spatio-temporal: the paper's
# own annotations, VideoEspresso. General: Video-R1. On `tiny`, RL has more temporal and spatial rows than in the paper and
# no general ones (`DataConfig.rl_shares`): with the paper's shares, a step of eight questions has about one with a span
# and one with a box.

for split in ("sft", "rl"):
    ours = Counter(tasks.paper_name(e.source, split) for e in splits[split].rows)
    paper = {source.label: getattr(source, split) for source in sources.SOURCES if getattr(source, split)}
    figure = charts.distribution(ours, paper)
    figure.suptitle(f"STGR, {split.upper()} split", x=0.02, ha="left")
    figure.savefig(stage.path(f"sources_{split}.png"), dpi=110, bbox_inches="tight")
    display(figure)


# The histogram shows the length of the answered spans as a share of their video. A span that covers the whole video is no
# evidence, so the paper keeps only spans under 50 to 70% of the video.

charts.histogram({"temporal QA": intake.span_shares(splits["sft"])}, "answered span, share of the video", bins=20)


# The histogram shows the size of the annotated boxes as a share of the frame. The first filter drops boxes over 80%.

from o3v.geometry import box_area

areas = {
    "key frames": [box_area(box) for e in sft for f in e.key_frames for boxes in f.items.values() for box in boxes]
}
charts.histogram(areas, "box, share of the frame", bins=20)


# The table shows how long the reasoning chains are: mean and maximum of words, claims and times for each task. Temporal
# chains name times without boxes. Chains of general questions have neither.

chains = [
    {
        "task": str(e.task),
        "words": len(evidence.strip_tags(e.reasoning_process).split()),
        "claims": len(response.claims),
        "times": len(response.times_s),
    }
    for e in sft
    for response in [evidence.parse_response(evidence.format_response(e.reasoning_process, ""))]
]
pd.DataFrame(chains).groupby("task").agg(["mean", "max"]).round(1)


# ## Recorded
#
# The last cell records the number of rows and the files that the next notebooks read.

results = {
    "rows": counts,
    "annotated": len(kept),
    "left out": len(left_out),
    "dropped": int(dropped["count"].sum()),
    "precision": {when: {k: round(float(v), 3) for k, v in row.items()} for when, row in precision_table.items()},
}
stage.record(
    results,
    [
        "sft.jsonl",
        "rl.jsonl",
        "eval.jsonl",
        "dev.jsonl",
        "annotated.jsonl",
        "audit.csv",
        "tasks.png",
        "sources_sft.png",
        "sources_rl.png",
        "left_out.jsonl",
        "data.media.json",
        "left_out.media.json",
    ],
)
results
