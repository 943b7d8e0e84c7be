"""How often a thing that failed is tried again, and what is waited in between: the rules of openai-python."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from agentkit.deadline import remaining_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`tries` attempts, all of them within `total_s` and what the run has left; waits in between double.

    `jitter` gives numbers from 0 to 1; a wait is shortened by up to a quarter, so that clients do not come all at once.
    """

    tries: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    total_s: float | None = None
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def begin(self) -> Attempts:
        """The attempts at one thing; the first begins now."""
        return Attempts(self)


class Attempts:
    """What is left of a policy's tries and time. `failures` are those that counted, `passing` those that did not."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._started_s = policy.clock()
        limits = [limit for limit in (policy.total_s, remaining_s(clock=policy.clock)) if limit is not None]
        self.limit_s = min(limits, default=None)
        self.failures = self.passing = 0

    def left_s(self) -> float | None:
        """Seconds until the deadline, at least 0; `None` where there is none."""
        if self.limit_s is None:
            return None
        return max(0.0, self._started_s + self.limit_s - self._policy.clock())

    def fail(self, *, tries: int | None = None) -> bool:
        """Count a failure; whether there is a try left, of `tries` where that are fewer."""
        self.failures += 1
        return self.failures < (self._policy.tries if tries is None else min(self._policy.tries, tries))

    def wait_s(self) -> float:
        """Seconds to wait before the next try."""
        return self._backoff_s(self.failures)

    def passing_wait_s(self) -> float:
        """The same after a failure that is going to pass, and does not count."""
        self.passing += 1
        return self._backoff_s(self.passing)

    def _backoff_s(self, failures: int) -> float:
        backoff_s: float = self._policy.first_wait_s * 2.0 ** min(max(0, failures - 1), 60)
        return min(backoff_s, self._policy.longest_wait_s) * (1 - 0.25 * self._policy.jitter())

    def has_time_for(self, wait_s: float) -> bool:
        """Whether there is a moment left after a wait."""
        left_s = self.left_s()
        return left_s is None or wait_s < left_s
