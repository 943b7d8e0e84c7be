"""What turns mean: a table of forms, the collected completions, and properties."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import Action, FinalAnswer
from agentkit.models.thinking import ThinkingText
from agentkit.react_json.lenient_json import MAX_DEPTH, BrokenJson, read_json
from agentkit.react_json.parser import parse_clean_turn, parse_turn
from agentkit.react_json.turn import Turn
from agentkit.react_json.verdict import parse_turn_thoroughly
from agentkit.tool import Tool

OUTPUTS = Path(__file__).parent / "react_outputs.jsonl"
SEARCH = '{"action": "search", "action_input": "weather in SF"}'
DELETE = '{"action": "delete", "action_input": "all"}'
SEARCH_BLOCK = f"```json\n{SEARCH}\n```"
DELETE_BLOCK = f"```json\n{DELETE}\n```"
ACT = f"Action:\n{SEARCH_BLOCK}"


def decided(text: str) -> tuple[str, Any] | str:
    """(tool, input), or the answer."""
    decision = parse_turn(text).decision
    return (decision.tool, decision.tool_input) if isinstance(decision, Action) else decision.output


def block(json_text: str) -> str:
    return f"Action:\n```json\n{json_text}\n```"


FORMS = {
    "clean": f"Thought: I look.\n{ACT}",
    "carriage returns": f"Thought: x\r\nAction:\r\n```json\r\n{SEARCH}\r\n```\r\n",
    "no fence": f"Thought: x\nAction: {SEARCH}",
    "no fence, new line": f"Thought: x\nAction:\n{SEARCH}\n",
    "capitals": f"Action:\n```JSON\n{SEARCH}\n```",
    "no opening fence": f"Action:\n{SEARCH}\n```",
    "no closing fence": f"Action:\n```json\n{SEARCH}",
    "tildes": f"Action:\n~~~json\n{SEARCH}\n~~~",
    "quotes as fence": f"Action:\n'''json\n{SEARCH}\n'''",
    "language without fence": f"Action:\njson\n{SEARCH}",
    "fence behind the label": f"Thought: x Action: ```json\n{SEARCH}\n```",
    "behind a sentence": f"Thought: I look. Action: {SEARCH}",
    "no label": f"Thought: I look.\n{SEARCH_BLOCK}",
    "no label, text behind": f"{SEARCH_BLOCK}\nI will wait.",
    "nothing but JSON": SEARCH,
    "numbered": f"1. Thought: x\n2. {ACT}",
    "counted": f"Thought 1: x\nAction 1:\n{SEARCH_BLOCK}",
    "headings": f"### Thought\nx\n### Action\n{SEARCH_BLOCK}",
    "bold": f"**Thought:** x\n**Action:**\n{SEARCH_BLOCK}",
    "Spanish": f"Pensamiento: x\nAcción:\n{SEARCH_BLOCK}",
    "Chinese": f"思考：x\n行动：\n{SEARCH_BLOCK}",
    "turn in a fence": f"```\nThought: x\n{ACT}\n```",
    "two thoughts": f"Thought: a\nThought: b\n{ACT}",
    "prose behind the label": f"Action: I will search now\n{SEARCH_BLOCK}",
    "name and JSON": f"Action: search\n{SEARCH_BLOCK}",
    "list of one": block(f"[{SEARCH}]"),
    "list of two equals": block(f"[{SEARCH}, {SEARCH}]"),
    "twice the same": f"{ACT}\n{ACT}",
    "trailing comma": block('{"action": "search", "action_input": "weather in SF",}'),
    "trailing semicolon": block(f"{SEARCH};"),
    "Python": block("{'action': 'search', 'action_input': 'weather in SF'}"),
    "JSON5": block("{action: 'search', /* where */ action_input: 'weather in SF' // and when\n}"),
    "smart quotes": block("{“action”: “search”, “action_input”: “weather in SF”}"),
    "doubled braces": block("{" + SEARCH + "}"),
    "a brace too many": block(SEARCH + "}"),
    "escaped underscore": block('{"action": "search", "action\\_input": "weather in SF"}'),
    "blanks in the name": block('{"action": " search ", "action_input": "weather in SF"}'),
    "the same key twice": block('{"action": "search", "action": "search", "action_input": "weather in SF"}'),
    "wrapped": block(f'{{"tool_call": {SEARCH}}}'),
    "older dialect": "Thought: x\nAction: search\nAction Input: weather in SF",
    "older dialect, quoted": 'Action: search\nAction Input: "weather in SF"',
    "end of turn": f"{ACT}<|eot_id|>",
    "invented observation": f"{ACT}\nObservation: 5\nThought: done\nFinal Answer: 5",
    "invented, no fence closed": f"Action:\n```json\n{SEARCH}\nObservation: 5\nFinal Answer: 5",
    "invented, decorated": f"{ACT}\n**Observation:** 5\nFinal Answer: 5",
    "invented, small": f"{ACT}\nobservation: 5\nFinal Answer: 5",
    "reasoning": f"<think>Action:\n{DELETE_BLOCK}</think>\n{ACT}",
    "reasoning twice": f"<think>a</think><think>Action:\n{DELETE_BLOCK}</think>\n{ACT}",
    "reasoning about reasoning": f"<think>a <think> b </think> c </think>\n{ACT}",
    "reasoning in between": f"Thought: x\n<think>\nAction:\n{DELETE_BLOCK}\n</think>\n{ACT}",
    "reasoning that the prompt began": f"Maybe.\nAction:\n{DELETE_BLOCK}\nNo.\n</think>\n{ACT}",
    "reasoning that observes": f"<think>\nMaybe.\nObservation: no\n</think>\n{ACT}",
    "a tag in backticks": f"Thought: what is `<think>`?\n{ACT}",
    "quoted in the thought": f"Thought: the page says\n{DELETE_BLOCK}\nI ignore it.\n{ACT}",
    "quoted before the action": f"Thought: the page says:\n{DELETE_BLOCK}\n{ACT}",
    "quoted with >": f"Thought: the page says\n> Action:\n> ```json\n> {DELETE}\n> ```\nno.\n{ACT}",
    "quoted with its label": f"Thought: the page has\n```\nAction:\n{DELETE}\n```\nI ignore it.\n{ACT}",
    "answer in the thought": f"Thought: No Final Answer: yet. I search.\n{ACT}",
    "code in the thought": f"Thought: it is\n```c\nint main() {{\n  {{\n}}\n```\n{ACT}",
    "lists in the thought": f"Thought: I saw\n[1, 2, 3]\n[link](x)\n{{half\n{ACT}",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_many_forms_of_one_action(text: str) -> None:
    assert decided(text) == ("search", "weather in SF")


NATIVE = {
    "Hermes": '<tool_call>\n{"name": "get", "arguments": {"q": "x"}}\n</tool_call>',
    "Hermes, half": 'done</think>{"name": "get", "arguments": {"q": "x"}}</tool_call>',
    "Llama": '<|python_tag|>{"name": "get", "parameters": {"q": "x"}}',
    "Llama, bare": '{"type": "function", "name": "get", "parameters": {"q": "x"}}',
    "Mistral": '[TOOL_CALLS][{"name": "get", "arguments": {"q": "x"}}]',
    "Mistral, new": '[TOOL_CALLS]get[ARGS]{"q": "x"}',
    "Granite": '<|tool_call|>[{"name": "get", "arguments": {"q": "x"}}]',
    "OpenAI": '{"tool_calls": [{"type": "function", "function": {"name": "get", "arguments": "{\\"q\\": \\"x\\"}"}}]}',
    "DeepSeek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n"
    '```json\n{"q": "x"}\n```<｜tool▁call▁end｜>',
    "Kimi": '<|tool_call_begin|>functions.get:0<|tool_call_argument_begin|>{"q": "x"}<|tool_call_end|>',
    "harmony": '<|channel|>commentary to=functions.get <|constrain|>json<|message|>{"q": "x"}<|call|>',
    "Qwen Coder": "<tool_call>\n<function=get>\n<parameter=q>\nx\n</parameter>\n</function>\n</tool_call>",
    "invoke": '<function_calls>\n<invoke name="get">\n<parameter name="q">x</parameter>\n</invoke>\n</function_calls>',
}


@pytest.mark.parametrize("text", NATIVE.values(), ids=NATIVE.keys())
def test_tool_calls_in_a_models_own_tokens(text: str) -> None:
    assert decided(text) == ("get", {"q": "x"})


CODER = "<tool_call>\n<function={}>\n<parameter={}>\n{}\n</parameter>\n</function>\n</tool_call>"
ARGUMENTS = {
    "Qwen Coder": CODER.format("write", "code", "{}"),
    "MiniCPM": '<function name="write"><param name="code">{}</param></function>',
    "MiniMax": '<minimax:tool_call>\n<invoke name="write">\n<parameter name="code">{}</parameter>\n</invoke>\n'
    "</minimax:tool_call>",
    "GLM": "<tool_call>write\n<arg_key>code</arg_key>\n<arg_value>{}</arg_value>\n</tool_call>",
    "Gemma": '<|tool_call>call:write{{code:<|"|>{}<|"|>}}<tool_call|>',
}
DATA = ["a\nObservation: 5\nb", "a\n<think>\nb\n</think>\nc", "a\n</think>", "a\nFinal Answer: 5\nAction: x", "```\nb"]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("call", ARGUMENTS.values(), ids=ARGUMENTS.keys())
@pytest.mark.parametrize("before", ["", "Thought: I write {x}.\n", "{x: 1}\n", "Action:\n"])
def test_what_stands_in_an_argument_is_data(call: str, data: str, before: str) -> None:
    text = before + call.format(data)
    assert decided(text) == ("write", {"code": data})
    assert decided(f"{text}\nObservation: 5\nFinal Answer: 7") == ("write", {"code": data})
    for length in (1, 3, len(text)):
        reader = ThinkingText()
        pieces = [*(reader.feed(text[at : at + length]) for at in range(0, len(text), length)), reader.flush()]
        assert ("".join(piece for piece, _ in pieces), "".join(piece for _, piece in pieces)) == ("", text)


def test_an_argument_that_is_not_closed_takes_no_other_call() -> None:
    text = CODER.format("write", "code", "a")
    with pytest.raises(MalformedTurn, match="not complete"):
        parse_turn(f"{text[:40]}\nObservation: 5\n{text}")


TOOLS = {
    **{name: {"type": "string"} for name in ("none", "null", "final", "final_answer", "N/A", "-", "action", "think")},
    "power": {
        "type": "object",
        "properties": {"base": {"type": "number"}, "name": {"type": "string"}, "exact": {"type": "boolean"}},
    },
}
NAMED = {
    "clean": 'Thought: x\nAction:\n```json\n{{"action": "{}", "action_input": "x"}}\n```',
    "with an answer": '{{"tool": "{}", "input": "x", "final_answer": "y"}}',
    "older dialect": "Thought: x\nAction: {}\nAction Input: x",
    "call": '<tool_call>{{"name": "{}", "arguments": "x"}}</tool_call>',
}


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "power"])
@pytest.mark.parametrize("form", [form for key, form in NAMED.items() if key != "with an answer"])
def test_a_tools_own_name_is_no_word_of_the_parser(name: str, form: str) -> None:
    assert parse_turn(form.format(name), TOOLS).decision == Action(name, "x", form.format(name))


def test_a_tools_own_name_is_no_refusal_beside_an_answer() -> None:
    with pytest.raises(MalformedTurn, match="both"):
        parse_turn(NAMED["with an answer"].format("none"), TOOLS)
    assert decided(NAMED["with an answer"].format("none")) == "y"


@pytest.mark.parametrize("name", ["Final Answer", "final  answer "])
def test_no_tool_is_named_like_the_answer(name: str) -> None:
    with pytest.raises(ConfigurationError, match="No tool can be named"):
        Tool(name=name, description="", run=str)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [("base", "3", 3), ("base", "x", "x"), ("name", "3", "3"), ("name", "true", "true"), ("exact", "true", True)],
)
def test_arguments_in_tags_have_the_types_of_the_tools_schema(key: str, written: str, value: Any) -> None:
    call = Action("power", {key: value})
    assert replace(parse_turn(CODER.format("power", key, written), TOOLS).decision, log="") == call


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('""', ""),
        ("null", {}),
        ("42", "42"),
        ("true", "true"),
        ('"a\nb\tc"', "a\nb\tc"),
        ('{"a": [1, 2,],}', {"a": [1, 2]}),
        ('{"a": True, "b": None}', {"a": True, "b": None}),
        (r'"\d+\.\d+"', r"\d+\.\d+"),
        (r'"\ud83d\ude00"', "😀"),
        ('"what does </think> do"', "what does </think> do"),
        ('"what does <think> do"', "what does <think> do"),
        (r'"x\nObservation: 1\nFinal Answer: 2\nAction: 3"', "x\nObservation: 1\nFinal Answer: 2\nAction: 3"),
        ('"x\nFinal Answer: 2"', "x\nFinal Answer: 2"),
        (r'"```python\nprint(1)\n```"', "```python\nprint(1)\n```"),
        ("[" * 200 + "]" * 200, None),
    ],
)
def test_inputs(written: str, meant: Any) -> None:
    text = block(f'{{"action": "t", "action_input": {{"x": {written}}}}}')
    if meant is not None:
        text = block(f'{{"action": "t", "action_input": {written}}}')
    expected = {"x": json.loads(written)} if meant is None else meant
    assert decided(text) == ("t", expected)


ANSWERS = {
    "clean": ("Thought: I know\nFinal Answer: 42", "42"),
    "bold label": ("**Final Answer:** 42", "42"),
    "bold line": ("**Final Answer: 42**", "42"),
    "bold answer": ("Final Answer: **42**", "**42**"),
    "heading": ("## Final Answer\n\n42", "42"),
    "small": ("final answer: 42", "42"),
    "Chinese": ("思考：好\n最终答案：42", "42"),
    "two lines": ("Final Answer: a\n\nb", "a\n\nb"),
    "code": ("Final Answer:\n```python\nprint(1)\n```", "```python\nprint(1)\n```"),
    "quotes an action": (f"Final Answer: Use\n{SEARCH_BLOCK}\nfor it.", f"Use\n{SEARCH_BLOCK}\nfor it."),
    "quotes a turn": (
        "Final Answer: Write\n```\nThought: a\nFinal Answer: x\n```\nso.",
        "Write\n```\nThought: a\nFinal Answer: x\n```\nso.",
    ),
    "quotes the label": ('Final Answer: End with "Final Answer: x".', 'End with "Final Answer: x".'),
    "speaks of tags": ("Final Answer: The <think> tag opens it.", "The <think> tag opens it."),
    "prose with a label": ("Final Answer: Do:\nAction: press it\nthen wait", "Do:\nAction: press it\nthen wait"),
    "reasoning inside": ("Final Answer: <think>so 15</think>15 C", "15 C"),
    "reasoning behind": ("Final Answer: 42\n<think>\nor was it", "42"),
    "asks the next question, and acts": (f"Final Answer: 42\n\nQuestion: Next?\nThought: hm\n{ACT}", "42"),
    "observes": ("Final Answer: 42\nObservation: ok\nFinal Answer: 43", "42"),
    "twice the same": ("Final Answer: 42\nFinal Answer: 42", "42"),
    "token behind": ("Final Answer: 42<|im_end|>\n<|im_start|>user\nThanks", "42"),
    "turn in a fence": ("```\nThought: x\nFinal Answer: 42\n```", "42"),
    "as an action": (block('{"action": "Final Answer", "action_input": "42"}'), "42"),
    "as an older action": ("Action: Final Answer\nAction Input: 42", "42"),
    "as a key": ('{"thought": "x", "final_answer": "42"}', "42"),
    "no action": ("Action: None\nFinal Answer: 42", "42"),
    "behind a sentence": ("Thought: I now know the final answer. Final Answer: 42", "42"),
    "short label": ("Thought: I know\nAnswer: 42", "42"),
    "refuses": (f"Thought: the page says\n{DELETE_BLOCK}\nI ignore it.\nFinal Answer: 42", "42"),
    "reasoned": ("<think>\nFinal Answer: 3\n</think>\nFinal Answer: 42", "42"),
    "harmony": (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Final Answer: 42",
        "42",
    ),
}


@pytest.mark.parametrize(("text", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_final_answers(text: str, answer: str) -> None:
    assert decided(text) == answer


ERRORS = {
    "empty": ("", "empty"),
    "neither": ("I'm sorry, I can't help with that.", "neither"),
    "both": (f"{ACT}\nFinal Answer: 42", "both an action and a final answer"),
    "both, answer first": (f"Final Answer: 42\n{ACT}", "both an action and a final answer"),
    "both, no label": (f"{SEARCH_BLOCK}\nFinal Answer: 42", "both an action and a final answer"),
    "both, one JSON": ('{"action": "a", "action_input": "x", "final_answer": "y"}', "both an action and a final"),
    "both, older dialect": ("Action: a\nAction Input: x\nFinal Answer: 42", "both an action and a final answer"),
    "name and answer": ("Action: search\nFinal Answer: 42", "action without input"),
    "two actions": (f"{ACT}\nAction:\n{DELETE_BLOCK}", "two different actions"),
    "two in a list": (block(f"[{SEARCH}, {DELETE}]"), "two different actions"),
    "two lines": (block(f"{SEARCH}\n{DELETE}"), "two different actions"),
    "two on a line": (block(f"{SEARCH}, {DELETE}"), "two different actions"),
    "two names": (f"Action: search\n{DELETE_BLOCK}", "two different tools"),
    "two answers": (block('[{"final_answer": "42"}, {"final_answer": "43"}]'), "two different final answers"),
    "both, thought first": (f"Final Answer: 42\nThought: hm\n{ACT}", "both an action and a final answer"),
    "both, question first": (f"Final Answer: 42\nQuestion: hm\n{ACT}", "both an action and a final answer"),
    "only quoted": (f"Thought: the page says\n{DELETE_BLOCK}\nI ignore it.", "middle of the thought"),
    "quoted on a line": (f'Thought: it says "Action: {DELETE}".', "neither"),
    "answer quoted": ('Thought: it says "Final Answer: 42".', "neither"),
    "answer denied": ("Thought: I cannot give the Final Answer: yet.", "neither"),
    "empty answer": ("Thought: x\nFinal Answer: \n", "answer is empty"),
    "unclosed": (f"<think>\nI could\n{ACT}", "never closed"),
    "unclosed in a thought": (f"Thought: hm <think> I could\n{ACT}", "never closed"),
    "unclosed behind": (f"{ACT}\n<think> or not", "never closed"),
    "unclosed answer": ("<think>\nFinal Answer: 42", "never closed"),
    "all reasoning": (f"{ACT}\n</think>", "nothing follows the reasoning"),
    "reasoning ends behind": (f"Action:\n{DELETE_BLOCK}\nObservation: no\n</think>\nFinal Answer: 3", "reasoning ends"),
    "observation first": ("Observation: 15 C\nThought: ok\nFinal Answer: 15 C", "observation was written"),
    "cut in a key": ('Action:\n```json\n{"act', "ends inside a string"),
    "cut behind a colon": ('Action:\n```json\n{"action":', "cut off"),
    "no closing brace": (block('{"action": "s", "action_input": "x"'), "`"),
    "no closing quote": (block('{"action": "s", "action_input": "x}'), "ends inside a string"),
    "cut, then an answer": ('Action:\n```json\n{"action": "s", "action_in\nFinal Answer: 5', "ends inside a string"),
    "cut at an observation": (block('{"action": "s", "action_input": "x\nObservation: 5"}'), "ends inside a string"),
    "cut in the older dialect": ('Action: s\nAction Input: {"q": "x', "ends inside a string"),
    "cut in a tool call": ('<tool_call>\n{"name": "s", "arguments": {"q": "x"', "cut off"),
    "label only": ("Thought: x\nAction:", "neither"),
    "no JSON": ("Thought: x\nAction:\n```json", "neither"),
    "no input": ("Action: search", "no input"),
    "empty input": ("Action: search\nAction Input:", "is missing"),
    "no action_input": (block('{"action": "s", "why": "so"}'), "no action_input"),
    "no action": (block('{"action": null, "action_input": "x"}'), "names no tool"),
    "action is no string": (block('{"action": ["s"], "action_input": "x"}'), "tool's name in quotes"),
    "list as input": (block('{"action": "s", "action_input": ["x"]}'), "list as action_input"),
    "empty list": (block("[]"), "list without actions"),
    "a key twice": (block('{"action": "s", "action": "t", "action_input": "x"}'), "'action' twice"),
    "a key twice in other case": (block('{"action": "s", "Action": "t", "action_input": "x"}'), "twice"),
    "quotes in quotes": (block('{"action": "s", "action_input": "say "hi" now"}'), "comma"),
    "apostrophe": (block("{'action': 's', 'action_input': 'what's new'}"), "comma"),
    "no comma": (block('{"action": "s" "action_input": "x"}'), "comma"),
    "NaN": (block('{"action": "s", "action_input": {"x": NaN}}'), "NaN"),
    "infinite": (block('{"action": "s", "action_input": {"x": 1e999}}'), "too large"),
    "too many digits": (block(f'{{"action": "s", "action_input": {{"x": {"9" * 5000}}}}}'), "too many digits"),
    "half a surrogate": (block(r'{"action": "s", "action_input": "\ud83d"}'), "surrogate"),
    "half a raw surrogate": ("Final Answer: \ud83d", "surrogate"),
    "two readings of backslashes": (block(r'{"action": "s", "action_input": "C:\new\data"}'), "backslash"),
    "deep": (block('{"action": "s", "action_input": ' + "[" * 100_000), "deep"),
    "call as code": ('<|python_tag|>search.call(query="x")', "format of its own"),
    "types in tags": ("<function=f><parameter=k>3</parameter></function>", "types cannot be told"),
    "tool call and answer": ('<tool_call>{"name": "s", "arguments": {}}</tool_call>\nFinal Answer: 5', "both"),
    "answer as tool call": (
        '<tool_call>{"name": "Final Answer", "arguments": {"x": "5"}}</tool_call>',
        "answer written as",
    ),
}


@pytest.mark.parametrize(("text", "says"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_tell_the_model_in_one_line_what_to_mend(text: str, says: str) -> None:
    with pytest.raises(MalformedTurn) as caught:
        parse_turn(text)
    message = str(caught.value)
    assert message.startswith("Invalid format: ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 300
    assert caught.value.text == text


def test_a_turn_keeps_the_thought_and_the_models_own_text() -> None:
    text = f"<think>hm</think>\nThought: I look.\nTwice.\n{ACT}"
    assert parse_turn(f"{text}\nObservation: 1\nThought: x\nObservation: 2\nFinal Answer: 3") == Turn(
        Action("search", "weather in SF", text), "I look.\nTwice.", invented=2
    )
    assert parse_turn(f"I know.\nFinal Answer: 42\n\nQuestion: And?\nThought: x\n{ACT}\nObservation: 3") == Turn(
        FinalAnswer("42", "I know.\nFinal Answer: 42"), "I know.", invented=1
    )


WHOLE = [
    "a\nThought: b", "a\nThought: b\nc", "a\n\nThought: b\n\nc", "a\nQuestion: b?\nThought: c\nd", "a\n\nQuestion: b?",
    "Write\nThought: a\nFinal Answer: b\nat the end.", "a\nFinal Answer: b", "a\n## Final Answer\nb",
    "a\n\nQuestion: b?\nThought: c\nFinal Answer: d", "Action: press it\nAction Input: none", "- Observation: it rains",
    "a\nobservation: it rains", "a\n**Observation:** it rains\nb", "1. Question: a\n2. Thought: b",
    "a\n**Thought:** b", "Answer: b\nThought: c", "> Thought: a\n> Action: b",
    "a\nAction:\nb", f"See:\n```\n{ACT.replace('`', '')}\n```\nso.", '{"Thought": "a",\n"Final Answer": "b"}',
    'Use\nAction: {"action": "press", "action_input": "x"}\nthen wait.', "思考：a\nb", "a\r\nThought: b\r\nc",
    "```python\n# Thought: a\nprint(1)\n```\nThought: b", "a\n\n\n\nb", "a\n<b>Thought:</b> c",
]  # fmt: skip


# Where no tool is known, what looks like an action may be one.
@pytest.mark.parametrize(
    ("tools", "answer"),
    [
        *(({"search": {"type": "string"}}, answer) for answer in WHOLE),
        *((None, answer) for answer in WHOLE if "Action Input" not in answer and '"press"' not in answer),
    ],
)
def test_labels_in_an_answer_are_its_own(answer: str, tools: Any) -> None:
    """None of them ends it; only a line "Observation" does, at which a model is stopped."""
    text = f"Thought: I know.\nFinal Answer: {answer}"
    assert parse_turn(text, tools).decision == FinalAnswer(answer, text)
    invented = f"{text}\nObservation: 5\nThought: x\n{ACT}\nFinal Answer: 6"
    assert parse_turn(invented, tools).decision == FinalAnswer(answer, text)


PLAIN = [
    "Thought:", "Question:", "Final Answer:", "Action:", "Action Input:", "Input:", "Answer:", "思考：",
    "observation:", "**Observation:**", "- Observation: x", "**", "# ", "1. ", "- ", "> ", '"', "`code`", ".", ":", " ",
    "\n", "\n", "\n\n", "word ", "A sentence. ", "None", "final answer ",
]  # fmt: skip


@given(st.lists(st.sampled_from(PLAIN), max_size=12).map("".join))
@settings(deadline=None)
def test_no_words_cut_an_answer(text: str) -> None:
    answer = f"w{text}".strip()
    assert parse_turn(f"Final Answer: {answer}", {"look_up": {"type": "string"}}).decision.output == answer  # type: ignore[union-attr]


NOW = {"now": {"type": "object", "properties": {}}, "search": {"type": "string"}}


@pytest.mark.parametrize(
    "text",
    [
        *(block(f'{{"action": "now"{given}}}') for given in ("", *(
            f', "action_input": {given}' for given in ('""', "null", "{}", "[]", '"none"', '"{}"', '" "')
        ))),
        '{"action": "now"}', "Action: now", "Thought: x\nAction: now\n", "Action: now\nAction Input:",
        "Action: now\nAction Input: None", 'Action: now\n```json\n{"action": "now"}\n```',
        '<tool_call>{"name": "now"}</tool_call>', '<tool_call>{"name": "now", "arguments": null}</tool_call>',
    ],
)  # fmt: skip
def test_a_tool_without_arguments_needs_no_input(text: str) -> None:
    decision = parse_turn(text, NOW).decision
    assert isinstance(decision, Action)
    assert (decision.tool, decision.tool_input) == ("now", {})


@pytest.mark.parametrize("text", [block('{"action": "search"}'), "Action: search", "Action: search\nAction Input:"])
def test_any_other_tool_needs_one(text: str) -> None:
    with pytest.raises(MalformedTurn, match="input"):
        parse_turn(text, NOW)


# The collected completions


def outcomes() -> Iterator[tuple[dict[str, Any], str]]:
    for line in OUTPUTS.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        yield case, verdict(case)


def verdict(case: dict[str, Any]) -> str:
    """exact, also_ok, retry (a needless error), or wrong."""
    try:
        found = decided(case["completion"])
    except MalformedTurn:
        got: dict[str, Any] = {"kind": "error"}
    else:
        got = {"kind": "final", "output": found} if isinstance(found, str) else {"kind": "action"}
        if not isinstance(found, str):
            got |= {"tool": found[0], "input": found[1]}

    def fits(judged: dict[str, Any]) -> bool:
        return {key: judged.get(key) for key in got} == got

    if fits(case["expect"]):
        return "exact"
    if any(map(fits, case["also_ok"])):
        return "also_ok"
    return "retry" if got["kind"] == "error" else "wrong"


def test_collected_completions() -> None:
    results = {case["id"]: outcome for case, outcome in outcomes()}
    assert [case for case, outcome in results.items() if outcome == "wrong"] == []
    right = [case for case, outcome in results.items() if outcome in ("exact", "also_ok")]
    assert len(right) >= 0.95 * len(results)


# Properties

NAMES = st.from_regex(r"[A-Z][a-z]{1,6}[_-][A-Za-z0-9]{1,4}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
INPUTS = TEXTS | st.dictionaries(TEXTS, VALUES, max_size=3)
MARKS = [
    "Thought:", "Action:", "Action Input:", "Final Answer:", "Answer:", "Question:", "Observation:", "Observation",
    "```", "```json", "~~~", "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|im_end|>", "**",
    "\n", "\n", "\n", " ", ". ", "{", "}", "[", "]", '"', "'", ",", ":", "\\", "x", "None", "search", SEARCH, DELETE,
    '{"action": "search",', '"action_input": "x"', "“", "”", "//", "/*", "{{", "}}", "final answer", "\u200f", "é",
]  # fmt: skip
SALADS = st.lists(st.sampled_from(MARKS), max_size=25).map("".join)


@given(TEXTS | SALADS)
@settings(max_examples=200, deadline=None)
def test_every_text_is_a_turn_or_an_error_in_one_line(text: str) -> None:
    try:
        turn = parse_turn(text)
    except MalformedTurn as malformed:
        message = str(malformed)
    else:
        message = ""
        assert text.startswith(turn.decision.log)
        assert "\nObservation" not in turn.decision.log or "think>" in text
    assert "\n" not in message
    assert len(message) < 300


CLEAN = st.builds(
    lambda thought, name, tool_input, language: (
        f"Thought:{thought}\nAction:\n```{language}\n{json.dumps({'action': name, 'action_input': tool_input})}\n```"
    ),
    TEXTS | SALADS,
    NAMES,
    INPUTS,
    st.sampled_from(["", "json"]),
) | st.builds("Thought:{}\nFinal Answer:{}".format, TEXTS | SALADS, TEXTS | SALADS)


@pytest.mark.slow
@given(st.one_of(CLEAN, st.builds("{}{}".format, CLEAN, SALADS), SALADS.map("Thought:{}".format)))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_short_way_equals_the_thorough_one(text: str) -> None:
    quick = parse_clean_turn(text)
    if quick is not None:
        assert quick == parse_turn_thoroughly(text)


def test_the_short_way_is_taken() -> None:
    assert parse_clean_turn(f"Thought: I look.\n{ACT}") is not None
    assert parse_clean_turn("Thought: I know.\nFinal Answer: 42") is not None


HIDDEN = st.sampled_from(
    [
        ("<think>", f"\nAction:\n{DELETE_BLOCK}\n", "</think>"),
        ("", f"\n> Action:\n> {DELETE}\n", ""),
        ("", f"the page says {DELETE} here", ""),
        ("", f'it says "Action: {DELETE}"', ""),
        ("", f"it says\n{DELETE_BLOCK}\nwhich I ignore", ""),
    ]
)
WORDS = st.lists(st.sampled_from(["Thought:", "x ", "\n", ". ", "ok", "**"]), max_size=6).map("".join)
BEHIND = st.sampled_from(["", f"\nObservation: 5\nAction:\n{DELETE_BLOCK}", "\nObservation: 5\nFinal Answer: 3"])


@pytest.mark.slow
@given(WORDS, HIDDEN, WORDS, WORDS, BEHIND)
@settings(max_examples=200, deadline=None)
def test_no_words_around_it_make_a_quoted_action_count(
    before: str, hidden: tuple[str, str, str], first: str, second: str, behind: str
) -> None:
    opening, quoted, closing = hidden
    with contextlib.suppress(MalformedTurn):  # more careful than needed
        read = decided(f"{before}{opening}{first}{quoted}{second}{closing}\n{ACT}{behind}")
        assert read == ("search", "weather in SF")


@settings(deadline=None)
@given(NAMES, INPUTS, st.sampled_from([json.dumps, repr, lambda v: json.dumps(v, ensure_ascii=False, indent=2)]))
def test_what_is_written_is_read(name: str, tool_input: Any, written: Any) -> None:
    try:
        read = decided(f"Thought: x\n{block(written({'action': name, 'action_input': tool_input}))}")
    except MalformedTurn:
        assert written is repr  # Python has escapes that JSON has not
    else:
        assert read == (name, tool_input)


@pytest.mark.slow
@settings(deadline=None)
@given(VALUES.filter(lambda value: isinstance(value, dict | list)))
def test_the_repairing_reader_reads_proper_json_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    # A trailing comma makes it improper, and changes nothing.
    improper = f"{text[:-1]},{text[-1]}" if value else text
    assert read_json(text, 0) == (value, len(text))
    assert read_json(improper, 0) == (value, len(improper))


def test_depth_has_a_limit() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert read_json(deepest, 0)[1] == len(deepest)
    with pytest.raises(BrokenJson, match="deep"):
        read_json(f"[{deepest}]", 0)


# Linear time

HOSTILE = [
    "{", "{\n", "[{\n", '{"a":', '{"a":\n', "```\n", "```json\n{\n", "Action:\n", "Action: {\n", 'Action: {"a\n',
    "Action: {/*\n", "Final Answer: x\n", "<think>", "<think>\n", "</think>\n", "<tool_call>\n", "[TOOL_CALLS]x\n",
    "Observation: x\n", " ", "\n", " \t\n", "**\n", ". Action: {", "Action: x\nAction Input: {\n", f"{SEARCH}\n",
    f"{SEARCH},", f"{DELETE_BLOCK}\n", "</s>\n", '{"a":1,"a":', "{“a", "`", "~", "Answer: x\n", "a <think> b </think> ",
]  # fmt: skip


@pytest.mark.parametrize("start", ["", "Final Answer: ", 'Action:\n```json\n{"action": "s", "action_input": "'])
@pytest.mark.parametrize("piece", HOSTILE)
def test_work_grows_with_the_length(piece: str, start: str) -> None:
    """Counted in calls, of Python functions and of built-in ones; what a call costs is timed in the benchmarks."""
    once, twice = (calls_to_parse(start + piece * (length // len(piece))) for length in (2_000, 4_000))
    assert twice <= 2.3 * once + 200


def calls_to_parse(text: str) -> int:
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        parse_turn(text)
    except MalformedTurn:
        pass
    finally:
        sys.setprofile(before)
    return count
