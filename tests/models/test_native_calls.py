"""Tool calls in the syntax of the model's own template: learned, enforced, streamed, read, and written back."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import Capabilities
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.encoding import SEAM
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.marks import HERMES, CallSyntax, Tags

from .call_templates import MARKUP, OTHERS, TEMPLATES
from .conftest import build_llama, build_tokenizer, read_reply

ADD = {
    "type": "function",
    "function": {
        "name": "add_up",
        "description": "Add",
        "parameters": {
            "type": "object",
            "properties": {"terms": {"type": "array", "items": {"$ref": "#/$defs/term"}, "maxItems": 3}},
            "required": ["terms"],
            "$defs": {"term": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        },
    },
}
NOW = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object"}}}
TOOLS = [ADD, NOW]
QUESTION = [HumanMessage("How much is that?")]
LEARNED = {
    "qwen": HERMES,
    "llama": CallSyntax('{"name": "', '", "parameters": ', None, "}"),
    "mistral": CallSyntax(
        '[TOOL_CALLS] [{"name": "',
        '", "arguments": ',
        ', "id": "call00000"}, {"name": "',
        ', "id": "call00000"}]',
    ),
    "mistral args": CallSyntax("[TOOL_CALLS]", "[ARGS]", "[TOOL_CALLS]", ""),
    "deepseek": CallSyntax(
        "<|calls|><|call|>function<|sep|>",
        "\n```json\n",
        "\n```<|call_end|>\n<|call|>function<|sep|>",
        "\n```<|call_end|><|calls_end|>",
    ),
    "xml": CallSyntax(
        "<tool_call>\n<function=",
        ">\n",
        "</function>\n</tool_call><tool_call>\n<function=",
        "</function>\n</tool_call>",
        Tags("<parameter=", ">\n", "\n</parameter>\n", is_python=True),
    ),
    "plain": None,
}
NATIVE = [family for family, syntax in LEARNED.items() if syntax]


def tokenizer_of(family: str) -> Any:
    tokenizer = build_tokenizer()
    ends = "</s>" if "</s>" in MARKUP[family] else "<|eot|>" if family == "llama" else "<|im_end|>"
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKUP[family])})
    tokenizer.eos_token = ends
    tokenizer.chat_template = TEMPLATES[family]
    return tokenizer


@pytest.fixture(scope="module")
def models() -> dict[str, ChatHuggingFace]:
    made = {}
    for family in TEMPLATES:
        tokenizer = tokenizer_of(family)
        options = {"max_new_tokens": 250, "do_sample": True, "temperature": 1.1}
        llm = HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer, pipeline_kwargs=options)
        made[family] = ChatHuggingFace(llm=llm)
    return made


@pytest.mark.parametrize("family", LEARNED)
def test_the_syntax_is_learned_from_the_template(family: str) -> None:
    template = ChatTemplate(tokenizer_of(family))
    assert template.native_calls == LEARNED[family]
    assert template.call_syntax == (LEARNED[family] or HERMES)


UNKNOWN = ("an error", "a field that is not there", "tags of the tool's name", "lines of pairs")


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_to_write_calls_are_learned_or_left_alone(name: str) -> None:
    """Whatever is learned is read as it was written; a template that is wrong for calls gets them in words."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = OTHERS[name]
    template = ChatTemplate(tokenizer)
    assert (template.native_calls is None) == (name in UNKNOWN)
    message = {"role": "assistant", "content": "", "tool_calls": []}
    for number, (called, arguments) in enumerate(CALLS):
        function = {"name": called, "arguments": json.dumps(arguments)}
        message["tool_calls"] += [{"id": f"call{number:05}", "type": "function", "function": function}]
    result = {"role": "tool", "tool_call_id": "call00000", "content": "RESULT"}
    prompt, _, _ = template.accepted([{"role": "user", "content": "QUESTION"}, message, result], TOOLS)
    reply = prompt[
        prompt.index("assistant\n") + len("assistant\n") : prompt.rindex("<|im_start|>", 0, prompt.index("RESULT"))
    ]
    _, _, calls = read_reply([reply.replace(SEAM, "")], template.call_syntax, TOOLS)
    assert [(called, json.loads(arguments)) for called, arguments in calls] == CALLS


