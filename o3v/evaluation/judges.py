"""Judges of answers in words, behind one callable, with verdicts cached by content.

A judge gets question, true answer and given answer and returns a verdict of 0 (wrong) to 3 (right); from 2 on an
answer counts as right. The benchmark's judge is Qwen2.5-72B; any chat model can be one (`ModelJudge`), behind an
endpoint or in this process. This module does not know how models are loaded.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from o3v import files
from o3v.evaluation.vstar import CORRECT_SCORE, judge_exact
from o3v.http_json import (
    OPENAI,
    Reply,
    RequestRefused,
    ServiceUnavailable,
    check_endpoint,
    openai_headers,
    post_json,
    read_chat,
)
from o3v.schema import Row

NO_VERDICT = -1  # as the public scorer marks an unreadable one; counts as wrong
# our words for the benchmark's scale
JUDGE_PROMPT = """Compare an answer to a question about a video with the correct answer. Judge only whether they mean
the same; grammar and length do not matter.
3: the same. 2: largely the same. 1: largely different. 0: different or no answer.
Question: {question}
Correct answer: {truth}
Answer to judge: {answer}
Reply with one of 0, 1, 2, 3 and nothing else."""


@dataclass(frozen=True)
class Verdict:
    """A score of 0–3, or NO_VERDICT for a reply without one, and its cost in tokens."""

    score: int
    tokens_in: int = 0
    tokens_out: int = 0


class Judge(Protocol):
    """`name` holds everything that determines the verdicts."""

    name: str

    def __call__(self, question: str, truth: str, answer: str) -> Verdict:
        """Judges an answer. Raises ServiceUnavailable if a retry may help, RequestRefused for this answer only."""


@dataclass(frozen=True)
class SimilarityJudge:
    """Three times a similarity of 0–1 of answer and truth, rounded: from one half on an answer counts as right."""

    name: str
    similarity: Callable[[str, str], float]

    def __call__(self, question: str, truth: str, answer: str) -> Verdict:
        """The verdict; the question is not used."""
        return Verdict(round(3 * self.similarity(answer, truth)))


EXACT = SimilarityJudge("exact", lambda answer, truth: judge_exact(answer, truth) / 3)


@dataclass(frozen=True)
class ModelJudge:
    """A chat model: `ask` gets the prompt and returns its reply."""

    name: str
    ask: Callable[[str], Reply]

    def __call__(self, question: str, truth: str, answer: str) -> Verdict:
        """The verdict; NO_VERDICT for a reply that holds no single score."""
        reply = self.ask(JUDGE_PROMPT.format(question=question, truth=truth, answer=answer))
        return Verdict(read_score(reply.text), reply.tokens_in, reply.tokens_out)


def read_score(text: str) -> int:
    """The one score that a reply names, else NO_VERDICT.

    >>> read_score("2"), read_score("Score: 3."), read_score("2 or 3"), read_score("10")
    (2, 3, -1, -1)
    """
    scores = set(re.findall(r"(?<![\d.])[0-3](?![\d]|\.\d)", text))
    return int(scores.pop()) if len(scores) == 1 else NO_VERDICT


@dataclass(frozen=True)
class ChatEndpoint:
    """Any server with the OpenAI API, asked for short texts. Reads OPENAI_API_KEY; optional for your own server."""

    model: str
    base_url: str = OPENAI
    timeout_s: float = 60.0

    def __call__(self, prompt: str) -> Reply:
        """Sends one request. Raises the errors of `http_json.post_json`, and ValueError without a key."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, "temperature": 0.0, "max_tokens": 16}
        url = f"{check_endpoint(self.base_url)}/chat/completions"
        return read_chat(post_json(url, openai_headers(self.base_url != OPENAI), body, self.timeout_s), self.model)


@dataclass
class JudgeReport:
    """Verdicts on rows (None without an answer) and what they cost. `failed` answers got no verdict at all."""

    judge: str
    scores: list[int | None] = field(default_factory=list)
    asked: int = 0
    cached: int = 0
    failed: int = 0
    unreadable: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def cost_usd(self, per_million_in: float, per_million_out: float) -> float:
        """The price of the new verdicts, given the prices of a million input and output tokens in US dollars."""
        return (self.tokens_in * per_million_in + self.tokens_out * per_million_out) / 1e6


