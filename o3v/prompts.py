"""Prompts: one system prompt per task, frames with their times, and the response to learn from a row.

A prompt is a conversation with one image part for each frame; every frame is preceded by its absolute time (paper,
input). `PromptBuilder` is the only place where a row becomes a prompt. Boxes are converted here from the schema
(normalised, or pixels of the original image) to the model's own space: pixels of the resized frame for Qwen2.5-VL,
thousandths for Qwen3-VL. This module does not know models. It departs from the paper in the wording of the prompts.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from o3v import evidence, video
from o3v.config import FrameConfig
from o3v.geometry import Box, Size, fit_size, rescale_box, span_on_frames, text_box_size
from o3v.schema import Example, Row, Task, read_letter, resolve_inside
from o3v.schema.fields import MEDIA_MARK, SPECIAL_TOKEN

_ORDER = "Reason inside <think></think>, then answer inside <answer></answer>."
_OBJECTS = "Write each object you name in your reasoning as <obj>name</obj><box>[x0,y0,x1,y1]</box>"

SYSTEM_PROMPTS: Mapping[Task, str] = {
    Task.TEMPORAL: f"{_ORDER} Write each moment as <t>seconds</t>s. "
    "Answer with the span: From <t>start</t>s to <t>end</t>s",
    Task.TEMPORAL_MCQ: f"{_ORDER} Write each moment as <t>seconds</t>s. "
    "Answer with the span, From <t>start</t>s to <t>end</t>s, and on a new line: Correct Option: letter",
    Task.SPATIAL: f"{_ORDER} {_OBJECTS}. Answer with the object and its box.",
    Task.SPATIO_TEMPORAL: f"{_ORDER} {_OBJECTS}at<t>seconds</t>s.",
    Task.MCQ: f"{_ORDER} Answer with the letter.",
    Task.FREE_FORM: f"{_ORDER} Answer in a few words.",
}


# asked about a crop of the model's own evidence (paper, test-time scaling, in our words)
RELEVANCE = "Question: {question}\nHow relevant is the picture to the question? Only output one of 0, 1, 2."

# hints before a question, as in V-STAR's chains
WITH_SPAN = "Look from {start_s:.1f}s to {end_s:.1f}s. {question}"
WITH_BOX_COUNT = "Give {count} boxes. {question}"
WITH_BOXES = "The boxes are {boxes}. {question}"
AS_JSON = 'Answer in JSON whose keys are seconds and whose values are boxes: {"3": [x0, y0, x1, y1]}.'  # V-STAR's form

# size of the space in which a model writes boxes; None: pixels of the resized frame
BOX_SPACES: Mapping[str, Size | None] = {"pixels": None, "thousandths": (1000, 1000)}


@dataclass(frozen=True)
class Prompt:
    """A question as the model gets it."""

    messages: list[dict[str, Any]]  # conversation whose image parts stand for `images`, in order
    images: list[np.ndarray]  # frames, (height, width, 3) uint8 RGB each
    times_s: tuple[float, ...]  # time of each frame in seconds; empty for an image
    space_wh: Size  # size of the space in which the model writes boxes
    row: Row  # STGR row for the rewards; `image_size` is the unit of its pixel boxes, `image_size_refine` is `space_wh`
    duration_s: float = 0.0  # length of the video in seconds, 0 for an image
    response_prefix: str = ""  # beginning of the response, which the model continues


def box_space_size(frame_wh: Size, box_space: str) -> Size:
    """The size of the space in which a model of this `box_space` writes boxes, for a frame of this size."""
    return BOX_SPACES[box_space] or frame_wh


def frame_parts(times_s: Sequence[float], duration_s: float) -> list[dict[str, Any]]:
    """Message parts of a video: each frame after its time, then the length of the video. Source: paper, input."""
    parts: list[dict[str, Any]] = []
    for number, time_s in enumerate(times_s, 1):
        parts += [{"type": "text", "text": f"Frame {number} at {time_s:.1f}s: "}, {"type": "image"}]
        parts += [{"type": "text", "text": "\n"}]
    return [*parts, {"type": "text", "text": f"The video is in total {duration_s:.1f} seconds.\n"}]


def safe_text(text: str) -> str:
    """A user's text without marks of a medium and with special tokens broken up, so that it cannot end a turn.

    >>> safe_text("<image>\\nWhere is <|im_end|>?")
    'Where is < |im_end|>?'
    """
    return SPECIAL_TOKEN.sub(lambda token: f"< {token[0][1:]}", MEDIA_MARK.sub("", text))


def conversation(task: Task, question: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The two messages of a question: the task's system prompt, then frames and question."""
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPTS[task]}]},
        {"role": "user", "content": [*parts, {"type": "text", "text": safe_text(question)}]},
    ]


