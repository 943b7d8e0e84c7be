"""Answers that are values under llama.cpp: however wild the model, its answer fits the schema."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentkit import AgentExecutor
from agentkit.core.planner import turn_of
from agentkit.events import FinalAnswer
from agentkit.models.backend import ChatRequest
from agentkit.models.chat import BackendChat
from agentkit.models.gguf.backend import GgufBackend
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.grammar import react_json_grammar

QUESTION = ({"role": "user", "content": "What is 25 raised to the 0.43 power?"},)
WILD = {"temperature": 3.0, "top_k": 0}


class Item(BaseModel):
    name: str = Field(max_length=6)
    size: float | None = Field(ge=0, lt=10)


class Order(BaseModel):
    code: str = Field(pattern="^[A-Z]{2}[0-9]{3}$")
    items: list[Item] = Field(max_length=2)
    after: Order | None = None
    how: Literal["fast", "Observation:\n```"]


TYPES: dict[str, Any] = {
    "recursive": Order,
    "union": Item | bool,
    "list": list[Literal[1, 2]],
    "text": {"type": "string", "maxLength": 9},
    "date": {"type": "string", "format": "date"},
    "any keys": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
}
TURNS = 204


@pytest.mark.slow
def test_a_random_model_never_breaks_an_answer(backend: GgufBackend) -> None:
    """0 of 204 answers do not fit; those that are cut off at the limit of a reply are none."""
    answers = {name: AnswerType.of(wanted) for name, wanted in TYPES.items()}
    held = {name: answer.held.schema for name, answer in answers.items()}
    grammars = {name: react_json_grammar([], answer_schema=schema, longest=24) for name, schema in held.items()}

    def turn(number: int) -> str:
        name = [*TYPES][number % len(TYPES)]
        options = {**WILD, "seed": number, "max_new_tokens": 300}
        request = ChatRequest(messages=QUESTION, grammar=grammars[name], holds_answer=True, options=options)
        *_, whole = BackendChat(backend).complete(request)
        decision = turn_of(whole, answer=answers[name]).decision
        return (
            "fits"
            if isinstance(decision, FinalAnswer)
            else "cut off"
            if whole.finish_reason == "length"
            else whole.text
        )

    with ThreadPoolExecutor(8) as pool:
        counts = Counter(pool.map(turn, range(TURNS)))
    assert {*counts} == {"fits", "cut off"} or {*counts} == {"fits"}
    assert counts["fits"] > TURNS // 2


def test_an_executor_gives_objects(backend: GgufBackend) -> None:
    executor = AgentExecutor.from_model(backend, [], output_type=list[bool], max_iterations=3, return_run=True)
    result = executor.invoke("?")
    assert result["run"]["stop_reason"] in ("answer", "max_iterations")
    assert result["run"]["stop_reason"] != "answer" or all(isinstance(one, bool) for one in result["output"])
