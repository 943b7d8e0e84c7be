"""Runs against a server that fails at random end right or with one clear error, and leave nothing behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from tests.hosted.chaos import run_all


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "at_least"), [(0.0, 60), (0.2, 55)])
def test_runs_with_faults_end_right(rate: float, at_least: int) -> None:
    run_all(4, rate=0.0)  # what is made once is not counted
    gc.collect()
    files, threads = open_files(), threading.active_count()
    chaos = run_all(60, rate=rate)
    assert chaos.wrong == []
    assert chaos.right + sum(chaos.errors.values()) == 60
    assert chaos.right >= at_least, chaos.errors
    assert bool(chaos.faults) == bool(rate)
    gc.collect()
    for thread in threading.enumerate():  # the server's, which end with their connections
        if thread is not threading.current_thread() and threading.active_count() > threads:
            thread.join(5)
    assert open_files() <= files
    assert threading.active_count() <= threads
