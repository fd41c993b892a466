"""Ships a part of a run in `data/`: the models of SFT and GSPO in half precision, and a few rows with their videos.

With it the notebooks 03b, 04 and 05 show real answers when a reader opens one of them alone (`runner.shipped`). The
rows are the first ones with small files, so their videos are the short ones. Does not load a model.
"""

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

from o3v.files import UNFINISHED, hash_path, read_json, read_jsonl, write_json, write_jsonl, write_text
from o3v.review.commits import code_of
from o3v.runner.hashes import read_media_folders, write_media_list
from o3v.runner.plan import read_manifest
from o3v.runner.shipped import DATA, MODELS, PROFILE, ROWS
from o3v.schema import Task

MAX_VIDEO_BYTES, MAX_ROWS_BYTES, MAX_BYTES = 95_000, 1_600_000, 14_000_000
NUM_ITEMS = 10  # of V-STAR
NUM_STEPS = 3  # of training, whose sampled answers are shipped: the first, one in the middle, the last
WEIGHTS, CARD = "model.safetensors", "README.md"
TRAINED_BY = {"02_sft/checkpoint": ("sft", "SFT (notebook 02)"), "03_gspo/checkpoint": ("sft_gspo", "SFT, then GSPO")}
_CARD = """\
# {name}

{what}

| | |
|---|---|
{facts}

{note} The same command and seed give the same files on the same type of CPU; another one rounds differently.

Apache-2.0. The code of this repository made every video, row and text in it, or that it was trained on.
"""
_MODEL = (
    "The tiny base ([card](../o3v-tiny-base/README.md)) after {training}. It answers questions about the synthetic "
    "videos of this repository with evidence. It knows coloured shapes only; its answers about other videos mean "
    "nothing. Notebooks 03b, 04 and 05 read it when they are opened alone, and so does `o3v ask` without a run."
)
_ROWS = (
    "A part of a run, laid out as the run: what notebooks 03b, 04 and 05 read when they are opened alone. It has the "
    "first {items} held-out items and one training video with files of at most {kb} kB (so the videos are short), the "
    "answers sampled at {steps} steps of GSPO, and all answers to the held-out questions of 03."
)


