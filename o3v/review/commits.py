"""The commits that the notebooks of a run were executed with."""

from collections.abc import Mapping
from typing import Any


def code_of(manifest: Mapping[str, Any]) -> str:
    """The commit of a run; of each notebook, by number, if they differ.

    >>> code_of({"stages": {"00_a": {"git": {"commit": "1f"}}, "01_b": {"git": {"commit": "2e", "dirty": True}}}})
    'commit 1f (00); commit 2e, with changes not committed (01)'
    """
    notebooks: dict[str, list[str]] = {}
    for name, stage in (manifest.get("stages") or {"": {}}).items():
        git = stage.get("git") or manifest.get("git") or {}
        changed = ", with changes not committed" if git.get("dirty") else ""
        notebooks.setdefault(f"commit {git.get('commit', 'unknown')}{changed}", []).append(name.split("_")[0])
    if len(notebooks) == 1:
        return next(iter(notebooks))
    return "; ".join(f"{commit} ({', '.join(numbers)})" for commit, numbers in notebooks.items())
