"""Tools as LangChain's users write them: what the model may give, what it is told, and what a tool may be made of."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Annotated, Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import (
    BaseTool,
    BaseToolkit,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    ToolException,
    tool,
)
from langgraph.prebuilt import InjectedState, ToolRuntime
from pydantic import AliasChoices, BaseModel, Field, field_validator, model_validator
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import Field as FieldV1
from pydantic.v1 import root_validator, validator

from agentkit import AgentExecutor, create_react_json_agent
from agentkit.errors import ConfigurationError
from agentkit.langchain.tools import as_langchain, schema_of
from agentkit.tool import MOST_READ, Tool
from tests.doubles.models import Scripted, action, final, reply

WAYS = ["invoke", "ainvoke"]


class Caller(Scripted):
    """Calls tools in a syntax of its own."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, **kwargs)


async def observed(
    one: Any, tool_input: Any, inputs: dict[str, Any] | None = None, *, way: str = "invoke", **options: Any
) -> Any:
    """What came of one call of a tool."""
    model = Scripted(turns=[action(as_langchain(one).name, tool_input), final("done")])
    executor = AgentExecutor.from_model(model, [one], return_intermediate_steps=True, **options)
    given = {"input": "?", **(inputs or {})}
    result = executor.invoke(given) if way == "invoke" else await executor.ainvoke(given)
    return result["intermediate_steps"][0][1]


# -- what is not for the model to give -----------------------------------------------------------------------------


@tool
def orders(item: str, user: Annotated[str, InjectedToolArg] = "guest") -> str:
    """Orders of a user."""
    return f"{user}: {item}"


@tool
def asked(item: str, user: Annotated[str, InjectedToolArg]) -> str:
    """Orders of a user."""
    return f"{user}: {item}"


@tool
def by_place(user: Annotated[str, InjectedToolArg()] = "guest", item: str = "x", count: int = 1) -> str:
    """Orders of a user, who comes first."""
    return f"{user}: {item}"


