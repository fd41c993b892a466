"""The filters for files of any size: rows in Parquet shards, filtered in parallel by local processes or by Ray Data.

A finished shard is complete on disk, so a killed run resumes with the next one. Both engines give the same rows in the
same order. Stages must be picklable.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from o3v import files
from o3v.code_digest import code_digest
from o3v.data import filter_report, filters, stgr
from o3v.data.filters import Stage
from o3v.processes import one_gpu_each, worker_pool
from o3v.schema import Example

ROWS_PER_SHARD = 5_000
ENGINES = ("local", "ray")
# `row` is the whole row as JSON: as an Arrow struct it would get the object names of all other rows too
COLUMNS = pa.schema([("id", pa.string()), ("task", pa.string()), ("source", pa.string()), ("row", pa.string())])


ShardResult = dict[str, Any]  # "rows" before, "kept" after, and "audit", the lines of `filter_report.report_table`


def write_shard(path: Path, examples: Iterable[Example]) -> None:
    """Writes a shard atomically."""
    rows = [e.to_row() for e in examples]
    lines = [row | {"row": json.dumps(row, ensure_ascii=False, allow_nan=False)} for row in rows]
    with files.atomic_path(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(lines, schema=COLUMNS), unfinished)


def read_shard(path: Path) -> list[Example]:
    """Reads the examples of a shard, in order."""
    return [Example.from_row(json.loads(text)) for text in pq.read_table(path, columns=["row"])["row"].to_pylist()]


def split_into_shards(
    source: Path | str,
    folder: Path | str,
    rows_per_shard: int = ROWS_PER_SHARD,
    sources: Callable[[str], bool] = stgr.known_source,
) -> list[Path]:
    """Splits the good rows of an STGR file into shards and lists the bad ones in `faults.jsonl`. Resumes a killed run.

    `sources` decides which source names are valid. Splits again if the code has changed. Raises ValueError for a folder
    with the shards of another file.
    """
    folder, facts = Path(folder), {"source": files.hash_path(source), "rows": rows_per_shard}
    record, code = folder / "cut.json", code_digest(stgr)
    recorded = _read_record(record)
    if recorded and recorded.get("facts") != facts:
        raise ValueError(f"{folder} holds shards of another file; choose another folder or remove it")
    if recorded and recorded.get("code") == code and all((folder / name).is_file() for name in recorded["shards"]):
        return [folder / name for name in recorded["shards"]]
    bad_rows, paths = [], []

    def good_rows() -> Iterator[Example]:
        """Yields the good rows and collects the bad ones."""
        for row in stgr.read_stgr(source, sources):
            if isinstance(row, stgr.BadRow):
                bad_rows.append(row)
            else:
                yield row

    examples = good_rows()
    while shard := list(islice(examples, rows_per_shard)):
        paths.append(folder / f"part-{len(paths):05d}.parquet")
        write_shard(paths[-1], shard)
    files.write_jsonl(folder / "faults.jsonl", map(asdict, bad_rows))
    files.write_json(record, {"facts": facts, "code": code, "shards": [path.name for path in paths]})
    return paths


def _read_record(path: Path) -> dict[str, Any]:
    """The record of finished work; empty if there is none or it is damaged, so that the work is done again."""
    try:
        record = files.read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def stages_digest(stages: Mapping[str, Stage]) -> str:
    """A hash of the stages: their names and settings in order, and the code of the filters.

    A model that judges is not part of it; its rows need a folder of their own.
    """
    settings = []
    for name, stage in stages.items():
        keywords = stage.keywords if isinstance(stage, partial) else {}
        settings.append([name, {k: v for k, v in keywords.items() if isinstance(v, str | int | float)}])
    return hashlib.sha256(json.dumps([settings, code_digest(filters)]).encode()).hexdigest()


def filter_shard(path: Path, out: Path, stages: Mapping[str, Stage], digest: str) -> ShardResult:
    """Filters one shard into the folder `out`, unless the result of this shard and these stages is already there.

    `digest` is the `stages_digest` of the stages.
    """
    kept_path, record_path = out / path.name, out / f"{path.stem}.json"
    facts = {"shard": files.hash_path(path), "stages": digest}
    record = _read_record(record_path)
    if not kept_path.is_file() or record.get("of") != {**facts, "kept": files.hash_path(kept_path)}:
        record_path.unlink(missing_ok=True)  # of another shard or other stages
        examples = read_shard(path)
        kept, lines = filter_report.filter_rows(examples, stages)
        write_shard(kept_path, kept)
        record = {"rows": len(examples), "kept": len(kept), "audit": lines}
        files.write_json(record_path, record | {"of": {**facts, "kept": files.hash_path(kept_path)}})
    return {name: record[name] for name in ("rows", "kept", "audit")}


def filter_shards(
    paths: Iterable[Path],
    out: Path | str,
    stages: Mapping[str, Stage],
    engine: str = "local",
    workers: int = 2,
    gpus: Sequence[str] | None = None,
) -> list[ShardResult]:
    """Filters shards in parallel. Returns their results in the order of `paths`.

    Args:
        paths: Shards of `split_into_shards`.
        out: Folder of the filtered shards and their counts; finished shards in it are not filtered again.
        stages: Filters by name, in order.
        engine: "local" or "ray". Raises ValueError for another name.
        workers: Number of processes.
        gpus: GPUs of this machine, for stages with a model: each process gets one, and Ray gives one to each task, on
            a cluster also those of other machines. None: no stage has a model.
    """
    paths = [Path(path).absolute() for path in paths]  # Ray's processes have other working folders
    work = partial(filter_shard, out=Path(out).absolute(), stages=stages, digest=stages_digest(stages))
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} does not exist; choose one of {', '.join(ENGINES)}")
    progress = partial(tqdm, total=len(paths), desc="filtering", mininterval=5)
    if engine == "ray":
        _filter_with_ray(paths, work, workers, gpus)
    if workers <= 1 or engine == "ray":  # after Ray, this reads the results
        return list(progress(map(work, paths)))
    with worker_pool(workers, variables=one_gpu_each(workers, gpus or ())) as pool:
        return list(progress(pool.map(work, paths)))


def _filter_with_ray(
    paths: list[Path], work: Callable[[Path], ShardResult], workers: int, gpus: Sequence[str] | None
) -> None:
    """Filters the shards in Ray Data, on this machine or on a connected cluster that shares the folders.

    Without a cluster (RAY_ADDRESS, or `ray.init` before), Ray listens on this machine only: whoever reaches its ports
    can run code.
    """
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    if not cluster:  # Ray's switch for "this machine only", off by default on Linux; it is read at the import
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise ImportError("ray is not installed; pip install 'o3v[cluster]'") from None
    count = len(gpus or ())
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray must not send usage statistics
        local = {"num_cpus": max(workers, count), "num_gpus": count, "include_dashboard": False}
        ray.init(log_to_driver=False, **({} if cluster else local))
    if cluster and gpus is not None:
        count = int(ray.cluster_resources().get("GPU", 0))

    def task(item: dict[str, str]) -> dict[str, str]:
        work(Path(item["item"]))
        return item

    items = ray.data.from_items([str(path) for path in paths], override_num_blocks=max(1, len(paths)))
    each = {"num_gpus": 1, "max_calls": 0} if count else {}  # 0: a process keeps the model that it has loaded
    items.map(task, **each).materialize()


def merge_reports(results: Iterable[ShardResult]) -> list[dict[str, Any]]:
    """Adds up the reports of all shards: counts by stage, reason and source, in the order of the stages."""
    counts, before, after, table = defaultdict(Counter), Counter(), Counter(), []
    for result in results:
        for stage, group in groupby(result["audit"], key=itemgetter("stage")):
            lines = list(group)  # every line repeats the rows of its stage
            before[stage] += lines[0]["rows_before"]
            after[stage] += lines[0]["rows_after"]
            counts[stage].update({(line["reason"], line["source"]): line["count"] for line in lines})
    for stage in counts:
        table += filter_report.stage_lines(stage, +counts[stage], before[stage], after[stage])
    return table
