"""How many threads a model in this process computes with, and how they wait for each other.

The threads of OpenMP wait at the end of every operation. Where another program has the processor that one of them
needs, threads that wait by counting to a million hold up the one they wait for: a token then takes seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SMALL = 2**30
"""Bytes of weights up to which a second thread of torch costs more than it computes."""

ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Has threads sleep while they wait: the word of every OpenMP, and that of LLVM's and Intel's, which count all the same
for a while. GNU's, which torch has on Linux, needs the first only."""

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""How a user says the number of threads."""


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores this process may use: those it is bound to, and no more than its control group has time on."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = quota_of_cores(cgroups, own)
    return count if quota is None else max(1, min(count, math.floor(quota)))


def quota_of_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """How many cores' time the control group of this process has, or one around it; `None` where nothing limits it."""
    quotas = []
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            root = cgroups / "cpu" if kinds else cgroups
            group = Path(path.lstrip("/"))
            for folder in (root / group, *(root / outer for outer in group.parents)):
                quotas.append(_quota(folder))
    return min((quota for quota in quotas if quota), default=None)


def _quota(folder: Path) -> float | None:
    """What one control group says, in the form of either version."""
    with suppress(OSError, ValueError):
        if (limit := folder / "cpu.max").exists():
            time_us, period_us = limit.read_text(encoding="ascii").split()
        else:
            time_us = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period_us = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        if time_us != "max" and float(time_us) > 0:
            return float(time_us) / float(period_us)
    return None


def busy_cores() -> float:
    """How many cores the programs of this machine kept busy in the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not on this system
        return 0.0


def thread_count() -> int:
    """How many threads torch computes with."""
    import torch

    return torch.get_num_threads()


def waiting() -> str:
    """How threads wait in this process, as far as its environment says."""
    said = [f"{name}={os.environ[name]}" for name in (*ASLEEP, "GOMP_SPINCOUNT") if name in os.environ]
    return ", ".join(said) or "busily, which is the default"


def threads_for(weights: int, cores: int, busy: float, *, small: int = SMALL) -> int:
    """How many threads serve a model of so many bytes: one where it is small, and no more than cores are free."""
    return 1 if 0 < weights <= small else max(1, min(cores, round(cores - busy)))


@contextmanager
def sharing_the_processor(weights: int, **variables: str) -> Iterator[None]:
    """In this block torch, where it is imported, takes threads for a model of so many bytes that leave others room.

    It is told in variables of the environment, and so is what other `variables` say. What the user has set stays.
    For a command, whose process is its own; a program of the user's is left as it is.
    """
    wanted = {**variables, **ASLEEP}
    if not any(name in os.environ for name in COUNTS):
        wanted["OMP_NUM_THREADS"] = str(threads_for(weights, usable_cores(), busy_cores()))
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:  # what this process starts is as the user would have it
        for name in ours:
            os.environ.pop(name, None)
