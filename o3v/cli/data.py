"""The commands `o3v check-data`, `sift` and `annotate`. They call the package and print its results."""

import hashlib
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from o3v import files
from o3v.cli import FILE, FOLDER, add_parser, count_above_0, number_above_0, table_text
from o3v.config import find_base
from o3v.data import annotation, annotation_clients, annotation_requests, filters, sharding, stgr
from o3v.data import root as data_root
from o3v.data.check import check_file, check_items, good_rows
from o3v.data.export import export_rows
from o3v.evaluation.vstar_items import read_items
from o3v.processes import visible_gpus
from o3v.schema import Example, SchemaError

log = logging.getLogger("o3v.data")
WORKERS = {"dest": "num_workers", "type": count_above_0, "metavar": "N"}
LOCK_WAIT_S = 1.0
JUDGED_ROWS_PER_SHARD = 64  # a model takes minutes for them; a killed run repeats at most one shard for each process


def add_commands(commands: Any) -> None:
    """Adds the commands of this module to the subcommands of a parser."""
    add = add_parser(commands, "check-data", check_data, "check STGR files against their videos and images")
    add("data_root", type=Path, metavar="ROOT", help="folder of the STGR files, videos and images, or of V-STAR")
    add("stgr_files", **FILE, nargs="*", help="STGR or V-STAR files (default: all in ROOT and ROOT/json_data)")
    add("--allow-missing", dest="allow_bad_rows", action="store_true", help="drop rows with problems and do not fail")
    add("--out", dest="output_folder", **FOLDER, help="write the rows without problems to this folder")
    add("--export", metavar="FORMAT", help="format of the rows in --out: trl, swift or llama-factory (default: STGR)")
    add("--workers", **WORKERS, default=2, help="number of processes that open videos (default: 2)")

    add = add_parser(commands, "sift", sift_rows, "filter the rows of an STGR file, with or without a model")
    add("stgr_file", **FILE, help="STGR file")
    add("output_folder", **FOLDER, help="folder for shards and kept rows; unfinished work continues")
    add("--judge", default="", metavar="MODEL", help="model that checks crops and sentences; needs --data")
    add("--data", dest="data_root", **FOLDER, help="data root that has the videos of the rows")
    add("--engine", default="local", help="local (processes on this machine) or ray (default: local)")
    add("--workers", **WORKERS, help="number of processes (default: 2; with --judge one for each GPU)")

    add = add_parser(commands, "annotate", annotate_videos, "annotate videos with a large model and filter the rows")
    add("videos_folder", type=Path, metavar="VIDEOS", help="folder of videos")
    add("output_folder", **FOLDER, help="folder for answers and rows; unfinished work continues")
    add("--annotator", default="gemini", help="gemini, or openai for any server with the same API (default: gemini)")
    add("--model", metavar="NAME", default="", help="name of the annotator's model")
    add("--endpoint", default="", metavar="URL", help="address of the server (default: the service's own)")
    add("--per-minute", type=number_above_0, default=60.0, help="maximum number of requests per minute (default: 60)")
    add("--workers", **WORKERS, default=8, help="number of parallel requests (default: 8)")
    add(
        "--max-requests", type=count_above_0, metavar="N", help="stop after this number of requests (default: no limit)"
    )
    add("--max-cost", type=number_above_0, metavar="USD", help="stop when the replies have cost this; needs --prices")
    prices = {"nargs": 2, "type": number_above_0, "metavar": ("IN", "OUT")}
    add("--prices", **prices, help="US dollars for a million tokens of input and of output")
    add("--judge", default="", metavar="MODEL", help="model that checks crops and sentences")
    add("--add-to", dest="data_root", **FOLDER, help="data root that gets the kept rows, and a link to VIDEOS")


def check_data(options: Namespace) -> int:
    """Prints a table by source and the first problems of each kind. Returns 1 if rows have problems."""
    root, out, allowed = options.data_root, options.output_folder, options.allow_bad_rows
    paths = options.stgr_files or data_root.json_files(root)
    if not root.is_dir() or not paths:
        raise FileNotFoundError(f"{root} is not a folder with .json or .jsonl files, or json_data/; name the files")
    if out and len({path.stem for path in paths}) < len(paths):
        raise ValueError(f"two of the files have the same name, and --out would write both to {out}; check them apart")
    ending = f".{options.export}.jsonl" if options.export else ".json"
    outputs = {path: out / f"{path.stem}{ending}" for path in paths} if out else {}
    for output in outputs.values():
        files.refuse_overwriting(output, *paths)
    num_bad = 0
    for path in paths:
        try:
            is_vstar = path.name == data_root.VSTAR_FILE
            rows = read_items(path) if is_vstar else path
            coverage = (check_items if is_vstar else check_file)(root, rows, options.num_workers)
        except (SchemaError, FileExistsError) as error:
            if options.stgr_files:
                raise
            log.info("%s\n", error)
            num_bad += 1
            continue
        log.info("%s\n%s\n", path, table_text(coverage.table()))
        for kind, cases in coverage.cases.items():
            count = sum(source.problems[kind] for source in coverage.sources.values())
            log.info("%s, %d rows:\n  %s\n", kind, count, "\n  ".join(cases))
        num_bad += len(coverage.bad_rows)
        if out and not is_vstar:
            with files.as_private_as(path):
                if options.export:
                    files.write_jsonl(outputs[path], export_rows(good_rows(path, coverage, root), options.export))
                else:
                    stgr.write_stgr(outputs[path], good_rows(path, coverage))
    if num_bad:
        log.info("%d rows %s", num_bad, "dropped" if allowed else "have problems; --allow-missing drops them")
    return 1 if num_bad and not allowed else 0


