"""Grammars under llama.cpp: however wild the model, a turn is one that is read, and a call fits its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agentkit.errors import ConfigurationError
from agentkit.events import FinalAnswer
from agentkit.models.backend import ChatRequest, Completion
from agentkit.models.chat import BackendChat
from agentkit.models.gguf.backend import GgufBackend
from agentkit.models.gguf.reply import Reply
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.parser import parse_turn

from .conftest import write_model

QUESTION = ({"role": "user", "content": "What is 25 raised to the 0.43 power?"},)
WILD = {"temperature": 3.0, "top_k": 0}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Search": {"type": "string"},
    "Book": {
        "type": "object",
        "properties": {
            "flight": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"},
            "seats": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 99}, "maxItems": 3},
            "cabin": {"enum": ["economy", "business"]},
        },
        "required": ["flight", "cabin"],
        "additionalProperties": False,
    },
    "Filter": {
        "type": "object",
        "properties": {"field": {"type": "string", "maxLength": 8}, "equals": {"type": ["boolean", "integer", "null"]}},
        "required": ["field"],
        "additionalProperties": False,
    },
}


def completion(backend: GgufBackend, **fields: Any) -> Completion:
    *_, whole = BackendChat(backend).complete(ChatRequest(**{"messages": QUESTION, **fields}))
    assert isinstance(whole, Completion)
    return whole


def tools(schemas: dict[str, dict[str, Any]] = SCHEMAS) -> list[dict[str, Any]]:
    """The tools as OpenAI's schemas; one that is a text has it as its only argument."""
    text = {"type": "object", "properties": {"text": {"type": "string", "maxLength": 9}}, "required": ["text"]}
    parameters = {name: text if schema["type"] == "string" else schema for name, schema in schemas.items()}
    return [{"type": "function", "function": {"name": name, "parameters": each}} for name, each in parameters.items()]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [400, 300, 240], ids="{} tokens".format)
def test_a_random_model_never_breaks_the_format(backend: GgufBackend, limit: int) -> None:
    """Of 34 turns each, none fails to parse, names an unknown tool, breaks a schema or gives no input."""
    grammar = react_json_grammar(list(SCHEMAS.items()), longest=24)
    called = []

    def turn(seed: int) -> str:
        return completion(backend, grammar=grammar, options={**WILD, "seed": seed, "max_new_tokens": limit}).text

    with ThreadPoolExecutor(4) as pool:
        for text in pool.map(turn, range(34)):
            decision = parse_turn(text).decision  # raises what the loop would have to tell the model
            assert text.startswith("Thought:")
            if isinstance(decision, FinalAnswer):
                continue
            jsonschema.Draft202012Validator(SCHEMAS[decision.tool]).validate(decision.tool_input)
            assert decision.tool != "Search" or str(decision.tool_input).strip()
            called.append(decision.tool)
    assert len(called) > 5


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["auto", "any"])
def test_native_calls_fit_their_schemas(backend: GgufBackend, choice: str) -> None:
    """Read by the reader of replies, which knows nothing of grammars."""
    parameters = {each["function"]["name"]: each["function"]["parameters"] for each in tools()}
    calls = []
    for seed in range(20):
        options = {**WILD, "seed": seed, "max_new_tokens": 200}
        reply = completion(backend, tools=tools(), tool_choice=choice, options=options)
        assert reply.tool_calls or choice == "auto"
        for call in reply.tool_calls:
            jsonschema.Draft202012Validator(parameters[call.name]).validate(json.loads(call.arguments))
            calls.append(call.name)
    assert choice == "auto" or {*calls} == {*parameters}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Book", "Filter"])
def test_typed_answers(backend: GgufBackend, name: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMAS[name]}}
    for seed in range(10):
        options = {**WILD, "seed": seed, "max_new_tokens": 200}
        text = completion(backend, response_format=wanted, options=options).text
        jsonschema.Draft202012Validator(SCHEMAS[name]).validate(json.loads(text))


@pytest.mark.slow
def test_a_grammar_that_llama_cpp_reads_otherwise_is_held_all_the_same(
    backend: GgufBackend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its own llguidance may be older: what it cannot read it leaves out, with a word to its standard error alone."""
    monkeypatch.setattr(Reply, "_for_llama", lambda *_: "%llguidance {}\nstart: nothing_of_this_name")
    grammar = react_json_grammar(list(SCHEMAS.items()), longest=24)
    for seed in range(5):
        text = completion(backend, grammar=grammar, options={**WILD, "seed": seed, "max_new_tokens": 150}).text
        parse_turn(text)
    assert capfd.readouterr() == ("", "")


def test_a_grammar_that_is_none(backend: GgufBackend, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match=r'grammar llguidance can follow, saw: .*unknown name: "nothing"'):
        completion(backend, grammar="start: nothing")
    assert capfd.readouterr() == ("", "")


def test_a_reply_ends_with_its_grammar(backend: GgufBackend) -> None:
    reply = completion(backend, grammar='start: "Answer: " /[0-9]{3}/')
    assert reply.text.startswith("Answer: ")
    assert (reply.text[8:].isdecimal(), len(reply.text), reply.finish_reason) == (True, 11, "stop")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufBackend]:
    """A model that thinks, whose tags are tokens that text can spell, as those of most models are."""
    file = tmp_path_factory.mktemp("gguf") / "thinker.gguf"
    made = GgufBackend(write_model(file, others=["<think>", "</think>"]))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "thinks"), [(None, True), (5, True), (0, False)])
def test_a_thought_comes_before_what_a_grammar_holds(thinker: GgufBackend, limit: int | None, thinks: bool) -> None:
    """And has so many tokens at most, and ends where the room does."""
    options = {**WILD, "max_new_tokens": 120, "max_thinking_tokens": limit}
    replies = [
        completion(thinker, grammar='start: "Answer: " /[0-9]{3}/', options={**options, "seed": seed})
        for seed in range(12)
    ]
    for reply in replies:
        assert reply.text.strip()[:8] == "Answer: "
        assert reply.text.strip()[8:].isdecimal()
        assert limit is None or len(reply.thinking) <= limit + 1
    assert any(reply.thinking for reply in replies) or not thinks


HERMES = """{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}
{{ '<|im_end|>\n' }}{% endif %}
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}
{% for call in message.tool_calls or [] %}
{{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{ '}\n</tool_call>' }}
{% endfor %}
{{ '<|im_end|>\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


@pytest.mark.slow
@pytest.mark.parametrize("can_be_spelled", [True, False])
def test_calls_whose_marks_are_tokens(tmp_path: Path, can_be_spelled: bool) -> None:
    """As in the files of models that think and call tools: the marks are of either kind, and come out as text."""
    marks = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
    of_a_kind = {"others" if can_be_spelled else "special": marks}
    made = GgufBackend(write_model(tmp_path / "hermes.gguf", template=HERMES, context=4096, **of_a_kind))
    assert (made.capabilities.call_syntax or Any).opening.strip().startswith("<tool_call>")
    parameters = {each["function"]["name"]: each["function"]["parameters"] for each in tools()}
    thoughts = 0
    for seed in range(10):
        options = {**WILD, "seed": seed, "max_new_tokens": 300}
        reply = completion(made, tools=tools(), tool_choice="any", options=options)
        (call,) = reply.tool_calls
        jsonschema.Draft202012Validator(parameters[call.name]).validate(json.loads(call.arguments))
        thoughts += bool(reply.thinking)
    assert thoughts
    made.close()


def test_special_tokens_are_none_of_a_text(tmp_path: Path, backend: GgufBackend) -> None:
    assert backend.capabilities.special_tokens == {"<s>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<pad>": 3}