def judge_rows(
    rows: Sequence[Mapping[str, Any]],
    judge: Judge,
    cache_dir: Path | None = None,
    workers: int = 1,
    attempts: int = 4,
    max_wait_s: float = 30.0,
) -> JudgeReport:
    """Judges `answer_vqa` of V-STAR rows. Equal questions with equal answers are asked once.

    Args:
        rows: rows with question, answer and answer_vqa.
        judge: the judge.
        cache_dir: folder of the stored verdicts, one file each, by content; None stores nothing.
        workers: answers that are judged at a time.
        attempts: at a service that is busy or broken, before an answer is left without a verdict.
        max_wait_s: longest wait between them.

    Raises ServiceError or ValueError if the service refuses all requests.
    """
    asked = [_contents(row) if row.get("answer_vqa") else None for row in rows]
    cached = _CachedJudge(judge, cache_dir, JudgeReport(judge.name), attempts, max_wait_s)
    different = list(dict.fromkeys(contents for contents in asked if contents))
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(cached, *contents) for contents in different]
        try:
            scores = dict(zip(different, [future.result() for future in futures], strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    cached.report.scores = [scores[contents] if contents else None for contents in asked]
    return cached.report


def _contents(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row.get("question", "")), str(row["answer"]), str(row["answer_vqa"])


@dataclass
class _CachedJudge:
    judge: Judge
    cache_dir: Path | None
    report: JudgeReport
    attempts: int
    max_wait_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, question: str, truth: str, answer: str) -> int:
        """The stored or a new verdict. Only verdicts with a score are stored."""
        content = json.dumps([self.judge.name, JUDGE_PROMPT, question, truth, answer])
        name = f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
        path = self.cache_dir / name if self.cache_dir else None
        if path and (stored := _stored(path)) is not None:
            self._count(cached=1)
            return stored
        retrying = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(max=self.max_wait_s),
            retry=retry_if_exception_type(ServiceUnavailable),
            reraise=True,
        )
        try:
            verdict = retrying(self.judge, question, truth, answer)
        except (ServiceUnavailable, RequestRefused):
            self._count(failed=1)
            return NO_VERDICT
        unreadable = verdict.score == NO_VERDICT
        self._count(asked=1, unreadable=unreadable, tokens_in=verdict.tokens_in, tokens_out=verdict.tokens_out)
        if path and not unreadable:
            files.write_json(path, {"judge": self.judge.name, "score": verdict.score})
        return verdict.score

    def _count(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self.report, name, getattr(self.report, name) + count)


def _stored(path: Path) -> int | None:
    """The score in a file; None if there is none or it is damaged."""
    try:
        score = files.read_json(path)["score"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return score if score in (0, 1, 2, 3) else None


def with_scores(rows: Sequence[Row], scores: Sequence[int | None]) -> list[Row]:
    """The rows with these judge scores, in place of any that they had."""
    return [{**row, "judge_score": score} for row, score in zip(rows, scores, strict=True)]


def cohen_kappa(first: Sequence[Any], second: Sequence[Any]) -> float | None:
    """Agreement of two judges beyond chance, Cohen's κ; None where chance alone agrees always, or without a verdict.

    >>> cohen_kappa([1, 1, 0, 0], [1, 1, 0, 1])  # observed 3/4, by chance 1/2
    0.5
    """
    if not first:
        return None
    count = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    shares = Counter(second)
    chance = sum(number * shares[label] for label, number in Counter(first).items()) / count**2
    return (observed - chance) / (1 - chance) if chance < 1 else None


def agreement(first: JudgeReport, second: JudgeReport) -> dict[str, Any]:
    """Agreement of two judges on the answers to which both gave a verdict: n, share, κ of right or wrong and of 0–3."""
    pairs = [(a, b) for a, b in zip(first.scores, second.scores, strict=True) if None not in (a, b)]
    pairs = [(a, b) for a, b in pairs if NO_VERDICT not in (a, b)]
    scores = ([a for a, _ in pairs], [b for _, b in pairs])
    right = tuple([score >= CORRECT_SCORE for score in one] for one in scores)
    same = sum(a == b for a, b in zip(*right, strict=True)) / len(pairs) if pairs else None
    kappas = {"kappa_right": cohen_kappa(*right), "kappa_0_to_3": cohen_kappa(*scores)}
    return {"judges": [first.judge, second.judge], "n": len(pairs), "same": same, **kappas}
