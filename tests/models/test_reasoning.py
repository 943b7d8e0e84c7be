"""Reasoning models: thinking is apart, no stop and no grammar holds inside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agentkit.errors import ConfigurationError
from agentkit.langchain.text_model import atext_of, text_of
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.marks import MARKUP, TABLE

from .conftest import build_llama, build_tokenizer, read_reply

QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]
GRAMMAR = 'start: "Final Answer: " /[0-9]{3}/'


def reasoning_model(
    tags: tuple[str, str] = ("<think>", "</think>"), *, opens: bool, tokens: str = "added"
) -> ChatHuggingFace:
    """A random model that thinks in these tags; with `opens`, its template begins the thought.

    The tags are made of "special" tokens, of "added" ones, or of none ("text").
    """
    tokenizer = build_tokenizer()
    pieces = list(dict.fromkeys(piece for tag in tags for piece in (MARKUP.findall(tag) or [tag])))
    if tokens == "special":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *pieces]})
    elif tokens == "added":
        tokenizer.add_tokens(pieces)
    begins = "<|im_start|>assistant\n"
    shown = begins + f"{tags[0]}\n" if opens else f"{begins}' }}}}{{# {tags[0]} #}}{{{{ '"
    tokenizer.chat_template = tokenizer.chat_template.replace(begins, shown)
    llm = HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer)
    return ChatHuggingFace(llm=llm)


def steer(chat: ChatHuggingFace, tokens: list[int | None]) -> Any:
    """Make the model prefer these tokens in turn (None: its own choice), forced ones among them."""
    computed: list[int] = []

    def prefer(_module: Any, _inputs: Any, given: Any, output: Any) -> None:
        computed.append(given["input_ids"].shape[1])
        place = sum(computed[1:])
        if place < len(tokens) and tokens[place] is not None:
            output.logits[..., tokens[place]] = 1e4

    return chat.llm.model.register_forward_hook(prefer, with_kwargs=True)


@pytest.mark.parametrize("opens", [True, False])
def test_grammar_and_stop_hold_the_answer_only(opens: bool) -> None:
    chat = reasoning_model(opens=opens)
    token = chat.llm.tokenizer.convert_tokens_to_ids
    stop = chat.llm.tokenizer("Observation", add_special_tokens=False)["input_ids"]
    with steer(chat, [*([] if opens else [token("<think>")]), *stop, None, token("</think>")]):
        reply = chat.invoke(QUESTION, grammar=GRAMMAR, stop=["Observation"])
    assert str(reply.content).startswith("Final Answer: ")
    assert len(str(reply.content)) == 17
    assert "Observation" in reply.additional_kwargs["reasoning_content"]
    assert "<think>" not in str(reply.content)


def test_a_thought_that_ends_in_ordinary_letters_comes_before_the_grammar() -> None:
    tokenizer = build_tokenizer()
    begins = "<|im_start|>assistant\n"
    tokenizer.chat_template = tokenizer.chat_template.replace(begins, begins + "<think>\n")
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    with steer(chat, tokenizer("Action: hm</think>", add_special_tokens=False)["input_ids"]):
        reply = chat.invoke(QUESTION, grammar=GRAMMAR)
    assert str(reply.content).startswith("Final Answer: ")
    assert str(reply.additional_kwargs["reasoning_content"]).strip() == "Action: hm"


def test_calls_inside_a_thought_are_not_made() -> None:
    call = '<tool_call>\n{"name": "delete", "arguments": {}}\n</tool_call>'
    _, text, calls = read_reply([f"<think>I could {call}</think>No."])
    assert (text, calls) == ("No.", [])


def test_a_thought_without_end_leaves_room_for_the_answer() -> None:
    chat = reasoning_model(opens=True)
    with steer(chat, [40] * 200):
        reply = chat.invoke(QUESTION, grammar=GRAMMAR, max_new_tokens=90)
    assert str(reply.content).startswith("Final Answer: ")
    assert len(reply.additional_kwargs["reasoning_content"]) > 40


def test_a_model_that_need_not_think_answers_at_once() -> None:
    chat = reasoning_model(opens=False)
    with steer(chat, [chat.llm.tokenizer("F", add_special_tokens=False)["input_ids"][0]]):
        reply = chat.invoke(QUESTION, grammar=GRAMMAR)
    assert str(reply.content).startswith("Final Answer: ")
    assert "reasoning_content" not in reply.additional_kwargs


def ids(chat: ChatHuggingFace, text: str) -> list[int | None]:
    return list(chat.llm.tokenizer(text, add_special_tokens=False)["input_ids"])


THOUGHT = "I see\nObservation: Action"
WAYS = [
    # tokens, template opens, most tokens of the thought, held to a grammar
    ("special", False, None, True),
    ("special", True, 3, False),
    ("added", False, 0, False),
    ("added", False, 3, True),
    ("text", True, None, True),
    ("text", False, 3, True),
    ("text", True, 0, True),
]


@pytest.mark.parametrize(("tokens", "opens", "limit", "held"), WAYS)
@pytest.mark.parametrize("tags", TABLE.thinking.items())
def test_every_tag_of_the_table(tags: tuple[str, str], tokens: str, opens: bool, limit: int | None, held: bool) -> None:
    """The thought is apart; a stop string in it does not stop; at its limit it is closed, and the answer follows."""
    chat = reasoning_model(tags, opens=opens, tokens=tokens)
    thought = ids(chat, THOUGHT)[:limit]
    prefer = [*([] if opens else ids(chat, tags[0])), *thought, *ids(chat, tags[1])]
    answer = [*ids(chat, "Final Answer: 123"), chat.llm.tokenizer.eos_token_id]
    with steer(chat, [*prefer, *answer]):
        reply = chat.invoke(
            QUESTION,
            stop=["Observation"],
            max_new_tokens=120,
            max_thinking_tokens=limit,
            grammar=GRAMMAR if held else None,
        )
    assert str(reply.content).startswith("Final Answer: ")
    assert len(str(reply.content)) == 17
    assert reply.additional_kwargs.get("reasoning_content", "").strip() == chat.llm.tokenizer.decode(thought).strip()
    assert reply.response_metadata.get("thinking_cut_off") == limit


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize(("more", "is_cut"), [(-1, True), (0, True), (1, True), (2, False), (4, False), (9, False)])
def test_a_limit_that_is_reached_inside_the_closing_tag_lets_it_be_written(
    more: int, is_cut: bool, opens: bool, held: bool
) -> None:
    """Its letters are none of the thought, and the answer is whole."""
    chat = reasoning_model(opens=opens, tokens="text")
    thought, closing = ids(chat, "I see Ac"), ids(chat, "</think>")
    limit = len(thought) + more
    prefer = [*([] if opens else ids(chat, "<think>")), *thought[:limit], *closing, *ids(chat, "Final Answer: 123")]
    with steer(chat, [*prefer, chat.llm.tokenizer.eos_token_id]):
        reply = chat.invoke(QUESTION, max_new_tokens=120, max_thinking_tokens=limit, grammar=GRAMMAR if held else None)
    assert str(reply.content).startswith("Final Answer: ")
    assert reply.additional_kwargs["reasoning_content"].strip() == chat.llm.tokenizer.decode(thought[:limit]).strip()
    assert ("thinking_cut_off" in reply.response_metadata) is is_cut


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("tokens", ["special", "added", "text"])
@pytest.mark.parametrize("tool_choice", ["auto", "any"])
def test_a_call_that_a_thought_weighs_up_is_not_made_and_the_one_behind_it_is_held(
    tokens: str, tool_choice: str
) -> None:
    chat = reasoning_model(opens=False, tokens=tokens)
    call = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    weighed = "I could <tool_call> or not"
    with steer(chat, [*ids(chat, f"<think>{weighed}</think>{call}"), chat.llm.tokenizer.eos_token_id]):
        asked = chat.bind_tools([ADD], tool_choice=tool_choice, parallel_tool_calls=False)
        reply = asked.invoke(QUESTION, max_new_tokens=150)
    assert [(made["name"], made["args"]) for made in reply.tool_calls] == [("add", {})]
    assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("", weighed)


def test_all_thoughts_of_a_reply_share_the_limit() -> None:
    chat = reasoning_model(opens=False)
    first, second = ids(chat, "<think>") + ids(chat, "abcd")[:3], ids(chat, "<think>") + ids(chat, "efgh")[:2]
    text, end = ids(chat, "so")[:1], [chat.llm.tokenizer.eos_token_id]
    close = ids(chat, "</think>")
    with steer(chat, [*first, *close, *text, *second, *close, *text, *end]):
        reply = chat.invoke(QUESTION, max_thinking_tokens=5)
    assert len(reply.additional_kwargs["reasoning_content"]) == 5
    assert reply.text == chat.llm.tokenizer.decode([*text, *text])
    assert reply.response_metadata["thinking_cut_off"] == 5


def test_thoughts_in_thoughts_are_closed_together() -> None:
    chat = reasoning_model(opens=True)
    thoughts = [*ids(chat, "<think>"), *ids(chat, "b")[:1], *ids(chat, "</think></think>")]
    with steer(chat, [*thoughts, *ids(chat, "4"), chat.llm.tokenizer.eos_token_id]):
        reply = chat.invoke(QUESTION, max_thinking_tokens=2)
    assert reply.text == "4"
    assert reply.additional_kwargs["reasoning_content"].strip() == "<think>b</think>"


async def test_a_limit_holds_in_every_way_of_asking() -> None:
    chat = reasoning_model(opens=True, tokens="special")
    limited = chat.bind(max_thinking_tokens=4, max_new_tokens=20)
    whole = limited.invoke(QUESTION)
    first, *rest = limited.stream(QUESTION)
    replies = [await limited.ainvoke(QUESTION), *limited.batch([QUESTION] * 2), sum(rest, first)]
    assert whole.response_metadata["thinking_cut_off"] == 4
    assert len([piece for piece in rest if "reasoning_content" in piece.additional_kwargs]) > 1  # as it comes
    for reply in replies:
        assert (reply.text, reply.additional_kwargs, reply.response_metadata["thinking_cut_off"]) == (
            whole.text,
            whole.additional_kwargs,
            4,
        )


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    chat = reasoning_model(opens=True)
    expected = chat.invoke(QUESTION, max_new_tokens=9)
    reply = chat.invoke(QUESTION, max_new_tokens=9, max_thinking_tokens=9)
    assert (reply.content, reply.additional_kwargs) == (expected.content, expected.additional_kwargs)
    assert "thinking_cut_off" not in reply.response_metadata


@pytest.mark.parametrize("value", [-1, 2.5, "4", True])
def test_a_limit_that_cannot_be_is_refused(value: Any, model_folder: Path) -> None:
    options = {"max_thinking_tokens": value}
    with pytest.raises(ConfigurationError, match="max_thinking_tokens: expected a whole number of at least 0"):
        ChatHuggingFace.from_model_id(str(model_folder), pipeline_kwargs=options)
    with pytest.raises(ConfigurationError, match="max_thinking_tokens: expected a whole number of at least 0"):
        reasoning_model(opens=True).invoke(QUESTION, **options)


def test_beams_cannot_be_held_to_a_limit_and_their_thoughts_are_apart() -> None:
    chat = reasoning_model(opens=True, tokens="special")
    with pytest.raises(ConfigurationError, match="max_thinking_tokens"):
        chat.invoke(QUESTION, num_beams=2, max_thinking_tokens=4)
    reply = chat.invoke(QUESTION, num_beams=2, max_new_tokens=6)
    assert reply.content == ""
    assert reply.additional_kwargs["reasoning_content"]


def test_a_text_has_no_thought_of_special_tokens() -> None:
    chat = reasoning_model(opens=False, tokens="special")
    tokens = [*ids(chat, "<think>abc</think>42"), chat.llm.tokenizer.eos_token_id]
    for ask in (chat.llm.invoke, lambda prompt: "".join(chat.llm.stream(prompt))):
        with steer(chat, tokens):
            assert ask("What is it? ") == "42"


@pytest.mark.parametrize(("shown", "tag"), [("", "<think>"), ("<|end|>", "<|channel|>analysis<|message|>")])
def test_a_model_without_tags_is_offered_none(shown: str, tag: str) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template += f"{{# {shown} #}}"  # ends the turns of many that never think
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    with steer(chat, ids(chat, tag)):
        assert str(chat.invoke(QUESTION, grammar=GRAMMAR).content).startswith("Final Answer: ")


class InLetters(ScriptedBackend):
    """Gives its reply letter by letter to whoever asks."""

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        yield from (Chunk(text=letter) for letter in str(self.replies[0]))  # type: ignore[index]

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


def opened_by_the_prompt(closing: str) -> str:
    return f"Perhaps 41.{closing}The answer is 42."


CLOSINGS = [closing for closing in dict.fromkeys(TABLE.thinking.values()) if closing not in TABLE.turn_ends]


@pytest.mark.parametrize("closing", CLOSINGS)
async def test_a_thought_that_the_prompt_opened_is_no_part_of_a_whole_reply(closing: str) -> None:
    chat = ChatHuggingFace(llm=InLetters([opened_by_the_prompt(closing)]))
    for reply in (chat.invoke(QUESTION), await chat.ainvoke(QUESTION)):
        assert (reply.text, reply.additional_kwargs["reasoning_content"]) == ("The answer is 42.", "Perhaps 41.")


async def test_nor_of_a_whole_text() -> None:
    request = ChatRequest(messages=(), stream=False)
    chunks = [Chunk(text=letter) for letter in opened_by_the_prompt("</think>")]

    async def awaited() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk

    assert "".join(text_of((chunk for chunk in chunks), request)) == "The answer is 42."
    assert "".join([text async for text in atext_of(awaited(), request)]) == "The answer is 42."
