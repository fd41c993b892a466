"""Steps, tokens, hours, decoding, disk and money of a profile. Formulas in the docstrings; assumptions as constants.

Planned from sizes, never measured: `Assumptions` are what the user may know better. Sources of the constants: "public
code" is marinero4972/Open-o3-Video; "tried" is a trial on one CPU core (16 frames of an H.264 file).
"""

import math
from dataclasses import dataclass, replace

from o3v.config import FrameConfig, Profile
from o3v.planning.memory import Engine, Setup
from o3v.planning.shapes import ModelShape

FRAME_TEXT, PROMPT_TEXT = 12, 130  # assumed tokens: time and tags of a frame; system prompt and question
KEY_FRAMES, MAX_KEY_FRAMES = 2, 5  # assumed mean; the annotation asks for 1–5 (paper)
ASPECT = 16 / 9  # assumed shape of a video
PICTURE_SHARE = {"sft": 5_000 / 31_166, "gspo": 5_000 / 37_231}  # rows of visual QA, one picture each (paper's files)
COMPLETION_TOKENS = 350  # assumed mean length of a target or a sampled answer
VSTAR_QUESTIONS = 5  # of an item, inference.vstar_protocol
READ_CORE_S = (0.79, 2.62)  # CPU seconds to read 16 frames; tried: 640×360, 30 s and 120 s
BYTES_PER_PIXEL = 0.3  # assumed: JPEG of quality 90
CHECKPOINTS = {"sft": 2, "gspo": 3}  # two are kept of each stage; the next is complete before the oldest is removed
EVALUATED_MODELS = 3  # base, SFT, SFT+GSPO (notebook 05)


@dataclass(frozen=True)
class Assumptions:
    """What decides hours and money besides sizes."""

    efficiency: float = 0.35  # share of the peak that training reaches
    peak_flops: float = 989e12  # of a GPU, bf16 without sparsity (data sheet of the H100 SXM)
    token_s: float = 0.03  # seconds for the next token of a batch; transformers' generate, bound by its Python code
    price: float = 2.5  # of a GPU for an hour, in any currency


@dataclass(frozen=True)
class StageWork:
    """Work of one stage. Rows, tokens and images are those of a step over all GPUs."""

    stage: str
    steps: int
    rows: int  # GSPO: completions
    gpus: int  # at work; the notebooks answer questions on one
    read_rows: int  # rows that are read from their video, for each step
    tokens: float = 0.0
    images: float = 0.0
    compute_h: float = 0.0
    sampling_h: float = 0.0
    reading_core_h: tuple[float, float] = (0.0, 0.0)  # from short to long videos

    @property
    def reading_h(self) -> float:
        """Hours of reading at the mean: one process a GPU, and nothing else runs meanwhile."""
        return sum(self.reading_core_h) / 2 / self.gpus

    @property
    def hours(self) -> float:
        """Wall-clock hours."""
        return self.compute_h + self.sampling_h + self.reading_h


