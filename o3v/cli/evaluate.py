"""The command `o3v eval`: scores predictions for V-STAR and other benchmarks, makes them with a model, compares two."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from o3v import files
from o3v.cli import add_parser, number_above_0, table_text
from o3v.config import load_profile
from o3v.evaluation import benchmarks, judges, lmms, vstar_report
from o3v.evaluation.benchmark_scores import benchmark_comparison, benchmark_report
from o3v.evaluation.vstar import PROTOCOLS
from o3v.evaluation.vstar_answers import BOX_SPACES
from o3v.evaluation.vstar_items import read_items, read_rows
from o3v.evaluation.vstar_predictions import Predictions, read_predictions
from o3v.rewards.terms import rouge

log = logging.getLogger("o3v.eval")
VSTAR = "vstar"


def add_command(commands: Any) -> None:
    """Adds `eval` to the subcommands of a parser."""
    summary = "score predictions of a benchmark, with intervals; make them with a model; compare two files"
    add, file = add_parser(commands, "eval", evaluate, summary), {"type": Path, "metavar": "FILE"}
    add("predictions", **file, nargs="?", help="predictions: the public result format, or JSON lines")
    add("--benchmark", default=VSTAR, help=f"vstar (default), {', '.join(benchmarks.BENCHMARKS)}")
    add("--items", **file, help="the benchmark's own file, for V-STAR V_STaR_test.json")
    add("--protocol", choices=tuple(PROTOCOLS), default="strict", help="how V-STAR is counted (default: strict)")
    judge = {"action": "append", "default": [], "metavar": "NAME"}
    add("--judge", **judge, help="exact, rouge or a chat model; twice: agreement of two, the first counts")
    add("--endpoint", metavar="URL", help="server with the OpenAI API that has the judge (default: loads it here)")
    prices = {"nargs": 2, "type": number_above_0, "metavar": ("IN", "OUT")}
    add("--prices", **prices, help="US dollars for a million tokens of the judge's input and output")
    add("--box-space", choices=BOX_SPACES, default="video", help="how raw responses write boxes (default: video)")
    add("--compare", **file | {"metavar": ("A", "B")}, nargs=2, help="exit code 1 if B is worse than A")
    add("--model", metavar="MODEL", help="answer the items with this model first; needs --items and --videos")
    add("--server", metavar="URL", help="vLLM server that has the weights of --model: http://localhost:8000/v1")
    add("--videos", type=Path, metavar="DIR", help="folder of the videos")
    add("--profile", default="full", help="profile that sets the frames and the length of answers (default: full)")
    add("--through", choices=("lmms-eval",), help="write the command that runs --benchmark there, or read its results")
    add("--out", **file, help="write the report as JSON; with --through, folder of the command and its results")
    add("--seed", type=int, default=0, help="seed of resamples and of the random baseline (default: 0)")


def evaluate(options: Namespace) -> int:
    """Runs what the options ask for. Returns 1 if B is worse than A beyond the paired interval."""
    if options.through:
        return _through_lmms(options)
    if options.compare:
        return _compare(options)
    if not options.predictions:
        raise ValueError("name a file of predictions, or use --compare A B or --through lmms-eval")
    if options.out:
        files.refuse_overwriting(options.out, options.predictions, *([options.items] if options.items else []))
    if options.model:
        _answer(options)
    report, tables = (_vstar if options.benchmark == VSTAR else _other)(options)
    for title, rows in tables.items():
        log.info("%s\n%s\n", title, table_text(rows))
    for note in report.get("notes", []):
        log.info("* %s", note)
    _write(report, options)
    return 0


def _write(report: Mapping[str, Any], options: Namespace) -> None:
    if options.out:
        files.write_json(options.out, report)
        log.info("%s", options.out)


def _read(options: Namespace, path: Path) -> Predictions:
    items = read_items(options.items) if options.items else None
    return read_predictions(path, items, options.box_space, load_profile(options.profile).frames.max_pixels)


def _vstar(options: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    predictions = _read(options, options.predictions)
    judged = [_judged(name, predictions, options) for name in options.judge]
    if judged:
        predictions.rows = judges.with_scores(predictions.rows, judged[0].scores)
    report = vstar_report.vstar_report(predictions, options.protocol, seed=options.seed)
    tables = vstar_report.report_tables(report)
    if judged:
        names = ("judge", "asked", "cached", "failed", "unreadable", "tokens_in", "tokens_out")
        report["judges"] = [{name: getattr(one, name) for name in names} for one in judged]
        if options.prices:
            for row, one in zip(report["judges"], judged, strict=True):
                row["usd"] = one.cost_usd(*options.prices)
        tables["Judges (new verdicts; earlier ones cost nothing)"] = report["judges"]
    if len(judged) > 1:
        report["agreement"] = judges.agreement(judged[0], judged[1])
        tables["Agreement of the first two judges"] = [report["agreement"]]
    return report, tables


def _judged(name: str, predictions: Predictions, options: Namespace) -> judges.JudgeReport:
    """Verdicts of a judge, stored beside the predictions."""
    judge, workers = _judge(name, options.endpoint)
    verdicts = options.predictions.with_name(f"{options.predictions.name}.verdicts")
    return judges.judge_rows(predictions.rows, judge, verdicts if workers else None, workers or 1)


def _judge(name: str, endpoint: str | None) -> tuple[judges.Judge, int]:
    """A judge, and how many answers it judges at a time; 0 for one that needs no storage."""
    if name == "exact":
        return judges.EXACT, 0
    if name == "rouge":
        return judges.SimilarityJudge("rouge", rouge), 0
    if endpoint:
        return judges.ModelJudge(f"{name} at {endpoint}", judges.ChatEndpoint(name, endpoint)), 8
    from o3v.models.text_judge import load_chat

    return judges.ModelJudge(name, load_chat(name)), 1


def _other(options: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    items, left_out = _benchmark_items(options)
    report = benchmark_report(items, _prediction_rows(options.predictions), options.seed)
    report |= {"benchmark": options.benchmark, "rows_left_out": left_out, "notes": []}
    if paper := benchmarks.BENCHMARKS[options.benchmark].paper:
        models = "Qwen2.5-VL-7B {}, Open-o3-Video-7B {}".format(*paper)
        report["notes"].append(f"paper, table 2, per cent over the whole benchmark: {models}")
    names = list(report["overall"])
    rows = [{"items": "all", **vstar_report.interval_row(report["overall"], names)}]
    rows += [{"items": name, **vstar_report.interval_row(v, names)} for name, v in report["by_group"].items()]
    tables = {f"{options.benchmark}, 95% intervals": rows}
    if left_out:
        tables["Rows of the benchmark's file that are left out"] = [{"number": len(left_out), "first": left_out[0]}]
    if report["findings"]:
        tables["Findings"] = vstar_report.finding_rows(report["findings"])
    return report, tables


def _benchmark_items(options: Namespace) -> tuple[list[benchmarks.BenchmarkItem], list[str]]:
    if not options.items:
        raise ValueError(f"benchmark {options.benchmark!r} needs its annotation file (--items)")
    return benchmarks.read_benchmark(options.benchmark, options.items)


def _prediction_rows(path: Path) -> list[Any]:
    errors: list[str] = []
    return [*read_rows(path, errors), *errors]  # an error is no row, and is counted as unreadable


def _compare(options: Namespace) -> int:
    before, after = options.compare
    if options.benchmark == VSTAR:
        pair = _read(options, before), _read(options, after)
        report = vstar_report.comparison_report(*pair, options.protocol, options.seed)
    else:
        items, _ = _benchmark_items(options)
        report = benchmark_comparison(items, _prediction_rows(before), _prediction_rows(after))
    log.info("A %s\nB %s\n%s", before, after, table_text(vstar_report.comparison_rows(report)))
    log.info("B is worse in %s", ", ".join(report["worse"])) if report["worse"] else log.info("B is not worse")
    _write(report, options)
    return int(bool(report["worse"]))


def _answer(options: Namespace) -> None:
    """Answers the items with --model and writes the predictions."""
    if not (options.items and options.videos):
        raise ValueError("--model needs --items and --videos")
    files.refuse_overwriting(options.predictions, options.items)
    settings = load_profile(options.profile)
    items: Sequence[Any] = read_items(options.items) if options.benchmark == VSTAR else _benchmark_items(options)[0]
    from o3v import models
    from o3v.inference.benchmark_answers import answer_benchmark, answer_vstar

    answer: Callable[..., list[str]] = answer_vstar if options.benchmark == VSTAR else answer_benchmark
    frames = settings.inference.frames or settings.frames
    if options.benchmark != VSTAR:
        frames = replace(frames, n_frames=benchmarks.NUM_FRAMES)
    vlm = models.connect(options.model, options.server) if options.server else models.load(options.model)
    builder = vlm.prompt_builder(options.videos, frames)
    problems = answer(vlm, items, builder, settings.inference, options.predictions)
    for problem in problems[:5]:
        log.info("video left out: %s", problem)
    if problems:
        log.info("%d videos left out; their items count as unanswered", len(problems))


def _through_lmms(options: Namespace) -> int:
    """Writes the command to DIR/lmms_eval.sh, or prints the results that it has left there."""
    if not options.out:
        raise ValueError("--through needs --out, a folder for the command and the results")
    if rows := lmms.lmms_results(options.out):
        log.info("%s", table_text(rows))
        return 0
    if not options.model:
        raise ValueError("--through needs --model, a hub name or a folder")
    tasks_folder = lmms.TASKS_FOLDER
    if options.benchmark == VSTAR and options.items:
        read_items(options.items)
        tasks_folder = lmms.local_vstar_task(options.out / "tasks", options.items)
    command = lmms.lmms_command(options.benchmark, options.model, options.out, options.videos, tasks_folder)
    files.write_text(options.out / "lmms_eval.sh", command + "\n")
    log.info("%s\nrun %s where lmms-eval is installed, then repeat this command", command, options.out / "lmms_eval.sh")
    return 0
