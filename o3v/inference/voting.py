"""Test-time scaling: several sampled answers to one question, chosen by confidence-weighted voting.

N responses share one prefilled prompt. The model scores the crops of their claimed boxes against the question with 0,
1 or 2; the mean over the crops is the confidence of a response. Source: paper, inference. The values of the three
scores are the public code's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from o3v import files, video
from o3v.config import InferenceConfig
from o3v.evaluation.vstar import judge_exact
from o3v.evidence import Response, answer_choice, parse_response
from o3v.geometry import rescale_box
from o3v.inference.answering import Question
from o3v.models.vlm import VideoModel, generate
from o3v.models.workers import run_batches
from o3v.prompts import RELEVANCE, Prompt
from o3v.text import tokens

CONFIDENCE = {"0": 0.2, "1": 0.6, "2": 1.0}  # public code
MIN_CONFIDENCE = min(CONFIDENCE.values())  # of a crop with an unreadable score, and of a response without evidence

CropScorer = Callable[[Sequence[np.ndarray], Sequence[str]], list[str]]  # crops, a question each → replies


@dataclass(frozen=True)
class Candidate:
    """One sampled response: its final answer, the replies about its crops, its confidence (0.2–1)."""

    text: str
    answer: str
    scores: tuple[str, ...]
    confidence: float

    @property
    def vote_key(self) -> str:
        """The key by which votes are counted: the option letter, else the words in lower case without punctuation."""
        return answer_choice(self.answer) or " ".join(tokens(self.answer))


def sample_pools(
    vlm: VideoModel,
    questions: Sequence[Question],
    config: InferenceConfig,
    score_crops: CropScorer,
    out: Path,
    seed: int = 0,
) -> list[list[Candidate]]:
    """Samples `max(config.vote_sizes)` candidates a question, at temperature 1, in `config.num_workers` processes.

    Each question's pool is a file in the folder `out`; a second call with the same folder samples only what is missing.

    Args:
        vlm: the model.
        questions: what to answer.
        config: numbers of votes and largest number of tokens.
        score_crops: scores how relevant crops are to a question; picklable for more than one process.
        out: folder of the pools.
        seed: seed of the first question; each further question adds 1.
    """
    paths = [out / f"pool_{number:05d}.json" for number in range(len(questions))]
    missing = [(p, q, seed + n) for n, (p, q) in enumerate(zip(paths, questions, strict=True)) if not p.exists()]
    work = partial(_sample_pool, vlm=vlm, config=config, score_crops=score_crops)
    done = run_batches(work, vlm, missing, config.num_workers, lambda item: f"question {item[1].key}")
    for _ in tqdm(done, desc="sampling", total=len(paths), initial=len(paths) - len(missing), mininterval=5):
        pass
    return [[Candidate(**{**row, "scores": tuple(row["scores"])}) for row in files.read_json(path)] for path in paths]


def _sample_pool(
    item: tuple[Path, Question, int], vlm: VideoModel, config: InferenceConfig, score_crops: CropScorer
) -> None:
    path, question, seed = item
    prompt, count = question.make(), max(config.vote_sizes)
    options = {"repeats": count, "repetition_penalty": config.repetition_penalty}
    texts = generate(vlm, [prompt], config.max_new_tokens, 1.0, seed, **options)
    candidates = score_candidates(texts, prompt, prompt.row["question"], score_crops)
    files.write_json(path, [asdict(candidate) for candidate in candidates])


def accuracy(
    pools: Sequence[Sequence[Candidate]], truths: Sequence[str], counts: Sequence[int]
) -> list[dict[str, float]]:
    """Share of questions answered right with N candidates, for each N of `counts`: one row per N.

    `single` is the mean accuracy of the first N candidates, which is that of one sampled response. `majority` and
    `confidence` are the two ways of voting.
    """
    rows = []
    for n in counts:
        picked = [(pool[:n], truth) for pool, truth in zip(pools, truths, strict=True)]
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
    """Whether the exact judge accepts an answer."""
    return judge_exact(answer, truth) >= 2


def score_candidates(texts: Sequence[str], prompt: Prompt, question: str, score_crops: CropScorer) -> list[Candidate]:
    """Responses to one prompt with their confidence. `score_crops` gets all their crops in one call."""
    responses = [parse_response(text) for text in texts]
    crops = [evidence_crops(response, prompt) for response in responses]
    flat = [crop for part in crops for crop in part]
    replies = iter(score_crops(flat, [RELEVANCE.format(question=question)] * len(flat)) if flat else ())
    candidates = []
    for response, part in zip(responses, crops, strict=True):
        scores = tuple(next(replies).strip() for _ in part)
        values = [CONFIDENCE.get(score[:1], MIN_CONFIDENCE) for score in scores]
        confidence = float(np.mean(values)) if values else MIN_CONFIDENCE
        candidates.append(Candidate(response.text, response.final_answer, scores, confidence))
    return candidates


def evidence_crops(response: Response, prompt: Prompt) -> list[np.ndarray]:
    """A crop of each claimed box from the frame nearest to its time; boxes outside of the frame are left out.

    An image, and a claim without a time, use the first frame.
    """
    height, width = prompt.images[0].shape[:2]
    crops = []
    for claim in response.claims:
        timed = claim.time_s is not None and prompt.times_s
        index = video.nearest_frame(prompt.times_s, claim.time_s, math.inf) if timed else 0
        for box in claim.boxes:
            try:
                crops.append(video.crop(prompt.images[index], rescale_box(box, prompt.space_wh, (width, height))))
            except ValueError:
                continue  # the box contains no pixel, so it cannot support the answer
    return crops


def vote(candidates: Sequence[Candidate], weighted: bool = True) -> str:
    """The answer with the largest sum of confidences, or of votes if not `weighted`.

    Ties go to the first answer, and the answer is spelled as its first candidate spells it. Raises ValueError without
    candidates.
    """
    if not candidates:
        raise ValueError("there are no candidates to vote for")
    sums: dict[str, float] = {}
    for candidate in candidates:
        sums[candidate.vote_key] = sums.get(candidate.vote_key, 0.0) + (candidate.confidence if weighted else 1.0)
    chosen = max(sums, key=sums.__getitem__)
    return next(candidate.answer for candidate in candidates if candidate.vote_key == chosen)


def calibration(confidence: Sequence[float], right: Sequence[bool], bins: int = 4) -> list[dict[str, float]]:
    """Share of right candidates by confidence, in equal bins from 0.2 to 1; empty bins are left out."""
    edges = np.linspace(MIN_CONFIDENCE, 1, bins + 1)
    positions = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    values, hits = np.asarray(confidence, float), np.asarray(right, float)
    table = []
    for b in range(bins):
        if (inside := positions == b).any():
            means = {"confidence": float(values[inside].mean()), "right": float(hits[inside].mean())}
            table.append({"from": float(edges[b]), "to": float(edges[b + 1]), "n": int(inside.sum()), **means})
    return table