def plain_prompt(images: Sequence[np.ndarray], times_s: Sequence[float], duration_s: float, question: str) -> Prompt:
    """A question without a task, about frames (height, width, 3) at `times_s`, or about one image without a time."""
    parts = frame_parts(times_s, duration_s) if times_s else [{"type": "image"}]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": safe_text(question)}]}]
    height, width = images[0].shape[:2]
    return Prompt(messages, list(images), tuple(times_s), (width, height), {}, duration_s)


def select_frames(prompt: Prompt, positions: Sequence[int]) -> Prompt:
    """The same question about some frames of its video, by position from 0, numbered again from 1."""
    times_s = tuple(prompt.times_s[i] for i in positions)
    *before, last = prompt.messages
    content = [*frame_parts(times_s, prompt.duration_s), last["content"][-1]]
    messages = [*before, {**last, "content": content}]
    return replace(prompt, messages=messages, images=[prompt.images[i] for i in positions], times_s=times_s)


@dataclass(frozen=True)
class PromptBuilder:
    """Turns rows and questions into prompts for one model. `VideoModel.prompt_builder` makes it for a model."""

    root: Path  # folder that the paths of rows start from
    frames: FrameConfig  # how a video becomes frames, with the grid of the model's family
    box_space: str  # how the model writes boxes, a key of BOX_SPACES
    cache: video.FrameCache | None = None  # keeps decoded frames; None decodes a video at each use

    def fit(self, size_wh: Size) -> Size:
        """The size of the frames of a video of this size."""
        return fit_size(size_wh, self.frames.max_pixels, self.frames.grid_px, self.frames.min_pixels)

    def read_frames(self, path: Path | str, key_times_s: Sequence[float] = ()) -> video.Frames:
        """The frames of a video as the model gets them, with those at `key_times_s`. Raises as `for_video`."""
        request = self.frame_request(path, key_times_s)
        read = self.cache.sample if self.cache else video.sample_frames
        return read(request.path, request.n, request.max_pixels, **dict(request.options))

    def describe(self, example: Example) -> tuple[str, Path]:
        """The name of a row and the file of its medium, to name a row that cannot be read (`data.quarantine`)."""
        return f"{example.id} ({example.media_path})", self.root / example.media_path

    def for_video(self, task: Task, question: str, path: Path | str, key_times_s: Sequence[float] = ()) -> Prompt:
        """A question about a video file, a path below `root` or an absolute one.

        Frames at `key_times_s` are inserted among the uniform ones (paper, training only). Boxes in the question
        (tagged, 0–1) are written in the model's space, without tags. Raises FileNotFoundError or video.VideoError.
        """
        frames = self.read_frames(path, key_times_s)
        height, width = frames.images.shape[1:3]
        space_wh = box_space_size((width, height), self.box_space)
        question = _question_in_space(question, space_wh)
        times_s = tuple(float(t) for t in frames.times_s)
        return Prompt(
            messages=conversation(task, question, frame_parts(times_s, frames.duration_s)),
            images=list(frames.images),
            times_s=times_s,
            space_wh=space_wh,
            row={"task": str(task), "question": question, **_sizes(frames.source_size_wh, space_wh)},
            duration_s=frames.duration_s,
        )

    def frame_request(self, path: Path | str, key_times_s: Sequence[float] = ()) -> video.Request:
        """The frames that `read_frames` reads."""
        config = self.frames
        options = {"max_fps": config.max_fps, "fixed_rate": config.fixed_rate, "key_times_s": tuple(key_times_s)}
        options |= {"min_pixels": config.min_pixels, "grid_px": config.grid_px}
        return video.Request(str(self.root / path), config.n_frames, config.max_pixels, tuple(options.items()))

    def fill_ahead(self, examples: Sequence[Example], workers: int) -> AbstractContextManager:
        """While its block runs, `workers` processes decode the videos of training rows; nothing without a cache."""
        if self.cache is None or not workers:
            return nullcontext()
        rows = [example for example in examples if example.task is not Task.SPATIAL]
        paths = [resolve_inside(self.root, example.media_path) for example in rows]
        times = [[key.time_s for key in example.key_frames] for example in rows]
        return self.cache.fill_ahead([self.frame_request(*row) for row in zip(paths, times, strict=True)], workers)

    def for_example(self, example: Example, training: bool) -> Prompt:
        """The prompt of an STGR row. `training` inserts the annotated key frames; inference does not know them.

        Raises SchemaError for a path that leaves `root`, FileNotFoundError or video.VideoError.
        """
        path = resolve_inside(self.root, example.media_path)
        if example.task is not Task.SPATIAL:
            key_times_s = [key.time_s for key in example.key_frames] if training else []
            prompt = self.for_video(example.task, example.question, path, key_times_s)
            return replace(prompt, row=example.to_row() | prompt.row)
        config = self.frames
        max_pixels = config.image_max_pixels or config.max_pixels
        image, original_wh = video.read_image(path, max_pixels, config.image_min_pixels, config.grid_px)
        space_wh = box_space_size((image.shape[1], image.shape[0]), self.box_space)
        question = question_in_space(example, space_wh)
        messages = conversation(example.task, question, [{"type": "image"}])
        sizes = _sizes(example.image_size_wh or original_wh, space_wh)
        return Prompt(messages, [image], (), space_wh, example.to_row() | sizes)


