"""The same program on langchain-classic's `AgentExecutor` and on ours: results, chunks, and what callbacks are told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_core.tools import BaseTool, tool

from agentkit import AgentExecutor, ReActJsonSingleInputOutputParser, create_react_json_agent, format_log_to_str
from agentkit.errors import ConfigurationError
from agentkit.langchain.callbacks import AgentExecutorIterator
from tests.doubles.models import Scripted, action, final

classic = pytest.importorskip("langchain_classic.agents")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

QUESTION = {"input": "How many nails?"}


@tool
def stock(item: str, shelf: int = 1) -> str:
    """How many there are of an item."""
    return f"17 {item}"


@tool
def boom(item: str, shelf: int = 1) -> str:
    """Breaks."""
    raise RuntimeError("boom")


@tool(return_direct=True)
def direct(item: str, shelf: int = 1) -> str:
    """Answers."""
    return item.upper()


@tool
def rows(item: str, shelf: int = 1) -> list[dict[str, int]]:
    """Gives no text."""
    return [{"a": 1}]


TOOLS = [stock, boom, direct, rows]
TOLD = [name for name in dir(BaseCallbackHandler) if name.startswith("on_")]
UUID = re.compile(r"(lc_)?(run-)*-?\b[0-9a-f]{8}-[0-9a-f-]{27,}(-\d)?")


class Recorder(BaseCallbackHandler):
    """Keeps what callbacks are told: the name, the run and its parent by their order, names, tags, and the values."""

    raise_error = True

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._runs: dict[Any, int] = {None: 0}

    def note(self, told: str, /, *values: Any, **more: Any) -> None:
        run, parent = (self._runs.setdefault(more[key], len(self._runs)) for key in ("run_id", "parent_run_id"))
        about = {key: more.get(key) for key in ("name", "metadata", "inputs", "token", "llm_prefix")}
        if told == "on_chain_start" or "model_start" in told:
            values = values[1:]
            about["name"] = None if parent == 0 else about["name"]  # LangChain gives none for a stream
            about["metadata"] = {"m": 1} if "m" in (about["metadata"] or {}) else None
        said = UUID.sub("ID", repr([values, about]))
        self.told.append((told, run, parent, tuple(sorted(set(more.get("tags") or ()))), said))


for one in TOLD:

    def _told(self: Recorder, *values: Any, _name: str = one, **more: Any) -> None:
        self.note(_name, *values, **more)

    setattr(Recorder, one, _told)


def chain(*turns: Any) -> Runnable[Any, Any]:
    """An agent as LangChain's users write it."""
    prompt = ChatPromptTemplate.from_messages([("system", "Answer."), ("human", "{input}\n{agent_scratchpad}")])
    steps: Any = {"agent_scratchpad": lambda inputs: format_log_to_str(inputs["intermediate_steps"])}
    model = Scripted(turns=turns).bind(stop=["\nObservation"])
    return RunnablePassthrough.assign(**steps) | prompt | model | ReActJsonSingleInputOutputParser()


def invoke(executor: Any, config: Any) -> Any:
    return executor.invoke(QUESTION, config)


def ainvoke(executor: Any, config: Any) -> Any:
    return asyncio.run(executor.ainvoke(QUESTION, config))


def stream(executor: Any, config: Any) -> Any:
    return list(executor.stream(QUESTION, config))


def astream(executor: Any, config: Any) -> Any:
    async def chunks() -> list[Any]:
        return [chunk async for chunk in executor.astream(QUESTION, config)]

    return asyncio.run(chunks())


def iterate(executor: Any, config: Any) -> Any:
    return list(executor.iter(QUESTION, config["callbacks"]))


def aiterate(executor: Any, config: Any) -> Any:
    async def pieces() -> list[Any]:
        return [piece async for piece in executor.iter(QUESTION, config["callbacks"])]

    return asyncio.run(pieces())


