"""The synthetic data set on disk: `sft.jsonl` and `rl.jsonl` (STGR rows), `eval.jsonl` (V-STAR items), media.

A split holds the paper's sources in the paper's proportions, dealt out so that every scene gives a few rows of
different sources. Each scene is made, rendered and asked by itself, so any number of processes gives the same
bytes; files appear whole, and a finished one is reused while the code that draws it is the same.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from o3v import files
from o3v.code_digest import code_digest
from o3v.schema import Example, Row, rows_to_jsonl
from o3v.toyworld.scene import SPLITS, Scene, draw_frame, make_scene, mixed_index, render
from o3v.toyworld.tasks import SOURCES, eval_item, rows_of

__all__ = ["DatasetSummary", "eval_item", "make_dataset", "rows_of"]

log = logging.getLogger(__name__)

ROWS_PER_SCENE = 4
MEDIA = ("videos", "images", "kfs")
STAMP = "world.json"


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
    """One scene and the sources it owes a row each; none for an item of `eval`."""

    root: Path
    split: str
    index: int
    seed: int
    hand: tuple[str, ...]


@dataclass(frozen=True)
class _Done:
    rows: list[Row]
    media: list[str]
    video_s: float


def make_dataset(
    root: Path | str, counts: Mapping[str, int], seed: int = 0, workers: int = 2, progress: bool = True
) -> DatasetSummary:
    """Writes a data set of `counts[split]` rows (items of `eval`) below `root`.

    Paths in the rows start from `root`. The same counts and seed give the same bytes, whatever the number of
    worker processes. Called again after an interruption it goes on with what is finished; media of an earlier
    seed or version of the world are replaced, and media that no row needs removed. Raises ValueError for an
    unknown split, a negative count or no workers, FileExistsError when `root` holds media of another origin.
    """
    for split, number in counts.items():
        if split not in SPLITS or number < 0:
            raise ValueError(f"counts[{split!r}] = {number}: splits are {', '.join(SPLITS)}, counts are 0 or more")
    if workers < 1:
        raise ValueError(f"workers = {workers}: at least one is needed")
    started, root = time.perf_counter(), Path(root)
    _claim(root, seed)
    jobs = [job for split, number in counts.items() for job in _jobs(root, split, number, seed)]
    done = list(_work(jobs, workers, progress))
    rows: dict[str, list[Row]] = {split: [] for split in counts}
    for job, result in zip(jobs, done, strict=True):
        rows[job.split] += result.rows
    for split, found in rows.items():
        files.write_text(root / f"{split}.jsonl", rows_to_jsonl(found))
    _sweep(root, {path for result in done for path in result.media})
    summary = DatasetSummary(
        root,
        dict(Counter(job.split for job in jobs)),
        {split: dict(Counter(row.get("source") or row["domain"] for row in found)) for split, found in rows.items()},
        sum(result.video_s for result in done),
        time.perf_counter() - started,
    )
    log.info("%s: %s in %.1f s", root, {split: len(found) for split, found in rows.items()}, summary.elapsed_s)
    return summary


def _claim(root: Path, seed: int) -> None:
    """Makes `root` the home of this seed and this world; what another one left there goes."""
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
            (root / f"{split}.jsonl").unlink(missing_ok=True)
    files.write_json(root / STAMP, stamp)


def _jobs(root: Path, split: str, number: int, seed: int) -> Iterator[_Job]:
    if split == "eval":
        yield from (_Job(root, split, index, seed, ()) for index in range(number))
        return
    sources = _deal({name: getattr(source, split) for name, source in SOURCES.items()}, number)
    for index, start in enumerate(range(0, number, ROWS_PER_SCENE)):
        yield _Job(root, split, mixed_index(split, index), seed, tuple(sources[start : start + ROWS_PER_SCENE]))


def _deal(weights: Mapping[str, float], number: int) -> list[str]:
    """`number` names in the proportions of the weights, exact by largest remainder, each spread evenly."""
    total = sum(weights.values())
    quotas = {name: number * weight / total for name, weight in weights.items()}
    share = {name: int(quota) for name, quota in quotas.items()}
    by_rest = sorted(quotas, key=lambda name: share[name] - quotas[name])
    for name in by_rest[: number - sum(share.values())]:
        share[name] += 1
    places = [((turn + 0.5) / most, name) for name, most in share.items() for turn in range(most)]
    return [name for _, name in sorted(places)]


def _work(jobs: list[_Job], workers: int, progress: bool) -> Iterator[_Done]:
    from tqdm.auto import tqdm

    with tqdm(total=len(jobs), desc="scenes", disable=not progress, leave=False) as bar:
        if workers == 1:
            for job in jobs:
                yield _make(job)
                bar.update()
            return
        # spawned, not forked: a notebook's process has threads
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for result in pool.map(_make, jobs, chunksize=4):
                yield result
                bar.update()


def _make(job: _Job) -> _Done:
    """Rows and media of one scene. RuntimeError when the scene has too few questions, which no scene has."""
    scene = make_scene(job.split, job.index, job.seed)
    if job.split == "eval":
        item = eval_item(scene)
        rows, media = [item] if item else [], [item["vid"]] if item else []
    else:
        examples = list(_hand_out(rows_of(scene), job.hand))
        if job.split == "rl":  # the real file has no chains
            examples = [replace(example, reasoning_process=None) for example in examples]
        rows = [example.to_row() for example in examples]
        media = sorted({path for example in examples for path in _media(example)})
    if len(rows) != max(len(job.hand), 1):
        raise RuntimeError(f"scene {scene.scene_id} gives {len(rows)} rows for {job.hand or 'eval'}")
    for path in media:
        if not (job.root / path).exists():
            _write(scene, job.root / path)
    return _Done(rows, media, scene.duration_s)


def _hand_out(candidates: list[Example], hand: tuple[str, ...]) -> Iterator[Example]:
    """For each source of a hand its next candidate."""
    for name, wanted in Counter(hand).items():
        yield from [example for example in candidates if example.source == name][:wanted]


def _media(example: Example) -> Iterator[str]:
    yield example.media_path
    yield from (frame.path for frame in example.key_frames if frame.path)


def _write(scene: Scene, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        render(scene, path)
        return
    frame = int(path.stem.rsplit("-", 1)[1])  # pictures are named by scene and frame
    with files.atomic_path(path) as unfinished:
        Image.fromarray(draw_frame(scene, frame)).save(unfinished, quality=92)


def _sweep(root: Path, needed: set[str]) -> None:
    for folder in MEDIA:
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.relative_to(root).as_posix() not in needed:
                path.unlink()
