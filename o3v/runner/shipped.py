"""The shipped part of a run: two models, a few rows and videos in `data/`, for notebooks that are opened alone.

`o3v ship` writes it from a finished run (`review.shipping`). Only a notebook that a reader opens by hand reads it, and
only if its own run has no trained model (`stage.open_stage`). A run by `o3v run` never does.
"""

from pathlib import Path

from o3v.config import REPOSITORY

PROFILE = "tiny"  # the profile of the shipped run
TRAINED = "03_gspo"  # a run that has finished this notebook reads its own files
DATA = REPOSITORY / "data"
MODELS = {"02_sft/checkpoint": "o3v-tiny-sft", "03_gspo/checkpoint": "o3v-tiny-gspo"}  # file of a run: folder in DATA
ROWS = "o3v-tiny-run"  # folder in DATA with the other files, laid out as a run


def shipped_path(relative: str) -> Path:
    """The place of a file of a run, `<notebook>/<path>`, in the shipped part. It may not exist."""
    return DATA / MODELS[relative] if relative in MODELS else DATA / ROWS / relative
