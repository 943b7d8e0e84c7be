"""One builder: what was recorded replays as it was, whatever its settings; and what a run and a replay import."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from agentkit.cassette import Cassette, Replay, RunSpec, fork, resume
from agentkit.events import Action, Event, Finished, Observed
from agentkit.models.backend import Capabilities
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.runs.build import Runner, build
from agentkit.settings import RunSettings
from agentkit.tool import Tool
from agentkit.toolbox import registry
from tests.doubles.models import action, final
from tests.test_cli import ROOT, SEEDS_RUN, agentkit

LONG = Tool(name="Long", description="Gives much.", run=lambda text: f"{text} is 125. " * 14_000, deterministic=True)
SENT: list[str] = []
SEND = Tool(name="Send", description="Sends.", run=SENT.append, side_effects=True)
TURNS = (action("Long", "Ada"), action("Send", "hello"), "No action.", action("Long", "Ada"), action("Long", "Ada"))
ANSWER = final("125")
QUESTION = {"input": "Who is it?"}
SETTINGS = RunSettings(model="local:ORG/NAME", tools=("long", "send"))
CHANGED: dict[str, Any] = {
    "max_observation_tokens": 40,
    "max_iterations": 2,
    "max_tokens": 70,
    "max_repeats": 1,
    "early_stopping_method": "generate",
    "must_be_grounded": True,
    "trim_intermediate_steps": 1,
    "tool_timeout_s": 30.0,
    "timeout": 60.0,
    "allow": ("long",),
    "prompt": "react-json-text",
    "mode": "tools",
    "options": {"constrain": "copy"},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two tools under names, as a package registers them."""
    entries = [EntryPoint(name, f"tests.test_runs:{name.upper()}", registry.GROUP) for name in ("long", "send")]
    monkeypatch.setattr(registry, "entry_points", lambda **_: entries)
    SENT.clear()


def scripted(settings: RunSettings, turns: tuple[str, ...] = (*TURNS, ANSWER)) -> Runner:
    capabilities = Capabilities(in_process=True, over_http=False, tools=settings.mode == "tools")
    backend = ScriptedBackend(turns, capabilities=capabilities)
    return build(settings, model=BackendChat(backend), approve=lambda _: False)


def recorded(path: Path, settings: RunSettings, turns: tuple[str, ...] = (*TURNS, ANSWER)) -> list[Event]:
    with Cassette(path, "record", run=RunSpec.of(QUESTION, settings), environment={}):
        return list(scripted(settings, turns).events(QUESTION))


def without_time(events: list[Event]) -> list[Any]:
    last = events[-1]
    assert isinstance(last, Finished)
    return [*events[:-1], replace(last, summary=replace(last.summary, seconds=0.0))]


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *CHANGED])
def test_a_replay_is_the_recorded_run(name: str | None, tmp_path: Path) -> None:
    settings = SETTINGS if name is None else replace(SETTINGS, **{name: CHANGED[name]})
    events = recorded(tmp_path / "run.yaml", settings)
    assert without_time(list(Replay(tmp_path / "run.yaml", environment={}).events())) == without_time(events)
    assert SENT == []  # it was not approved


def test_a_long_result_is_cut_in_the_replay_as_in_the_run(tmp_path: Path) -> None:
    recorded(tmp_path / "run.yaml", SETTINGS, (TURNS[0], ANSWER))
    assert len(LONG.call("Ada")) == 168_000
    seen = [event for event in Replay(tmp_path / "run.yaml", environment={}).events() if isinstance(event, Observed)]
    assert [event.action for event in seen] == [Action("Long", "Ada", TURNS[0])]
    assert "characters were cut here" in seen[0].observation


def test_a_cassette_that_does_not_say_its_limits_has_those_of_its_time(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    recorded(path, SETTINGS, (TURNS[0], ANSWER))
    settings = Replay(path, environment={}).run.settings
    assert "max_observation_tokens" not in path.read_text()
    assert (settings.max_observation_tokens, settings.max_repeats, settings.mode) == (8_000, 3, "auto")


def test_a_resumed_and_a_forked_run_keep_every_limit(tmp_path: Path) -> None:
    path, into = tmp_path / "run.yaml", tmp_path / "fork.yaml"
    recorded(path, replace(SETTINGS, max_iterations=2, max_observation_tokens=40))

    def rest(settings: RunSettings, _: Any) -> Runner:
        assert (settings.max_iterations, settings.max_observation_tokens) == (9, 40)
        return scripted(settings, (ANSWER,))

    resumed = list(resume(path, build=rest, environment={}, max_iterations=9).events())
    forked = list(fork(path, into, step=1, build=rest, environment={}).events())
    for events in (resumed, forked, list(Replay(into, environment={}).events())):
        last = events[-1]
        assert isinstance(last, Finished)
        assert (last.output, len(last.steps[0].observation) < 400) == ("125", True)


# -- what is imported --------------------------------------------------------------------------------------------------

HEAVY = ("langchain", "langchain_core", "langsmith", "pydantic", "torch", "transformers", "vcr")
WATCHED = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr))
from agentkit.cli import main
main()
"""


def imported(*words: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, json.loads(done.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["run", "x", "--model", "http://127.0.0.1:9", "--option", "max_retries=0", "--mode", "react-json"], 3),
        (["run", "x", "--model", "http://127.0.0.1:9", "--option", "max_retries=0", "--fallback", "http://[::1]:9"], 3),
        (["replay", str(SEEDS_RUN)], 0),
        (["show", str(SEEDS_RUN)], 0),
        (["diff", str(SEEDS_RUN), str(SEEDS_RUN)], 0),
        (["run", "x", "--max-cost", "much"], 2),
        (["run", "x", "--model", "nonsense"], 2),
    ],
)
def test_nothing_heavy_is_imported(words: list[str], code: int) -> None:
    assert imported(*words) == (code, [])


@pytest.mark.slow
def test_options_reach_the_model() -> None:
    done = agentkit("run", "x", "--model", "http://127.0.0.1:9", "--option", "temprature=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'temperature'?" in done.stderr
