"""The check of a GPU on a CPU: the shapes that it builds, and every part with a tiny model."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from o3v import models
from o3v.planning.shapes import KNOWN

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message without a GPU")
def test_without_a_gpu_the_real_shapes_are_refused():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 2 and "finds no GPU; --shapes twin is a self-test" in done.stderr


def test_a_part_that_fails_is_a_line_with_its_reason(check, tmp_path):
    options = type("Options", (), {"tflops": 1.0, "vllm": tmp_path})
    assert check.run_part("sft twin", tmp_path / "none", options, 0.01) == {"failed": "not finished after 0 s"}
    assert check.vllm(tmp_path, tmp_path / "none") == {"note": f"not installed: there is no {tmp_path / 'none'}"}


@pytest.mark.parametrize("name", ["3B", "7B"])
def test_random_models_have_the_shape_of_the_real_ones(check, twin, name):
    twin.model.to("meta")  # counts without memory
    model = check.random_model(twin, name, rank=16).model
    assert sum(p.numel() for p in model.parameters()) == KNOWN[check.BASES[name]].parameters
    assert model.dtype == torch.bfloat16 and model.config.image_token_id == twin.model.config.image_token_id
    heads = model.config.text_config
    assert 2 * sum(heads.rope_parameters["mrope_section"]) == heads.hidden_size // heads.num_attention_heads


@pytest.mark.skipif(torch.cuda.is_available(), reason="a self-test for CPUs")
def test_every_part_runs_on_a_cpu(check, twin, world, tmp_path):
    models.save(twin, tmp_path / "twin")
    (tmp_path / "data").symlink_to(world)
    compared = check.precision(tmp_path)
    assert compared["tokens"] > 100 and 0 < float(compared["max"]) < 0.5
    for stage in ("sft", "gspo"):
        found = check.train(f"{stage} twin", tmp_path, peak_tflops=1.0)
        assert found["weights"] == "all" and found["planned GB"] >= 0 and found["step s"] > 0
    assert "generation" in found["parts, s"]
