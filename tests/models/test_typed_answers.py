"""Answers that are values, of models in this process: however wild the model, its answer fits the schema."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import UUID1, UUID4, AwareDatetime, Base64Bytes, BaseModel, Field, HttpUrl, NaiveDatetime

from agentkit import AgentExecutor
from agentkit.core.native_planner import AnswerFunction
from agentkit.core.planner import turn_of
from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import FinalAnswer
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatRequest
from agentkit.models.call_grammar import tool_grammar
from agentkit.models.local.constraint import refusal
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.marks import CallSyntax
from agentkit.react_json.schema_rules import json_rule

from .conftest import build_llama, build_tokenizer, read_reply
from .test_call_grammars import every_syntax, sampled

TURNS = 230
QUESTION = ({"role": "user", "content": "What is 25 raised to the 0.43 power?"},)


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Leaf(BaseModel):
    name: str = Field(max_length=8)
    weight: float = Field(ge=0, lt=10)


class Tree(BaseModel):
    leaf: Leaf
    colour: Colour
    kids: list[Tree] = Field(default=[], max_length=2)
    note: str | None = Field(default=None, pattern=r"^[a-z ]{0,9}$")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    day: datetime.date


TYPES: dict[str, Any] = {
    "recursive": Tree,
    "tagged union": Annotated[Cat | Dog, Field(discriminator="kind")],
    "union of look-alikes": Cat | Leaf,
    "list": list[int],
    "text": Annotated[str, Field(max_length=12)],
    "number": float,
    "truth value": bool,
    "optional": int | None,
    "hostile words": Literal["a", "Observation: \n```x", '\nFinal Answer: "', "<think>"],
    "any keys": dict[str, Annotated[str, Field(max_length=4)]],
    "tuple": tuple[int, Literal["x"], bool],
    "odd keys": {
        "type": "object",
        "properties": {"a b": {"type": ["integer", "null"]}, "$x": {"const": {"k": [1, "Final Answer: x"]}}},
        "required": ["a b", "$x"],
        "additionalProperties": False,
    },
    "keys by a pattern": {"type": "object", "patternProperties": {"^x[0-9]$": {"type": "boolean"}}, "maxProperties": 3},
    "time": {"type": "string", "format": "date-time"},
    "address": {"type": "string", "format": "ipv4"},
    "id": {"type": "string", "format": "uuid"},
    "values of all types": {"enum": [1, "1", None, True, [1], {"a": 1}]},
    "a number's multiples": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 9},
    "an empty object": {"type": "object", "additionalProperties": False},
    "anything": {"maxLength": 9, "maxItems": 2, "maxProperties": 2},
    "a long enumeration": {"enum": [f"word {number}" for number in range(5_000)]},
    "a tool's name": {"title": "Search", "type": "object", "properties": {"action": {"const": "Search"}}},
    "beside": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}},
}


def only_answers(answer: AnswerType) -> str:
    """The grammar of a turn without tools, which is a final answer."""
    return react_json_grammar([], answer_schema=answer.held.schema, longest=24)


@pytest.mark.parametrize(
    "wanted",
    [
        NaiveDatetime,
        AwareDatetime,
        datetime.time,
        datetime.timedelta,
        UUID1,
        UUID4,
        HttpUrl,
        Base64Bytes,
        decimal.Decimal,
        dict[int, bool],
        Annotated[float, Field(gt=0, lt=0.1)],
        Annotated[float, Field(gt=-0.001, lt=0)],
        Annotated[float, Field(gt=1, le=1.001)],
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["z"]},
    ],
    ids=str,
)
def test_what_a_grammar_says_that_it_holds_it_holds(wanted: Any) -> None:
    answer, draw = AnswerType.of(wanted), Random(9)
    assert answer.held.not_held == ()
    grammar = f"start: value\nvalue: {json_rule(answer.held.schema)}"
    answers = filter(None, (sampled(grammar, draw) for _ in range(12)))
    assert [text for text in answers if answer.exactly(text) is None] == []


@pytest.fixture(scope="module")
def chat() -> ChatHuggingFace:
    options = {"max_new_tokens": 500, "do_sample": True, "temperature": 1.2}
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer, max_position_embeddings=4096)
    return ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs=options))


@pytest.mark.slow
def test_a_random_model_never_breaks_an_answer(chat: ChatHuggingFace) -> None:
    """0 of 230 answers do not fit, by jsonschema and by pydantic; a few are cut off at the limit of a reply."""
    asked = chat.chat()
    answers = {name: AnswerType.of(wanted) for name, wanted in TYPES.items()}
    grammars = {name: only_answers(answer) for name, answer in answers.items()}

    def turn(number: int) -> tuple[str, Any]:
        name = [*TYPES][number % len(TYPES)]
        request = ChatRequest(
            messages=QUESTION, grammar=grammars[name], stop=("\nObservation",), stream=False, holds_answer=True,
            options={"seed": number},
        )  # fmt: skip
        *_, whole = asked.complete(request)
        turn = turn_of(whole, {"Search": {"type": "string"}}, answer=answers[name])
        is_answer = isinstance(turn.decision, FinalAnswer)
        return name, "fits" if is_answer else "cut off" if whole.finish_reason == "length" else whole.text

    with ThreadPoolExecutor(8) as pool:
        came = list(pool.map(turn, range(TURNS)))
    counts = Counter(outcome for _, outcome in came)
    assert {*counts} <= {"fits", "cut off"}
    assert {name for name, outcome in came if outcome == "fits"} == {*TYPES}
    assert counts["cut off"] < TURNS // 10


def test_an_executor_of_a_random_model_gives_objects(chat: ChatHuggingFace) -> None:
    class Small(BaseModel):
        name: str = Field(max_length=4)
        ok: bool

    llm = chat.model_copy(update={"max_tokens": 300})
    executor = AgentExecutor.from_model(
        llm, [], mode="react-json", output_type=Small, max_iterations=3, return_run=True
    )
    runs = [executor.invoke(f"question {number}") for number in range(4)]
    assert all(isinstance(run["output"], Small) for run in runs if run["run"]["stop_reason"] == "answer")
    assert any(run["run"]["stop_reason"] == "answer" for run in runs)


@pytest.mark.parametrize("name", TYPES)
def test_llguidance_takes_every_schema(name: str) -> None:
    assert refusal(only_answers(AnswerType.of(TYPES[name]))) is None


@every_syntax
def test_an_answer_fits_in_every_call_syntax(syntax: CallSyntax) -> None:
    """Calls that are drawn from the grammar itself are read as answers that fit."""
    draw = Random(7)
    for name in ("recursive", "tagged union", "list", "text", "optional", "hostile words", "tuple", "any keys"):
        function = AnswerFunction(AnswerType.of(TYPES[name]))
        offered = function.as_openai()
        try:
            grammar = tool_grammar([offered], "required", syntax=syntax, special={})
        except ConfigurationError:
            assert name == "hostile words"  # which no argument of the syntax can write
            continue
        assert grammar is not None
        for reply in filter(None, (sampled(grammar, draw) for _ in range(3))):
            _, text, calls = read_reply([reply], syntax, [offered])
            ((called, arguments),) = calls
            assert (text.strip(), called) == ("", "final_answer")
            function.fit_of(json.loads(arguments))


def test_what_no_grammar_holds_is_said_when_the_agent_is_made(
    chat: ChatHuggingFace, caplog: pytest.LogCaptureFixture
) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "string", "pattern": "^(?=a)a+$"}}
    with caplog.at_level(logging.WARNING, "agentkit"):
        AgentExecutor.from_model(chat, [], output_type=schema)
    assert [record.getMessage() for record in caplog.records] == [
        "The grammar cannot hold the answer to uniqueItems, the pattern '^(?=a)a+$'; one that does not fit goes back "
        "to the model"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "agentkit"):
        AgentExecutor.from_model(chat, [], output_type={"type": "integer", "multipleOf": 10**12})
    (record,) = caplog.records
    assert "more than its type (Value for 'multipleOf' has too many digits: 1000000000000)" in record.getMessage()
    with pytest.raises(MalformedTurn, match="non-unique"):
        AnswerType.of(schema).read('["a", "a"]')
    impossible = {"allOf": [{"type": "string", "pattern": "^a$"}, {"pattern": "^b$"}], "type": "string"}
    with pytest.raises(ConfigurationError, match="no value can fit"):
        AgentExecutor.from_model(chat, [], output_type=impossible)


def test_native_calls_in_this_process_must_call(chat: ChatHuggingFace) -> None:
    llm = chat.model_copy(update={"max_tokens": 400})
    executor = AgentExecutor.from_model(
        llm, [], mode="tools", output_type=list[bool], max_iterations=2, return_run=True
    )
    for number in range(4):
        result = executor.invoke(f"question {number}")
        if result["run"]["stop_reason"] == "answer":
            assert all(isinstance(one, bool) for one in result["output"])
            break
    else:
        pytest.fail("no answer")


def test_a_call_that_is_read_back_is_the_answer() -> None:
    function = AnswerFunction(AnswerType.of(list[int]))
    _, text, calls = read_reply(
        ['<tool_call>{"name": "final_answer", "arguments": {"answer": [1, 2]}}</tool_call>'],
        tools=[function.as_openai()],
    )
    ((name, arguments),) = calls
    assert (text, name, function.fit_of(json.loads(arguments)).value) == ("", "final_answer", [1, 2])
