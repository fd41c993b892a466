"""Measures which annotation faults the filters find, with the scripted annotator and the tiny base as the judge.

Prints the recall for each type of fault with its 95% Wilson interval, and the share of correct rows that are kept.

    python benchmarks/filters.py
"""

from __future__ import annotations

import argparse
import tempfile
from math import sqrt

import pandas as pd

from o3v import models, toyworld
from o3v.config import find_base, load_profile
from o3v.data import annotation, filter_report, filters
from o3v.geometry import fit_size
from o3v.models import crop_judge
from o3v.toyworld import scripted_annotator

FIRST_SCENE = 600_000


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson interval of a share."""
    share, spread = hits / count, z * z / count
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / count + spread / count / 4)
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def table_row(hits: int, count: int) -> dict[str, object]:
    """The cells for `hits` of `count` rows."""
    low, high = wilson(hits, count)
    return {"rows": count, "stopped": hits, "share": f"{hits / count:.3f}", "95% interval": f"{low:.3f}–{high:.3f}"}


def main() -> None:
    """Annotates, filters and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotated", type=int, default=1_200, help="number of annotated videos")
    parser.add_argument("--share", type=float, default=0.6, help="share of annotations with a fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--imprecise", action="store_true", help="loose boxes, late and early moments")
    options = parser.parse_args()
    profile = load_profile("tiny")
    vlm = models.load(find_base(profile.base))
    judge = crop_judge.CropJudge(vlm, fit_size(toyworld.SIZE_WH, profile.frames.max_pixels))
    items = list(scripted_annotator.items("rl", options.seed, options.annotated, FIRST_SCENE))
    annotator = scripted_annotator.ScriptedAnnotator(options.seed, options.share, precise=not options.imprecise)
    with tempfile.TemporaryDirectory() as root:
        scripted_annotator.render_videos(items, root)
        examples, unread = annotation.read_annotations((item, annotator(item).text) for item in items)
        steps = filter_report.run_filters(
            examples, filters.pipeline_stages(filters.read_crops_from(root), judge, filters.IS_THIS_QUESTION)
        )
    faults = {item.id: annotator.fault(item) for item in items}
    fault_counts, correct = scripted_annotator.count_faults(faults, [drop.id for drop in unread], steps)
    table = {fault: table_row(n["rows"] - n["missed"], n["rows"]) for fault, n in fault_counts.items()}
    table["true rows kept"] = table_row(correct["kept"], correct["rows"])
    print(pd.DataFrame(table).T.to_string())


if __name__ == "__main__":
    main()
