"""Answers that are values: from the executor to the command line, checked, streamed, recorded and replayed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field

from agentkit import AgentExecutor, Session, create_react_json_agent
from agentkit.cli.app import app
from agentkit.core.answer_checks import Check
from agentkit.errors import CassetteError, ConfigurationError, ModelError
from agentkit.events import Finished, PartialAnswer
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Capabilities, Completion
from agentkit.models.scripted import ScriptedBackend, ScriptedReply
from agentkit.runs.build import build
from agentkit.runs.replay import Replay
from agentkit.runs.trust import effects
from agentkit.settings import RunSettings
from tests.doubles.models import action, final, reply
from tests.doubles.server import ChatServer, say, serving


class Weather(BaseModel):
    city: str
    celsius: int = Field(ge=-90, le=60)


OSLO = Weather(city="Oslo", celsius=4)
TEXT = '{"city": "Oslo", "celsius": 4}'
WARM = '{"city": "Oslo", "celsius": 400}'
CALCULATE = action("Calculator", "2 * 2")
NATIVE = Capabilities(tools=True, in_process=False, over_http=False)


def model(*replies: ScriptedReply, capabilities: Capabilities | None = None) -> ScriptedBackend:
    return ScriptedBackend(list(replies), **({"capabilities": capabilities} if capabilities else {}))


def executor(backend: Any, output_type: Any = Weather, **options: Any) -> AgentExecutor:
    return AgentExecutor.from_model(backend, ["calculator"], output_type=output_type, return_run=True, **options)


def gives(arguments: str) -> Completion:
    return reply(calls=[("final_answer", arguments)])


# -- in the dialect ----------------------------------------------------------------------------------------------------


def test_the_output_is_an_object() -> None:
    backend = model(CALCULATE, final(TEXT))
    result = executor(backend).invoke({"input": "How warm is Oslo?"})
    assert (result["output"], result["run"]["stop_reason"]) == (OSLO, "answer")
    system = backend.requests[0].messages[0]["content"]
    assert system.count("The answer behind Final Answer: is JSON on one line, and nothing else.") == 1
    assert system.endswith(
        '{"properties": {"city": {"type": "string"}, "celsius": {"maximum": 60, "minimum": -90, "type": "integer"}}, '
        '"required": ["city", "celsius"], "type": "object"}'
    )


def test_what_does_not_fit_goes_back_to_the_model() -> None:
    backend = model(final("It is cold."), final(WARM), final(TEXT))
    result = executor(backend).invoke({"input": "?"})
    assert (result["output"], result["run"]["parse_errors"]) == (OSLO, 2)
    again = "Write Final Answer: again, and behind it JSON that fits the schema, whole, and nothing else."
    assert [message["content"] for message in backend.requests[2].messages[2:]] == [
        final("It is cold."),
        "Observation: Invalid format: the final answer does not fit its schema: expected JSON, saw 'It is cold.'. "
        f"{again}",
        final(WARM),
        "Observation: Invalid format: the final answer does not fit its schema: $.celsius: 400 is greater than the "
        f"maximum of 60. {again}",
    ]


def test_the_same_misfit_again_and_again_is_stuck() -> None:
    result = executor(model(*[final(WARM)] * 5)).invoke({"input": "?"})
    assert result["run"]["stop_reason"] == "stuck"
    assert result["output"] == "Agent stopped because the model gave no readable turn 3 times in a row."


def test_a_limit_gives_its_own_text() -> None:
    result = executor(model(CALCULATE), max_iterations=1).invoke({"input": "?"})
    assert result["output"] == "Agent stopped due to iteration limit or time limit."


def test_an_answer_that_is_cut_off_is_none() -> None:
    result = executor(model(Completion(f"Final Answer: {TEXT}", finish_reason="length"), final(TEXT))).invoke("?")
    assert (result["output"], result["run"]["parse_errors"]) == (OSLO, 1)


@pytest.mark.parametrize(
    ("wanted", "text", "output"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (int, "7", 7),
        (str, '"Observation: x\\n```"', "Observation: x\n```"),
        (bool, "false", False),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "{}", {}),
        (
            {"title": "Calculator", "type": "object", "required": ["action"]},
            '{"action": "Calculator"}',
            {"action": "Calculator"},
        ),
        (
            {"type": "object"},
            '{"action": "Calculator", "action_input": "2"}',
            {"action": "Calculator", "action_input": "2"},
        ),
        (
            {"type": "object"},
            '{"name": "Calculator", "arguments": {"x": "<think>"}}',
            {"name": "Calculator", "arguments": {"x": "<think>"}},
        ),
        ({"enum": ["Ünïcödé 🦉", "b"]}, '"Ünïcödé 🦉"', "Ünïcödé 🦉"),
        (None, "7", "7"),
    ],
)
def test_answers_of_all_kinds(wanted: Any, text: str, output: Any) -> None:
    assert executor(model(f"Thought: I know.\nFinal Answer: {text}"), wanted).invoke("?")["output"] == output


PLACE = "[system]\nTools: {tools} {tool_names}\n{answer_format}\n[human]\n{input}\n[messages agent_scratchpad]"
OWN_SYSTEM = ChatPromptTemplate.from_messages(
    [("system", "{tools} {tool_names}"), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
)
ALONE = PromptTemplate.from_template("{tools} {tool_names} {input}\n{agent_scratchpad}")


@pytest.mark.parametrize(
    ("prompt", "place"),
    [(PLACE, 0), (OWN_SYSTEM, 0), (ALONE, 0), ("[human]\n{tools}{tool_names}{input}\n[messages agent_scratchpad]", 0)],
)
def test_any_prompt_tells_the_form_once(prompt: Any, place: int, tmp_path: Path) -> None:
    if isinstance(prompt, str):
        (file := tmp_path / "prompt.txt").write_text(prompt)
        prompt = file
    backend = model(CALCULATE, final(TEXT))
    made = AgentExecutor.from_model(backend, ["calculator"], prompt, output_type=Weather)
    assert made.invoke({"input": "?"})["output"] == OSLO
    for request in backend.requests:
        told = ["It fits this JSON schema" in str(message["content"]) for message in request.messages]
        assert [at for at, one in enumerate(told) if one] == [place]
        assert str(request.messages[place]["content"]).count("It fits this JSON schema") == 1
    untyped = model(final("x"))
    AgentExecutor.from_model(untyped, ["calculator"], prompt).invoke({"input": "?"})
    assert "schema" not in json.dumps(untyped.requests[0].messages)


def test_the_agent_alone_gives_the_object_to_other_executors() -> None:
    agent = create_react_json_agent(model(final(TEXT), final(TEXT)), [], output_type=Weather)
    assert agent.invoke({"input": "?", "intermediate_steps": []}).return_values == {"output": OSLO}
    made = AgentExecutor(agent, [])
    assert (made.output_type, made.invoke("?")["output"]) == (Weather, OSLO)


def test_the_type_can_be_changed_later() -> None:
    made = executor(model(final(TEXT), final(TEXT), final("7"), final("7")))
    assert made.invoke("?")["output"] == OSLO
    made.output_type = dict[str, Any]
    assert made.invoke("?")["output"] == {"city": "Oslo", "celsius": 4}
    with pytest.raises(ConfigurationError, match="no value can fit"):
        made.output_type = {"enum": []}
    made.output_type = int
    assert made.invoke("?")["output"] == 7
    made.output_type = None
    assert made.invoke("?")["output"] == "7"


# -- in calls of the model's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replies", "parse_errors"),
    [
        ([gives(TEXT)], 0),
        ([gives('{"answer": {"city": "Oslo", "celsius": 4}}')], 0),
        ([gives('{"city": "Oslo", "celsius": "4"}')], 0),
        ([reply(calls=[("final_answer", TEXT), ("final_answer", TEXT)])], 0),
        ([TEXT], 0),
        ([f"Final Answer: {TEXT}"], 0),
        ([f"Here it is:\n```json\n{TEXT}\n```"], 0),
        ([f'{{"name": "final_answer", "arguments": {TEXT}}}'], 0),
        ([reply(calls=[("Calculator", '{"input": "2 * 2"}')]), gives(TEXT)], 0),
        (["It is cold.", gives(WARM), gives("{"), gives(TEXT)], 3),
        ([reply(calls=[("final_answer", TEXT), ("Calculator", '{"input": "2"}')]), gives(TEXT)], 1),
        ([reply(calls=[("final_answer", TEXT), ("final_answer", WARM)]), gives(TEXT)], 1),
    ],
)
def test_the_answer_is_a_call(replies: Sequence[Any], parse_errors: int) -> None:
    backend = model(*replies, capabilities=NATIVE)
    result = executor(backend, mode="tools").invoke("?")
    assert (result["output"], result["run"]["parse_errors"]) == (OSLO, parse_errors)
    *_, offered = backend.requests[0].tools
    assert offered["function"] == {
        "name": "final_answer",
        "description": "Gives your final answer. Call it alone, when you know the answer.",
        "parameters": {
            "properties": {"city": {"type": "string"}, "celsius": {"maximum": 60, "minimum": -90, "type": "integer"}},
            "required": ["city", "celsius"],
            "type": "object",
        },
    }


def test_a_call_is_required_behind_an_answer_that_does_not_fit() -> None:
    backend = model(
        "It is cold.", gives(WARM), reply(calls=[("Calculator", '{"input": "2"}')]), gives(TEXT), capabilities=NATIVE
    )
    assert executor(backend, mode="tools").invoke("?")["output"] == OSLO
    assert [request.tool_choice for request in backend.requests] == [None, "required", "required", None]


class Refusal(ModelError):
    status = 400


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_server_that_takes_no_such_request_is_asked_without(is_awaited: bool) -> None:
    backend = model("It is cold.", Refusal("no tool_choice"), WARM, gives(TEXT), capabilities=NATIVE)
    made = executor(backend, mode="tools")
    result = asyncio.run(made.ainvoke({"input": "?"})) if is_awaited else made.invoke("?")
    assert result["output"] == OSLO
    assert [request.tool_choice for request in backend.requests] == [None, "required", None, None]
    with pytest.raises(ModelError):
        executor(model(Refusal("no tools"), capabilities=NATIVE), mode="tools").invoke("?")


def test_an_answer_that_is_no_object_is_an_argument() -> None:
    backend = model(gives('{"answer": [{"value": 1}]}'), capabilities=NATIVE)
    node = {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/items"}}}
    assert executor(backend, {"type": "array", "items": node}, mode="tools").invoke("?")["output"] == [{"value": 1}]
    parameters = backend.requests[0].tools[-1]["function"]["parameters"]
    assert parameters["properties"]["answer"]["items"]["properties"]["next"] == {"$ref": "#/properties/answer/items"}


# -- while it comes ----------------------------------------------------------------------------------------------------


def growing(values: Sequence[Any]) -> bool:
    """Whether each of the values holds what the one before it did."""
    return all({*before} <= {*after} for before, after in pairwise(values))


@pytest.mark.parametrize("mode", ["react-json", "tools"])
@pytest.mark.parametrize("is_awaited", [False, True])
@pytest.mark.parametrize("is_watched", [False, True])
def test_a_stream_has_the_answer_as_it_grows(mode: str, is_awaited: bool, is_watched: bool) -> None:
    replies = [CALCULATE, final(TEXT)] if mode == "react-json" else [gives(TEXT)]
    backend = model(*replies, capabilities=NATIVE)
    made = executor(ChatHuggingFace(llm=backend), mode=mode)
    config: Any = {"callbacks": [BaseCallbackHandler()]} if is_watched else None

    async def awaited() -> list[dict[str, Any]]:
        return [chunk async for chunk in made.astream({"input": "?"}, config)]

    chunks = asyncio.run(awaited()) if is_awaited else list(made.stream({"input": "?"}, config))
    partial = [chunk["partial_output"] for chunk in chunks if "partial_output" in chunk]
    assert partial[-1] == {"city": "Oslo", "celsius": 4}
    assert len(partial) > 1
    assert growing(partial)
    assert chunks[-1]["output"] == OSLO
    assert not any("partial_output" in chunk for chunk in AgentExecutor.from_model(model(final("x")), []).stream("?"))


def test_a_runner_has_events_of_it() -> None:
    runner = build(
        RunSettings(schema=Weather.model_json_schema(), must_be_grounded=False), model=_chat(final(TEXT)), tools=[]
    )
    events = list(runner.events({"input": "?"}))
    partial = [event.value for event in events if isinstance(event, PartialAnswer)]
    assert partial[-1] == {"city": "Oslo", "celsius": 4}
    assert isinstance(events[-1], Finished)
    assert events[-1].output == {"city": "Oslo", "celsius": 4}


def test_iteration_and_memory_know_nothing_of_pieces() -> None:
    made = executor(model(CALCULATE, final(TEXT)))
    turns = list(made.iter({"input": "?"}))
    assert ["intermediate_step" in turn for turn in turns] == [True, False]
    assert turns[-1]["output"] == OSLO


def _chat(*replies: str) -> Any:
    from agentkit.models.chat import BackendChat

    return BackendChat(model(*replies))


# -- checks ------------------------------------------------------------------------------------------------------------


def is_mild(answer: Weather) -> str | None:
    return None if answer.celsius > 0 else "Oslo is warmer than that."


def is_no_city(answer: Weather) -> None:
    if answer.city == "oslo":
        raise ValueError("Write the city with a capital letter.")


async def is_mild_awaited(answer: Weather) -> str | None:
    return is_mild(answer)


COLD = '{"city": "Oslo", "celsius": -4}'
SMALL = '{"city": "oslo", "celsius": 4}'


@pytest.mark.parametrize(
    ("checks", "told"),
    [
        ([is_mild], ["Oslo is warmer than that."]),
        ([is_mild, is_no_city], ["Oslo is warmer than that.", "Write the city with a capital letter."]),
    ],
)
def test_what_a_check_says_goes_back_to_the_model(checks: list[Check], told: list[str]) -> None:
    backend = model(final(COLD), final(SMALL), final(TEXT))
    result = executor(backend, answer_checks=checks, return_intermediate_steps=True).invoke("?")
    assert result["output"].celsius == 4
    assert (result["run"]["stop_reason"], result["run"]["parse_errors"]) == ("answer", 0)
    observations = [str(observation) for _, observation in result["intermediate_steps"]]
    assert observations == [
        f"The answer was not accepted: {one}\nMend that, and give the whole answer again." for one in told
    ]
    assert backend.requests[1].messages[-2:] == [
        {"role": "assistant", "content": final(COLD)},
        {"role": "user", "content": f"Observation: {observations[0]}"},
    ]


@pytest.mark.parametrize(("most", "asked"), [(0, 1), (1, 2), (3, 4)])
def test_a_run_ends_after_so_many_corrections(most: int, asked: int) -> None:
    answers = [final(f'{{"city": "Oslo", "celsius": {-number}}}') for number in range(9)]
    backend = model(*answers)
    result = executor(backend, answer_checks=[is_mild], max_answer_corrections=most).invoke("?")
    assert (result["run"]["stop_reason"], len(backend.requests)) == ("answer_rejected", asked)
    assert result["output"] == "Agent stopped because its answers did not pass their checks."


def test_the_same_rejected_answer_again_and_again_is_rejected() -> None:
    result = executor(model(*[final(COLD)] * 9), answer_checks=[is_mild], max_answer_corrections=4).invoke("?")
    assert result["run"]["stop_reason"] == "answer_rejected"


def test_checks_see_the_object_that_comes_and_copies_of_plain_values() -> None:
    seen: list[Any] = []
    result = executor(model(final(TEXT)), answer_checks=[seen.append, seen.append]).invoke("?")
    assert all(one is result["output"] for one in seen)

    def changes(answer: dict[str, Any]) -> None:
        answer["celsius"] = "warm"

    schema = Weather.model_json_schema()
    assert executor(model(final(TEXT)), schema, answer_checks=[changes]).invoke("?")["output"] == OSLO.model_dump()


def test_what_a_check_says_is_one_line_that_is_no_turn() -> None:
    backend = model(final(COLD), final(TEXT))
    said = ["bad\nObservation: 9\nAction: Search"]
    executor(backend, answer_checks=[lambda answer: said.pop() if said else None]).invoke("?")
    assert backend.requests[1].messages[-1]["content"] == (
        "Observation: The answer was not accepted: bad Observation: 9 Action: Search\n"
        "Mend that, and give the whole answer again."
    )


@pytest.mark.parametrize("arguments", ["null", "{}", '{"answer": null}'])
def test_a_call_without_an_answer_gives_nothing_where_that_fits(arguments: str) -> None:
    backend = model(gives(arguments), capabilities=NATIVE)
    assert executor(backend, int | None, mode="tools").invoke("?")["output"] is None


def test_texts_are_checked_and_handlers_of_others_are_not_asked() -> None:
    def is_short(answer: str) -> str | None:
        return None if len(answer) < 5 else "Be brief."

    made = AgentExecutor.from_model(
        model(final("a long answer"), final("42")), [], answer_checks=[is_short], handle_parsing_errors=False
    )
    assert made.invoke("?")["output"] == "42"


def test_checks_may_be_async_in_awaited_runs() -> None:
    made = executor(model(final(COLD), final(TEXT)), answer_checks=[is_mild_awaited])
    assert asyncio.run(made.ainvoke({"input": "?"}))["output"] == OSLO
    with pytest.raises(ConfigurationError, match="answer_checks: is_mild_awaited is async; await the run"):
        made.invoke("?")
    made.answer_checks = [lambda answer: is_mild_awaited(answer)]
    made.agent.agent.model._backend.requests.clear()
    with pytest.raises(ConfigurationError, match="is async; await the run"):
        made.invoke("?")


def test_agents_of_others_are_checked_too() -> None:
    from langchain_core.agents import AgentFinish

    answers = iter(["no", "yes"])
    agent = RunnableLambda(lambda _: AgentFinish({"output": next(answers)}, "log"))
    made = AgentExecutor(agent, [], answer_checks=[lambda answer: None if answer == "yes" else "Say yes."])
    assert made.invoke("?")["output"] == "yes"


def test_what_a_check_breaks_on_is_raised() -> None:
    def breaks(answer: Any) -> str:
        return str(answer["nothing"])

    with pytest.raises(TypeError):
        executor(model(final(TEXT)), answer_checks=[breaks]).invoke("?")
    with pytest.raises(ConfigurationError, match="expected <lambda> to return None or a message, saw False"):
        executor(model(final(TEXT)), answer_checks=[lambda answer: False]).invoke("?")


# -- grounding ---------------------------------------------------------------------------------------------------------

GROUNDED = {"properties": {"kind": {"enum": ["Sum", "Product"]}, "of": {"type": "array"}, "is": {"type": "number"}}}


@pytest.mark.parametrize(
    ("answer", "ungrounded"),
    [
        ('{"kind": "Product", "of": [2, 2], "is": 4}', ()),
        ('{"kind": "Sum", "of": [2, 3], "is": 4.5, "by": "Karl Gauss"}', ("3", "4.5", "Karl Gauss")),
        ('{"Karl": true, "of": [null]}', ("Karl",)),
    ],
)
def test_the_leaves_of_an_answer_are_grounded(answer: str, ungrounded: tuple[str, ...]) -> None:
    made = executor(model(CALCULATE, final(answer)), {"type": "object", **GROUNDED})
    assert made.invoke("What is 2 * 2?")["run"]["ungrounded"] == ungrounded
    refusing = executor(model(CALCULATE, final(answer)), {"type": "object", **GROUNDED}, must_be_grounded=True)
    reason = refusing.invoke("What is 2 * 2?")["run"]["stop_reason"]
    assert reason == ("not_grounded" if ungrounded else "answer")


# -- recorded ----------------------------------------------------------------------------------------------------------


def test_cassettes_keep_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    live = executor(model(final(WARM), final(TEXT)), cassette=file, answer_checks=[is_mild])
    assert live.invoke("?")["output"] == OSLO
    again = executor(model(), cassette=file, answer_checks=[is_mild])
    assert again.invoke("?")["output"] == OSLO
    assert {"output": {"json": {"city": "Oslo", "celsius": 4}}}.items() <= _last_event(file).items()


def _last_event(file: Path) -> dict[str, Any]:
    import yaml

    events = [event for one in yaml.safe_load(file.read_text())["interactions"] for event in one.get("events", [])]
    return dict(events[-1])


def agentkit(*words: str) -> int:
    return int(app(list(words), prog_name="agentkit", standalone_mode=False) or 0)


def test_a_recording_needs_no_file_of_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weather.json").write_text(json.dumps(Weather.model_json_schema()))
    options = ["--tools", "calculator", "--mode", "react-json", "--no-log"]
    with serving(ChatServer([say(CALCULATE), say(final(TEXT))])) as server:
        asked = ["run", "?", "--model", server.url, "--schema", "weather.json", "--record", "run.yaml"]
        assert agentkit(*asked, *options) == 0
    assert capsys.readouterr().out == f"{TEXT}\n"
    Path("weather.json").unlink()
    assert agentkit("replay", "run.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["output"] == {"city": "Oslo", "celsius": 4}
    assert agentkit("show", "run.yaml") == 0
    assert f"Answer: {TEXT}" in capsys.readouterr().out
    assert Replay("run.yaml").run.settings.schema == Weather.model_json_schema()
    with serving(ChatServer([say(final(TEXT))])) as server:
        assert agentkit("fork", "run.yaml", "--step", "1", "--record", "fork.yaml", "--model", server.url) == 0
    assert json.loads(capsys.readouterr().out) == {"city": "Oslo", "celsius": 4}
    as_a_file = re.sub(
        r"^    schema:\n(?:     .*\n)+", "    schema: s.json\n", Path("run.yaml").read_text(), flags=re.M
    )
    Path("other.yaml").write_text(as_a_file)
    with pytest.raises(CassetteError, match=r"expected agentkit\.run\.schema to be the schema itself"):
        agentkit("replay", "other.yaml")


def test_a_store_keeps_the_answer_as_json(tmp_path: Path) -> None:
    made = executor(model(CALCULATE, final(TEXT), final(TEXT)), store=tmp_path / "runs.db")
    assert list(made.stream({"input": "?"}))[-1]["output"] == OSLO
    session = Session(made, "weather", store=tmp_path / "runs.db")
    assert session.ask("How warm is it?")["output"] == OSLO
    assert [message["content"] for message in session.messages] == ["How warm is it?", TEXT]


def test_what_a_file_of_others_names_is_agreed_to_first() -> None:
    (effect,) = effects(RunSettings(schema="weather.json"), {"schema"})
    assert effect.startswith("read the schema ")
    assert effects(RunSettings(schema={"type": "integer"}), {"schema"}) == []


# -- wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "schema s.json: cannot be read (No such file or directory); name a file that holds one"),
        ("{", "schema s.json: expected JSON (Expecting property name"),
        ("[]", "schema s.json: expected a JSON Schema, which is an object, saw a list"),
        ('{"type": "strin"}', "schema: expected a JSON schema, saw $.type"),
        ("{}", "builtin answers with text that it copies"),
    ],
)
def test_a_schema_that_is_none_is_said_before_a_model_loads(
    content: str | None, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("s.json").write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        agentkit("run", "?", "--model", "builtin", "--schema", "s.json")
    assert str(raised.value).startswith(error)


@pytest.mark.torch
def test_what_cannot_be_held_is_refused() -> None:
    backend = model(final(TEXT))
    with pytest.raises(ConfigurationError, match="a RunnableLambda has its own way to answer, which no schema holds"):
        AgentExecutor(RunnableLambda(str), [], output_type=Weather)
    with pytest.raises(ConfigurationError, match=r'answers with text that it copies \(constrain="copy"\)'):
        AgentExecutor.from_model("builtin", output_type=Weather)
    own = Capabilities(grammar=True, constrain="actions", turn_grammars={"actions": lambda tools, *_, **__: ""})
    with pytest.raises(ConfigurationError, match="The grammar of turns of scripted takes no answer_schema"):
        AgentExecutor.from_model(model(capabilities=own), [], output_type=Weather)
    from agentkit.tool import Tool

    direct = Tool(name="Direct", description="x", run=str, return_direct=True)
    with pytest.raises(ConfigurationError, match="What Direct gives is the answer"):
        AgentExecutor.from_model(backend, [direct], output_type=Weather)
    for wrong, error in [
        ({"answer_checks": "x"}, "answer_checks: expected a list of functions, saw 'x'"),
        ({"answer_checks": [3]}, "answer_checks: expected functions of the answer, saw 3"),
        ({"max_answer_corrections": -1}, "max_answer_corrections is a whole number, at least 0, not -1"),
        ({"schema": {}}, "unknown option 'schema' for AgentExecutor; did you mean 'output_type'?"),
        ({"output_type": "x"}, "output_type: expected a class or a JSON schema, saw 'x'"),
    ]:
        with pytest.raises(ConfigurationError) as raised:
            AgentExecutor.from_model(backend, [], **wrong)
        assert str(raised.value) == error
