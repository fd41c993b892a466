"""Answers the items of a benchmark with a model and writes its predictions; a killed run continues where it stopped.

V-STAR gets its five questions an item (`vstar_protocol`), the other benchmarks one (`evaluation.benchmarks`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from o3v import files, video
from o3v.config import InferenceConfig
from o3v.data.root import find_video, videos_by_name
from o3v.evaluation.benchmarks import BenchmarkItem
from o3v.inference.answering import Question, answer
from o3v.inference.vstar_protocol import read_vstar_answers, vstar_questions
from o3v.models.vlm import VideoModel
from o3v.prompts import PromptBuilder
from o3v.schema import Row, Task


def find_videos(root: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The path below `root` of each video (`data.root.find_video`).

    Also names the videos that do not exist or cannot be opened, with the reason.
    """
    by_name, found, problems = videos_by_name(root), {}, []
    for name in dict.fromkeys(names):
        try:
            path = find_video(root, name, by_name)
            video.probe(root / path)
            found[name] = path
        except (OSError, video.VideoError) as error:
            problems.append(f"{name}: {error}")
    return found, problems


def answer_vstar(
    vlm: VideoModel, items: Sequence[Row], builder: PromptBuilder, config: InferenceConfig, out: Path
) -> list[str]:
    """Answers V-STAR's questions, writes the items with results to `out` (JSON lines). Returns the videos left out."""
    paths, problems = find_videos(builder.root, [item["vid"] for item in items])
    mine = [item for item in items if item["vid"] in paths]
    questions = vstar_questions(
        [item | {"video_path": paths[item["vid"]]} for item in mine], builder, config.json_boxes
    )
    _answer_and_write(vlm, questions, builder, config, out, partial(read_vstar_answers, mine))
    return problems


def answer_benchmark(
    vlm: VideoModel, items: Sequence[BenchmarkItem], builder: PromptBuilder, config: InferenceConfig, out: Path
) -> list[str]:
    """Answers one question an item and writes rows with key and response to `out`. Returns the videos left out."""
    paths, problems = find_videos(builder.root, [item.video for item in items])
    questions = [
        Question(
            item.key,
            builder.root / paths[item.video],
            partial(builder.for_video, _task(item), item.question, paths[item.video]),
        )
        for item in items
        if item.video in paths
    ]
    _answer_and_write(vlm, questions, builder, config, out, lambda rows: [_prediction(row) for row in rows])
    return problems


def _task(item: BenchmarkItem) -> Task:
    return Task.TEMPORAL if item.span_s else Task.MCQ if item.letters else Task.FREE_FORM


def _prediction(row: Mapping[str, object]) -> Row:
    return {"key": row["key"], "response": row["response"]}


def _answer_and_write(
    vlm: VideoModel,
    questions: Sequence[Question],
    builder: PromptBuilder,
    config: InferenceConfig,
    out: Path,
    read: Callable[[list[Row]], list[Row]],
) -> None:
    """Answers with finished batches in a folder beside `out`, named by what determines them."""
    if not questions:
        raise FileNotFoundError(f"none of the videos was found below {builder.root}")
    decoding = {name: value for name, value in asdict(config).items() if name != "num_workers"}
    settings = [str(vlm.model.name_or_path), asdict(builder.frames), decoding, [q.key for q in questions]]
    digest = hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()[:12]
    parts = out.with_name(f"{out.name}.parts") / digest
    if out.exists() and not parts.is_dir():
        raise FileExistsError(f"{out} exists and is not of this model and these settings; choose another file")
    parts.mkdir(parents=True, exist_ok=True)
    files.write_jsonl(out, read(answer(vlm, questions, config, parts)))
