"""A training run as a file: what a process of its own needs to build the trainer that a notebook has shown.

`launch` starts such processes; Slurm or ssh can start them too (docs/full.md). Scoring of held-out questions comes from
`inference`, which this part does not know: the command `o3v train` passes it in.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from o3v import files
from o3v.code_digest import module_digests
from o3v.config import FrameConfig, GspoConfig, InferenceConfig, SftConfig
from o3v.data.quarantine import Quarantine
from o3v.evaluation.vstar_items import read_items
from o3v.models.vlm import VideoModel, load
from o3v.prompts import PromptBuilder
from o3v.rewards.config import RewardConfig
from o3v.schema import Row, read_examples
from o3v.training import gspo, processes, sft
from o3v.training import trainer as shared
from o3v.training.trainer import TrainingRun
from o3v.video import FrameCache

JOB = "job.json"  # in the output folder of the run
CONFIGS: Mapping[str, type] = {"sft": SftConfig, "gspo": GspoConfig}


@dataclass(frozen=True)
class TrainingJob:
    """One training run, of the kind of a notebook. All paths are absolute."""

    kind: Literal["sft", "gspo"]
    model: str  # folder or hub name to start from
    rows: str  # JSON lines of STGR rows
    root: str  # folder that the paths of rows start from
    out: str  # folder of checkpoints, log and rollouts
    seed: int
    config: SftConfig | GspoConfig
    frames: FrameConfig  # with the grid of the model's family
    unreadable: str  # file of the rows that cannot be read
    num_rows: int  # that the quarantine counts
    max_unreadable: float
    report_to: str = "none"
    frame_cache: str | None = None
    stop_at: int | None = None  # step
    reward: RewardConfig | None = None  # GSPO only, as all below
    inference: InferenceConfig | None = None  # of the held-out questions; None scores none
    dev_items: str | None = None  # V-STAR items that choose the best checkpoint
    vstar_root: str | None = None  # folder of their videos
    code: str = ""  # digest of the code that wrote the job


def code_of_jobs() -> str:
    """A digest of the code that a job runs: of the command `o3v train` and all that it imports."""
    digests = module_digests(["import o3v.cli.train"])
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def write_job(job: TrainingJob) -> Path:
    """Writes the job into its output folder. Returns the path."""
    path = Path(job.out) / JOB
    files.write_json(path, asdict(job))
    return path


def read_job(path: Path) -> TrainingJob:
    """Reads a job. Raises FileNotFoundError, and ValueError, which names the field, for a file that is no job."""
    values = files.read_json(path)
    try:
        return _job(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a training job: {error}; run its notebook again") from None


def _job(values: Any) -> TrainingJob:
    if not isinstance(values, dict) or values.get("kind") not in CONFIGS:
        raise ValueError("its `kind` is neither sft nor gspo")
    kinds: dict[str, Any] = {"config": CONFIGS[values["kind"]], "frames": FrameConfig}
    kinds |= {"reward": RewardConfig, "inference": _inference}
    given = {n: kinds[n](**v) if n in kinds and v is not None else v for n, v in values.items()}
    return TrainingJob(**given)


def _inference(frames: Any = None, vote_sizes: Any = (), **values: Any) -> InferenceConfig:
    return InferenceConfig(frames=frames and FrameConfig(**frames), vote_sizes=tuple(vote_sizes), **values)


@dataclass(frozen=True)
class HeldoutScoring:
    """How held-out questions are answered and scored, by functions of `inference`."""

    rows: Callable[..., list[Row]]  # heldout_rewards
    mam: Callable[..., float]  # heldout_mam


def run_job(job: TrainingJob, scoring: HeldoutScoring) -> None:
    """Trains or resumes a job, in each of the processes that a launcher has started.

    Raises ValueError if their number is not the job's, or if the code is not the one that wrote the job.
    """
    wanted, started = job.config.num_processes or 1, shared.launched_processes()
    if started != wanted:
        raise ValueError(
            f"the job {job.out}/{JOB} is for {wanted} processes, but {started} were started; start {wanted}, or run "
            "the notebook again with another num_processes"
        )
    if job.code != code_of_jobs():
        raise ValueError(f"the code has changed since the job {job.out}/{JOB} was written; run its notebook again")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    vlm = load(job.model, master_weights=not job.config.lora_rank)
    cache = FrameCache(Path(job.frame_cache)) if job.frame_cache else None
    builder = PromptBuilder(Path(job.root), job.frames, vlm.box_space, cache)
    quarantine = Quarantine(Path(job.unreadable), job.num_rows, job.max_unreadable)
    run = TrainingRun(Path(job.out), job.seed, job.report_to, quarantine)
    make = _sft_trainer if job.kind == "sft" else partial(_gspo_trainer, scoring=scoring)
    shared.train(make(job, vlm, builder, run), job.stop_at)


def _sft_trainer(job: TrainingJob, vlm: VideoModel, builder: PromptBuilder, run: TrainingRun) -> Any:
    return sft.make_trainer(vlm, list(read_examples(job.rows)), builder, job.config, run)


def _gspo_trainer(
    job: TrainingJob, vlm: VideoModel, builder: PromptBuilder, run: TrainingRun, scoring: HeldoutScoring
) -> Any:
    """The trainer of notebook 03: each process scores its share of every second held-out question."""
    examples, heldout = gspo.split_heldout(list(read_examples(job.rows)), job.config.num_heldout)
    reward, mam, score_rows = job.reward or RewardConfig.paper(), None, None
    if job.dev_items:
        items, videos = read_items(Path(job.dev_items)), replace(builder, root=Path(job.vstar_root or job.root))
        mam = partial(scoring.mam, vlm, items, videos, job.inference, run.quarantine)
    if job.inference:

        def score_rows() -> list[Row]:
            questions = processes.share(heldout[:: gspo.HELDOUT_EVERY])
            return scoring.rows(vlm, questions, builder, job.inference, reward, run.quarantine)

    return gspo.make_trainer(vlm, examples, builder, job.config, run, reward, mam, score_rows)
