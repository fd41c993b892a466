"""Training in several processes, started from a notebook: one for each GPU, or for each of a few CPU cores.

The notebook writes the run as a job (`training.job`), a launcher starts the processes, and the notebook shows their
progress and then loads what they have trained. An interrupt of the notebook, and its death, end the processes; the same
cell continues from the last checkpoint. With one process the notebook trains itself.
"""

import logging
import os
import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import torch
from tqdm.auto import tqdm

from o3v.code_digest import PACKAGE
from o3v.config import GspoConfig, SftConfig
from o3v.prompts import PromptBuilder
from o3v.text import printable
from o3v.training import trainer as shared
from o3v.training.callbacks import PROGRESS
from o3v.training.job import TrainingJob, code_of_jobs, write_job
from o3v.training.trainer import TrainingRun

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "launch_configs"  # of accelerate, one for each engine
LAUNCHER = "O3V_LAUNCHER"  # replaces the launcher's command, for Slurm or several machines
WATCH = "O3V_WATCH_STDIN"  # tells a process to end when its standard input closes
LOG = "processes.log"  # what the processes print, in the output folder of the run
TAIL_LINES = 60  # of it in an error; the launcher's own report has 30
STOP_S = 20.0  # after a first request to end
STEP_LINE = re.compile(re.escape(PROGRESS).replace("%d", r"(\d+)").replace("%s", r"(.*)"))
LEVEL_LINE = re.compile(r"(WARNING|ERROR|CRITICAL) \S+: (.*)")


class TrainingFailedError(RuntimeError):
    """A process of a training run has failed; the message has the end of its log."""


def with_processes(config: SftConfig | GspoConfig, num_processes: int | None) -> Any:
    """The settings with this number of processes; None: the profile's, or one for each GPU, or one on a CPU."""
    wanted = config.num_processes if num_processes is None else num_processes
    if wanted is None:
        wanted = max(1, torch.cuda.device_count())
    if wanted < 1:
        raise ValueError(f"num_processes is the number of processes that train, at least 1, not {wanted}")
    return replace(config, num_processes=wanted)


def make_job(
    kind: Literal["sft", "gspo"],
    model: str | Path,
    rows: Path,
    builder: PromptBuilder,
    config: SftConfig | GspoConfig,
    run: TrainingRun,
    stop_at: int | None = None,
    **scoring: Any,
) -> TrainingJob:
    """The job of a notebook's trainer.

    Args:
        kind: of training.
        model: folder or hub name to start from.
        rows: file of all training rows; for GSPO with those that it holds out.
        builder: as the trainer's.
        config: as the trainer's.
        run: as the trainer's, with a quarantine.
        stop_at: as of `trainer.train`.
        scoring: `reward`, `inference`, `dev_items` and `vstar_root` of GSPO.
    """
    folder = Path(model)
    cache = builder.cache and str(builder.cache.folder.absolute())
    quarantine = run.quarantine
    return TrainingJob(
        kind=kind,
        model=str(folder.absolute() if folder.is_dir() else model),
        rows=str(rows.absolute()),
        root=str(builder.root.absolute()),
        out=str(run.out.absolute()),
        seed=run.seed,
        config=config,
        frames=builder.frames,
        unreadable=str(quarantine.path.absolute()),
        num_rows=quarantine.num_rows,
        max_unreadable=quarantine.max_share,
        report_to=run.report_to,
        frame_cache=cache,
        stop_at=stop_at,
        **{name: str(value) if isinstance(value, Path) else value for name, value in scoring.items()},
        code=code_of_jobs(),
    )


def train(trainer: Any, job: TrainingJob) -> list[dict[str, float]]:
    """As `trainer.train`, in the processes of the job. The trainer then has their weights, state and log.

    Raises TrainingFailedError if a process fails.
    """
    if (job.config.num_processes or 1) > 1:
        checkpoint = shared.last_checkpoint(Path(job.out))
        if not (checkpoint and shared.is_finished(checkpoint, job.stop_at)):
            with _off_the_gpu(trainer):
                run_processes(job)
    return shared.train(trainer, job.stop_at)


@contextmanager
def _off_the_gpu(trainer: Any) -> Iterator[None]:
    """Keeps the notebook's models in main memory while other processes use the GPU."""
    models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
    devices = [model.device for model in models]
    if all(device.type == "cpu" for device in devices):
        yield
        return
    for model in models:
        model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        for model, device in zip(models, devices, strict=True):
            model.to(device)


def command(job: TrainingJob, path: Path) -> list[str]:
    """The command that starts the processes of a job: torchrun on CPU cores, accelerate on GPUs.

    `accelerate launch --cpu` starts one process, whatever number it is given. The variable O3V_LAUNCHER, if it is set,
    replaces all before `-m o3v`.
    """
    count = str(job.config.num_processes)
    if given := os.environ.get(LAUNCHER):
        launcher = shlex.split(given)
    elif torch.cuda.is_available():
        config = ["--config_file", str(CONFIGS / f"{job.config.engine}.yaml")]
        launcher = [sys.executable, "-m", "accelerate.commands.launch", *config, "--num_processes", count]
    else:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count]
    return [*launcher, "-m", "o3v", "train", str(path)]


def environment(job: TrainingJob) -> dict[str, str]:
    """The variables of the processes: the same package, and the cores shared among them."""
    threads = max(1, torch.get_num_threads() // (job.config.num_processes or 1))
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    added = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", WATCH: "1"}
    if sys.platform == "linux" and not (torch.cuda.is_available() or os.environ.get(LAUNCHER)):
        added["GLOO_SOCKET_IFNAME"] = "lo"  # processes of one machine: their data stays on it
    return {**os.environ, **added}


def run_processes(job: TrainingJob) -> None:
    """Starts the processes of a job and follows them to their end. Raises TrainingFailedError if one fails."""
    path = write_job(job)
    process = subprocess.Popen(
        command(job, path),
        env=environment(job),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # an interrupt reaches them through `_stop` only
    )
    try:
        with (path.parent / LOG).open("a", encoding="utf-8") as log_file:
            tail = _follow(process.stdout, log_file)
        code = process.wait()
    finally:
        _stop(process)
    if code:
        lines = "\n".join(tail)
        count = job.config.num_processes
        raise TrainingFailedError(f"training in {count} processes failed; {path.parent / LOG} has:\n{lines}")


def _follow(output: IO[str], log_file: IO[str]) -> deque[str]:
    """Shows the progress and the warnings of the processes, and keeps all that they print.

    Returns what explains a failure: the errors that `o3v train` states in one line, or else the last lines.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    stated: deque[str] = deque(maxlen=TAIL_LINES)
    bar = None
    for line in output:
        log_file.write(line)
        log_file.flush()
        line = printable(line.rstrip("\n"))
        if step := STEP_LINE.search(line):
            bar = bar or tqdm(total=int(step[2]), desc="training", mininterval=2)
            bar.set_postfix_str(step[3].strip(", "), refresh=False)
            bar.update(int(step[1]) - bar.n)
            continue
        tail.append(line)
        if line.startswith("o3v: ") and line not in stated:
            stated.append(line)
        if found := LEVEL_LINE.match(line):
            log.log(logging.getLevelNamesMapping()[found[1]], found[2])
    if bar is not None:
        bar.close()
    return stated or tail


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends all processes of a launcher, also those that it has left: they end when their standard input closes."""
    if process.poll() is None:
        process.terminate()
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
