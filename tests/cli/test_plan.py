"""Tests of `o3v plan`."""

import pytest

from o3v.__main__ import main


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.mark.parametrize(
    "arguments",
    [["--profile", "huge"], ["--gpus", "0"], ["--gpu-memory", "-1"], ["--efficiency", "1.1"], ["--engine", "zero9"]],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(arguments, capsys):
    try:
        code = main(["plan", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_has_a_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["plan", "--help"])
    assert end.value.code == 0
    assert "usage: o3v plan" in capsys.readouterr().out


def test_the_papers_run_fits_eight_gpus(capsys):
    assert main(["plan", "--profile", "full", "--gpus", "8", "--gpu-memory", "80", "--price", "3"]) == 0
    output = capsys.readouterr().out
    cells = {line.split("  ")[0]: line.split() for line in output.splitlines() if line}
    assert "8,292,166,656 parameters" in output
    assert cells["engine"][-4:-2] == ["zero2", "zero3"]
    assert cells["weights"][-3:] == ["16.6", "2.1", "16.6"]
    assert cells["weights gathered"][-2] == "16.6"
    assert cells["sft"][1] == "3,896"
    assert "not measured" in output and "at 3 an hour" in output and "on a CPU only" in output


def test_offload_fits_two_gpus_and_says_how_much_main_memory_it_takes(capsys):
    assert main(["plan", "--profile", "full", "--gpus", "2"]) == 1
    assert "profile full-offload" in capsys.readouterr().err
    assert main(["plan", "--profile", "full-offload", "--gpus", "2"]) == 0
    assert "main memory: 133 GB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        ("--gpus 8 --engine ddp", "--engine zero3"),
        ("--gpus 1 --gpu-memory 80", "LoRA (o3v run -p lora_rank=16); or 4 GPUs"),
        ("--gpus 1 --gpu-memory 24", "per_device_batch_size=1"),
        ("--gpus 1 --gpu-memory 12", "base Qwen/Qwen2.5-VL-3B-Instruct"),
        ("--gpus 1 --gpu-memory 2", "take GPUs with more memory"),
    ],
)
def test_what_cannot_fit_is_refused_with_a_way_that_fits(arguments, way, capsys):
    assert main(["plan", *arguments.split()]) == 1
    assert way in capsys.readouterr().err
