"""Annotation: from a video and what is known about it to a question with an answer and evidence.

An annotator is a callable from an `Item` to the JSON text of an annotation; `annotate` asks one for many items at
a time, patiently and never twice for the same. Every answer is kept on disk as soon as it is there, by the content
of the request, so a run that was killed goes on where it was. Source: paper, annotation pipeline, step 1. Which
models there are to ask is another module's (`annotators`); what is wrong with an answer is `curate`'s.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tqdm.auto import tqdm

from o3v import files
from o3v.data.annotation import AnnotationError, AnnotationItem, parse_annotation


@dataclass(frozen=True)
class Reply:
    """What an annotator said, and its cost in tokens."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


class Annotator(Protocol):
    """`name` is all that decides its answers (model, prompt, settings); `repeats` whether asking again is in vain."""

    name: str
    repeats: bool

    def __call__(self, item: AnnotationItem) -> Reply:
        """The annotation of an item as JSON text. Raises `ServiceUnavailable` when asking later may help."""


class ServiceUnavailable(RuntimeError):
    """The service is busy, slow or broken for now."""


@dataclass(frozen=True)
class RequestLimits:
    """How to ask: `workers` at a time, at most `per_minute` starts, `attempts` each, waiting up to `longest_s`."""

    workers: int = 8
    per_minute: float = 120.0
    attempts: int = 5
    shortest_s: float = 1.0
    longest_s: float = 60.0


@dataclass
class RequestReport:
    """What a run cost. Tokens are those of this run's requests, `cached` answers cost nothing."""

    asked: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    elapsed_s: float = 0.0
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Adds to the counts, from any thread."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def cost_usd(self, per_million_in: float, per_million_out: float) -> float:
        """The run's price at these prices of a million tokens."""
        return (self.tokens_in * per_million_in + self.tokens_out * per_million_out) / 1e6


def annotate(
    items: Iterable[AnnotationItem],
    annotator: Annotator,
    cache: Path | str,
    pace: RequestLimits,
    report: RequestReport | None = None,
) -> Iterator[tuple[AnnotationItem, str]]:
    """Items with the text that the annotator gave for each, in order; those for which it gave none are left out.

    Answers already in the folder `cache` are not asked for again, whatever they say.
    """
    report, started, gate = (
        report if report is not None else RequestReport(),
        time.perf_counter(),
        _Gate(pace.per_minute),
    )
    ask = _Asker(annotator, Path(cache), pace, report, gate)
    items, waiting = iter(items), []
    with ThreadPoolExecutor(pace.workers) as pool, tqdm(desc="annotating", mininterval=5) as bar:
        try:
            while True:
                fresh = list(islice(items, 2 * pace.workers - len(waiting)))
                waiting += [(item, pool.submit(ask, item)) for item in fresh]
                if not waiting:
                    break
                item, future = waiting.pop(0)
                text = future.result()
                bar.update()
                if text is not None:
                    yield item, text
        finally:
            report.elapsed_s += time.perf_counter() - started
            for _, future in waiting:
                future.cancel()


class _Gate:
    """Lets requests begin one by one, `per_minute` at most."""

    def __init__(self, per_minute: float) -> None:
        self.between_s, self.next_s, self.lock = 60 / per_minute, 0.0, threading.Lock()

    def wait(self) -> None:
        """Returns when the next request may begin."""
        with self.lock:
            begin_s = max(self.next_s, time.monotonic())
            self.next_s = begin_s + self.between_s
        time.sleep(max(0.0, begin_s - time.monotonic()))


@dataclass(frozen=True)
class _Asker:
    annotator: Annotator
    cache: Path
    pace: RequestLimits
    report: RequestReport
    gate: _Gate

    def __call__(self, item: AnnotationItem) -> str | None:
        """The kept or the fresh answer; None when there is none to be had, which is reported."""
        path = self.cache / f"{request_key(self.annotator, item)}.json"
        if path.exists():
            self.report.add(cached=1)
            return files.read_json(path)["text"]
        patience = Retrying(
            stop=stop_after_attempt(self.pace.attempts),
            wait=wait_random_exponential(self.pace.shortest_s, self.pace.longest_s),
            retry=retry_if_exception_type((ServiceUnavailable, AnnotationError)),
            before_sleep=lambda _: self.report.add(retries=1),
            reraise=True,
        )
        last: list[Reply] = []
        try:
            patience(self._once, item, last)
        except (ServiceUnavailable, AnnotationError) as error:
            if not last:
                self.report.add(failed=1)
                tqdm.write(f"{item.id}: no annotation after {self.pace.attempts} attempts: {error}")
                return None
        # it did answer, well or badly; bad answers are for the filters to tell
        files.write_json(path, {"item": asdict(item), "annotator": self.annotator.name, **asdict(last[-1])})
        return last[-1].text

    def _once(self, item: AnnotationItem, last: list[Reply]) -> None:
        self.gate.wait()
        self.report.add(asked=1)
        answer = self.annotator(item)
        last.append(answer)
        self.report.add(tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)
        if not self.annotator.repeats:
            parse_annotation(answer.text)


def request_key(annotator: Annotator, item: AnnotationItem) -> str:
    """What a request is known by in the cache: a hash of the annotator's name and all of the item."""
    text = json.dumps([annotator.name, asdict(item)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
