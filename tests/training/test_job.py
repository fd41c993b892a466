"""A training run as a file, and two gloo processes against one: gradients, metrics, rollouts, resuming."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.gloo_jobs import run_in_processes, with_fixed_rollouts
from helpers.world import FRAMES
from safetensors.torch import load_file

from o3v import files, inference, models, training
from o3v.config import GspoConfig, InferenceConfig, SftConfig
from o3v.data.quarantine import Quarantine
from o3v.prompts import PromptBuilder
from o3v.rewards import RewardConfig
from o3v.training import job as jobs
from o3v.training import launch
from o3v.training.trainer import TrainingRun

SFT = SftConfig(effective_batch_size=4, per_device_batch_size=4, learning_rate=1e-3, save_steps=1, max_grad_norm=1e9)
GSPO = GspoConfig(
    max_steps=2,
    prompts_per_step=2,
    num_generations=4,
    per_device_batch_size=4,
    learning_rate=1e-3,
    beta=0.0,
    max_new_tokens=8,
    max_grad_norm=1e9,
    num_heldout=2,
    save_steps=1,
)
SCORING = jobs.HeldoutScoring(inference.heldout_rewards, inference.heldout_mam)


@pytest.fixture(scope="module")
def base(_twin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    models.save(_twin, folder)
    return folder


@pytest.fixture(scope="module")
def rows(sft_examples, rl_examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for kind, examples in (("sft", sft_examples), ("gspo", rl_examples)):
        files.write_jsonl(folder / f"{kind}.jsonl", [example.to_row() for example in examples])
    return folder


@pytest.fixture
def make(base, rows, world, tmp_path):
    def made(kind, name, num_processes=2, stop_at=2, **changes):
        config = dataclasses.replace({"sft": SFT, "gspo": GSPO}[kind], num_processes=num_processes, **changes)
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        run = TrainingRun(out, 1, quarantine=Quarantine(tmp_path / "unreadable.jsonl", 12))
        scoring = {"reward": RewardConfig.paper(), "inference": InferenceConfig(max_new_tokens=4)}
        more = scoring if kind == "gspo" else {}
        builder = PromptBuilder(world, FRAMES, "pixels")
        return launch.make_job(kind, base, rows / f"{kind}.jsonl", builder, config, run, stop_at, **more)

    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: [], "is not a training job: its `kind` is neither sft nor gspo; run its notebook again"),
        (lambda job: job | {"kind": "dpo"}, "its `kind` is neither"),
        (lambda job: job | {"extra": 1}, "unexpected keyword argument 'extra'"),
        (lambda job: job | {"config": {"rate": 1}}, "unexpected keyword argument 'rate'"),
        (lambda job: {k: v for k, v in job.items() if k != "rows"}, "missing 1 required positional argument: 'rows'"),
    ],
)
def test_a_file_that_is_no_job_is_refused(make, tmp_path, change, message):
    path = tmp_path / "job.json"
    files.write_json(path, change(dataclasses.asdict(make("sft", "run"))))
    with pytest.raises(ValueError, match=re.escape(message)):
        jobs.read_job(path)


@pytest.mark.parametrize("kind", ["sft", "gspo"])
def test_a_job_is_read_as_it_was_written(make, kind):
    job = make(kind, "run")
    assert jobs.read_job(jobs.write_job(job)) == job


def test_a_job_needs_its_number_of_processes_and_its_code(make):
    with pytest.raises(ValueError, match="is for 2 processes, but 1 were started; start 2"):
        jobs.run_job(make("sft", "run"), SCORING)
    with pytest.raises(ValueError, match="the code has changed since the job"):
        jobs.run_job(dataclasses.replace(make("sft", "run", 1), code="other"), SCORING)


def weights(job, step):
    return load_file(f"{job.out}/checkpoint-{step}/model.safetensors")


def first_gradients(job):
    """Of the first step: AdamW's first moment is then a tenth of the gradient."""
    state = torch.load(f"{job.out}/checkpoint-1/optimizer.pt", weights_only=True)["state"]
    return [value["exp_avg"] / 0.1 for value in state.values()]


def log_of(job):
    return [row for _, row in files.read_jsonl(f"{job.out}/log.jsonl")]


def assert_same_training(one, two):
    pairs = list(zip(first_gradients(one), first_gradients(two), strict=True))
    largest = max(ours.abs().max().item() for ours, _ in pairs)
    assert largest > 1e-3
    assert max((ours - theirs).abs().max().item() for ours, theirs in pairs) < 1e-5 * max(1, largest)
    assert len(log_of(one)) == len(log_of(two)) == 2
    for ours, theirs in zip(log_of(one), log_of(two), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def interrupt(whole, job):
    """Copies of a run what a kill after its first checkpoint leaves: the second one is not complete."""
    shutil.copytree(whole.out, job.out, dirs_exist_ok=True)
    (Path(job.out) / "checkpoint-2" / training.callbacks.COMPLETE).unlink()


@pytest.mark.timeout(600)
def test_sft_in_two_processes_is_that_of_one_and_resumes_exactly(make):
    one, two, again = make("sft", "one", 1), make("sft", "two"), make("sft", "again")
    jobs.run_job(one, SCORING)
    run_in_processes(two)
    assert_same_training(one, two)
    interrupt(two, again)
    run_in_processes(again)
    ours, theirs = weights(two, 2), weights(again, 2)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert log_of(two) == log_of(again)
    assert all(value.numel() for value in ours.values()) and ours.keys() == weights(one, 2).keys()


@pytest.mark.timeout(600)
def test_gspo_in_two_processes_is_that_of_one(make):
    one, two = make("gspo", "one", 1), make("gspo", "two")
    with with_fixed_rollouts():
        jobs.run_job(one, SCORING)
    run_in_processes(two, fixed=True)
    assert_same_training(one, two)
    kept = [[row for _, row in files.read_jsonl(f"{job.out}/rollouts/step_00000.jsonl")] for job in (one, two)]
    assert len(kept[0]) == 8 and kept[0] == kept[1]
    asked = [training.read_heldout(Path(job.out)) for job in (one, two)]
    ids = [[[row["id"] for row in rows] for rows in scored.values()] for scored in asked]
    assert ids[0] == ids[1] and len(ids[0]) == 2


@pytest.mark.timeout(600)
def test_off_policy_gspo_repeats_and_resumes_exactly(make):
    """Two updates from one sampling; each process samples with its own seed."""
    settings = {"steps_per_generation": 2, "num_iterations": 1, "max_steps": 4, "save_steps": 2, "stop_at": 4}
    whole, again = make("gspo", "whole", **settings), make("gspo", "again", **settings)
    run_in_processes(whole)
    shutil.copytree(whole.out, again.out, dirs_exist_ok=True)
    (Path(again.out) / "checkpoint-4" / training.callbacks.COMPLETE).unlink()
    run_in_processes(again)
    ours, theirs = weights(whole, 4), weights(again, 4)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert log_of(whole) == log_of(again)
    rollouts = [sorted(p.read_text() for p in (Path(j.out) / "rollouts").iterdir()) for j in (whole, again)]
    assert rollouts[0] == rollouts[1]
    (first, _) = sorted((Path(whole.out) / "rollouts").glob("step_*.jsonl"))
    assert len(first.read_text().splitlines()) == 16
