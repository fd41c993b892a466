"""Runs notebooks without a browser. An interrupted run can be resumed, and finished notebooks are skipped."""

from o3v.runner.stage import MissingInput, open_stage

__all__ = [
    "MissingInput",
    "open_stage",
]
