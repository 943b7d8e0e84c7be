"""`AgentExecutor` as LangChain's users know it, driven by a scripted model."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, ToolException, tool

from agentkit import (
    AgentExecutor,
    ReActJsonSingleInputOutputParser,
    create_react_json_agent,
    format_log_to_str,
    render_text_description,
)
from agentkit.errors import ConfigurationError, ToolError
from agentkit.events import ActionChosen, Finished, Observed, Replied, RunStarted, Thought, Token
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from tests.doubles.models import Scripted, action, final

QUESTION = {"input": "What is 2 + 2?"}


@tool
def calculator(expression: str) -> str:
    """Evaluates arithmetic."""
    return str(sum(int(part) for part in expression.split("+")))


@tool
def power(base: int, exponent: int = 2) -> int:
    """Raises a number to a power."""
    return base**exponent


def executor(turns: list[Any], tools: list[Any] | None = None, **options: Any) -> AgentExecutor:
    return AgentExecutor.from_model(Scripted(turns=turns), tools or [calculator, power], **options)


ADDS = [action("calculator", "2+2"), final("4")]


# -- the ways in ---------------------------------------------------------------------------------------------------


def test_invoke_gives_input_and_output() -> None:
    assert executor(ADDS).invoke(QUESTION) == {**QUESTION, "output": "4"}


def test_invoke_takes_a_bare_question() -> None:
    assert executor(ADDS).invoke("What is 2 + 2?") == {**QUESTION, "output": "4"}


async def test_ainvoke_gives_the_same() -> None:
    assert await executor(ADDS).ainvoke(QUESTION) == {**QUESTION, "output": "4"}


def test_batch_keeps_runs_apart() -> None:
    agent = RunnableLambda(
        lambda x: (
            AgentFinish({"output": x["input"] * 2}, "")
            if x["intermediate_steps"]
            else AgentAction("calculator", f"{len(x['input'])}+1", "log")
        )
    )
    runs = AgentExecutor(agent, [calculator], return_intermediate_steps=True).batch([{"input": "a"}, {"input": "bb"}])
    assert [(run["output"], run["intermediate_steps"][0][1]) for run in runs] == [("aa", "2"), ("bbbb", "3")]


def test_stream_gives_langchains_chunks() -> None:
    chunks = list(executor(ADDS).stream(QUESTION))
    assert [set(chunk) - {"messages"} for chunk in chunks] == [{"actions"}, {"steps"}, {"output"}]
    assert chunks[0]["actions"] == [AgentAction("calculator", "2+2", action("calculator", "2+2"))]
    assert chunks[1]["steps"][0].observation == "4"
    assert chunks[1]["messages"][0].content == "4"
    assert chunks[2]["output"] == "4"


async def test_astream_gives_the_same_chunks() -> None:
    assert [chunk async for chunk in executor(ADDS).astream(QUESTION)] == list(executor(ADDS).stream(QUESTION))


async def test_astream_events_reach_model_and_tool() -> None:
    names = [event["event"] async for event in executor(ADDS).astream_events(QUESTION, version="v2")]
    assert names[0] == "on_chain_start"
    assert names[-1] == "on_chain_end"
    assert {"on_chat_model_start", "on_chat_model_stream", "on_tool_start", "on_tool_end"} <= set(names)


def test_events_are_the_run() -> None:
    events = list(executor(ADDS).events(QUESTION))
    assert "".join(event.text for event in events if isinstance(event, Token)) == "".join(ADDS)
    kinds = [type(event) for event in events if not isinstance(event, Token)]
    assert kinds == [RunStarted, Replied, Thought, ActionChosen, Observed, Replied, Thought, Finished]


# -- what the model is asked ---------------------------------------------------------------------------------------


def test_each_step_is_two_messages_and_nothing_before_them_changes() -> None:
    model = Scripted(turns=[action("calculator", "2+2"), action("calculator", "3+3"), final("6")])
    AgentExecutor.from_model(model, [calculator]).invoke(QUESTION)
    assert model.stops == [["\nObservation"]] * 3
    assert [len(messages) for messages in model.requests] == [2, 4, 6]
    assert model.requests[2][:4] == model.requests[1]
    contents = [message.content for message in model.requests[1][1:]]
    assert contents == ["What is 2 + 2?", model.turns[0], "Observation: 4"]
    assert "calculator: Evaluates arithmetic." in str(model.requests[0][0].content)


def test_a_langchain_template_with_a_text_scratchpad_works() -> None:
    model = Scripted(turns=ADDS)
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Tools: {tools} ({tool_names})"), ("human", "{input}\n\n{agent_scratchpad}")]
    )
    agent = create_react_json_agent(model, [calculator], prompt)
    assert AgentExecutor(agent=agent, tools=[calculator]).invoke(QUESTION)["output"] == "4"
    assert model.requests[1][1].content == f"What is 2 + 2?\n\n{ADDS[0]}\nObservation: 4\nThought: "


def test_the_chain_of_langchains_users_runs_unchanged() -> None:
    model = Scripted(turns=ADDS)
    tools = [calculator]
    prompt = ChatPromptTemplate.from_template("{tools} {tool_names} {input} {agent_scratchpad}").partial(
        tools=render_text_description(tools), tool_names=", ".join([t.name for t in tools])
    )
    agent = (
        {
            "input": lambda x: x["input"],
            "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"]),
        }
        | prompt
        | model.bind(stop=["\nObservation"])
        | ReActJsonSingleInputOutputParser()
    )
    result = AgentExecutor(agent=agent, tools=tools, return_intermediate_steps=True).invoke(QUESTION)
    assert result["output"] == "4"
    assert result["intermediate_steps"] == [(AgentAction("calculator", "2+2", ADDS[0]), "4")]


# -- tools ---------------------------------------------------------------------------------------------------------


def observations(turns: list[Any], tools: list[Any] | None = None, **options: Any) -> list[Any]:
    result = executor(turns, tools, return_intermediate_steps=True, **options).invoke(QUESTION)
    return [observation for _, observation in result["intermediate_steps"]]


def test_an_unknown_tool_is_answered_with_the_valid_ones() -> None:
    assert observations([action("Fly", "x"), final("no")]) == [
        "Fly is not a valid tool, try one of [calculator, power]."
    ]


def test_a_tools_name_in_other_case_is_that_tool() -> None:
    assert observations([action("Calculator", "1+1"), final("2")]) == ["2"]


def test_a_tool_of_several_arguments_gets_them() -> None:
    assert observations([action("power", {"base": 3, "exponent": 3}), final("27")]) == [27]


def test_arguments_that_do_not_fit_go_back_with_the_schema() -> None:
    (observation,) = observations([action("power", {"base": "three"}), final("?")])
    assert observation.startswith("Error: action_input does not fit power (base: ")
    assert '"exponent": {"default": 2, "type": "integer"}' in observation


def test_a_tools_own_error_goes_to_the_model() -> None:
    def fail(text: str) -> str:
        raise ToolError(f"no {text}")

    @tool
    def breaks(text: str) -> str:
        """Fails."""
        raise ToolException("broken")

    ours = Tool(name="ours", description="Fails.", run=fail)
    turns = [action("ours", "luck"), action("breaks", "x"), final("?")]
    assert observations(turns, [ours, breaks]) == ["no luck", "Error: broken"]


def test_any_other_error_of_a_tool_is_a_bug_and_is_raised() -> None:
    @tool
    def bug(text: str) -> str:
        """Fails."""
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError):
        executor([action("bug", "x")], [bug]).invoke(QUESTION)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_tool_ends_the_run(error: type[BaseException]) -> None:
    def interrupt(text: str) -> str:
        raise error

    with pytest.raises(error):
        executor([action("t", "x")], [Tool(name="t", description="d", run=interrupt)]).invoke(QUESTION)


def test_return_direct_is_the_answer() -> None:
    @tool(return_direct=True)
    def direct(text: str) -> str:
        """Answers."""
        return text.upper()

    assert executor([action("direct", "yes")], [direct]).invoke(QUESTION)["output"] == "YES"


def test_a_tool_is_given_the_runs_config() -> None:
    seen: list[Any] = []

    @tool
    def configured(text: str, config: RunnableConfig) -> str:
        """Looks at the config."""
        seen.append((config["configurable"]["user"], config["tags"]))
        return text

    config: RunnableConfig = {"configurable": {"user": "ada"}, "tags": ["t"]}
    executor([action("configured", "x"), final("ok")], [configured]).invoke(QUESTION, config)
    assert seen == [("ada", ["t"])]


def test_a_tool_without_config_still_gets_one() -> None:
    @tool
    def configured(text: str, config: RunnableConfig) -> str:
        """Looks at the config."""
        return str(sorted(config.get("configurable", {})))

    assert observations([action("configured", "x"), final("ok")], [configured]) == ["[]"]


def test_a_hung_tool_is_given_up() -> None:
    release = threading.Event()
    hangs = Tool(name="hangs", description="d", run=lambda text: release.wait(60))
    assert observations([action("hangs", "x"), final("ok")], [hangs], tool_timeout_s=0.05) == [
        "Error: hangs gave no result within 0.05 s."
    ]
    release.set()


def test_a_timeout_error_of_the_tools_own_is_its_own() -> None:
    def times_out(text: str) -> str:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        executor([action("t", "x")], [Tool(name="t", description="d", run=times_out)], tool_timeout_s=60).invoke(
            QUESTION
        )


@pytest.mark.parametrize(("allowed", "expected"), [(True, "sent"), (False, "send was not approved. Do without it.")])
def test_side_effects_are_asked_for(allowed: bool, expected: str) -> None:
    asked: list[Any] = []

    def approve(chosen: Any) -> bool:
        asked.append(chosen.tool_input)
        return allowed

    send = Tool(name="send", description="Sends.", run=lambda text: "sent", side_effects=True)
    assert observations([action("send", "mail"), final("ok")], [send], approve=approve) == [expected]
    assert asked == ["mail"]


async def test_several_actions_run_at_once_when_awaited() -> None:
    both = asyncio.Barrier(2)

    @tool
    async def meet(text: str) -> str:
        """Waits for the other."""
        await both.wait()
        return text

    def plan(x: dict[str, Any]) -> Any:
        if x["intermediate_steps"]:
            return AgentFinish({"output": "met"}, "")
        return [AgentAction("meet", "a", ""), AgentAction("meet", "b", "")]

    runs = AgentExecutor(RunnableLambda(plan), [meet], return_intermediate_steps=True)
    result = await runs.ainvoke(QUESTION)
    assert [observation for _, observation in result["intermediate_steps"]] == ["a", "b"]


# -- turns that are no turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handling", "expected"),
    [("Say it again.", "Say it again."), (lambda error: f"got {error.llm_output}", "got I do not know.")],
)
def test_parse_errors_become_the_observation_asked_for(handling: Any, expected: str) -> None:
    assert observations(["I do not know.", final("4")], handle_parsing_errors=handling) == [expected]


def test_parse_errors_tell_the_model_what_to_mend() -> None:
    result = executor(["I do not know.", final("4")], return_intermediate_steps=True).invoke(QUESTION)
    ((step, observation),) = result["intermediate_steps"]
    assert (step.tool, step.log) == ("_Exception", "I do not know.")
    assert "Action" in observation
    assert "Final Answer" in observation


def test_parse_errors_are_raised_when_asked() -> None:
    with pytest.raises(OutputParserException) as caught:
        executor(["I do not know."], handle_parsing_errors=False).invoke(QUESTION)
    assert caught.value.llm_output == "I do not know."


def test_an_invented_observation_is_cut_and_counted() -> None:
    invented = action("calculator", "2+2") + "\nObservation: 5\nThought: done\nFinal Answer: 5"
    result = executor([invented, final("4")], return_run=True, return_intermediate_steps=True).invoke(QUESTION)
    assert result["output"] == "4"
    assert result["run"]["invented_observations"] == 1
    assert "Observation" not in result["intermediate_steps"][0][0].log


CALLED = action("calculator", "2+2")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("turn", "count"),
    [
        (f"{CALLED}\nObservation: 5", 1),
        (f"{CALLED}\nObservation:\n5\nThought: done\nFinal Answer: 5", 1),
        ("I wait.\nObservation: 5", 1),
        ("Observation: 5", 1),
        (CALLED, 0),
        (f"{CALLED}\nObservation", 0),  # the stop string, which some servers leave in its place
        (f"{CALLED}\nObservation:", 0),
    ],
)
def test_an_observation_behind_the_stop_is_counted_however_it_comes(turn: str, count: int, stream: bool) -> None:
    run = AgentExecutor.from_model(ScriptedBackend([turn, final("4")]), ["calculator"])
    if stream:
        *_, last = run.events(QUESTION)
        assert isinstance(last, Finished)
        assert last.summary.invented_observations == count
    else:
        run.return_run = True
        assert run.invoke(QUESTION)["run"]["invented_observations"] == count


# -- limits --------------------------------------------------------------------------------------------------------


def searching(number: int) -> list[str]:
    return [action("calculator", f"{i}+1") for i in range(number)]


def test_the_iteration_limit_forces_an_end() -> None:
    result = executor(searching(9), max_iterations=3, return_intermediate_steps=True).invoke(QUESTION)
    assert result["output"] == "Agent stopped due to iteration limit or time limit."
    assert len(result["intermediate_steps"]) == 3


def test_the_iteration_limit_can_ask_for_an_answer() -> None:
    runs = executor([*searching(2), final("about 4")], max_iterations=2, early_stopping_method="generate")
    assert runs.invoke(QUESTION)["output"] == "about 4"


def test_the_time_limit_ends_a_run() -> None:
    result = executor(searching(9), max_execution_time=1e-9, return_run=True).invoke(QUESTION)
    assert result["run"]["stop_reason"] == "max_execution_time"


@pytest.mark.parametrize("name", ["max_iterations", "max_execution_time"])
def test_an_agent_of_langchains_may_have_a_limit_of_0(name: str) -> None:
    def asked(inputs: Any) -> Any:
        raise AssertionError("the run ends before its first turn")

    executor = AgentExecutor(RunnableLambda(asked), [calculator], **{name: 0})
    assert executor.invoke({"input": "x"})["output"] == "Agent stopped due to iteration limit or time limit."


async def test_the_time_limit_cancels_a_call_that_hangs() -> None:
    async def hang(x: Any) -> Any:
        await asyncio.Event().wait()

    runs = AgentExecutor(RunnableLambda(hang), [calculator], max_execution_time=0.05)
    assert (await runs.ainvoke(QUESTION))["output"] == "Agent stopped due to iteration limit or time limit."


def test_the_token_budget_ends_a_run() -> None:
    result = executor(searching(9), max_tokens=50, return_run=True).invoke(QUESTION)
    assert result["run"]["stop_reason"] == "max_tokens"
    assert result["run"]["usage"] == {
        "prompt_tokens": 40,
        "completion_tokens": 20,
        "cached_tokens": 0,
        "cost_usd": None,
    }


def test_tokens_are_counted_in_a_chain_too() -> None:
    agent = Scripted(turns=ADDS) | ReActJsonSingleInputOutputParser()
    runs = AgentExecutor(RunnableLambda(lambda x: "ask") | agent, [calculator], return_run=True)
    assert runs.invoke(QUESTION)["run"]["usage"]["prompt_tokens"] == 40


def test_a_run_that_is_stuck_is_asked_for_its_best_answer() -> None:
    result = executor([*[action("calculator", "1+1")] * 3, final("2, I think")], return_run=True).invoke(QUESTION)
    assert result["output"] == "2, I think"
    assert result["run"]["stop_reason"] == "stuck"


def test_trimmed_steps_are_not_shown_to_the_model() -> None:
    model = Scripted(turns=[*searching(3), final("4")])
    AgentExecutor.from_model(model, [calculator], trim_intermediate_steps=1).invoke(QUESTION)
    assert [len(messages) for messages in model.requests] == [2, 4, 4, 4]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="early_stopping_method"):
        executor(ADDS, early_stopping_method="generat")
    with pytest.raises(ConfigurationError, match="did you mean 'max_iterations'"):
        executor(ADDS, max_iteration=3)


# -- callbacks -----------------------------------------------------------------------------------------------------


class Recorder(BaseCallbackHandler):
    """Keeps the names of callbacks, with each run's parent."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.parents: dict[Any, Any] = {}

    def _note(self, call: str, **kwargs: Any) -> None:
        self.calls.append(call)
        self.parents[kwargs["run_id"]] = kwargs["parent_run_id"]

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self._note("chain_start", **kwargs)

    def on_chain_end(self, *args: Any, **kwargs: Any) -> None:
        self._note("chain_end", **kwargs)

    def on_chain_error(self, *args: Any, **kwargs: Any) -> None:
        self._note("chain_error", **kwargs)

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self._note("model_start", **kwargs)

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self._note("model_end", **kwargs)

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self._note("model_error", **kwargs)

    def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        self._note("tool_start", **kwargs)

    def on_tool_end(self, *args: Any, **kwargs: Any) -> None:
        self._note("tool_end", **kwargs)

    def on_agent_action(self, *args: Any, **kwargs: Any) -> None:
        self._note("action", **kwargs)

    def on_agent_finish(self, *args: Any, **kwargs: Any) -> None:
        self._note("finish", **kwargs)


