"""Rows as users bring them, for tests: a good one, and files of rows."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from o3v.data.check import MediaInfo


def mcq_row(row_id: str) -> dict[str, Any]:
    """A good row of a question with options about the video a.mp4."""
    row = {"task": "General video QA MCQ", "source": "videor1_mcq", "question": "Which? A. x B. y", "answer": "B"}
    return row | {"id": row_id, "video_path": "a.mp4", "image_path": None}


def evidence_row(row_id: str) -> dict[str, Any]:
    """A good row with one key frame, which its reasoning claims."""
    chain = "The <obj>cup</obj><box>[0.1,0.1,0.3,0.4]</box>at<t>1.0</t>s is held."
    row = {"task": "temporal-spatial free-form QA", "source": "STR_didemo", "question": "What?", "answer": "a cup"}
    keys = {"key_frames": [{"idx": 10, "time": 1.0}], "key_items": {"10": {"cup": [[0.1, 0.1, 0.3, 0.4]]}}}
    return row | keys | {"id": row_id, "video_path": "a.mp4", "reasoning_process": chain}


def inspect_or_crash(medium: tuple[str, bool]) -> MediaInfo:
    """Stands for a decoder: a medium named `crash` ends the process."""
    if medium[0].startswith("crash"):
        os.abort()
    return MediaInfo(duration_s=float(medium[0]))


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Writes a JSON list, one row per line. A row that is a text stands in it as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("[" + ",\n".join(texts) + "]", encoding="utf-8")
    return path


def accept_interrupt() -> None:
    """Restores Ctrl-C in a child process: a shell starts background jobs, and all below them, with it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
