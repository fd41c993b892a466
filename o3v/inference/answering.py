"""Asking a model: many questions in batches, answers kept on disk as they come.

Also training questions with the rewards of their answers, and the questions of V-STAR and the reading of theirs. The
scores are those of `rewards` and `vstar`. Departs from the public evaluation in one place: "where" is answered in the
evidence grammar, not as JSON, and each annotated second takes the claimed box nearest in time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from o3v import evidence, files, video
from o3v.config import FrameConfig, InferenceConfig
from o3v.geometry import rescale_box
from o3v.models.vlm import VideoModel, batches, generate
from o3v.prompts import Prompt, example_prompt, video_prompt
from o3v.rewards.grounded import RewardConfig, format_score, score_completion
from o3v.schema import Example, Row, Task, rows_to_jsonl

MAX_QUESTION_CHARS = 4_000  # characters


@dataclass(frozen=True)
class Question:
    """Something to ask: `key` names it in the answers, `path` is its video, read by `make` when its turn comes."""

    key: str
    path: Path
    make: Callable[[], Prompt]


def answer(
    vlm: VideoModel, questions: Sequence[Question], config: InferenceConfig, out: Path, name: str = "answering"
) -> list[Row]:
    """Greedy responses, in order: rows of `key`, `response`, `times_s`, `space_wh`, `row`.

    Each finished batch is a file in the folder `out`; asked again with the same folder, only what is missing is
    generated. The batches, and so the answers, are the same either way.
    """
    answers: list[Row] = []
    slices = list(batches(questions, config.batch_size))
    for number, batch in enumerate(tqdm(slices, desc=name, mininterval=2)):
        part = out / f"{name}_{number:05d}.jsonl"
        if not part.exists():
            files.write_text(part, rows_to_jsonl(answer_batch(vlm, batch, config)))
        answers += [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
    return answers


def answer_batch(vlm: VideoModel, batch: Sequence[Question], config: InferenceConfig) -> list[Row]:
    prompts = [question.make() for question in batch]
    texts = generate(vlm, prompts, config.max_new_tokens)
    return [
        {"key": q.key, "response": t, "times_s": list(p.times_s), "space_wh": list(p.space_wh), "row": p.row}
        for q, p, t in zip(batch, prompts, texts, strict=True)
    ]


def score_examples(
    vlm: VideoModel,
    examples: Sequence[Example],
    root: Path,
    frames: FrameConfig,
    config: InferenceConfig,
    reading: RewardConfig,
    out: Path,
    name: str = "rewards",
) -> list[Row]:
    """Training questions answered greedily and scored as at the end of training (progress 1), in order: rows of `id`,
    `task`, `response`, every term (None where it does not apply) and `total`. Kept in `out` as by `answer`."""
    ask = functools.partial(example_prompt, root=root, frames=frames, box_space=vlm.box_space, training=True)
    asked = [Question(e.id, root / e.media_path, functools.partial(ask, e)) for e in examples]
    return [
        {"id": told["key"], "task": told["row"]["task"], "response": told["response"]}
        | score_completion(told["response"], told["row"], 1.0, reading)
        for told in answer(vlm, asked, config, out, name)
    ]


def check_question(question: str) -> None:
    """Raises ValueError for an empty or endless question."""
    if not question.strip():
        raise ValueError("the question is empty")
    if len(question) > MAX_QUESTION_CHARS:
        raise ValueError(f"the question has {len(question):,} characters; at most {MAX_QUESTION_CHARS:,} are asked")


def file_questions(path: str, question: str, frames: FrameConfig, box_space: str) -> list[Question]:
    """A question about any video file; none when `path` is empty. ValueError for an empty or endless question."""
    if not path:
        return []
    check_question(question)
    ask = functools.partial(video_prompt, Task.SPATIO_TEMPORAL, question, path, frames, box_space)
    return [Question(Path(path).name, Path(path), ask)]


def response_in_frames(row: Row, frames: video.Frames) -> evidence.Response:
    """An answer's response with its boxes in pixels of these frames, for drawing."""
    height, width = frames.images.shape[1:3]
    to_px = functools.partial(rescale_box, from_wh=row["space_wh"], to_wh=(width, height))
    same = tuple(row["space_wh"]) == (width, height)
    return evidence.parse_response(row["response"] if same else evidence.map_boxes(row["response"], to_px))


def format_rate(answers: Sequence[Row]) -> float:
    """Share of answers whose response keeps the grammar and holds the evidence that its task asks for."""
    return sum(format_score(row["response"], row["row"]["task"]) == 1.0 for row in answers) / len(answers)
