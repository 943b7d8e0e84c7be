"""Native calls against a server that fails at random: each runs once, or the run ends with one clear error."""

from __future__ import annotations

import pytest

from tests.hosted_agent.chaos import run_all


@pytest.mark.slow
def test_no_call_is_lost_halved_or_made_twice() -> None:
    came_of = run_all(40)
    assert [outcome for outcome in came_of if outcome.startswith("wrong")] == []
    assert came_of["right"] >= 36, came_of