def ship(run_dir: Path, data: Path = DATA) -> dict[str, int]:
    """Writes the shipped part of a finished run and replaces an earlier one. Returns the bytes of each folder.

    Raises ValueError if the run is not finished, has another profile than `tiny`, or gives too much. Then nothing has
    changed.
    """
    run_dir, data, manifest = Path(os.path.abspath(run_dir)), Path(os.path.abspath(data)), read_manifest(run_dir)
    if manifest["profile"] != PROFILE:
        raise ValueError(f"{run_dir.name} has the profile {manifest['profile']}; notebooks show a run of {PROFILE}")
    if manifest["stages"].get("05_evaluation", {}).get("status") != "done":
        raise ValueError(f"{run_dir.name} is not finished (no 05_evaluation); run `o3v run` again")
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=data) as temporary:
        new = Path(temporary)
        for checkpoint, name in MODELS.items():
            _write_model(run_dir, checkpoint, new / name, manifest)
        _write_rows(run_dir, new / ROWS, manifest)
        sizes = {name: _bytes(new / name) for name in (*MODELS.values(), ROWS)}
        if sizes[ROWS] > MAX_ROWS_BYTES or sum(sizes.values()) > MAX_BYTES:
            raise ValueError(f"the shipped part would be too large: {sizes} bytes")
        for name in sizes:
            shutil.rmtree(data / name, ignore_errors=True)
            (new / name).rename(data / name)
    return sizes


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_model(run_dir: Path, checkpoint: str, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Copies a checkpoint with its weights in half precision, and writes its card."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    source = run_dir / checkpoint
    folder.mkdir()
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".jinja"):
            shutil.copyfile(path, folder / path.name)
    weights = {name: values.astype(np.float16) for name, values in load_file(source / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it private
    model, training = TRAINED_BY[checkpoint]
    measured = read_json(run_dir / "05_evaluation/metrics.json")[model]
    facts = {
        "parameters": f"{sum(values.size for values in weights.values()):,}",
        **{name: f"{value:.3f}" for name, value in measured.items()},
        "weights, sha256": hash_path(folder / WEIGHTS),
    }
    note = "Weights are stored in half precision; the run measured them (05, all its items) in single precision."
    _write_card(folder, _MODEL.format(training=training), facts, note, manifest)


def _write_rows(run_dir: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the rows that notebooks 03b, 04 and 05 read, the videos that they show, and a card."""
    data, gspo = "01_data_pipeline", "03_gspo"
    roots = read_media_folders(run_dir / data / "data.media.json")
    items = [item for item in _rows(run_dir / data / "eval.jsonl") if _is_small(roots["vstar"] / _video(item))]
    items = items[:NUM_ITEMS]
    sampled = list(_rows(run_dir / gspo / "rollouts.jsonl"))
    steps = sorted({row["step"] for row in sampled})
    kept = {steps[round(i * (len(steps) - 1) / (NUM_STEPS - 1))] for i in range(NUM_STEPS)}
    rollouts = [row for row in sampled if row["step"] in kept]
    heldout = list(_rows(run_dir / gspo / "heldout.jsonl"))
    used = {row["id"] for row in (*rollouts, *heldout)}
    rows = [row for row in _rows(run_dir / data / "rl.jsonl") if row["id"] in used]
    shown = _shown_video({row["id"]: row.get("video_path") for row in rows}, rollouts, roots["data"])
    media = {"data": shown, "vstar": [_video(item) for item in items]}
    for name, paths in media.items():
        for path in paths:
            target = folder / data / "world" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(roots[name] / path, target)
    world = folder / data / "world"
    write_media_list(folder / data / "data.media.json", dict.fromkeys(media, world), media)
    for path, lines in (("eval", items), ("rl", rows)):
        write_jsonl(folder / data / f"{path}.jsonl", lines)
    for path, lines in (("rollouts", rollouts), ("heldout", heldout)):
        write_jsonl(folder / gspo / f"{path}.jsonl", lines)
    write_json(folder / gspo / "results.json", read_json(run_dir / gspo / "results.json"))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".mp4")
    hashes = {f"{path.relative_to(folder).as_posix()}, sha256": hash_path(path) for path in files}
    text = _ROWS.format(items=len(items), kb=MAX_VIDEO_BYTES // 1000, steps=len(kept))
    counts = {"items": len(items), "training questions": len(rows), "sampled answers": len(rollouts)}
    _write_card(folder, text, counts | hashes, "The numbers of so few rows are no result of the run.", manifest)


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    return (row for _, row in read_jsonl(path))


def _video(item: Mapping[str, Any]) -> str:
    """The path of an item's video below the root of V-STAR."""
    return item.get("video_path") or item["vid"]


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= MAX_VIDEO_BYTES


def _shown_video(videos: Mapping[str, str | None], rollouts: Sequence[Mapping[str, Any]], root: Path) -> list[str]:
    """The small video whose group of answers differs most in reward, as notebook 03b chooses it; [] without one."""
    groups = defaultdict(list)
    for row in rollouts:
        path = videos.get(row["id"])
        if row["task"] == Task.SPATIO_TEMPORAL and path and _is_small(root / path):
            groups[row["step"], path].append(row["total"])
    spreads = {key: stdev(totals) for key, totals in groups.items() if len(totals) > 1}
    return [max(spreads, key=spreads.get)[1]] if spreads else []


def _write_card(folder: Path, what: str, facts: Mapping[str, Any], note: str, manifest: Mapping[str, Any]) -> None:
    machine = manifest.get("machine") or {}
    made = {
        "command": f"`o3v run --profile {manifest['profile']} --seed {manifest['seed']}`, then `o3v ship`",
        "seed": manifest["seed"],
        "code": code_of(manifest),
        "machine": f"{machine.get('cpu', 'unknown')}, {machine.get('cores', '?')} cores",
        "torch": (manifest.get("packages") or {}).get("torch", "unknown"),
    }
    if manifest.get("overrides"):
        made["parameters"] = f"`{json.dumps(manifest['overrides'])}`"
    lines = "\n".join(f"| {name} | {value} |" for name, value in (made | dict(facts)).items())
    write_text(folder / CARD, _CARD.format(name=folder.name, what=what, facts=lines, note=note))
