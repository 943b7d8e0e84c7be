"""Grammar-constrained turns: however wild the model, every action is one that can be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agentkit.models import ChatHuggingFace
from agentkit.react_json.grammar import react_json_grammar

TURNS = 200
QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]


class Passenger(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)
    seat: str | None = Field(pattern=r"^[A-F][1-9]$")


class Booking(BaseModel):
    model_config = ConfigDict(extra="forbid")

    flight: str = Field(pattern=r"^[A-Z]{2}[0-9]{3}$")
    passengers: list[Passenger] = Field(min_length=1, max_length=2)
    options: dict[str, bool] = Field(max_length=2)


class Lookup(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: str = Field(json_schema_extra={"enum": ["city", "river"]})
    limit: int = Field(ge=1, le=5)


INPUTS: dict[str, Any] = {"Book": Booking, "Look up": Lookup, "Search": str}


def schema_of(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


@pytest.fixture(scope="module")
def chat(model_folder: Path) -> ChatHuggingFace:
    options = {"max_new_tokens": 900, "do_sample": True, "temperature": 1.2}
    return ChatHuggingFace.from_model_id(str(model_folder), pipeline_kwargs=options)


def test_a_random_model_never_breaks_the_format(chat: ChatHuggingFace) -> None:
    grammar = react_json_grammar([(name, schema_of(kind)) for name, kind in INPUTS.items()], longest=24)
    actions = 0
    for seed in range(TURNS):
        text = str(chat.invoke(QUESTION, grammar=grammar, stop=["\nObservation"], seed=seed).content)
        assert text.startswith("Thought:")
        assert "\nObservation" not in text
        if "\nAction:" not in text:
            assert "\nFinal Answer:" in text
            continue
        block = text.rpartition("\nAction:\n```json\n")[2]
        call = json.loads(block.removesuffix("\n```"))
        assert set(call) == {"action", "action_input"}
        TypeAdapter(INPUTS[call["action"]]).validate_python(call["action_input"])
        actions += 1
    assert actions > TURNS // 10


def test_forced_tokens_are_not_decoded_one_by_one(chat: ChatHuggingFace) -> None:
    passes = []
    model = chat.llm.local.model
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        grammar = 'start: "Thought: I know.\\nFinal Answer: " /[0-9]{3}/ " exactly, and that is all there is to say."'
        reply = chat.invoke(QUESTION, grammar=grammar)
    finally:
        hook.remove()
    assert str(reply.content).endswith(" exactly, and that is all there is to say.")
    assert reply.usage_metadata is not None
    assert len(passes) <= 4 < reply.usage_metadata["output_tokens"]  # the prompt, and each of the three free digits


def test_grammar_and_stop_together_and_a_grammar_of_its_own_for_every_row(chat: ChatHuggingFace) -> None:
    grammars = [f'start: "row {n} " /[a-z]{{5,9}}/ " END"' for n in range(4)]
    texts = [
        str(m.content)
        for m in chat.batch([QUESTION] * 4, config={"max_concurrency": 4}, stop=[" END"], grammar=grammars[0])
    ]
    assert all(text.startswith("row 0 ") and "END" not in text for text in texts)
    for n, grammar in enumerate(grammars):
        assert str(chat.invoke(QUESTION, grammar=grammar).content).startswith(f"row {n} ")


def test_a_reply_short_of_room_still_ends_well(chat: ChatHuggingFace) -> None:
    wanted = {"type": "object", "properties": {"text": {"type": "string"}, "numbers": {"type": "array"}}}
    asked = chat.with_structured_output({"title": "Wanted", **wanted, "required": ["text", "numbers"]})
    for seed in range(10):
        answer = asked.invoke(QUESTION, max_new_tokens=60, seed=seed)
        assert set(answer) == {"text", "numbers"}


def test_a_grammar_that_is_none_is_refused(chat: ChatHuggingFace) -> None:
    from agentkit.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="expected a grammar"):
        chat.invoke(QUESTION, grammar="start: nowhere")
