"""What of a data folder is there: rows against their videos, pictures and key frames, source by source.

Every medium is opened once, in a pool of processes; rows are read twice and never held. A path that leaves the
folder counts as missing. Behind `o3v check-data`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from o3v import evidence, schema, video
from o3v.data import stgr
from o3v.data.stgr import BadRow
from o3v.schema import Example, SchemaError, Task, resolve_inside

MAX_EXAMPLES = 3  # first offenders of each kind
OF_ROWS = ("bad row", "key frame missing", "time beyond video", "box off picture")
OF_MEDIA = ("medium missing", "medium unreadable")


@dataclass(frozen=True)
class MediaInfo:
    """What there is to know about a video or picture: `duration_s` (0 for a picture), or what is wrong with it."""

    duration_s: float = 0.0
    problem: str = ""
    detail: str = ""


@dataclass
class SourceCoverage:
    """Counts of one source. `problems` counts rows by kind, `spaces` rows by the coordinates their text speaks in."""

    rows: int = 0
    media: set[str] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)
    spaces: Counter[str] = field(default_factory=Counter)


@dataclass
class Coverage:
    """The table by source, the first offenders of each kind, and the rows that have a problem (by number)."""

    sources: dict[str, SourceCoverage] = field(default_factory=dict)
    offenders: dict[str, list[str]] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)

    def note(self, number: int, source: str, kind: str, detail: str) -> None:
        """Counts one problem of a row."""
        self.bad.add(number)
        self.sources.setdefault(source, SourceCoverage()).problems[kind] += 1
        if len(found := self.offenders.setdefault(kind, [])) < MAX_EXAMPLES:
            found.append(detail)

    def table(self, media: Mapping[str, MediaInfo]) -> list[dict[str, object]]:
        """A row a source: rows, media found and readable, rows with each problem, coordinate spaces."""
        lines = []
        for name, source in sorted(self.sources.items()):
            found = [media[path] for path in source.media]
            spaces = ", ".join(f"{space} {n}" for space, n in source.spaces.most_common() if space != "none")
            lines.append(
                {
                    "source": name,
                    "rows": source.rows,
                    "media": len(found),
                    "found": sum(m.problem != OF_MEDIA[0] for m in found),
                    "readable": sum(not m.problem for m in found),
                    **{kind: source.problems[kind] for kind in OF_ROWS},
                    "boxes in": spaces,
                }
            )
        return lines


def check_file(root: Path | str, path: Path | str, workers: int = 2) -> tuple[Coverage, dict[str, MediaInfo]]:
    """Checks every row of an STGR file against the folder its paths start from. Raises as `stgr.read_stgr` does."""
    paths = sorted({e.media_path for e in stgr.read_stgr(path) if isinstance(e, Example)})
    media = dict(zip(paths, _look_at(root, paths, workers), strict=True))
    coverage = Coverage()
    for number, one in enumerate(stgr.read_stgr(path), 1):
        if isinstance(one, BadRow):
            coverage.note(number, "(bad rows)", "bad row", f"{Path(path).name}, {one}")
            coverage.sources["(bad rows)"].rows += 1
            continue
        source = coverage.sources.setdefault(one.source, SourceCoverage())
        source.rows += 1
        source.media.add(one.media_path)
        source.spaces[stgr.coordinate_space(one)] += 1
        for kind, detail in _problems(one, media[one.media_path], root):
            coverage.note(number, one.source, kind, f"{Path(path).name}, row {number} ({one.id}): {detail}")
    return coverage, media


def _problems(example: Example, medium: MediaInfo, root: Path | str) -> Iterator[tuple[str, str]]:
    """Each kind of problem of a row once, with its first case."""
    if medium.problem:
        yield medium.problem, f"{example.media_path} {medium.detail}"
    lost = [f.path for f in example.key_frames if f.path and not _exists(root, f.path)]
    if lost:
        yield "key frame missing", lost[0]
    if medium.duration_s:
        late = [f.time_s for f in example.key_frames if f.time_s > medium.duration_s]
        span_s = schema.answer_span_s(example)
        late += [span_s[1]] if span_s and span_s[1] > medium.duration_s + 1 else []
        if late:
            yield "time beyond video", f"{late[0]:g} s in {example.media_path} of {medium.duration_s:.1f} s"
    if example.task is Task.SPATIAL and example.image_size_wh:
        limits = (*example.image_size_wh, *example.image_size_wh)
        boxes = evidence.answer_boxes(f"{example.reasoning_process or ''} {example.answer}")
        off = [box for box in boxes if any(v < 0 or v > limit for v, limit in zip(box, limits, strict=True))]
        if off:
            yield "box off picture", f"{list(off[0])} in a picture of {limits[0]}×{limits[1]}"


def _exists(root: Path | str, relative: str) -> bool:
    try:
        return resolve_inside(root, relative).is_file()
    except SchemaError:
        return False


def _look_at(root: Path | str, paths: Iterable[str], workers: int) -> list[MediaInfo]:
    paths, look = list(paths), partial(inspect_media, str(root))
    bar = partial(tqdm, total=len(paths), desc="opening media", mininterval=5)
    if workers <= 1 or len(paths) < 2 * workers:
        return list(bar(map(look, paths)))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(bar(pool.map(look, paths, chunksize=16)))


def inspect_media(root: str, relative: str) -> MediaInfo:
    """Opens one medium of a folder."""
    if not _exists(root, relative):
        return MediaInfo(0.0, "medium missing", "is not there")
    path = resolve_inside(root, relative)
    try:
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp"):
            with Image.open(path) as image:
                image.verify()
            return MediaInfo()
        return MediaInfo(video.probe(path).duration_s)
    except (video.VideoError, OSError, SyntaxError, ValueError) as error:
        return MediaInfo(0.0, "medium unreadable", f"cannot be read: {error}"[:200])


def good_rows(path: Path | str, coverage: Coverage) -> Iterator[Example]:
    """The rows of a checked file that have no problem."""
    for number, one in enumerate(stgr.read_stgr(path), 1):
        if isinstance(one, Example) and number not in coverage.bad:
            yield one
