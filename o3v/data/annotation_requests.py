"""Requests to annotators: many at a time, with a rate limit, retries and a cache on disk.

An annotator is a callable that takes an `AnnotationItem` and returns the JSON text of an annotation. Each answer is
stored as soon as it arrives, under a hash of its request, so a killed run resumes without repeating requests. Source:
paper, annotation pipeline, step 1. This module does not know the models (`annotation_clients`) or whether an answer
is true (`filters`).
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)
from tqdm.auto import tqdm

from o3v import files
from o3v.data.annotation import AnnotationError, AnnotationItem, parse_annotation
from o3v.http_json import Reply, RequestRefused, ServiceUnavailable

log = logging.getLogger(__name__)

STORE_S = 1.0  # after an interrupt, how long replies that are just arriving may still be stored


class Annotator(Protocol):
    """`name` holds everything that determines the answers: model, prompt, settings.

    `deterministic` annotators give the same answer every time, so a malformed answer is not requested again.
    """

    name: str
    deterministic: bool

    def __call__(self, item: AnnotationItem) -> Reply:
        """Returns the annotation of an item as JSON text.

        Raises `ServiceUnavailable` if a later retry may help, `RequestRefused` if only this item cannot be annotated.
        """


@dataclass(frozen=True)
class RequestLimits:
    """`workers` requests at a time, at most `per_minute` starts, at most `attempts` for an item.

    Before a retry the wait is random, up to a limit that grows from `min_wait_s` to `max_wait_s`. The budget:
    at most `max_requests`, and none after the replies have cost `max_cost_usd` at `prices_usd` for a million tokens of
    input and output; requests that are under way then are still paid. Raises ValueError for impossible limits.
    """

    workers: int = 8
    per_minute: float = 120.0
    attempts: int = 5
    min_wait_s: float = 1.0
    max_wait_s: float = 60.0
    max_requests: int | None = None
    max_cost_usd: float | None = None
    prices_usd: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.attempts < 1 or not 0 < self.per_minute < float("inf"):
            raise ValueError("workers, attempts and requests per minute must be above 0")
        if self.max_cost_usd is not None and not self.prices_usd:
            raise ValueError("a limit of the cost needs the prices of a million input and output tokens (--prices)")


@dataclass
class RequestReport:
    """Counts of a run. Tokens are those of this run's requests; `cached` answers cost nothing.

    `not_asked` items are left because the budget is used up.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    not_asked: int = 0
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
    """Yields items with the text of their answers, in order. Skips items that get no answer, and logs them.

    An interrupt ends it at once: no request starts any more, and what has arrived is stored.

    Args:
        items: What to annotate; read lazily, a few items ahead of the results.
        annotator: Called from several threads at a time. Errors other than those of `Annotator` stop the run.
        cache_dir: Folder of the stored answers. A stored answer is never requested again, even a malformed one.
        limits: Number of parallel requests, rate, retries and budget.
        report: Receives the counts of this run.
    """
    report, start_s = report or RequestReport(), time.perf_counter()
    answer_of = _CachedAnnotator(annotator, Path(cache_dir), limits, report)
    items, pending = iter(items), []
    with tqdm(desc="annotating", mininterval=5) as bar:
        try:
            while True:
                fresh = list(islice(items, 2 * limits.workers - len(pending)))
                pending += [(item, answer_of.start(item)) for item in fresh]
                if not pending:
                    break
                item, future = pending.pop(0)
                text = future.result()
                bar.update()
                if text is not None:
                    yield item, text
        finally:
            report.elapsed_s += time.perf_counter() - start_s
            answer_of.stop.set()
            deadline = time.monotonic() + STORE_S
            for _, future in pending:
                with suppress(Exception):  # the first error is already on its way
                    future.result(max(0.0, deadline - time.monotonic()))


class _BudgetUsedUp(Exception):
    """No further request may start."""


@dataclass
class _CachedAnnotator:
    """Answers items from the cache or by requests. Safe to call from any thread."""

    annotator: Annotator
    cache_dir: Path
    limits: RequestLimits
    report: RequestReport
    next_start_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.free = threading.Semaphore(self.limits.workers)

    def start(self, item: AnnotationItem) -> Future:
        """Answers an item in a thread that does not keep the process alive, as those of an executor would."""
        future: Future = Future()

        def work() -> None:
            try:
                with self.free:
                    future.set_result(self(item))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def __call__(self, item: AnnotationItem) -> str | None:
        """The stored or a new answer; None if no attempt gets an answer."""
        request = json.dumps([self.annotator.name, asdict(item)], sort_keys=True, ensure_ascii=False)
        path = self.cache_dir / f"{hashlib.sha256(request.encode()).hexdigest()[:32]}.json"
        if path.exists():
            return self._stored(item, path)
        retrying = Retrying(
            stop=stop_after_attempt(self.limits.attempts) | stop_when_event_set(self.stop),
            wait=wait_random_exponential(self.limits.min_wait_s, self.limits.max_wait_s),
            retry=retry_if_exception_type((ServiceUnavailable, AnnotationError)),
            before_sleep=lambda _: self._count(retries=1),
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        replies: list[Reply] = []
        try:
            retrying(self._request, item, replies)
        except (ServiceUnavailable, AnnotationError, RequestRefused, _BudgetUsedUp, RetryError) as error:
            if not replies:
                if isinstance(error, _BudgetUsedUp):
                    self._count(not_asked=1)
                elif not self.stop.is_set():
                    self._count(failed=1)
                    log.warning("%s: no annotation: %s", item.id, error)
                return None
        # The last reply may be malformed. It is stored too: the filters report it.
        files.write_json(path, {"item": asdict(item), "annotator": self.annotator.name, **asdict(replies[-1])})
        return replies[-1].text

    def _stored(self, item: AnnotationItem, path: Path) -> str | None:
        """The text of a stored answer. None if the file was damaged: it was paid for, so it is not replaced."""
        try:
            text = files.read_json(path)["text"]
            text.encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            self._count(failed=1)
            log.warning("%s: the stored answer %s is damaged; remove it to ask again", item.id, path)
            return None
        self._count(cached=1)
        return text

    def _request(self, item: AnnotationItem, replies: list[Reply]) -> None:
        """Makes one attempt and appends its reply. Raises AnnotationError for a malformed one, to retry."""
        with self.lock:  # space the starts evenly
            start_s = max(self.next_start_s, time.monotonic())
            self.next_start_s = start_s + 60 / self.limits.per_minute
        self.stop.wait(max(0.0, start_s - time.monotonic()))
        self._start_within_budget()
        reply = self.annotator(item)
        text = reply.text.encode(errors="replace").decode()  # half of a surrogate pair cannot be stored
        replies.append(replace(reply, text=text))
        self._count(tokens_in=replies[-1].tokens_in, tokens_out=replies[-1].tokens_out)
        if not self.annotator.deterministic:
            parse_annotation(replies[-1].text)

    def _start_within_budget(self) -> None:
        """Counts a request. Raises _BudgetUsedUp if it may not start."""
        limits, report = self.limits, self.report
        with self.lock:
            requests_left = limits.max_requests is None or report.requests < limits.max_requests
            cost_left = limits.max_cost_usd is None or report.cost_usd(*limits.prices_usd) < limits.max_cost_usd
            if self.stop.is_set() or not requests_left or not cost_left:
                raise _BudgetUsedUp
            report.requests += 1

    def _count(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self.report, name, getattr(self.report, name) + count)