WAYS = [invoke, ainvoke, stream, astream, iterate, aiterate]
NAILS = {"item": "nails", "shelf": 2}
PROGRAMS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "a tool": ([action("stock", NAILS), final("17")], {}),
    "steps returned": ([action("stock", NAILS), final("17")], {"return_intermediate_steps": True}),
    "an unknown tool": ([action("look", "x"), final("none")], {}),
    "a malformed turn": (["I do not know.", final("none")], {"handle_parsing_errors": True}),
    "an answer that a tool gives": ([action("direct", NAILS)], {}),
    "a result that is no text": ([action("rows", NAILS), final("1")], {}),
    "the limit": ([action("stock", {"item": "a", "shelf": n}) for n in range(3)], {"max_iterations": 2}),
    "no turn at all": ([final("none")], {"max_iterations": 0}),
    "a tool that breaks": ([action("boom", NAILS), final("none")], {}),
    "a model that breaks": ([RuntimeError("down")], {}),
    "a name, tags and metadata": ([final("17")], {"name": "Nails", "tags": ["own"], "metadata": {"own": 1}}),
}


def run(kind: Any, turns: list[Any], options: dict[str, Any], way: Callable[[Any, Any], Any]) -> tuple[str, list[Any]]:
    recorder = Recorder()
    config = {"callbacks": [recorder], "tags": ["t"], "metadata": {"m": 1}}
    try:
        executor = kind(agent=chain(*turns), tools=TOOLS, **options)
        result = repr(way(executor, config))
    except RuntimeError as error:
        result = repr(error)
    return UUID.sub("ID", result), recorder.told


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_program_does_the_same(program: str, way: Callable[[Any, Any], Any]) -> None:
    turns, options = PROGRAMS[program]
    theirs, told_of_theirs = run(classic.AgentExecutor, turns, options, way)
    ours, told_of_ours = run(AgentExecutor, turns, options, way)
    assert ours == theirs
    if program == "a malformed turn" and way in (ainvoke, astream, aiterate):
        told_of_ours = [one for one in told_of_ours if "_Exception" not in one[4] or one[0] != "on_agent_action"]
    assert told_of_ours == told_of_theirs


class Tokens(BaseCallbackHandler):
    def __init__(self) -> None:
        self.said: list[str] = []

    def on_llm_new_token(self, token: str, **more: Any) -> None:
        self.said.append(token)


TURNS = [action("stock", NAILS), final("There are 17")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [chain, lambda *turns: create_react_json_agent(Scripted(turns=turns), TOOLS)])
def test_each_token_is_told_once(make: Callable[..., Any], way: Callable[[Any, Any], Any]) -> None:
    tokens = Tokens()
    way(AgentExecutor(make(*TURNS), TOOLS), {"callbacks": [tokens]})
    assert "".join(tokens.said) == "".join(TURNS)
    assert len(tokens.said) > len(TURNS)


