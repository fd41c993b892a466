"""The data pipeline's filters: which annotated rows are good enough to learn from, and why the others are not.

A stage is a pure function from examples to a `FilterResult`: what is kept and what was dropped, each drop with its
reason. Source: paper, annotation pipeline, steps 2 and 3. Two stages ask a model about crops; which model, and how
crops are cut, they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from o3v import evidence, video
from o3v.geometry import Box, Size, box_area, rescale_box
from o3v.schema import DroppedRow, Example, KeyFrame, Task, resolve_inside

MAX_BOX_SHARE = 0.8  # of the frame; paper, box filtering
TIME_TOLERANCE_S = 0.051  # chains give times to a tenth of a second


@dataclass(frozen=True)
class FilterResult:
    """What a stage leaves: the rows that go on, in order, and the drops."""

    kept: list[Example]
    dropped: list[DroppedRow]


Stage = Callable[[Iterable[Example]], FilterResult]


def drop_large_boxes(examples: Iterable[Example], max_share: float = MAX_BOX_SHARE) -> FilterResult:
    """Removes boxes of key frames that cover more than `max_share` of the frame; the rows stay. Paper, step 2."""
    kept, dropped = [], []
    for example in examples:
        gone = [entry for entry in _boxes(example) if box_area(entry[2]) > max_share]
        kept.append(_without(example, gone))
        dropped += [_drop(example, "large box", f": {box_area(box):.0%}", f, name, box) for f, name, box in gone]
    return FilterResult(kept, dropped)


Entry = tuple[KeyFrame, str, Box]  # one box of an example: its frame and what it is called


def _boxes(example: Example) -> list[Entry]:
    """Every box of the key frames, in order."""
    return [(f, name, box) for f in example.key_frames for name, boxes in f.items.items() for box in boxes]


def _without(example: Example, gone: Sequence[Entry]) -> Example:
    """The example without these boxes, and without the key frames that have lost all of theirs."""
    lost = {(frame.idx, name, box) for frame, name, box in gone}
    frames = []
    for frame in example.key_frames:
        items = {n: tuple(b for b in boxes if (frame.idx, n, b) not in lost) for n, boxes in frame.items.items()}
        items = {name: boxes for name, boxes in items.items() if boxes}
        if items or not frame.items:
            frames.append(replace(frame, items=items))
    return replace(example, key_frames=tuple(frames))


def _drop(example: Example, reason: str, note: str, frame: KeyFrame, name: str, box: Box) -> DroppedRow:
    """What is said of a box that went."""
    return DroppedRow(example.id, example.source, reason, f"{name} in frame {frame.idx}{note}", frame.idx, box)


Verifier = Callable[[Sequence[np.ndarray], Sequence[str]], list[bool]]  # crops and a question of each → yes?
CropReader = Callable[[Example, Sequence[tuple[float, Box]]], list[np.ndarray]]  # moments with boxes → crops
IS_THIS_QUESTION = "Is this a {name}?"  # paper, step 2
SENTENCE_QUESTION = 'Does the picture agree with this sentence: "{sentence}" Answer yes or no.'


def read_crops_from(root: Path | str, max_pixels: int = 1280 * 720) -> CropReader:
    """Cuts boxes out of the videos below `root`, each from the frame that is shown at its time."""

    def cut(example: Example, wanted: Sequence[tuple[float, Box]]) -> list[np.ndarray]:
        frames = video.frames_at(resolve_inside(root, example.media_path), [time_s for time_s, _ in wanted], max_pixels)
        size_wh: Size = (frames.images.shape[2], frames.images.shape[1])
        boxes_px = [rescale_box(box, (1, 1), size_wh) for _, box in wanted]
        return [video.crop(image, box_px) for image, box_px in zip(frames.images, boxes_px, strict=True)]

    return cut


def verify_crops(
    examples: Iterable[Example], cut: CropReader, judge: Verifier, question: str = IS_THIS_QUESTION
) -> FilterResult:
    """Removes boxes of key frames that a model does not take for what they are called; the rows stay. Paper, step 2."""
    examples, listed, crops = list(examples), [], []
    for at, example in enumerate(examples):
        found = _boxes(example)
        listed += [(at, entry) for entry in found]
        crops += cut(example, [(frame.time_s, box) for frame, _, box in found]) if found else []
    said = judge(crops, [question.format(name=name) for _, (_, name, _) in listed])
    refused: dict[int, list[Entry]] = {}
    for (at, entry), yes in zip(listed, said, strict=True):
        if not yes:
            refused.setdefault(at, []).append(entry)
    kept = [_without(example, refused.get(at, ())) for at, example in enumerate(examples)]
    dropped = [
        _drop(examples[at], "not what it is called", "", *entry) for at, gone in refused.items() for entry in gone
    ]
    return FilterResult(kept, dropped)


def verify_sentences(
    examples: Iterable[Example], cut: CropReader, judge: Verifier, question: str = SENTENCE_QUESTION
) -> FilterResult:
    """Drops rows with a sentence that does not fit the region it points at. Paper, step 3.

    `question` may name the sentence (plain words, no tags) or what the claim calls its region.
    """
    examples, listed, crops = list(examples), [], []
    for at, example in enumerate(examples):
        chain = example.reasoning_process or ""
        claims = [c for c in _parsed(example).claims if c.time_s is not None] if example.key_frames else []
        listed += [(at, claim, _sentence(chain, claim.start - len("<think>"))) for claim in claims]
        moments = [next((f.time_s for f in _frames_at(example, c.time_s)), c.time_s) for c in claims]
        boxes = [claim.boxes[0] for claim in claims]
        crops += cut(example, list(zip(moments, boxes, strict=True))) if claims else []
    said = judge(crops, [question.format(sentence=text, name=claim.name) for _, claim, text in listed])
    wrong = {at: (claim, text) for (at, claim, text), yes in zip(listed, said, strict=True) if not yes}
    dropped = [
        DroppedRow(e.id, e.source, "sentence does not fit", wrong[at][1], None, wrong[at][0].boxes[0])
        for at, e in enumerate(examples)
        if at in wrong
    ]
    return FilterResult([e for at, e in enumerate(examples) if at not in wrong], dropped)


def _sentence(chain: str, at: int) -> str:
    """The sentence around a place of a chain, without tags."""
    start = max(chain.rfind(". ", 0, at) + 2, 0) if ". " in chain[:at] else 0
    end = chain.find(". ", at)
    return evidence.strip_tags(chain[start : end + 1 if end >= 0 else None]).strip()


def drop_unmentioned_boxes(examples: Iterable[Example]) -> FilterResult:
    """Removes boxes of key frames that the chain never claims; the rows stay. Paper, step 3."""
    kept, dropped = [], []
    for example in examples:
        if example.task is not Task.SPATIO_TEMPORAL or not example.reasoning_process:
            kept.append(example)
            continue
        claims = [claim for claim in _parsed(example).claims if claim.time_s is not None]
        claimed = {(frame.idx, claim.name) for claim in claims for frame in _frames_at(example, claim.time_s)}
        gone = [(frame, name, box) for frame, name, box in _boxes(example) if (frame.idx, name) not in claimed]
        kept.append(_without(example, gone))
        dropped += [_drop(example, "box without mention", "", *entry) for entry in gone]
    return FilterResult(kept, dropped)


def rewrite_chains(examples: Iterable[Example]) -> FilterResult:
    """Gives every claim of a chain the boxes and the time of its key frame, so that all agree. Paper, step 3."""
    return FilterResult([_rewritten(example) for example in examples], [])


def _rewritten(example: Example) -> Example:
    if example.task is not Task.SPATIO_TEMPORAL or not example.reasoning_process:
        return example
    chain, shift = example.reasoning_process, len("<think>")
    last_end = len(chain) + 1
    for claim in reversed(_parsed(example).claims):
        frames = [f for f in _frames_at(example, claim.time_s) if claim.name in f.items] if claim.time_s else []
        if frames and claim.end - shift <= last_end:
            said = evidence.format_claim(claim.name, frames[0].items[claim.name], round(frames[0].time_s, 1))
            chain = chain[: claim.start - shift] + said + chain[claim.end - shift :]
            last_end = claim.start - shift
    return replace(example, reasoning_process=chain)


def _parsed(example: Example) -> evidence.Response:
    return evidence.parse_response(evidence.format_response(example.reasoning_process or "", example.answer))


def drop_inconsistent_rows(examples: Iterable[Example]) -> FilterResult:
    """Drops spatio-temporal rows whose chain names a time or object that no key frame covers. Paper, step 3."""
    kept, dropped = [], []
    for example in examples:
        found = _uncovered(example) if example.task is Task.SPATIO_TEMPORAL and example.reasoning_process else None
        if found:
            dropped.append(DroppedRow(example.id, example.source, *found))
        else:
            kept.append(example)
    return FilterResult(kept, dropped)


def _uncovered(example: Example) -> tuple[str, str] | None:
    """Reason and detail of the first thing wrong with a chain, or None."""
    response = _parsed(example)
    if response.problems:
        return "malformed chain", response.problems[0].message
    if not response.claims:
        return "no evidence", "the chain claims nothing"
    for time_s in response.times_s:
        if not _frames_at(example, time_s):
            return "time without key frame", f"{time_s:g} s"
    for claim in response.claims:
        if claim.time_s is not None and not any(claim.name in f.items for f in _frames_at(example, claim.time_s)):
            return "object without box", f"{claim.name} at {claim.time_s:g} s"
    return None


def _frames_at(example: Example, time_s: float) -> list[KeyFrame]:
    return [frame for frame in example.key_frames if abs(frame.time_s - time_s) <= TIME_TOLERANCE_S]


MODEL_FREE_STAGES: Mapping[str, Stage] = {"large boxes": drop_large_boxes, "consistency": drop_inconsistent_rows}


def pipeline_stages(cut: CropReader, judge: Verifier, sentence: str = SENTENCE_QUESTION) -> dict[str, Stage]:
    """Every stage of the paper's pipeline, those that ask a model included. `sentence` as in `verify_sentences`."""
    return {
        "large boxes": drop_large_boxes,
        "crops": partial(verify_crops, cut=cut, judge=judge),
        "consistency": drop_inconsistent_rows,
        "sentences": partial(verify_sentences, cut=cut, judge=judge, question=sentence),
        "unmentioned": drop_unmentioned_boxes,
        "rewriting": rewrite_chains,
    }
