"""V-STAR's questions as prompts, and its result fields from the answers.

Chain 1 asks what, when, where; chain 2 asks what, where, when. The later questions begin with a hint that contains
ground truth. Departs from the public evaluation in one place: by default *where* is asked for in the evidence grammar
instead of JSON (`json_boxes`; both are read, `vstar_answers`), and each annotated second takes the box that is claimed
nearest in time.
"""

from collections.abc import Sequence
from functools import partial

from o3v import evidence, video
from o3v.config import InferenceConfig
from o3v.data.quarantine import Quarantine
from o3v.evaluation import vstar
from o3v.evaluation.vstar import result_columns
from o3v.evaluation.vstar_answers import spatial_answer
from o3v.evaluation.vstar_items import item_boxes
from o3v.geometry import Box, rescale_box
from o3v.inference.answering import Question, answer_all
from o3v.models.vlm import VideoModel
from o3v.prompts import AS_JSON, WITH_BOX_COUNT, WITH_BOXES, WITH_SPAN, PromptBuilder, box_space_size
from o3v.schema import Row, Task, resolve_inside

UNANSWERED: Row = {"answer_vqa": "", "judge_score": 0, "answer_temporal": [], "answer_temporal_2": []}
UNANSWERED |= {"answer_temporal_pre": "", "answer_temporal_pre_2": "", "answer_spatial": {}, "answer_spatial_2": {}}
VSTAR_QUESTIONS = ("what", "when", "when_2", "where", "where_2")  # "_2": of chain 2


def vstar_questions(items: Sequence[Row], builder: PromptBuilder, json_boxes: bool = False) -> list[Question]:
    """Five questions per item, in the order of VSTAR_QUESTIONS. Keys are `<position>/<name>`.

    `json_boxes` asks *where* for JSON, as V-STAR does; its question then names the annotated seconds (chain 1). The
    video is `video_path` (`data.root.locate_items`), or `vid` without it. Raises SchemaError for one that leaves the
    root of the builder.
    """
    return [
        Question(
            f"{number}/{name}",
            resolve_inside(builder.root, item.get("video_path", item["vid"])),
            partial(builder.for_video, task, text, item.get("video_path", item["vid"])),
        )
        for number, item in enumerate(items)
        for name, (task, text) in _question_texts(item, builder, json_boxes).items()
    ]


def _question_texts(item: Row, builder: PromptBuilder, json_boxes: bool) -> dict[str, tuple[Task, str]]:
    """Task and text of the five questions of an item, by name."""
    size_wh = (item["width"], item["height"])
    space_wh = box_space_size(builder.fit(size_wh), builder.box_space)
    start_s, end_s = item["timestamps"]
    boxes = [rescale_box(box, size_wh, space_wh) for box in item_boxes(item).values()]
    listed = ", ".join("[" + ",".join(f"{side:.0f}" for side in box) + "]" for box in boxes)
    where = WITH_SPAN.format(start_s=start_s, end_s=end_s, question=item["spatial_question"])
    where_2 = WITH_BOX_COUNT.format(count=len(boxes), question=item["spatial_question_2"])
    if json_boxes:
        seconds = ", ".join(f"{second:g}" for second in item_boxes(item))
        where, where_2 = f"{where} The seconds are {seconds}. {AS_JSON}", f"{where_2} {AS_JSON}"
    return {
        "what": (Task.SPATIO_TEMPORAL, item["question"]),
        "when": (Task.TEMPORAL, item["temporal_question"]),
        "when_2": (Task.TEMPORAL, WITH_BOXES.format(boxes=listed, question=item["temporal_question"])),
        "where": (Task.SPATIO_TEMPORAL, where),
        "where_2": (Task.SPATIO_TEMPORAL, where_2),
    }


def read_vstar_answers(items: Sequence[Row], answers: Sequence[Row]) -> list[Row]:
    """The items with V-STAR's result fields, from the answers to `vstar_questions`; boxes in original pixels.

    `judge_score` is the exact judge's (`vstar.judge_exact`).
    """
    by_key = {row["key"]: row for row in answers}
    results = []
    for number, item in enumerate(items):
        if not all(f"{number}/{name}" in by_key for name in VSTAR_QUESTIONS):  # its video cannot be read
            results.append({**item, **UNANSWERED})
            continue
        rows = {name: by_key[f"{number}/{name}"] for name in VSTAR_QUESTIONS}
        parsed = {name: evidence.parse_response(row["response"]) for name, row in rows.items()}
        what = parsed["what"].final_answer
        seconds = list(item_boxes(item))
        result: Row = {"answer_vqa": what, "judge_score": vstar.judge_exact(what, item["answer"])}
        for chain in ("", "_2"):
            when, where = parsed["when" + chain], parsed["where" + chain]
            span_s = evidence.answer_span(when.answer or "")
            result["answer_temporal_pre" + chain] = when.final_answer if when.answer is None else when.text
            result["answer_temporal" + chain] = list(span_s) if span_s else []
            space_wh = rows["where" + chain]["space_wh"]
            result["answer_spatial_pre" + chain] = where.text
            result["answer_spatial" + chain] = spatial_answer(where, space_wh, item, seconds, span_given=chain == "")
        results.append({**item, **result})
    return results


def item_times_s(key: str, items: Sequence[Row]) -> list[float]:
    """The annotated seconds behind a V-STAR question; [] for the key of any other question."""
    number = key.split("/")[0]
    return list(item_boxes(items[int(number)])) if number.isdecimal() else []


def item_boxes_px(key: str, items: Sequence[Row], frames: video.Frames) -> dict[float, dict[str, list[Box]]]:
    """The annotated boxes behind a V-STAR question, by second and object, in pixels of these frames.

    {} for the key of any other question.
    """
    seconds = item_times_s(key, items)
    if not seconds:
        return {}
    item, (height, width) = items[int(key.split("/")[0])], frames.images.shape[1:3]
    size_wh = (item["width"], item["height"])
    return {
        second: {item["object"]: [rescale_box(box, size_wh, (width, height))]}
        for second, box in item_boxes(item).items()
    }


def heldout_mam(
    vlm: VideoModel,
    items: Sequence[Row],
    builder: PromptBuilder,
    config: InferenceConfig,
    quarantine: Quarantine | None = None,
) -> float:
    """mAM of the model on some items, with greedy decoding, no files. mAM: `vstar.score_items`, protocol `strict`.

    An item whose video cannot be read counts 0 (`answering.answer`).
    """
    answers = answer_all(vlm, vstar_questions(items, builder, config.json_boxes), config, quarantine)
    return result_columns(vstar.score_items(read_vstar_answers(items, answers), "strict")["overall"])["mam"]
