"""Test-time scaling: several answers to one question, each weighted by what its own evidence shows.

N responses are sampled from one reading of the prompt; the model itself scores the crops of their claimed boxes
against the question, 0, 1 or 2; answers are chosen by confidence-weighted voting, beside plain majority. Source: paper,
inference; the weights of the scores are the public code's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from o3v import files, video
from o3v.evaluation.vstar import judge_exact
from o3v.evidence import Response, answer_choice, parse_response
from o3v.geometry import rescale_box
from o3v.inference.answering import Question
from o3v.models.vlm import VideoModel, generate
from o3v.prompts import RELEVANCE, Prompt

CONFIDENCE = {"0": 0.2, "1": 0.6, "2": 1.0}  # public code
MIN_CONFIDENCE = min(CONFIDENCE.values())  # of a crop with another score, and of a response without evidence

CropScorer = Callable[[Sequence[np.ndarray], Sequence[str]], list[str]]  # crops and a question of each → what is said


@dataclass(frozen=True)
class Candidate:
    """One sampled response: its answer as it stands, the scores of its crops as said, its confidence (0.2–1)."""

    text: str
    answer: str
    scores: tuple[str, ...]
    confidence: float

    @property
    def vote_key(self) -> str:
        """The answer as votes are counted: a letter where there is one, else its words without case and marks."""
        return answer_choice(self.answer) or " ".join(re.findall(r"\w+", self.answer.casefold()))


def sample_pools(
    vlm: VideoModel, asked: Sequence[Question], count: int, longest: int, ask: CropScorer, out: Path, seed: int = 0
) -> list[list[Candidate]]:
    """`count` candidates for each question, sampled at temperature 1 from one reading of its prompt.

    Each question's pool is a file in the folder `out`; asked again with the same folder, only what is missing is made.
    """
    found = []
    for number, question in enumerate(tqdm(asked, desc="sampling", mininterval=5)):
        path = out / f"pool_{number:05d}.json"
        if not path.exists():
            prompt = question.make()
            texts = generate(vlm, [prompt], longest, temperature=1.0, seed=seed + number, repeats=count)
            made = score_candidates(texts, prompt, prompt.row["question"], ask)
            files.write_json(path, [asdict(candidate) for candidate in made])
        kept = files.read_json(path)
        found.append([Candidate(**{**one, "scores": tuple(one["scores"])}) for one in kept])
    return found


def accuracy(
    found: Sequence[Sequence[Candidate]], right: Sequence[str], counts: Sequence[int]
) -> list[dict[str, float]]:
    """A row for each number of candidates: the share of questions that each way of choosing answers right.

    `right` are the true answers; an answer is right when `vstar.judge_exact` says so. *single* is the mean over the
    candidates, which is what one sampled response is worth.
    """
    rows = []
    for n in counts:
        picked = [(pool[:n], truth) for pool, truth in zip(found, right, strict=True)]
        rows.append(
            {
                "N": n,
                "single": float(np.mean([is_right(c.answer, truth) for pool, truth in picked for c in pool])),
                "majority": float(np.mean([is_right(vote(pool, weighted=False), truth) for pool, truth in picked])),
                "confidence": float(np.mean([is_right(vote(pool), truth) for pool, truth in picked])),
            }
        )
    return rows


def is_right(answer: str, truth: str) -> bool:
    """Whether the scripted judge accepts an answer."""
    return judge_exact(answer, truth) >= 2


def score_candidates(texts: Sequence[str], prompt: Prompt, question: str, ask: CropScorer) -> list[Candidate]:
    """The responses with their confidence: `ask` sees all their crops in one go.

    A response without an answer section counts whole as the answer.
    """
    responses = [parse_response(text) for text in texts]
    crops = [evidence_crops(response, prompt) for response in responses]
    flat = [crop for part in crops for crop in part]
    said = iter(ask(flat, [RELEVANCE.format(question=question)] * len(flat)) if flat else ())
    found = []
    for response, part in zip(responses, crops, strict=True):
        scores = tuple(next(said).strip() for _ in part)
        sure = [CONFIDENCE.get(score[:1], MIN_CONFIDENCE) for score in scores]
        answer = (response.text if response.answer is None else response.answer).strip()
        found.append(Candidate(response.text, answer, scores, float(np.mean(sure)) if sure else MIN_CONFIDENCE))
    return found


def evidence_crops(response: Response, prompt: Prompt) -> list[np.ndarray]:
    """A crop of each claimed box from the frame nearest to its time; boxes outside of the frame give none.

    For a picture, or a claim without a time, the first frame.
    """
    height, width = prompt.images[0].shape[:2]
    times_s, crops = np.array(prompt.times_s), []
    for claim in response.claims:
        at = int(np.abs(times_s - claim.time_s).argmin()) if claim.time_s is not None and len(times_s) else 0
        for box in claim.boxes:
            try:
                crops.append(video.crop(prompt.images[at], rescale_box(box, prompt.space_wh, (width, height))))
            except ValueError:
                continue  # nothing to see there, so nothing that speaks for the answer
    return crops


def vote(found: Sequence[Candidate], weighted: bool = True) -> str:
    """The answer with the most votes, or the most confidence; the first of equals, as its first candidate wrote it.

    Raises ValueError without candidates.
    """
    if not found:
        raise ValueError("there are no candidates to vote for")
    sums: dict[str, float] = {}
    for candidate in found:
        sums[candidate.vote_key] = sums.get(candidate.vote_key, 0.0) + (candidate.confidence if weighted else 1.0)
    chosen = max(sums, key=sums.__getitem__)
    return next(candidate.answer for candidate in found if candidate.vote_key == chosen)


def calibration(confidence: Sequence[float], right: Sequence[bool], bins: int = 4) -> list[dict[str, float]]:
    """How often candidates are right, by confidence from 0.2 to 1 in equal bins; empty bins are left out."""
    edges = np.linspace(MIN_CONFIDENCE, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    values, hits = np.asarray(confidence, float), np.asarray(right, float)
    table = []
    for b in range(bins):
        if (here := place == b).any():
            means = {"confidence": float(values[here].mean()), "right": float(hits[here].mean())}
            table.append({"from": float(edges[b]), "to": float(edges[b + 1]), "n": int(here.sum()), **means})
    return table
