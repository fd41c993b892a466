"""Turns facts of synthetic scenes into rows of the six STGR tasks and into V-STAR items.

Each synthetic source replaces one source of STGR. It fixes the task, the weight in each split, and the families of
facts. Chains have claims in the tasks that need evidence, times in the temporal tasks, and neither in the general ones.
The questions are ours, not the paper's. This module does not know files on disk.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from o3v.data.sources import source_of
from o3v.evidence import format_box, format_object
from o3v.geometry import Box, rescale_box
from o3v.prompts import WITH_BOX_COUNT, WITH_BOXES, WITH_SPAN
from o3v.schema import Example, KeyFrame, Row, Task
from o3v.toyworld.narration import BEFORE_OPTIONS, describe_image, mark_option, positions
from o3v.toyworld.questions import image_facts, time_facts, video_facts
from o3v.toyworld.reasoning import box_of, chain_of, snapped, span_of, watch
from o3v.toyworld.scene import Scene
from o3v.toyworld.scene_view import Fact
from o3v.video.frames import uniform_indices

LETTERS = "ABCD"
MAX_SECONDS = 12  # number of annotated seconds in an eval item
_EVENTS = ("first", "last", "leaves", "stays", "after", "before", "deed", "way", "meet", "pass", "swap")
_RELATIONS = ("longest", "with", "already")
_WITH_EVIDENCE = (*_EVENTS, *_RELATIONS, "color", "thing")
_APPEARANCES = ("color", "thing", "where", "side")
_GENERAL = (*_APPEARANCES, "count", "place")  # asked without evidence; questions about what happens need evidence


@dataclass(frozen=True)
class Source:
    """A synthetic source that replaces one of STGR's sources.

    `sft` and `rl` are the numbers of rows of the STGR source in thousands (paper), `stands_for` is its name there.
    `families` are the families of facts, `max_share` is the longest span of a fact as a share of the video, and
    `mostly` is the family that comes first when a scene has it. The SFT rows of an `annotated` source come from the
    annotation pipeline.
    """

    task: Task
    sft: float
    rl: float
    stands_for: str
    families: tuple[str, ...] = ()
    max_share: float = 1.0
    mostly: str = ""
    annotated: bool = False


SOURCES: Mapping[str, Source] = {
    "synth_tvg": Source(Task.TEMPORAL, 4.1, 0, "TVG-Coldstart"),
    "synth_timerft": Source(Task.TEMPORAL, 0, 2.3, "Time-R1"),
    "synth_tvg_rl": Source(Task.TEMPORAL_MCQ, 0, 2.9, "TVG-RL", _WITH_EVIDENCE, 0.7),
    "synth_treevgr": Source(Task.SPATIAL, 5, 0, "TreeVGR-SFT"),
    "synth_gqa": Source(Task.SPATIAL, 0, 5, "VisCoT/GQA"),
    "synth_str_tg": Source(
        Task.SPATIO_TEMPORAL, 3.9, 3.9, "own, temporal grounding", _WITH_EVIDENCE, 0.5, annotated=True
    ),
    "synth_str_plm": Source(
        Task.SPATIO_TEMPORAL, 2, 2, "own, PLM-Rdcap", ("color", "thing", "track"), mostly="track", annotated=True
    ),
    "synth_videoespresso": Source(
        Task.SPATIO_TEMPORAL, 0, 5, "VideoEspresso", (*_EVENTS, *_RELATIONS, *_APPEARANCES, "track")
    ),
    "synth_videor1_mcq": Source(Task.MCQ, 13, 13, "Video-R1, MCQ", _GENERAL),
    "synth_videor1_free_form": Source(Task.FREE_FORM, 2, 2, "Video-R1, free-form", _GENERAL),
}
EVAL_SOURCE = Source(Task.SPATIO_TEMPORAL, 0, 0, "V-STAR", _WITH_EVIDENCE, 0.6)
MIN_EVAL_SHARE = 0.15  # of the video: shortest span of an eval item


def paper_name(source: str, split: str) -> str:
    """The paper's name for a source of STGR, or for the one that a synthetic source stands for; else the name itself.

    >>> paper_name("synth_gqa", "rl"), paper_name("gqa", "rl"), paper_name("own", "sft")
    ('VisCoT/GQA', 'VisCoT/GQA', 'own')
    """
    if source in SOURCES:
        return SOURCES[source].stands_for
    found = source_of(source, split)
    return found.label if found else source


def annotated_rows(total: int) -> int:
    """How many of `total` SFT rows the annotation pipeline gives, by the paper's numbers of rows.

    >>> annotated_rows(30_000)
    5900
    """
    of_pipeline = sum(source.sft for source in SOURCES.values() if source.annotated)
    return round(total * of_pipeline / sum(source.sft for source in SOURCES.values()))


def rows_of(scene: Scene, sources: Iterable[str] = SOURCES) -> list[Example]:
    """All rows of a scene in those of `sources` that its split has (`eval` has all), with the families mixed.

    All rows have a chain, even where the real files have none. Boxes in chains are 0–1 with three decimals, but pixels
    in `visual QA`; times have one decimal. Images and key frames are named by scene and frame number.
    """
    facts = {Task.TEMPORAL: time_facts(scene), Task.SPATIAL: image_facts(scene)}
    of_video = video_facts(scene)
    rows = []
    for name in sources:
        source = SOURCES[name]
        if getattr(source, scene.split, True):
            fitting = facts.get(source.task) or _fitting(scene, of_video, source)
            rows += [_row(scene, name, fact) for fact in _mixed(scene, name, fitting, source.mostly)]
    return rows


def eval_item(scene: Scene) -> Row | None:
    """A V-STAR item about one object of a scene: what, when and where. None when no question fits.

    Boxes are in pixels, one for each whole second of the span, or for `MAX_SECONDS` evenly spread ones of a longer
    span. The domain is the place.
    """
    fits = (f for f in _fitting(scene, video_facts(scene), EVAL_SOURCE) if _share(scene, f) >= MIN_EVAL_SHARE)
    fact = next(_mixed(scene, "eval", fits), None)
    seconds = _whole_seconds(fact, scene) if fact else []
    if not seconds:
        return None
    width, height = scene.size_wh
    boxes = [scene.boxes_at(second * scene.fps)[fact.subject] for second in seconds]
    corners = [[round(v) for v in rescale_box(box, (1, 1), scene.size_wh)] for box in boxes]
    keys = ("xmin", "ymin", "xmax", "ymax")
    return {
        "vid": scene.scene_id,
        "domain": scene.background.place.capitalize(),
        "fps": scene.fps,
        "width": width,
        "height": height,
        "frame_count": scene.n_frames,
        "question": fact.question,
        "chain": chain_of(scene, fact),
        "object": fact.subject,
        "answer": fact.answer,
        "temporal_question": f"When does the {fact.subject} {fact.action}?"
        if fact.action
        else f"When is the {fact.subject} visible?",
        "timestamps": [round(moment, 3) for moment in fact.span_s],
        "spatial_question": f"Where is the {fact.subject}?",
        "spatial_question_2": f"Follow the {fact.subject}: where is it?",
        "bboxes": [
            {"timestamp": second, "frame_index": second * scene.fps, **dict(zip(keys, box, strict=True))}
            for second, box in zip(seconds, corners, strict=True)
        ],
    }


def _whole_seconds(fact: Fact, scene: Scene) -> list[int]:
    seconds = range(math.ceil(fact.span_s[0]), math.ceil(fact.span_s[1]))
    return [seconds[i] for i in uniform_indices(len(seconds), MAX_SECONDS)]


def _share(scene: Scene, fact: Fact) -> float:
    return (fact.span_s[1] - fact.span_s[0]) / scene.duration_s


def _fitting(scene: Scene, facts: Iterable[Fact], source: Source) -> list[Fact]:
    return [f for f in facts if f.family in source.families and _share(scene, f) <= source.max_share]


def _mixed(scene: Scene, name: str, facts: Iterable[Fact], mostly: str = "") -> Iterator[Fact]:
    """Facts in random order: all of the family `mostly`, then one of each family, then the second of each, …"""
    rng = np.random.default_rng(list(hashlib.sha256(f"{scene.scene_id}/{name}".encode()).digest()[:16]))
    families: dict[str, list[Fact]] = {}
    for fact in facts:
        families.setdefault(fact.family, []).append(fact)
    groups = [families[family] for family in rng.permutation(sorted(families)).tolist()]
    groups = [[group[i] for i in rng.permutation(len(group))] for group in groups]
    yield from (fact for group in groups for fact in group if fact.family == mostly)
    groups = [group for group in groups if group[0].family != mostly]
    for turn in range(max(map(len, groups), default=0)):
        yield from (group[turn] for group in groups if turn < len(group))


def _row(scene: Scene, name: str, fact: Fact) -> Example:
    task, digest = SOURCES[name].task, hashlib.sha256(f"{scene.scene_id}/{name}/{fact.question}".encode())
    row_id = "-".join((scene.scene_id, name, fact.family.replace(" ", "-"), digest.hexdigest()[:6]))
    place = digest.digest()[-1] % len(LETTERS)  # index of the correct option: all letters are equally likely
    return Example(row_id, task, name, **_ROW_FIELDS[task](scene, fact, place))


def _temporal(scene: Scene, fact: Fact, place: int) -> Row:
    question = fact.question
    if place < 2:  # as in V-STAR's second chain: the question follows the boxes
        boxes = [format_box(box_of(scene, fact.subject, second * scene.fps)) for second in _whole_seconds(fact, scene)]
        question = WITH_BOXES.format(boxes=", ".join(boxes), question=question) if boxes else question
    return _on_video(scene, question, fact.answer, f"{watch(scene).look(fact)}. {span_of(scene, fact)}.")


def _temporal_mcq(scene: Scene, fact: Fact, place: int) -> Row:
    question = f"{fact.question} And {'when does this happen' if fact.action else 'when can it be seen'}?"
    question, chain, letter = _with_options(scene, question, fact, place)
    answer = f"{letter}\n[{fact.span_s[0]:.1f}, {fact.span_s[1]:.1f}]"
    return _on_video(scene, question, answer, f"{chain}. {span_of(scene, fact)}.")


def _mcq(scene: Scene, fact: Fact, place: int) -> Row:
    question, chain, letter = _with_options(scene, fact.question, fact, place)
    return _on_video(scene, question, letter, chain)


def _free_form(scene: Scene, fact: Fact, place: int) -> Row:
    return _on_video(scene, fact.question, fact.answer, chain_of(scene, fact, claimed=False))


def _spatio_temporal(scene: Scene, fact: Fact, place: int) -> Row:
    fact = snapped(scene, fact)
    items: dict[int, dict[str, tuple[Box, ...]]] = {}
    for name, frame in fact.shown:
        items.setdefault(frame, {})[name] = (box_of(scene, name, frame),)
    key_frames = tuple(
        KeyFrame(frame, round(scene.frame_time_s(frame), 3), _path("kfs", scene, "jpg", frame), items[frame])
        for frame in sorted(items)
    )
    question = fact.question
    if fact.family == "track" and place == 1:  # the spatial question of V-STAR's first chain
        question = WITH_SPAN.format(start_s=fact.span_s[0], end_s=fact.span_s[1], question=question)
    elif fact.family == "track" and place > 1:  # and of its second chain
        question = WITH_BOX_COUNT.format(count=len(_whole_seconds(fact, scene)), question=question)
    return _on_video(scene, question, fact.answer, chain_of(scene, fact)) | {"key_frames": key_frames}


def _visual(scene: Scene, fact: Fact, place: int) -> Row:
    frame = fact.shown[0][1]
    boxes, claims = scene.boxes_at(frame), {}
    for name, _ in fact.shown:
        box_px = rescale_box(boxes[name], (1, 1), scene.size_wh)
        claims[name] = format_object(name, tuple(round(v) for v in box_px))
    entries = [f"{name} {positions(boxes, (1, 1))[name]} {claim}" for name, claim in claims.items()]
    return {
        "question": fact.question,
        "answer": claims[fact.subject],
        "reasoning_process": f"{describe_image(boxes, (1, 1), fact.question)}. {fact.chain.format(*entries)}",
        "image_path": _path("images", scene, "jpg", frame),
        "image_size_wh": scene.size_wh,
    }


_ROW_FIELDS: Mapping[Task, Callable[[Scene, Fact, int], Row]] = {
    Task.TEMPORAL: _temporal,
    Task.TEMPORAL_MCQ: _temporal_mcq,
    Task.SPATIAL: _visual,
    Task.SPATIO_TEMPORAL: _spatio_temporal,
    Task.MCQ: _mcq,
    Task.FREE_FORM: _free_form,
}


def _on_video(scene: Scene, question: str, answer: str, chain: str) -> Row:
    path = _path("videos", scene, "mp4")
    return {"question": question, "answer": answer, "reasoning_process": chain, "video_path": path}


def _with_options(scene: Scene, question: str, fact: Fact, place: int) -> tuple[str, str, str]:
    """The question followed by four options, the correct one at index `place`; the chain followed by the marked
    options; the correct letter."""
    options = list(fact.wrong[: len(LETTERS) - 1])
    options.insert(place, fact.answer)
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    chain = f"{chain_of(scene, fact, claimed=False)}{BEFORE_OPTIONS}{fact.answer}. {mark_option(lines, place)}"
    return "\n".join([question, *lines]), chain, LETTERS[place]


def _path(folder: str, scene: Scene, ending: str, frame: int | None = None) -> str:
    return f"{folder}/{scene.split}/{scene.scene_id}{'' if frame is None else f'-{frame}'}.{ending}"
