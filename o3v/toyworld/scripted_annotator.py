"""An annotator for synthetic videos that knows the ground truth, is imprecise, and makes a known share of mistakes.

All its boxes are loose, and some of its moments are late or early (`imprecision`). In addition, each spoiled annotation
has one mistake, of a type that large models make, so that one can count what each filter finds. The same seed spoils
the same items in the same way. It replaces the network annotator (Gemini in the paper) in the notebook and in tests.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_requests import Reply
from o3v.data.filter_report import FilterStep
from o3v.evidence import format_claim
from o3v.geometry import Box, box_iou
from o3v.processes import worker_pool
from o3v.schema import Example
from o3v.toyworld.imprecision import imprecise, row_rng
from o3v.toyworld.reasoning import described_frames
from o3v.toyworld.scene import COLORS, KINDS, Scene, make_scene, mixed_index, render
from o3v.toyworld.tasks import SOURCES, rows_of

ANNOTATED = {name: source for name, source in SOURCES.items() if source.annotated}
Annotation = dict[str, Any]


def items(split: str, seed: int, count: int, start: int = 0) -> Iterator[AnnotationItem]:
    """Yields `count` items, one of each annotated source in turn, with the events of their scenes as notes.

    The sources come in the proportions of the paper. The scenes are those that `dataset.make_dataset` uses, from
    position `start` of the split.
    """
    scenes = {name: start for name in ANNOTATED}
    for _ in range(count):
        source = min(ANNOTATED, key=lambda name: (scenes[name] - start + 0.5) / ANNOTATED[name].sft)
        scene = make_scene(split, mixed_index(split, scenes[source]), seed)
        scenes[source] += 1
        notes = tuple((*e.span_s, " ".join(filter(None, (e.subject, e.kind, e.object)))) for e in scene.events)
        path = f"videos/{split}/{scene.scene_id}.mp4"
        yield AnnotationItem(f"{scene.scene_id}-{source}", source, path, scene.duration_s, scene.fps, notes)


def render_videos(items: Iterable[AnnotationItem], root: Path | str, workers: int = 2) -> int:
    """Renders the missing videos of synthetic items below `root`, in `workers` processes. Returns how many."""
    missing = sorted({item.video_path for item in items if not (Path(root) / item.video_path).exists()})
    for path in missing:
        (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
    if missing:
        with worker_pool(workers) as pool:
            list(pool.map(_render, missing, [str(root)] * len(missing), chunksize=4))
    return len(missing)


def _render(video_path: str, root: str) -> None:
    render(_scene(video_path), Path(root) / video_path)


@dataclass(frozen=True)
class ScriptedAnnotator:
    """Annotates synthetic items from their ground truth and spoils a `share` of them, each with one of `FAULTS`.

    `precise` leaves out the imprecision: loose boxes, late and early moments.
    """

    seed: int = 0
    share: float = 0.3
    precise: bool = False
    deterministic: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """A name that identifies the annotator and its settings."""
        return f"scripted {self.seed} {self.share}{' precise' if self.precise else ''}"

    def fault(self, item: AnnotationItem) -> str | None:
        """The fault in the annotation of an item; None for a correct one."""
        rng = row_rng(item.id, self.seed)
        return str(rng.choice(list(FAULTS))) if rng.random() < self.share else None

    def __call__(self, item: AnnotationItem) -> Reply:
        """The annotation as JSON text."""
        scene, example = _scene(item.video_path), true_example(item)
        if not self.precise:
            example = imprecise(example, scene.duration_s, described_frames(scene), self.seed)
        annotation, fault, rng = _annotation(example), self.fault(item), row_rng(item.id, self.seed + 1)
        text = json.dumps(FAULTS[fault](annotation, scene, rng) if fault in FAULTS else annotation, ensure_ascii=False)
        if fault == MALFORMED:
            text = text[: int(rng.integers(20, len(text) - 1))]
        return Reply(text)


@lru_cache(maxsize=64)
def _scene(video_path: str) -> Scene:
    split, seed, number = Path(video_path).stem.rsplit("-", 2)
    return make_scene(split, int(number), int(seed))


@lru_cache(maxsize=4096)  # the notebook needs the rows of all its items several times
def _true_row(video_path: str, source: str) -> Example:
    return rows_of(_scene(video_path), [source])[0]


def true_example(item: AnnotationItem) -> Example:
    """The row that a faultless and precise annotation of the item gives."""
    return replace(_true_row(item.video_path, item.source), id=item.id)


def _annotation(row: Example) -> Annotation:
    """A row in the JSON form of an annotator's reply."""
    frames = [
        {"at": f.time_s, "objects": [{"name": n, "box": list(b)} for n, boxes in f.items.items() for b in boxes]}
        for f in row.key_frames
    ]
    return {"question": row.question, "answer": row.answer, "key_frames": frames, "reasoning": row.reasoning_process}


