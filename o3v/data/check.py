"""Checks the rows of STGR files against their media: videos, images and key frames, source by source.

Opens every medium once, in a pool of processes. Reads the rows twice and never keeps all of them in memory. Paths start
where `root.locate` finds them; one that leaves the data folder counts as missing. The command is `o3v check-data`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from o3v import evidence, video
from o3v.data import stgr
from o3v.data.root import expected_places, is_file, locate, locate_items
from o3v.data.stgr import BadRow
from o3v.evidence.parsing import BOX_TAG, parse_box
from o3v.geometry import MIN_PIXELS, Size
from o3v.processes import start_pool, worker_pool
from o3v.schema import Example, Row, Task, resolve_inside

MAX_CASES = 3  # cases of each kind of problem that are listed
KEY_FRAME_MISSING = "key frame missing"  # of no use here: key frames are read from the video
ROW_PROBLEMS = ("bad row", KEY_FRAME_MISSING, "time beyond video", "malformed box", "box off picture", "image size")
MAX_ASPECT_CHANGE = 0.02  # between the stated and the real image size; smaller copies are rounded to whole pixels
MISSING, UNREADABLE = "medium missing", "medium unreadable"
Medium = tuple[str, bool]  # its path, and whether it is an image


@dataclass(frozen=True)
class MediaInfo:
    """A video or image: `duration_s` of a video, upright `size_wh` of an image, or the `problem` with its `detail`."""

    duration_s: float | None = None
    size_wh: Size | None = None
    problem: str | None = None
    detail: str = ""


@dataclass
class SourceCoverage:
    """Counts of one source: `problems` counts rows by kind, `spaces` rows by the coordinate space of their boxes."""

    rows: int = 0
    media: set[Medium] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)
    spaces: Counter[str] = field(default_factory=Counter)


@dataclass
class Coverage:
    """Media, counts by source, the first cases of each problem, and the numbers (from 1) of the bad rows."""

    media: Mapping[Medium, MediaInfo]
    sources: defaultdict[str, SourceCoverage] = field(default_factory=partial(defaultdict, SourceCoverage))
    cases: defaultdict[str, list[str]] = field(default_factory=partial(defaultdict, list))
    bad_rows: set[int] = field(default_factory=set)
    found: dict[tuple[str, str], str] = field(default_factory=dict)  # paths of media (`root.locate`)
    expected: set[str] = field(default_factory=set)  # where media of bad rows lie, or would be looked for
    named: list[dict[str, object]] = field(default_factory=list)  # every problem: row, source, reason, detail

    def add_problem(self, number: int, source: str, kind: str, case: str) -> None:
        """Counts one problem of row `number`. `case` is the line to show for it."""
        self.bad_rows.add(number)
        self.named.append({"row": number, "source": source, "reason": kind, "detail": case})
        self.sources[source].problems[kind] += 1
        if len(self.cases[kind]) < MAX_CASES:
            self.cases[kind].append(case)

    def table(self) -> list[dict[str, object]]:
        """One line per source: rows, media found and readable, rows with each problem, coordinate spaces."""
        lines = []
        for name, source in sorted(self.sources.items()):
            problems = [self.media[medium].problem for medium in source.media]
            line = {"source": name, "rows": source.rows, "media": len(problems)}
            line |= {"found": len(problems) - problems.count(MISSING), "readable": problems.count(None)}
            line |= {kind: source.problems[kind] for kind in ROW_PROBLEMS}
            spaces = [f"{space} {n}" for space, n in source.spaces.most_common() if space != "none"]
            lines.append(line | {"boxes in": ", ".join(spaces)})
        return lines


def check_file(root: Path | str, path: Path | str, workers: int = 2) -> Coverage:
    """Checks every row of an STGR file against `root`, the folder that its paths start from.

    Raises the errors of `stgr.read_stgr`.
    """
    found: dict[tuple[str, str], str] = {}
    examples = (locate(root, e, found) for e in stgr.read_stgr(path) if isinstance(e, Example))
    media = _inspect_all(root, {_medium(example) for example in examples}, workers)
    coverage = Coverage(media, found=found)
    for number, row in enumerate(stgr.read_stgr(path), 1):
        if isinstance(row, BadRow):
            coverage.add_problem(number, "(bad rows)", "bad row", f"{Path(path).name}, {row}")
            coverage.sources["(bad rows)"].rows += 1
            continue
        row = locate(root, row, found)
        source = coverage.sources[row.source]
        source.rows += 1
        medium = _medium(row)
        source.media.add(medium)
        source.spaces[stgr.coordinate_space(row)] += 1
        if media[medium].problem:
            coverage.expected.update(expected_places(row))
        for kind, detail in _problems(row, media[medium], root):
            coverage.add_problem(number, row.source, kind, f"{Path(path).name}, row {number} ({row.id}): {detail}")
    return coverage


def check_items(root: Path | str, items: Sequence[Row], workers: int = 2) -> Coverage:
    """Checks V-STAR's items against `root`, below which their videos lie. The sources are the domains."""
    located = locate_items(root, items)
    paths = {(item["video_path"], False) for item in located if isinstance(item, dict)}
    missing = {(item["vid"], False): MediaInfo(problem=MISSING) for item in items}
    coverage = Coverage({**missing, **_inspect_all(root, paths, workers)})
    for number, (item, found) in enumerate(zip(items, located, strict=True), 1):
        domain = str(item.get("domain") or "(no domain)")
        medium = (item["vid"] if isinstance(found, str) else found["video_path"], False)
        info, source = coverage.media[medium], coverage.sources[domain]
        source.rows += 1
        source.media.add(medium)
        if info.problem:
            case = found if isinstance(found, str) else f"{medium[0]} {info.detail}"
            coverage.add_problem(number, domain, info.problem, f"item {number}: {case}")
    return coverage


