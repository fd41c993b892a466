"""Sizes and settings. A profile is one frozen record; its defaults are the paper's, each with its source.

`tiny` runs the method on a laptop with two cores. `smoke` takes a few minutes and only checks
that everything runs. Both start from the small Qwen2.5-VL in `data/`. Where they depart from the paper, a comment gives
the reason. The profiles of real models are in `presets`. *Public code* is that of Open-o3 Video, commit 1eb6eca.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

Engine = Literal["ddp", "zero2", "zero3", "zero3_offload", "fsdp2"]  # how several processes share the weights
Optimizer = Literal["adamw", "adamw_8bit"]  # 8 bits: moments of bitsandbytes, a quarter of the memory


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
    """How a video becomes frames. Sizes are in pixels. `Family.frames` sets the grid and smallest size of a model."""

    n_frames: int = 16  # paper, training and V-STAR
    max_pixels: int = 128 * 28 * 28  # paper
    max_fps: float = 2.0  # public code, vision_process.py
    fixed_rate: bool = False  # frames at 0, 1 / max_fps, … s where these are at most n_frames
    min_pixels: int = 56 * 56  # smaller videos are scaled up; Qwen2.5-VL's processor
    image_max_pixels: int | None = None  # of a single image; None: max_pixels
    image_min_pixels: int = 56 * 56  # Qwen2.5-VL's processor
    grid_px: int = 28  # side of the square that becomes one token: Qwen2.5-VL

    @classmethod
    def official(cls) -> Self:
        """Training frames of the public code. It also takes an even number, at least four, which is not followed."""
        return cls(
            min_pixels=128 * 28 * 28,  # vision_process.py, VIDEO_MIN_PIXELS
            max_pixels=105_369,  # there: max(VIDEO_MAX_PIXELS, int(1.05 * VIDEO_MIN_PIXELS))
            image_max_pixels=256 * 28 * 28,  # there: MAX_PIXELS
        )

    @classmethod
    def official_evaluation(cls) -> Self:
        """Frames of the public evaluation: one a second, at most 16, at the size of the video."""
        return cls(
            max_fps=1.0,  # test_vstar_multi_images.py, inference
            fixed_rate=True,  # there: extract_frames_from_video
            max_pixels=12_845_056,  # the processor's own limit (preprocessor_config.json); none is set there
        )


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
    per_device_batch_size: int = 1  # ours: most rows in one forward pass
    num_processes: int | None = 1  # ours: that share the batch; None: one for each GPU, one on a CPU
    engine: Engine = "ddp"  # ours
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-6  # paper
    warmup_steps: int = 0  # paper says none
    max_grad_norm: float = 5.0  # paper
    lr_scheduler: str = "cosine"  # paper
    loss_tokens: Literal["response", "all"] = "response"  # ours; "all": all but padding and vision tokens
    save_steps: int = 500  # ours
    cached_rows: int = 0  # ours: decoded rows kept in memory
    frame_times: bool = False  # ours: move the spans and times of the targets to the times of sampled frames
    lora_rank: int = 0  # the paper trains all weights
    compared_steps: int = 0  # ours: steps with the other choice (LoRA or all weights), compared in notebook 02
    lora_rate_factor: float = 10.0  # ours

    @classmethod
    def official(cls) -> Self:
        """The public code: the schedule that transformers takes where none is named, and a loss on the prompt, too."""
        return cls(lr_scheduler="linear", loss_tokens="all")  # run_sft_video.sh; sft_multi_task.py, collate_fn


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
    per_device_batch_size: int = 4  # ours: most completions in one forward pass
    num_processes: int | None = 1  # ours: that share the questions of a step; None: one for each GPU, one on a CPU
    engine: Engine = "ddp"  # ours
    optimizer: Optimizer = "adamw"
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
    top_k: int = 0  # ours: the paper names none, 0 allows all tokens
    max_prompt_tokens: int = 16_384  # paper; there longer prompts are cut, here they are refused: a cut loses frames
    max_new_tokens: int = 768  # paper
    max_grad_norm: float = 5.0  # paper
    compared_updates: int = 4  # ours: updates on the same rollouts, to compare GSPO and GRPO in notebook 03
    compared_prompts: int | None = None  # ours: questions of these updates; None: half of those of a step
    compared_rank: int = 0  # ours: of the adapters that these updates train; 0: all weights
    lora_rank: int = 0  # the paper trains all weights
    lora_rate_factor: float = 10.0  # ours
    num_preflight: int = 8  # ours: questions that are scored first, to stop a run that cannot learn; 0: no check
    num_heldout: int = 200  # ours: questions not used for training, answered before and after it
    save_steps: int = 500  # ours
    cached_rows: int = 0  # ours: decoded rows kept in memory
    rollout_server: str = ""  # ours: URL of a vLLM server that samples (docs/full.md); empty: transformers samples

    def __post_init__(self) -> None:
        if self.reward_scale == "task" and self.reward_aggregation == "normalize_then_sum":
            raise ValueError("reward_scale 'task' needs reward_aggregation 'sum_then_normalize'")

    @property
    def cycle(self) -> int:
        """Steps from one sampling of completions to the next."""
        return self.steps_per_generation * self.num_iterations

    @classmethod
    def official(cls) -> Self:
        """The public code of Open-o3 Video, commit 1eb6eca: on-policy, β = 0.04. The defaults, but for top_k."""
        return cls(top_k=50)  # grpo_trainer.py names none, and transformers takes 50

    @classmethod
    def gspo_paper(cls) -> Self:
        """GSPO as published (arXiv:2507.18071, section 5.1): four minibatches per sampling, no KL penalty, small ε."""
        return cls(steps_per_generation=4, beta=0.0, epsilon=3e-4, epsilon_high=4e-4)


@dataclass(frozen=True)
class InferenceConfig:
    """Answering questions with greedy decoding."""

    batch_size: int = 8
    max_new_tokens: int = 768  # paper
    repetition_penalty: float = 1.0  # ours; 1: none
    json_boxes: bool = False  # ours: V-STAR's *where* is answered in the evidence grammar, else as JSON by second
    frames: FrameConfig | None = None  # of the evaluation in notebook 05; None: those of the profile
    # ours: processes that answer; None: one for each GPU. It changes no answer, so it is no part of the repr, by which
    # notebooks tell whether unfinished work can go on
    num_workers: int | None = field(default=None, repr=False)
    num_shown: int = 6  # ours: responses shown in notebook 04
    num_voted: int = 200  # ours: questions with several responses in notebook 04
    vote_sizes: tuple[int, ...] = (1, 2, 4, 8)  # paper: up to 8 responses

    @classmethod
    def official(cls) -> Self:
        """The public evaluation on V-STAR: greedy decoding, a repetition penalty, frames at the size of the video."""
        return cls(
            batch_size=5,  # eval/models/model_vllm.py, max_num_seqs
            max_new_tokens=2_048,  # eval/config/vstar.yaml
            repetition_penalty=1.05,  # eval/models/model_vllm.py
            json_boxes=True,  # V-STAR's questions; our words (prompts.AS_JSON)
            frames=FrameConfig.official_evaluation(),
        )


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
        sft_rows=2_000,
        rl_rows=1_000,
        eval_items=100,
        annotated_videos=1_000,  # the filters keep two fifths
        # mostly questions whose reward is an IoU: in the paper's proportions, each step would have one span and one box
        rl_shares={"synth_timerft": 35, "synth_gqa": 50, "synth_videoespresso": 15},
    ),
    # 12 frames of 84×84, nine vision tokens each; with 8 frames even a perfect detector has a tIoU of only 0.78
    frames=FrameConfig(n_frames=12, max_pixels=84 * 84),
    # a model of 2.9M parameters needs about a thousand times the paper's learning rate
    sft=SftConfig(
        num_processes=2,  # of one thread each, on two cores
        effective_batch_size=8,
        per_device_batch_size=8,
        learning_rate=2e-3,
        warmup_steps=20,
        max_grad_norm=1.0,
        save_steps=50,
        cached_rows=4_096,
        frame_times=True,  # a small model copies frame times and cannot interpolate between them
        compared_steps=24,
        lora_rate_factor=5.0,
    ),
    gspo=GspoConfig(
        num_processes=2,
        max_steps=120,
        num_generations=8,  # the questions are easy: rewards differ more often in larger groups
        per_device_batch_size=64,
        learning_rate=3e-4,
        warmup_steps=4,
        beta=0.0,  # saves the forward pass of the reference model, a fifth of the time of a step
        steps_per_generation=2,  # every second update is off-policy; in a second pass, most sequences were clipped
        epsilon=2e-3,  # between that of the GSPO paper (3e-4) and of the public code (0.2), as are the steps
        max_new_tokens=208,
        max_grad_norm=1.0,
        num_heldout=160,
        save_steps=30,
        cached_rows=4_096,
        lora_rate_factor=3.0,  # adapters move boxes little at any rate that was tried
    ),
    inference=InferenceConfig(
        batch_size=64,
        max_new_tokens=208,
        num_workers=2,  # cores of a laptop
        num_voted=60,
        vote_sizes=(1, 2, 4, 8, 16),
    ),
)
