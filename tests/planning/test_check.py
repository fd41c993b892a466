"""Tests of the check before a run: each thing that can be missing, alone and together; none for the small profiles."""

import shutil
import time
from collections import namedtuple
from dataclasses import replace

import pytest
from helpers.parity_files import checkpoint, exchange

from o3v.__main__ import main
from o3v.config import load_profile
from o3v.planning import check, parity

FULL = load_profile("full")
Usage = namedtuple("Usage", "total used free")


FIND_GPUS = check.gpu_memories


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, no hub cache, no data root, no GPU; 10 TB of disk."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "O3V_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(check, "gpu_memories", lambda: ([], "torch finds no GPU"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, 10**13))


@pytest.fixture
def root(tmp_path):
    """A data root with empty STGR files, and V-STAR's in a folder of it."""
    for path in ("json_data/STGR-SFT.json", "json_data/STGR-RL.json", "V-STaR/V_STaR_test.json"):
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text("[]")
    return tmp_path / "root"


@pytest.fixture
def base(tmp_path):
    """A folder that looks like a complete model of the family; its name is not in the table."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def found(tmp_path, profile=FULL, numbers=check.ALL, **given):
    return check.missing_for(profile, tmp_path / "runs/x", numbers, **given)


@pytest.mark.parametrize("name", ["smoke", "tiny"])
def test_a_small_profile_lacks_nothing_and_is_checked_at_once(name, tmp_path):
    start_s = time.process_time()
    assert found(tmp_path, load_profile(name)) == []
    assert time.process_time() - start_s < 0.2


def test_everything_that_is_missing_is_in_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, 10**9))
    messages = found(tmp_path)
    assert [m.partition(":")[0] for m in messages] == [
        "model Qwen/Qwen2.5-VL-7B-Instruct",
        "data",
        "data",
        "GPU",
        "disk",
    ]
    for message, way in zip(
        messages, ("-p base=", "-p data_root=", "-p vstar_root=", "o3v plan", "--out"), strict=True
    ):
        assert way in message


def test_a_model_without_a_shard_is_not_loaded(root, base, tmp_path):
    (base / "model.safetensors").unlink()
    (message,) = [m for m in found(tmp_path, base=str(base), data_root=str(root)) if m.startswith("model")]
    assert "lacks model.safetensors" in message


@pytest.mark.parametrize("name", ["no/such/folder", "../base", "base"])
def test_what_is_no_hub_name_is_not_looked_up(name, root, tmp_path):
    (message,) = [m for m in found(tmp_path, base=name, data_root=str(root)) if m.startswith("model")]
    assert "hub" not in message


def test_the_reason_why_the_hub_gives_no_model_is_stated(tmp_path):
    assert "HF_HUB_OFFLINE is set" in found(tmp_path)[0]


def test_a_hub_that_cannot_be_reached_is_reported_after_seconds(tmp_path, monkeypatch):
    def no_route(*args, **kwargs):
        raise OSError("no route")

    def slow(*args, **kwargs):
        time.sleep(0.5)
        raise OSError("no name server")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(check, "urlopen", no_route)
    assert "the hub does not answer" in found(tmp_path)[0]
    monkeypatch.setattr(check, "HUB_WAIT_S", 0.05)
    monkeypatch.setattr(check, "urlopen", slow)
    assert "the hub does not answer" in found(tmp_path)[0]


def test_a_complete_root_is_accepted_and_a_part_of_one_is_not(root, tmp_path):
    data = [m for m in found(tmp_path, data_root=str(root)) if m.startswith("data")]
    assert data == []
    (root / "json_data/STGR-RL.json").unlink()
    (message,) = [m for m in found(tmp_path, data_root=str(root)) if m.startswith("data")]
    assert "STGR-RL.json" in message
    (message,) = [m for m in found(tmp_path, data_root=str(root / "x"), vstar_root=str(root)) if m.startswith("data")]
    assert "is not a folder" in message


def test_each_notebook_is_checked_for_what_it_needs(root, base, tmp_path):
    def kinds(*args, **given):
        return [message.split()[0].rstrip(":") for message in found(tmp_path, FULL, *args, **given)]

    assert kinds(["00"]) == []
    assert kinds(["01"]) == ["data", "data"]
    assert kinds(["01"], data_root=str(root)) == []
    assert kinds(["03", "05"]) == ["model", "GPU"]
    assert kinds(["02"], base=str(base)) == ["GPU"]
    (base / "model.safetensors").write_bytes(bytes(1000))  # 500 parameters need no GPU
    assert kinds(["02"], base=str(base)) == []


def test_gpus_are_found_or_the_reason_is_given():
    memories, reason = FIND_GPUS()
    assert bool(memories) != reason.startswith("torch ")
    assert all(memory > 10**9 for memory in memories)


def test_a_gpu_that_is_too_small_is_refused_with_what_would_help(root, monkeypatch, tmp_path):
    monkeypatch.setattr(check, "gpu_memories", lambda: ([85 * 10**9], ""))
    (message,) = [m for m in found(tmp_path, data_root=str(root)) if m.startswith("GPU")]
    assert "GPU memory: on one GPU" in message
    assert "lora_rank=16" in message
    assert "4 GPUs" in message
    adapted = replace(FULL, sft=FULL.sft.with_rank(16), gspo=FULL.gspo.with_rank(16))
    assert [m for m in found(tmp_path, adapted, data_root=str(root)) if m.startswith("GPU")] == []


def test_more_processes_than_gpus_are_refused_and_eight_gpus_are_enough(root, monkeypatch, tmp_path):
    monkeypatch.setattr(check, "gpu_memories", lambda: ([85 * 10**9] * 8, ""))
    assert [m for m in found(tmp_path, data_root=str(root)) if m.startswith("GPU")] == []
    more = replace(FULL, sft=replace(FULL.sft, num_processes=16))
    (message,) = [m for m in found(tmp_path, more, data_root=str(root)) if m.startswith("GPU")]
    assert message == "GPU: 16 processes train, one on each GPU, and 8 are there; set -p num_processes=8"


def test_what_a_run_has_written_already_counts_as_free(monkeypatch, tmp_path):
    need = 6 * 8_292_166_656  # bytes: two trained models, some tiny checkpoints
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, need))
    assert [m for m in found(tmp_path) if m.startswith("disk")]
    adapted = replace(FULL, sft=FULL.sft.with_rank(16), gspo=FULL.gspo.with_rank(16))
    assert not [m for m in found(tmp_path, adapted) if m.startswith("disk")]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**13, 0, need - 5 * 10**10))
    assert [m for m in found(tmp_path, adapted) if m.startswith("disk")]
    written = tmp_path / "runs/x/02_sft/big"
    written.parent.mkdir(parents=True)
    with written.open("wb") as file:
        file.truncate(5 * 10**10)  # sparse
    assert not [m for m in found(tmp_path, adapted) if m.startswith("disk")]


def test_a_run_of_full_ends_before_it_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start_s = time.process_time()
    assert main(["run", "--profile", "full"]) == 2
    assert time.process_time() - start_s < 10
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "o3v: the run cannot start; it lacks:"
    assert len(lines) == 5  # model, data, V-STAR, GPU
    assert not (tmp_path / "runs").exists()


def test_the_data_root_of_the_environment_counts(tmp_path, root, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("O3V_DATA", str(root))
    assert main(["run", "--profile", "full"]) == 2
    assert "data:" not in capsys.readouterr().err


def test_rollouts_by_a_server_need_the_server_and_parity(root, base, tmp_path):
    def rollouts(url, numbers=("03",)):
        profile = replace(FULL, gspo=replace(FULL.gspo, rollout_server=url))
        messages = found(tmp_path, profile, numbers, base=str(base), data_root=str(root))
        return [message for message in messages if message.startswith("rollouts")]

    assert rollouts("") == []
    assert rollouts("http://127.0.0.1:9", ("04",)) == []
    (message,) = rollouts("localhost:9")
    assert "rollout_server 'localhost:9'" in message and "http" in message
    (message,) = rollouts("http://127.0.0.1:9")
    assert "no vLLM server answers at http://127.0.0.1:9/health" in message and "docs/full.md" in message
    checkpoint(tmp_path / "runs/x" / check.START_OF_GSPO)
    assert "no parity record" in rollouts("http://127.0.0.1:9")[1]
    assert len(rollouts("http://127.0.0.1:9", ("02", "03"))) == 1  # 02 makes another checkpoint first
    assert parity.compare(exchange(tmp_path / "runs/x" / check.START_OF_GSPO))["passed"]
    assert len(rollouts("http://127.0.0.1:9")) == 1
