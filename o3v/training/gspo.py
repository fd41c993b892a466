"""Reinforcement learning: group sequence policy optimization (GSPO) with the grounded reward.

Uses TRL's GRPOTrainer with its GSPO setting. `training.objective` has the same loss in ten readable lines, and a test
compares the two. If every step has completions of its own (`GspoConfig.cycle` 1), the sequence ratio is 1, and GSPO has
the same gradient as GRPO.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from trl import GRPOConfig

from o3v.config import GspoConfig
from o3v.data.quarantine import Quarantine, read_row
from o3v.models.vlm import VISION_TOKENS, VideoModel, generate, response_opening
from o3v.prompts import PromptBuilder
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import score_completion
from o3v.schema import Example, Row
from o3v.training import trainer as shared
from o3v.training.callbacks import KeepBest, ScoreHeldout, StopOnCollapse
from o3v.training.gspo_trainer import GspoTrainer
from o3v.training.precision import require_master_weights
from o3v.training.reward_function import GroundedReward
from o3v.training.sharding import whole_weights

HELDOUT_EVERY = 2  # every second held-out question is answered at each checkpoint


def gspo_row(example: Example, builder: PromptBuilder) -> dict[str, Any]:
    """One row for TRL: `prompt`, `images`, and the STGR `row` for the reward."""
    prompt = builder.for_example(example, training=True)
    return {"prompt": prompt.messages, "images": [Image.fromarray(i) for i in prompt.images], "row": prompt.row}


def split_heldout(examples: Sequence[Example], count: int) -> tuple[Sequence[Example], Sequence[Example]]:
    """Splits off the last `count` questions, to compare answers before and after training.

    At least one and at most a fifth of the questions are held out. Raises ValueError if fewer than two remain.
    """
    kept = len(examples) - max(1, min(count, len(examples) // 5))
    if kept < 2:
        raise ValueError(f"GSPO needs at least three questions, one of them held out; found {len(examples)}")
    return examples[:kept], examples[kept:]


class NothingToLearn(ValueError):
    """GSPO cannot change the model: the message gives the reason and what to do."""


def preflight(
    vlm: VideoModel,
    examples: Sequence[Example],
    builder: PromptBuilder,
    config: GspoConfig,
    reward_config: RewardConfig | None = None,
    seed: int = 0,
    min_format: float = 0.02,
    quarantine: Quarantine | None = None,
) -> list[Row]:
    """Samples and scores `config.num_preflight` groups before training.

    Args:
        vlm: model to train, unchanged.
        examples: training questions; the first ones are used.
        builder: turns rows into prompts.
        config: group size, sampling and length.
        reward_config: reading of the reward, default the paper's.
        seed: seed of the sampling.
        min_format: smallest share of completions with any format reward.
        quarantine: takes questions that cannot be read; None raises their errors.

    Returns one row per question: id, task, mean reward, spread of the rewards and share with format.
    Raises NothingToLearn if rewards differ in no group (every advantage would be 0), or if fewer than `min_format` of
    the completions have any format (almost no term could be above 0).
    """
    rows = []
    for number in range(min(config.num_preflight, len(examples))):
        make = functools.partial(builder.for_example, training=True)
        prompt = read_row(examples, number, make, builder.describe, quarantine)
        sampling = (config.max_new_tokens, config.temperature, seed + number, config.num_generations, config.top_k)
        texts = generate(vlm, [prompt], *sampling)
        scores = [score_completion(text, prompt.row, 0.0, reward_config or RewardConfig.paper()) for text in texts]
        totals = torch.tensor([score["total"] for score in scores])
        rewards = {"reward": totals.mean().item(), "spread": totals.std().item()}
        formats = sum(bool(score["format"]) for score in scores) / len(scores)
        rows.append({"id": prompt.row.get("id", ""), "task": prompt.row["task"], **rewards, "format": formats})
    if not rows:
        return rows
    checked = f"preflight, {len(rows)} questions with {config.num_generations} completions each"
    if all(row["spread"] == 0 for row in rows):
        raise NothingToLearn(f"{checked}: rewards differ in no group; raise temperature or num_generations")
    if (rate := sum(row["format"] for row in rows) / len(rows)) < min_format:
        raise NothingToLearn(f"{checked}: only {rate:.1%} have any format; start from a checkpoint of SFT (02)")
    return rows


def make_trainer(
    vlm: VideoModel,
    examples: Sequence[Example],
    builder: PromptBuilder,
    config: GspoConfig,
    run: shared.TrainingRun,
    reward_config: RewardConfig | None = None,
    heldout_score: Callable[[], float] | None = None,
    heldout_rows: Callable[[], list[Row]] | None = None,
) -> GspoTrainer:
    """The trainer of a GSPO run.

    Args:
        vlm: model to train; its weights are changed.
        examples: training questions.
        builder: turns rows into prompts.
        config: rates, group size, clipping and steps.
        run: output folder of checkpoints and rollouts, seed and tracker.
        reward_config: reading of the reward, default the paper's.
        heldout_score: scores the model at each checkpoint, so that the best can be taken (`callbacks.KeepBest`).
        heldout_rows: scores held-out questions at each checkpoint, for a curve (`callbacks.ScoreHeldout`).

    Raises ValueError if the batch does not divide into forward passes and processes, frames can exceed
    `max_prompt_tokens`, or all weights are to be trained in bf16; also what `rollout_server.attach` raises.
    """
    _check_prompt_length(examples, builder, config)
    opening, rollouts = response_opening(vlm.processor), run.out / "rollouts"
    reward = GroundedReward(reward_config or RewardConfig.paper(), rollouts, opening, config.num_generations)
    make_row = functools.partial(gspo_row, builder=builder)
    functions = reward.terms() if config.reward_aggregation == "normalize_then_sum" else [reward.total]
    trainer = GspoTrainer(
        model=vlm.model,
        reward_funcs=[reward.by_task] if config.reward_scale == "task" else functions,
        args=_arguments(vlm, config, run),
        train_dataset=shared.row_dataset(examples, make_row, config.cached_rows, builder, run.quarantine),
        processing_class=vlm.processor,
        peft_config=shared.lora_config(config.lora_rank),
    )
    whole = functools.partial(whole_weights, trainer)
    trainer.add_callback(StopOnCollapse())
    if heldout_score:
        trainer.add_callback(KeepBest(heldout_score, whole))  # before a checkpoint is marked complete
    if heldout_rows:
        trainer.add_callback(ScoreHeldout(heldout_rows, whole))
    return shared.add_callbacks(_with_rollouts(trainer, config, run))


def _with_rollouts(trainer: GspoTrainer, config: GspoConfig, run: shared.TrainingRun) -> GspoTrainer:
    """The trainer, which samples from the server of the settings if they name one."""
    if config.rollout_server:
        from o3v.training import rollout_server  # imports TRL's client of vLLM, which takes a second

        rollout_server.attach(trainer, config.rollout_server, run.out / "rollout_weights")
    return trainer


def _check_prompt_length(examples: Sequence[Example], builder: PromptBuilder, config: GspoConfig) -> None:
    """Raises ValueError if the frames of a prompt can have more tokens than the limit."""
    frames = builder.frames
    most = frames.n_frames + max((len(example.key_frames) for example in examples), default=0)
    tokens = most * (frames.max_pixels // frames.grid_px**2)
    if tokens > config.max_prompt_tokens:
        raise ValueError(
            f"{most} frames of {frames.max_pixels:,} pixels are up to {tokens:,} tokens, more than max_prompt_tokens "
            f"{config.max_prompt_tokens:,}; lower n_frames or max_pixels"
        )


def _arguments(vlm: VideoModel, config: GspoConfig, run: shared.TrainingRun) -> GRPOConfig:
    """TRL's settings. A checkpoint falls on the end of a cycle, as completions are not saved."""
    completions = config.prompts_per_step * config.num_generations
    common = shared.common_arguments(config, run) | shared.split_batch(completions, config, config.prompts_per_step)
    common["save_steps"] = -(-config.save_steps // config.cycle) * config.cycle
    arguments = GRPOConfig(
        importance_sampling_level=config.importance_sampling,
        loss_type="grpo",
        scale_rewards="none" if config.reward_scale == "task" else "group",
        multi_objective_aggregation=config.reward_aggregation,
        use_bias_correction_kl=False,
        beta=config.beta,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        steps_per_generation=common["gradient_accumulation_steps"] * config.steps_per_generation,
        num_iterations=config.num_iterations,
        num_generations=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        repetition_penalty=1.0,  # named, because models on the hub come with one of their own
        max_completion_length=config.max_new_tokens,
        generation_kwargs={"suppress_tokens": vlm.processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))},
        num_train_epochs=1,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.lr_scheduler,
        **common,
    )
    require_master_weights(vlm.model, arguments, config.lora_rank)
    return shared.on_one_device(arguments)
