"""Sizes and settings. A profile is one frozen record; its defaults are the paper's, each with its source.

`full` is the paper's run (Qwen2.5-VL-7B on GPUs). `tiny` runs the same method on a laptop with two cores in under
twenty minutes. `smoke` takes a few minutes and only checks that everything runs. Both start from the small Qwen2.5-VL
in `data/`. Where a small profile departs from the paper, a comment gives the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class DataConfig:
    """Number of rows of each split: those that the synthetic world makes, and the most that are taken of real ones."""

    # what is made without a data root: the synthetic world, a small root with the real names and folders, or nothing
    made: Literal["world", "official", ""] = ""

    sft_rows: int = 31_166  # rows of STGR-SFT.json
    rl_rows: int = 37_231  # rows of STGR-RL.json
    eval_items: int = 2_094  # rows of V-STAR's test file
    dev_items: int = 0  # ours: additional items to choose GSPO's best checkpoint; 0 takes the last checkpoint
    max_unreadable: float = 0.05  # ours: largest share of rows that may be left out while a stage runs
    annotated_videos: int = 6_900  # annotations to make; paper: 3.9k rows kept, and 2k of 3k
    rl_shares: Mapping[str, float] | None = None  # ours: weights of the RL sources; None: the paper's numbers of rows


@dataclass(frozen=True)
class FrameConfig:
    """How a video becomes frames. Sizes are in pixels."""

    n_frames: int = 16  # paper, training and V-STAR
    max_pixels: int = 128 * 28 * 28  # paper
    max_fps: float = 2.0  # public code, vision_process.py


@dataclass(frozen=True)
class PretrainConfig:
    """How the tiny base model was made (ours; the paper starts from Qwen2.5-VL)."""

    clips: int
    steps: dict[str, int]  # of each stage
    vision_batch_size: int  # frames
    batch_size: int  # videos
    learning_rate: float
    num_measured: int  # held-out clips that each number of the model card is measured on
    save_steps: int = 200


class TrainableConfig:
    """Settings that SFT and GSPO share: train all weights or LoRA adapters, each with its usual learning rate."""

    lora_rank: int  # of adapters on the language model's attention; 0 trains all weights
    lora_rate_factor: float  # the adapters' learning rate, in units of the rate for all weights
    learning_rate: float  # of what is trained

    def with_rank(self, rank: int | None, learning_rate: float | None = None) -> Self:
        """Returns the same settings with LoRA of this rank (0: all weights) and this learning rate.

        `rank` None keeps the rank. `learning_rate` None takes the usual rate of the weights that are then trained.

        >>> all_weights = GspoConfig(learning_rate=0.25, lora_rate_factor=8)
        >>> all_weights.with_rank(4).learning_rate, all_weights.with_rank(4).with_rank(0).learning_rate
        (2.0, 0.25)
        """
        rank = self.lora_rank if rank is None else rank
        usual = self.learning_rate * self.lora_rate_factor ** (bool(rank) - bool(self.lora_rank))
        return replace(self, lora_rank=rank, learning_rate=usual if learning_rate is None else learning_rate)


@dataclass(frozen=True)
class SftConfig(TrainableConfig):
    """Cold start."""

    epochs: float = 1.0  # paper
    effective_batch_size: int = 8  # ours: one row per GPU on the paper's eight GPUs
    per_device_batch_size: int = 1  # ours: rows in one forward pass
    learning_rate: float = 1e-6  # paper
    warmup_steps: int = 0  # paper says none
    max_grad_norm: float = 5.0  # paper
    save_steps: int = 500  # ours
    cached_rows: int = 0  # ours: decoded rows kept in memory
    frame_times: bool = False  # ours: move the spans and times of the targets to the times of sampled frames
    lora_rank: int = 0  # the paper trains all weights
    compared_steps: int = 0  # ours: steps with the other choice (LoRA or all weights), compared in notebook 02
    lora_rate_factor: float = 10.0  # ours


@dataclass(frozen=True)
class GspoConfig(TrainableConfig):
    """Reinforcement learning. Each step has `prompts_per_step` × `num_generations` completions.

    The completions of `steps_per_generation` steps are sampled together, by one policy, and each is used
    `num_iterations` times. With 1 and 1 every step is on-policy: all ratios are 1, nothing is clipped, and GSPO has the
    same gradient as GRPO. `official` is the public code of Open-o3 Video, `gspo_paper` the setting of the GSPO paper;
    `importance_sampling="token"` makes either of them GRPO.
    """

    max_steps: int | None = None  # None: one epoch, paper
    prompts_per_step: int = 8  # ours: one prompt per GPU on the paper's eight GPUs
    num_generations: int = 4  # paper
    per_device_batch_size: int = 4  # ours: completions in one forward pass
    learning_rate: float = 1e-6  # paper
    weight_decay: float = 0.01  # paper
    lr_scheduler: str = "cosine"  # paper
    warmup_steps: int = 0  # paper says none
    beta: float = 0.04  # paper
    epsilon: float = 0.2  # public code: ratios are clipped to 1 − epsilon …
    epsilon_high: float | None = None  # … and 1 + epsilon_high; None: epsilon
    importance_sampling: Literal["sequence", "token"] = "sequence"  # GSPO or GRPO
    steps_per_generation: int = 1  # public code; GSPO paper: 4
    num_iterations: int = 1  # public code: each completion is used once
    # divides r − mean(r): the spread of the group (GRPO), or its moving average for the task (OneThinker's EMA-GRPO)
    reward_scale: Literal["group", "task"] = "group"
    # "normalize_then_sum" scales each term in its group before the terms are summed (GDPO)
    reward_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    temperature: float = 1.0  # paper
    top_p: float = 0.95  # paper
    max_new_tokens: int = 768  # paper
    max_grad_norm: float = 5.0  # paper
    compared_updates: int = 4  # ours: updates on the same rollouts, to compare GSPO and GRPO in notebook 03
    lora_rank: int = 0  # the paper trains all weights
    lora_rate_factor: float = 10.0  # ours
    num_preflight: int = 8  # ours: questions that are scored first, to stop a run that cannot learn; 0: no check
    num_heldout: int = 200  # ours: questions not used for training, answered before and after it
    save_steps: int = 500  # ours
    cached_rows: int = 0  # ours: decoded rows kept in memory

    def __post_init__(self) -> None:
        if self.reward_scale == "task" and self.reward_aggregation == "normalize_then_sum":
            raise ValueError("reward_scale 'task' needs reward_aggregation 'sum_then_normalize'")

    @property
    def cycle(self) -> int:
        """Steps from one sampling of completions to the next."""
        return self.steps_per_generation * self.num_iterations

    @classmethod
    def official(cls) -> Self:
        """The public code of Open-o3 Video, commit 1eb6eca: on-policy, β = 0.04. The defaults."""
        return cls()

    @classmethod
    def gspo_paper(cls) -> Self:
        """GSPO as published (arXiv:2507.18071, section 5.1): four minibatches per sampling, no KL penalty, small ε."""
        return cls(steps_per_generation=4, beta=0.0, epsilon=3e-4, epsilon_high=4e-4)


@dataclass(frozen=True)
class InferenceConfig:
    """Answering questions with greedy decoding."""

    batch_size: int = 8
    max_new_tokens: int = 768  # paper
    num_shown: int = 6  # ours: responses shown in notebook 04
    num_voted: int = 200  # ours: questions with several responses in notebook 04
    vote_sizes: tuple[int, ...] = (1, 2, 4, 8)  # paper: up to 8 responses


@dataclass(frozen=True)
class Profile:
    """One size of the whole method. `base` is a hub name or a folder of this repository. `pretrain` has the settings
    with which the tiny base is made at this size."""

    name: str
    base: str
    data: DataConfig = field(default_factory=DataConfig)
    frames: FrameConfig = field(default_factory=FrameConfig)
    pretrain: PretrainConfig | None = None
    sft: SftConfig = field(default_factory=SftConfig)
    gspo: GspoConfig = field(default_factory=GspoConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


FULL = Profile(name="full", base="Qwen/Qwen2.5-VL-7B-Instruct")

TINY = Profile(
    name="tiny",
    base="data/o3v-tiny-base",
    pretrain=PretrainConfig(
        clips=8_000,
        steps={"vision": 3_000, "pictures": 500, "shorts": 1_300, "films": 2_200, "further": 1_500},
        vision_batch_size=64,
        batch_size=8,
        learning_rate=2e-3,
        num_measured=500,
    ),
    data=DataConfig(
        made="world",
        sft_rows=2_400,
        rl_rows=1_000,
        eval_items=100,
        annotated_videos=1_200,  # the filters keep two fifths
        # mostly questions whose reward is an IoU: in the paper's proportions, each step would have one span and one box
        rl_shares={"synth_timerft": 35, "synth_gqa": 50, "synth_videoespresso": 15},
    ),
    # 12 frames of 84×84, nine vision tokens each; with 8 frames even a perfect detector has a tIoU of only 0.78
    frames=FrameConfig(n_frames=12, max_pixels=84 * 84),
    # a model of 2.9M parameters needs about a thousand times the paper's learning rate
    sft=SftConfig(
        effective_batch_size=8,
        per_device_batch_size=8,
        learning_rate=2e-3,
        warmup_steps=20,
        max_grad_norm=1.0,
        save_steps=50,
        cached_rows=4_096,
        frame_times=True,  # a small model copies frame times and cannot interpolate between them
        compared_steps=40,
        lora_rate_factor=5.0,
    ),
    gspo=GspoConfig(
        max_steps=200,
        num_generations=8,  # the questions are easy: rewards differ more often in larger groups
        per_device_batch_size=64,
        learning_rate=3e-4,
        warmup_steps=4,
        beta=0.0,  # saves the forward pass of the reference model, a fifth of the time of a step
        steps_per_generation=2,  # with two iterations, four updates per sampling, as in the GSPO paper; sampling is …
        num_iterations=2,  # … half of the time, and three of four updates are off-policy
        epsilon=2e-3,  # between that of the GSPO paper (3e-4) and of the public code (0.2), as are the steps
        max_new_tokens=208,
        max_grad_norm=1.0,
        num_heldout=160,
        save_steps=40,
        cached_rows=4_096,
        lora_rate_factor=3.0,  # adapters move boxes little at any rate that was tried
    ),
    inference=InferenceConfig(batch_size=64, max_new_tokens=208, num_voted=60, vote_sizes=(1, 2, 4, 8, 16)),
)

SMOKE = replace(
    TINY,
    name="smoke",
    pretrain=replace(
        TINY.pretrain,
        clips=40,
        steps={"vision": 6, "pictures": 4, "shorts": 4, "films": 4, "further": 4},
        num_measured=8,
        save_steps=4,
    ),
    data=replace(TINY.data, sft_rows=96, rl_rows=64, eval_items=8, dev_items=2, annotated_videos=24),
    sft=replace(TINY.sft, save_steps=2, compared_steps=2),
    gspo=replace(
        TINY.gspo,
        max_steps=4,
        prompts_per_step=2,
        num_generations=4,
        per_device_batch_size=8,
        max_new_tokens=64,
        num_preflight=0,  # the check would fail after only a dozen steps of SFT
        num_heldout=8,
        save_steps=2,
    ),
    inference=replace(TINY.inference, max_new_tokens=64, num_shown=2, num_voted=2, vote_sizes=(1, 2)),
)

PROFILES = {profile.name: profile for profile in (SMOKE, TINY, FULL)}


def load_profile(name: str) -> Profile:
    """Returns the profile of this name. Raises ValueError, which lists all names, for an unknown name."""
    if name not in PROFILES:
        raise ValueError(f"profile {name!r} does not exist; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def find_base(name: str) -> str | Path:
    """Returns what to load for a base model: its folder, in this repository or anywhere, else its name on the hub.

    Raises FileNotFoundError for a path without a folder. A name on the hub is `organisation/model`.
    """
    for folder in (REPOSITORY / name, Path(name).expanduser()):
        if folder.is_dir():
            return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"the base model {name!r} is not a folder, and no name on the hub (organisation/model)")
    return name
