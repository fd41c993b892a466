"""The named profiles, and the base models that they start from.

`full` is the paper's run on eight GPUs, `full-official` what the public scripts really do, and `full-offload` the
paper's run with fp32 masters and optimizer states in main memory, for fewer or smaller GPUs. `single` is one GPU for a
night: Qwen2.5-VL-3B with LoRA on a part of STGR, sized by the memory of the GPU. `rehearsal` is the path of these on
two CPU cores: a model with the real classes and vocabulary, but few random weights, and a made-up data root.
"""

import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from o3v.config.settings import TINY, DataConfig, FrameConfig, GspoConfig, InferenceConfig, Profile, SftConfig

REPOSITORY = Path(__file__).resolve().parents[2]

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
    sft=replace(TINY.sft, save_steps=2, compared_steps=2, num_processes=1),
    gspo=replace(
        TINY.gspo,
        num_processes=1,  # starting two takes longer than these few steps
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

# Notebook 03 compares updates on a copy of the model: adapters on one question fit beside a 7B model on 80 GB.
LESSON = {"compared_prompts": 1, "compared_rank": 16}

# One process on each GPU; the engines of the public scripts.
SFT_GPUS, GSPO_GPUS = {"num_processes": None, "engine": "zero2"}, {"num_processes": None, "engine": "zero3"}

FULL = Profile(
    name="full",
    base="Qwen/Qwen2.5-VL-7B-Instruct",
    sft=SftConfig(**SFT_GPUS),
    gspo=GspoConfig(**LESSON, **GSPO_GPUS),
)

FULL_OFFICIAL = replace(
    FULL,
    name="full-official",
    frames=FrameConfig.official(),
    sft=replace(SftConfig.official(), **SFT_GPUS),
    gspo=replace(GspoConfig.official(), **LESSON, **GSPO_GPUS),
    inference=InferenceConfig.official(),
)

FULL_OFFLOAD = replace(
    FULL,
    name="full-offload",
    sft=replace(FULL.sft, engine="zero3_offload"),
    gspo=replace(FULL.gspo, engine="zero3_offload"),
)


@dataclass(frozen=True)
class SingleSizes:
    """Sizes for one GPU with this memory. They are estimates for some ten hours; `o3v plan` computes the hours."""

    memory_gb: int
    sft_rows: int  # of 31,166; the sources keep their shares
    rl_steps: int
    prompts_per_step: int
    eval_items: int  # of 2,094
    rows_at_once: int  # in a forward pass of SFT
    completions_at_once: int  # in a forward pass of GSPO: each has 768 × 152k logits, 0.5 GB in fp32
    batch_size: int  # answers generated together


SINGLE_SIZES = (
    SingleSizes(24, 2_000, 100, 4, 100, rows_at_once=1, completions_at_once=1, batch_size=4),
    SingleSizes(40, 4_000, 150, 4, 200, rows_at_once=1, completions_at_once=2, batch_size=8),
    SingleSizes(80, 8_000, 250, 8, 400, rows_at_once=2, completions_at_once=4, batch_size=16),
)
SINGLE_MEMORY_GB = tuple(sizes.memory_gb for sizes in SINGLE_SIZES)
SINGLE_BASE = "Qwen/Qwen2.5-VL-3B-Instruct"  # or, with the parameter `base`, Qwen/Qwen3-VL-4B-Instruct


def single(memory_gb: float) -> Profile:
    """The profile for one GPU with this memory: the largest of SINGLE_SIZES that fits. LoRA of rank 16 at 1e-5.

    A GPU may report up to a tenth less than its name says. Raises ValueError for less than 24 GB.
    """
    fitting = [sizes for sizes in SINGLE_SIZES if memory_gb >= 0.9 * sizes.memory_gb]
    if not fitting:
        raise ValueError(
            f"profile single needs a GPU with {SINGLE_SIZES[0].memory_gb} GB, found {memory_gb:.0f} GB; "
            "use `tiny` on the CPU, or a GPU with more memory"
        )
    sizes = fitting[-1]
    rl_rows = sizes.rl_steps * sizes.prompts_per_step
    return Profile(
        name=f"single-{sizes.memory_gb}",
        base=SINGLE_BASE,
        data=DataConfig(
            sft_rows=sizes.sft_rows,
            rl_rows=rl_rows + 100,  # the last ones are held out
            eval_items=sizes.eval_items,
            dev_items=8,
            annotated_videos=sizes.sft_rows // 5,
        ),
        # adapters take ten times the paper's rate, as usual
        sft=SftConfig(lora_rank=16, learning_rate=1e-5, per_device_batch_size=sizes.rows_at_once, warmup_steps=20),
        gspo=GspoConfig(
            max_steps=sizes.rl_steps,
            prompts_per_step=sizes.prompts_per_step,
            per_device_batch_size=sizes.completions_at_once,
            learning_rate=1e-5,
            lora_rank=16,  # the reference of β is the model without its adapters, which takes no memory
            warmup_steps=5,
            num_heldout=100,
            save_steps=50,
            **LESSON,
        ),
        inference=InferenceConfig(batch_size=sizes.batch_size, num_voted=50),
    )


# For rehearsals: one step of everything, with the settings of `full` wherever they are not sizes.
REHEARSAL = replace(
    FULL,
    name="rehearsal",
    base="runs/twins/qwen2_5_vl",  # made by tinybase.twins
    data=DataConfig(made="official", sft_rows=60, rl_rows=60, eval_items=2, dev_items=1, annotated_videos=0),
    frames=FrameConfig(n_frames=3, max_pixels=64 * 64),
    sft=replace(FULL.sft, epochs=0.25, effective_batch_size=4, save_steps=2),
    gspo=replace(
        FULL.gspo,
        max_steps=2,
        prompts_per_step=2,
        num_generations=2,
        per_device_batch_size=2,
        max_new_tokens=16,
        num_preflight=0,  # a model with random weights has no format
        num_heldout=4,
        save_steps=2,
        compared_updates=2,
    ),
    inference=InferenceConfig(batch_size=4, max_new_tokens=16, num_shown=2, num_voted=2, vote_sizes=(1, 2)),
)

# The same with frames and prompts of the real size (2,500 tokens), to see the memory that they take.
REHEARSAL_FULL = replace(REHEARSAL, name="rehearsal-full", frames=FrameConfig.official())

PROFILES = {
    profile.name: profile
    for profile in (
        *(SMOKE, TINY, REHEARSAL, REHEARSAL_FULL),
        *map(single, SINGLE_MEMORY_GB),
        *(FULL, FULL_OFFICIAL, FULL_OFFLOAD),
    )
}


def load_profile(name: str) -> Profile:
    """Returns the profile of this name; `single` is sized by the GPU found, and takes the smallest without one.

    Raises ValueError, which lists all names, for an unknown name.
    """
    if name == "single":
        return single(gpu_memory_gb() or SINGLE_SIZES[0].memory_gb)
    if name not in PROFILES:
        raise ValueError(f"profile {name!r} does not exist; choose one of {', '.join(['single', *PROFILES])}")
    return PROFILES[name]


@cache
def gpu_memory_gb() -> float | None:
    """Memory of the smallest NVIDIA GPU in GB as nvidia-smi reports it, None without one."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    sizes = [float(line) * 2**20 / 1e9 for line in listed.splitlines() if line.strip().isdecimal()]
    return min(sizes, default=None)


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
