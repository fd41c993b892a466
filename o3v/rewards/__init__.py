"""The reward r = r_acc + r_thk + r_fmt: its terms, the terms of each task, the public code's reading, exploits."""

from o3v.rewards.config import RewardConfig, sigma_at
from o3v.rewards.grounded import TASK_RULES, TERM_NAMES, TERMS, format_score, score_completion
