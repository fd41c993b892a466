"""V-STAR's questions as prompts, and the reading of their answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

from o3v import evidence, video
from o3v.config import FrameConfig, InferenceConfig
from o3v.evaluation import vstar
from o3v.evidence import ANSWER_LINE
from o3v.geometry import Box, fit_size, rescale_box
from o3v.inference.answering import Question, answer_batch
from o3v.models.vlm import VideoModel, batches
from o3v.prompts import WITH_BOX_COUNT, WITH_BOXES, WITH_SPAN, Prompt, box_space_size, video_prompt
from o3v.schema import Row, Task

# V-STAR's questions. Chain 1 asks what, when, where; chain 2 what, where, when: each later one is told more, in plain
# words before the question.
VSTAR_QUESTIONS = ("what", "when", "when_2", "where", "where_2")


def vstar_questions(items: Sequence[Row], root: Path, frames: FrameConfig, box_space: str) -> list[Question]:
    """Five questions an item, in the order of VSTAR_ASKS; keys are `<position>/<ask>`."""
    return [
        Question(
            f"{number}/{ask}", root / item["vid"], functools.partial(_vstar_prompt, item, ask, root, frames, box_space)
        )
        for number, item in enumerate(items)
        for ask in VSTAR_QUESTIONS
    ]


def _vstar_prompt(item: Row, ask: str, root: Path, frames: FrameConfig, box_space: str) -> Prompt:
    size_wh = (item["width"], item["height"])
    space_wh = box_space_size(fit_size(size_wh, frames.max_pixels), box_space)
    start_s, end_s = item["timestamps"]
    boxes = [rescale_box(box, size_wh, space_wh) for box in vstar.item_boxes(item).values()]
    listed = ", ".join("[" + ",".join(f"{side:.0f}" for side in box) + "]" for box in boxes)
    told = {
        "what": (Task.SPATIO_TEMPORAL, item["question"]),
        "when": (Task.TEMPORAL, item["temporal_question"]),
        "when_2": (Task.TEMPORAL, WITH_BOXES.format(boxes=listed, question=item["temporal_question"])),
        "where": (
            Task.SPATIO_TEMPORAL,
            WITH_SPAN.format(start_s=start_s, end_s=end_s, question=item["spatial_question"]),
        ),
        "where_2": (Task.SPATIO_TEMPORAL, WITH_BOX_COUNT.format(count=len(boxes), question=item["spatial_question_2"])),
    }
    task, question = told[ask]
    return video_prompt(task, question, root / item["vid"], frames, box_space)


def read_vstar_answers(items: Sequence[Row], answers: Sequence[Row]) -> list[Row]:
    """The items with V-STAR's result fields, from the answers to `vstar_questions`; boxes in original pixels.

    `judge_score` is the scripted judge's. Of a response without an answer section the last line counts as the
    answer.
    """
    by_key = {row["key"]: row for row in answers}
    read = []
    for number, item in enumerate(items):
        row = {ask: by_key[f"{number}/{ask}"] for ask in VSTAR_QUESTIONS}
        said = {ask: evidence.parse_response(row[ask]["response"]) for ask in VSTAR_QUESTIONS}
        what = (_concluded(said["what"]) if said["what"].answer is None else said["what"].answer).strip()
        seconds = list(vstar.item_boxes(item))
        result: Row = {"answer_vqa": what, "judge_score": vstar.judge_exact(what, item["answer"])}
        for chain in ("", "_2"):
            span = evidence.answer_span(said["when" + chain].answer or "")
            result["answer_temporal_pre" + chain] = _concluded(said["when" + chain])
            result["answer_temporal" + chain] = list(span) if span else []
            where = said["where" + chain], row["where" + chain]["space_wh"]
            result["answer_spatial" + chain] = spatial_answer(*where, item, seconds, told_when=chain == "")
        read.append({**item, **result})
    return read


def _concluded(response: evidence.Response) -> str:
    return response.text if response.answer is not None else response.text.rstrip().rsplit(ANSWER_LINE, 1)[-1]


def spatial_answer(
    response: evidence.Response, space_wh: Sequence[int], item: Row, seconds: Sequence[float], told_when: bool
) -> dict[str, list[float]]:
    """A box (original pixels) for each of the annotated seconds: the one claimed nearest in time.

    A model that was not told when (chain 2) answers only for the seconds from its first to its last claim. Claims
    that name the item's object count; when none does, all count. Empty without claims.
    """
    timed = [claim for claim in response.claims if claim.time_s is not None and claim.boxes]
    claims = [claim for claim in timed if claim.name.strip().lower() == item["object"].strip().lower()] or timed
    if not claims:
        return {}
    times = [claim.time_s for claim in claims]
    found = {}
    for second in seconds:
        if told_when or math.floor(min(times)) <= second <= math.ceil(max(times)):
            nearest = min(claims, key=lambda claim, at=second: abs(claim.time_s - at))
            box = rescale_box(nearest.boxes[0], space_wh, (item["width"], item["height"]))
            found[f"{second:g}"] = [round(v, 2) for v in box]
    return found


def item_boxes_px(key: str, items: Sequence[Row], frames: video.Frames) -> dict[float, dict[str, list[Box]]]:
    """The annotated boxes behind a V-STAR question, by second and name, in pixels of these frames; {} for any other."""
    number = key.split("/")[0]
    if not number.isdecimal():
        return {}
    item, (height, width) = items[int(number)], frames.images.shape[1:3]
    size_wh = (item["width"], item["height"])
    return {
        second: {item["object"]: [rescale_box(box, size_wh, (width, height))]}
        for second, box in vstar.item_boxes(item).items()
    }


def result_columns(metrics: vstar.Metrics) -> dict[str, float]:
    """The columns of the result table from one block of `vstar.score_items`; tIoU and vIoU as means of both chains."""
    means = {name: math.fsum(metrics[name]) / 2 for name in ("m_tiou", "m_viou")}
    return {"accuracy": metrics["accuracy"], **means, "mam": metrics["mam"], "mlgm": metrics["mlgm"]}


def heldout_mam(
    vlm: VideoModel, items: Sequence[Row], root: Path, frames: FrameConfig, config: InferenceConfig
) -> float:
    """mAM of the model on some items, greedily, nothing kept on disk. mAM: `vstar.score_items`, protocol `fixed`."""
    asked = vstar_questions(items, root, frames, vlm.box_space)
    answers = [row for batch in batches(asked, config.batch_size) for row in answer_batch(vlm, batch, config)]
    return result_columns(vstar.score_items(read_vstar_answers(items, answers), "fixed")["overall"])["mam"]