async def test_tokens_are_events_of_the_stream() -> None:
    executor = AgentExecutor(create_react_json_agent(Scripted(turns=TURNS), TOOLS), TOOLS)
    events = [event async for event in executor.astream_events(QUESTION, version="v2")]
    said = [event["data"]["chunk"].content for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(said) == "".join(TURNS)


def test_an_agent_may_be_asked_whole() -> None:
    tokens = Tokens()
    AgentExecutor(chain(*TURNS), TOOLS, stream_runnable=False).invoke(QUESTION, {"callbacks": [tokens]})
    assert tokens.said == []


@pytest.mark.parametrize(
    ("turn", "shown"),
    [
        (action("look", "x"), "look is not a valid tool, try one of [stock, boom, direct, rows]."),
        ("I do not know.", "Invalid format: there is neither an action nor a final answer."),
        (action("stock", {"item": "nails", "shelf": "top"}), "Error: action_input does not fit stock"),
        (action("stock", {"shelf": 1}), "Error: action_input does not fit stock"),
    ],
)
def test_verbose_shows_what_the_model_is_told(turn: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    AgentExecutor(chain(turn, final("none")), TOOLS, verbose=True).invoke(QUESTION)
    assert capsys.readouterr().out.count(shown) == 1


# -- as chains have it ---------------------------------------------------------------------------------------------


def executor(**options: Any) -> AgentExecutor:
    return AgentExecutor(chain(*TURNS), TOOLS, **options)


def test_an_iterator_counts_and_may_be_gone_through_again() -> None:
    pieces = executor().iter(QUESTION)
    assert isinstance(pieces, AgentExecutorIterator)
    first = iter(pieces)
    ((chosen, observation),) = next(first)["intermediate_step"]
    assert (chosen.tool, observation) == ("stock", "17 nails")
    assert (pieces.iterations, len(pieces.intermediate_steps)) == (1, 1)
    assert [*first][-1]["output"] == "There are 17"
    pieces.inputs = "Another question"
    assert pieces.inputs == {"input": "Another question"}
    assert [*pieces][-1]["output"] == "There are 17"
    pieces.reset()
    assert (pieces.iterations, pieces.intermediate_steps) == (0, [])


def test_several_calls_of_one_turn_are_one_piece() -> None:
    def plan(inputs: dict[str, Any]) -> Any:
        if inputs["intermediate_steps"]:
            return AgentFinish({"output": "both"}, "")
        return [AgentAction("stock", {"item": item}, "") for item in ("a", "b")]

    pieces = [*AgentExecutor(RunnableLambda(plan), TOOLS).iter(QUESTION)]
    assert [observation for _, observation in pieces[0]["intermediate_step"]] == ["17 a", "17 b"]
    assert len(pieces) == 2


def test_what_an_executor_is_asked() -> None:
    made = AgentExecutor.from_agent_and_tools(chain(*TURNS), TOOLS, return_intermediate_steps=True, name="Nails")
    assert made.lookup_tool("stock") is stock
    assert (made.input_keys, made.output_keys) == (["input"], ["output", "intermediate_steps"])
    assert made.get_name() == "Nails"
    with pytest.raises(KeyError):
        made.lookup_tool("look")


def test_outputs_alone_and_the_run_they_are_of() -> None:
    result = executor()("How many nails?", return_only_outputs=True, include_run_info=True)
    assert set(result) == {"output", "__run"}
    seen = Recorder()
    run_id = executor().invoke(QUESTION, {"callbacks": [seen]}, include_run_info=True)["__run"].run_id
    assert seen._runs[run_id] == 1
    with pytest.raises(ConfigurationError, match="did you mean 'return_only_outputs'"):
        executor().invoke(QUESTION, return_only_output=True)


async def test_the_output_alone() -> None:
    assert executor().run("How many nails?") == "There are 17"
    assert executor().run(input="How many nails?") == "There are 17"
    assert await executor().arun("How many nails?") == "There are 17"
    assert (await executor().acall(QUESTION))["output"] == "There are 17"
    with pytest.raises(ConfigurationError, match="one question, or inputs by name"):
        executor().run()
    with pytest.raises(ConfigurationError, match="there are output, intermediate_steps"):
        executor(return_intermediate_steps=True).run("How many nails?")


class Planner:
    """One of LangChain's older agents, which are no Runnables."""

    input_keys = ("question",)
    return_values = ("answer",)

    def plan(self, intermediate_steps: list[Any], callbacks: Any = None, **inputs: Any) -> Any:
        if intermediate_steps:
            return AgentFinish({"answer": f"{inputs['question']} {intermediate_steps[-1][1]}"}, "log")
        return AgentAction("stock", {"item": "nails"}, "log")

    async def aplan(self, intermediate_steps: list[Any], callbacks: Any = None, **inputs: Any) -> Any:
        return self.plan(intermediate_steps, callbacks, **inputs)

    def get_allowed_tools(self) -> list[str] | None:
        return ["stock"]


async def test_an_agent_that_plans_is_one() -> None:
    made = AgentExecutor(Planner(), [stock])
    assert made.run("Nails?") == await made.arun("Nails?") == "Nails? 17 nails"
    with pytest.raises(ConfigurationError, match="made for the tools stock, saw rows"):
        AgentExecutor(Planner(), [rows])


# -- memory --------------------------------------------------------------------------------------------------------


def remembering(kind: Any, way: Callable[[Any, Any], Any], **options: Any) -> tuple[list[str], str]:
    memory = pytest.importorskip("langchain_classic.memory").ConversationBufferMemory(
        memory_key="chat_history", return_messages=True, output_key="output"
    )
    seen: list[str] = []

    def plan(inputs: dict[str, Any]) -> Any:
        seen.append(" ".join(message.content for message in inputs["chat_history"]))
        return AgentFinish({"output": f"answer {len(seen)}"}, "log")

    made = kind(agent=RunnableLambda(plan), tools=TOOLS, memory=memory, **options)
    results = [way(made, {"callbacks": []}), way(made, {"callbacks": []})]
    return [*seen, *(message.content for message in memory.chat_memory.messages)], repr(results)


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_told_and_kept(way: Callable[[Any, Any], Any]) -> None:
    ours = remembering(AgentExecutor, way, return_intermediate_steps=True)
    assert ours == remembering(classic.AgentExecutor, way, return_intermediate_steps=True)
    question = QUESTION["input"]
    assert ours[0] == ["", f"{question} answer 1", question, "answer 1", question, "answer 2"]


def test_what_is_no_memory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="memory: expected LangChain's"):
        executor(memory=[])


# -- changed later -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "gives"),
    [
        ("max_iterations", 1, "Agent stopped due to iteration limit or time limit."),
        ("tools", [], "There are 17"),
        ("handle_parsing_errors", False, "There are 17"),
        ("memory", None, "There are 17"),
        ("verbose", False, "There are 17"),
        ("name", "Nails", "There are 17"),
    ],
)
def test_what_it_was_made_with_may_change(name: str, value: Any, gives: str) -> None:
    made = executor()
    setattr(made, name, value)
    assert getattr(made, name) == value
    assert made.run("How many nails?") == gives


