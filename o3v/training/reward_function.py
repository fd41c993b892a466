"""The grounded reward as reward functions of TRL: scores completions, logs every term, keeps all rollouts on disk.

The reward itself is in `rewards`. This module does not know trainers or models.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from o3v import files
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import TERMS, score_completion
from o3v.training import processes

RECORDED_FIELDS = ("id", "task", "image_size", "image_size_refine")  # of the row, kept with each rollout
SCALE_DECAY = 0.99  # of the moving average of a task's reward spread; OneThinker
SCALES = "task_scales.json"  # in the folder of the rollouts
MIN_SCALE = 1e-4  # TRL's, added to a spread before it divides


class GroundedReward:
    """Scores the completions of a step once, logs the mean of every term, and writes them to disk.

    `terms/total_at_start` is the total as the first step would have scored it: σ narrows during training, so only this
    one can be compared between steps. The completions of each step are written to `rollouts/step_NNNNN.jsonl`. Means
    and files hold the completions of all processes, in the order of the processes.

    Args:
        config: reading of the reward.
        rollouts: folder for the completions.
        opening: begins every response (`vlm.response_opening`).
        num_generations: completions in a group; needed for `by_task` only.
    """

    def __init__(self, config: RewardConfig, rollouts: Path, opening: str = "", num_generations: int = 2) -> None:
        self.config, self.rollouts, self.opening, self.num_generations = config, rollouts, opening, num_generations
        self.step_records: list[dict[str, Any]] = []  # completions of the last step, of all processes
        self.scored: tuple[Any, list[dict[str, float | None]]] = (None, [])  # the last step, and its scores

    def scores(self, completions: Any, row: Any, trainer_state: Any, log_metric: Any) -> list[dict[str, float | None]]:
        """Every term of every completion."""
        step, progress = trainer_state.global_step, trainer_state.global_step / trainer_state.max_steps
        texts = [self.opening + completion[0]["content"] for completion in completions]
        if self.scored[0] == (step, texts):
            return self.scored[1]
        pairs = list(zip(texts, row, strict=True))
        scores = [
            score_completion(text, r, progress, self.config)
            | {"total_at_start": score_completion(text, r, 0.0, self.config)["total"]}
            for text, r in pairs
        ]
        records = [
            {"step": step, **{name: r[name] for name in RECORDED_FIELDS if name in r}, "completion": text, **score}
            for (text, r), score in zip(pairs, scores, strict=True)
        ]
        self.step_records = [record for part in processes.joined(records) for record in part]
        for term in dict.fromkeys(name for score in scores for name in score):
            values = [record[term] for record in self.step_records if record.get(term) is not None]
            if values:
                log_metric(f"terms/{term}", fmean(values))
        if processes.rank() == 0:
            files.write_jsonl(self.rollouts / f"step_{step:05d}.jsonl", self.step_records)
        self.scored = ((step, texts), scores)
        return scores

    def total(self, completions: Any, row: Any, trainer_state: Any, log_metric: Any, **_: Any) -> list[float]:
        """The sum of the terms."""
        return [score["total"] or 0.0 for score in self.scores(completions, row, trainer_state, log_metric)]

    def by_task(self, completions: Any, row: Any, trainer_state: Any, log_metric: Any, **_: Any) -> list[float]:
        """The sum of the terms in units of the usual spread of its task.

        σ_task is an exponential moving average of the standard deviation of groups of the task. TRL must not divide by
        the spread of the group (`scale_rewards="none"`). Source: EMA-GRPO, OneThinker (arXiv:2512.03043).
        """
        totals = self.total(completions, row, trainer_state, log_metric)
        everyone = [(record["total"] or 0.0, record["task"]) for record in self.step_records]
        scales = self._task_scales(trainer_state.global_step, *map(list, zip(*everyone, strict=True)))
        return [total / (scales[r["task"]] + MIN_SCALE) for total, r in zip(totals, row, strict=True)]

    def _task_scales(self, step: int, totals: Sequence[float], tasks: Sequence[str]) -> dict[str, float]:
        """The moving averages after the groups of this step, kept on disk by step, so that a resumed run equals."""
        path = self.rollouts / SCALES
        history = files.read_json(path) if path.exists() else {}
        history = {at: scales for at, scales in history.items() if int(at) < step}
        scales = dict(history[max(history, key=int)]) if history else {}
        spreads = defaultdict(list)
        for start in range(0, len(totals), self.num_generations):
            spreads[tasks[start]].append(stdev(totals[start : start + self.num_generations]))
        for task, values in spreads.items():
            new = fmean(values)
            scales[task] = SCALE_DECAY * scales[task] + (1 - SCALE_DECAY) * new if task in scales else new
        if processes.rank() == 0:
            files.write_json(path, {**history, str(step): scales})
        return scales

    def terms(self) -> list[Callable[..., list[float | None]]]:
        """One reward function for each term, None where it does not apply, to normalise the terms one by one."""

        def function(term: str) -> Callable[..., list[float | None]]:
            def reward(completions: Any, row: Any, trainer_state: Any, log_metric: Any, **_: Any) -> list[float | None]:
                return [score.get(term) for score in self.scores(completions, row, trainer_state, log_metric)]

            reward.__name__ = term
            return reward

        added = {"thk_recall": self.config.recall_weight, "ans_tdist": self.config.span_distance_weight}
        names = [*TERMS, *(name for name, weight in added.items() if weight)]
        return [function(name) for name in names]
