"""Turns of native calls: several at once, written badly, cut off; and what goes back to the model."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.tools import tool

from agentkit import AgentExecutor, create_react_json_agent
from agentkit.core.native_planner import functions_of, read_arguments
from agentkit.errors import MalformedTurn, ToolError
from agentkit.events import ActionChosen
from agentkit.models.backend import Capabilities, Completion, NativeCall
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.scratchpad import CLOSING_NOTE
from agentkit.tool import Tool
from tests.doubles.models import reply
from tests.doubles.server import serving
from tests.hosted_agent.caller import TOOLS, Caller
from tests.hosted_agent.server import Server

QUESTION = {"input": "?"}
NAMES = ["calculator", "power"]
ADDS, SQUARES = ("calculator", '{"expression": "2+2"}'), ("power", '{"base": 3}')


def run(turns: list[Completion], tools: list[Any] | None = None, **options: Any) -> tuple[dict[str, Any], Caller]:
    model = Caller(script=Server(native=turns, by_request=True))
    executor = AgentExecutor.from_model(
        model, tools or TOOLS, mode="tools", return_intermediate_steps=True, return_run=True, **options
    )
    return executor.invoke(QUESTION), model


def observations(result: dict[str, Any]) -> list[Any]:
    return [seen for _, seen in result["intermediate_steps"]]


def history(model: Caller, request: int = -1) -> list[tuple[str, str, list[str]]]:
    """Role, text and ids of what the model was asked after the question."""
    found = []
    for message in model.requests[request][2:]:
        ids = [call["id"] for call in getattr(message, "tool_calls", ())]
        found.append((message.type, message.content, ids or [getattr(message, "tool_call_id", None)]))
    return found


# -- several at once ---------------------------------------------------------------------------------------------------


def test_several_calls_are_one_message_with_a_result_each() -> None:
    result, model = run([reply("Both.", [ADDS, SQUARES]), reply("4 and 9")])
    assert (result["output"], observations(result)) == ("4 and 9", ["4", 9])
    assert history(model) == [
        ("ai", "Both.", ["call_calculator_0", "call_power_1"]),
        ("tool", "4", ["call_calculator_0"]),
        ("tool", "9", ["call_power_1"]),
    ]
    assert (result["run"]["model_calls"], result["run"]["tools_executed"]) == (2, 2)


def test_two_turns_without_text_stay_two_messages() -> None:
    _, model = run([reply(calls=[ADDS]), reply(calls=[SQUARES]), reply("9")])
    assert [kind for kind, _, _ in history(model)] == ["ai", "tool", "ai", "tool"]


async def test_calls_of_one_turn_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    @tool
    async def meet(name: str) -> str:
        """Waits for the other."""
        await both.wait()
        return name

    turns = [reply(calls=[("meet", '{"name": "a"}'), ("meet", '{"name": "b"}')]), reply("met")]
    executor = AgentExecutor.from_model(
        Caller(script=Server(native=turns)), [meet], mode="tools", return_intermediate_steps=True
    )
    assert observations(await executor.ainvoke(QUESTION)) == ["a", "b"]


def test_ids_given_twice_are_made_anew() -> None:
    first = reply(calls=[ADDS, ADDS])
    first = replace(first, tool_calls=tuple(replace(call, id="0") for call in first.tool_calls))
    model = Caller(script=Server(native=[first, reply("4")]))
    AgentExecutor.from_model(model, TOOLS, mode="tools").invoke(QUESTION)
    assert history(model)[0][2] == ["c00000000", "c00000001"]


# -- arguments ---------------------------------------------------------------------------------------------------------

FUNCTIONS = functions_of(
    [
        Tool(name="Search", description="Finds.", run=str),
        Tool(name="power", description="Raises.", run=str, schema={"type": "object", "properties": {}}),
    ]
)


@pytest.mark.parametrize(
    ("tool_name", "arguments", "expected"),
    [
        ("Search", '{"input": "a b"}', "a b"),
        ("Search", '{"query": "a b"}', "a b"),
        ("Search", '"a b"', "a b"),
        ("Search", '{"a": 1, "b": 2}', {"a": 1, "b": 2}),
        ("Search", '{"input": 7}', "7"),
        ("power", '{"base": 3}', {"base": 3}),
        ("power", "{'base': 3,}", {"base": 3}),
        ("power", '"{\\"base\\": 3}"', {"base": 3}),
        ("power", "", {}),
        ("power", "null", {}),
    ],
)
def test_arguments_with_one_reading_are_read(tool_name: str, arguments: str, expected: Any) -> None:
    function = next(function for function in FUNCTIONS if function.tool.name == tool_name)
    assert function.input_of(read_arguments(NativeCall("1", tool_name, arguments), function)) == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"base": 3', "its arguments' JSON is cut off"),
        ("three", "its arguments' JSON has 'three' where a value should be"),
        ("[3]", "its arguments' JSON is no object"),
        ('{"base": 3} {"base": 4}', "its arguments' JSON goes on behind its end"),
        ('""', "its arguments' JSON is an empty text"),
    ],
)
def test_arguments_with_none_go_back_with_the_schema(arguments: str, reason: str) -> None:
    result, model = run([reply("Hm.", [ADDS, ("power", arguments)]), reply(calls=[SQUARES]), reply("9")])
    malformed, squared = observations(result)
    assert malformed.startswith(f"Invalid call of power: {reason}. Nothing was called. Call again")
    assert '"base": {"title": "Base", "type": "integer"}' in malformed
    assert (squared, result["run"]["tools_executed"], result["run"]["parse_errors"]) == (9, 1, 1)
    said = f'Hm.\ncalculator({{"expression": "2+2"}})\npower({arguments})'
    assert history(model, 1) == [("ai", said, [None]), ("human", malformed, [None])]


def test_a_key_given_twice_has_no_single_reading() -> None:
    with pytest.raises(MalformedTurn, match="gives the key 'base' twice with different values"):
        read_arguments(NativeCall("1", "power", '{"base": 3, "base": 4}'), None)


def test_arguments_that_do_not_fit_are_an_observation_with_the_schema() -> None:
    result, _ = run([reply(calls=[("power", '{"base": "three"}')]), reply("?")])
    assert observations(result)[0].startswith("Error: action_input does not fit power (base: ")


def test_an_unknown_name_is_an_observation() -> None:
    result, model = run([reply(calls=[("fly", '{"to": "the moon"}')]), reply("no")])
    assert observations(result) == ["fly is not a valid tool, try one of [calculator, power]."]
    assert history(model)[1][:2] == ("tool", observations(result)[0])


def test_names_that_servers_refuse_are_sent_otherwise() -> None:
    tools = [Tool(name=name, description="Looks.", run=str.upper) for name in ("look up", "look/up")]
    result, model = run(
        [reply(calls=[("look_up", '{"input": "a"}'), ("look_up_1", '{"input": "b"}')]), reply("!")], tools
    )
    assert [(action.tool, seen) for action, seen in result["intermediate_steps"]] == [
        ("look up", "A"),
        ("look/up", "B"),
    ]
    assert [tool["function"]["name"] for tool in model.options[0]["tools"]] == ["look_up", "look_up_1"]
    assert [call["name"] for call in model.requests[1][2].tool_calls] == ["look_up", "look_up_1"]


def test_a_tool_of_one_string_is_called_as_in_the_dialect() -> None:
    search = Tool(name="Search", description="Finds.", run=lambda text: f"found {text}")
    result, model = run([reply(calls=[("Search", '{"input": "x"}')]), reply("x")], [search])
    ((action, seen),) = result["intermediate_steps"]
    assert (action.tool_input, seen) == ("x", "found x")
    assert model.requests[1][2].tool_calls[0]["args"] == {"input": "x"}


# -- turns that are no turns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (reply(), "You said nothing. Call a tool, or write the answer."),
        (reply("The answer", finish_reason="length"), "Your turn was cut off at the token limit;"),
        (
            reply("The answer", finish_reason="content_filter"),
            "Your turn was broken off before it was whole (content_filter);",
        ),
    ],
)
def test_a_turn_without_call_or_answer_goes_back(turn: Completion, told: str) -> None:
    result, _ = run([turn, reply("4")])
    assert result["output"] == "4"
    assert observations(result)[0].startswith(told)


@pytest.mark.parametrize("arguments", ['{"path": "/home/ada/old"', '{"path": "/home/ada"}'])
@pytest.mark.parametrize("reason", ["length", "content_filter", "server_error", "a reason that nobody knows"])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_cut_off_never_runs(stream: bool, reason: str, arguments: str) -> None:
    executed: list[Any] = []

    def delete(arguments: Any) -> str:
        executed.append(arguments)
        return "deleted"

    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools = [Tool(name="delete", description="Deletes.", run=delete, schema=schema)]
    turns = [reply(calls=[("delete", arguments)], finish_reason=reason), reply("no")]
    executor = AgentExecutor.from_model(Caller(script=Server(native=turns)), tools, mode="tools")
    *_, last = executor.events(QUESTION, stream=stream)
    assert (last.output, executed) == ("no", [])  # type: ignore[union-attr]


def test_the_stuck_guard_asks_for_the_best_answer() -> None:
    result, model = run([*[reply(calls=[ADDS])] * 3, reply("Final Answer: 4, I think")])
    assert (result["output"], result["run"]["stop_reason"]) == ("4, I think", "stuck")
    assert history(model)[-1][1] == f"4{CLOSING_NOTE}"


def closing(server: Server, **options: Any) -> list[tuple[list[str], Any]]:
    """The tools and the choice of the requests for a run that is closed after a call."""
    executor = AgentExecutor.from_model(
        server.url, TOOLS, mode="tools", max_iterations=1, early_stopping_method="generate", **options
    )
    executor.invoke(QUESTION)
    return [
        ([tool["function"]["name"] for tool in body.get("tools", ())], body.get("tool_choice"))
        for body in server.bodies
    ]


def test_a_turn_that_closes_a_run_may_call_nothing() -> None:
    with serving(Server(native=[reply(calls=[ADDS]), reply("4")])) as server:
        assert closing(server) == [(NAMES, None), (NAMES, "none")]


def test_a_server_that_takes_no_choice_is_asked_without() -> None:
    with serving(Server(by_request=True, native=[reply(calls=[ADDS]), 400, reply("4")])) as server:
        assert closing(server) == [(NAMES, None), (NAMES, "none"), (NAMES, None)]


def test_a_turn_that_closes_a_run_may_only_give_its_value() -> None:
    gives = reply(calls=[("final_answer", '{"answer": 4}')])
    with serving(Server(native=[reply(calls=[ADDS]), gives])) as server:
        assert closing(server, output_type=int) == [
            ([*NAMES, "final_answer"], None),
            (["final_answer"], "required"),
        ]


def test_a_tools_own_error_goes_to_the_model() -> None:
    def fail(text: str) -> str:
        raise ToolError("no luck")

    fails = Tool(name="t", description="Fails.", run=fail)
    assert observations(run([reply(calls=[("t", '{"input": "x"}')]), reply("?")], [fails])[0]) == ["no luck"]


def test_trimmed_steps_keep_their_calls_together() -> None:
    turns = [reply("One.", [ADDS]), reply("Two.", [ADDS, SQUARES]), reply("9")]
    _, model = run(turns, trim_intermediate_steps=lambda steps: steps[-2:])
    assert history(model) == [
        ("ai", "Two.", ["call_calculator_0", "call_power_1"]),
        ("tool", "4", ["call_calculator_0"]),
        ("tool", "9", ["call_power_1"]),
    ]


def test_steps_from_elsewhere_become_calls() -> None:
    """Steps of a run in the dialect, which has no ids."""
    model = Caller(script=Server(native=[reply("?"), reply("?"), reply("done")]))
    taken = AgentExecutor.from_model(
        Caller(script=Server()), TOOLS, mode="react-json", return_intermediate_steps=True
    ).invoke(QUESTION)["intermediate_steps"]
    agent = create_react_json_agent(model, TOOLS, mode="tools")
    agent.invoke({**QUESTION, "intermediate_steps": taken})
    assert history(model) == [
        ("ai", "", ["c00000000"]),
        ("tool", "4", ["c00000000"]),
        ("ai", "", ["c00001000"]),
        ("tool", "16", ["c00001000"]),
    ]
    assert json.dumps([call["args"] for call in model.requests[0][2].tool_calls]) == '[{"expression": "2+2"}]'


@pytest.mark.parametrize(
    "damaged",
    [
        '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2+2"\n</tool_call>',
        "<tool_call>\n<function=calculator>\n<parameter=expression>\n2+2",
        '<|tool_call_start|>[calculator(expression="2+2"',
        '[TOOL_CALLS]calculator[ARGS]{"expression": ',
    ],
)
@pytest.mark.parametrize("beside", [[], [SQUARES]], ids=["alone", "beside a call that can be read"])
def test_a_call_that_cannot_be_read_is_no_answer(damaged: str, beside: list[Any]) -> None:
    result, model = run([reply(damaged, beside), reply("4")])
    assert (result["output"], result["run"]["parse_errors"], result["run"]["tools_executed"]) == ("4", 1, 0)
    assert "could not be read; nothing was called" in history(model)[-1][1]


@pytest.mark.parametrize(
    "quoting",
    [
        "Example:\n```\n{}\n```\nThat is how the syntax looks. It is 4.",
        "> {}\nwas quoted from the page. It is 4.",
        "The page says: {} That is all. It is 4.",
        "Final Answer: to save it, write {}",
    ],
)
def test_a_call_that_is_only_quoted_is_not_run(quoting: str) -> None:
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2+2"}}\n</tool_call>'
    model = ScriptedBackend([quoting.format(call)], capabilities=Capabilities(tools=True))
    executor = AgentExecutor.from_model(model, TOOLS, mode="tools", return_run=True)
    assert executor.invoke(QUESTION)["run"]["tools_executed"] == 0
    assert sum(isinstance(event, ActionChosen) for event in _again(quoting.format(call))) == 0


def _again(text: str) -> list[Any]:
    """The same, read piece by piece."""
    model = ScriptedBackend([text], capabilities=Capabilities(tools=True))
    return list(AgentExecutor.from_model(model, TOOLS, mode="tools").events(QUESTION))


# -- calls that a model writes as text of any other form ---------------------------------------------------------------

CALL = '{"name": "calculator", "arguments": {"expression": "2+2"}}'
WRITTEN = {
    "a fence": f"```json\n{CALL}\n```",
    "a list in a fence": f"```json\n[{CALL}]\n```",
    "Python in a fence": '```python\n[calculator(expression="2+2")]\n```',
    "behind words": f"Let me add.\n{CALL}",
    "Python behind words": 'Let me add.\n[calculator(expression="2+2")]',
    "behind a colon": f"I will call it: <tool_call>\n{CALL}\n</tool_call>",
    "a turn of the dialect": 'Thought: I add.\nAction:\n```json\n{"action": "calculator", "action_input": "2+2"}\n```',
    "OpenAI's": '{"type": "function", "function": '
    '{"name": "calculator", "arguments": "{\\"expression\\": \\"2+2\\"}"}}',
    "xLAM": '{"thought": "", "tool_calls": [' + CALL + "]}",
    "harmony behind words": "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
    '<|channel|>commentary to=functions.calculator <|constrain|>json<|message|>{"expression": "2+2"}<|call|>',
    "harmony in its analysis": "<|channel|>analysis to=functions.calculator <|constrain|>json<|message|>"
    '{"expression": "2+2"}<|call|>',
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_call_is_made_whatever_form_it_has(text: str) -> None:
    model = ScriptedBackend([text, "It is 4."], capabilities=Capabilities(tools=True))
    result = AgentExecutor.from_model(model, TOOLS, mode="tools", return_intermediate_steps=True).invoke(QUESTION)
    assert (result["output"], observations(result)) == ("It is 4.", ["4"])
    called, seen = model.requests[1].messages[-2:]
    assert called["tool_calls"][0]["id"] == seen["tool_call_id"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The list is [1, 2], and f(x) = {1}.", "The list is [1, 2], and f(x) = {1}."),
        (f"To call it, write:\n```json\n{CALL}\n```", f"To call it, write:\n```json\n{CALL}\n```"),
        ('{"name": "Ada", "born": 1815}', '{"name": "Ada", "born": 1815}'),
        ("Thought: I know.\nFinal Answer: 5", "5"),
    ],
)
def test_what_is_no_call_is_the_answer(text: str, answer: str) -> None:
    model = ScriptedBackend([text], capabilities=Capabilities(tools=True))
    result = AgentExecutor.from_model(model, TOOLS, mode="tools", return_intermediate_steps=True).invoke(QUESTION)
    assert (result["output"], observations(result)) == (answer, [])


@pytest.mark.parametrize("in_process", [True, False])
def test_what_a_model_in_process_thought_before_a_call_comes_back_within_the_run(in_process: bool) -> None:
    """Its chat template shows it, or leaves it out; servers do not all take it."""
    calls = (NativeCall("c1", "calculator", '{"expression": "2+2"}'),)
    replies = [Completion("", thinking="I add.", tool_calls=calls), Completion("4", thinking="It is 4.")]
    model = ScriptedBackend(replies, capabilities=Capabilities(tools=True, in_process=in_process))
    executor = AgentExecutor.from_model(model, TOOLS, mode="tools")
    assert executor.invoke(QUESTION)["output"] == "4"
    calling = model.requests[1].messages[-2]
    assert calling.get("reasoning_content") == ("I add." if in_process else None)
