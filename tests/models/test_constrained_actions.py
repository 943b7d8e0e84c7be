"""Grammar-constrained turns: however wild the model, every action is one that can be run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, ConfigDict, Field

from agentkit import AgentExecutor
from agentkit.events import FinalAnswer
from agentkit.models import ChatHuggingFace
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.parser import parse_turn

TURNS = 200
QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Passenger(Strict):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    seat: str | None = Field(default=None, pattern=r"^[A-F][1-9]$")


class Booking(Strict):
    flight: str = Field(pattern=r"^[A-Z]{2}[0-9]{3}$")
    passengers: list[Passenger] = Field(min_length=1, max_length=2)
    cabin: Literal["economy", "business"] = "economy"
    extras: dict[str, bool] = Field(default_factory=dict, max_length=2)


class Lookup(Strict):
    kind: Literal["city", "river", 3]
    limit: int = Field(default=3, ge=1, le=5)
    near: tuple[float, float] | None = None
    tags: list[Literal["old", "big"]] = Field(default_factory=list, max_length=3)


class Condition(Strict):
    field: str = Field(max_length=8)
    equals: bool | int | None = None
    both: list[Condition] = Field(default_factory=list, max_length=2)


SCHEMAS: dict[str, dict[str, Any]] = {
    "Book": Booking.model_json_schema(),
    "Look up": Lookup.model_json_schema(),
    "Filter": Condition.model_json_schema(),
    "Search": {"type": "string"},
}


@pytest.fixture(scope="module")
def chat(model_folder: Path) -> ChatHuggingFace:
    options = {"max_new_tokens": 900, "do_sample": True, "temperature": 1.2}
    return ChatHuggingFace.from_model_id(str(model_folder), pipeline_kwargs=options)


def test_the_schemas_are_of_every_kind() -> None:
    text = json.dumps(SCHEMAS)
    for word in ("$defs", "$ref", "enum", "array", "anyOf", "prefixItems", "default", "pattern", "maxItems"):
        assert f'"{word}"' in text


@pytest.mark.slow
def test_a_random_model_never_breaks_the_format(chat: ChatHuggingFace) -> None:
    """0 of 200 turns fail to parse, name an unknown tool, or break a schema (checked by jsonschema)."""
    grammar = react_json_grammar(list(SCHEMAS.items()), longest=24)
    called = []

    def turn(seed: int) -> str:
        return str(chat.invoke(QUESTION, grammar=grammar, stop=["\nObservation"], seed=seed).content)

    with ThreadPoolExecutor(8) as pool:
        for text in pool.map(turn, range(TURNS)):
            decision = parse_turn(text).decision  # raises what the loop would have to tell the model
            assert text.startswith("Thought:")
            assert "\nObservation" not in text
            if isinstance(decision, FinalAnswer):
                continue
            jsonschema.Draft202012Validator(SCHEMAS[decision.tool]).validate(decision.tool_input)
            called.append(decision.tool)
    assert set(called) == set(SCHEMAS)
    assert len(called) > TURNS // 10


@pytest.mark.slow
def test_an_agent_of_a_random_model_only_ever_runs_its_tools(chat: ChatHuggingFace) -> None:
    ran: list[str] = []

    def tool(name: str, schema: dict[str, Any]) -> StructuredTool:
        return StructuredTool.from_function(
            lambda **given: ran.append(name) or "done", name=name, description=name, args_schema=schema
        )

    tools = [tool(name, schema) for name, schema in SCHEMAS.items() if name != "Search"]
    llm = chat.model_copy(update={"max_tokens": 200})
    executor = AgentExecutor.from_model(llm, tools, max_iterations=3, max_repeats=None, return_run=True)
    runs = [executor.invoke(f"question {n}")["run"] for n in range(6)]
    assert sum(run["parse_errors"] for run in runs) == 0
    assert sum(run["tools_executed"] for run in runs) == len(ran)
    assert ran


@pytest.mark.slow
def test_an_observation_cannot_be_written(chat: ChatHuggingFace) -> None:
    """Not even by a model that wants nothing else."""
    import torch

    tokenizer = chat.llm.local.tokenizer
    wanted = tokenizer("\nObservation: 42\n", add_special_tokens=False)["input_ids"]

    def insist(_: Any, arguments: Any, output: Any) -> Any:
        favour = torch.zeros_like(output.logits)
        favour[..., wanted] = 60.0
        output.logits = output.logits + favour
        return output

    hook = chat.llm.local.model.register_forward_hook(insist)
    try:
        grammar = react_json_grammar(list(SCHEMAS.items()), longest=80)
        texts = [str(chat.invoke(QUESTION, grammar=grammar, seed=seed).content) for seed in range(10)]
    finally:
        hook.remove()
    assert any("Observation" in text for text in texts)
    assert not any("\nObservation" in text for text in texts)


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


def test_forced_tokens_of_rows_decoded_together_are_not_decoded_one_by_one(chat: ChatHuggingFace) -> None:
    passes: list[int] = []
    hook = chat.llm.local.model.register_forward_hook(lambda *_: passes.append(1))
    grammar = 'start: "Thought: I know.\\nFinal Answer: " /[0-9]{3}/ " exactly, and that is all there is to say."'
    try:
        replies = chat.batch([QUESTION] * 4, {"max_concurrency": 4}, grammar=grammar)
    finally:
        hook.remove()
    assert all(str(reply.content).endswith(" exactly, and that is all there is to say.") for reply in replies)
    assert len(passes) <= 4 * 4 < min(reply.usage_metadata["output_tokens"] for reply in replies)


def test_every_row_has_its_own_grammar_and_stop(chat: ChatHuggingFace) -> None:
    rows = [{"grammar": f'start: "row {n} " /[a-z]{{5,{9 + 9 * n}}}/ " END{n} over"', "n": n} for n in range(4)]
    ask = RunnableLambda(
        lambda row: chat.invoke(QUESTION, grammar=row["grammar"], stop=[f" END{row['n']}"], do_sample=False).content
    )
    alone = [ask.invoke(row) for row in rows]
    assert ask.batch(rows, {"max_concurrency": 4}) == alone
    assert all(text.startswith(f"row {n} ") and "END" not in text for n, text in enumerate(alone))


@pytest.mark.slow
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
