"""Writes the synthetic data set: a data root in the layout of the real files (`data.root`), with V-STAR's test file.

A split has the paper's sources in the paper's proportions, spread evenly, so that each scene gives a few rows of
different sources. `sft` lacks the rows that the annotation pipeline makes, and its spans and boxes are as imprecise as
those of existing data sets (`imprecision`). `rl` and `eval` are exact. Each scene is made independently, so any number
of processes writes the same bytes. Files are written atomically, and complete files are reused while the code and the
seed are the same.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from o3v import files
from o3v.code_digest import code_digest
from o3v.data import stgr
from o3v.data.root import JSON_FOLDER, VSTAR_FILE
from o3v.processes import worker_pool
from o3v.schema import Example, Row
from o3v.toyworld.imprecision import imprecise
from o3v.toyworld.reasoning import described_frames
from o3v.toyworld.scene import SPLITS, Scene, draw_frame, make_scene, mixed_index, render
from o3v.toyworld.tasks import SOURCES, eval_item, rows_of

__all__ = ["DatasetSummary", "eval_item", "make_dataset", "rows_of"]

log = logging.getLogger(__name__)

ROWS_PER_SCENE = 4
MEDIA = ("videos", "images", "kfs")
STAMP = ".world.json"
FILES = {"sft": f"{JSON_FOLDER}/STGR-SFT.json", "rl": f"{JSON_FOLDER}/STGR-RL.json", "eval": VSTAR_FILE}


@dataclass(frozen=True)
class DatasetSummary:
    """What `make_dataset` wrote. `rows` counts them by split and source (`eval`: by domain)."""

    root: Path
    scenes: Mapping[str, int]
    rows: Mapping[str, Mapping[str, int]]
    video_s: float
    elapsed_s: float


@dataclass(frozen=True)
class _Job:
    """One scene and the source of each of its rows; no sources for an item of `eval`."""

    root: Path
    split: str
    index: int
    seed: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class _SceneResult:
    rows: list[Row]
    media: list[str]
    video_s: float


def make_dataset(
    root: Path | str,
    counts: Mapping[str, int],
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    rl_shares: Mapping[str, float] | None = None,
) -> DatasetSummary:
    """Writes a data set of `counts[split]` rows (items of `eval`) below `root`.

    Paths in the rows are relative to `root`. The same counts and seed always give the same bytes. A second call after
    an interruption reuses finished media. Media of another seed or version of the code are replaced, and media that no
    row needs are removed.

    Args:
        root: folder of the data set.
        counts: number of rows by split (`sft`, `rl`), and of items (`eval`).
        seed: seed of all scenes.
        workers: number of processes.
        progress: shows a progress bar.
        rl_shares: weight of each source in `rl`, default the numbers of rows in the paper.

    Raises:
        ValueError: for an unknown split or source, a negative count, or no workers.
        FileExistsError: when `root` has media that `make_dataset` did not write.
    """
    _check(counts, workers, rl_shares or {})
    started, root = time.perf_counter(), Path(root)
    _prepare_root(root, seed)
    weights = {split: _weights(split) for split in counts} | ({"rl": dict(rl_shares)} if rl_shares else {})
    jobs = [job for split, number in counts.items() for job in _jobs(root, split, number, seed, weights[split])]
    results = list(_run(jobs, workers, progress))
    pairs = list(zip(jobs, results, strict=True))
    rows = {split: [row for job, result in pairs if job.split == split for row in result.rows] for split in counts}
    for split in counts:
        _write_rows(root / FILES[split], split, rows[split])
    _remove_unused(root, {path for result in results for path in result.media})
    scenes = dict(Counter(job.split for job in jobs))
    by_source = {split: dict(Counter(row.get("source") or row["domain"] for row in rows[split])) for split in counts}
    video_s = sum(result.video_s for result in results)
    summary = DatasetSummary(root, scenes, by_source, video_s, time.perf_counter() - started)
    log.info("Wrote %s to %s in %.1f s", {split: len(rows[split]) for split in counts}, root, summary.elapsed_s)
    return summary


def _prepare_root(root: Path, seed: int) -> None:
    """Removes what another seed or version of the code left in `root`, and writes the stamp of this one."""
    libraries = {name: version(name) for name in ("av", "numpy", "pillow")}
    stamp = {"seed": seed, "code": code_digest(sys.modules[__name__]), "libraries": libraries}
    old = [root / name for name in MEDIA if (root / name).exists()]
    if not (root / STAMP).exists():
        if old:
            raise FileExistsError(f"{old[0]} was not made by make_dataset; choose an empty folder")
    elif files.read_json(root / STAMP) != stamp:
        for folder in old:
            shutil.rmtree(folder)
        for split in SPLITS:
            (root / FILES[split]).unlink(missing_ok=True)
    files.write_json(root / STAMP, stamp)


def _write_rows(path: Path, split: str, rows: list[Row]) -> None:
    if split == "eval":
        files.write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    else:
        stgr.write_stgr(path, map(Example.from_row, rows))


def _check(counts: Mapping[str, int], workers: int, rl_shares: Mapping[str, float]) -> None:
    if unknown := [split for split in counts if split not in SPLITS]:
        raise ValueError(f"counts of {', '.join(unknown)}: splits are {', '.join(SPLITS)}")
    if min(counts.values(), default=0) < 0 or workers < 1:
        raise ValueError(f"counts {dict(counts)}, workers {workers}: at least 0 rows and 1 worker are needed")
    known = [name for name, source in SOURCES.items() if source.rl]
    if unknown := [name for name in rl_shares if name not in known]:
        raise ValueError(f"rl_shares of {', '.join(unknown)}: sources of rl are {', '.join(known)}")


def _weights(split: str) -> dict[str, float]:
    """The weight of each source in a split, {} for `eval`. The pipeline makes the SFT rows of annotated sources."""
    if split == "eval":
        return {}
    weights = {name: getattr(source, split) for name, source in SOURCES.items()}
    return {name: weight for name, weight in weights.items() if split != "sft" or not SOURCES[name].annotated}


def _jobs(root: Path, split: str, number: int, seed: int, weights: Mapping[str, float]) -> Iterator[_Job]:
    if split == "eval":
        yield from (_Job(root, split, index, seed, ()) for index in range(number))
        return
    sources = _allocate(weights, number)
    for index, start in enumerate(range(0, number, ROWS_PER_SCENE)):
        yield _Job(root, split, mixed_index(split, index), seed, tuple(sources[start : start + ROWS_PER_SCENE]))


def _allocate(weights: Mapping[str, float], number: int) -> list[str]:
    """A list of `number` names in the proportions of the weights (largest remainder), each name spread evenly."""
    total = sum(weights.values())
    quotas = {name: number * weight / total for name, weight in weights.items()}
    counts = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: counts[name] - quotas[name])
    for name in by_remainder[: number - sum(counts.values())]:
        counts[name] += 1
    return [
        name for _, name in sorted(((i + 0.5) / count, name) for name, count in counts.items() for i in range(count))
    ]


def _run(jobs: list[_Job], workers: int, progress: bool) -> Iterator[_SceneResult]:
    from tqdm.auto import tqdm

    with tqdm(total=len(jobs), desc="scenes", disable=not progress, leave=False) as bar:
        if workers == 1:
            for job in jobs:
                yield _write_scene(job)
                bar.update()
            return
        with worker_pool(workers) as pool:
            for result in pool.map(_write_scene, jobs, chunksize=4):
                yield result
                bar.update()


def _write_scene(job: _Job) -> _SceneResult:
    """Writes the media of one scene and returns its rows. Raises RuntimeError if it has too few questions."""
    scene = make_scene(job.split, job.index, job.seed)
    if job.split == "eval":
        item = eval_item(scene)
        rows, media = [item] if item else [], [f"videos/eval/{item['vid']}.mp4"] if item else []
    else:
        candidates, wanted = rows_of(scene), Counter(job.sources)
        examples = [e for name in wanted for e in [c for c in candidates if c.source == name][: wanted[name]]]
        if job.split == "rl":  # the real file has no chains
            examples = [replace(example, reasoning_process=None) for example in examples]
        if job.split == "sft":
            frames = described_frames(scene)
            examples = [imprecise(example, scene.duration_s, frames, job.seed) for example in examples]
        rows = [example.to_row() for example in examples]
        media = sorted({path for example in examples for path in _media(example)})
    if len(rows) != max(len(job.sources), 1):
        raise RuntimeError(f"scene {scene.scene_id} gives {len(rows)} rows for {job.sources or 'eval'}")
    for path in media:
        if not (job.root / path).exists():
            _write_media(scene, job.root / path)
    return _SceneResult(rows, media, scene.duration_s)


def _media(example: Example) -> Iterator[str]:
    yield example.media_path
    yield from (frame.path for frame in example.key_frames if frame.path)


def _write_media(scene: Scene, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        render(scene, path)
        return
    frame = int(path.stem.rsplit("-", 1)[1])  # images are named by scene and frame
    with files.atomic_path(path) as unfinished:
        Image.fromarray(draw_frame(scene, frame)).save(unfinished, quality=92)


def _remove_unused(root: Path, needed: set[str]) -> None:
    for folder in MEDIA:
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.relative_to(root).as_posix() not in needed:
                path.unlink()
