"""The model card of the tiny base: what it can do, beside what is asked of it, and how it was made.

Every number comes from `measure`; this module only sets them in a table and a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from o3v import files
from o3v.evaluation.bootstrap import MeanWithInterval

WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
# what is asked of a base before SFT, at least; of those in AT_MOST at most so much
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

A Qwen2.5-VL of {parameters:.1f} million parameters that sees the synthetic world of this repository and speaks of it in
plain words. It stands in for Qwen2.5-VL-7B-Instruct on a laptop: SFT and GSPO start from it. It has never met the
evidence tags.

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

It knows six kinds of things in six colours, three places, pictures of 84×84 pixels and some 1,200 tokens. On anything
else, real films included, what it says means nothing.

Apache-2.0; every picture and text it was trained on was drawn and written by this repository's code.
"""


def table(measures: Mapping[str, MeanWithInterval]) -> pd.DataFrame:
    """One row a measure: value, interval, items, and what is asked of it, where something is."""
    rows = {}
    for name, found in measures.items():
        bar = BARS.get(name)
        asked = "" if bar is None else f"at {'most' if name in AT_MOST else 'least'} {bar:.2f}"
        rows[name] = {
            "value": f"{found.value:.3f}",
            "95% interval": f"{found.low:.3f}–{found.high:.3f}",
            "items": found.items,
            "asked": asked,
            "reached": "" if bar is None else "yes" if reached(name, found.value) else "no",
        }
    return pd.DataFrame(rows).T


def reached(name: str, value: float) -> bool:
    """Whether a value is what BARS asks of the measure."""
    return value <= BARS[name] if name in AT_MOST else value >= BARS[name]


def by_family(measures: Mapping[str, MeanWithInterval]) -> pd.DataFrame:
    """One row a kind of question within each measure that has several, hardest first."""
    rows = [
        {"measure": name, "kind": kind, "value": round(value, 3), "items": items}
        for name, found in measures.items()
        for kind, (value, items) in sorted(found.families.items(), key=lambda family: family[1])
    ]
    return pd.DataFrame(rows)


def write(
    folder: Path,
    measures: Mapping[str, MeanWithInterval],
    small: Mapping[str, MeanWithInterval],
    facts: Mapping[str, Any],
) -> None:
    """Writes README.md and metrics.json beside the weights.

    `small` are the same measures on the few clips on which a test repeats them.
    """
    made = dict(facts) | {"weights, sha256": files.hash_path(folder / WEIGHTS)}
    numbers = {name: {k: asdict(m) for k, m in found.items()} for name, found in (("all", measures), ("small", small))}
    files.write_json(folder / METRICS, numbers | {"made": made})
    text = PAGE.format(
        parameters=facts["parameters"] / 1e6,
        abilities=markdown(table(measures).reset_index(names="ability")),
        families=markdown(by_family(measures)),
        facts="\n".join(f"| {name} | {value} |" for name, value in made.items()),
    )
    files.write_text(folder / "README.md", text)


def markdown(rows: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
