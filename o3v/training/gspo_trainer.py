"""TRL's GRPOTrainer for GSPO: exact resume, prompts read once a group, sequence-ratio statistics and timing.

`training.gspo` configures it. This module does not know rewards or rows.
"""

import functools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from o3v.models import group_rows, prefix_cache
from o3v.training import objective
from o3v.training import trainer as shared
from o3v.training.sharding import unsharded

# parts of a step as they are shown, and their names in the log (`clock/<name>`)
PARTS = {"generation": "generation", "reward": "reward", "forward": "loss", "step": "step"}
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)  # of the sequence ratios of a step, logged as `ratio/q05`, …


class GspoTrainer(shared.ExactResume, GRPOTrainer):
    """GRPOTrainer with exact resume, prompts read once a group, statistics of sequence ratios, and timing.

    TRL 1.16 reads a prompt and encodes its frames once for each completion; here both happen once per group if the
    model supports it: with a KV cache (`prefix_cache`) in one process, as one row with its completions (`group_rows`)
    under activation checkpointing and in several processes, whose hooks need the forward pass of the whole model.
    Generation shares prompts, too; weights that are divided over processes are gathered for it. Logs the seconds of
    each part of a step as `clock/<part>`, quantiles of the sequence ratios as `ratio/q<percent>`, and `staleness`, the
    number of steps since the completions were sampled.
    """

    seconds: Counter[str]  # since the last log
    last_logps: torch.Tensor  # of the last forward pass, (completions, tokens)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cached = prefix_cache.supports_prefix_cache(self.model)
        single = self.accelerator.num_processes == 1 and not self.args.gradient_checkpointing
        self.shares_prefix = single and cached
        self.packs_groups = not self.shares_prefix and group_rows.supports_group_rows(self.model)
        if self.packs_groups:
            for model in filter(None, (self.model, self.ref_model)):
                group_rows.add_scoring(self.accelerator.unwrap_model(model))
        if cached and not self.use_vllm:
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
        precision = self.accelerator.autocast()  # fp32 weights, bf16 arithmetic on a GPU
        with self._timed("generation"), precision, unsharded(self.model):  # TRL gathers those of DeepSpeed itself
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
        ratios = self.accelerator.gather(ratios)
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
        # TRL 1.16 runs prompt and completion of every row; here each distinct prompt is read once
        with_images = image_inputs.get("image_grid_thw") is not None
        if not (self.shares_prefix or self.packs_groups) or not with_images or compute_aux_loss:
            inputs = (model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss)
            result = super()._get_per_token_logps_and_entropies(*inputs, **image_inputs)
            self.last_logps = result[0].detach()
            return result
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, **image_inputs}
        score = self._score_cached if self.shares_prefix else self._score_packed
        with self.accelerator.autocast():
            logps, entropies = score(model, batch, logits_to_keep, batch_size or len(input_ids))
        self.last_logps = logps.detach()
        return logps, entropies if compute_entropy else None, None

    def _score_cached(
        self, model: Any, batch: dict[str, Any], width: int, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of the last `width` tokens of each row, with one KV cache a prompt."""
        prompts, ids, mask = _split_completions(batch, width)
        prefix = prefix_cache.prefill(model, prompts)
        parts = max(4, -(-len(ids) // batch_size))
        return prefix_cache.log_probs_by_length(model, prefix, ids, mask, self.temperature, parts)

    def _score_packed(
        self, model: Any, batch: dict[str, Any], width: int, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_score_cached`, with a prompt and its completions as one row, `batch_size` completions at a time.

        The number of forward passes depends only on the number of rows, since every process must make as many.
        """
        plain, by_row = self.accelerator.unwrap_model(model), split_pixel_values_by_grid(batch)
        done = []
        for start in range(0, len(batch["input_ids"]), batch_size):
            part = {name: value[start : start + batch_size] for name, value in by_row.items() if value is not None}
            prompts, ids, mask = _split_completions(unsplit_pixel_values_by_grid(part), width)
            rows = group_rows.pack(plain, prompts, ids, mask)
            values = model(**rows.inputs, scored_labels=rows.labels, temperature=self.temperature)
            done.append([rows.unpack(value, width) for value in values])
        logps, entropies = (torch.cat(values) for values in zip(*done, strict=True))
        return logps, entropies

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's; where groups are packed, each forward pass gets whole groups instead of shuffled completions."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not (self.packs_groups and self.model.training) or self._buffered_inputs is before:
            return inputs
        self._buffered_inputs = whole_groups(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]


def _split_completions(batch: dict[str, Any], width: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The prompts of rows with their frames, and the ids and the mask of the completions, the last `width` tokens."""
    prompts = {name: batch[name][:, :-width] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    prompts |= {name: batch[name] for name in ("pixel_values", "image_grid_thw")}
    return prompts, batch["input_ids"][:, -width:], batch["attention_mask"][:, -width:]


def whole_groups(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows in as many batches of the same size, with rows of equal prompt tokens together.

    TRL 1.16 shuffles the completions of all prompts before it splits them into forward passes.
    """
    parts = [split_pixel_values_by_grid(batch) for batch in batches]
    keys = [tuple(row) for part in parts for row in part["prompt_ids"].tolist()]
    first = {key: number for number, key in reversed(list(enumerate(keys)))}
    order = sorted(range(len(keys)), key=lambda row: first[keys[row]])

    def reordered(values: list[Any]) -> Any:
        if isinstance(values[0], torch.Tensor) and values[0].ndim:
            return torch.cat(values)[order]
        flat = list(chain.from_iterable(values)) if isinstance(values[0], list) else None
        return [flat[row] for row in order] if flat else values[0]

    joined = {name: reordered([part[name] for part in parts]) for name in parts[0]}
    return [unsplit_pixel_values_by_grid(part) for part in split_tensor_dict(joined, len(batches))]


def seconds_by_part(trainer: GspoTrainer) -> dict[str, float]:
    """Mean seconds of a step by part; `backward` is the remainder. The first step warms up and is left out."""
    rows = [row for row in trainer.state.log_history if "clock/step" in row]
    rows = rows[1:] or rows
    mean = {part: sum(row.get(f"clock/{part}", 0.0) for row in rows) / max(1, len(rows)) for part in PARTS.values()}
    named = {name: mean[part] for name, part in PARTS.items() if part != "step"}
    return {**named, "backward": mean["step"] - sum(named.values())}
