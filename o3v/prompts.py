"""What the model is told: one system prompt a task, the frame prompt, and the answer to learn.

A prompt is a conversation with one image part for each frame, every frame preceded by its absolute time, as the
method asks. Boxes leave the schema (0–1, or pixels of the original picture) and enter the model's own space
here, and only here: pixels of the resized frame for Qwen2.5-VL, thousandths for Qwen3-VL. Knows nothing of
models; departs from the paper in wording only (our words).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from o3v import evidence, video
from o3v.config import FrameConfig
from o3v.geometry import Box, Size, Span, rescale_box, span_on_frames
from o3v.schema import Example, Row, Task, resolve_inside

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


# what a model is asked about a crop of its own evidence (paper, test-time scaling, in our words)
RELEVANCE = "Question: {question}\nHow relevant is the picture to the question? Only output one of 0, 1, 2."

# how a question tells more than it asks, as V-STAR's chains do
WITH_SPAN = "Look from {start_s:.1f}s to {end_s:.1f}s. {question}"
WITH_BOX_COUNT = "Give {count} boxes. {question}"
WITH_BOXES = "The boxes are {boxes}. {question}"

# what one unit of a model's box coordinates means: the size to which the whole frame is mapped
BOX_SPACES: Mapping[str, Size | None] = {"pixels": None, "thousandths": (1000, 1000)}


@dataclass(frozen=True)
class Prompt:
    """A question as the model gets it.

    `messages` is a conversation whose image parts stand for `images`, in order: a list of (height, width, 3) uint8
    arrays. `times_s` are the frames' true times and `duration_s` the video's length (empty and 0 for a picture).
    `space_wh` is the size in whose units the model writes boxes; `row` is the STGR row for the rewards, its
    `image_size` set to that size. `response_prefix` is how the response begins, for the model to go on from.
    """

    messages: list[dict[str, Any]]
    images: list[np.ndarray]
    times_s: tuple[float, ...]
    space_wh: Size
    row: Row
    duration_s: float = 0.0
    response_prefix: str = ""


def box_space_size(frame_wh: Size, box_space: str) -> Size:
    """The size in whose units a model of this `box_space` writes boxes on a frame of this size."""
    return BOX_SPACES[box_space] or frame_wh


def frame_parts(times_s: Sequence[float], duration_s: float) -> list[dict[str, Any]]:
    """Image parts of a video, each after its absolute time, then the length of the whole. Source: paper, input."""
    parts: list[dict[str, Any]] = []
    for number, time_s in enumerate(times_s, 1):
        parts += [{"type": "text", "text": f"Frame {number} at {time_s:.1f}s: "}, {"type": "image"}]
        parts += [{"type": "text", "text": "\n"}]
    return [*parts, {"type": "text", "text": f"The video is in total {duration_s:.1f} seconds.\n"}]


def conversation(task: Task, question: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The two messages of a question: the task's system prompt, then pictures and question."""
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPTS[task]}]},
        {"role": "user", "content": [*parts, {"type": "text", "text": question}]},
    ]


def plain_prompt(images: Sequence[np.ndarray], times_s: Sequence[float], duration_s: float, question: str) -> Prompt:
    """A question without a task: about frames (height, width, 3) with these times, or about one picture without."""
    parts = frame_parts(times_s, duration_s) if times_s else [{"type": "image"}]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
    height, width = images[0].shape[:2]
    return Prompt(messages, list(images), tuple(times_s), (width, height), {}, duration_s)


def select_frames(prompt: Prompt, kept: Sequence[int]) -> Prompt:
    """The same question about some of its video's frames, by their positions from 0, numbered anew."""
    times_s = tuple(prompt.times_s[i] for i in kept)
    *before, last = prompt.messages
    content = [*frame_parts(times_s, prompt.duration_s), last["content"][-1]]
    messages = [*before, {**last, "content": content}]
    return replace(prompt, messages=messages, images=[prompt.images[i] for i in kept], times_s=times_s)


def video_prompt(
    task: Task, question: str, path: Path | str, frames: FrameConfig, box_space: str, key_times_s: Sequence[float] = ()
) -> Prompt:
    """A question about a video file. Key frames are inserted among the uniform ones (training only, paper).

    Raises FileNotFoundError or video.VideoError.
    """
    read = video.sample_with_key_frames(path, frames.n_frames, key_times_s, frames.max_pixels, max_fps=frames.max_fps)
    height, width = read.images.shape[1:3]
    space_wh = box_space_size((width, height), box_space)
    messages = conversation(task, question, frame_parts(read.times_s, read.duration_s))
    row: Row = {"task": str(task), "question": question, "image_size": list(space_wh)}
    times_s = tuple(float(t) for t in read.times_s)
    return Prompt(messages, list(read.images), times_s, space_wh, row, read.duration_s)


