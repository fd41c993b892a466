"""Grouped rows in two processes, checkpointed: DDP and FSDP2 give the gradient of one process, for both families."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_two_processes_give_the_gradient_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, str(TESTS / "helpers" / "gloo_groups.py")]
    both = [
        subprocess.Popen(command, env=shared | {"PYTHONPATH": paths, "RANK": rank}, text=True, stdout=subprocess.PIPE)
        for rank in "01"
    ]
    results = [process.communicate(timeout=590)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    cases = [line.split() for line in results[0]]
    assert [case[:2] for case in cases] == [[f, e] for f in ("qwen2_5_vl", "qwen3_vl") for e in ("ddp", "fsdp2")]
    for *_, difference, largest in cases:
        assert float(difference) < 1e-5 * max(1, float(largest)) and float(largest) > 1
