# Written by `make mirror` from 06_ablations.ipynb. Edit the notebook, not this file.

# # 06 · What does each piece do?
#
# A run shows that the whole method works. An **ablation** removes or exchanges one piece and shows what this piece does.
# This notebook trains nothing. It reads the cells of `o3v ablate`: a cell is one small training run, or one experiment
# with its model, for one seed. The tables are those of the paper, with our own choices after them.
#
# Every cell that was started stands in the file, also those that failed or are not finished. What a table shows is
# computed from the intervals, not written by hand. *Reward* is the mean over held-out questions. Where the paper has no
# number, as for the reward, a change is *better*, *worse* or *within noise* by its interval alone.
#
# - **Needs** nothing but the committed cells, `data/ablations.json`. To compute them: `make ablations`.
# - **Takes** some seconds.
# - **You will see** a table for each of the paper's ablations, with intervals, the paper's numbers beside, and one
#   sentence: its direction shows, does not show, or is within noise.
#
# Words: [glossary](../docs/glossary.md). Exercises: [exercises/06_ablations](exercises/06_ablations.ipynb).

# **Parameters.** `cells_file` is a file that `o3v ablate` has assembled; empty: `data/ablations.json` of the repository, the
# committed cells. `make ablations` computes all of them, `make ablations SEEDS=1` those of one seed.

profile = "tiny"
seed = 0
run_dir = "../runs/by-hand"
cells_file = ""


# **Setup.** Imports, and the cells. The cell prints how many are finished, and how many hours they took.

from pathlib import Path

import pandas as pd
from IPython.display import display

from o3v import files, runner
from o3v.ablations import results, store
from o3v.ablations.tables import TABLES
from o3v.config import REPOSITORY
from o3v.evaluation.bootstrap import mean_with_interval, paired_change
from o3v.viz import charts

stage = runner.open_stage(run_dir, "06_ablations")
path = Path(cells_file) if cells_file else REPOSITORY / "data" / store.ASSEMBLED
records = store.read_assembled(path) if cells_file or path.exists() else []
stage.use(*([path] if records else []))
tables = {table.name: table for table in TABLES}
pd.set_option("display.max_colwidth", None)
pd.Series(results.spent(records), name="all cells").to_frame()


# ## Why changes are paired
#
# By hand: two models answer the same four questions. The second is better by 0.1 on each, but the questions differ much in
# difficulty. The interval of each mean is wide, and the two overlap. The change is the same on every question, so its
# interval is narrow. All changes below are paired: the same seed, the same items.

first, second = [0.1, 0.9, 0.2, 0.8], [0.2, 1.0, 0.3, 0.9]
for name, values in (("first", first), ("second", second)):
    mean = mean_with_interval(pd.Series(values).to_numpy(), [""] * len(values))
    print(f"{name}: {mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f})")
change = paired_change(first, second)
print(f"change: {change.change:+.2f} ({change.low:+.2f} to {change.high:+.2f}), {change.verdict}")


# ## Which cells there are
#
# One row for each cell that was started: its seeds with their state, where it starts from, the number of training steps,
# and its minutes. An interval below resamples seeds, then the items of each seed. Two or three seeds are few: a change that
# is *within noise* is not shown to be zero, and among this many comparisons about one in twenty is beyond its interval by
# chance alone.

listed = pd.DataFrame(
    {
        "cell": record["cell"],
        "state": f"{record['seed']} {record['status']}",
        "starts from": record["settings"].get("start", ""),
        "steps": record.get("steps", 0),
        "minutes": record.get("seconds", {}).get("all", 0.0) / 60,
    }
    for record in records
)
grouped = listed.groupby("cell", sort=False) if records else None
how = {"state": ", ".join, "starts from": "first", "steps": "max", "minutes": "mean"}
grouped.agg(how).round(1) if records else "no cell yet: run `make ablations`"


# ## Training strategy (table 3)
#
# Imitation, reinforcement learning, or both? All cells of a seed have the same data. GSPO and GRPO take the same updates
# from the same cold start. *SFT + longer SFT* spends the minutes of GSPO on further imitation of the same rows. *GSPO
# alone* begins after SFT on the reasoning and answers of other questions, because the base never writes the format:
# *format only* is its start.

print(results.sentence(tables["table 3"], records), tables["table 3"].note, sep="\n")
results.table_frame(tables["table 3"], records)


