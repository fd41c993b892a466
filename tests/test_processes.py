"""Worker processes: they end with their parent and stop at an error."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from o3v.processes import in_worker, start_pool, stop_pool, worker_pool

PARENT = """
import os, time
from o3v.processes import start_pool
if __name__ == "__main__":
    pool = start_pool(2)
    ids = set()
    while len(ids) < 2:
        ids |= set(pool.map(slow_pid := __import__("test_processes").slow_pid, range(4)))
    print(*ids, flush=True)
    list(pool.map(time.sleep, [60, 60]))
"""


def slow_pid(_):
    time.sleep(0.1)
    return os.getpid()


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="0 workers"):
        start_pool(0)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(signal_number, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2 and not any(map(gone, workers))
        parent.send_signal(signal_number)
        parent.wait(20)
        assert wait_for(lambda: all(map(gone, workers)))
    finally:
        parent.kill()
        parent.stdout.close()


def test_an_interrupt_in_the_block_stops_busy_workers_at_once():
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        assert pool.submit(in_worker).result() and not in_worker()
        future = pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30
    with pytest.raises((BrokenProcessPool, CancelledError)):
        future.result()


def test_each_worker_has_its_own_variables_and_ignores_ctrl_c():
    pool = start_pool(2, [{"MINE": "a"}, {"MINE": "b"}])
    try:
        pids = {}
        while len(pids) < 2:
            pids |= dict(pool.map(pid_and_variable, range(8)))
        assert sorted(pids.values()) == ["a", "b"]
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        assert set(pool.map(slow_pid, range(8))) == set(pids)
    finally:
        stop_pool(pool)


def pid_and_variable(number):
    return slow_pid(number), os.environ["MINE"]
