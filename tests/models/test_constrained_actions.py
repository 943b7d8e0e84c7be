"""Grammar-constrained turns: however wild the model, every action is one that can be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import jsonschema
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, ConfigDict, Field

from agentkit import AgentExecutor
from agentkit.errors import ConfigurationError
from agentkit.events import FinalAnswer
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.call_grammar import format_grammar, tool_grammar
from agentkit.models.local.constraint import repeats
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.marks import HERMES, TABLE, CallSyntax, Pairs, Tags
from agentkit.react_json.parser import parse_turn

from .conftest import build_llama, build_tokenizer

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
def chat() -> ChatHuggingFace:
    options = {"max_new_tokens": 900, "do_sample": True, "temperature": 1.2}
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer, max_position_embeddings=4096)  # room for the tools and three turns
    return ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs=options))


def test_the_schemas_are_of_every_kind() -> None:
    text = json.dumps(SCHEMAS)
    for word in ("$defs", "$ref", "enum", "array", "anyOf", "prefixItems", "default", "pattern", "maxItems"):
        assert f'"{word}"' in text


@pytest.mark.slow
def test_a_random_model_never_breaks_the_format(chat: ChatHuggingFace) -> None:
    """0 of 200 turns fail to parse, name an unknown tool, break a schema (checked by jsonschema) or give no input."""
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
            assert decision.tool != "Search" or str(decision.tool_input).strip()
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


def insisting(chat: ChatHuggingFace, text: str) -> Any:
    """A block in which the model wants nothing but this text."""
    import torch

    wanted = chat.llm.local.tokenizer(text, add_special_tokens=False)["input_ids"]

    def insist(_: Any, arguments: Any, output: Any) -> Any:
        favour = torch.zeros_like(output.logits)
        favour[..., wanted] = 60.0
        output.logits = output.logits + favour
        return output

    return chat.llm.local.model.register_forward_hook(insist)


@pytest.mark.parametrize(
    ("tokens", "is_one"),
    [
        ([7] * 23, False),
        ([7] * 24, True),
        ([1, *[7] * 24], True),
        ([*[7] * 24, 1], False),
        ([*range(10)] * 3, True),
        ([0, *[*range(10)] * 3], True),
        ([*range(10)] * 2 + [*range(9)], False),
        ([*range(16)] * 3, True),
        ([*range(60)], False),
        ([], False),
    ],
)
def test_what_a_repetition_is(tokens: list[int], is_one: bool) -> None:
    assert repeats(tokens) is is_one


@pytest.mark.slow
def test_a_thought_that_goes_in_circles_ends(chat: ChatHuggingFace) -> None:
    with insisting(chat, "a"):
        grammar = react_json_grammar([("Search", {"type": "string"})])
        reply = str(chat.invoke(QUESTION, grammar=grammar, max_new_tokens=300, do_sample=False).content)
    thought, _, _ = reply.partition("\n")
    assert 24 <= thought.count("a") < 48
    parse_turn(reply)


LABELS = ["Action: x", "\nFinal Answer: y", "\n**Acción:** z", "\n```json", "\n- Observation: 1", "<think>", "</think>"]


@pytest.mark.slow
@pytest.mark.parametrize("text", LABELS)
def test_no_other_part_of_a_turn_stands_in_an_answer(chat: ChatHuggingFace, text: str) -> None:
    with insisting(chat, text):
        grammar = react_json_grammar([("Search", {"type": "string"})], longest=200)
        replies = [str(chat.invoke(QUESTION, grammar=grammar, max_new_tokens=120, seed=n).content) for n in range(6)]
    for reply in replies:
        decision = parse_turn(reply, {"Search": {"type": "string"}}).decision
        if isinstance(decision, FinalAnswer):
            assert decision.output == reply.split("Final Answer:", 1)[1].strip()


@pytest.mark.slow
def test_an_observation_cannot_be_written(chat: ChatHuggingFace) -> None:
    """Not even by a model that wants nothing else."""
    with insisting(chat, "\nObservation: 42\n"):
        grammar = react_json_grammar(list(SCHEMAS.items()), longest=80)
        texts = [str(chat.invoke(QUESTION, grammar=grammar, seed=seed).content) for seed in range(10)]
    assert any("Observation" in text for text in texts)
    assert not any("\nObservation" in text for text in texts)


FORCED = 'start: "Thought: I know.\\nFinal Answer: " /[0-9]{3}/ " exactly, and that is all there is to say."'


def test_forced_tokens_are_not_decoded_one_by_one(chat: ChatHuggingFace) -> None:
    passes: list[int] = []
    with chat.llm.local.model.register_forward_hook(lambda *_: passes.append(1)):
        reply = chat.invoke(QUESTION, grammar=FORCED)
    assert str(reply.content).endswith(" exactly, and that is all there is to say.")
    assert reply.usage_metadata is not None
    assert len(passes) <= 4 < reply.usage_metadata["output_tokens"]  # the prompt, and each of the three free digits


def test_forced_tokens_of_rows_decoded_together_are_not_decoded_one_by_one(chat: ChatHuggingFace) -> None:
    passes: list[int] = []
    with chat.llm.local.model.register_forward_hook(lambda *_: passes.append(1)):
        replies = chat.batch([QUESTION] * 4, {"max_concurrency": 4}, grammar=FORCED)
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


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


NAMES = [f"field{number}" for number in range(3000)]
TOO_MUCH = {  # each ended the process, or was a RecursionError
    "fields": {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}},
    "required": {"type": "object", "properties": {}, "additionalProperties": True, "required": NAMES},
    "levels": _nested(2000),
}
STYLES = [HERMES, *(next(each for each in TABLE.calls if isinstance(each.arguments, kind)) for kind in (Tags, Pairs))]


@pytest.mark.parametrize("schema", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_schema_that_no_grammar_can_be_made_of_is_one_line(schema: dict[str, Any]) -> None:
    named = {"type": "function", "function": {"name": "get", "parameters": schema}}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    makers: list[Callable[[], object]] = [
        lambda: react_json_grammar([("get", schema)]),
        lambda: format_grammar(wanted),
        *(partial(tool_grammar, [named], "get", syntax=syntax, special={}) for syntax in STYLES),
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match=r"\ANo grammar can hold a reply to .* of more than"):
            make()


@pytest.mark.parametrize("syntax", STYLES, ids=["json", "tags", "pairs"])
def test_a_string_may_be_none_of_its_values(syntax: CallSyntax) -> None:
    parameters = {"type": "object", "properties": {"q": {"type": "string", "enum": [1, None, "a"]}}}
    named = {"type": "function", "function": {"name": "get", "parameters": parameters}}
    assert tool_grammar([named], "get", syntax=syntax, special={})


def test_a_grammar_that_is_none_is_refused(chat: ChatHuggingFace) -> None:
    with pytest.raises(ConfigurationError, match="expected a grammar"):
        chat.invoke(QUESTION, grammar="start: nowhere")
