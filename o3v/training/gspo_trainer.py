"""TRL's GRPOTrainer for GSPO, with exact resume, a shared prefix cache, sequence-ratio statistics and timing.

`training.gspo` configures it. This module does not know rewards or rows.
"""

import functools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from trl import GRPOTrainer

from o3v.models import prefix_cache
from o3v.training import objective
from o3v.training import trainer as shared

# parts of a step as they are shown, and their names in the log (`clock/<name>`)
PARTS = {"generation": "generation", "reward": "reward", "forward": "loss", "step": "step"}
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)  # of the sequence ratios of a step, logged as `ratio/q05`, …


class GspoTrainer(shared.ExactResume, GRPOTrainer):
    """GRPOTrainer with exact resume, a shared prefix cache, statistics of sequence ratios, and timing.

    TRL 1.16 prefills a prompt and encodes its frames once for each completion; here both happen once per group if the
    model supports it (`prefix_cache`). Several processes and activation checkpointing use TRL's code, since their hooks
    need the forward pass of the whole model. Logs the seconds of each part of a step as `clock/<part>`, quantiles of
    the sequence ratios as `ratio/q<percent>`, and `staleness`, the number of steps since the completions were sampled.
    """

    seconds: Counter[str]  # since the last log
    last_logps: torch.Tensor  # of the last forward pass, (completions, tokens)

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
        with self._timed("generation"), self.accelerator.autocast():  # fp32 weights, bf16 arithmetic on a GPU
            return super()._generate(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._timed("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        with self._timed("loss"):
            loss = super()._compute_loss(model, inputs)
        old = inputs.get("old_per_token_logps")
        logps = self.last_logps if old is None else old
        ratios = objective.sequence_ratio(self.last_logps, logps, inputs["completion_mask"])
        values = ratios.quantile(ratios.new_tensor(QUANTILES)).tolist()
        for share, value in zip(QUANTILES, values, strict=True):
            self._metrics["train"][f"ratio/q{round(100 * share):02d}"].append(value)
        steps = self.args.gradient_accumulation_steps
        generated_every = self.args.steps_per_generation * self.num_iterations
        self._metrics["train"]["staleness"].append(self._step % generated_every // steps)
        return loss

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
            result = super()._get_per_token_logps_and_entropies(*inputs, **image_inputs)
            self.last_logps = result[0].detach()
            return result
        prompt = input_ids.shape[1] - logits_to_keep
        prompts = {"input_ids": input_ids[:, :prompt], "attention_mask": attention_mask[:, :prompt]}
        prompts["mm_token_type_ids"] = image_inputs["mm_token_type_ids"][:, :prompt]
        prompts |= {name: image_inputs[name] for name in ("pixel_values", "image_grid_thw")}
        ids, mask = input_ids[:, prompt:], attention_mask[:, prompt:]
        with self.accelerator.autocast():
            prefix = prefix_cache.prefill(model, prompts)
            parts = max(4, -(-len(ids) // (batch_size or len(ids))))
            logps, entropies = prefix_cache.log_probs_by_length(model, prefix, ids, mask, self.temperature, parts)
        self.last_logps = logps.detach()
        return logps, entropies if compute_entropy else None, None


def seconds_by_part(trainer: GspoTrainer) -> dict[str, float]:
    """Mean seconds of a step by part; `backward` is the remainder. The first step warms up and is left out."""
    rows = [row for row in trainer.state.log_history if "clock/step" in row]
    rows = rows[1:] or rows
    mean = {part: sum(row.get(f"clock/{part}", 0.0) for row in rows) / max(1, len(rows)) for part in PARTS.values()}
    named = {name: mean[part] for name, part in PARTS.items() if part != "step"}
    return {**named, "backward": mean["step"] - sum(named.values())}
