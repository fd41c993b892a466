"""Other benchmarks of the paper's table 2, and Charades-STA: their annotation files as items.

Each benchmark is one entry of BENCHMARKS: how a row of its file becomes items, and which task of lmms-eval runs it. A
row that cannot be scored is left out and named: real files hold inverted spans and questions without options. Questions
are about a span (tIoU) or have lettered options (accuracy). This module does not know models or scores.
"""

import ast
import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from o3v import files
from o3v.geometry import Span
from o3v.schema import Row, SchemaError, without_section

NUM_FRAMES = 64  # paper: 16 on V-STAR, 64 elsewhere
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class BenchmarkItem:
    """A question with its true answer: a span, a letter of `letters`, or (without both) a text."""

    key: str
    video: str  # path below the folder of videos
    question: str  # with its options, one a line
    answer: str = ""
    span_s: Span | None = None
    letters: str = ""
    group: str = ""  # what the benchmark breaks its scores down by


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark is read. `lmms_task` is its name in lmms-eval 0.7, None if that has no such task."""

    items_of: Callable[[Row], Sequence[BenchmarkItem | SchemaError]]
    lmms_task: str | None
    source: str  # where its annotation file comes from
    paper: tuple[float, float] | None = None  # per cent of Qwen2.5-VL-7B and Open-o3-Video-7B, table 2 of the paper


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise SchemaError(f"field {name!r} must be a text, found {value!r:.60}")
    return value.strip()


def _span(value: Any, name: str, duration_s: Any = math.inf) -> Span:
    """A span in seconds. An inverted one is an error: no answer can overlap it."""
    numbers = value if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise SchemaError(f"field {name!r} must be a span [start, end], found {value!r:.60}")
    start_s, end_s = numbers
    if not 0 <= start_s < end_s:
        raise SchemaError(f"field {name!r} is {value!r:.60}, an inverted or empty span")
    if type(duration_s) in (int, float) and start_s >= duration_s:
        raise SchemaError(f"field {name!r} begins at {start_s} s, after the end of the video at {duration_s} s")
    return float(start_s), float(end_s)


def _options(row: Row, name: str) -> list[str]:
    """The options of a row, a list or its Python literal, without their letters."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if len(value) < 20_000 else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = None
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= 26 or not all(isinstance(v, str) for v in value):
        raise SchemaError(f"field {name!r} must be a list of at least two options, found {row.get(name)!r:.60}")
    return [re.sub(rf"^\s*\(?{letter}[.):]\s*", "", text) for letter, text in zip(LETTERS, value, strict=False)]


def _choice(row: Row, options: str, video: str, key: str, group: str) -> BenchmarkItem:
    """A question with options; its answer is one of their letters."""
    texts = _options(row, options)
    letters, answer = LETTERS[: len(texts)], _text(row, "answer").upper()
    if len(answer) != 1 or answer not in letters:
        raise SchemaError(f"field 'answer' is {answer!r:.60}, none of the letters {letters}")
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    return BenchmarkItem(key, video, f"{_text(row, 'question')}\n{listed}", answer, letters=letters, group=group)


def _tvgbench(row: Row) -> list[BenchmarkItem]:
    ends = [row["start"], row["end"]] if "start" in row else re.findall(r"[0-9.]+", _text(row, "answer"))
    try:
        span_s = _span([float(end) for end in ends], "start, end", row.get("duration"))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, SchemaError) else SchemaError(f"'start', 'end' are {ends!r:.60}") from None
    question = _text(row, "question")
    key = f"{_text(row, 'path')}/{question}"
    return [BenchmarkItem(key, row["path"], question, span_s=span_s, group=str(row.get("qsemtype", "")))]


def _grounding(spans: str, sentences: str) -> Callable[[Row], list[BenchmarkItem | SchemaError]]:
    """Reads a video with several sentences. A bad one is returned as an error, the others stay."""

    def item_of(video: str, number: int, span: Any, text: Any, duration_s: Any) -> BenchmarkItem | SchemaError:
        try:
            span_s, question = _span(span, f"{spans}[{number}]", duration_s), _text({sentences: text}, sentences)
        except SchemaError as error:
            return SchemaError(f"{video}: {error}")
        return BenchmarkItem(f"{video}/{number}", f"{video}.mp4", question, span_s=span_s)

    def items_of(row: Row) -> list[BenchmarkItem | SchemaError]:
        video, all_spans, texts = _text(row, "vid"), row.get(spans), row.get(sentences)
        if not isinstance(all_spans, list) or not isinstance(texts, list) or len(all_spans) != len(texts):
            raise SchemaError(f"fields {spans!r} and {sentences!r} must be lists of the same length")
        pairs = zip(all_spans, texts, strict=True)
        return [item_of(video, number, *pair, row.get("duration")) for number, pair in enumerate(pairs)]

    return items_of


def _videomme(row: Row) -> list[BenchmarkItem]:
    return [_choice(row, "options", f"{_text(row, 'videoID')}.mp4", str(row["question_id"]), _text(row, "duration"))]


def _worldsense(row: Row) -> list[BenchmarkItem]:
    video, question = _text(row, "video"), _text(row, "question")
    group = row.get("task_domain", row.get("domain", ""))
    return [_choice(row, "candidates", f"{Path(video).stem}.mp4", f"{video}/{question}", str(group))]


