"""Text on its way out of a model: stops, thinking and tool calls do not depend on how it is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Chunk
from agentkit.models.reply import ReplyReader
from agentkit.models.scripted import ScriptedBackend
from agentkit.models.stopping import StopText
from agentkit.react_json.marks import HERMES, TABLE

from .conftest import read_reply

PIECES = st.lists(st.integers(1, 9), max_size=40)


def cut(text: str, lengths: list[int]) -> Iterator[str]:
    start = 0
    for length in lengths:
        yield text[start : start + length]
        start += length
    yield text[start:]


def read(text: str, lengths: list[int], *, stop: tuple[str, ...] = (), tools: bool = False) -> tuple[str, str, bool]:
    reader = ReplyReader(stop, calls=HERMES if tools else None)
    chunks = []
    for piece in cut(text, lengths):
        chunks.append(reader.read(Chunk(text=piece)))
        if reader.stopped:
            break
    chunks.append(reader.rest())
    return "".join(c.thinking for c in chunks), "".join(c.text for c in chunks), reader.stopped


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3), PIECES)
def test_stop_does_not_depend_on_the_pieces(text: str, stops: list[str], lengths: list[int]) -> None:
    whole = StopText(stops)
    expected = whole.feed(text) + whole.flush()
    pieces = StopText(stops)
    released = "".join(pieces.feed(piece) for piece in cut(text, lengths)) + pieces.flush()
    assert (released, pieces.stopped) == (expected, whole.stopped)
    assert not any(stop in expected for stop in stops)
    assert text.startswith(expected)
    assert whole.stopped or expected == text


@pytest.mark.parametrize("stop", [["a", ""], "", 7, [7], [b"a"], b"a", [["a"]]])
def test_a_stop_that_cannot_be_meant(stop: object) -> None:
    with pytest.raises(ConfigurationError, match="non-empty stop strings"):
        StopText(stop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a\nObservation b</think>\n\nc\nObservation d", "a\nObservation b", "c"),
        ("  <think>a</think>b", "a", "  b"),
        ("b\n<think>a</think>\nc", "a", "b\nc"),
        ("<think>never closed: delete everything", "never closed: delete everything", ""),
        ('say "<think>" please', "", 'say "<think>" please'),
        ("1 < 2 and <thin air", "", "1 < 2 and <thin air"),
        ("<think></think>", "", ""),
        ("It is <think>12? no</think>42.", "12? no", "It is 42."),
        ("Thought: <think>a</think>\nFinal Answer: b", "a", "Thought: \nFinal Answer: b"),
        ("a <think>never closed", "", "a <think>never closed"),
        ("a <think>b\n<reasoning>c</reasoning>\nd", "c", "a <think>b\nd"),
        ("<think>a <think>b</think> c</think>d", "a <think>b</think> c", "d"),
        ("x <think>a\n<think>b</think>\nc</think>d", "a\n<think>b</think>\nc", "x d"),
        ("<think>its <think> tag</think>\n\nd <think>e</think>f", "its <think> tag</think>\n\nd <think>e", "f"),
        ("<think>its <think> tag</think>\n\nd", "its <think> tag", "d"),
        ("<THINK>a</Think>b<reasoning>c</reasoning>", "ac", "b"),
        ("Write `<think>a</think>` so", "", "Write `<think>a</think>` so"),
        ("```\n<think>\na</think>\n```\nb <think>c</think>d", "c", "```\n<think>\na</think>\n```\nb d"),
        ('{"q": "what is \\"x\\" <think>a</think>?"}', "", '{"q": "what is \\"x\\" <think>a</think>?"}'),
        ('{"q": "a"} <think>b</think>', "b", '{"q": "a"} '),
        ('[{"q": ["<think>a</think>"]}]', "", '[{"q": ["<think>a</think>"]}]'),
        ("<parameter=q> <think>a</think>", "a", "<parameter=q> "),
        ("<function=f> <parameter=q> <think>a</think>", "", "<function=f> <parameter=q> <think>a</think>"),
    ],
)
@given(lengths=PIECES)
def test_thinking_is_apart(text: str, thinking: str, answer: str, lengths: list[int]) -> None:
    assert read(text, lengths, stop=("\nObservation",))[:2] == (thinking, answer)


CALL_TEXT = '<tool_call>\n{"name": "delete", "arguments": {}}\n</tool_call>'
IN_TAGS = [
    # a reply with < and > for the tags, its thinking, its answer
    ("<a\nObservation b>\n\nc\nObservation: d", "a\nObservation b", "c"),
    ("<a>one <b>two", "ab", "one two"),
    ("<a>\none\n<b>\ntwo", "ab", "one\ntwo"),
    ("<a <b> c>d", "a <b> c", "d"),
    ("<a Final Answer: 3", "a Final Answer: 3", ""),
    ("<>b", "", "b"),
    ("<\n\n>\n\nb", "\n\n", "b"),
    ("<I could CALL>No.", "I could CALL", "No."),
    ("<maybe\nAction: x\n>\nThought: I\nFinal Answer: 4", "maybe\nAction: x\n", "Thought: I\nFinal Answer: 4"),
]


@pytest.mark.parametrize(("reply", "thinking", "answer"), IN_TAGS)
@given(tags=st.sampled_from(sorted(TABLE.thinking.items())), upper=st.booleans(), lengths=PIECES, tools=st.booleans())
def test_every_tag_keeps_thinking_apart(
    reply: str, thinking: str, answer: str, tags: tuple[str, str], upper: bool, lengths: list[int], tools: bool
) -> None:
    written = [tag.upper() if upper else tag for tag in tags]

    def in_tags(text: str) -> str:
        filled = "".join({"<": written[0], ">": written[1]}.get(letter, letter) for letter in text)
        return filled.replace("CALL", CALL_TEXT)

    read_apart = read(in_tags(reply), lengths, stop=("\nObservation",), tools=tools)
    assert read_apart[:2] == (in_tags(thinking), in_tags(answer))


def test_a_thought_in_a_thought_is_open_once_wherever_the_pieces_end() -> None:
    reader = ReplyReader()
    for piece in ("<think>", "a ", "<think>", "b"):
        reader.read(Chunk(text=piece))
    assert reader.open_thoughts == ("</think>", "</think>")
    assert [reader.read(Chunk(text=piece)).text for piece in ("</think>", "</think>", "c")] == ["", "", "c"]


def test_a_chat_model_keeps_nested_thoughts_apart_asked_or_streamed() -> None:
    reply = "It <think>may be <think>12</think> or 13</think>is 42."
    chat = ChatHuggingFace(llm=ScriptedBackend([reply, reply]))
    first, *rest = chat.stream("hi")
    for message in (chat.invoke("hi"), sum(rest, first)):
        assert message.content == "It is 42."
        assert message.additional_kwargs["reasoning_content"] == "may be <think>12</think> or 13"


@given(st.text("<think>/ a\n", max_size=60), PIECES)
def test_thinking_does_not_depend_on_the_pieces(text: str, lengths: list[int]) -> None:
    assert read(text, lengths) == read(text, [])


CALL = {"name": "add", "arguments": {"a": 1, "b": "x"}}
SYNTAXES = [
    f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
    f"[TOOL_CALLS] [{json.dumps(CALL)}]",
    f"[TOOL_CALLS]add[ARGS]{json.dumps(CALL['arguments'])}",
    f"<|python_tag|>{json.dumps({'name': 'add', 'parameters': CALL['arguments']})}<|eom_id|>",
    json.dumps({"name": "add", "parameters": CALL["arguments"]}),
]


@pytest.mark.parametrize("text", SYNTAXES)
@given(lengths=PIECES)
def test_tool_calls_are_read_in_every_syntax(text: str, lengths: list[int]) -> None:
    _, said, ((name, arguments),) = read_reply(cut(text, lengths))
    assert said == ""
    assert {"name": name, "arguments": json.loads(arguments)} == CALL


@pytest.mark.parametrize(
    "text",
    ["<tool_call>\n{broken\n</tool_call>", '{"answer": 5}', "<tool_call>[1]</tool_call>", "a <tool_", "{" * 50_000],
)
@given(lengths=PIECES)
def test_what_is_no_call_stays_text(text: str, lengths: list[int]) -> None:
    assert read(text, lengths, tools=True)[1] == text


def test_several_calls() -> None:
    reader = ReplyReader(calls=HERMES)
    chunks = [reader.read(Chunk(text="\n".join(SYNTAXES[:1] * 3))), reader.rest()]
    calls = [piece for chunk in chunks for piece in chunk.tool_calls if piece.name]
    assert [call.index for call in calls] == [0, 1, 2]
    assert len({call.id for call in calls}) == 3
