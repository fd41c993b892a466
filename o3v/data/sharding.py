"""The filters at any size: rows in Parquet shards, a shard at a time, in a pool of processes here or in Ray Data.

A shard that is done lies on disk whole, so a run that was killed goes on with the next. Both engines give the same
rows in the same order. Stages must be functions that can be sent to another process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from o3v import files
from o3v.data import filter_report, stgr
from o3v.data.filters import Stage
from o3v.schema import Example

ROWS_PER_SHARD = 5_000  # rows
ENGINES = ("local", "ray")
# what a row is looked up by, then all of it as JSON: Arrow would merge the names of all rows' boxes into one struct
COLUMNS = pa.schema([("id", pa.string()), ("task", pa.string()), ("source", pa.string()), ("row", pa.string())])


@dataclass(frozen=True)
class ShardResult:
    """One shard after its stages: how many rows came and went, and the audit's lines."""

    rows: int
    kept: int
    audit: list[dict[str, Any]]


def write_shard(path: Path, examples: Iterable[Example]) -> None:
    """A shard, whole or not at all."""
    rows = [e.to_row() for e in examples]
    columns = {name: [row[name] for row in rows] for name in ("id", "task", "source")}
    columns["row"] = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    with files.atomic_path(path) as unfinished:
        pq.write_table(pa.table(columns, schema=COLUMNS), unfinished)


def read_shard(path: Path) -> list[Example]:
    """The examples of a shard, in order."""
    return [Example.from_row(json.loads(text)) for text in pq.read_table(path, columns=["row"])["row"].to_pylist()]


def split_into_shards(source: Path | str, folder: Path | str, rows: int = ROWS_PER_SHARD, **reading: Any) -> list[Path]:
    """Cuts an STGR file into shards of good rows; bad rows stand in `faults.jsonl` beside them. Goes on where it was.

    `reading` is passed on to `stgr.read_stgr`. A folder cut from another file is refused with ValueError.
    """
    folder, facts = Path(folder), {"source": files.hash_path(source), "rows": rows}
    note = folder / "cut.json"
    if note.exists() and files.read_json(note)["facts"] != facts:
        raise ValueError(f"{folder} holds shards of another file; choose another folder or remove it")
    if note.exists():
        return [folder / name for name in files.read_json(note)["shards"]]
    found, faults, paths = stgr.read_stgr(source, **reading), [], []

    def good() -> Iterator[Example]:
        for one in found:
            if isinstance(one, stgr.BadRow):
                faults.append(one)
            else:
                yield one

    examples = good()
    while part := list(islice(examples, rows)):
        paths.append(folder / f"part-{len(paths):05d}.parquet")
        write_shard(paths[-1], part)
    lines = (json.dumps(asdict(fault), ensure_ascii=False) + "\n" for fault in faults)
    files.write_text(folder / "faults.jsonl", "".join(lines))
    files.write_json(note, {"facts": facts, "shards": [path.name for path in paths]})
    return paths


def filter_shard(path: Path, out: Path, stages: Mapping[str, Stage]) -> ShardResult:
    """Sifts one shard into the folder `out`, unless it lies there already."""
    kept_path, note = out / path.name, out / f"{path.stem}.json"
    if not (kept_path.exists() and note.exists()):
        examples = read_shard(path)
        kept, lines = filter_report.filter_rows(examples, stages)
        write_shard(kept_path, kept)
        files.write_json(note, {"rows": len(examples), "kept": len(kept), "audit": lines})
    return ShardResult(**files.read_json(note))


def filter_shards(
    paths: Iterable[Path], out: Path | str, stages: Mapping[str, Stage], engine: str = "local", workers: int = 2
) -> list[ShardResult]:
    """Sifts shards into the folder `out`, in order, with `workers` processes. Raises ValueError for another engine."""
    paths, work = list(paths), partial(filter_shard, out=Path(out), stages=stages)
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} does not exist; choose one of {', '.join(ENGINES)}")
    bar = partial(tqdm, total=len(paths), desc="sifting", mininterval=5)
    if engine == "ray":
        return list(bar(_in_ray(paths, work, workers)))
    if workers <= 1:
        return list(bar(map(work, paths)))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(bar(pool.map(work, paths)))


def _in_ray(paths: list[Path], work: Any, workers: int) -> Iterator[ShardResult]:
    """The same work as Ray Data, on this machine or the cluster that is connected; folders must be shared."""
    try:
        import ray
    except ImportError:
        raise ImportError("ray is not installed; pip install 'o3v[cluster]'") from None
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to the outside
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    listed = [{"number": n, "path": str(path)} for n, path in enumerate(paths)]

    def task(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"done": json.dumps(asdict(work(Path(row["path"]))))}

    data = ray.data.from_items(listed, override_num_blocks=max(1, len(listed))).map(task)
    rows = sorted(data.iter_rows(), key=lambda row: row["number"])
    yield from (ShardResult(**json.loads(row["done"])) for row in rows)


def merge_reports(done: Iterable[ShardResult]) -> list[dict[str, Any]]:
    """One audit of all shards: counts by stage, reason and source, in the order of the stages."""
    totals: dict[tuple[str, str, str], int] = {}
    rows: dict[str, list[int]] = {}
    for shard in done:
        seen = set()
        for line in shard.audit:
            key = (line["stage"], line["reason"], line["source"])
            totals[key] = totals.get(key, 0) + line["count"]
            if line["stage"] not in seen:
                seen.add(line["stage"])
                before = rows.setdefault(line["stage"], [0, 0])
                before[0] += line["rows_before"]
                before[1] += line["rows_after"]
    dropped_in = {stage for (stage, reason, _), count in totals.items() if count}
    return [
        {"stage": s, "reason": r, "source": o, "count": n, "rows_before": rows[s][0], "rows_after": rows[s][1]}
        for (s, r, o), n in sorted(totals.items(), key=lambda item: (list(rows).index(item[0][0]), item[0][1:]))
        if n or s not in dropped_in
    ]
