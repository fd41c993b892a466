"""The command `o3v train`: one process of a training run that a notebook has written as a job.

A launcher starts it: `torchrun --nproc_per_node 2 -m o3v train runs/tiny-0/02_sft/trainer-…/job.json`.
"""

import logging
import os
import select
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from o3v.cli import add_parser

POLL_S = 1.0


def add_command(commands: Any) -> None:
    """Adds `train` to the subcommands of a parser."""
    add = add_parser(commands, "train", train, "train a job that notebook 02 or 03 has written; started by a launcher")
    add("job", type=Path, metavar="JOB", help="the file job.json in the output folder of the training")


def train(options: Namespace) -> int:
    """Trains the job in this process, one of those that the launcher has started."""
    from o3v import inference
    from o3v.training.job import HeldoutScoring, read_job, run_job
    from o3v.training.launch import WATCH

    _log_with_levels()
    if os.environ.get(WATCH):
        threading.Thread(target=_end_with_the_notebook, daemon=True).start()
    run_job(read_job(options.job), HeldoutScoring(inference.heldout_rewards, inference.heldout_mam))
    return 0


def _log_with_levels() -> None:
    """Messages with their level, so that a notebook can tell warnings; information from the first process only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("o3v")
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING if int(os.environ.get("RANK", "0")) else logging.INFO)


def _end_with_the_notebook() -> None:
    """Ends this process at once when its standard input closes, or when its parent has gone: nobody waits for it."""
    parent = os.getppid()
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], POLL_S)
        if ready and not os.read(0, 1):
            break
        time.sleep(POLL_S if ready else 0)
    os._exit(1)
