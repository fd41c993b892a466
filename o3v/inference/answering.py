"""Answers many questions in batches, with greedy decoding, and stores each finished batch on disk.

The rewards of the answers are computed by `rewards`. V-STAR's questions are in `vstar_protocol`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm.auto import tqdm

from o3v import evidence, files, video
from o3v.config import InferenceConfig
from o3v.data.quarantine import Quarantine
from o3v.geometry import rescale_box
from o3v.models.vlm import VideoModel, batches, generate
from o3v.models.workers import run_batches
from o3v.prompts import Prompt, PromptBuilder
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import format_score, score_completion
from o3v.rewards.precision import relative_size
from o3v.schema import Example, Row, Task
from o3v.schema.fields import SPECIAL_TOKEN

MAX_QUESTION_CHARS = 4_000


@dataclass(frozen=True)
class Question:
    """A question about a video."""

    key: str  # name of the question in the answers
    path: Path  # the video or image file
    make: Callable[[], Prompt]  # reads the frames and returns the prompt; called when the question is answered

    def describe(self) -> tuple[str, Path]:
        """The name of the question and the file of its medium (`data.quarantine`)."""
        return f"{self.key} ({self.path.name})", self.path


def answer(
    vlm: VideoModel,
    questions: Sequence[Question],
    config: InferenceConfig,
    out: Path,
    name: str = "answering",
    quarantine: Quarantine | None = None,
) -> list[Row]:
    """Answers questions greedily, in order, in `config.num_workers` processes (`models.workers`).

    Each finished batch is a file in the folder `out`. A second call with the same folder generates only the missing
    batches. The batches, and therefore the answers, are the same as without an interruption and with one process.

    Args:
        vlm: the model.
        questions: what to answer.
        config: batch size, largest number of tokens, number of processes.
        out: folder of the partial results.
        name: beginning of their file names, and label of the progress bar.
        quarantine: takes questions that cannot be read, which get no row; None raises their errors.

    Returns one row per question: `key`, `response`, `times_s`, `space_wh`, `row` (the STGR row of the prompt).
    """
    slices = list(batches(questions, config.batch_size))
    parts = [out / f"{name}_{number:05d}.jsonl" for number in range(len(slices))]
    missing = [(part, batch) for part, batch in zip(parts, slices, strict=True) if not part.exists()]
    work = partial(_answer_part, vlm=vlm, config=config, quarantine=quarantine)
    done = run_batches(work, vlm, missing, config.num_workers, lambda item: describe_batch(item[1]))
    for _ in tqdm(done, desc=name, total=len(slices), initial=len(slices) - len(missing), mininterval=2):
        pass
    if quarantine:
        quarantine.refresh()
    return [row for part in parts for _, row in files.read_jsonl(part)]


def _answer_part(
    item: tuple[Path, Sequence[Question]], vlm: VideoModel, config: InferenceConfig, quarantine: Quarantine | None
) -> None:
    part, batch = item
    files.write_jsonl(part, answer_batch(batch, vlm, config, quarantine))


def describe_batch(batch: Sequence[Question]) -> str:
    """Names the questions of a batch."""
    return f"question {batch[0].key}" if len(batch) == 1 else f"questions {batch[0].key} to {batch[-1].key}"


def answer_all(
    vlm: VideoModel, questions: Sequence[Question], config: InferenceConfig, quarantine: Quarantine | None = None
) -> list[Row]:
    """As `answer`, without files."""
    slices = list(batches(questions, config.batch_size))
    work = partial(answer_batch, vlm=vlm, config=config, quarantine=quarantine)
    answers = [row for rows in run_batches(work, vlm, slices, config.num_workers, describe_batch) for row in rows]
    if quarantine:
        quarantine.refresh()
    return answers


def readable(
    questions: Iterable[Question], count: int, quarantine: Quarantine | None = None
) -> list[tuple[Question, Prompt]]:
    """The first `count` questions that can be read, with their prompts. Without `quarantine`, errors are raised."""
    if quarantine is None:
        return [(question, question.make()) for question in islice(questions, count)]
    return quarantine.first(questions, count, Question.describe, lambda question: question.make())


def answer_batch(
    batch: Sequence[Question], vlm: VideoModel, config: InferenceConfig, quarantine: Quarantine | None = None
) -> list[Row]:
    """Answers one batch greedily. Returns rows as `answer` does."""
    pairs = readable(batch, len(batch), quarantine)
    batch, prompts = [question for question, _ in pairs], [prompt for _, prompt in pairs]
    options = {"repetition_penalty": config.repetition_penalty}
    texts = generate(vlm, prompts, config.max_new_tokens, **options) if prompts else []
    return [
        {"key": q.key, "response": t, "times_s": list(p.times_s), "space_wh": list(p.space_wh), "row": p.row}
        for q, p, t in zip(batch, prompts, texts, strict=True)
    ]


def score_examples(
    vlm: VideoModel,
    examples: Sequence[Example],
    builder: PromptBuilder,
    config: InferenceConfig,
    reward_config: RewardConfig,
    out: Path,
    name: str = "rewards",
    quarantine: Quarantine | None = None,
) -> list[Row]:
    """Answers training questions greedily and scores them as at the end of training (progress 1), in order.

    Args:
        vlm: the model.
        examples: the questions with their ground truth.
        builder: turns rows into prompts.
        config: batch size and largest number of tokens.
        reward_config: reading of the reward.
        out, name, quarantine: as in `answer`.

    Returns one row per question: `id`, `task`, `response`, `relative_size` (`rewards.precision`), every term (None
    where it does not apply) and `total`.
    """
    answers = answer(vlm, _example_questions(examples, builder), config, out, name, quarantine)
    return [_scored(row, reward_config) for row in answers]


def heldout_rewards(
    vlm: VideoModel,
    examples: Sequence[Example],
    builder: PromptBuilder,
    config: InferenceConfig,
    reward_config: RewardConfig,
    quarantine: Quarantine | None = None,
) -> list[Row]:
    """As `score_examples`, without files: for the checkpoints of a training run."""
    answers = answer_all(vlm, _example_questions(examples, builder), config, quarantine)
    return [_scored(row, reward_config) for row in answers]


def align_rows(*tables: Sequence[Row], key: str = "id") -> list[list[Row]]:
    """The rows of each table whose `key` is in all of them: a question that was left out once is not compared.

    >>> align_rows([{"id": "a"}, {"id": "b"}], [{"id": "b"}])
    [[{'id': 'b'}], [{'id': 'b'}]]
    """
    common = set.intersection(*({row[key] for row in table} for table in tables))
    return [[row for row in table if row[key] in common] for table in tables]


def _example_questions(examples: Sequence[Example], builder: PromptBuilder) -> list[Question]:
    make = partial(builder.for_example, training=True)
    return [Question(e.id, builder.root / e.media_path, partial(make, e)) for e in examples]


def _scored(row: Row, reward_config: RewardConfig) -> Row:
    """The answer with its terms, scored as at the end of training."""
    text, truth = row["response"], row["row"]
    kept = {"id": row["key"], "task": truth["task"], "response": text, "relative_size": relative_size(text, truth)}
    return kept | score_completion(text, truth, 1.0, reward_config)


def check_question(question: str) -> None:
    """Raises ValueError for an empty or too long question and for one with a special token of a chat template."""
    if not question.strip():
        raise ValueError("the question is empty")
    if len(question) > MAX_QUESTION_CHARS:
        raise ValueError(f"the question has {len(question):,} characters; at most {MAX_QUESTION_CHARS:,} are allowed")
    if token := SPECIAL_TOKEN.search(question):
        raise ValueError(f"the question contains the special token {token[0]!r}; remove it")


def file_questions(path: str, question: str, builder: PromptBuilder) -> list[Question]:
    """The question about one video file, or no question if `path` is empty. Raises ValueError as `check_question`."""
    if not path:
        return []
    check_question(question)
    make = partial(builder.for_video, Task.SPATIO_TEMPORAL, question, Path(path).absolute())
    return [Question(Path(path).name, Path(path), make)]


def response_in_frames(row: Row, frames: video.Frames) -> evidence.Response:
    """The parsed response of an answer, with its boxes in pixels of these frames, for drawing."""
    height, width = frames.images.shape[1:3]
    to_px = partial(rescale_box, from_wh=row["space_wh"], to_wh=(width, height))
    same = tuple(row["space_wh"]) == (width, height)
    return evidence.parse_response(row["response"] if same else evidence.map_boxes(row["response"], to_px))


def format_rate(answers: Sequence[Row]) -> float:
    """Share of the answers that follow the grammar and have the evidence that their task requires."""
    return sum(format_score(row["response"], row["row"]["task"]) == 1.0 for row in answers) / len(answers)
