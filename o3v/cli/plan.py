"""The command `o3v plan`: memory, hours, disk and money of a profile on given GPUs, before anything is spent."""

import logging
import sys
from argparse import ArgumentTypeError, Namespace
from dataclasses import replace
from typing import Any

from o3v.cli import add_parser, count_above_0, number_above_0, table_text
from o3v.config import load_profile
from o3v.planning.budget import Budget
from o3v.planning.check import memory_problem
from o3v.planning.memory import ENGINES, GB, USABLE
from o3v.planning.shapes import model_shape
from o3v.planning.work import Assumptions, StageWork, money

log = logging.getLogger("o3v.plan")
USUAL = Assumptions()


def share(text: str) -> float:
    """Reads an argument that is above 0 and at most 1."""
    number = number_above_0(text)
    if number > 1:
        raise ArgumentTypeError(f"must be a share above 0 and at most 1, found {text!r:.40}")
    return number


def add_command(commands: Any) -> None:
    """Adds `plan` to the subcommands of a parser."""
    add = add_parser(commands, "plan", plan_profile, "plan memory, hours, disk and money of a profile; runs nothing")
    add("--profile", default="full", help="profile to plan (default: full)")
    add("--base", metavar="MODEL", help="folder or hub name of the base model (default: the profile's)")
    add("--gpus", type=count_above_0, metavar="N", default=8, help="number of GPUs (default: 8)")
    add("--gpu-memory", type=number_above_0, metavar="GB", default=80.0, help="memory of one GPU (default: 80)")
    add("--engine", choices=ENGINES, help="default: the profile's; one GPU: ddp")
    add("--efficiency", type=share, default=USUAL.efficiency, help=f"share of the peak (default: {USUAL.efficiency})")
    tflops, token_ms = USUAL.peak_flops / 1e12, 1000 * USUAL.token_s
    add("--tflops", type=number_above_0, default=tflops, help=f"peak of a GPU, bf16 (default: {tflops:g}, H100)")
    add("--token-ms", type=number_above_0, default=token_ms, help=f"time of a generated token (default: {token_ms:g})")
    add("--price", type=number_above_0, default=USUAL.price, help=f"of a GPU for an hour (default: {USUAL.price})")


def plan_profile(options: Namespace) -> int:
    """Prints the plan. Returns 1 if the profile does not fit the GPUs; stderr then names what would make it fit."""
    profile = load_profile(options.profile)
    profile = replace(profile, base=options.base or profile.base)
    shape = model_shape(profile.base)
    budget = Budget(profile, shape, options.gpus, options.gpu_memory * GB, options.engine)
    assumed = Assumptions(options.efficiency, options.tflops * 1e12, options.token_ms / 1000, options.price)
    log.info("profile %s, %s with %s parameters", profile.name, profile.base, f"{shape.parameters:,}")
    log.info("GPUs: %d of %g GB; planned from sizes, not measured\n", options.gpus, options.gpu_memory)
    log.info("%s\n", table_text(_memory_rows(budget)))
    works = budget.works(assumed)
    log.info("%s\n", table_text([_work_row(work) for work in works]))
    low, high = (sum(work.reading_core_h[end] for work in works) for end in (0, 1))
    log.info(
        "reading videos: %.0f–%.0f core-hours, once for every use (with `frame_cache` in 02 and 03: once)", low, high
    )
    if main_memory := budget.main_memory():
        text = "main memory: %.0f GB of masters, moments and gradients, of all GPUs; DeepSpeed advises half more"
        log.info(text, main_memory / GB)
    disk = budget.disk()
    log.info("disk: %s GB, without videos", ", ".join(f"{name} {size / GB:.0f}" for name, size in disk.items()))
    hours, cost = sum(work.hours for work in works), money(works, options.price, options.gpus)
    log.info("in all %.0f hours, %.0f GPU-hours, %.0f at %g an hour", hours, hours * options.gpus, cost, options.price)
    text = "assumed: %.0f%% of %g TFLOPS, %g ms a token of a batch"
    log.info(text, 100 * options.efficiency, options.tflops, options.token_ms)
    if options.gpus > 1:
        log.info("training on several GPUs has been tested with processes on a CPU only")
    problems = memory_problem(budget)
    sys.stderr.write("".join(f"o3v: it does not fit: {problem}\n" for problem in problems))
    return int(bool(problems))


def _memory_rows(budget: Budget) -> list[dict[str, object]]:
    """One row for each part with the GB of each stage on one GPU; the engines first, the usable memory last."""
    memory = budget.memory()
    names = list(dict.fromkeys(name for parts in memory.values() for name in parts if name != "peak"))
    header = {"memory of one GPU, GB": "engine", **budget.engines(), "answers": "one GPU"}
    rows = [
        {"": name, **{stage: f"{parts[name] / GB:.1f}" if name in parts else None for stage, parts in memory.items()}}
        for name in [*names, "peak"]
    ]
    usable = {stage: f"{USABLE * budget.gpu_memory / GB:.1f}" for stage in memory}
    return [header, *rows, {"": f"usable, {USABLE:.0%}", **usable}]


def _work_row(work: StageWork) -> dict[str, object]:
    return {
        "stage": work.stage,
        "steps": f"{work.steps:,}",
        "rows a step": work.rows,
        "tokens a step": f"{work.tokens:,.0f}",
        "images a step": f"{work.images:,.0f}",
        "computing h": f"{work.compute_h:.1f}",
        "sampling h": f"{work.sampling_h:.1f}",
        "reading h": f"{work.reading_h:.1f}",
        "hours": f"{work.hours:.1f}",
    }
