"""Reinforcement learning: group sequence policy optimisation with the grounded reward.

TRL's GRPOTrainer in its GSPO setting. `objective` says the same in ten readable lines; a test holds the trainer to
them. With one update for each rollout the sequence ratio is 1 and GSPO has GRPO's gradient.
"""

from __future__ import annotations

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
from o3v.config import FrameConfig, GspoConfig
from o3v.models import prefix_cache
from o3v.models.vlm import VISION_TOKENS, VideoModel, generate
from o3v.prompts import example_prompt
from o3v.rewards.grounded import RewardConfig, score_completion
from o3v.schema import Example, rows_to_jsonl
from o3v.training.callbacks import KeepBest, StopOnCollapse
from o3v.training.trainer import ExactResume, add_callbacks, common_arguments, lora_config, row_dataset

PARTS = {"generation": "generation", "reward": "reward", "forward": "loss", "step": "step"}


class GspoTrainer(ExactResume, GRPOTrainer):
    """GRPOTrainer with exact resume, reading each prompt once for all its completions where that can be.

    Upstream reads a prompt and its frames again for every completion. Several processes and checkpointed activations
    still do: their hooks want the whole model's forward. Logs the seconds of each part of a step as `clock/<part>`,
    of all as `clock/step`.
    """

    seconds: Counter[str]  # since the last log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        alone = self.accelerator.num_processes == 1 and not self.args.gradient_checkpointing
        self.shares = alone and prefix_cache.supports_prefix_cache(self.model)
        if self.shares and not self.use_vllm:
            self.model.generate = functools.partial(prefix_cache.generate, self.model)
        self.seconds = Counter()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begun

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
        told = {f"clock/{part}": seconds for part, seconds in self.seconds.items()}
        self.seconds.clear()
        super().log({**logs, **told}, *args, **kwargs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **pictures: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if not self.shares or compute_aux_loss:
            whole = (model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss)
            return super()._get_per_token_logps_and_entropies(*whole, **pictures)
        prompt, rows = input_ids.shape[1] - logits_to_keep, len(input_ids)
        told = {"input_ids": input_ids[:, :prompt], "attention_mask": attention_mask[:, :prompt]}
        told["mm_token_type_ids"] = pictures["mm_token_type_ids"][:, :prompt]
        told |= {name: pictures[name] for name in ("pixel_values", "image_grid_thw")}
        ids, mask = input_ids[:, prompt:], attention_mask[:, prompt:]
        with self.accelerator.autocast():
            shared = prefix_cache.prefill(model, told)
            parts = [slice(start, start + (batch_size or rows)) for start in range(0, rows, batch_size or rows)]
            found = [prefix_cache.log_probs(model, shared, ids[p], mask[p], self.temperature, p) for p in parts]
        logps, entropies = (torch.cat(values) for values in zip(*found, strict=True))
        return logps, entropies if compute_entropy else None, None


def grounded_reward(config: RewardConfig, rollouts: Path) -> Callable[..., list[float]]:
    """The reward function for TRL: the total of every completion; each term's mean is logged under its name.

    `terms/total_at_start` is the total as the first step would have scored it: σ narrows on the way, so only that
    one can be compared between steps. The completions of each step are kept in `rollouts/step_NNNNN.jsonl`.
    """

    def reward(completions, row, trainer_state, log_metric, **_: Any) -> list[float]:
        progress = trainer_state.global_step / trainer_state.max_steps
        texts = [completion[0]["content"] for completion in completions]
        pairs = list(zip(texts, row, strict=True))
        scores = [score_completion(text, r, progress, config) for text, r in pairs]
        for score, (text, r) in zip(scores, pairs, strict=True):
            score["total_at_start"] = score_completion(text, r, 0.0, config)["total"]
        for term in dict.fromkeys(name for score in scores for name in score):
            values = [score[term] for score in scores if score.get(term) is not None]
            if values:
                log_metric(f"terms/{term}", sum(values) / len(values))
        kept = [
            {
                "step": trainer_state.global_step,
                **{name: r[name] for name in ("id", "task", "image_size", "image_size_refine") if name in r},
                "completion": text,
                **score,
            }
            for (text, r), score in zip(pairs, scores, strict=True)
        ]
        files.write_text(rollouts / f"step_{trainer_state.global_step:05d}.jsonl", rows_to_jsonl(kept))
        return [score["total"] for score in scores]

    return reward


def gspo_row(example: Example, root: Path, frames: FrameConfig, box_space: str) -> dict[str, Any]:
    """One row as TRL takes it: `prompt`, `images`, and the STGR `row` that reaches the reward."""
    prompt = example_prompt(example, root, frames, box_space, training=True)
    return {"prompt": prompt.messages, "images": [Image.fromarray(i) for i in prompt.images], "row": prompt.row}


def split_heldout(examples: Sequence[Example], count: int) -> tuple[Sequence[Example], Sequence[Example]]:
    """The questions to train on, and the last `count` of all, to see what training did to others: a fifth at most, one
    at least. Raises ValueError where one question or none is left to train on."""
    kept = len(examples) - max(1, min(count, len(examples) // 5))
    if kept < 2:
        raise ValueError(f"GSPO needs three questions at least, one to be kept out of training: {len(examples)}")
    return examples[:kept], examples[kept:]


class NothingToLearn(ValueError):
    """Training would not move: the message says why and what to do."""


def preflight(
    vlm: VideoModel,
    examples: Sequence[Example],
    root: Path,
    frames: FrameConfig,
    config: GspoConfig,
    reward_config: RewardConfig | None = None,
    seed: int = 0,
    least_format: float = 0.02,
) -> list[dict[str, Any]]:
    """Rolls out and scores `config.num_preflight` questions: a row each with its rewards' mean, spread and format rate.

    Raises NothingToLearn when no group's rewards differ, since then every advantage is 0, or when less than
    `least_format` of the completions have any format, since then hardly a term can pay: the two silent failures.
    """
    asked = [
        example_prompt(example, root, frames, vlm.box_space, training=True)
        for example in examples[: config.num_preflight]
    ]
    rows: list[dict[str, Any]] = []
    for number, prompt in enumerate(asked):
        longest, each = config.max_new_tokens, config.num_generations
        texts = generate(vlm, [prompt], longest, config.temperature, seed + number, each)
        scores = [score_completion(text, prompt.row, 0.0, reward_config or RewardConfig.paper()) for text in texts]
        totals = torch.tensor([score["total"] for score in scores])
        formats = sum(bool(score["format"]) for score in scores) / len(scores)
        rows.append(
            {
                "id": prompt.row.get("id", ""),
                "task": prompt.row["task"],
                "reward": totals.mean().item(),
                "spread": totals.std().item(),
                "format": formats,
            }
        )
    if not rows:
        return rows
    told = f"{len(rows)} questions with {config.num_generations} completions each"
    if all(row["spread"] == 0 for row in rows):
        raise NothingToLearn(f"preflight, {told}: in no group do rewards differ; raise temperature or num_generations")
    if (rate := sum(row["format"] for row in rows) / len(rows)) < least_format:
        raise NothingToLearn(f"preflight, {told}: {rate:.1%} have any format; start from a checkpoint of SFT (02)")
    return rows


def make_trainer(
    vlm: VideoModel,
    examples: Sequence[Example],
    root: Path,
    frames: FrameConfig,
    config: GspoConfig,
    out: Path,
    seed: int,
    reward_config: RewardConfig | None = None,
    held_out: Callable[[], float] | None = None,
    report_to: str = "none",
) -> GspoTrainer:
    """The trainer of a GSPO run; checkpoints and rollouts go to `out`.

    `held_out` scores the model at each checkpoint (`training.KeepBest`); `report_to`: see `training.common_arguments`.
    """
    row = functools.lru_cache(config.cached_rows)(lambda index: gspo_row(examples[index], root, frames, vlm.box_space))
    trainer = GspoTrainer(
        model=vlm.model,
        reward_funcs=grounded_reward(reward_config or RewardConfig.paper(), out / "rollouts"),
        args=_arguments(vlm, config, out, seed, report_to),
        train_dataset=row_dataset(len(examples), lambda index: dict(row(index))),
        processing_class=vlm.processor,
        peft_config=lora_config(config.lora_rank),
    )
    trainer.add_callback(StopOnCollapse())
    if held_out:
        trainer.add_callback(KeepBest(held_out))  # before a checkpoint is marked whole
    return add_callbacks(trainer)


def _arguments(vlm: VideoModel, config: GspoConfig, out: Path, seed: int, report_to: str) -> GRPOConfig:
    """TRL's settings for GSPO: ratio and clipping of whole sequences, advantages in deviations of the group."""
    devices = max(1, torch.cuda.device_count())
    forbidden = vlm.processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
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
        generation_kwargs={"suppress_tokens": forbidden},
        gradient_accumulation_steps=max(1, completions // (config.per_device_batch_size * devices)),
        num_train_epochs=1,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.lr_scheduler,
        **common_arguments(config, out, seed, report_to),
    )


def seconds_by_part(trainer: GspoTrainer) -> dict[str, float]:
    """Mean seconds of a step by part, `backward` being all the rest. The first step warms up and is left out."""
    rows = [row for row in trainer.state.log_history if "clock/step" in row]
    rows = rows[1:] or rows
    mean = {part: sum(row.get(f"clock/{part}", 0.0) for row in rows) / max(1, len(rows)) for part in PARTS.values()}
    named = {name: mean[part] for name, part in PARTS.items() if part != "step"}
    return {**named, "backward": mean["step"] - sum(named.values())}