def example_prompt(example: Example, root: Path | str, frames: FrameConfig, box_space: str, training: bool) -> Prompt:
    """The prompt of an STGR row; `root` is the folder its paths start from.

    `training` inserts the annotated key frames; at inference they are absent.
    """
    path = resolve_inside(root, example.media_path)
    if example.task is Task.SPATIAL:
        image, original_wh = video.read_image(path, frames.max_pixels)
        space_wh = box_space_size((image.shape[1], image.shape[0]), box_space)
        sizes = {"image_size": list(original_wh), "image_size_refine": list(space_wh)}
        messages = conversation(example.task, _told(example.question, space_wh), [{"type": "image"}])
        return Prompt(messages, [image], (), space_wh, example.to_row() | sizes)
    key_times_s = [k.time_s for k in example.key_frames] if training else []
    prompt = video_prompt(example.task, example.question, path, frames, box_space, key_times_s)
    question = _told(example.question, prompt.space_wh)
    if question != example.question:
        messages = conversation(example.task, question, frame_parts(prompt.times_s, prompt.duration_s))
        prompt = replace(prompt, messages=messages, row=prompt.row | {"question": question})
    return replace(prompt, row=example.to_row() | prompt.row)


def _told(question: str, space_wh: Size) -> str:
    """The question with the boxes that it tells (tagged, 0–1) in the model's space, without their tags."""
    return re.sub("</?box>", "", evidence.map_boxes(question, lambda box: _rounded(box, (1, 1), space_wh)))


def _rounded(box: Box, from_wh: Size, space_wh: Size) -> Box:
    return tuple(float(round(v)) for v in rescale_box(box, from_wh, space_wh))  # type: ignore[return-value]


def target_text(example: Example, space_wh: Size) -> str:
    """The response to learn from an STGR row: chain and answer in the grammar, boxes in the model's space.

    Raises ValueError when the row has no `reasoning_process`.
    """
    if example.reasoning_process is None:
        raise ValueError(f"row {example.id!r} has no reasoning_process, so there is nothing to imitate")
    chain_from = example.image_size_wh if example.task is Task.SPATIAL else None

    def to_space(box: Box) -> Box:
        from_wh = chain_from if chain_from and max(box) > 1 else (1, 1)
        return _rounded(box, from_wh, space_wh)

    think = evidence.map_boxes(example.reasoning_process, to_space)
    return evidence.format_response(think, ANSWERS[example.task](example, to_space))


def snap_to_frames(example: Example, times_s: Sequence[float], duration_s: float) -> Example:
    """The row with the times of its moments and span moved to frames that are shown, at `times_s`.

    The span begins with the first frame in it and ends with the first after it (`span_on_frames`); a moment of it
    stays in it. Rows of other tasks, whose claims stand in key frames, are returned as they are. Ours: a model of few
    parameters can copy the time of a frame, and hardly ever put one between two.
    """
    if example.task not in (Task.TEMPORAL, Task.TEMPORAL_MCQ):
        return example
    span_s = _span(example)
    inside = [t for t in times_s if span_s[0] <= t < span_s[1]]

    def nearest(time_s: float) -> float:
        shown = inside if span_s[0] <= time_s <= span_s[1] else times_s
        return round(min(shown or times_s, key=lambda t: abs(t - time_s)), 1)

    start_s, end_s = span_on_frames(span_s, times_s, duration_s)
    before = example.answer.rsplit("[", 1)[0]
    chain = example.reasoning_process
    return replace(
        example,
        answer=f"{before}[{start_s:.1f}, {end_s:.1f}]",
        reasoning_process=chain and evidence.map_times(chain, nearest),
    )


def _span(example: Example) -> Span:
    try:
        start_s, end_s = (float(v) for v in example.answer.rsplit("[", 1)[1].rstrip("] \n").split(","))
    except (ValueError, IndexError):
        raise ValueError(f"row {example.id!r}: answer {example.answer!r:.60} has no span [start, end]") from None
    return start_s, end_s


def _span_answer(example: Example) -> str:
    return evidence.format_span(*_span(example))


ANSWERS = {
    Task.TEMPORAL: lambda example, to_space: _span_answer(example),
    Task.TEMPORAL_MCQ: lambda example, to_space: f"{_span_answer(example)}\nCorrect Option: {example.answer[0]}",
    Task.SPATIAL: lambda example, to_space: evidence.map_boxes(example.answer, to_space),
    Task.SPATIO_TEMPORAL: lambda example, to_space: example.answer,
    Task.MCQ: lambda example, to_space: example.answer,
    Task.FREE_FORM: lambda example, to_space: example.answer,
}
