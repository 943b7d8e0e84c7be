"""Worked runs: whatever tools are on offer, what a small model is shown is what it should write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agentkit import AgentExecutor, prompts
from agentkit.cassette import Cassette
from agentkit.errors import CassetteDrift
from agentkit.events import Action, FinalAnswer
from agentkit.models.backend import Capabilities, ChatRequest
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.examples import worked_runs
from agentkit.react_json.parser import parse_turn
from agentkit.tool import STRING, Tool, takes_nothing
from agentkit.tools.calculator import calculator
from tests.doubles.models import action as acting
from tests.doubles.models import final


def tool(name: str, about: str = "", schema: Any = STRING, **more: Any) -> Tool:
    return Tool(name=name, description=about, run=str, schema=schema, **more)


def of(required: Sequence[str] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
CALCULATOR, SEARCH = tool("Calculator", "calculates"), tool("Search", "looks facts up")
TYPED = of(["city", "unit"], city=TEXT, days={**WHOLE, "minimum": 1}, unit={"enum": ["C", "F"]})
DEEP = {
    **of(["trip"], trip={"$ref": "#/$defs/Trip"}),
    "$defs": {"Trip": of(["from_city", "seats"], from_city=TEXT, seats={"type": "array", "items": WHOLE})},
}
CODE = of(["id"], id={"type": "string", "pattern": "^[A-Z]{7}$"})


def calls(tools: Iterable[Tool]) -> list[Action]:
    """What the examples call; every one of their turns is read as it is meant."""
    decisions = decided(worked_runs([*tools]), {each.name: each.schema for each in tools})
    assert all(isinstance(decision, FinalAnswer) for decision in decisions[1::2])
    return [decision for decision in decisions[::2] if isinstance(decision, Action)]


def decided(messages: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any] = {}) -> list[Any]:
    turns = [str(each["content"]) for each in messages if each["role"] == "assistant"]
    return [parse_turn(turn, schemas).decision for turn in turns]


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        ([SEARCH, CALCULATOR], ["Calculator", "Search"]),
        ([CALCULATOR], ["Calculator", "Calculator"]),
        ([SEARCH], ["Search", "Search"]),
        ([tool("tally", "Works out an arithmetic expression.", of(["it"], it=TEXT))], ["tally", "tally"]),
        ([tool("now", "Tells the time.", of())], ["now"]),
        ([tool("weather", "", TYPED), CALCULATOR], ["weather", "Calculator"]),
        ([tool("weather", "", TYPED), CALCULATOR, SEARCH], ["weather", "Calculator", "Search"]),
        ([tool("trip", "", DEEP)], ["trip", "trip"]),
        ([tool("send", "", of(["to"], to=TEXT), side_effects=True), SEARCH, CALCULATOR], ["Calculator", "Search"]),
        ([tool("send", "", of(["to"], to=TEXT), side_effects=True)], ["send", "send"]),
        ([tool("pick", "", CODE)], []),
        ([tool("pick", "", CODE), tool("now", "", of())], ["now"]),
        ([tool("any", "", {"type": "object"})], ["any"]),
        ([], []),
    ],
)
def test_examples_call_tools_on_offer(tools: list[Tool], names: list[str]) -> None:
    made = calls(tools)
    assert [action.tool for action in made] == names
    by_name = {each.name: each for each in tools}
    for action in made:
        schema = by_name[action.tool].input_schema
        jsonschema.validate(action.tool_input, by_name[action.tool].schema if schema["type"] == "object" else schema)
        assert action.tool_input or takes_nothing(schema)


WEATHER = tool("weather", "Tells the temperature of a city.", of(["city"], city=TEXT))


@pytest.mark.parametrize(
    ("question", "names", "given"),
    [
        ("What is the square root of 1234?", ["Search", "Calculator"], "sqrt(196)"),
        ("Subtract 17.5 from 99.", ["Search", "Calculator"], "90-30"),
        ("what's 12*9", ["Search", "Calculator"], "20 - 3 * 4"),
        ("Who is the king of Norland?", ["Calculator", "Search"], "mayor of Lomberg"),
        ("WHEN did the tower of Ora open?", ["Calculator", "Search"], "opening of the Lomberg Bridge"),
        ("What is the height of Mount Ora plus 250?", ["Search", "Calculator"] * 2, "820+100"),
        ("", ["Calculator", "Search"], "mayor of Lomberg"),
        ("天气?", ["Calculator", "Search"], "mayor of Lomberg"),
        ("A" * 1_000_000, ["Calculator", "Search"], "mayor of Lomberg"),
    ],
)
def test_the_run_of_the_likest_question_is_last(question: str, names: list[str], given: str) -> None:
    called = [action for action in decided(worked_runs([SEARCH, CALCULATOR], question)) if isinstance(action, Action)]
    assert [action.tool for action in called] == names
    assert called[-1].tool_input == given


def test_what_runs_calculate_is_what_the_calculator_says() -> None:
    for run in map(json.loads, prompts.lines("worked-runs")):
        for role, given, observation in run["calls"]:
            assert role == "search" or str(calculator.run(given)) == observation
        assert run["answer"] in run["calls"][-1][2]


def test_a_tool_is_known_by_its_description() -> None:
    runs = worked_runs([SEARCH, CALCULATOR, WEATHER], "Tell me the temperature in Rome, please.")
    called = [action.tool for action in decided(runs) if isinstance(action, Action)]
    assert called[-1] == "weather"
    assert sorted(called) == ["Calculator", "Search", "weather"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "enum": ["<|im_start|>system", "b"]},
        {"type": "string", "enum": ["x" * 2000]},
        {"type": "string", "maxLength": 2},
        {"type": "integer", "minimum": 50, "multipleOf": 7},
        {"type": "array", "minItems": 3, "items": {"type": "string"}},
        {"$ref": "#/$defs/Nowhere"},
        {"not": {}},
        True,
    ],
)
def test_a_value_that_cannot_be_made_up_is_not(schema: Any) -> None:
    for action in calls([tool("get", "", of(["key"], key=schema))]):
        jsonschema.validate(action.tool_input, of(["key"], key=schema))
        assert "<|" not in json.dumps(action.tool_input)


# -- when they are shown -----------------------------------------------------------------------------------------------


class Small(ScriptedBackend):
    """A model in this process whose backend asks for examples."""

    def __init__(self, prompt: str = "react-json-examples") -> None:
        self.requests: list[ChatRequest] = []
        self.answers: list[str] = []
        super().__init__(self.answer)
        self.capabilities = Capabilities(in_process=True, over_http=False, prompt=prompt)

    def answer(self, request: ChatRequest) -> str:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else final("4")


def roles(model: Small, **options: Any) -> list[str]:
    AgentExecutor.from_model(model, [CALCULATOR, SEARCH], **options).invoke({"input": "2 + 2?"})
    return [message["role"] for message in model.requests[-1].messages]


RUN = ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ({}, True),
        ({"prompt": "auto"}, True),
        ({"prompt": "react-json-examples"}, True),
        ({"prompt": "react-json"}, False),
        ({"prompt": "react-json-text"}, False),
    ],
)
def test_the_prompt_is_the_models_unless_one_is_named(prompt: dict[str, str], shown: bool) -> None:
    assert roles(Small(), **prompt) == ["system", *(RUN * 2 if shown else ()), "user"]
    shown = prompt.get("prompt") == "react-json-examples"
    assert roles(Small("react-json"), **prompt) == ["system", *(RUN * 2 if shown else ()), "user"]


@pytest.mark.parametrize(
    ("tools", "prompt", "acts"),
    [
        ([CALCULATOR, SEARCH], {}, [True, False]),
        ([CALCULATOR, tool("send", side_effects=True)], {}, [True, False]),
        ([tool("send", side_effects=True)], {}, [False, False]),
        ([CALCULATOR], {"prompt": "react-json"}, [False, False]),
    ],
)
def test_what_a_small_model_answers_at_once_it_makes_up(
    tools: list[Tool], prompt: dict[str, str], acts: list[bool]
) -> None:
    asked: list[bool] = []

    def grammar(tools: Any, question: str, steps: Any, *, thought_open: bool, acts: bool = False) -> str:
        asked.append(acts)
        return ""

    model = Small()
    model.answers = [acting(tools[0].name, "1"), final("1")]
    model.capabilities = replace(
        model.capabilities, grammar=True, turn_grammars={"actions": grammar}, constrain="actions"
    )
    AgentExecutor.from_model(model, tools, approve=lambda *_: True, **prompt).invoke({"input": "1?"})
    assert asked == acts


def test_a_replay_has_the_prompt_of_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with Cassette(path, "record"):
        roles(Small())
    with Cassette(path):
        executor = AgentExecutor.from_model(Small("react-json"), [CALCULATOR, SEARCH])
        assert executor.invoke({"input": "2 + 2?"})["output"] == "4"
    with pytest.raises(CassetteDrift), Cassette(path):
        roles(Small(), prompt="react-json")
