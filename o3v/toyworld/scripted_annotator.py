"""The scripted annotator: annotations of synthetic films from their truth, a known share of them spoiled.

It makes the mistakes that large models make, one an annotation, so that what each filter finds can be counted. The
same seed spoils the same items in the same way. Stands in for a network annotator in the notebook and in tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_requests import Reply
from o3v.data.filter_report import FilterStep
from o3v.evidence import format_claim
from o3v.geometry import Box, box_iou
from o3v.schema import Example, Task
from o3v.toyworld.scene import COLORS, KINDS, Scene, make_scene, render
from o3v.toyworld.tasks import rows_of

SOURCE = "synth_str_tg"
Annotation = dict[str, Any]


def items(split: str, seed: int, numbers: range) -> Iterator[AnnotationItem]:
    """One item for each scene, with what happens in it as notes."""
    for number in numbers:
        scene = make_scene(split, number, seed)
        notes = tuple((*e.span_s, " ".join(filter(None, (e.subject, e.kind, e.object)))) for e in scene.events)
        path = f"videos/{split}/{scene.scene_id}.mp4"
        yield AnnotationItem(scene.scene_id, SOURCE, path, scene.duration_s, scene.fps, notes)


def render_video(item: AnnotationItem, root: Path | str) -> None:
    """Renders the film of a synthetic item below `root`, unless it is there."""
    path = Path(root) / item.video_path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        render(_scene(item.id), path)


@dataclass(frozen=True)
class ScriptedAnnotator:
    """Annotates synthetic items from their truth and spoils `share` of them, each in one of the ways of `FAULTS`."""

    seed: int = 0
    share: float = 0.3
    deterministic: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """All that decides the answers."""
        return f"scripted {self.seed} {self.share}"

    def fault(self, item: AnnotationItem) -> str | None:
        """How the annotation of an item is spoiled; None for a true one."""
        rng = _rng(self.seed, item.id)
        return str(rng.choice(list(FAULTS))) if rng.random() < self.share else None

    def __call__(self, item: AnnotationItem) -> Reply:
        """The annotation as JSON text."""
        scene = _scene(item.id)
        said, fault, rng = _truth(scene), self.fault(item), _rng(self.seed + 1, item.id)
        text = json.dumps(FAULTS[fault](said, scene, rng) if fault in FAULTS else said, ensure_ascii=False)
        if fault == MALFORMED:
            text = text[: int(rng.integers(20, len(text) - 1))]
        return Reply(text)


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *sha256(name.encode()).digest()[:8]])


@lru_cache(maxsize=64)
def _scene(scene_id: str) -> Scene:
    split, seed, number = scene_id.rsplit("-", 2)
    return make_scene(split, int(number), int(seed))


def _truth(scene: Scene) -> Annotation:
    row = next(e for e in rows_of(scene) if e.source == SOURCE and e.task is Task.SPATIO_TEMPORAL)
    return as_annotation(row)


def as_annotation(row: Example) -> Annotation:
    """A row as the JSON that an annotator gives."""
    frames = [
        {"at": f.time_s, "objects": [{"name": n, "box": list(b)} for n, boxes in f.items.items() for b in boxes]}
        for f in row.key_frames
    ]
    return {
        "question": row.question,
        "answer": row.answer,
        "key_frames": frames,
        "reasoning": row.reasoning_process,
    }


def _one(said: Annotation, rng: np.random.Generator) -> tuple[dict, dict, str]:
    """A key frame at random, one of its objects, and the claim of it as the chain writes it."""
    frame = said["key_frames"][int(rng.integers(len(said["key_frames"])))]
    thing = frame["objects"][int(rng.integers(len(frame["objects"])))]
    return frame, thing, format_claim(thing["name"], [tuple(thing["box"])], round(frame["at"], 1))


def _rewrite(said: Annotation, thing: dict, claim: str, **change: Any) -> Annotation:
    """Gives one object of a key frame another name or box, there and in the chain's claim."""
    at = claim.rsplit("<t>", 1)[1].removesuffix("</t>s")
    thing.update(change)
    new = format_claim(thing["name"], [tuple(thing["box"])], float(at))
    return said | {"reasoning": said["reasoning"].replace(claim, new)}