@tool
def stated(item: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Looks at the state."""
    return f"{sorted(state)}: {item}"


@tool
def field_of_state(item: str, user: Annotated[str, InjectedState("user_id")]) -> str:
    """Looks at a field of the state."""
    return f"{user}: {item}"


@tool
def configured(item: str, config: RunnableConfig) -> str:
    """Looks at the config."""
    return f"guest: {item}"


class Aliased(BaseModel):
    item: str
    user: Annotated[str, InjectedToolArg] = Field("guest", validation_alias=AliasChoices("user", "u"))


class Subclass(BaseTool):
    name: str = "subclass"
    description: str = "Orders of a user."

    def _run(self, item: str, user: Annotated[str, InjectedToolArg] = "guest") -> str:
        return f"{user}: {item}"


class WithSchema(BaseTool):
    name: str = "with_schema"
    description: str = "Orders of a user."
    args_schema: type[BaseModel] = Aliased

    def _run(self, item: str, user: str = "guest") -> str:
        return f"{user}: {item}"


def plain(item: str, user: str = "guest") -> str:
    """Orders of a user.

    Args:
        item: what
        user: whose
    """
    return f"{user}: {item}"


ITEM = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
BY_JSON = StructuredTool.from_function(plain, name="by_json", description="Orders.", args_schema=ITEM)
FORGED = {"item": "nails", "user": "admin"}


@pytest.mark.parametrize("approve", [None, lambda chosen: True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "forged"),
    [
        (orders, FORGED),
        (asked, FORGED),
        (by_place, FORGED),
        (by_place, "admin"),
        (stated, {"item": "nails", "state": {"user": "admin"}}),
        (field_of_state, FORGED),
        (configured, {"item": "nails", "config": {"user": "admin"}}),
        (Subclass(), FORGED),
        (WithSchema(), FORGED),
        (WithSchema(), {"item": "nails", "u": "admin"}),
        (BY_JSON, FORGED),
        (partial(plain, user="ada"), FORGED),
    ],
)
async def test_the_model_sets_no_argument_that_it_is_not_shown(one: Any, forged: Any, way: str, approve: Any) -> None:
    told = await observed(one, forged, {"user_id": "ada"}, way=way, approve=approve)
    assert told.startswith(f"Error: action_input does not fit {as_langchain(one).name}")
    assert "user" not in schema_of(as_langchain(one))["properties"]


class Renamed(BaseModel):
    item: str = Field(alias="what")
    b: int = Field(3, validation_alias=AliasChoices("b", "bee"))


class RenamedOnly(BaseModel):
    item: str
    b: int = Field(3, alias="bee")


class ByBothNames(RenamedOnly, populate_by_name=True):
    pass


class RenamedV1(BaseModelV1):
    item: str
    b: int = FieldV1(3, alias="bee")


class ByBothNamesV1(RenamedV1):
    class Config:
        allow_population_by_field_name = True


class RangedV1(BaseModelV1):
    item: str
    b: int = FieldV1(3, ge=0)
    user: Annotated[str, InjectedToolArg] = "guest"


class Open(BaseModel, extra="allow"):
    item: str


class Mending(BaseModel):
    item: str

    @model_validator(mode="before")
    @classmethod
    def mended(cls, given: Any) -> Any:
        return {"item": given.get("item") or given["thing"]}


class MendingV1(BaseModelV1):
    item: str

    @root_validator(pre=True)
    def mended(cls, given: Any) -> Any:
        return {"item": given.get("item") or given["thing"]}


class OpenV1(BaseModelV1, extra="allow"):
    item: str


class ClosedV1(BaseModelV1):
    item: str


class WithoutSchema(BaseTool):
    name: str = "take"
    description: str = "d"

    def _run(self, item: str, b: int = 3) -> str:
        return f"{item} {b}"


class WithAny(WithoutSchema):
    def _run(self, item: str, **more: Any) -> str:
        return f"{item} {more}"


class WithTwo(WithoutSchema):
    def _run(self, item: str, b: int) -> str:
        return f"{item} {b}"


OPEN = {"type": "object", "properties": {"item": {"type": "string"}}, "additionalProperties": True}


def take(item: str, b: int = 3) -> str:
    """Take it."""
    return f"{item} {b}"


def take_more(item: str, **more: Any) -> str:
    """Take it, and more."""
    return f"{item} {more}"


def taking(schema: Any) -> BaseTool:
    return StructuredTool.from_function(lambda **given: str(given), name="take", description="d", args_schema=schema)


@pytest.mark.parametrize("approve", [None, lambda chosen: True])
@pytest.mark.parametrize("mode", ["react-json", "tools"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "given", "told"),
    [
        (take, {"item": "a", "c": 9}, "take (c: unknown). Its JSON schema"),
        (take, {"item": "a", "c": 9, "items": 1}, "take (c: unknown; items: unknown; did you mean 'item'?)"),
        (tool(take), {"item": "a", "c": 9}, "take (c: unknown)"),
        (partial(take, b=4), {"item": "a", "c": 9}, "take (c: unknown)"),
        (take_more, {"item": "a", "c": 9}, "take_more (c: unknown)"),
        (take_more, {"item": "a", "more": {"c": 9}}, "a {'c': 9}"),
        (WithoutSchema(), {"item": "a", "c": 9}, "take (c: unknown)"),
        (WithAny(), {"item": "a", "c": 9}, "a {'c': 9}"),
        (taking(Renamed), {"what": "a", "c": 9}, "take (c: unknown)"),
        (taking(Renamed), {"what": "a", "bee": 9}, "{'item': 'a', 'b': 9}"),
        (taking(RenamedOnly), {"item": "a", "b": 9}, "take (b: unknown)"),
        (taking(RenamedOnly), {"item": "a", "bee": 9}, "{'item': 'a', 'b': 9}"),
        (taking(ByBothNames), {"item": "a", "b": 9}, "{'item': 'a', 'b': 9}"),
        (taking(ByBothNames), {"item": "a", "bee": 9}, "{'item': 'a', 'b': 9}"),
        (taking(RenamedV1), {"item": "a", "b": 9}, "take (b: unknown)"),
        (taking(RenamedV1), {"item": "a", "bee": 9}, "{'item': 'a', 'b': 9}"),
        (taking(ByBothNamesV1), {"item": "a", "b": 9}, "{'item': 'a', 'b': 9}"),
        (taking(RangedV1), {"item": "a", "b": 9}, "'item': 'a', 'b': 9"),
        (taking(RangedV1), {"item": "a", "b": -9}, "take (b: ensure this value is greater than or equal to 0)"),
        (taking(RangedV1), {"item": "a", "user": "admin"}, "take (user: not yours to give, leave it out)"),
        (taking(OPEN), {"item": "a", "config": {"tags": ["x"]}}, "take (config: not yours to give, leave it out)"),
        (taking(OPEN), {"item": "a", "self": 1}, "take (self: not yours to give, leave it out)"),
        (taking(OPEN), {"item": "a", "c": 9}, "{'item': 'a', 'c': 9}"),
        (WithAny(), {"item": "a", "self": 1}, "take (self: not yours to give, leave it out)"),
        (WithoutSchema(), {"b": 3}, "take (item: missing). Its JSON schema"),
        (WithAny(), {"c": 3}, "take (item: missing). Its JSON schema"),
        (WithTwo(), "a", "take (it is no object). Its JSON schema"),
        (taking(Open), {"item": "a", "c": 9}, "{'item': 'a', 'c': 9}"),
        (taking(Mending), {"thing": "a"}, "{'item': 'a'}"),
        (taking(ClosedV1), {"item": "a", "c": 9}, "take (c: unknown)"),
        (taking(OpenV1), {"item": "a", "c": 9}, "{'item': 'a', 'c': 9}"),
        (taking(MendingV1), {"thing": "a"}, "{'item': 'a'}"),
        (taking(Open.model_json_schema()), {"item": "a", "c": 9}, "{'item': 'a', 'c': 9}"),
        (taking(ClosedV1.schema()), {"item": "a", "c": 9}, "take (c: unknown)"),
    ],
)
async def test_an_argument_that_a_tool_does_not_have_is_not_dropped(
    one: Any, given: Any, told: str, way: str, mode: Any, approve: Any
) -> None:
    name = as_langchain(one).name
    turn = reply(calls=[(name, json.dumps(given))]) if mode == "tools" else action(name, given)
    agent = create_react_json_agent(Caller(turns=[turn, final("done")]), [one], mode=mode)
    executor = AgentExecutor(agent, [one], return_intermediate_steps=True, approve=approve)
    result = executor.invoke({"input": "?"}) if way == "invoke" else await executor.ainvoke({"input": "?"})
    ((_, observation),) = result["intermediate_steps"]
    assert told in observation


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (RenamedOnly, ["item", "bee"]),
        (Renamed, ["what", "b"]),
        (ByBothNames, ["item", "b"]),
        (RenamedV1, ["item", "bee"]),
        (RangedV1, ["item", "b"]),
    ],
)
def test_a_model_is_shown_the_names_that_a_schema_takes(schema: Any, names: list[str]) -> None:
    shown = schema_of(taking(schema))
    assert [*shown["properties"]] == names
    assert shown["required"] == names[:1]


async def test_a_tool_of_one_string_is_given_it_by_its_name() -> None:
    class Asked(BaseModel):
        query: str = Field(alias="q")

    assert await observed(taking(Asked), "why") == "{'query': 'why'}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "gives"),
    [
        (orders, "guest: nails"),
        (stated, "['input', 'user_id']: nails"),
        (field_of_state, "ada: nails"),
        (configured, "guest: nails"),
        (Subclass(), "guest: nails"),
        (WithSchema(), "guest: nails"),
        (BY_JSON, "guest: nails"),
        (partial(plain, user="ada"), "ada: nails"),
    ],
)
async def test_such_an_argument_comes_from_the_run(one: Any, gives: str, way: str) -> None:
    assert await observed(one, {"item": "nails"}, {"user_id": "ada"}, way=way) == gives


async def test_an_injected_argument_is_the_input_of_its_name() -> None:
    for one in (orders, asked, Subclass()):
        assert await observed(one, {"item": "nails"}, {"user": "ada"}) == "ada: nails"


async def test_one_that_nobody_gives_is_wrong_use() -> None:
    with pytest.raises(ConfigurationError, match="nobody gives user, which the model must not"):
        await observed(asked, {"item": "nails"})

    @tool
    def of_a_graph(item: str, runtime: ToolRuntime) -> str:
        """Runs in a graph alone."""
        return item

    with pytest.raises(ConfigurationError, match="nobody gives runtime, which the model must not"):
        await observed(of_a_graph, {"item": "nails"})


@tool
def log(item: str, call: Annotated[str, InjectedToolCallId]) -> str:
    """Logs."""
    return f"under {call}"


def test_the_id_of_a_call_is_the_models_own() -> None:
    model = Caller(turns=[reply(calls=[("log", '{"item": "a"}'), ("log", '{"item": "b"}')]), reply("done")])
    executor = AgentExecutor(create_react_json_agent(model, [log], mode="tools"), [log], return_intermediate_steps=True)
    steps = executor.invoke("?")["intermediate_steps"]
    assert [observation for _, observation in steps] == [f"under {chosen.tool_call_id}" for chosen, _ in steps]
    assert len({chosen.tool_call_id for chosen, _ in steps}) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_of_the_dialect_has_an_id_too(way: str) -> None:
    assert await observed(log, {"item": "a"}, way=way) == "under call_1"
    assert "not yours to give" in await observed(log, {"item": "a", "call": "forged"}, way=way)


# -- what a tool may be made of ------------------------------------------------------------------------------------


class Shop:
    """A shop."""

    def __call__(self, item: str, count: int = 1) -> str:
        """Sells."""
        return f"sold {item} {count}"

    def buy(self, item: str, count: int = 2) -> str:
        """Buys."""
        return f"bought {item} {count}"


class Mail:
    """Sends."""

    async def __call__(self, item: str, count: int = 3) -> str:
        return f"sent {item} {count}"


async def awaited(item: str, user: str = "guest") -> str:
    """Orders."""
    return f"{user}: {item}"


def lines(item: str, count: int = 2) -> Iterator[str]:
    """Reads lines."""
    for number in range(count):
        yield f"{item} {number}\n"


async def later_lines(item: str, count: int = 2) -> AsyncIterator[str]:
    """Reads lines, awaiting."""
    for number in range(count):
        yield f"{item} {number}"


def added(*numbers: float) -> float:
    """Adds."""
    return sum(numbers)


def variadic(first: int, *more: int, **options: str) -> str:
    """Takes anything."""
    return f"{first} {more} {options}"


class OnlyAwaited(BaseTool):
    name: str = "only_awaited"
    description: str = "Only awaited."

    def _run(self, item: str) -> str:
        raise NotImplementedError("await it")

    async def _arun(self, item: str) -> str:
        return f"awaited {item}"


class NeverAwaited(BaseTool):
    name: str = "never_awaited"
    description: str = "Never awaited."

    def _run(self, item: str) -> str:
        return f"run {item}"

    async def _arun(self, item: str) -> str:
        raise NotImplementedError("never_awaited does not support async")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "tool_input", "gives"),
    [
        (Shop(), {"item": "nails"}, "sold nails 1"),
        (Shop().buy, {"item": "nails"}, "bought nails 2"),
        (Mail(), {"item": "nails"}, "sent nails 3"),
        (partial(plain, "nails"), {"user": "ada"}, "ada: nails"),
        (partial(awaited, user="ada"), {"item": "nails"}, "ada: nails"),
        (partial(partial(plain, user="eve"), user="ada"), {"item": "nails"}, "ada: nails"),
        (lines, {"item": "nail", "count": 3}, "nail 0\nnail 1\nnail 2"),
        (tool(lines), {"item": "nail"}, "nail 0\nnail 1"),
        (later_lines, {"item": "nail"}, "nail 0\nnail 1"),
        (tool(later_lines), {"item": "nail"}, "nail 0\nnail 1"),
        (Tool(name="ours", description="d", run=lambda text: iter([text, 2])), "nail", "nail\n2"),
        (added, {"numbers": [1, 2.5]}, 3.5),
        (tool(added), {"numbers": [1, 2.5]}, 3.5),
        (added, {}, 0),
        (variadic, {"first": 1, "more": [2, 3], "options": {"x": "y"}}, "1 (2, 3) {'x': 'y'}"),
        (variadic, {"first": 1}, "1 () {}"),
        (len, {"obj": "nails"}, 5),
        (OnlyAwaited(), "nails", "awaited nails"),
        (NeverAwaited(), "nails", "run nails"),
    ],
)
async def test_it_is_a_tool(one: Any, tool_input: Any, gives: Any, way: str) -> None:
    assert await observed(one, tool_input, way=way) == gives


async def test_what_is_bound_stays_bound() -> None:
    bound = partial(variadic, x="mine")
    assert await observed(bound, {"first": 1, "options": {"y": "z"}}) == "1 () {'x': 'mine', 'y': 'z'}"
    assert "x cannot be given among" in await observed(bound, {"first": 1, "options": {"x": "forged"}})
    assert "first cannot be given" in await observed(variadic, {"first": 1, "options": {"first": "2"}})


def test_a_callables_name_and_description() -> None:
    shown = [(one.name, one.description) for one in map(as_langchain, (Shop(), Mail(), partial(plain, user="ada")))]
    assert shown[:2] == [("Shop", "Sells."), ("Mail", "Sends.")]
    assert shown[2][0] == "plain"
    assert shown[2][1].startswith("Orders of a user.")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("piece", ["x" * 50, ""])
async def test_lines_without_end_are_bounded(piece: str, way: str) -> None:
    def endless(item: str) -> Iterator[str]:
        """Never ends."""
        while True:
            yield piece

    told = await observed(endless, "x", way=way, max_observation_tokens=None)
    assert MOST_READ <= len(told) < MOST_READ + 200
    assert "cut here" in told


class Kit(BaseToolkit):
    def get_tools(self) -> list[BaseTool]:
        return [orders, log]


def test_a_toolkit_is_its_tools() -> None:
    for tools in (Kit(), [Kit()]):
        executor = AgentExecutor.from_model(Scripted(turns=[final("done")]), tools)  # type: ignore[arg-type]
        assert [one.name for one in executor.tools] == ["orders", "log"]


@pytest.mark.parametrize(
    ("strange", "says"),
    [
        ({"type": "function", "function": {"name": "orders"}}, "a schema alone runs nothing"),
        (RunnableLambda(plain), r"as_tool\(name=…"),
        (Shop, r"make one: Shop\(…\)"),
    ],
)
def test_what_is_no_tool_is_told_how_to_be_one(strange: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        as_langchain(strange)


# -- failures ------------------------------------------------------------------------------------------------------


def refuses(item: str) -> str:
    """Refuses."""
    raise ToolException("no such city")


def breaks(item: str) -> str:
    """Breaks."""
    raise ValueError("a bug")


def breaks_off(item: str) -> Iterator[str]:
    """Breaks off."""
    yield "first"
    raise ToolException("no such city")


OURS = Tool(name="ours", description="d", run=breaks)
TOLD: list[tuple[Any, Any, str]] = [
    (refuses, None, "Error: no such city"),
    (breaks_off, None, "Error: no such city"),
    (refuses, True, "Error: no such city"),
    (breaks, True, "Error: ValueError: a bug"),
    (OURS, True, "Error: ValueError: a bug"),
    (refuses, "Look elsewhere.", "Look elsewhere."),
    (breaks, "Look elsewhere.", "Look elsewhere."),
    (refuses, lambda error: f"It said: {error}", "It said: no such city"),
    (breaks, lambda error: f"It said: {error}", "It said: a bug"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("one", "handle", "told"), TOLD)
async def test_the_executor_says_what_becomes_of_a_failure(one: Any, handle: Any, told: str, way: str) -> None:
    assert await observed(one, "x", way=way, handle_tool_error=handle) == told


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "handle", "error"),
    [
        (breaks, None, ValueError),
        (breaks, False, ValueError),
        (refuses, False, ToolException),
        (OURS, None, ValueError),
    ],
)
async def test_what_is_not_handled_is_raised(one: Any, handle: Any, error: type[Exception], way: str) -> None:
    with pytest.raises(error):
        await observed(one, "x", way=way, handle_tool_error=handle)


async def test_what_a_tool_says_itself_goes_before() -> None:
    own = StructuredTool.from_function(
        refuses, name="own", description="d", handle_tool_error="Mine.", handle_validation_error="Mine, too."
    )
    assert await observed(own, "x", handle_tool_error="Look elsewhere.") == "Mine."
    assert await observed(own, {"item": [1]}) == "Mine, too."


async def test_wrong_use_is_no_failure_of_a_tool() -> None:
    def misused(item: str) -> str:
        """Misused."""
        raise ConfigurationError("no key")

    with pytest.raises(ConfigurationError, match="no key"):
        await observed(misused, "x", handle_tool_error=True)


# -- what else a tool gives ----------------------------------------------------------------------------------------


class Ends(BaseCallbackHandler):
    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.outputs.append(output)


def test_an_artifact_reaches_callbacks_and_not_the_model() -> None:
    @tool(response_format="content_and_artifact")
    def fetch(item: str) -> tuple[str, Any]:
        """Fetches."""
        return "two rows", [1, 2]

    ends, model = Ends(), Scripted(turns=[action("fetch", "x"), final("done")])
    executor = AgentExecutor.from_model(model, [fetch], return_intermediate_steps=True)
    steps = executor.invoke("?", {"callbacks": [ends]})["intermediate_steps"]
    assert steps[0][1] == "two rows"
    assert (ends.outputs[0].content, ends.outputs[0].artifact) == ("two rows", [1, 2])
    assert "[1, 2]" not in str(model.requests[1])


def test_a_stateful_tool_keeps_its_state() -> None:
    class Counter(BaseTool):
        name: str = "counter"
        description: str = "Counts."
        calls: int = 0

        def _run(self, item: str) -> str:
            self.calls += 1
            return str(self.calls)

    counter = Counter()
    make: Callable[[], Any] = lambda: AgentExecutor.from_model(  # noqa: E731
        Scripted(turns=[action("counter", "x"), final("done")]), [counter], handle_tool_error=True
    )
    make().invoke("?")
    make().invoke("?")
    assert counter.calls == 2


async def test_a_model_that_takes_tools_is_told_of_what_it_must_not_give() -> None:
    model = Caller(turns=[reply(calls=[("orders", '{"item": "nails", "user": "admin"}')]), reply("done")])
    agent = create_react_json_agent(model, [orders], mode="tools")
    executor = AgentExecutor(agent, [orders], return_intermediate_steps=True)
    steps = (await executor.ainvoke("?"))["intermediate_steps"]
    assert "user: not yours to give, leave it out" in steps[0][1]


# -- pictures ------------------------------------------------------------------------------------------------------

PNG = "iVBORw0KGgo="
ADDRESS = f"data:image/png;base64,{PNG}"
PICTURE = {"type": "image_url", "image_url": {"url": ADDRESS}}
PICTURES: list[dict[str, Any]] = [
    PICTURE,
    {"type": "image_url", "image_url": ADDRESS},
    {"type": "image", "base64": PNG, "mime_type": "image/png"},
    {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
    {"type": "image", "data": PNG, "mimeType": "image/png"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
]


def shown(picture: dict[str, Any], *, takes_images: bool, native: bool = False, with_id: bool = False) -> list[Any]:
    """What the model is shown of a tool's picture: the contents of the messages behind its call."""
    blocks = [{"type": "text", "text": "A nail:"}, picture]

    @tool(response_format="content_and_artifact" if with_id else "content")
    def look(item: str) -> Any:
        """Looks."""
        return (blocks, None) if with_id else blocks

    call = reply(calls=[("look", '{"item": "nail"}')]) if native else action("look", {"item": "nail"})
    model = Caller(turns=[call, reply("done") if native else final("done")], profile={"image_inputs": takes_images})
    agent = create_react_json_agent(model, [look], mode="tools" if native else "react-json")
    executor = AgentExecutor(agent, [look], max_observation_tokens=20)
    assert executor.invoke("?")["output"] == "done"
    first, second = model.requests
    return [message.content for message in second[len(first) + 1 :]]


@pytest.mark.parametrize("with_id", [False, True])
@pytest.mark.parametrize("picture", PICTURES)
def test_a_model_that_takes_images_is_shown_a_tools_pictures(picture: dict[str, Any], with_id: bool) -> None:
    ((text, seen),) = shown(picture, takes_images=True, with_id=with_id)
    assert text["text"].startswith("Observation: A nail:\n[image")
    assert seen == PICTURE
    told, (_, beside) = shown(picture, takes_images=True, native=True, with_id=with_id)
    assert told.startswith("A nail:\n[image")
    assert beside == PICTURE


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("native", [False, True])
def test_any_other_model_is_told_that_there_is_one(picture: dict[str, Any], native: bool) -> None:
    (told,) = shown(picture, takes_images=False, native=native)
    assert "A nail:\n[image" in told
    assert PNG not in told


@pytest.mark.parametrize(
    "picture",
    [
        {"type": "image", "url": "/etc/passwd"},
        {"type": "image", "path": "/etc/passwd"},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/secret"}},
        {"type": "image", "base64": "/etc/passwd\n", "mime_type": "image/png;x"},
        {"type": "image", "data": PNG, "mime_type": "text/html"},
    ],
)
def test_no_tool_has_a_file_or_an_address_read(picture: dict[str, Any]) -> None:
    (told,) = shown(picture, takes_images=True)
    assert isinstance(told, str)


# -- what somebody is asked about, and what runs ---------------------------------------------------------------------

RAN: list[dict[str, Any]] = []


def kept(**arguments: Any) -> str:
    """Keep them."""
    RAN.append(arguments)
    return "kept"


class Climbing(BaseModel):
    path: str
    depth: int = Field(default_factory=lambda: 1 + len(RAN))
    ticket: str = Field(default_factory=lambda: str(uuid4()))

    @field_validator("path")
    @classmethod
    def above(cls, path: str) -> str:
        return f"{path}/.."


class Renaming(BaseModel):
    path: str = Field(validation_alias=AliasChoices("file", "path"))
    mode: str = "append"

    @model_validator(mode="after")
    def overwrites(self) -> Renaming:
        self.mode = "over" if self.mode == "append" else "twice"
        return self


class Older(BaseModelV1):
    path: str
    mode: str = "append"

    @validator("path")
    def above(cls, path: str) -> str:
        return f"{path}/.."


class Counting(BaseTool):
    name: str = "kept"
    description: str = "Keeps, and counts."
    args_schema: type[BaseModel] = Climbing
    count: int = 0

    def _run(self, **arguments: Any) -> str:
        self.count += 1
        return kept(**arguments)


DEFAULTS = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "mode": {"type": "string", "default": "over"},
        "size": {"default": None},
    },
}
OURS = Tool(name="kept", description="Keep.", run=lambda given: kept(**given), schema=DEFAULTS)