def _pick(annotation: Annotation, rng: np.random.Generator) -> tuple[dict, dict, str]:
    """A random key frame, one of its objects, and the object's claim in the chain."""
    frame = annotation["key_frames"][int(rng.integers(len(annotation["key_frames"])))]
    entry = frame["objects"][int(rng.integers(len(frame["objects"])))]
    return frame, entry, format_claim(entry["name"], [tuple(entry["box"])], round(frame["at"], 1))


def _rewrite(annotation: Annotation, entry: dict, claim: str, **change: Any) -> Annotation:
    """Changes the name or box of one object, both in the key frame and in the claim of the chain."""
    time_s = float(claim.rsplit("<t>", 1)[1].removesuffix("</t>s"))
    entry.update(change)
    new = format_claim(entry["name"], [tuple(entry["box"])], time_s)
    return annotation | {"reasoning": annotation["reasoning"].replace(claim, new)}


def _absent_name(annotation: Annotation, rng: np.random.Generator) -> str:
    """A name, with a random colour, of an object in none of the key frames."""
    names = {entry["name"] for frame in annotation["key_frames"] for entry in frame["objects"]}
    return next(n for n in (f"{c} {kind}" for c in rng.permutation(list(COLORS)) for kind in KINDS) if n not in names)


def _oversized(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    _, entry, claim = _pick(annotation, rng)
    sides = rng.uniform(0, 0.04, 2).round(3), rng.uniform(0.96, 1, 2).round(3)
    return _rewrite(annotation, entry, claim, box=[*sides[0].tolist(), *sides[1].tolist()])


def _shifted(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """A box moved to where it does not touch the old one; made smaller if it is too large for that."""
    _, entry, claim = _pick(annotation, rng)
    x0, y0, x1, y1 = entry["box"]
    width, height = x1 - x0, y1 - y0
    for attempt in itertools.count(1):
        if attempt % 100 == 0:
            width, height = width / 2, height / 2
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        moved: Box = tuple(round(float(v), 3) for v in (x, y, x + width, y + height))
        if box_iou(moved, entry["box"]) == 0:
            return _rewrite(annotation, entry, claim, box=list(moved))


def _wrong_name(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """A wrong colour or a wrong kind."""
    _, entry, claim = _pick(annotation, rng)
    color, kind = entry["name"].split(" ")
    if rng.random() < 0.5:
        color = str(rng.choice([c for c in COLORS if c != color]))
    else:
        kind = str(rng.choice([k for k in KINDS if k != kind]))
    return _rewrite(annotation, entry, claim, name=f"{color} {kind}")


def _wrong_time(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """A claim in the chain has a time that no key frame has."""
    _, entry, claim = _pick(annotation, rng)
    key_s = [frame["at"] for frame in annotation["key_frames"]]
    times_s = [round(n / 10, 1) for n in range(int(10 * scene.duration_s))]
    far = [time_s for time_s in times_s if all(abs(time_s - t) >= 0.5 for t in key_s)]
    time_s = far[int(rng.integers(len(far)))]
    wrong = format_claim(entry["name"], [tuple(entry["box"])], time_s)
    return annotation | {"reasoning": annotation["reasoning"].replace(claim, wrong, 1)}


def _mention_only(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The chain claims an object that no key frame has."""
    frame, entry, _ = _pick(annotation, rng)
    claim = format_claim(_absent_name(annotation, rng), [tuple(entry["box"])], round(frame["at"], 1))
    return annotation | {"reasoning": f"{annotation['reasoning']} Beside it is the {claim}."}


def _evidence_only(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """A key frame has an object that the chain does not mention."""
    frame, entry, _ = _pick(annotation, rng)
    frame["objects"].append({"name": _absent_name(annotation, rng), "box": list(entry["box"])})
    return annotation


def _truncated(annotation: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The chain ends in the middle of a claim."""
    ends = [match.end() for match in re.finditer("<box>", annotation["reasoning"])]
    cut = ends[int(rng.integers(len(ends)))] + int(rng.integers(1, 9))
    return annotation | {"reasoning": annotation["reasoning"][:cut]}


def precision(examples: Iterable[Example], items: Iterable[AnnotationItem]) -> list[dict[str, float]]:
    """How precise annotated boxes and moments are: one entry for each box whose object has a true box in the row.

    `iou` is the IoU with the true box nearest in time, `late_s` its time minus the true time in seconds.
    """
    truth = {item.id: true_example(item) for item in items}
    found = []
    for example in examples:
        for frame in example.key_frames:
            for name, boxes in frame.items.items():
                true = [(key.time_s, key.items[name][0]) for key in truth[example.id].key_frames if name in key.items]
                if true:
                    time_s, box = min(true, key=lambda entry: abs(entry[0] - frame.time_s))
                    found += [{"iou": box_iou(other, box), "late_s": frame.time_s - time_s} for other in boxes]
    return found


MALFORMED, UNMENTIONED = "malformed JSON", "evidence without mention"
FAULTS: dict[str, Callable[[Annotation, Scene, np.random.Generator], Annotation]] = {
    "oversized box": _oversized,
    "shifted box": _shifted,
    "wrong name": _wrong_name,
    "wrong time": _wrong_time,
    "mention without evidence": _mention_only,
    UNMENTIONED: _evidence_only,
    "truncated chain": _truncated,
    MALFORMED: lambda annotation, scene, rng: annotation,
}


def count_faults(
    faults: Mapping[str, str | None], unread_ids: Iterable[str], steps: Sequence[FilterStep]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Counts by which stage the rows of each fault are stopped, and how many correct rows are kept.

    A row that is dropped counts for the first stage that removes a part of it. A row with an unmentioned box counts for
    the stage that removes the box.

    Args:
        faults: the fault of each row by its id, None for correct rows.
        unread_ids: ids of replies that could not be parsed as annotations; their stage is "reading".
        steps: the results of the filters, in order.

    Returns:
        For each fault the counts by stage, with "rows" in all and "missed" ones; for the correct rows the counts "rows"
        and "kept".
    """
    kept_ids = {example.id for example in steps[-1].result.kept}
    stages = dict.fromkeys(unread_ids, "reading")
    for step in steps:
        for drop in step.result.dropped:
            if drop.id not in kept_ids or faults[drop.id] == UNMENTIONED:
                stages.setdefault(drop.id, step.stage)
    table: dict[str, dict[str, int]] = {}
    for row_id, fault in faults.items():
        if fault:
            counts = table.setdefault(fault, {"rows": 0, "missed": 0})
            counts["rows"] += 1
            stage = stages.get(row_id, "missed")
            counts[stage] = counts.get(stage, 0) + 1
    correct_ids = [row_id for row_id, fault in faults.items() if fault is None]
    return table, {"rows": len(correct_ids), "kept": sum(row_id in kept_ids for row_id in correct_ids)}
