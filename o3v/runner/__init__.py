"""Running notebooks headlessly with papermill, resumable, each stage once."""

from o3v.runner.stage import MissingInput, open_stage

__all__ = [
    "MissingInput",
    "open_stage",
]
