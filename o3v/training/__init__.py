"""Cold-start SFT and GSPO on TRL's trainers."""

from o3v.training.callbacks import load_best, read_best, read_heldout
from o3v.training.trainer import merge_adapters, train
