"""What a run shows of its sources, readings and limits, and what its JSON holds of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit.cli.view import View
from agentkit.events import (
    Action,
    Event,
    Finished,
    LimitReached,
    Observed,
    RunStarted,
    RunSummary,
    Source,
    StopReason,
)

SOURCES = (Source("Ada's page", "https://example.org/ada"),)


def events(*between: Event, stop_reason: StopReason = "answer", sources: tuple[Source, ...] = ()) -> list[Event]:
    summary = RunSummary(stop_reason, sources=sources)
    answered = stop_reason == "answer"
    return [RunStarted({"input": "?"}), *between, Finished("x", answered, summary)]


def shown(run: Sequence[Event], capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[str, str]:
    View(**options).show(run, model="m")
    return capsys.readouterr()


def test_sources_and_readings_stand_beside_the_observation(capsys: pytest.CaptureFixture[str]) -> None:
    observed = Observed(Action("Search", "200*15%"), "30", True, SOURCES, ("200 × 15/100",))
    _, told = shown(events(observed, sources=SOURCES), capsys)
    assert told == "Read as: 200 × 15/100\nObservation: 30\nSource: Ada's page, https://example.org/ada\n"


@pytest.mark.parametrize("sources", [SOURCES, ()])
def test_json_names_sources_where_there_are_any(
    sources: tuple[Source, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    observed = Observed(Action("Search", "Ada"), "30", sources=sources)
    out, _ = shown(events(observed, sources=sources), capsys, as_json=True, quiet=True)
    expected = [{"title": "Ada's page", "link": "https://example.org/ada"}] if sources else None
    assert json.loads(out).get("sources") == expected


@pytest.mark.parametrize("options", [{}, {"quiet": True}, {"quiet": True, "as_json": True}], ids=str)
def test_what_no_tool_confirms_is_marked(options: dict[str, bool], capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks for the answer only is told that, too."""
    summary = RunSummary("answer", ungrounded=("1912", "Ada"))
    _, told = shown([RunStarted({"input": "?"}), Finished("Ada, in 1912", True, summary)], capsys, **options)
    assert told == "not confirmed by any tool: 1912, Ada\n"


@pytest.mark.parametrize("reason", ["max_iterations", "max_execution_time", "max_tokens", "max_cost", "stuck"])
def test_every_limit_is_told(reason: StopReason, capsys: pytest.CaptureFixture[str]) -> None:
    _, told = shown(events(LimitReached(reason, False), stop_reason=reason), capsys)
    limit, ending = told.splitlines()
    assert len(limit) > 20
    assert ending == "no answer: x"
