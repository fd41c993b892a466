"""Requests to annotators: many at a time, with a rate limit, retries and a cache on disk.

An annotator is a callable that takes an `AnnotationItem` and returns the JSON text of an annotation. Each answer is
stored as soon as it arrives, under a hash of its request, so a killed run resumes without repeating requests. Source:
paper, annotation pipeline, step 1. This module does not know the models (`annotation_clients`) or whether an answer
is true (`filters`).
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tqdm.auto import tqdm

from o3v import files
from o3v.data.annotation import AnnotationError, AnnotationItem, parse_annotation


@dataclass(frozen=True)
class Reply:
    """The text of an answer and its cost in tokens."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


class Annotator(Protocol):
    """`name` holds everything that determines the answers: model, prompt, settings.

    `deterministic` annotators give the same answer every time, so a malformed answer is not requested again.
    """

    name: str
    deterministic: bool

    def __call__(self, item: AnnotationItem) -> Reply:
        """Returns the annotation of an item as JSON text. Raises `ServiceUnavailable` if a later retry may help."""


class ServiceUnavailable(RuntimeError):
    """The service is busy, slow or broken for now."""


@dataclass(frozen=True)
class RequestLimits:
    """`workers` requests at a time, at most `per_minute` starts, at most `attempts` for an item.

    Before a retry the wait is random, up to a limit that grows from `min_wait_s` to `max_wait_s`.
    """

    workers: int = 8
    per_minute: float = 120.0
    attempts: int = 5
    min_wait_s: float = 1.0
    max_wait_s: float = 60.0


@dataclass
class RequestReport:
    """Counts of a run. Tokens are those of this run's requests; `cached` answers cost nothing."""

    requests: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    elapsed_s: float = 0.0

    def cost_usd(self, per_million_in: float, per_million_out: float) -> float:
        """The price of the run, given the prices of a million input and output tokens in US dollars."""
        return (self.tokens_in * per_million_in + self.tokens_out * per_million_out) / 1e6


def annotate(
    items: Iterable[AnnotationItem],
    annotator: Annotator,
    cache_dir: Path | str,
    limits: RequestLimits,
    report: RequestReport | None = None,
) -> Iterator[tuple[AnnotationItem, str]]:
    """Yields items with the text of their answers, in order. Skips items that get no answer.

    Args:
        items: What to annotate; read lazily, a few items ahead of the results.
        annotator: Called from several threads at a time. Errors other than ServiceUnavailable stop the run.
        cache_dir: Folder of the stored answers. A stored answer is never requested again, even a malformed one.
        limits: Number of parallel requests, rate and retries.
        report: Receives the counts of this run.
    """
    report, start_s = report or RequestReport(), time.perf_counter()
    answer_of = _CachedAnnotator(annotator, Path(cache_dir), limits, report)
    items, pending = iter(items), []
    with ThreadPoolExecutor(limits.workers) as pool, tqdm(desc="annotating", mininterval=5) as bar:
        try:
            while True:
                fresh = list(islice(items, 2 * limits.workers - len(pending)))
                pending += [(item, pool.submit(answer_of, item)) for item in fresh]
                if not pending:
                    break
                item, future = pending.pop(0)
                text = future.result()
                bar.update()
                if text is not None:
                    yield item, text
        finally:
            report.elapsed_s += time.perf_counter() - start_s
            for _, future in pending:
                future.cancel()


@dataclass
class _CachedAnnotator:
    """Answers items from the cache or by requests. Safe to call from any thread."""

    annotator: Annotator
    cache_dir: Path
    limits: RequestLimits
    report: RequestReport
    next_start_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, item: AnnotationItem) -> str | None:
        """The stored or a new answer; None if no attempt gets an answer."""
        request = json.dumps([self.annotator.name, asdict(item)], sort_keys=True, ensure_ascii=False)
        path = self.cache_dir / f"{hashlib.sha256(request.encode()).hexdigest()[:32]}.json"
        if path.exists():
            self._count(cached=1)
            return files.read_json(path)["text"]
        retrying = Retrying(
            stop=stop_after_attempt(self.limits.attempts),
            wait=wait_random_exponential(self.limits.min_wait_s, self.limits.max_wait_s),
            retry=retry_if_exception_type((ServiceUnavailable, AnnotationError)),
            before_sleep=lambda _: self._count(retries=1),
            reraise=True,
        )
        replies: list[Reply] = []
        try:
            retrying(self._request, item, replies)
        except (ServiceUnavailable, AnnotationError) as error:
            if not replies:
                self._count(failed=1)
                tqdm.write(f"{item.id}: no annotation after {self.limits.attempts} attempts: {error}")
                return None
        # The last reply may be malformed. It is stored too: the filters report it.
        files.write_json(path, {"item": asdict(item), "annotator": self.annotator.name, **asdict(replies[-1])})
        return replies[-1].text

    def _request(self, item: AnnotationItem, replies: list[Reply]) -> None:
        """Makes one attempt and appends its reply. Raises AnnotationError for a malformed one, to retry."""
        with self.lock:  # space the starts evenly
            start_s = max(self.next_start_s, time.monotonic())
            self.next_start_s = start_s + 60 / self.limits.per_minute
        time.sleep(max(0.0, start_s - time.monotonic()))
        self._count(requests=1)
        reply = self.annotator(item)
        text = reply.text.encode(errors="replace").decode()  # half of a surrogate pair cannot be stored
        replies.append(replace(reply, text=text))
        self._count(tokens_in=replies[-1].tokens_in, tokens_out=replies[-1].tokens_out)
        if not self.annotator.deterministic:
            parse_annotation(replies[-1].text)

    def _count(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self.report, name, getattr(self.report, name) + count)