def sift_rows(options: Namespace) -> int:
    """Writes shards to DIR/in, filtered shards to DIR/out, kept rows to DIR/kept.json and counts to DIR/audit.json.

    With a judge, small shards go to DIR/in-judge, and filtered ones to a folder out-* for each judge and data root.
    """
    source, out, root = options.stgr_file, options.output_folder, options.data_root
    files.regular(source)
    if options.judge and not (root and root.is_dir()):
        raise FileNotFoundError("--judge looks at the videos: name the folder of videos/ and json_data/ with --data")
    cut, rows, workers = (out / "in", sharding.ROWS_PER_SHARD, options.num_workers or 2)
    stages, gpus, filtered = filters.MODEL_FREE_STAGES, None, out / "out"
    if options.judge:
        cut, rows = out / "in-judge", JUDGED_ROWS_PER_SHARD
        stages, gpus = _judged_stages(root, options.judge)
        filtered = out / f"out-{_digest(options.judge, root.absolute())}"
        workers = options.num_workers or max(1, len(gpus))
    for made in (out / "kept.json", out / "audit.json", cut, filtered):
        files.refuse_overwriting(made, source)
    with files.as_private_as(source), files.locked(out, LOCK_WAIT_S, "o3v sift"):
        shards = sharding.split_into_shards(source, cut, rows)
        bad_rows = cut / "faults.jsonl"
        log.info("%d rows could not be read; they are listed in %s", len(list(files.read_jsonl(bad_rows))), bad_rows)
        return _filter_shards(shards, filtered, stages, options.engine, workers, gpus)


def _digest(*facts: object) -> str:
    return hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:8]


def annotate_videos(options: Namespace) -> int:
    """Writes answers to DIR/answers and unreadable answers to DIR/unread.jsonl, then filters as `sift_rows` does.

    After a budget is reached, filters the rows that there are. `--add-to` adds the kept rows to a data root.
    """
    videos, out = options.videos_folder, options.output_folder
    files.refuse_overwriting(out, videos)
    limits = annotation_requests.RequestLimits(
        workers=options.num_workers,
        per_minute=options.per_minute,
        max_requests=options.max_requests,
        max_cost_usd=options.max_cost,
        prices_usd=options.prices and tuple(options.prices),
    )
    if options.data_root:
        data_root.stgr_files(options.data_root, "sft")  # FileNotFoundError before any request
    annotator = annotation_clients.make_annotator(options.annotator, videos, options.model, options.endpoint)
    items, errors = annotation.find_videos(videos)
    for error in errors:
        log.info("video left out: %s", error)
    with files.locked(out, LOCK_WAIT_S, "o3v annotate"):
        report = annotation_requests.RequestReport()
        answers = annotation_requests.annotate(items, annotator, out / "answers", limits, report)
        examples, dropped = annotation.read_annotations(answers)
        files.write_jsonl(out / "unread.jsonl", ({"id": row.id, "reason": row.detail} for row in dropped))
        log.info("%d rows, %d invalid answers, %d videos without an answer", len(examples), len(dropped), report.failed)
        log.info("%d requests sent, %d answers from an earlier run", report.requests, report.cached)
        if report.not_asked:
            log.info("the budget is used up: %d videos not asked; a higher one continues", report.not_asked)
        if not examples:
            stgr.write_stgr(out / "kept.json", [])
            log.info("no rows; the reasons are in %s", out / "unread.jsonl")
            return 0
        _filter_annotations(examples, videos, out, options.judge)
        if options.data_root:
            kept = stgr.read_good_rows(out / "kept.json")
            log.info("rows added in %s", data_root.add_rows(options.data_root, stgr.OWN, kept, videos))
        return 0


def _filter_annotations(examples: list[Example], videos: Path, out: Path, judge: str) -> int:
    stages = _judged_stages(videos, judge)[0] if judge else filters.MODEL_FREE_STAGES
    rows = out / "rows.jsonl"
    files.write_jsonl(rows, (e.to_row() for e in examples))
    digest = _digest(files.hash_path(rows), judge)
    shards = sharding.split_into_shards(rows, out / f"in-{digest}", JUDGED_ROWS_PER_SHARD, sources=lambda _: True)
    if bad_rows := list(files.read_jsonl(out / f"in-{digest}/faults.jsonl")):
        log.info("%d rows could not be read, the first: %s", len(bad_rows), bad_rows[0])
    return _filter_shards(shards, out / f"out-{digest}", stages, "local", workers=1)


def _judged_stages(root: Path, judge: str) -> tuple[Mapping[str, Any], list[str]]:
    """The paper's stages with a model that each process loads, and the GPUs for these processes."""
    from torch.cuda import device_count

    from o3v.models.crop_judge import LazyCropJudge

    found = find_base(judge)
    model = str(found.absolute() if isinstance(found, Path) else found)  # Ray's processes have other working folders
    stages = filters.pipeline_stages(filters.read_crops_from(root.absolute()), LazyCropJudge(model))
    return stages, visible_gpus(device_count())


def _filter_shards(
    shards: list[Path],
    filtered: Path,
    stages: Mapping[str, Any],
    engine: str,
    workers: int,
    gpus: Sequence[str] | None = None,
) -> int:
    """Filters shards, writes all rows that remain to kept.json and the counts to audit.json, and prints the counts."""
    audit = sharding.merge_reports(sharding.filter_shards(shards, filtered, stages, engine, workers, gpus))
    kept = filtered.with_name("kept.json")
    num_kept = stgr.write_stgr(kept, (e for shard in shards for e in sharding.read_shard(filtered / shard.name)))
    files.write_json(filtered.with_name("audit.json"), audit)
    log.info("%s\n%d rows kept in %s", table_text(audit), num_kept, kept)
    return 0
