"""The commands beside `run`: `o3v check-data`, `sift`, `annotate`, `score`, `ask`. Thin: each says what its module
found."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

log = logging.getLogger("o3v.data")
Options = argparse.Namespace


def add_to(commands: Any) -> None:
    """Adds the commands to a parser's subcommands."""
    data = commands.add_parser("check-data", help="hold STGR files to their videos")
    data.set_defaults(command=check_data)
    data.add_argument("root", type=Path, metavar="ROOT", help="folder that the rows' paths start from")
    data.add_argument("files", type=Path, nargs="*", metavar="FILE", help="STGR files (default: ROOT/*.json, *.jsonl)")
    data.add_argument("--allow-missing", action="store_true", help="drop rows with problems instead of failing")
    data.add_argument("--out", type=Path, metavar="DIR", help="write the rows without problems there")
    data.add_argument("--export", metavar="FORMAT", help="write them as trl, swift or llama-factory instead")
    data.add_argument("--workers", type=int, default=2, help="processes that open videos (default: 2)")

    sift = commands.add_parser("sift", help="run the filters that need no model over an STGR file")
    sift.set_defaults(command=sift_rows)
    sift.add_argument("file", type=Path, metavar="FILE", help="an STGR file")
    sift.add_argument("out", type=Path, metavar="DIR", help="where shards and the kept rows go; goes on where it was")
    sift.add_argument("--engine", default="local", help="local (processes) or ray (default: local)")
    sift.add_argument("--workers", type=int, default=2, help="processes (default: 2)")

    score = commands.add_parser("score", help="reward completions from anywhere, term by term")
    score.set_defaults(command=score_file)
    score.add_argument("file", type=Path, metavar="FILE", help="a line each: completion (or response), row, progress")
    score.add_argument(
        "--reading", default="paper", choices=("paper", "official"), help="whose reward (default: paper)"
    )
    score.add_argument("--progress", type=float, default=1.0, help="share of training done, where a line has none")
    score.add_argument("--out", type=Path, metavar="FILE", help="write the terms of each line there, as JSONL")

    ask = commands.add_parser("annotate", help="annotate a folder of videos with a large model, and filter")
    ask.set_defaults(command=annotate_videos)
    ask.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of videos")
    ask.add_argument("out", type=Path, metavar="DIR", help="where answers and rows go; goes on where it was")
    ask.add_argument("--annotator", default="gemini", help="gemini or openai (any server of its protocol)")
    ask.add_argument("--model", default="", help="the annotator's model")
    ask.add_argument("--endpoint", default="", metavar="URL", help="the server, where it is not the service's own")
    ask.add_argument("--per-minute", type=float, default=60.0, help="most requests a minute (default: 60)")
    ask.add_argument("--workers", type=int, default=8, help="requests at a time (default: 8)")
    ask.add_argument("--judge", default="", metavar="MODEL", help="model that verifies crops and sentences")

    about = commands.add_parser("ask", help="ask a model about a video: the answer with its evidence, and a page of it")
    about.set_defaults(command=ask_video)
    about.add_argument("video", type=Path, metavar="VIDEO", help="a video file")
    about.add_argument("question", metavar="QUESTION")
    about.add_argument("--model", type=Path, metavar="DIR", help="a trained model (default: the newest of runs/)")
    about.add_argument("--profile", default="tiny", help="how many frames of which size (default: tiny)")
    about.add_argument("--out", type=Path, metavar="FILE", help="the page (default: VIDEO's name with .html, here)")


def one_line(command: Callable[[Options], int]) -> Callable[[Options], int]:
    """Errors of use as one line and exit code 2."""

    @wraps(command)
    def told(options: Options) -> int:
        try:
            return command(options)
        except (OSError, ValueError, ImportError) as error:
            sys.stderr.write(f"o3v: {' '.join(str(error).split())}\n")
            return 2

    return told


