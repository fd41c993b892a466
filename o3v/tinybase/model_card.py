"""The model card of the tiny base: its measured abilities, the required values, and how it was made.

Every number comes from `probes.measure`; this module only formats them. Not part of the paper.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from o3v import files
from o3v.evaluation.bootstrap import MeanWithInterval

WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
# required value of each measure before SFT: at least this value, for those in AT_MOST at most this value
BARS: Mapping[str, float] = {
    "per-frame recall": 0.95,
    "box IoU of the found": 0.70,
    "find in a frame, IoU": 0.70,
    "visible interval, tIoU": 0.75,
    "crop yes/no, accuracy": 0.95,
    "relevance 0/1/2, accuracy": 0.90,
    "what/which, accuracy": 0.85,
    "format reward": 0.05,
}
AT_MOST = ("format reward",)

PAGE = """# o3v-tiny-base

A Qwen2.5-VL of {parameters:.1f} million parameters that answers questions about the synthetic videos of this repository
in plain words. It replaces Qwen2.5-VL-7B-Instruct on a laptop: SFT and GSPO start from it. Its training texts contain
no evidence tags.

## What it can do

Held-out scenes of the `eval` split (no training scene shows the same cast), greedy decoding, 95% bootstrap intervals.

{abilities}

By kind of question:

{families}

## How it was made

| | |
|---|---|
{facts}

Weights are stored in half precision; the numbers above are those of the stored weights. The same command and seed give
the same weights on the same kind of machine; another processor rounds differently.

## Limits

It knows six kinds of objects in six colours, three backgrounds, images of 84×84 pixels and some 1,200 tokens. Its
answers about anything else, such as real videos, are meaningless.

Apache-2.0. The code of this repository generated every image and text that it was trained on.
"""


def table(measures: Mapping[str, MeanWithInterval]) -> pd.DataFrame:
    """One row per measure: value, interval, number of items, and the required value if there is one."""
    rows = {}
    for name, mean in measures.items():
        bar = BARS.get(name)
        rows[name] = {
            "value": f"{mean.value:.3f}",
            "95% interval": f"{mean.low:.3f}–{mean.high:.3f}",
            "items": mean.items,
            "required": "" if bar is None else f"at {'most' if name in AT_MOST else 'least'} {bar:.2f}",
            "reached": "" if bar is None else "yes" if reached(name, mean.value) else "no",
        }
    return pd.DataFrame(rows).T


def reached(name: str, value: float) -> bool:
    """Whether a value satisfies the requirement of BARS for the measure."""
    return value <= BARS[name] if name in AT_MOST else value >= BARS[name]


def by_family(measures: Mapping[str, MeanWithInterval]) -> pd.DataFrame:
    """One row per kind of question, for the measures that have several. Hardest kinds come first."""
    rows = [
        {"measure": name, "kind": kind, "value": round(value, 3), "items": items}
        for name, mean in measures.items()
        for kind, (value, items) in sorted(mean.families.items(), key=lambda family: family[1])
    ]
    return pd.DataFrame(rows)


def write(
    folder: Path,
    measures: Mapping[str, MeanWithInterval],
    small: Mapping[str, MeanWithInterval],
    facts: Mapping[str, Any],
) -> None:
    """Writes README.md and metrics.json next to the weights in `folder`.

    `small` has the same measures on a few clips, which a test computes again. `facts` tell how the model was made;
    `parameters` is the number of its parameters.
    """
    made = dict(facts) | {"weights, sha256": files.hash_path(folder / WEIGHTS)}
    numbers = {name: {k: asdict(m) for k, m in means.items()} for name, means in (("all", measures), ("small", small))}
    files.write_json(folder / METRICS, numbers | {"made": made})
    text = PAGE.format(
        parameters=facts["parameters"] / 1e6,
        abilities=markdown(table(measures).reset_index(names="ability")),
        families=markdown(by_family(measures)),
        facts="\n".join(f"| {name} | {value} |" for name, value in made.items()),
    )
    files.write_text(folder / "README.md", text)


def markdown(rows: pd.DataFrame) -> str:
    """Formats a table as Markdown."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
