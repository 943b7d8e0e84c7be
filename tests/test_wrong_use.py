"""Wrong use in Python: one line where the executor or the model is made, with what to do, before a model is loaded."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import StdOutCallbackHandler
from langchain_core.language_models import FakeListChatModel, FakeListLLM

from agentkit import AgentExecutor, chat_model, create_react_json_agent, load_tools
from agentkit.errors import ConfigurationError
from agentkit.langchain.executor import _KEYWORDS, _SETTING_OF
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Completion
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.settings import SETTINGS, type_of
from agentkit.tool import Tool

ANSWER = "Thought: I now know the final answer\nFinal Answer: 4"
CHAT = FakeListChatModel(responses=[ANSWER])


def _id(value: Any) -> str:
    """The same in every process: pytest's workers compare them."""
    return re.sub(r" at 0x\w+", "", str(value))[:60]


def weather(city: str) -> str:
    """The weather of a city."""
    return city


def refusal(make: Callable[[], Any]) -> str:
    """What is said of wrong use: one line."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def from_model(**given: Any) -> Callable[[], Any]:
    """Makes an executor whose model cannot be loaded: what is wrong is said before."""
    return lambda: AgentExecutor.from_model(**{"model": "local:./no-such-model", "tools": [], **given})


# -- limits ------------------------------------------------------------------------------------------------------------

LIMITS = [name for name in _KEYWORDS if _SETTING_OF.get(name, name) in SETTINGS and name != "allow"]
NUMBERS = [name for name in LIMITS if type_of(_SETTING_OF.get(name, name)) in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["3", -2, math.nan, math.inf, True, []], ids=_id)
def test_a_limit_that_cannot_be(name: str, value: Any) -> None:
    assert refusal(from_model(**{name: value})).startswith(name)


@pytest.mark.parametrize("name", [one for one in NUMBERS if one != "trim_intermediate_steps"])
def test_a_limit_of_nothing(name: str) -> None:
    assert refusal(from_model(**{name: 0})).startswith(name)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("early_stopping_method", "generat", "did you mean 'generate'?"),
        ("must_be_grounded", "no", "expected yes or no, saw 'no'"),
        ("verbose", "yes", "expected True or False, saw 'yes'"),
        ("return_run", [], "expected True or False, saw a list"),
        ("handle_parsing_errors", 5, "expected True or False, a text, or a function of the error, saw 5"),
        ("handle_tool_error", [True], "handle_tool_error: expected True or False, a text, or a function"),
        ("mode", "tool", "did you mean 'tools'?"),
        ("mode", None, "mode: expected text, saw None"),
        ("callbacks", StdOutCallbackHandler(), "callbacks: expected a list, saw a StdOutCallbackHandler"),
        ("callbacks", [StdOutCallbackHandler], "callbacks: expected handlers, saw the class StdOutCallbackHandler"),
        ("tags", "mine", "write tags=['mine']"),
        ("metadata", "mine", "metadata: expected a mapping, saw 'mine'"),
        ("cassette", 5, "cassette: expected a file or a Cassette, saw 5"),
        ("allow", "Calculator", "write allow=['Calculator']"),
        ("allow", [5], "allow: expected names, saw [5]"),
        ("prompt", 5, "expected a prompt's name or file, or a LangChain prompt template, saw 5"),
        ("prompt", "no-such-prompt", "unknown prompt 'no-such-prompt'"),
    ],
)
def test_an_option_that_is_something_else(name: str, value: Any, says: str) -> None:
    assert says in refusal(from_model(**{name: value}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_iteration", "did you mean 'max_iterations'?"),
        ("tool", "did you mean 'tools'?"),
        ("timeout", "did you mean 'max_execution_time'?"),
        ("temperature", "it is the model's: chat_model(SPEC, temperature=…)"),
        ("max_new_tokens", "it is the model's: chat_model(SPEC, max_new_tokens=…)"),
        ("quantization", "it is the model's: chat_model(SPEC, quantization=…)"),
        ("colour", "unknown option 'colour' for AgentExecutor"),
    ],
)
def test_an_option_that_the_executor_does_not_have(name: str, says: str) -> None:
    assert says in refusal(from_model(**{name: 3}))
    assert says in refusal(lambda: AgentExecutor(create_react_json_agent(CHAT, []), [], **{name: 3}))


def test_a_subclass_may_have_options_of_its_own() -> None:
    class Greeting(AgentExecutor):
        def __init__(self, agent: Any, tools: Any, *, greeting: str) -> None:
            super().__init__(agent, tools)
            self.greeting = greeting

    assert Greeting(create_react_json_agent(CHAT, []), [], greeting="Hi").invoke("2+2")["output"] == "4"


@pytest.mark.parametrize("config", ["thread-1", ["x"], 5], ids=_id)
def test_a_config_that_is_none(config: Any) -> None:
    executor = AgentExecutor.from_model(CHAT, [])
    assert "config: expected a mapping" in refusal(lambda: executor.invoke("2+2", config))
    assert "config: expected a mapping" in refusal(lambda: asyncio.run(executor.ainvoke("2+2", config)))


# -- tools and agents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ("calculator", "tools: expected a list, saw 'calculator'; write tools=['calculator']"),
        (weather, "tools: expected a list, saw a function; write tools=[weather]"),
        (load_tools(["calculator"])[0], "tools: expected a list, saw a _SingleInput"),
        ({"calculator": weather}, "tools: expected a list, saw a dict"),
        (None, "tools: expected a list, saw None; [] is none"),
        (5, "tools: expected a list, saw 5"),
        ([5], "expected a tool or a typed function, saw 5"),
        ([weather, None], "expected a tool or a typed function, saw None"),
        ([FakeListChatModel], "saw the class FakeListChatModel; make one: FakeListChatModel(…)"),
        ([[weather]], "expected a tool or a typed function, saw a list"),
        (["calculater"], "expected one of ask_user, calculator, recall, remember, search; did you mean 'calculator'?"),
    ],
    ids=_id,
)
def test_tools_that_are_none(tools: Any, says: str) -> None:
    assert says in refusal(from_model(tools=tools))


def test_names_of_tools_where_tools_are_expected() -> None:
    agent = create_react_json_agent(CHAT, [])
    assert "load_tools(['calculator'])" in refusal(lambda: AgentExecutor(agent, ["calculator"]))
    assert "write tools=['calculator']" in refusal(lambda: AgentExecutor(agent, "calculator"))
    assert "write tools=['calculator']" in refusal(lambda: create_react_json_agent(CHAT, "calculator"))


@pytest.mark.parametrize("agent", [None, CHAT, "builtin", 5, AgentExecutor, ScriptedBackend([ANSWER])], ids=_id)
def test_an_agent_that_is_none(agent: Any) -> None:
    said = refusal(lambda: AgentExecutor(agent, []))
    assert said.startswith("expected an agent")
    assert "AgentExecutor.from_model(model, tools)" in said


# -- models ------------------------------------------------------------------------------------------------------------


class Backend:
    """One in the right form, whose reply is what a test gives."""

    model_id: Any = "mine"

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def generate_chat(self, request: ChatRequest) -> Iterator[Any]:
        yield self.reply

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Any]:
        yield self.reply


class SyncOnly:
    model_id = "mine"

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        yield Chunk(text=ANSWER)


class AsyncOnly:
    model_id = "mine"

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        yield Chunk(text=ANSWER)


class WithoutName(Backend):
    def __getattribute__(self, name: str) -> Any:
        if name == "model_id":
            raise AttributeError(name)
        return super().__getattribute__(name)


class NameIsAMethod(Backend):
    def model_id(self) -> str:
        return "mine"


class CapabilitiesAreADict(Backend):
    capabilities = {"tools": True}  # noqa: RUF012


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (SyncOnly(), "SyncOnly is no backend, it has no agenerate_chat"),
        (AsyncOnly(), "AsyncOnly is no backend, it has no generate_chat"),
        (WithoutName(""), "WithoutName is no backend, it has no model_id"),
        (NameIsAMethod(""), "expected NameIsAMethod.model_id to be text, saw a method"),
        (CapabilitiesAreADict(""), "expected CapabilitiesAreADict.capabilities to be Capabilities, saw a dict"),
        (ScriptedBackend, "saw the class ScriptedBackend; make one: ScriptedBackend(…)"),
        (SyncOnly, "saw the class SyncOnly; make one: SyncOnly(…)"),
    ],
    ids=_id,
)
def test_a_backend_that_is_none(backend: Any, says: str) -> None:
    assert says in refusal(lambda: AgentExecutor.from_model(backend, []))
    assert says in refusal(lambda: ChatHuggingFace(llm=backend))
    assert says in refusal(lambda: BackendChat(backend))


class GivesAtOnce(Backend):
    """Returns its reply instead of yielding it."""

    def generate_chat(self, request: ChatRequest) -> Any:
        return self.reply

    def agenerate_chat(self, request: ChatRequest) -> Any:
        return self.reply


class AsyncInTheWrongPlace(Backend):
    async def generate_chat(self, request: ChatRequest) -> Any:  # type: ignore[override]
        return []

    async def agenerate_chat(self, request: ChatRequest) -> Any:  # type: ignore[override]
        return []


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (Backend(ANSWER), "saw 'Thought: I now know"),
        (Backend({"text": ANSWER}), "saw a dict"),
        (Backend(None), "saw None"),
        (Backend(Completion(ANSWER)), "saw a Completion"),
        (Backend(Chunk(text=b"bytes")), "saw b'bytes'"),  # type: ignore[arg-type]
        (GivesAtOnce(ANSWER), "saw 'Thought: I now know"),
        (GivesAtOnce(None), "saw None"),
        (GivesAtOnce([Chunk(text=ANSWER)]), "saw a list"),
        (AsyncInTheWrongPlace(""), "saw a coroutine"),
    ],
)
def test_a_reply_that_is_not_in_chunks(backend: Any, says: str) -> None:
    executor = AgentExecutor.from_model(backend, [])
    for said in (
        refusal(lambda: executor.invoke("2+2")),
        refusal(lambda: asyncio.run(executor.ainvoke("2+2"))),
        refusal(lambda: ChatHuggingFace(llm=backend).invoke("2+2")),
    ):
        assert said.startswith("mine: expected ")
        assert "yield Chunk(text=…)" in said
        assert says in said


async def look(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("text", "Tool look: expected run to be a function of the input, saw 'text'"),
        (None, "Tool look: expected run to be a function of the input, saw None"),
        (look, "which is async; give that as arun, and a plain function as run"),
    ],
    ids=_id,
)
def test_a_tool_that_cannot_run(run: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Tool(name="look", description="Looks.", run=run)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", 5, "name is text, not 5"),
        ("name", None, "name is text, not None"),
        ("description", 5, "description is text, not 5"),
        ("description", None, "description is text, not None"),
        ("arun", "look", "arun is a function, not 'look'"),
        ("parse", 5, "parse is a function, not 5"),
        ("return_direct", "no", "return_direct is true or false, not 'no'"),
        ("deterministic", "yes", "deterministic is true or false, not 'yes'"),
        ("side_effects", "no", "side_effects is true or false, not 'no'"),
        ("side_effects", 0, "side_effects is true or false, not 0"),
        ("idempotent", None, "idempotent is true or false, not None"),
        ("reads", "PRICE_KEY", "reads is a list of text, not 'PRICE_KEY'"),
        ("reads", (5,), "reads is a list of text, not"),
        ("timeout_s", "5", "timeout_s is a number, not '5'"),
        ("timeout_s", True, "timeout_s is a number, not True"),
        ("timeout_s", 0, "timeout_s is more than 0, or None for no limit, not 0"),
        ("timeout_s", -1.5, "timeout_s is more than 0, or None for no limit, not -1.5"),
        ("timeout_s", math.nan, "timeout_s is more than 0, or None for no limit, not nan"),
    ],
    ids=_id,
)
def test_a_tool_with_a_field_of_the_wrong_kind(field: str, value: Any, says: str) -> None:
    given: dict[str, Any] = {"name": "look", "description": "Looks.", "run": str, field: value}
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Tool(**given)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (None, "saw None"),
        ("object", "saw 'object'"),
        ({"properties": ["a"]}, "saw properties that are no object: ['a']"),
        ({"properties": None}, "saw properties that are no object: None"),
        ({"required": "a"}, "saw required that is no list of names: 'a'"),
        ({"required": [1]}, "saw required that is no list of names: [1]"),
        ({"properties": {"a": {"enum": 5}}}, "saw an enum of a that is no list: 5"),
        ({"properties": {"a": {"enum": None}}}, "saw an enum of a that is no list: None"),
        ({"properties": {"a": {"enum": "abc"}}}, "saw an enum of a that is no list: 'abc'"),
    ],
    ids=_id,
)
def test_a_tool_whose_schema_is_none(schema: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"Tool look: expected a JSON schema, {says}")):
        Tool(name="look", description="Looks.", run=str, schema=schema)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (None, "expected a chat model, saw None"),
        (object(), "expected a chat model, saw an object"),
        (FakeListChatModel, "make one: FakeListChatModel(…)"),
        (FakeListLLM(responses=[ANSWER]), "one that completes text is no chat model"),
        (CHAT.with_retry(), "saw a RunnableRetry; give the chat model itself"),
        (lambda messages: ANSWER, "saw a function"),
        (Path("model"), "expected a chat model, saw a"),
    ],
    ids=_id,
)
def test_a_model_that_is_none(model: Any, says: str) -> None:
    assert says in refusal(lambda: AgentExecutor.from_model(model, []))
    assert says in refusal(lambda: create_react_json_agent(model, []))


def test_an_option_that_a_chat_model_does_not_have() -> None:
    assert "did you mean 'temperature'?" in refusal(lambda: ChatHuggingFace(llm=Backend(""), temprature=1))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "unknown model, saw None"),
        (object(), "unknown model, saw an object"),
        (CHAT, "saw a FakeListChatModel; give AgentExecutor.from_model the model itself"),
        (ScriptedBackend([]), "saw a ScriptedBackend; give AgentExecutor.from_model the model itself"),
        ("", "unknown model ''"),
        ("gpt-4", "write openai:gpt-4"),
        ("Builtin", "did you mean builtin?"),
        (" builtin", "did you mean builtin?"),
        ("bultin", "did you mean builtin?"),
        ("builtin:", "did you mean builtin?"),
        ("Local:models/mine", "did you mean local:models/mine?"),
        ("HF:org/name", "did you mean hf:org/name?"),
        ("locl:models/mine", "did you mean local:models/mine?"),
        ("HTTP://host/v1", "did you mean http://host/v1?"),
        ("http//localhost:8080", "did you mean http://localhost:8080?"),
        ("https/a.example/v1", "did you mean https://a.example/v1?"),
        ("http:/localhost:8080/v1", "did you mean http://localhost:8080/v1?"),
        ("http:localhost:8080/v1", "did you mean http://localhost:8080/v1?"),
        ("localhost", "did you mean http://localhost?"),
        ("localhost:8080", "did you mean http://localhost:8080?"),
        ("//localhost:8080/v1", "did you mean http://localhost:8080/v1?"),
        ("127.0.0.1:8080/v1", "did you mean http://127.0.0.1:8080/v1?"),
        ("[::1]:8080", "did you mean http://[::1]:8080?"),
        ("gpu-box:8000", "did you mean http://gpu-box:8000?"),
        ("models.example.com/v1", "did you mean http://models.example.com/v1?"),
        ("org/name", "did you mean hf:org/name or local:org/name?"),
        ("./mine", "for a folder write local:./mine"),
        ("x" * 300, "unknown model 'xxx"),
        ("local:" + "x" * 300, "no folder xxx"),
        ("local:", "unknown model 'local:'"),
        ("openai:", "unknown model 'openai:'"),
    ],
    ids=_id,
)
def test_a_spec_that_cannot_be_meant(spec: Any, says: str) -> None:
    assert says in refusal(lambda: chat_model(spec))


@pytest.mark.parametrize("replies", ["Final Answer: 4", b"x", None, 5, {"a": "b"}, iter(["a"])], ids=_id)
def test_a_script_that_is_no_list(replies: Any) -> None:
    assert "expected a list of replies" in refusal(lambda: ScriptedBackend(replies))


@pytest.mark.parametrize("reply", [None, 5, ["a"], ValueError], ids=_id)
def test_a_reply_of_a_script_that_is_none(reply: Any) -> None:
    assert "expected a reply that is text" in refusal(lambda: ScriptedBackend([ANSWER, reply]))
    model = ScriptedBackend(lambda request: reply)
    assert "expected a reply that is text" in refusal(lambda: AgentExecutor.from_model(model, []).invoke("2+2"))


def test_tools_that_a_model_will_not_use_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    declared = Capabilities(
        in_process=True,
        over_http=False,
        grammar=True,
        constrain="copy",
        role_of=lambda tool: "" if tool.name == "weather" else "x",
    )
    model = ScriptedBackend([ANSWER], capabilities=declared)
    AgentExecutor.from_model(model, ["calculator", "search"])
    assert caplog.messages == []
    AgentExecutor.from_model(model, ["calculator", weather])
    AgentExecutor.from_model(model, [weather])
    AgentExecutor.from_model(model, [])
    assert caplog.messages == [
        "The model only searches and calculates: it will not use weather",
        "The model only searches and calculates, and was given weather: it will decline every question",
        "The model only searches and calculates, and was given no tools: it will decline every question",
    ]