# ## Spatio-temporal data (table 4)
#
# The paper's own annotations and VideoEspresso are the rows with boxes *and* times. In STGR, and here, the own rows are
# in the cold start, and those of VideoEspresso in RL. So *with VideoEspresso* has a cold start without such rows.

print(results.sentence(tables["table 4"], records), tables["table 4"].note, sep="\n")
results.table_frame(tables["table 4"], records)


# ## Adaptive proximity and gating (table 5)
#
# Without adaptive proximity σ stays at 4 s: times far from a key time are paid to the end. Without gating a box is paid at
# any time. In our RL rows 15% have key times, so both can change little.

print(results.sentence(tables["table 5"], records), tables["table 5"].note, sep="\n")
results.table_frame(tables["table 5"], records)


# ## Evidence removed (table 6)
#
# The model answers again without the frames that it claimed, and without as many random frames. If the answer rests on
# the claimed frames, the first costs more right answers than the second.

print(results.sentence(tables["table 6"], records), tables["table 6"].note, sep="\n")
results.table_frame(tables["table 6"], records)


# ## Share of general questions (table 7)
#
# How many questions without evidence does the cold start need? Every cell has the same number of rows. *general* is the
# share of right answers to general multiple-choice questions whose videos no cell has seen; the paper has VideoMME.

print(results.sentence(tables["table 7"], records), tables["table 7"].note, sep="\n")
results.table_frame(tables["table 7"], records)


# ## σ (table 8)
#
# A wide σ pays times that are far off, a narrow one pays only times that are almost right. The adaptive one goes from 4 s
# to 1 s.

print(results.sentence(tables["table 8"], records), tables["table 8"].note, sep="\n")
results.table_frame(tables["table 8"], records)


# ## Reasoning without evidence (table 9)
#
# The same rows, but the reasoning names no boxes, and its times are plain words. Does evidence help to answer *what*?

print(results.sentence(tables["table 9"], records), tables["table 9"].note, sep="\n")
results.table_frame(tables["table 9"], records)


# ## Voting (table 13)
#
# Eight responses to each question, and one answer: of a single response, by majority, or by votes weighted with the
# confidence in the claimed crops.

print(results.sentence(tables["table 13"], records), tables["table 13"].note, sep="\n")
results.table_frame(tables["table 13"], records)


# ## The gate and the reward of paper and code
#
# The paper pays a box if its time is within 3 s of a key time. The public code asks for less than 1 s before it, and
# accepts any time after it. *Whole reward of the code* takes all its differences (`RewardConfig.official`). The table
# shows held-out rewards in the paper's reading for all cells.

print(results.sentence(tables["reading"], records), tables["reading"].note, sep="\n")
results.table_frame(tables["reading"], records)


# ## How the policy is updated
#
# On-policy or off-policy, the width ε of the clipping, token or sequence ratios, and two ways to scale advantages. Each
# cell changes the named settings only.

print(results.sentence(tables["policy"], records), tables["policy"].note, sep="\n")
results.table_frame(tables["policy"], records)


# ## Further terms of the reward
#
# What the field has added since the paper. Each is one field of `RewardConfig`, off by default.

print(results.sentence(tables["terms"], records), tables["terms"].note, sep="\n")
results.table_frame(tables["terms"], records)


# ## All changes at a glance
#
# The change of the held-out reward and of mAM for every cell that goes on from the same cold start as SFT + GSPO, with
# 95% intervals. Left of 0 is worse. The reward has the paper's reading for all cells.

spans = {name: results.change_spans(records, name) for name in ("reward", "mam")}
figures = {}
for name, changes in spans.items():
    if changes:
        label = f"change of {results.TITLES[name]} from SFT + GSPO"
        figures[name] = charts.intervals(changes, label)
        figures[name].savefig(stage.path(f"{name}.png"), dpi=110, bbox_inches="tight")
        display(figures[name])
print(f"{len(spans['mam'])} cells are compared")


# ## Recorded
#
# The last cell records the sentence of each table, and how many cells are finished.

sentences = {table.name: results.sentence(table, records) for table in TABLES}
rows = {table.name: results.table_rows(table, records) for table in TABLES}
files.write_json(stage.path("tables.json"), rows)
stage.record({"cells": results.spent(records), **sentences}, ["tables.json", *(f"{name}.png" for name in figures)])
sentences
