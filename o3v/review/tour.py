"""The site of a run as one Markdown page with pictures and tables, for a forge that shows no HTML.

The text follows from the numbers of `results.json` and the names of the pictures, so `verify` writes it again.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from o3v.review.markdown import markdown_table
from o3v.rewards import TERM_NAMES

TOUR, FOLDER, METHOD = "README.md", "pictures", "method.svg"
SHOWN = {
    "00_overview": "one response in parts: text, claims, boxes on frames, every term of the reward",
    "01_data_pipeline": "videos, annotation, what each filter finds and what stays, the rows for SFT and RL",
    "02_sft": "what the loss sees, the learning curve, the same questions before and after",
    "03_gspo": "rewards, advantages, ratios and the clipped loss by hand, training, before and after",
    "03b_reward_analysis": "the reward by task, its time gate, a group of answers, answers that cheat",
    "04_inference": "answers claim by claim, the video with a slider, voting, whether answers need their evidence",
    "05_evaluation": "base, SFT and SFT+GSPO on held-out videos",
    "06_ablations": "what each piece of the method does, beside the paper's tables",
}
PICTURES = {  # output of a notebook → what it shows
    "00_overview/anatomy.png": "a response: claimed boxes on the frames, true boxes dashed, and a time line",
    "01_data_pipeline/tasks.png": "the share of each task among the rows for SFT, beside the published file",
    "02_sft/learning.png": "loss, token accuracy and entropy of SFT",
    "03_gspo/heldout.png": "the mean reward of held-out questions at every checkpoint, with 95% intervals",
    "03_gspo/terms.png": "every term of the reward during GSPO",
    "04_inference/trace.png": "an answer of the trained model: claimed boxes on the frames, true boxes dashed",
    "04_inference/trace.gif": "the same answer as an animation",
    "05_evaluation/comparison.png": "the metrics of base, SFT and SFT+GSPO as bars",
}
NOTE = (
    "accuracy: *what* is answered right. m_tIoU, m_vIoU: overlap of the answered span and boxes with the truth. mAM: "
    "mean of these three. mLGM: the same with more weight on values near 1. format: share of well-formed answers. "
    "In brackets: 95% bootstrap intervals; a *change* is paired, video by video. One run is one sample."
)
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, rows


def copy_pictures(run_dir: Path, method: Path, folder: Path) -> list[str]:
    """Copies the pictures of a run, and the figure of the method, below `folder`; returns their names in the site."""
    files = {picture.replace("/", "-"): run_dir / picture for picture in PICTURES} | {METHOD: method}
    (folder / FOLDER).mkdir()
    found = {f"{FOLDER}/{name}": file for name, file in files.items() if file.exists()}
    for name, file in found.items():
        shutil.copyfile(file, folder / name)
    return list(found)


def tour_text(
    numbers: Mapping[str, Any],
    result: Table,
    facts: Mapping[str, str],
    sources: Mapping[str, str],
    pictures: Sequence[str],
) -> str:
    """The Markdown page.

    Args:
        numbers: the `results.json` of the site.
        result: header and rows of the table of metrics.
        facts: how the run was made, by name.
        sources: addresses of the notebooks by name; "" where there is none.
        pictures: names of the pictures that the site has.
    """
    run = numbers["run"]
    parts = [
        "# A run to look at",
        f"Numbers and pictures of the run **{run['run_id']}** (profile {run['profile']}, seed {run['seed']}) on "
        "synthetic videos. The HTML pages beside this file show more: all cells, and viewers that need no server. "
        "Download the folder and open `index.html`.",
        *(
            [f"![the method: data, SFT, GSPO, inference]({FOLDER}/{METHOD})"]
            if f"{FOLDER}/{METHOD}" in pictures
            else []
        ),
        "## Result",
        markdown_table(*result),
        NOTE,
    ]
    for name, results in numbers["stages"].items():
        source = f" · [notebook]({sources[name]})" if sources.get(name) else ""
        parts += [f"## {name}", f"{SHOWN.get(name, '')} · [page]({name}.html){source}".removeprefix(" · ")]
        parts += _key_tables(name, results)
        parts += [
            f"![{shown}]({path})"
            for picture, shown in PICTURES.items()
            if picture.startswith(f"{name}/") and (path := f"{FOLDER}/{picture.replace('/', '-')}") in pictures
        ]
    parts += ["## How it was made", markdown_table(["", ""], list(facts.items()))]
    return "\n\n".join([*parts, "All numbers: [results.json](results.json)."]) + "\n"


def _key_tables(name: str, results: Mapping[str, Any]) -> list[str]:
    """The most important numbers that a notebook recorded, as a table, if it has any."""
    header, rows = KEY_TABLES[name](results) if name in KEY_TABLES else ((), ())
    return [markdown_table(header, rows)] if rows else []


def _number(value: Any) -> str:
    """A number with three decimals, a count as it is, – for what does not apply."""
    if value is None:
        return "–"
    return f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value)


def _terms(results: Mapping[str, Any]) -> Table:
    terms = results.get("terms") or {}
    return ("term", "reward"), [(TERM_NAMES.get(n, n), _number(v)) for n, v in terms.items() if v is not None]


def _rows(results: Mapping[str, Any]) -> Table:
    return ("rows", "number"), [(split, _number(count)) for split, count in (results.get("rows") or {}).items()]


def _formats(results: Mapping[str, Any]) -> Table:
    names = {"format_rate_base": "base", "format_rate_sft": "SFT"}
    return ("model", "format rate"), [(names[n], _number(results[n])) for n in names if n in results]


def _before_after(results: Mapping[str, Any]) -> Table:
    rows = [
        (TERM_NAMES[term], *(_number(results[f"{term}, {when}"]) for when in ("before", "after")))
        for term in TERM_NAMES
        if f"{term}, before" in results
    ]
    return ("held-out questions", "before", "after"), rows


def _tasks(results: Mapping[str, Any]) -> Table:
    columns = ("before", "after", "change", "low", "high", "verdict")
    rows = [(task, *(_number(v.get(c)) for c in columns)) for task, v in (results.get("tasks") or {}).items()]
    return ("reward by task", *columns), rows


def _shares(results: Mapping[str, Any]) -> Table:
    names = [name for name in results if ", N = " in name or name.startswith("changed, ")]
    return ("", "share"), [(name, _number(results[name])) for name in names]


KEY_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Table]] = {
    "00_overview": _terms,
    "01_data_pipeline": _rows,
    "02_sft": _formats,
    "03_gspo": _before_after,
    "03b_reward_analysis": _tasks,
    "04_inference": _shares,
}
