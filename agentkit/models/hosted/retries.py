"""When to ask again, and how long to wait before: openai-python's rules, bounded by a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from agentkit.deadline import remaining_s
from agentkit.models.hosted.failures import Failure

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
DOUBTFUL_RETRIES = 1  # where there may be no chat server at the address
LOADING_POLL_S = 30.0  # a loading model is asked again at least this often


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """`max_retries` attempts after the first, all of them within `total_s` and what the run has left.

    `jitter` gives numbers from 0 to 1; a wait is shortened by up to a quarter, so that clients do not come all at once.
    """

    max_retries: int = 4
    total_s: float | None = 600.0
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def begin(self) -> Patience:
        """The patience for one call."""
        limits = [limit for limit in (self.total_s, remaining_s(clock=self.clock)) if limit is not None]
        return Patience(self, self.clock() + min(limits) if limits else None)


class Patience:
    """What one call has left, in attempts and in time."""

    def __init__(self, retries: Retries, end_s: float | None) -> None:
        self._retries = retries
        self._end_s = end_s
        self._started_s = retries.clock()
        self.failures = 0

    def left_s(self) -> float | None:
        """Seconds until the deadline; `None` where there is none. Raises `Failure` when it has passed."""
        if self._end_s is None:
            return None
        left_s = self._end_s - self._retries.clock()
        if left_s <= 0:
            taken_s = self._end_s - self._started_s
            raise Failure(f"gave no whole reply within {taken_s:.3g} s; raise total_timeout, or the run's", retry=False)
        return left_s

    def wait_s(self, failure: Failure, *, known: bool = True) -> float:
        """Seconds to wait before the next attempt; raises the failure where there is none.

        `known` says that the server has given a good reply before.
        """
        if not failure.retry:
            raise failure
        self.left_s()
        if failure.loading_s is None:
            self.failures += 1
            allowed = self._retries.max_retries
            if self.failures > (allowed if known or not failure.doubtful else min(allowed, DOUBTFUL_RETRIES)):
                raise failure
        wait_s = self._chosen_s(failure)
        if self._end_s is not None and self._retries.clock() + wait_s >= self._end_s:
            raise Failure(
                f"{failure.said}; the next try would be in {wait_s:.3g} s, after the deadline",
                status=failure.status,
                retry=False,
            )
        return wait_s

    def _chosen_s(self, failure: Failure) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        if failure.loading_s is not None:
            return min(failure.loading_s, LOADING_POLL_S)
        backoff_s: float = min(FIRST_WAIT_S * 2.0 ** (self.failures - 1), LONGEST_WAIT_S)
        return backoff_s * (1 - 0.25 * self._retries.jitter())