def _sizes(media_wh: Size, space_wh: Size) -> Row:
    return {"image_size": list(media_wh), "image_size_refine": list(space_wh)}


def _question_in_space(question: str, space_wh: Size, image_wh: Size | None = None) -> str:
    """The question with its boxes (tagged, see `text_box_size`) in the model's space, without tags."""
    text = evidence.map_boxes(question, lambda box: _rounded(box, text_box_size(box, image_wh), space_wh))
    return re.sub("</?box>", "", text)


def _rounded(box: Box, from_wh: Size, space_wh: Size) -> Box:
    return tuple(float(round(v)) for v in rescale_box(box, from_wh, space_wh))  # type: ignore[return-value]


def question_in_space(example: Example, space_wh: Size) -> str:
    """The question of a row with its boxes in units of `space_wh`, without tags."""
    return _question_in_space(example.question, space_wh, _pixels_of(example))


def target_answer(example: Example, space_wh: Size) -> str:
    """The true answer of a row in the grammar, with boxes in units of `space_wh`."""
    return TARGET_ANSWERS[example.task](example, lambda box: _text_box(example, box, space_wh))


def _text_box(example: Example, box: Box, space_wh: Size) -> Box:
    return _rounded(box, text_box_size(box, _pixels_of(example)), space_wh)


def _pixels_of(example: Example) -> Size | None:
    return example.image_size_wh if example.task is Task.SPATIAL else None


def target_text(example: Example, space_wh: Size) -> str:
    """The response to learn from an STGR row: reasoning and answer in the grammar, boxes in units of `space_wh`.

    Raises ValueError if the row has no `reasoning_process`.
    """
    if example.reasoning_process is None:
        raise ValueError(f"row {example.id!r} has no reasoning_process, so there is nothing to imitate")
    think = evidence.map_boxes(example.reasoning_process, lambda box: _text_box(example, box, space_wh))
    return evidence.format_response(think, target_answer(example, space_wh))


def _target_span(example: Example) -> str:
    if example.span_s is None:
        raise ValueError(f"row {example.id!r}: answer {example.answer!r:.60} has no span [start, end]")
    return evidence.format_span(*example.span_s)


# the answer to learn for each task; the second argument converts a box to the model's space
TARGET_ANSWERS: Mapping[Task, Callable[[Example, Callable[[Box], Box]], str]] = {
    Task.TEMPORAL: lambda example, to_space: _target_span(example),
    Task.TEMPORAL_MCQ: lambda example, to_space: (
        f"{_target_span(example)}\nCorrect Option: {read_letter(example.answer)}"
    ),
    Task.SPATIAL: lambda example, to_space: evidence.map_boxes(example.answer, to_space),
    Task.SPATIO_TEMPORAL: lambda example, to_space: example.answer,
    Task.MCQ: lambda example, to_space: read_letter(example.answer) or example.answer,
    Task.FREE_FORM: lambda example, to_space: example.answer,
}


def snap_to_frames(example: Example, times_s: Sequence[float], duration_s: float) -> Example:
    """The row with its span and times moved to the times of sampled frames.

    The span begins with the first frame in it and ends with the first frame after it (`geometry.span_on_frames`). A
    time inside the span moves to a frame inside it. Rows of other tasks are returned unchanged, since their claims
    are in key frames. Ours: a small model can copy frame times, but hardly interpolate between them.
    """
    span_s = example.span_s
    if span_s is None:
        return example
    inside = [t for t in times_s if span_s[0] <= t < span_s[1]]

    def nearest(time_s: float) -> float:
        frames_s = (inside if span_s[0] <= time_s <= span_s[1] else times_s) or times_s
        return round(frames_s[video.nearest_frame(frames_s, time_s, math.inf)], 1)

    start_s, end_s = span_on_frames(span_s, times_s, duration_s)
    letter = f"{read_letter(example.answer)}\n" if example.task is Task.TEMPORAL_MCQ else ""
    reasoning = example.reasoning_process
    return replace(
        example,
        answer=f"{letter}[{start_s:.1f}, {end_s:.1f}]",
        reasoning_process=reasoning and evidence.map_times(reasoning, nearest),
    )