def frame_tokens(frames: FrameConfig, grid_px: int) -> int:
    """Tokens of a 16:9 frame: whole squares of `grid_px` in the largest size with at most `max_pixels`.

    128·28² pixels and 28: 420×224, 15 · 8 = 120 tokens.
    """
    width, height = math.sqrt(frames.max_pixels * ASPECT), math.sqrt(frames.max_pixels / ASPECT)
    return max(1, int(width // grid_px)) * max(1, int(height // grid_px))


def prompt_tokens(frames: FrameConfig, grid_px: int, key_frames: int = KEY_FRAMES) -> int:
    """Tokens of a prompt with a video: (n + key frames) · (tokens of a frame + 12) + 130.

    The paper's frames: 18 · (120 + 12) + 130 = 2,506.
    """
    return (frames.n_frames + key_frames) * (frame_tokens(frames, grid_px) + FRAME_TEXT) + PROMPT_TEXT


def training_setup(
    profile: Profile, shape: ModelShape, stage: str, engine: Engine, gpus: int, precision: str = "masters"
) -> Setup:
    """The memory set-up of SFT or GSPO, with the longest rows: five key frames, a completion at the length limit.

    Args:
        profile: sizes and settings.
        shape: the base model.
        stage: `sft` or `gspo`.
        engine: how states are divided among GPUs.
        gpus: number of GPUs.
        precision: `memory.Precision`.
    """
    config = profile.sft if stage == "sft" else profile.gspo
    image_tokens = (profile.frames.n_frames + MAX_KEY_FRAMES) * frame_tokens(profile.frames, shape.grid_px)
    generated = 0
    if stage == "gspo":
        sampled = profile.gspo.prompts_per_step * profile.gspo.num_generations * profile.gspo.steps_per_generation
        generated = max(1, math.ceil(sampled / gpus))
    return Setup(
        engine=engine,
        gpus=gpus,
        rows=config.per_device_batch_size,
        prompt_tokens=prompt_tokens(profile.frames, shape.grid_px, MAX_KEY_FRAMES),
        image_tokens=image_tokens,
        completion_tokens=profile.gspo.max_new_tokens,
        lora_rank=config.lora_rank,
        reference=stage == "gspo" and profile.gspo.beta > 0,
        generated_rows=generated,
        precision=precision,
        optimizer=config.optimizer,
    )


def answering_setup(profile: Profile, shape: ModelShape) -> Setup:
    """The memory set-up of notebooks 04 and 05: weights and KV cache of a batch of answers on one GPU."""
    batch = profile.inference.batch_size
    prompt, limit = prompt_tokens(profile.frames, shape.grid_px, 0), profile.inference.max_new_tokens
    return Setup("ddp", 1, batch, prompt, 0, limit, generated_rows=batch, trains=False)


def row_flops(shape: ModelShape, tokens: float, image_tokens: float, text_passes: float, vision_passes: float) -> float:
    """Floating-point operations of one row: passes · 2 · (parameters · tokens) and the attention's products.

    A forward pass is one pass, a backward pass two, computing activations again one (Korthikanti et al.,
    arXiv:2205.05198). Attention: 2 · tokens² · query width · layers a pass (causal). The input embedding computes
    nothing.

    Args:
        shape: the model.
        tokens: tokens of the row, image tokens included.
        image_tokens: image tokens of the row.
        text_passes: passes of the language model.
        vision_passes: passes of the vision tower.
    """
    language = shape.parameters - shape.vision_parameters - shape.vocabulary * shape.width
    text = 2 * language * tokens + 2 * tokens**2 * shape.query_width * shape.layers
    return text_passes * text + vision_passes * 2 * shape.vision_parameters * image_tokens * shape.merged


def sft_work(profile: Profile, shape: ModelShape, gpus: int, assumed: Assumptions) -> StageWork:
    """SFT: ceil(rows · epochs / batch) steps. All weights: forward, again, backward = 4 passes; LoRA: 3 and 1.

    Each video is read once an epoch, in the process that trains.
    """
    config, batch = profile.sft, profile.sft.effective_batch_size
    steps = math.ceil(profile.data.sft_rows * config.epochs / batch)
    passes = (3, 1) if config.lora_rank else (4, 4)
    work = StageWork("sft", steps, batch, gpus, read_rows=batch)
    return _with_hours(work, profile, shape, passes, assumed)


def gspo_work(profile: Profile, shape: ModelShape, gpus: int, assumed: Assumptions) -> StageWork:
    """GSPO: floor(questions / prompts a step) steps. Each completion reads its prompt again, as TRL does on GPUs.

    Passes: SFT's, 1 for the prefill, 1 for the reference (beta above 0), 1 for old log-probabilities (a cycle of
    several steps). Sampling: completion limit · seconds a token, once for `steps_per_generation` · `num_iterations`
    steps. Reads of a prompt: completions · forward passes of a step · `steps_per_generation` (8 prompts of 4
    completions: 4 on eight GPUs, 32 on one); once if `cached_rows` holds the prompts that are sampled together.
    """
    config = profile.gspo
    questions = profile.data.rl_rows - min(config.num_heldout, profile.data.rl_rows // 5)
    steps = questions // config.prompts_per_step if config.max_steps is None else config.max_steps
    completions = config.prompts_per_step * config.num_generations
    more = 1 + (config.beta > 0) + (config.cycle > 1)
    passes = (3 + more, 1 + more) if config.lora_rank else (4 + more, 4 + more)
    forwards = max(1, math.ceil(completions / (config.per_device_batch_size * gpus)))
    cached = config.cached_rows >= config.prompts_per_step * config.steps_per_generation
    read_rows = config.prompts_per_step if cached else completions * forwards * config.steps_per_generation
    sampling_h = steps * config.max_new_tokens * assumed.token_s / config.cycle / 3600
    work = StageWork("gspo", steps, completions, gpus, read_rows, sampling_h=sampling_h)
    return _with_hours(work, profile, shape, passes, assumed)


def _with_hours(
    work: StageWork, profile: Profile, shape: ModelShape, passes: tuple[int, int], assumed: Assumptions
) -> StageWork:
    """Completes the work of a training stage: mean tokens and images of its rows, hours of computing and reading."""
    pictures, frames = PICTURE_SHARE[work.stage], profile.frames.n_frames + KEY_FRAMES
    answer = min(COMPLETION_TOKENS, profile.gspo.max_new_tokens)
    one = frame_tokens(profile.frames, shape.grid_px)
    kinds = (  # share of the rows, tokens, images
        (1 - pictures, prompt_tokens(profile.frames, shape.grid_px) + answer, frames),
        (pictures, one + FRAME_TEXT + PROMPT_TEXT + answer, 1),
    )
    flops = sum(share * row_flops(shape, tokens, images * one, *passes) for share, tokens, images in kinds)
    videos = work.steps * work.read_rows * (1 - pictures)
    return replace(
        work,
        tokens=work.rows * sum(share * tokens for share, tokens, _ in kinds),
        images=work.rows * sum(share * images for share, _, images in kinds),
        compute_h=work.steps * work.rows * flops / (work.gpus * assumed.peak_flops * assumed.efficiency) / 3600,
        reading_core_h=(videos * READ_CORE_S[0] / 3600, videos * READ_CORE_S[1] / 3600),
    )


def answering_work(profile: Profile, shape: ModelShape, assumed: Assumptions) -> StageWork:
    """Answers of notebooks 03–05 on one GPU: batches · completion limit · seconds a token.

    Answers: five questions of each V-STAR item for three models; held-out questions before, after and half of them at
    each checkpoint; the voted questions with the largest number of responses.
    """
    gspo, inference = profile.gspo, profile.inference
    questions = EVALUATED_MODELS * VSTAR_QUESTIONS * profile.data.eval_items
    steps = gspo_work(profile, shape, 1, assumed).steps
    held = gspo.num_heldout * (2 + steps // gspo.save_steps / 2)
    answers = round(questions + held + inference.num_voted * max(inference.vote_sizes))
    batches = math.ceil(answers / inference.batch_size)
    tokens, one = prompt_tokens(profile.frames, shape.grid_px, 0), frame_tokens(profile.frames, shape.grid_px)
    flops = answers * row_flops(shape, tokens, profile.frames.n_frames * one, 1, 1)
    return StageWork(
        stage="answers",
        steps=batches,
        rows=inference.batch_size,
        gpus=1,
        read_rows=inference.batch_size,
        tokens=inference.batch_size * tokens,
        images=inference.batch_size * profile.frames.n_frames,
        compute_h=flops / (assumed.peak_flops * assumed.efficiency) / 3600,
        sampling_h=batches * inference.max_new_tokens * assumed.token_s / 3600,
        reading_core_h=(answers * READ_CORE_S[0] / 3600, answers * READ_CORE_S[1] / 3600),
    )


def model_disk_bytes(profile: Profile, parameters: int, lora_width: int = 0) -> dict[str, float]:
    """Bytes on disk of models and checkpoints. P: all parameters, T: trained ones.

    Base model 2 P, two trained models 4 P. A checkpoint has the trained weights (2 T), their masters and two moments
    (12 T); two of SFT and three of GSPO exist at once.

    Args:
        profile: sizes and settings.
        parameters: P.
        lora_width: `ModelShape.lora_width`; T is 0 under LoRA without it.
    """
    checkpoints = 0
    for name, config in (("sft", profile.sft), ("gspo", profile.gspo)):
        trained = lora_width * config.lora_rank if config.lora_rank else parameters
        checkpoints += CHECKPOINTS[name] * 14 * trained
    return {"base model": 2.0 * parameters, "trained models": 4.0 * parameters, "checkpoints": float(checkpoints)}


def frame_cache_bytes(profile: Profile, shape: ModelShape) -> float:
    """Bytes of a cache of decoded frames (`video.frame_cache`): video rows · frames · pixels of a frame · 0.3."""
    videos = profile.data.sft_rows * (1 - PICTURE_SHARE["sft"]) + profile.data.rl_rows * (1 - PICTURE_SHARE["gspo"])
    pixels = frame_tokens(profile.frames, shape.grid_px) * shape.grid_px**2
    return videos * (profile.frames.n_frames + KEY_FRAMES) * pixels * BYTES_PER_PIXEL


def money(works: list[StageWork], price: float, gpus: int) -> float:
    """Price of all GPUs for all hours: a rented machine costs while one of its GPUs works."""
    return sum(work.hours for work in works) * gpus * price
