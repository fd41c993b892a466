"""The filters of the data pipeline: which annotated rows are good enough to train on.

A stage is a pure function from examples to a `FilterResult`: the kept rows, and each drop with its reason. Source:
paper, annotation pipeline, steps 2 and 3. Two stages ask a model about crops. This module does not know which model
answers or where crops come from: both are arguments.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from o3v import evidence, video
from o3v.data.root import locate
from o3v.geometry import Box, Size, box_area, rescale_box
from o3v.processes import worker_pool
from o3v.schema import DroppedRow, Example, KeyFrame, Task, resolve_inside

MAX_BOX_SHARE = 0.8  # of the frame; paper, box filtering
TIME_TOLERANCE_S = 0.051  # chains give times to a tenth of a second
LEAST_FOR_WORKERS = 200  # rows


@dataclass(frozen=True)
class FilterResult:
    """The rows that a stage keeps, in order, and what it drops."""

    kept: list[Example]
    dropped: list[DroppedRow]


Stage = Callable[[Iterable[Example]], FilterResult]


Entry = tuple[KeyFrame, str, Box]  # one box of an example, with its frame and object name


def drop_large_boxes(examples: Iterable[Example], max_share: float = MAX_BOX_SHARE) -> FilterResult:
    """Removes key-frame boxes that cover more than `max_share` of the frame; keeps the rows. Paper, step 2."""

    def large(example: Example) -> list[Entry]:
        """The boxes over `max_share`."""
        return [entry for entry in _boxes(example) if box_area(entry[2]) > max_share]

    return _remove_boxes(examples, large, "large box", lambda box: f": {box_area(box):.0%}")


def _boxes(example: Example) -> list[Entry]:
    """Every box of the key frames, in order."""
    return [(f, name, box) for f in example.key_frames for name, boxes in f.items.items() for box in boxes]


def _remove_boxes(
    examples: Iterable[Example],
    wrong: Callable[[Example], list[Entry]],
    reason: str,
    note: Callable[[Box], str] = lambda _: "",
) -> FilterResult:
    """Removes the wrong boxes of each example, and the key frames that lose their last box. Keeps all rows."""
    kept, dropped = [], []
    for example in examples:
        removed, frames = wrong(example), []
        lost = {(frame.idx, name, box) for frame, name, box in removed}
        for frame in example.key_frames:
            items = {n: tuple(b for b in boxes if (frame.idx, n, b) not in lost) for n, boxes in frame.items.items()}
            items = {name: boxes for name, boxes in items.items() if boxes}
            if items or not frame.items:
                frames.append(replace(frame, items=items))
        kept.append(replace(example, key_frames=tuple(frames)))
        for frame, name, box in removed:
            detail = f"{name} in frame {frame.idx}{note(box)}"
            dropped.append(DroppedRow(example.id, example.source, reason, detail, frame.idx, box))
    return FilterResult(kept, dropped)


Verifier = Callable[[Sequence[np.ndarray], Sequence[str]], list[bool]]  # crops and a question about each → is it yes?
CropReader = Callable[[Example, Sequence[tuple[float, Box]]], list[np.ndarray]]  # times with boxes (0–1) → crops
IS_THIS_QUESTION = "Is this a {name}?"  # paper, step 2
SENTENCE_QUESTION = 'Does the picture agree with this sentence: "{sentence}" Answer yes or no.'


def read_crops_from(root: Path | str, max_pixels: int = 1280 * 720) -> CropReader:
    """Returns a function that cuts boxes out of the videos of a data root or folder, each from the frame at its time.

    It returns crops (height, width, 3) uint8 RGB of (time in seconds, box) pairs and raises the errors of `frames_at`.
    """
    return partial(_read_crops, Path(root), max_pixels)


def _read_crops(root: Path, max_pixels: int, example: Example, boxes: Sequence[tuple[float, Box]]) -> list[np.ndarray]:
    row = example if (root / example.media_path).is_file() else locate(root, example)
    frames = video.frames_at(resolve_inside(root, row.media_path), [time_s for time_s, _ in boxes], max_pixels)
    size_wh: Size = (frames.images.shape[2], frames.images.shape[1])
    boxes_px = [rescale_box(box, (1, 1), size_wh) for _, box in boxes]
    return [video.crop(image, box_px) for image, box_px in zip(frames.images, boxes_px, strict=True)]


def verify_crops(
    examples: Iterable[Example],
    read_crops: CropReader,
    judge: Verifier,
    question: str = IS_THIS_QUESTION,
    workers: int = 1,
) -> FilterResult:
    """Asks a model and removes key-frame boxes that do not show the named object; keeps the rows. Paper, step 2.

    Drops rows whose crops cannot be read.

    Args:
        examples: the annotated rows.
        read_crops: cuts the boxes out of the videos; picklable for more than one worker.
        judge: answers yes or no to a question about each crop.
        question: what is asked; may contain `{name}`.
        workers: number of processes that read crops; it does not change the result.
    """

    def regions(example: Example) -> list[tuple[float, Box]]:
        """Every box of the key frames, with its time."""
        return [(frame.time_s, box) for frame, _, box in _boxes(example)]

    readable, crops, unread = _read_regions(examples, regions, read_crops, workers)
    questions = [question.format(name=name) for example in readable for _, name, _ in _boxes(example)]
    verdicts = iter([yes for _, yes in zip(questions, judge(crops, questions), strict=True)])
    result = _remove_boxes(readable, lambda e: [b for b in _boxes(e) if not next(verdicts)], "not what it is called")
    return FilterResult(result.kept, unread + result.dropped)


def _read_regions(
    examples: Iterable[Example],
    regions: Callable[[Example], list[tuple[float, Box]]],
    read_crops: CropReader,
    workers: int,
) -> tuple[list[Example], list[np.ndarray], list[DroppedRow]]:
    """Reads the crops of the regions of each example. Returns the readable examples, their crops, and the others."""
    examples, readable, crops, unread = list(examples), [], [], []
    read, found = partial(_crops_or_problem, read_crops), [regions(example) for example in examples]
    if workers < 2 or len(examples) < LEAST_FOR_WORKERS:
        results = list(map(read, examples, found))
    else:
        with worker_pool(workers) as pool:
            results = list(pool.map(read, examples, found, chunksize=8))
    for example, result in zip(examples, results, strict=True):
        if isinstance(result, str):
            unread.append(DroppedRow(example.id, example.source, "crops cannot be read", result))
        else:
            readable.append(example)
            crops += result
    return readable, crops, unread


def _crops_or_problem(read_crops: CropReader, example: Example, boxes: list) -> list[np.ndarray] | str:
    """The crops, or the reason why they cannot be read."""
    try:
        return read_crops(example, boxes) if boxes else []
    except (ValueError, OSError) as error:
        return str(error)


def verify_sentences(
    examples: Iterable[Example],
    read_crops: CropReader,
    judge: Verifier,
    question: str = SENTENCE_QUESTION,
    workers: int = 1,
) -> FilterResult:
    """Asks a model and drops rows with a sentence that does not agree with its region. Paper, step 3.

    Drops rows whose crops cannot be read.

    Args:
        examples, read_crops, judge, workers: as in `verify_crops`.
        question: may contain `{sentence}` (the sentence without tags) or `{name}` (the object name of the claim).
    """

    def claims(example: Example) -> list[evidence.Claim]:
        """The claims with a time, if there are key frames."""
        return _timed_claims(example) if example.key_frames else []

    def regions(example: Example) -> list[tuple[float, Box]]:
        """The first box of each claim, at the time of its key frame."""
        return [
            (next((f.time_s for f in _frames_at(example, c.time_s)), c.time_s), c.boxes[0]) for c in claims(example)
        ]

    readable, crops, unread = _read_regions(examples, regions, read_crops, workers)
    sentences = []
    for row, example in enumerate(readable):
        chain = example.reasoning_process or ""
        sentences += [(row, claim, _sentence(chain, claim.start - len("<think>"))) for claim in claims(example)]
    verdicts = judge(crops, [question.format(sentence=text, name=claim.name) for _, claim, text in sentences])
    wrong = {row: (claim, text) for (row, claim, text), yes in zip(sentences, verdicts, strict=True) if not yes}
    problems = {row: ("sentence does not fit", text, None, claim.boxes[0]) for row, (claim, text) in wrong.items()}
    result = _drop_rows(readable, problems)
    return FilterResult(result.kept, unread + result.dropped)


def _sentence(chain: str, offset: int) -> str:
    """The sentence around an offset of a reasoning chain, without tags."""
    start = chain.rfind(". ", 0, offset) + 2 if ". " in chain[:offset] else 0
    end = chain.find(". ", offset)
    return evidence.strip_tags(chain[start : end + 1 if end >= 0 else None]).strip()


def drop_unmentioned_boxes(examples: Iterable[Example]) -> FilterResult:
    """Removes key-frame boxes that the reasoning never claims; keeps the rows. Paper, step 3."""

    def unmentioned(example: Example) -> list[Entry]:
        """The boxes whose name no claim gives at the time of their frame."""
        boxes, claims = (_boxes(example), _timed_claims(example)) if _has_chain(example) else ([], [])
        claimed = {(frame.idx, claim.name) for claim in claims for frame in _frames_at(example, claim.time_s)}
        return [(frame, name, box) for frame, name, box in boxes if (frame.idx, name) not in claimed]

    return _remove_boxes(examples, unmentioned, "box without mention")


def rewrite_chains(examples: Iterable[Example]) -> FilterResult:
    """Rewrites every claim of the reasoning with the boxes and the time of its key frame. Paper, step 3."""
    return FilterResult([_rewritten(example) if _has_chain(example) else example for example in examples], [])


def _rewritten(example: Example) -> Example:
    chain, shift = example.reasoning_process, len("<think>")
    last_end = len(chain) + 1
    for claim in reversed(_timed_claims(example)):
        frames = [f for f in _frames_at(example, claim.time_s) if claim.name in f.items]
        if frames and claim.end - shift <= last_end:
            rewritten = evidence.format_claim(claim.name, frames[0].items[claim.name], round(frames[0].time_s, 1))
            chain = chain[: claim.start - shift] + rewritten + chain[claim.end - shift :]
            last_end = claim.start - shift
    return replace(example, reasoning_process=chain)


def _has_chain(example: Example) -> bool:
    return example.task is Task.SPATIO_TEMPORAL and bool(example.reasoning_process)


def _parsed(example: Example) -> evidence.Response:
    return evidence.parse_response(evidence.format_response(example.reasoning_process or "", example.answer))


def _timed_claims(example: Example) -> list[evidence.Claim]:
    return [claim for claim in _parsed(example).claims if claim.time_s is not None]


def drop_inconsistent_rows(examples: Iterable[Example]) -> FilterResult:
    """Drops spatio-temporal rows whose reasoning names a time or object without a key frame. Paper, step 3."""
    examples = list(examples)
    problems = {row: _inconsistency(example) for row, example in enumerate(examples) if _has_chain(example)}
    return _drop_rows(examples, problems)


def _drop_rows(examples: Sequence[Example], problems: Mapping[int, tuple | None]) -> FilterResult:
    """Drops the rows with a problem: the fields of their `DroppedRow` from `reason` on, by row."""
    kept, dropped = [], []
    for row, example in enumerate(examples):
        if problem := problems.get(row):
            dropped.append(DroppedRow(example.id, example.source, *problem))
        else:
            kept.append(example)
    return FilterResult(kept, dropped)


def _inconsistency(example: Example) -> tuple[str, str] | None:
    """Reason and detail of the first problem of the reasoning, or None."""
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


def pipeline_stages(
    read_crops: CropReader, judge: Verifier, question: str = SENTENCE_QUESTION, workers: int = 1
) -> dict[str, Stage]:
    """Returns all stages of the paper's pipeline, also those that use a model. Arguments as in `verify_sentences`."""
    asking = {"read_crops": read_crops, "judge": judge, "workers": workers}
    return {
        "large boxes": drop_large_boxes,
        "crops": partial(verify_crops, **asking),
        "consistency": drop_inconsistent_rows,
        "sentences": partial(verify_sentences, question=question, **asking),
        "unmentioned": drop_unmentioned_boxes,
        "rewriting": rewrite_chains,
    }
