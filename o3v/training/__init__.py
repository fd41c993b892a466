"""Cold-start SFT and GSPO on TRL's trainers."""

from o3v.training.callbacks import best, take_best
from o3v.training.trainer import merged, train

__all__ = [
    "best",
    "merged",
    "take_best",
    "train",
]
