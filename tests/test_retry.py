"""When a thing that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agentkit.deadline import within
from agentkit.retry import RetryPolicy


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("jitter", "waits"), [(0.0, [1.0, 2.0, 3.0]), (0.5, [0.875, 1.75, 2.625]), (1.0, [0.75, 1.5, 2.25])]
)
def test_waits_double_and_are_jittered(jitter: float, waits: list[float]) -> None:
    attempts = RetryPolicy(tries=4, first_wait_s=1, longest_wait_s=3, jitter=lambda: jitter).begin()
    seen = []
    while attempts.fail():
        seen.append(attempts.wait_s())
    assert seen == waits


@pytest.mark.parametrize(("tries", "most", "failures"), [(3, None, 3), (1, None, 1), (5, 2, 2), (1, 2, 1)])
def test_tries_are_counted_and_may_be_fewer(tries: int, most: int | None, failures: int) -> None:
    attempts = RetryPolicy(tries=tries).begin()
    while attempts.fail(tries=most):
        pass
    assert attempts.failures == failures


@pytest.mark.parametrize(
    ("total_s", "run_s", "left_s"), [(None, None, None), (100, None, 100), (100, 5, 5), (2, 5, 2), (None, 5, 5)]
)
def test_time_is_the_policys_own_and_the_runs(total_s: float | None, run_s: float | None, left_s: float | None) -> None:
    clock = Clock()
    with within(run_s, clock=clock):
        attempts = RetryPolicy(total_s=total_s, clock=clock).begin()
    assert attempts.left_s() == left_s
    assert attempts.has_time_for(1.5)
    assert attempts.has_time_for(5.0) == (left_s is None or left_s > 5)
    clock.now_s += 1000
    assert attempts.left_s() == (None if left_s is None else 0.0)
    assert attempts.has_time_for(0.0) == (left_s is None)