@one_line
def check_data(options: Options) -> int:
    """A table a source, the first offenders, and what was dropped. 1 with problems."""
    from o3v import files, schema
    from o3v.data import stgr
    from o3v.data.check import check_file, good_rows
    from o3v.data.export import export_rows

    paths = options.files or sorted(p for p in options.root.glob("[!.]*") if p.suffix in (".json", ".jsonl"))
    if not options.root.is_dir() or not paths:
        raise FileNotFoundError(f"{options.root} is no folder with .json or .jsonl files; name the files")
    bad = 0
    for path in paths:
        found, media = check_file(options.root, path, options.workers)
        log.info("%s\n%s\n", path, aligned(found.table(media)))
        for kind, cases in found.offenders.items():
            count = sum(source.problems[kind] for source in found.sources.values())
            log.info("%s, %d rows:\n  %s\n", kind, count, "\n  ".join(cases))
        bad += len(found.bad)
        if options.out and options.export:
            rows = schema.rows_to_jsonl(export_rows(good_rows(path, found), options.export))
            files.write_text(options.out / f"{path.stem}.{options.export}.jsonl", rows)
        elif options.out:
            stgr.write_stgr(options.out / f"{path.stem}.json", good_rows(path, found))
    if bad:
        log.info("%d rows %s", bad, "dropped" if options.allow_missing else "have problems; --allow-missing drops them")
    return 1 if bad and not options.allow_missing else 0


@one_line
def sift_rows(options: Options) -> int:
    """Shards in DIR/in, sifted ones in DIR/out, all kept rows in DIR/kept.json, the audit in DIR/audit.json."""
    from o3v.data import filters, sharding

    paths = sharding.split_into_shards(options.file, options.out / "in")
    done = sharding.filter_shards(
        paths, options.out / "out", filters.MODEL_FREE_STAGES, options.engine, options.workers
    )
    faults = (options.out / "in" / "faults.jsonl").read_text(encoding="utf-8").splitlines()
    log.info("%d rows could not be read; they stand in %s", len(faults), options.out / "in" / "faults.jsonl")
    return finish(options.out, [options.out / "out" / path.name for path in paths], sharding.merge_reports(done))


@one_line
def annotate_videos(options: Options) -> int:
    """Answers in DIR/answers, unreadable ones in DIR/unread.jsonl, then as `sift_rows`."""
    from o3v import files, schema
    from o3v.data import annotation, annotation_clients, annotation_requests, filters, sharding

    items, unreadable = annotation.find_videos(options.videos)
    for line in unreadable:
        log.info("left out: %s", line)
    chosen = annotation_clients.make_annotator(options.annotator, options.videos, options.model, options.endpoint)
    pace, report = (
        annotation_requests.RequestLimits(options.workers, options.per_minute),
        annotation_requests.RequestReport(),
    )
    said = annotation_requests.annotate(items, chosen, options.out / "answers", pace, report)
    examples, unread = annotation.read_annotations(said)
    lines = (json.dumps({"id": d.id, "reason": d.detail}, ensure_ascii=False) + "\n" for d in unread)
    files.write_text(options.out / "unread.jsonl", "".join(lines))
    log.info("%d rows, %d answers that are none, %d items without an answer", len(examples), len(unread), report.failed)
    log.info("asked %d times, %d answers kept from before", report.asked, report.cached)
    stages: Mapping[str, Any] = filters.MODEL_FREE_STAGES
    if options.judge:
        from o3v import models
        from o3v.models import crop_judge

        stages = filters.pipeline_stages(
            filters.read_crops_from(options.videos), crop_judge.CropJudge(models.load(options.judge), batch_size=8)
        )
    rows = options.out / "rows.jsonl"
    files.write_text(rows, schema.rows_to_jsonl(e.to_row() for e in examples))
    key = hashlib.sha256(f"{files.hash_path(rows)} {options.judge}".encode()).hexdigest()[:8]  # of these answers
    paths = sharding.split_into_shards(rows, options.out / f"in-{key}", rows=64, sources=lambda _: True)
    out = options.out / f"out-{key}"
    done = sharding.filter_shards(paths, out, stages, workers=1)
    return finish(options.out, [out / path.name for path in paths], sharding.merge_reports(done))


