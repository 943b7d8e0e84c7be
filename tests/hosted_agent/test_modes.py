"""The same run, whether the model names its tools in text or calls them in its own syntax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from agentkit import AgentExecutor, create_react_json_agent
from agentkit.errors import ConfigurationError
from agentkit.events import ActionChosen, Event, Finished, Observed, RunStarted, Thought, Token
from agentkit.models.scripted import ScriptedBackend
from tests.doubles.models import Scripted
from tests.hosted_agent.caller import TOOLS, Caller
from tests.hosted_agent.server import NATIVE, THINKS, Server

QUESTION = {"input": "What is 2 + 2, squared?"}
STEPS = [("calculator", {"expression": "2+2"}, "4"), ("power", {"base": 4, "exponent": 2}, "16")]
USAGE = {"prompt_tokens": 60, "completion_tokens": 30, "cached_tokens": 0, "cost_usd": None}
Modes = Literal["react-json", "tools"]
MODES: list[Modes] = ["react-json", "tools"]


@pytest.fixture(params=["http", "langchain"])
def model(request: pytest.FixtureRequest, server: Server) -> Any:
    return server.url if request.param == "http" else Caller(script=server)


def executor(model: Any, mode: Modes, **options: Any) -> AgentExecutor:
    return AgentExecutor.from_model(model, TOOLS, mode=mode, return_intermediate_steps=True, return_run=True, **options)


def steps(result: dict[str, Any]) -> list[tuple[str, Any, str]]:
    return [(action.tool, action.tool_input, str(seen)) for action, seen in result["intermediate_steps"]]


def check(result: dict[str, Any]) -> None:
    assert (result["output"], steps(result)) == ("16", STEPS)
    assert result["run"]["usage"] == USAGE
    assert (result["run"]["stop_reason"], result["run"]["model_calls"], result["run"]["parse_errors"]) == (
        *("answer", 3),
        0,
    )


@pytest.mark.parametrize("mode", MODES)
def test_invoke(model: Any, mode: Modes) -> None:
    check(executor(model, mode).invoke(QUESTION))


@pytest.mark.parametrize("mode", MODES)
async def test_ainvoke(model: Any, mode: Modes) -> None:
    check(await executor(model, mode).ainvoke(QUESTION))


@pytest.mark.parametrize("mode", MODES)
def test_batch(model: Any, mode: Modes) -> None:
    for result in executor(model, mode).batch([QUESTION] * 5):
        check(result)


@pytest.mark.parametrize("mode", MODES)
def test_stream_gives_langchains_chunks(model: Any, mode: Modes) -> None:
    chunks = list(executor(model, mode).stream(QUESTION))
    assert [set(chunk) - {"messages"} for chunk in chunks[:-1]] == [{"actions"}, {"steps"}] * 2
    check(chunks[-1])
    assert [message.type for chunk in chunks for message in chunk["messages"]] == (
        ["ai", "tool", "ai", "tool", "ai"] if mode == "tools" else ["ai", "human", "ai", "human", "ai"]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_astream_gives_the_same_chunks(model: Any, mode: Modes) -> None:
    chunks = [chunk async for chunk in executor(model, mode).astream(QUESTION)]
    check(chunks[-1])
    assert [chunk.get("actions") for chunk in chunks] == [
        chunk.get("actions") for chunk in executor(model, mode).stream(QUESTION)
    ]


def told(events: list[Event]) -> Iterator[Any]:
    """The events without the model's wording."""
    for event in events:
        match event:
            case ActionChosen(action) | Observed(action):
                yield type(event), action.tool, action.tool_input
            case Thought(text):
                yield text
            case Finished(output=output):
                yield output
            case RunStarted():
                yield RunStarted


