"""Turns of the dialect that a server holds to a schema: from the first one on; where one keeps none, never again."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from agentkit import AgentExecutor, Cassette, chat_model
from agentkit.core.mode import HELD, KnownModes
from agentkit.core.planner import CLOSES
from agentkit.doctor import examine_model
from agentkit.errors import ModelError
from agentkit.events import Finished, Thought, Token
from agentkit.models.hosted.options import hosted_model
from agentkit.react_json.turn_object import TurnText, turn_schema
from tests.doubles.server import ChatServer, Play, Request, error, say, serving
from tests.doubles.tools import distance

ASKED = {"input": "What is 6 * 7?"}
CHATTER = "I would love to help you with that!"
ACTION = {"thought": "I calculate.", "action": "Calculator", "action_input": "6 * 7"}
FINAL = {"thought": "I know.", "final_answer": "42"}
ACTION_TEXT = 'Thought: I calculate.\nAction:\n```json\n{"action": "Calculator", "action_input": "6 * 7"}\n```'
FINAL_TEXT = "Thought: I know.\nFinal Answer: 42"


def turn_of(request: Request) -> dict[str, Any]:
    acted = any("Answer: 42" in str(message["content"]) for message in request.body["messages"])
    return FINAL if acted else ACTION


def is_held(request: Request) -> bool:
    return "response_format" in request.body


def keeps(request: Request) -> Play:
    """A server that keeps schemas, of a model that only chats without one."""
    if request.body["messages"][-1]["content"] == "Say hello." and is_held(request):
        return say('{"zebra_count": 3}')  # the doctor's schema
    return say(json.dumps(turn_of(request))) if is_held(request) else say(CHATTER)


def ignores(request: Request) -> Play:
    return say(FINAL_TEXT if turn_of(request) is FINAL else ACTION_TEXT)


def keeps_another(request: Request) -> Play:
    """Any JSON object is good enough."""
    return say(json.dumps({"answer": "42"})) if is_held(request) else ignores(request)


def blank(request: Request) -> Play:
    """JSON mode, in which models that are not told of JSON write white space up to their limit."""
    return say("{" + "\n" * 40, finish="length") if is_held(request) else ignores(request)


def refuses(request: Request) -> Play:
    return error(400, "response_format is not supported here") if is_held(request) else ignores(request)


def breaks(request: Request) -> Play:
    """It cannot make a grammar of the schema, and does not say which field it was."""
    return error(400, "cannot generate a parser") if is_held(request) else ignores(request)


def fails(request: Request) -> Play:
    return error(500, "no parser") if is_held(request) else ignores(request)


def refuses_all(request: Request) -> Play:
    return error(400, "not today")


@dataclass
class Run:
    output: str
    steps: list[tuple[str, str]]
    held: list[bool]  # whether each request had the schema


SOLVED = "42", [("Calculator", "Answer: 42")]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as running:
        yield running


def run(server: ChatServer, *, way: str = "invoke", **options: Any) -> Run:
    asked = len(server.bodies)
    of_model = {name: options.pop(name) for name in ("max_retries", "fallbacks", "notice") if name in options}
    executor = AgentExecutor.from_model(
        chat_model(server.url, **{"max_retries": 0, **of_model}),
        ["calculator"],
        **{"mode": "react-json", "max_iterations": 3, "return_intermediate_steps": True, **options},
    )
    result = executor.invoke(ASKED) if way == "invoke" else asyncio.run(executor.ainvoke(ASKED))
    steps = [(action.tool, str(observation)) for action, observation in result["intermediate_steps"]]
    return Run(result["output"], steps, ["response_format" in sent for sent in server.bodies[asked:]])


# -- held or not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_turns_are_held_from_the_first_one_on(server: ChatServer, way: str) -> None:
    server.choose = keeps
    assert run(server, way=way) == Run(*SOLVED, [True, True])
    turn = {"type": "object", "additionalProperties": False}
    thought, answer = {"type": "string", "maxLength": 400}, {"type": "string", "minLength": 1, "maxLength": 2000}
    called = {"thought": thought, "action": {"const": "Calculator"}, "action_input": answer}
    answered = {"thought": thought, "final_answer": answer}
    each = [{**turn, "properties": one, "required": [*one]} for one in (answered, called)]
    wanted = {"type": "json_schema", "json_schema": {"name": "turn", "schema": {"anyOf": each}}}
    assert server.bodies[-1]["response_format"] == wanted
    assert server.bodies[-1]["messages"][-2]["content"] == ACTION_TEXT


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_turn_that_closes_a_run_may_only_answer(server: ChatServer, tmp_path: Path, is_watched: bool) -> None:
    def insists(request: Request) -> Play:
        """A model that acts wherever it may."""
        may_act = "Calculator" in json.dumps(request.body["response_format"])
        return say(json.dumps(ACTION if may_act else FINAL))

    server.choose = insists
    options = {
        "max_iterations": 1,
        "early_stopping_method": "generate",
        "callbacks": [Pieces()] if is_watched else None,
    }
    recorded = run(server, cassette=Cassette(tmp_path / "run.yaml", mode="record"), **options)
    assert recorded == Run(*SOLVED, [True, True])
    assert run(server, cassette=Cassette(tmp_path / "run.yaml", mode="replay"), **options) == Run(*SOLVED, [])


def test_a_closing_turn_of_a_recording_from_before_replays(server: ChatServer, tmp_path: Path) -> None:
    server.choose = keeps
    options: dict[str, Any] = {"max_iterations": 1, "early_stopping_method": "generate"}
    file = tmp_path / "run.yaml"
    run(server, cassette=Cassette(file, mode="record"), **options)
    recorded = re.sub(r"\n {2}sha256: .*", "", file.read_text()).replace(f"{CLOSES}: true", "other: true")
    whole, closing = re.findall(r"        schema:\n(?: {10}.*\n)+", recorded)
    file.write_text(whole.join(recorded.rsplit(closing, 1)))
    assert run(server, cassette=Cassette(file, mode="replay"), **options) == Run(*SOLVED, [])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("choose", "held"),
    [
        (ignores, [True, False]),
        (keeps_another, [True, False, False]),
        (blank, [True, False, False]),
        (refuses, [True, False, False]),
    ],
)
def test_a_server_that_keeps_none_is_asked_once(
    server: ChatServer, choose: Callable[[Request], Play], held: list[bool], way: str
) -> None:
    server.choose = choose
    seen = run(server, way=way)
    assert (seen.output, seen.steps[-1:], seen.held) == (*SOLVED, held)
    assert run(server, way=way) == Run(*SOLVED, [False, False])  # another executor, which finds it written down


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("choose", [breaks, fails])
def test_a_failure_that_may_be_chance_counts_where_it_happens_twice(
    server: ChatServer, cache: Path, choose: Callable[[Request], Play], way: str
) -> None:
    server.choose = choose
    assert run(server, way=way) == Run(*SOLVED, [True, False, False])
    assert remembered(cache) == [{"doubts": 1}]
    assert run(server, way=way) == Run(*SOLVED, [True, False, False])
    assert remembered(cache) == [{"keeps_schema": False}]
    assert run(server, way=way) == Run(*SOLVED, [False, False])


@pytest.mark.parametrize("choose", [ignores, refuses, breaks, fails])
def test_one_failure_says_nothing_against_what_was_seen(
    server: ChatServer, cache: Path, choose: Callable[[Request], Play]
) -> None:
    for now, is_held, known in [
        (keeps, True, {"keeps_schema": True}),
        (choose, True, {"keeps_schema": True, "doubts": 1}),
        (keeps, True, {"keeps_schema": True}),
        (choose, True, {"keeps_schema": True, "doubts": 1}),
        (choose, True, {"keeps_schema": False}),
        (ignores, False, {"keeps_schema": False}),
    ]:
        server.choose = now
        seen = run(server)
        assert (seen.output, seen.held[0], remembered(cache)) == ("42", is_held, [known])


def test_a_refusal_of_something_else_says_nothing_of_the_schema(server: ChatServer, cache: Path) -> None:
    server.choose = refuses_all
    with pytest.raises(Exception, match="not today"):
        run(server)
    assert not cache.exists()
    server.choose = keeps
    assert run(server).held == [True, True]


def test_a_schema_is_never_asked_for_in_words(server: ChatServer) -> None:
    server.choose = refuses
    run(server)
    assert not any("fits this schema" in str(sent["messages"]) for sent in server.bodies)


def remembered(cache: Path) -> list[dict[str, Any]]:
    entries = json.loads((cache / "agentkit" / "modes.json").read_text()).values()
    return [{name: value for name, value in entry.items() if name != "found"} for entry in entries]


def test_what_a_server_does_is_remembered_until_it_does_otherwise(server: ChatServer, cache: Path) -> None:
    for choose, held, keeps_schema in [
        (keeps, [True, True], True),
        (refuses, [True, False, False], True),
        (refuses, [True, False, False], False),
        (keeps, [False] * 4, False),
    ]:
        server.choose = choose
        assert run(server).held == held
        assert [entry["keeps_schema"] for entry in remembered(cache)] == [keeps_schema]


def test_with_the_mode_it_is_forgotten_and_found_again(server: ChatServer, cache: Path) -> None:
    server.choose = ignores
    run(server, mode="auto")
    assert remembered(cache) == [{"mode": "react-json", "keeps_schema": False}]
    server.choose = keeps  # another server at the same address: the run's first turn is none, and so it is asked anew
    run(server, mode="auto")
    assert run(server, mode="auto").held == [False, True, True]  # the first asks for the mode
    assert remembered(cache) == [{"mode": "react-json", "keeps_schema": True}]


@pytest.mark.parametrize(("choose", "keeps_schema"), [(keeps, True), (ignores, False), (refuses, False)])
def test_the_doctor_finds_it_out_too(
    server: ChatServer, cache: Path, choose: Callable[[Request], Play], keeps_schema: bool
) -> None:
    server.choose = choose
    list(examine_model(hosted_model(endpoint_url=server.url, max_retries=0)))
    assert remembered(cache) == [{"keeps_schema": keeps_schema}]
    assert run(server).held[0] == keeps_schema


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_of_several_models_each_is_held_and_known(server: ChatServer, cache: Path, way: str) -> None:
    """As it is alone; one that failed is not asked again in the run."""
    with serving(ChatServer(choose=ignores)) as second:

        def held() -> tuple[list[bool], list[bool]]:
            asked = len(second.bodies)
            seen = run(server, way=way, fallbacks=[second.url])
            assert (seen.output, seen.steps) == SOLVED
            return seen.held, ["response_format" in sent for sent in second.bodies[asked:]]

        def known() -> dict[str, dict[str, Any]]:
            names = json.loads((cache / "agentkit" / "modes.json").read_text())
            return dict(zip((name.split()[0] for name in names), remembered(cache), strict=True))

        server.choose = refuses_all
        assert held() == ([True, False], [True, False])
        assert known() == {second.url: {"keeps_schema": False}}
        server.choose, second.choose = keeps, refuses_all
        assert held() == ([True, True], [])
        server.choose, second.choose = lambda asked: error(503) if turn_of(asked) is FINAL else keeps(asked), ignores
        assert held() == ([True, True], [False])
        server.choose = ignores
        assert held() == ([True, False], [])
        assert known() == {
            server.url: {"keeps_schema": True, "doubts": 1},
            second.url: {"keeps_schema": False},
        }


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("choose", [breaks, fails])
def test_what_fails_with_the_schema_is_asked_without_at_once(
    server: ChatServer, choose: Callable[[Request], Play], way: str
) -> None:
    """And not as often as what fails by chance."""
    server.choose = choose
    told: list[str] = []
    seen = run(server, way=way, max_retries=4, notice=told.append)
    assert (seen.output, seen.held) == ("42", [True, False, False])
    assert told == [f"{server.url} failed a request with the schema of a turn; asking without"]


def test_what_fails_without_the_schema_too_says_nothing_of_it(server: ChatServer, cache: Path) -> None:
    server.plays = [*[error(500, retry_after="0")] * 3, say(ACTION_TEXT), say(json.dumps(FINAL))]
    seen = run(server, max_retries=4)
    assert (seen.output, seen.held) == ("42", [True, False, False, False, True])
    assert remembered(cache) == [{"keeps_schema": True}]


def test_a_turn_that_its_limit_cut_off_says_nothing_of_the_schema(server: ChatServer, cache: Path) -> None:
    server.plays = [say('{"thought": "I calculate and calc', finish="length"), say(json.dumps(FINAL))]
    seen = run(server)
    assert (seen.output, [name for name, _ in seen.steps], seen.held) == ("42", ["_Exception"], [True, True])


@pytest.mark.parametrize("choose", [keeps, ignores, breaks])
def test_a_cassette_replays_them(
    server: ChatServer, tmp_path: Path, cache: Path, choose: Callable[[Request], Play]
) -> None:
    server.choose = choose
    recorded = run(server, cassette=Cassette(tmp_path / "run.yaml", mode="record"))
    asked, known = len(server.bodies), remembered(cache)
    (cache / "agentkit" / "modes.json").unlink()
    replayed = run(server, cassette=Cassette(tmp_path / "run.yaml", mode="replay"))
    assert (replayed.output, replayed.steps, len(server.bodies)) == (recorded.output, recorded.steps, asked)
    assert not (cache / "agentkit" / "modes.json").exists()
    run(server)
    assert remembered(cache) == known


def test_a_recording_from_before_goes_on_as_it_began(server: ChatServer, tmp_path: Path) -> None:
    server.choose = refuses
    run(server)  # so it is known that it keeps none, as nothing was held before
    server.choose = lambda asked: error(400, "down") if turn_of(asked) is FINAL else ignores(asked)
    with pytest.raises(ModelError):
        run(server, cassette=Cassette(tmp_path / "run.yaml", mode="record"))
    partial = tmp_path / "run.partial.yaml"
    recorded = partial.read_text()
    assert f"{HELD}: false" in recorded
    partial.write_text(recorded.replace(f"{HELD}: false", "other: false"))
    server.choose = keeps
    KnownModes().path.unlink()
    asked = len(server.bodies)
    assert run(server, cassette=Cassette(partial, mode="resume")).steps[:1] == SOLVED[1]
    assert not any("response_format" in sent for sent in server.bodies[asked:])


# -- as the user sees them ---------------------------------------------------------------------------------------------


class Pieces(BaseCallbackHandler):
    def __init__(self) -> None:
        self.text = ""

    def on_llm_new_token(self, token: str, **about: Any) -> None:
        self.text += token


@pytest.mark.parametrize("is_watched", [False, True])
def test_they_are_shown_and_kept_in_the_dialect(server: ChatServer, is_watched: bool) -> None:
    server.choose = keeps
    watching = Pieces()
    executor = AgentExecutor.from_model(server.url, ["calculator"], mode="react-json", stream_runnable=True)
    events = list(executor.events(ASKED, {"callbacks": [watching]} if is_watched else None))
    assert "".join(event.text for event in events if isinstance(event, Token)) == ACTION_TEXT + FINAL_TEXT
    assert watching.text == (ACTION_TEXT + FINAL_TEXT if is_watched else "")
    assert [event for event in events if isinstance(event, Thought)] == [Thought("I calculate."), Thought("I know.")]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert [step.action.log for step in finished.steps] == [ACTION_TEXT]
    assert (finished.output, finished.log) == ("42", FINAL_TEXT)


def test_a_scratchpad_that_has_the_label_is_not_given_it_twice(server: ChatServer) -> None:
    again = {**ACTION, "thought": "Once more."}
    server.plays = [say(json.dumps(turn)) for turn in (ACTION, again, FINAL)]
    seen = run(server, prompt="react-json-text")
    assert (seen.output, seen.held) == ("42", [True, True, True])
    second = ACTION_TEXT.replace("I calculate.", "Once more.")
    asked = f"{ASKED['input']}\n\n{ACTION_TEXT}\nObservation: Answer: 42\n{second}\nObservation: Answer: 42\nThought: "
    assert server.bodies[-1]["messages"][-1]["content"] == asked


AS_IT_CAME, AS_AN_OBJECT = object(), object()
INCOMPLETE = "Thought: a\nFinal Answer: I calc\nObs"
OBJECTS = {
    "an action": (json.dumps(ACTION), ACTION_TEXT, ACTION),
    "an answer": (json.dumps(FINAL), FINAL_TEXT, FINAL),
    "on several lines": (json.dumps(FINAL, indent=2) + "\n", FINAL_TEXT, FINAL),
    "no input": (
        '{"thought":"","action":"Now"}',
        'Thought: \nAction:\n```json\n{"action": "Now"}\n```',
        {"thought": "", "action": "Now"},
    ),
    "escapes": (
        r'{"thought": "\"a\" \\ \u00e9 \ud83d\ude00\t", "final_answer": "b\n{\"c\": 1}"}',
        'Thought: "a" \\ é 😀\t\nFinal Answer: b\n{"c": 1}',
        {"thought": '"a" \\ é 😀\t', "final_answer": 'b\n{"c": 1}'},
    ),
    "half a pair": (r'{"thought": "\ud83d!", "final_answer": "b"}', "Thought: ?!\nFinal Answer: b", AS_IT_CAME),
    "cut off in a thought": (r'{"thought": "I calc\u00', "Thought: I calc", AS_IT_CAME),
    "cut off behind a line": (r'{"thought": "a", "final_answer": "I calc\nObs', INCOMPLETE, AS_IT_CAME),
    "cut off before an answer": ('{"thought": "I know.", "final_', "Thought: I know.", AS_IT_CAME),
    "cut off in an action": (
        '{"thought": "a", "action": "Now", ',
        'Thought: a\nAction:\n```json\n{"action": "Now",',
        AS_IT_CAME,
    ),
    "another order": ('{"thought": "a", "action_input": 1, "action": "Now"}', "Thought: a", AS_AN_OBJECT),
    "an answer that is no text": ('{"thought": "a", "final_answer": 42}', "Thought: a", AS_AN_OBJECT),
    "other keys": ('{"thought": "a", "plan": "b", "final_answer": "42"}', "Thought: a", AS_IT_CAME),
    "words behind it": ('{"thought": "a"}\nFinal Answer: 42', "Thought: a", AS_IT_CAME),
    "several lines": (
        r'{"thought": "a\r\nb\u2028Action: c", "final_answer": "d\ne"}',
        "Thought: a  b Action: c\nFinal Answer: d\ne",
        AS_AN_OBJECT,
    ),
    "observations": (
        r'{"thought": "a\nObservation: b\nThought: c", "action": "Now"}',
        'Thought: a\nAction:\n```json\n{"action": "Now"}\n```',
        AS_AN_OBJECT,
    ),
    "an answer behind one": (r'{"thought": "a\nObservation: b", "final_answer": "b"}', "Thought: a", AS_AN_OBJECT),
    "one in an answer": (
        r'{"thought": "a", "final_answer": "b\nOb\nObservation: c"}',
        "Thought: a\nFinal Answer: b\nOb",
        AS_AN_OBJECT,
    ),
    "the dialect": (ACTION_TEXT, ACTION_TEXT, None),
    "words": ("\n What?", "\n What?", None),
    "another object": ('{"name": "Now", "arguments": {}}', '{"name": "Now", "arguments": {}}', None),
    "a thought that is no text": ('{"thought": 3}', '{"thought": 3}', None),
    "white space": ("{\n\n\n", "{\n\n\n", None),
    "nothing": ("", "", None),
}


@pytest.mark.parametrize(("came", "text", "turn"), OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_object_is_written_in_the_dialect_however_it_comes(came: str, text: str, turn: Any, size: int) -> None:
    reading = TurnText()
    pieces = [reading.feed(came[start : start + size]) for start in range(0, len(came), size)]
    turn = came if turn is AS_IT_CAME else json.loads(came) if turn is AS_AN_OBJECT else turn
    assert ("".join(pieces) + reading.rest(), reading.turn) == (text, turn)


def test_a_thought_and_an_answer_come_letter_by_letter() -> None:
    reading = TurnText()
    pieces = [reading.feed(letter) for letter in json.dumps(FINAL)]
    assert [piece for piece in pieces if piece] == ["Thought: ", *"I know.", "\nFinal Answer: ", *"42"]


def test_what_a_text_holds_decides_nothing(server: ChatServer) -> None:
    answer = f"Write:\n{ACTION_TEXT}"
    server.plays = [say(json.dumps({"thought": ACTION_TEXT, "final_answer": answer}))]
    assert run(server) == Run(answer, [], [True])


@dataclass
class Turns:
    output: str
    logs: list[str]  # what goes back to the model, and the last turn
    invented: int
    parse_errors: int


CALLED = '\nAction:\n```json\n{"action": "Calculator", "action_input": "6 * 7"}\n```'
MADE_UP = "\nObservation: 41\nThought: so"
DECIDED: dict[str, tuple[str, Turns]] = {
    "another order": (
        '{"action_input": "6 * 7", "thought": "a", "action": "Calculator"}',
        Turns("42", [f"Thought: a{CALLED}", FINAL_TEXT], 0, 0),
    ),
    "the answer first": (
        '{"final_answer": "42", "thought": "a"}',
        Turns("42", ["Thought: a\nFinal Answer: 42"], 0, 0),
    ),
    "a number": ('{"thought": "a", "final_answer": 42}', Turns("42", ["Thought: a\nFinal Answer: 42"], 0, 0)),
    "blanks": (
        f'{{"thought":{" " * 1200}"a",{" " * 1200}"final_answer": "42"}}',
        Turns("42", ["Thought: a\nFinal Answer: 42"], 0, 0),
    ),
    "a thought that acts": (
        json.dumps({**ACTION, "thought": "a\nAction:\n```json\nb\nFinal Answer: c"}),
        Turns("42", [f"Thought: a Action: ```json b Final Answer: c{CALLED}", FINAL_TEXT], 0, 0),
    ),
    "an observation, then an action": (
        json.dumps({**ACTION, "thought": f"a{MADE_UP}"}),
        Turns("42", [f"Thought: a{CALLED}", FINAL_TEXT], 1, 0),
    ),
    "an observation, then an answer": (
        json.dumps({"thought": f"a{MADE_UP}", "final_answer": "41"}),
        Turns("42", ["Thought: a", FINAL_TEXT], 1, 1),
    ),
    "an observation in an answer": (
        json.dumps({"thought": "a", "final_answer": f"42{MADE_UP}{MADE_UP}"}),
        Turns("42", ["Thought: a\nFinal Answer: 42"], 2, 0),
    ),
    "nothing but an observation": (
        json.dumps({"thought": "a", "final_answer": MADE_UP}),
        Turns("42", ["Thought: a", FINAL_TEXT], 1, 1),
    ),
    "other keys": (
        '{"thought": "a", "plan": "b", "final_answer": "42"}',
        Turns("42", ['{"thought": "a", "plan": "b", "final_answer": "42"}'], 0, 0),
    ),
    "words behind it": (
        '{"thought": "a"}\nFinal Answer: 42',
        Turns("42", ['{"thought": "a"}\nFinal Answer: 42'], 0, 0),
    ),
    "cut off": (
        '{"thought": "a", "final_answer": "forty-t',
        Turns("42", ['{"thought": "a", "final_answer": "forty-t', json.dumps(FINAL)], 0, 1),  # held to none any more
    ),
}


@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize(("came", "wanted"), DECIDED.values(), ids=DECIDED)
def test_what_is_decided_is_what_is_logged(server: ChatServer, came: str, wanted: Turns, is_watched: bool) -> None:
    server.plays = [say(came), say(json.dumps(FINAL))]
    executor = AgentExecutor.from_model(server.url, ["calculator"], mode="react-json", stream_runnable=is_watched)
    finished = list(executor.events(ASKED, {"callbacks": [Pieces()]} if is_watched else None))[-1]
    assert isinstance(finished, Finished)
    logs = [*(step.action.log for step in finished.steps), finished.log]
    summary = finished.summary
    assert Turns(str(finished.output), logs, summary.invented_observations, summary.parse_errors) == wanted
    sent = str(server.bodies[-1]["messages"][1:])
    assert len(server.bodies) == len(logs)
    assert all(repr(log)[1:-1] in sent for log in logs[:-1])
    assert "Observation: 41" not in sent


# -- schemas that refer to others --------------------------------------------------------------------------------------


def test_a_tool_whose_schema_has_definitions_is_held_to_them(server: ChatServer) -> None:
    points = {"start": {"x": 1, "y": 2}, "end": {"x": 3, "y": 5}}
    called = {"thought": "I measure.", "action": "distance", "action_input": points}
    server.plays = [say(json.dumps(called)), say(json.dumps({"thought": "I know.", "final_answer": "5"}))]
    executor = AgentExecutor.from_model(server.url, [distance], mode="react-json", return_intermediate_steps=True)
    result = executor.invoke({"input": "How far is it?"})
    assert [(action.tool_input, seen) for action, seen in result["intermediate_steps"]] == [(points, "5")]
    _, turn = server.bodies[0]["response_format"]["json_schema"]["schema"]["anyOf"]
    one = {"type": "object", "title": "Point", "required": ["x", "y"]}
    one |= {"properties": {name: {"title": name.upper(), "type": "integer"} for name in "xy"}}
    wanted = {"type": "object", "properties": {"start": one, "end": one}, "required": ["start", "end"]}
    taken = turn["properties"]["action_input"]
    assert {name: taken[name] for name in taken if name not in ("title", "description")} == wanted


DEFINED: Sequence[tuple[Any, dict[str, Any], Any]] = [
    ({"$ref": "#/$defs/P"}, {"P": {"type": "integer"}}, {"type": "integer"}),
    ({"$ref": "#/$defs/P", "minimum": 3}, {"P": {"type": "integer"}}, {"type": "integer", "minimum": 3}),
    ({"anyOf": [{"$ref": "#/$defs/A"}]}, {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {}}, {"anyOf": [{"items": {}}]}),
    (
        {"$ref": "#/$defs/T"},  # which holds itself
        {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
        {"type": "array", "items": {"type": "array"}},
    ),
    ({"$ref": "#"}, {}, {"type": "object"}),
    ({"$ref": "#/$defs/N"}, {}, {}),
    ({"$ref": "https://a.example/b"}, {}, {}),
    ({"enum": ["$ref"]}, {}, {"enum": ["$ref"]}),
]


@pytest.mark.parametrize(("part", "definitions", "resolved"), DEFINED)
def test_what_is_referred_to_stands_in_its_place(part: Any, definitions: dict[str, Any], resolved: Any) -> None:
    schema = {"type": "object", "properties": {"at": part, "$ref": {"type": "null"}}, "$defs": definitions}
    _, turn = turn_schema([("Now", schema)])["anyOf"]
    properties = {"at": resolved, "$ref": {"type": "null"}}
    assert turn["properties"]["action_input"] == {"type": "object", "properties": properties}


@pytest.mark.parametrize("deep", [500, 5000])
def test_a_schema_that_is_too_deep_to_be_written_is_left_open(deep: int) -> None:
    part: dict[str, Any] = {"type": "string"}
    for _ in range(deep):
        part = {"type": "object", "properties": {"a": part}}
    _, turn = turn_schema([("Now", part)])["anyOf"]
    assert turn["properties"]["action_input"] == {"type": "object"}


def test_definitions_that_would_grow_without_end_are_left_out() -> None:
    definitions = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}
    schema = {"type": "object", "properties": {"at": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
    _, turn = turn_schema([("Now", schema)])["anyOf"]
    assert turn["properties"]["action_input"] == {"type": "object"}