def _videommmu(row: Row) -> list[BenchmarkItem]:
    name, kind = _text(row, "id"), str(row.get("question_type", "multiple-choice"))
    if row.get("options") in (None, [], "", "[]"):  # an open question
        return [BenchmarkItem(name, f"{name}.mp4", _text(row, "question"), _text(row, "answer"), group=kind)]
    return [_choice(row, "options", f"{name}.mp4", name, kind)]


def _longvideo_reason(row: Row) -> list[BenchmarkItem]:
    """The options stand in the question; some rows of the public file have none."""
    question, answer = _text(row, "problem"), without_section("answer", _text(row, "answer")).strip().upper()
    letters = "".join(dict.fromkeys(re.findall(r"^\s*\(?([A-J])[.):]", question, re.MULTILINE)))
    if len(answer) != 1 or answer not in letters:
        raise SchemaError(f"field 'answer' is {answer!r:.60}, none of the options {letters!r} in the problem")
    key, group = str(row.get("problem_id", question)), str(row.get("problem_type", ""))
    return [BenchmarkItem(key, _text(row, "videos"), question, answer, letters=letters, group=group)]


BENCHMARKS: Mapping[str, Benchmark] = {
    "tvgbench": Benchmark(_tvgbench, None, "Boshenxx/TimeR1-Dataset", (16.3, 20.8)),
    "charades-sta": Benchmark(_grounding("timestamps", "sentences"), "temporal_grounding_charades", "Charades-STA"),
    "charades-timelens": Benchmark(_grounding("spans", "queries"), "timelens_charades", "TencentARC/TimeLens-Bench"),
    "videomme": Benchmark(_videomme, "videomme", "lmms-lab/Video-MME", (62.4, 63.6)),
    "worldsense": Benchmark(_worldsense, "worldsense", "honglyhly/WorldSense", (36.1, 37.5)),
    "videommmu": Benchmark(_videommmu, "video_mmmu", "lmms-lab/VideoMMMU", (51.2, 52.3)),
    "longvideo-reason": Benchmark(_longvideo_reason, None, "LongVideo-Reason/longvideo-reason", (59.3, 69.4)),
}


def _json_rows(path: Path) -> Iterator[Any]:
    """Rows of a JSON list, or of an object that maps videos to their rows."""
    found = files.read_json(path)
    if isinstance(found, Mapping):
        yield from ({"vid": name, **value} if isinstance(value, Mapping) else value for name, value in found.items())
    else:
        yield from found if isinstance(found, list) else [found]


def _charades_lines(path: Path) -> Iterator[Row]:
    """Lines of Charades-STA's own file: `AO8RW 0.0 6.9##a person is putting a book on a shelf.`"""
    with files.open_text(path) as file:
        for line in filter(str.strip, file):
            head, _, sentence = line.strip().partition("##")
            video, *ends = head.split()
            numbers = [float(end) for end in ends if re.fullmatch(r"[0-9.]+", end)]
            yield {"vid": video, "timestamps": [numbers], "sentences": [sentence]}


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet  # slow to import

    yield from pyarrow.parquet.read_table(path).to_pylist()


def _table_rows(path: Path, delimiter: str) -> Iterator[Row]:
    with files.open_text(path, "utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


READERS: Mapping[str, Callable[[Path], Iterator[Any]]] = {
    ".json": _json_rows,
    ".jsonl": lambda path: (row for _, row in files.read_jsonl(path)),
    ".parquet": _parquet_rows,
    ".tsv": lambda path: _table_rows(path, "\t"),
    ".csv": lambda path: _table_rows(path, ","),
    ".txt": _charades_lines,
}


def read_benchmark(name: str, path: Path | str) -> tuple[list[BenchmarkItem], list[str]]:
    """Items of an annotation file, and the rows that are left out, each with number, field and reason.

    Raises ValueError for an unknown benchmark or ending and for a file that cannot be read or has no good row.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark {name!r} is none of vstar, {', '.join(BENCHMARKS)}")
    if Path(path).suffix not in READERS:
        raise ValueError(f"{path}: the ending is none of {', '.join(READERS)}")
    files.regular(path)
    items: dict[str, BenchmarkItem] = {}
    problems = []
    try:
        for number, row in enumerate(READERS[Path(path).suffix](Path(path)), 1):
            for item in _items_of(name, row):
                if isinstance(item, SchemaError):
                    problems.append(f"row {number}: {item}")
                else:
                    item = replace(item, key=f"{item.key}#{number}") if item.key in items else item
                    items[item.key] = item
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None
    if not items:
        raise ValueError(f"{path} holds no row of {name}: {problems[0] if problems else 'it is empty'}")
    return list(items.values()), problems


def _items_of(name: str, row: Any) -> Sequence[BenchmarkItem | SchemaError]:
    """The items of one row, with an error in place of each bad one."""
    try:
        return BENCHMARKS[name].items_of(row)
    except KeyError as error:
        return [SchemaError(f"field {error} is missing")]
    except (TypeError, AttributeError):
        return [SchemaError(f"is no row of {name}: {row!r:.60}")]
    except SchemaError as error:
        return [error]