def _inspect_all(root: Path | str, media: set[Medium], workers: int) -> dict[Medium, MediaInfo]:
    paths, inspect = sorted(media), partial(inspect_media, str(root))
    in_turn = workers <= 1 or len(paths) < 2 * workers
    found = map(inspect, paths) if in_turn else inspect_in_processes(inspect, paths, workers)
    return dict(zip(paths, tqdm(found, total=len(paths), desc="opening media", mininterval=5), strict=True))


def inspect_in_processes(
    inspect: Callable[[Medium], MediaInfo], media: Sequence[Medium], workers: int
) -> Iterator[MediaInfo]:
    """Opens media in processes, in order. One that ends its process (a decoder crashes, memory) is unreadable."""
    done = 0
    with suppress(BrokenProcessPool), worker_pool(workers) as pool:
        for info in pool.map(inspect, media, chunksize=16):
            yield info
            done += 1
    alone: ProcessPoolExecutor | None = None
    for medium in media[done:]:  # after a crash, one at a time, to find which medium it is
        alone = alone or start_pool(1)
        try:
            yield alone.submit(inspect, medium).result()
        except BrokenProcessPool:
            alone = None
            yield MediaInfo(problem=UNREADABLE, detail="cannot be read: its decoder crashed or took all memory")
    if alone:
        alone.shutdown()


def _problems(example: Example, medium: MediaInfo, root: Path | str) -> Iterator[tuple[str, str]]:
    """Each kind of problem of a row at most once, with the detail of its first case."""
    if medium.problem:
        yield medium.problem, f"{example.media_path} {medium.detail}"
    missing = [f.path for f in example.key_frames if f.path and not is_file(root, f.path)]
    if missing:
        yield KEY_FRAME_MISSING, missing[0]
    if medium.duration_s:
        late_s = [f.time_s for f in example.key_frames if f.time_s > medium.duration_s]
        span_s = example.span_s
        if span_s and (span_s[0] >= medium.duration_s or span_s[1] > medium.duration_s + 1):
            late_s.append(span_s[1])
        if late_s:
            yield "time beyond video", f"{late_s[0]:g} s in {example.media_path} of {medium.duration_s:.1f} s"
    yield from _text_box_problems(example)
    sizes = (example.image_size_wh, medium.size_wh)
    if sizes[0] and sizes[1] and abs(_aspect(sizes[0]) / _aspect(sizes[1]) - 1) > MAX_ASPECT_CHANGE:
        stated, real = (f"{width}×{height}" for width, height in (sizes[0], sizes[1]))
        yield "image size", f"image_size is {stated}, but {example.media_path} is {real} (upright)"


def _text_box_problems(example: Example) -> Iterator[tuple[str, str]]:
    """Boxes in texts that cannot be read, or that are outside of the picture: pixels in visual QA, else 0–1."""
    text = f"{example.question} {example.reasoning_process or ''} {example.answer}"
    malformed = [match[0] for match in BOX_TAG.finditer(text) if parse_box(match[1]) is None]
    if malformed:
        yield "malformed box", f"{malformed[0]:.80}; a box is [x0,y0,x1,y1], four plain numbers, x0 < x1 and y0 < y1"
    width, height = (example.task is Task.SPATIAL and example.image_size_wh) or (1, 1)
    outside = [b for b in evidence.answer_boxes(text) if min(b) < 0 or b[2] > width or b[3] > height]
    if outside:
        where = f"an image of {width}×{height}" if example.task is Task.SPATIAL else "a video row, which needs 0–1"
        yield "box off picture", f"{list(outside[0])!s:.80} in {where}"


def _medium(example: Example) -> Medium:
    return example.media_path, example.task is Task.SPATIAL


def _aspect(size_wh: Size) -> float:
    return size_wh[0] / size_wh[1]


def inspect_media(root: str, medium: Medium) -> MediaInfo:
    """Opens a video or image below the folder `root`."""
    relative, is_image = medium
    if not is_file(root, relative):
        return MediaInfo(problem=MISSING, detail="does not exist")
    path = resolve_inside(root, relative)
    try:
        if is_image:
            return MediaInfo(size_wh=video.read_image(path, MIN_PIXELS)[1])  # decodes all of it
        return MediaInfo(video.probe(path).duration_s)
    except (video.VideoError, OSError, SyntaxError, ValueError) as error:
        return MediaInfo(problem=UNREADABLE, detail=f"cannot be read: {error}"[:200])


def good_rows(
    path: Path | str, coverage: Coverage, root: Path | str | None = None, allowed: Sequence[str] = ()
) -> Iterator[Example]:
    """Reads the rows of a checked file that have no problem but `allowed` ones. With `root`, paths start there."""
    bad = {problem["row"] for problem in coverage.named if problem["reason"] not in allowed}
    for number, row in enumerate(stgr.read_stgr(path), 1):
        if isinstance(row, Example) and number not in bad:
            yield row if root is None else locate(root, row, coverage.found)