def test_steps_may_be_asked_for_later() -> None:
    made = executor()
    made.return_intermediate_steps = True
    assert len(made.invoke(QUESTION)["intermediate_steps"]) == 1


def test_tools_that_are_changed_later_are_offered() -> None:
    model = Scripted(turns=[action("rows", NAILS), final("1")])
    made = AgentExecutor.from_model(model, [stock], return_intermediate_steps=True)
    made.tools = [rows]
    assert made.invoke(QUESTION)["intermediate_steps"][0][1] == [{"a": 1}]
    assert "rows" in str(model.requests[0])
    assert "stock" not in str(model.requests[0])


def test_a_tool_may_be_appended() -> None:
    made = AgentExecutor(chain(action("rows", NAILS), final("1")), [stock], return_intermediate_steps=True)
    made.tools.append(rows)  # type: ignore[attr-defined]
    assert made.invoke(QUESTION)["intermediate_steps"][0][1] == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_iteration", 3, "did you mean 'max_iterations'?"),
        ("return_intermediate_step", True, "did you mean 'return_intermediate_steps'?"),
        ("temperature", 0, "it is the model's"),
        ("max_iterations", -1, "at least 1"),
        ("tools", [stock, stock], "Two tools are named 'stock'"),
        ("agent", "builtin", "expected an agent"),
        ("mode", "tools", "cannot be changed later"),
        ("settings", None, "cannot be changed later"),
        ("output_keys", [], "cannot be changed later"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_changes(name: str, value: Any, says: str) -> None:
    made = executor()
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        setattr(made, name, value)
    assert made.run("How many nails?") == "There are 17"


def test_a_config_and_a_batch() -> None:
    seen = Recorder()
    made = executor().with_config(RunnableConfig(callbacks=[seen], run_name="Nails"))
    assert [result["output"] for result in made.batch([QUESTION, QUESTION])] == ["There are 17"] * 2
    assert sum(name == "on_chain_start" and parent == 0 for name, _, parent, *_ in seen.told) == 2


def test_the_tools_are_langchains() -> None:
    assert all(isinstance(one, BaseTool) for one in executor().tools)
