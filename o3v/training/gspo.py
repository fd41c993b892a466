"""Reinforcement learning: group sequence policy optimization (GSPO) with the grounded reward.

Uses TRL's GRPOTrainer with its GSPO setting. `training.objective` has the same loss in ten readable lines, and a test
compares the two. With one update per rollout the sequence ratio is 1, and GSPO has the same gradient as GRPO.
"""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from o3v import files
from o3v.config import GspoConfig
from o3v.models import prefix_cache
from o3v.models.vlm import VISION_TOKENS, VideoModel, generate, response_opening
from o3v.prompts import PromptBuilder
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import score_completion
from o3v.schema import Example, Row
from o3v.training import trainer as shared
from o3v.training.callbacks import KeepBest, StopOnCollapse

# parts of a step as they are shown, and their names in the log (`clock/<name>`)
PARTS = {"generation": "generation", "reward": "reward", "forward": "loss", "step": "step"}
RECORDED_FIELDS = ("id", "task", "image_size", "image_size_refine")  # of the row, kept with each rollout


class GspoTrainer(shared.ExactResume, GRPOTrainer):
    """GRPOTrainer with exact resume, a shared prefix cache, and timing.

    TRL 1.16 prefills a prompt and encodes its frames once for each completion; here both happen once per group if the
    model supports it (`prefix_cache`). Several processes and activation checkpointing use TRL's code, since their hooks
    need the forward pass of the whole model. Logs the seconds of each part of a step as `clock/<part>`.
    """

    seconds: Counter[str]  # since the last log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        single = self.accelerator.num_processes == 1 and not self.args.gradient_checkpointing
        self.shares_prefix = single and prefix_cache.supports_prefix_cache(self.model)
        if self.shares_prefix and not self.use_vllm:
            self.model.generate = functools.partial(prefix_cache.generate, self.model)
        self.seconds = Counter()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start_s

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._timed("step"):
            return super().training_step(*args, **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        with self._timed("generation"):
            return super()._generate(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._timed("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    def _compute_loss(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._timed("loss"):
            return super()._compute_loss(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs the seconds of each part of the step as well."""
        clock = {f"clock/{part}": seconds for part, seconds in self.seconds.items()}
        self.seconds.clear()
        super().log({**logs, **clock}, *args, **kwargs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **image_inputs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        # TRL 1.16 runs prompt and completion of every row; here each distinct prompt is prefilled once
        if not self.shares_prefix or compute_aux_loss:
            inputs = (model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss)
            return super()._get_per_token_logps_and_entropies(*inputs, **image_inputs)
        prompt, rows = input_ids.shape[1] - logits_to_keep, len(input_ids)
        prompts = {"input_ids": input_ids[:, :prompt], "attention_mask": attention_mask[:, :prompt]}
        prompts["mm_token_type_ids"] = image_inputs["mm_token_type_ids"][:, :prompt]
        prompts |= {name: image_inputs[name] for name in ("pixel_values", "image_grid_thw")}
        ids, mask = input_ids[:, prompt:], attention_mask[:, prompt:]
        with self.accelerator.autocast():
            prefix = prefix_cache.prefill(model, prompts)
            parts = [slice(start, start + (batch_size or rows)) for start in range(0, rows, batch_size or rows)]
            results = [prefix_cache.log_probs(model, prefix, ids[p], mask[p], self.temperature, p) for p in parts]
        logps, entropies = (torch.cat(values) for values in zip(*results, strict=True))
        return logps, entropies if compute_entropy else None, None


def grounded_reward(config: RewardConfig, rollouts: Path, opening: str = "") -> Callable[..., list[float]]:
    """The reward function for TRL: the total of every completion. The mean of each term is logged under its name.

    `terms/total_at_start` is the total as the first step would have scored it: σ narrows during training, so only this
    one can be compared between steps. The completions of each step are written to `rollouts/step_NNNNN.jsonl`.
    `opening` begins every response (`vlm.response_opening`).
    """

    def reward(completions, row, trainer_state, log_metric, **_: Any) -> list[float]:
        """The total of each completion; the means of the terms go to the log."""
        step, progress = trainer_state.global_step, trainer_state.global_step / trainer_state.max_steps
        texts = [opening + completion[0]["content"] for completion in completions]
        pairs = list(zip(texts, row, strict=True))
        scores = [
            score_completion(text, r, progress, config)
            | {"total_at_start": score_completion(text, r, 0.0, config)["total"]}
            for text, r in pairs
        ]
        for term in dict.fromkeys(name for score in scores for name in score):
            values = [score[term] for score in scores if score.get(term) is not None]
            if values:
                log_metric(f"terms/{term}", sum(values) / len(values))
        records = [
            {"step": step, **{name: r[name] for name in RECORDED_FIELDS if name in r}, "completion": text, **score}
            for (text, r), score in zip(pairs, scores, strict=True)
        ]
        files.write_jsonl(rollouts / f"step_{step:05d}.jsonl", records)
        return [score["total"] for score in scores]

    return reward


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

    Returns one row per question: id, task, mean reward, spread of the rewards and share with format.
    Raises NothingToLearn if rewards differ in no group (every advantage would be 0), or if fewer than `min_format` of
    the completions have any format (almost no term could be above 0).
    """
    rows = []
    for number, example in enumerate(examples[: config.num_preflight]):
        prompt = builder.for_example(example, training=True)
        sampling = (config.max_new_tokens, config.temperature, seed + number, config.num_generations)
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

    Raises ValueError if the completions of a step do not divide into forward passes.
    """
    trainer = GspoTrainer(
        model=vlm.model,
        reward_funcs=grounded_reward(
            reward_config or RewardConfig.paper(), run.out / "rollouts", response_opening(vlm.processor)
        ),
        args=_arguments(vlm, config, run),
        train_dataset=shared.row_dataset(examples, functools.partial(gspo_row, builder=builder), config.cached_rows),
        processing_class=vlm.processor,
        peft_config=shared.lora_config(config.lora_rank),
    )
    trainer.add_callback(StopOnCollapse())
    if heldout_score:
        trainer.add_callback(KeepBest(heldout_score))  # before a checkpoint is marked complete
    return shared.add_callbacks(trainer)


def _arguments(vlm: VideoModel, config: GspoConfig, run: shared.TrainingRun) -> GRPOConfig:
    """TRL's settings for GSPO: sequence ratios, clipping of sequences, advantages in standard deviations of a group."""
    completions = config.prompts_per_step * config.num_generations
    return GRPOConfig(
        importance_sampling_level="sequence",
        loss_type="grpo",
        scale_rewards="group",
        use_bias_correction_kl=False,
        beta=config.beta,
        epsilon=config.epsilon,
        num_generations=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        max_completion_length=config.max_new_tokens,
        generation_kwargs={"suppress_tokens": vlm.processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))},
        gradient_accumulation_steps=shared.accumulation_steps(completions, config.per_device_batch_size),
        num_train_epochs=1,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.lr_scheduler,
        **shared.common_arguments(config, run),
    )


def seconds_by_part(trainer: GspoTrainer) -> dict[str, float]:
    """Mean seconds of a step by part; `backward` is the remainder. The first step warms up and is left out."""
    rows = [row for row in trainer.state.log_history if "clock/step" in row]
    rows = rows[1:] or rows
    mean = {part: sum(row.get(f"clock/{part}", 0.0) for row in rows) / max(1, len(rows)) for part in PARTS.values()}
    named = {name: mean[part] for name, part in PARTS.items() if part != "step"}
    return {**named, "backward": mean["step"] - sum(named.values())}