@pytest.mark.parametrize("mode", MODES)
def test_the_events_are_the_same(model: Any, mode: Modes) -> None:
    events = list(executor(model, mode).events(QUESTION))
    seen = list(told(events))
    if mode == "react-json":
        assert seen.pop(-2) == "I now know the final answer"
    assert seen == [
        RunStarted,
        *("Adding first.", (ActionChosen, *STEPS[0][:2]), (Observed, *STEPS[0][:2])),
        *("Then the power.", (ActionChosen, *STEPS[1][:2]), (Observed, *STEPS[1][:2])),
        "16",
    ]
    texts = "".join(event.text for event in events if isinstance(event, Token))
    expected = "".join(turn.text for turn in NATIVE)
    assert texts == expected if mode == "tools" else "Then the power." in texts


@pytest.mark.parametrize("mode", MODES)
def test_reasoning_is_shown_and_goes_back_with_calls_alone(model: Any, mode: Modes, server: Server) -> None:
    thoughts = [event for event in executor(model, mode).events(QUESTION) if isinstance(event, Thought)]
    assert thoughts[0] == Thought("Adding first.", THINKS)
    asked = server.bodies if isinstance(model, str) else model.requests
    assert len(asked) == 3
    assert str(asked[-1]).count(THINKS) == (mode == "tools")


def test_native_history_is_one_message_a_turn_and_only_grows(server: Server) -> None:
    executor(server.url, "tools").invoke(QUESTION)
    first, second, third = ([*request["messages"]] for request in server.bodies)
    assert third[: len(second)] == second
    assert second[: len(first)] == first
    assert third[2:] == [
        _called("Adding first.", "calculator", '{"expression": "2+2"}') | {"reasoning_content": THINKS},
        {"role": "tool", "content": "4", "tool_call_id": "call_calculator_0", "name": "calculator"},
        _called("Then the power.", "power", '{"base": 4, "exponent": 2}'),
        {"role": "tool", "content": "16", "tool_call_id": "call_power_0", "name": "power"},
    ]
    assert [tool["function"]["name"] for tool in server.bodies[0]["tools"]] == ["calculator", "power"]
    assert all("stop" not in request for request in server.bodies)


def _called(text: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    call = {"id": f"call_{name}_0", "type": "function", "function": function}
    return {"role": "assistant", "content": text, "tool_calls": [call]}


def test_a_native_run_is_read_in_the_dialect(server: Server) -> None:
    native = executor(server.url, "tools").invoke(QUESTION)["intermediate_steps"]
    dialect = executor(server.url, "react-json").invoke(QUESTION)["intermediate_steps"]
    assert [action.log for action, _ in native] == [action.log for action, _ in dialect]


def test_the_agent_alone_goes_on_from_langchains_steps(server: Server) -> None:
    taken = executor(server.url, "tools").invoke(QUESTION)["intermediate_steps"]
    agent = create_react_json_agent(Caller(script=server), TOOLS, mode="tools")
    asked = {**QUESTION, "intermediate_steps": taken[:1]}
    assert agent.invoke(asked).tool == "power"
    assert agent.invoke({**asked, "intermediate_steps": taken}).return_values == {"output": "16"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "native"}, "mode is auto, react-json or tools, not 'native'"),
        ({"mode": "tools", "prompt": "react-json-text"}, r"expected a line \[messages agent_scratchpad\]"),
    ],
)
def test_a_mode_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str, server: Server) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AgentExecutor.from_model(server.url, TOOLS, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ScriptedBackend(["4"]), r'scripted takes no tools, .* take mode="react-json", or .*\(tools=True\)'),
        (Scripted(turns=["4"]), r'scripted takes no tools, .* take mode="react-json"'),
        ("builtin", r'builtin.* is held to ReAct-JSON by constrain="copy"; leave out mode="tools"'),
    ],
    ids=["a backend", "LangChain's", "builtin"],
)
def test_native_calls_are_refused_for_a_model_that_cannot_make_them(model: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AgentExecutor.from_model(model, ["calculator"], mode="tools")


def test_a_prompt_of_ones_own_frames_native_calls_where_that_is_asked_for(server: Server, tmp_path: Any) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("[system]\nBe brief.\n[human]\n{input}\n[messages agent_scratchpad]")
    check(executor(server.url, "tools", prompt=str(prompt)).invoke(QUESTION))
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