@tool(args_schema=Climbing)
def climbing(path: str, depth: int, ticket: str, call: Annotated[str, InjectedToolCallId] = "") -> str:
    """Keep."""
    return kept(path=path, depth=depth, ticket=ticket)


@tool
def defaulted(path: str, mode: str = "over", user: Annotated[str, InjectedToolArg] = "guest") -> str:
    """Keep."""
    return kept(path=path, mode=mode)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (StructuredTool.from_function(kept, args_schema=Climbing), {"path": "a/..", "depth": 1}),
        (StructuredTool.from_function(kept, args_schema=Renaming), {"path": "a", "mode": "over"}),
        (StructuredTool.from_function(kept, args_schema=Older), {"path": "a/..", "mode": "append"}),
        (StructuredTool.from_function(kept, args_schema=DEFAULTS), {"path": "a", "mode": "over"}),
        (Counting(), {"path": "a/..", "depth": 1}),
        (climbing, {"path": "a/..", "depth": 1}),
        (defaulted, {"path": "a", "mode": "over"}),
        (OURS, {"path": "a", "mode": "over"}),
        (replace(OURS, parse=lambda given: {**given, "path": given["path"] + "/.."}), {"path": "a/.."}),
    ],
)
async def test_what_is_asked_about_is_what_runs(one: Any, expected: dict[str, Any], way: str, watched: bool) -> None:
    RAN.clear()
    asked: list[Any] = []
    handlers = {"callbacks": [BaseCallbackHandler()]} if watched else {}

    def approve(chosen: Any) -> bool:
        asked.append(chosen.tool_input)
        return True

    given = {"file" if getattr(one, "args_schema", None) is Renaming else "path": "a"}
    assert await observed(one, given, way=way, approve=approve, **handlers) == "kept"
    assert asked == RAN
    assert asked[0].items() >= expected.items()


def test_a_tool_that_somebody_is_asked_about_keeps_what_it_counts() -> None:
    one = Counting()
    model = Scripted(turns=[action("kept", {"path": "a"}), action("kept", {"path": "b"}), final("done")])
    AgentExecutor.from_model(model, [one], approve=lambda chosen: True).invoke({"input": "?"})
    assert one.count == 2


def test_what_cannot_be_copied_is_asked_about_too() -> None:
    class Held(BaseModel):
        path: str
        lock: Any = Field(default_factory=Lock)

    asked: list[Any] = []
    model = Scripted(turns=[action("kept", {"path": "a"}), final("done")])
    holding = StructuredTool.from_function(kept, args_schema=Held)
    executor = AgentExecutor.from_model(model, [holding], approve=lambda chosen: bool(asked.append(chosen)) or True)
    RAN.clear()
    assert executor.invoke({"input": "?"})["output"] == "done"
    assert asked[0].tool_input == RAN[0]