CALLS: list[tuple[str, dict[str, Any]]] = [("add_up", {"terms": [{"n": 1}, {"n": -2}]}), ("now", {"zone": 'a "}{\\'})]


@pytest.mark.parametrize("family", NATIVE)
@given(lengths=st.lists(st.integers(1, 9), max_size=40), said=st.sampled_from(["", "Let me see. "]))
def test_calls_are_read_as_they_come(family: str, lengths: list[int], said: str) -> None:
    syntax = LEARNED[family]
    assert syntax
    calls = CALLS if syntax.between else CALLS[:1]
    said = said if syntax.trigger else ""
    text, ends = said + syntax.write(*calls), [*accumulate(lengths)]
    pieces = [text[start:end] for start, end in pairwise([0, *ends, None])]
    _, answer, read = read_reply(pieces, syntax, TOOLS)
    assert [(name, json.loads(arguments)) for name, arguments in read] == calls
    assert answer == said


@pytest.mark.slow
@pytest.mark.parametrize("family", TEMPLATES)
def test_a_random_model_calls_well(family: str, models: dict[str, ChatHuggingFace]) -> None:
    model = models[family]
    for seed in range(5):
        reply = model.bind_tools(TOOLS, tool_choice="any").invoke(QUESTION, seed=seed)
        (call,) = reply.tool_calls
        assert reply.content == ""
        assert reply.invalid_tool_calls == []
        assert reply.response_metadata["finish_reason"] == "tool_calls"
        if call["name"] == "add_up":
            assert all(isinstance(term["n"], int) for term in call["args"]["terms"])
        named = model.bind_tools(TOOLS, tool_choice="add_up").invoke(QUESTION, seed=seed)
        assert [call["name"] for call in named.tool_calls] == ["add_up"]
    silent = model.bind_tools(TOOLS, tool_choice="none").invoke(QUESTION, seed=1)
    assert silent.tool_calls == []
    with pytest.raises(ConfigurationError, match="one of add_up, now"):
        model.bind_tools(TOOLS, tool_choice="subtract").invoke(QUESTION)


@pytest.mark.parametrize("family", TEMPLATES)
def test_calls_stream(family: str, models: dict[str, ChatHuggingFace]) -> None:
    chunks = list(models[family].bind_tools([ADD], tool_choice="add_up").stream(QUESTION, seed=3))
    pieces = [piece for chunk in chunks if isinstance(chunk, AIMessageChunk) for piece in chunk.tool_call_chunks]
    syntax = LEARNED[family] or HERMES
    assert len(pieces) > 3 or syntax.arguments is not None  # as JSON they are passed on as they come
    assert pieces[0]["name"] == "add_up"
    assert not any(piece["name"] or piece["id"] for piece in pieces[1:])
    json.loads("".join(piece["args"] or "" for piece in pieces))


@pytest.mark.slow
@pytest.mark.parametrize("family", TEMPLATES)
def test_left_to_the_model_it_may_say_or_call(family: str, models: dict[str, ChatHuggingFace]) -> None:
    model, syntax = models[family].bind_tools(TOOLS), LEARNED[family] or HERMES
    for seed in range(4):
        reply = model.invoke(QUESTION, seed=seed, max_new_tokens=60)
        assert syntax.trigger == "" or syntax.trigger not in str(reply.content)
        assert all(call["name"] in ("add_up", "now") for call in reply.tool_calls)


RESULTS = [
    *QUESTION,
    AIMessage("", tool_calls=[{"name": "add_up", "args": {"terms": []}, "id": "call_longer_than_nine"}]),
    ToolMessage('forty-two\n"exactly"', tool_call_id="call_longer_than_nine"),
]


@pytest.mark.parametrize("family", NATIVE)
def test_results_go_back_in_the_models_own_way(family: str, models: dict[str, ChatHuggingFace]) -> None:
    prompt = models[family]._to_chat_prompt(RESULTS)
    syntax = LEARNED[family]
    assert syntax
    assert f"{syntax.opening}add_up{syntax.middle}" in prompt
    assert "forty-two" in prompt
    assert "Observation" not in prompt
    assert models[family].bind_tools(TOOLS).invoke(RESULTS, max_new_tokens=4).usage_metadata