@one_line
def score_file(options: Options) -> int:
    """The mean of each term by task; each completion's own terms go to `--out`."""
    from o3v import files, schema
    from o3v.rewards.grounded import RewardConfig, score_completion

    config, scored = getattr(RewardConfig, options.reading)(), []
    for number, line in enumerate(options.file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            said = json.loads(line)
            text = said["completion"] if "completion" in said else said["response"]
            terms = score_completion(text, said["row"], said.get("progress", options.progress), config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{options.file}, line {number}: needs completion and row ({error})") from None
        except ValueError as error:
            raise ValueError(f"{options.file}, line {number}: {error}") from None
        scored.append({"task": said["row"]["task"], **terms})
    if options.out:
        files.write_text(options.out, schema.rows_to_jsonl(scored))
    log.info("%s", aligned([_means(task, scored) for task in dict.fromkeys(line["task"] for line in scored)]))
    return 0


def _means(task: str, scored: list[dict[str, Any]]) -> dict[str, object]:
    """The mean of each term over the completions of a task to which it applies."""
    lines = [line for line in scored if line["task"] == task]
    values = {name: [line[name] for line in lines if line[name] is not None] for name in lines[0] if name != "task"}
    means = {name: f"{sum(found) / len(found):.3f}" if found else "–" for name, found in values.items()}
    return {"task": task, "n": len(lines), **means}


@one_line
def ask_video(options: Options) -> int:
    """The answer and its claims as text, the whole as one HTML file that needs no network."""
    from o3v import files, inference, models, video
    from o3v.config import load_profile
    from o3v.viz import trace

    settings = load_profile(options.profile)
    inference.check_question(options.question)  # before weights are read
    video.probe(options.video)
    made = sorted(Path("runs").glob("*/03_gspo/checkpoint"), key=lambda path: path.stat().st_mtime)
    if not options.model and not made:
        raise FileNotFoundError("no trained model in runs/; make one (make reproduce) or name one with --model")
    vlm = models.load(options.model or made[-1])
    (asked,) = inference.file_questions(str(options.video), options.question, settings.frames, vlm.box_space)
    prompt = asked.make()
    (text,) = models.generate(vlm, [prompt], settings.inference.max_new_tokens)
    sampling = (settings.frames.n_frames, settings.frames.max_pixels)
    frames = video.sample_frames(options.video, *sampling, max_fps=settings.frames.max_fps)
    response = inference.response_in_frames({"response": text, "space_wh": prompt.space_wh}, frames)
    log.info("%s", text if response.answer is None else response.answer)
    for claim in response.claims:
        when = "" if claim.time_s is None else f" at {claim.time_s:g} s"
        log.info("  %s %s%s", claim.name, " ".join(str([round(v) for v in box]) for box in claim.boxes), when)
    if response.problems:
        log.info("  malformed: %s", ", ".join(dict.fromkeys(problem.kind for problem in response.problems)))
    page = options.out or Path(f"{options.video.stem}.html")
    body = trace.trace_html(frames, response, options.question)
    if settings.pretrain:
        body += (
            "<p>This model has only ever seen the synthetic world; of other films it says what it knows from there.</p>"
        )
    files.write_text(page, trace.html_page(body, options.question))
    log.info("%s", page)
    return 0


def finish(out: Path, paths: Iterable[Path], audit: list[dict[str, Any]]) -> int:
    """Writes all kept rows and the audit, and shows it."""
    from o3v import files
    from o3v.data import sharding, stgr

    kept = stgr.write_stgr(out / "kept.json", (e for path in paths for e in sharding.read_shard(path)))
    files.write_json(out / "audit.json", audit)
    log.info("%s\n%d rows kept in %s", aligned(audit), kept, out / "kept.json")
    return 0


def aligned(rows: Sequence[Mapping[str, object]]) -> str:
    """A table as text, columns aligned."""
    lines = [[str(name) for name in rows[0]], *([str(v) for v in row.values()] for row in rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