CALLS = [
    *("chain_start", "model_start", "model_end", "action", "tool_start", "tool_end"),
    *("model_start", "model_end", "finish", "chain_end"),
]


def test_callbacks_see_the_run_as_one_tree() -> None:
    recorder = Recorder()
    executor(ADDS).invoke(QUESTION, {"callbacks": [recorder]})
    assert recorder.calls == CALLS
    roots = [run for run, parent in recorder.parents.items() if parent is None]
    assert len(roots) == 1
    assert set(recorder.parents.values()) == {None, roots[0]}


async def test_callbacks_see_the_same_when_awaited() -> None:
    recorder = Recorder()
    await executor(ADDS).ainvoke(QUESTION, {"callbacks": [recorder]})
    assert recorder.calls == CALLS


def test_callbacks_see_an_error() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError):
        executor([RuntimeError("down")]).invoke(QUESTION, {"callbacks": [recorder]})
    assert recorder.calls == ["chain_start", "model_start", "model_error", "chain_error"]


def test_a_stream_left_early_ends_its_run() -> None:
    recorder = Recorder()
    stream = executor(ADDS).stream(QUESTION, {"callbacks": [recorder]})
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert recorder.calls[-1] == "chain_end"


def test_verbose_prints_what_langchains_does(capsys: pytest.CaptureFixture[str]) -> None:
    executor(ADDS, verbose=True).invoke(QUESTION)
    printed = capsys.readouterr().out
    assert "Entering new AgentExecutor chain..." in printed
    assert '"action_input": "2+2"' in printed
    assert "Finished chain." in printed
    assert "4" in printed.split("```")[2]  # the observation


def test_quiet_runs_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    executor(ADDS).invoke(QUESTION)
    assert capsys.readouterr() == ("", "")


def test_tools_may_be_ours_functions_or_langchains() -> None:
    def shout(text: str) -> str:
        """Shouts."""
        return text.upper()

    runs = executor(ADDS, [calculator, shout, Tool(name="ours", description="d", run=str)])
    assert [t.name for t in runs.tools] == ["calculator", "shout", "ours"]
    assert all(isinstance(t, BaseTool) for t in runs.tools)