@pytest.mark.parametrize("family", TEMPLATES)
def test_special_tokens_in_tools_calls_and_results_stay_text(family: str, models: dict[str, ChatHuggingFace]) -> None:
    local = models[family].llm.local
    special = set(local.tokenizer.all_special_ids)

    def count(text: str) -> int:
        tool = {"type": "function", "function": {**ADD["function"], "description": f"Adds {text}"}}
        call = {"name": "add_up", "arguments": json.dumps({"terms": text})}
        messages = [
            {"role": "user", "content": f"Sum {text}"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": call}]},
            {"role": "tool", "content": text, "tool_call_id": "1"},
        ]
        ids = local.prompts.encode(local.template.render(messages, tools=[tool]))
        return sum(token in special for token in ids)

    assert count("".join(local.tokenizer.all_special_tokens)) == count("harmless")


def test_what_no_template_shows_is_said_in_words(models: dict[str, ChatHuggingFace]) -> None:
    prompt = models["plain"].llm.local.template.render([{"role": "user", "content": "hi"}], tools=TOOLS)
    assert "To call one, write\n<tool_call>" in prompt


def test_one_call_where_no_more_are_wanted(models: dict[str, ChatHuggingFace]) -> None:
    bound = models["qwen"].bind_tools(TOOLS, parallel_tool_calls=False)
    for seed in range(4):
        assert len(bound.invoke(QUESTION, seed=seed, max_new_tokens=60).tool_calls) <= 1


def test_a_call_that_is_not_whole_at_the_limit_is_none_and_one_that_was_ended_there_says_so(
    models: dict[str, ChatHuggingFace],
) -> None:
    """The grammar ends it with values that the model did not choose: nobody would see that."""
    ended = set()
    for family, limit, seed in product(("qwen", "llama", "xml"), range(4, 84, 8), range(2)):
        model = models[family].bind_tools([ADD], tool_choice="any")
        reply = model.invoke("What is 3 plus 4?", max_new_tokens=limit, seed=seed)
        is_cut = reply.response_metadata["finish_reason"] == "length"
        assert len(reply.tool_calls) == (not is_cut)
        assert all(call["error"] for call in reply.invalid_tool_calls)
        ended.add("length" if is_cut else reply.response_metadata.get("ended_at_limit", False))
    assert ended >= {"length", True}


def test_a_call_cut_short_is_an_invalid_one(models: dict[str, ChatHuggingFace]) -> None:
    text = HERMES.write(CALLS[0])[:60]
    assert read_reply([text]) == ("", "", [("add_up", '{"terms": [{"n":')])


@pytest.mark.parametrize(
    ("text", "said", "names"),
    [
        ('<tool_call>\n{"arguments": {}, "name": "now"}\n</tool_call>', "", ["now"]),
        (
            '<tool_call>{"name":"now","arguments":{}}</tool_call><tool_call>{"arguments":{},"name":"b"}',
            "",
            ["now", "b"],
        ),
        ('{"name": "now", "parameters": {}}; {"name": "now", "parameters": {}}', "", ["now"] * 2),
        ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call> Done.', "Done.", ["now"]),
        ('<tool_call>\n{"name": "now", "arguments": {}}', "", ["now"]),
    ],
)
def test_calls_that_are_written_otherwise_are_read_too(text: str, said: str, names: list[str]) -> None:
    _, answer, calls = read_reply([text])
    assert (answer, [name for name, _ in calls]) == (said, names)


@pytest.mark.parametrize("in_process", [True, False])
def test_a_template_is_given_what_the_model_thought(in_process: bool) -> None:
    backend = ScriptedBackend(["4"], capabilities=Capabilities(tools=True, in_process=in_process))
    call = {"name": "now", "args": {}, "id": "call00000"}
    thinking = AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": "I look."})
    ChatHuggingFace(llm=backend).invoke([*QUESTION, thinking, ToolMessage("noon", tool_call_id="call00000")])
    assert backend.requests[0].messages[1].get("reasoning_content") == ("I look." if in_process else None)
