"""Runs notebooks without a browser. An interrupted run can be resumed, and finished notebooks are skipped."""

from o3v.runner.stage import open_stage
