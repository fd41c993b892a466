"""The commands `o3v score` and `ask`. They call the package and print its results."""

import json
import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from o3v import files, video
from o3v.cli import FILE, FOLDER, add_parser, table_text
from o3v.config import load_profile
from o3v.evidence import open_think, problem_shares
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import score_completion
from o3v.runner.shipped import shipped_path
from o3v.schema import Task

log = logging.getLogger("o3v.answers")
TOY_PARAMETERS = 50_000_000  # the toy model has 3 million, the smallest real ones have some hundred million
TOY_NOTE = (
    "This is the toy model. It was trained on synthetic videos and knows coloured shapes only; about a video of the "
    "real world its answer means nothing. Name a real model with --model FOLDER --profile full, where FOLDER is "
    "for example a download of Qwen/Qwen2.5-VL-7B-Instruct or your trained checkpoint."
)


def add_commands(commands: Any) -> None:
    """Adds the commands of this module to the subcommands of a parser."""
    add = add_parser(commands, "score", score_file, "compute the reward of completions, with all its terms")
    add("completions_file", **FILE, help="JSON lines with completion (or response), row, progress")
    add("--reading", choices=("paper", "official"), default="paper", help="whose reward to compute (default: paper)")
    add("--progress", default=1.0, type=float, help="share of training done, for lines without it (default: 1.0)")
    add("--out", dest="terms_file", **FILE, help="write the terms of each completion as JSON lines")

    add = add_parser(commands, "ask", ask_video, "answer a question about a video, with evidence and an HTML page")
    add("video", type=Path, metavar="VIDEO", help="video file")
    add("question", metavar="QUESTION", help="question about the video")
    add("--model", dest="model_folder", **FOLDER, help="trained model (default: newest in runs/, else the shipped one)")
    add("--profile", default="tiny", help="profile that sets number and size of the frames (default: tiny)")
    add("--out", dest="page", **FILE, help="HTML page (default: name of VIDEO with .html, and a number if it exists)")


def score_file(options: Namespace) -> int:
    """Prints the mean of each reward term by task and the shares of format problems. `--out` gets all terms.

    A completion that only closes its thinking gets the opening tag from the prompt of a thinking model. Lines
    that cannot be scored are listed and left out; returns 1 if there are any, and raises ValueError if no line remains.
    """
    config, path = getattr(RewardConfig, options.reading)(), options.completions_file
    scores, completions, errors = [], [], []
    if options.terms_file:
        files.refuse_overwriting(options.terms_file, path)
    for number, line in files.read_jsonl(path, errors):
        try:
            completion = open_think(line["completion"] if "completion" in line else line["response"])
            terms = score_completion(completion, line["row"], _progress(line, options.progress), config)
            json.dumps(terms, allow_nan=False)  # ValueError for NaN
            scores.append({"task": line["row"]["task"], **terms})
            completions.append(completion)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError, RecursionError) as error:
            errors.append(f"{path}, line {number}: no valid completion and row: {error!r:.300}")
    if not scores:
        raise ValueError(errors[0] if errors else f"{path} holds no completions")
    if options.terms_file:
        with files.as_private_as(path):
            files.write_jsonl(options.terms_file, scores)
        files.sweep(options.terms_file.parent)
    log.info("%s", table_text([_mean_terms(task, scores) for task in dict.fromkeys(s["task"] for s in scores)]))
    problems = [f"{kind} {share:.1%}" for kind, share in problem_shares(completions).items()]
    log.info("completions with format problems: %s", ", ".join(problems) or "none")
    for error in errors:
        log.info("left out: %s", error)
    return int(bool(errors))


def _progress(line: Mapping[str, Any], default: float) -> float:
    value = line.get("progress", default)
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"field 'progress' is {value!r:.40}, not a share of training done, 0–1")
    return value


def _mean_terms(task: str, scores: list[dict[str, Any]]) -> dict[str, object]:
    """Returns the mean of each term over the completions of a task to which the term applies."""
    rows = [score for score in scores if score["task"] == task]
    values = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0] if name != "task"}
    return {"task": task, "n": len(rows)} | {name: sum(v) / len(v) if v else None for name, v in values.items()}


def ask_video(options: Namespace) -> int:
    """Prints the answer and its claims, and writes an HTML page that needs no network."""
    from o3v import inference, models
    from o3v.viz import trace

    settings = load_profile(options.profile)
    inference.check_question(options.question)  # before the model is loaded
    video.probe(options.video)
    folder = options.model_folder or _newest_model()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; --model takes the folder of a trained model")
    if options.page:
        files.refuse_overwriting(options.page, options.video, folder)
    vlm = models.load(folder)
    builder = vlm.prompt_builder(Path(), settings.frames)
    prompt = builder.for_video(Task.SPATIO_TEMPORAL, options.question, options.video)
    (text,) = models.generate(vlm, [prompt], settings.inference.max_new_tokens)
    frames = builder.read_frames(options.video)
    response = inference.response_in_frames({"response": text, "space_wh": prompt.space_wh}, frames)
    toy = sum(weights.numel() for weights in vlm.model.parameters()) < TOY_PARAMETERS
    if toy:
        log.info("%s\n", TOY_NOTE)
    log.info("%s", response.final_answer)
    for claim in response.claims:
        time = "" if claim.time_s is None else f" at {claim.time_s:g} s"
        log.info("  %s %s%s", claim.name, " ".join(str([round(v) for v in box]) for box in claim.boxes), time)
    if response.problems:
        log.info("  malformed: %s", ", ".join(dict.fromkeys(problem.kind for problem in response.problems)))
    body = trace.trace_html(frames, trace.ShownResponse(response), options.question)
    if toy:
        body = f'<p role="note" style="border:2px solid #B00020;padding:8px 12px">{TOY_NOTE}</p>{body}'
    page = options.page or files.free_path(Path(f"{options.video.stem}.html"))
    files.write_text(page, trace.html_page(body, options.question))
    files.sweep(page.parent)
    log.info("%s", page)
    return 0


def _newest_model() -> Path:
    """The newest model in runs/, or the shipped one."""
    checkpoints = sorted(Path("runs").glob("*/03_gspo/checkpoint"), key=lambda path: path.stat().st_mtime)
    return checkpoints[-1] if checkpoints else shipped_path("03_gspo/checkpoint")
