"""Takes the rows of a data root in: checks them against their media, filters them, and names all that is left out.

One path for every root: the real files, the synthetic world, annotations of one's own videos. The filters are the
paper's by source, then those that need no model. This module does not know models.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from o3v import video
from o3v.data import filter_report, filters, stgr
from o3v.data.check import KEY_FRAME_MISSING, Coverage, check_file, check_items, good_rows
from o3v.data.filters import FilterResult
from o3v.data.root import locate_items, stgr_files
from o3v.data.source_filters import filter_by_source
from o3v.schema import DroppedRow, Example, Row, Task, resolve_inside

WORKERS = 2


@dataclass(frozen=True)
class Intake:
    """What a root gives to one split.

    `rows` are good rows with paths relative to the root, `durations_s` the lengths of their videos by path. `coverage`
    has a line for each file and source, `audit` one for each reason why a filter dropped rows, and `left_out` one for
    each row or box that is not used, with the reason. `expected` are the places where media are missing or unreadable:
    a file that appears there makes another intake.
    """

    rows: list[Example]
    durations_s: Mapping[str, float]
    coverage: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    left_out: list[dict[str, Any]]
    expected: list[str]


def take_in(root: Path | str, split: str, max_rows: int, seed: int, workers: int = WORKERS) -> Intake:
    """Reads, checks and filters all rows of a split; draws `max_rows` of them if there are more.

    Args:
        root: the data root.
        split: "sft" or "rl"; a row for SFT needs a chain.
        max_rows: most rows to keep.
        seed: seed of the draws.
        workers: number of processes that open media.

    Raises FileNotFoundError for a root without STGR files, and ValueError if no row is left.
    """
    examples, coverage, left_out, expected, durations_s = [], [], [], set(), {}
    for path in stgr_files(root, split):
        checked = check_file(root, path, workers)
        coverage += [{"file": path.name, **line} for line in checked.table()]
        left_out += _named(checked, path.name)
        expected |= checked.expected
        durations_s |= {name: info.duration_s for (name, _), info in checked.media.items() if info.duration_s}
        examples += good_rows(path, checked, root, allowed=[KEY_FRAME_MISSING])
    stages = {
        "source": partial(filter_by_source, duration_s=lambda e: durations_s.get(e.media_path), split=split, seed=seed),
        **({"chain": drop_without_chain} if split == "sft" else {}),
        **filters.MODEL_FREE_STAGES,
        "size of the profile": partial(_draw, max_rows=max_rows, seed=seed),
    }
    steps = filter_report.run_filters(examples, stages)
    left_out += [_line(path.name, step.stage, drop) for step in steps for drop in step.result.dropped]
    rows = steps[-1].result.kept
    if not rows:
        first = left_out[0]["detail"] if left_out else "the files are empty"
        raise ValueError(f"no {split.upper()} row of {root} can be used ({first}); run `o3v check-data {root}`")
    return Intake(rows, durations_s, coverage, filter_report.report_table(steps), left_out, sorted(expected))


def _named(checked: Coverage, file: str) -> Iterator[dict[str, Any]]:
    for problem in checked.named:
        if problem["reason"] != KEY_FRAME_MISSING:
            yield {"file": file, "stage": "check", **problem}


def _line(file: str, stage: str, drop: DroppedRow) -> dict[str, Any]:
    return {"file": file, "stage": stage, "source": drop.source, "reason": drop.reason, "detail": drop.detail} | {
        "id": drop.id
    }


def drop_without_chain(examples: Iterable[Example]) -> FilterResult:
    """Drops rows without `reasoning_process`, which SFT cannot imitate."""
    examples = list(examples)
    without = [e for e in examples if e.reasoning_process is None]
    dropped = [DroppedRow(e.id, e.source, "no chain", "field 'reasoning_process' is missing") for e in without]
    return FilterResult([e for e in examples if e.reasoning_process is not None], dropped)


def _draw(examples: Sequence[Example], max_rows: int, seed: int) -> FilterResult:
    examples = list(examples)
    kept = stgr.draw_sample(examples, max_rows, seed)
    chosen = set(map(id, kept))
    reason = "not drawn", f"the profile takes {max_rows:,} rows"
    return FilterResult(kept, [DroppedRow(e.id, e.source, *reason) for e in examples if id(e) not in chosen])


def take_in_items(
    root: Path | str, items: Sequence[Row], workers: int = WORKERS
) -> tuple[list[Row], list[dict[str, Any]], list[dict[str, Any]]]:
    """Checks V-STAR's items against their videos below `root`.

    Returns the good items with `video_path`, a line of coverage for each domain, and a line for each item left out.
    Raises ValueError if no item is left.
    """
    checked = check_items(root, items, workers)
    located = enumerate(locate_items(root, items), 1)
    good = [item for number, item in located if number not in checked.bad_rows and not isinstance(item, str)]
    if not good:
        first = checked.named[0]["detail"] if checked.named else "its file is empty"
        raise ValueError(f"no item of V-STAR can be used ({first}); vstar_root names the folder above its videos")
    return good, checked.table(), list(_named(checked, "V-STAR"))


def media_of(rows: Iterable[Example]) -> list[str]:
    """The paths of the videos and images of rows, each once, sorted."""
    return sorted({example.media_path for example in rows})


def first_video(
    root: Path | str, rows: Iterable[Example], n_frames: int, max_pixels: int
) -> tuple[Example, video.Frames]:
    """The first video row with key frames (else the first video row) that can be read, and frames with the key frames.

    Args:
        root: the data root.
        rows: rows of it.
        n_frames: evenly spaced frames.
        max_pixels: most pixels of a frame.

    Raises ValueError if no video can be read.
    """
    for row in sorted((e for e in rows if e.video_path), key=lambda e: not e.key_frames):
        with suppress(ValueError, OSError):
            key_times_s = [frame.time_s for frame in row.key_frames]
            path = resolve_inside(root, row.media_path)
            return row, video.sample_frames(path, n_frames, max_pixels, key_times_s=key_times_s)
    raise ValueError(f"no video of {root} can be read")


def span_shares(intake: Intake) -> list[float]:
    """The length of each answered span of the temporal rows, as a share of its video."""
    spans = [(e.span_s, intake.durations_s[e.media_path]) for e in intake.rows if e.task is Task.TEMPORAL]
    return [(span_s[1] - span_s[0]) / duration_s for span_s, duration_s in spans if span_s]