def _oversized(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    _, thing, claim = _one(said, rng)
    sides = rng.uniform(0, 0.04, 2).round(3), rng.uniform(0.96, 1, 2).round(3)
    return _rewrite(said, thing, claim, box=[*sides[0].tolist(), *sides[1].tolist()])


def _shifted(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The box moved to where there is none of the thing."""
    _, thing, claim = _one(said, rng)
    x0, y0, x1, y1 = thing["box"]
    width, height = x1 - x0, y1 - y0
    while True:
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        moved: Box = tuple(round(float(v), 3) for v in (x, y, x + width, y + height))
        if box_iou(moved, thing["box"]) == 0:
            return _rewrite(said, thing, claim, box=list(moved))


def _wrong_name(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """Another colour or another kind."""
    _, thing, claim = _one(said, rng)
    color, kind = thing["name"].split(" ")
    if rng.random() < 0.5:
        color = str(rng.choice([c for c in COLORS if c != color]))
    else:
        kind = str(rng.choice([t for t in KINDS if t != kind]))
    return _rewrite(said, thing, claim, name=f"{color} {kind}")


def _wrong_time(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The chain speaks of a moment that no key frame shows."""
    _, thing, claim = _one(said, rng)
    taken = [f["at"] for f in said["key_frames"]]
    moments = [round(n / 10, 1) for n in range(int(10 * scene.duration_s))]
    far = [time_s for time_s in moments if all(abs(time_s - t) >= 0.5 for t in taken)]
    time_s = far[int(rng.integers(len(far)))]
    wrong = format_claim(thing["name"], [tuple(thing["box"])], time_s)
    return said | {"reasoning": said["reasoning"].replace(claim, wrong, 1)}


def _mention_only(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The chain claims something that no key frame boxes."""
    frame, thing, _ = _one(said, rng)
    names = {t["name"] for f in said["key_frames"] for t in f["objects"]}
    other = next(n for n in (f"{c} {t}" for c in rng.permutation(list(COLORS)) for t in KINDS) if n not in names)
    claim = format_claim(other, [tuple(thing["box"])], round(frame["at"], 1))
    return said | {"reasoning": f"{said['reasoning']} Beside it is the {claim}."}


def _evidence_only(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """A key frame boxes something that the chain never names."""
    frame, thing, _ = _one(said, rng)
    names = {t["name"] for f in said["key_frames"] for t in f["objects"]}
    other = next(n for n in (f"{c} {t}" for c in rng.permutation(list(COLORS)) for t in KINDS) if n not in names)
    frame["objects"].append({"name": other, "box": list(thing["box"])})
    return said


def _truncated(said: Annotation, scene: Scene, rng: np.random.Generator) -> Annotation:
    """The chain ends inside of a claim."""
    ends = [match.end() for match in re.finditer("<box>", said["reasoning"])]
    return said | {"reasoning": said["reasoning"][: ends[int(rng.integers(len(ends)))] + int(rng.integers(1, 9))]}


MALFORMED, UNMENTIONED = "malformed JSON", "evidence without mention"
FAULTS: dict[str, Callable[[Annotation, Scene, np.random.Generator], Annotation]] = {
    "oversized box": _oversized,
    "shifted box": _shifted,
    "wrong name": _wrong_name,
    "wrong time": _wrong_time,
    "mention without evidence": _mention_only,
    UNMENTIONED: _evidence_only,
    "truncated chain": _truncated,
    MALFORMED: lambda said, scene, rng: said,
}


def count_faults(
    faults: Mapping[str, str | None], unread: Iterable[str], steps: Sequence[FilterStep]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """What became of each kind of fault: counts by the stage that stopped it, and of the true rows, how many stayed.

    `unread` are the ids of answers that were no annotation. A spoiled row that does not stay is stopped where it first
    loses something; a box nobody mentions where the box goes. `rows` and `missed` are among the counts.
    """
    kept, stopped = {e.id for e in steps[-1].result.kept}, dict.fromkeys(unread, "reading")
    for step in steps:
        for drop in step.result.dropped:
            if drop.id not in kept or faults[drop.id] == UNMENTIONED:
                stopped.setdefault(drop.id, step.stage)
    table: dict[str, dict[str, int]] = {}
    for name, fault in faults.items():
        if fault:
            counts = table.setdefault(fault, {"rows": 0, "missed": 0})
            counts["rows"] += 1
            where = stopped.get(name, "missed")
            counts[where] = counts.get(where, 0) + 1
    true = [name for name, fault in faults.items() if fault is None]
    return table, {"rows": len(true), "kept": sum(name in kept for name in true)}
