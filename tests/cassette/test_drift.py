"""A run that asks for anything else than the recording is told where, and cannot go on unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit.cassette import Cassette, RunSpec
from agentkit.errors import CassetteDrift
from agentkit.events import Action
from agentkit.models.backend import ChatRequest
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox
from tests.cassette.runs import PROMPT, QUESTION, TURNS, Tools, play, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"prompt": PROMPT.replace("Search, Calculator", "Search and Calculator")},
            "step 1: messages[0].content changed: recorded 'Tools: Search, Calculator.', "
            "this run 'Tools: Search and Calculator.'",
        ),
        (
            {"prompt": PROMPT.replace("[human]", "[ai]\nReady.\n[human]")},
            "step 1: messages[1].role changed: recorded 'user', this run 'assistant'",
        ),
        (
            {"question": QUESTION + "?"},
            "step 1: messages[1].content changed: recorded '…what is 5 times that?', "
            "this run '…what is 5 times that??'",
        ),
        (
            {"model": ScriptedBackend((), model_id="other")},
            "step 1: model changed: recorded 'scripted', this run 'other'",
        ),
        (
            {"tools": Tools(factor=2)},
            "step 2: Calculator's result changed: recorded 'Answer: 125', this run 'Answer: 250'",
        ),
    ],
)
def test_it_says_which_step_and_field_and_words(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(CassetteDrift) as caught:
        run(path, "replay", options.pop("model", ScriptedBackend(())), options.pop("tools", Tools()), **options)
    assert str(caught.value) == f'{path}, {said}; if that is meant, record it again (mode="record")'
    assert caught.value.exit_code == 4
    assert "\n" in caught.value.details  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "Ada is 25.",
            "Ada is 52.",
            "step 1: the run's observation changed: recorded 'Ada is 25.', this run 'Ada is 52.'",
        ),
        (
            "input: who is 25",
            "input: who is 26",
            "step 1: the run's input changed: recorded 'who is 26', this run 'who is 25'",
        ),
        ('stop:\n      - "\\nObservation"', "stop: []", "step 1: stop changed: recorded 0 of them, this run 1"),
        ("tool://Search", "tool://Find", r"step 1: this run calls Search, recorded is the call Find\('who is 25'\)"),
        (
            "Answer: 125",
            "Answer: 126",
            "step 2: Calculator's result changed: recorded 'Answer: 126', this run 'Answer: 125'",
        ),
    ],
)
def test_a_changed_file_drifts(path: Path, old: str, new: str, said: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CassetteDrift, match=said):
        run(path, "replay", ScriptedBackend(()), Tools())


def test_a_missing_turn_drifts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    last = text.rindex("- request:")
    path.write_text(text[:last] + text[text.index("end:") :], encoding="utf-8")
    with pytest.raises(CassetteDrift, match=r"step 3: this run asks for another turn of the model, .* ends after 2"):
        run(path, "replay", ScriptedBackend(()), Tools())


def test_turns_that_are_not_played_drift(path: Path) -> None:
    with pytest.raises(CassetteDrift, match="4 of 5 recorded interactions not played, first the call Search"):
        play(path, lambda cassette: ask(cassette, _first_request()))


def ask(cassette: Cassette, request: ChatRequest) -> None:
    for _ in cassette.backend(ScriptedBackend(())).generate_chat(request):
        pass


def _first_request() -> ChatRequest:
    system = {"role": "system", "content": "Tools: Search, Calculator."}
    return ChatRequest(messages=[system, {"role": "user", "content": QUESTION}], stop=("\nObservation",))


def test_a_drift_that_is_swallowed_comes_back_at_every_question_and_at_the_end(path: Path) -> None:
    def swallow(cassette: Cassette) -> None:
        for request in (ChatRequest(messages=_first_request().messages), _first_request()):
            with pytest.raises(CassetteDrift, match="step 1: stop changed"):
                ask(cassette, request)

    with pytest.raises(CassetteDrift, match="step 1: stop changed"):
        play(path, swallow)


def test_what_came_of_a_drift_gives_way_to_it(path: Path) -> None:
    def fail_after(cassette: Cassette) -> None:
        with pytest.raises(CassetteDrift):
            ask(cassette, ChatRequest(messages=[]))
        raise KeyError("a bug that follows")

    with pytest.raises(CassetteDrift, match="step 1: stop changed") as caught:
        play(path, fail_after)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_tool_that_was_not_recorded_is_not_executed(path: Path) -> None:
    executed: list[str] = []
    toolbox = Toolbox([Tool(name="Delete", description="Deletes.", run=executed.append)])
    with pytest.raises(CassetteDrift, match="this run calls Delete, no call is recorded here"):
        play(path, lambda cassette: cassette.toolbox(toolbox).run([Action("Delete", "everything")]))
    assert executed == []


def test_a_described_run_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with Cassette(path, "record", run=RunSpec.of({"input": "x"}), environment={}) as cassette:
        cassette.toolbox(Toolbox([])).run([Action("Search", "x")])
    with pytest.raises(CassetteDrift, match=rf"record it again \(agentkit record {path}\)"):
        play(path, lambda cassette: None)


def test_an_interrupted_recording_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(KeyboardInterrupt):
        run(path, "record", ScriptedBackend((*TURNS[:2], KeyboardInterrupt())), Tools())
    with pytest.raises(CassetteDrift, match=r"the recording ends after 2 \(it was interrupted\)"):
        run(path.with_name("run.partial.yaml"), "replay", ScriptedBackend(()), Tools())
