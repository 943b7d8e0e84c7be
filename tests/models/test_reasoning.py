"""Reasoning models: thinking is apart, no stop and no grammar holds inside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agentkit.langchain.text_model import atext_of, text_of
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.reply import ReplyReader
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.marks import HERMES, TABLE

from .conftest import build_llama, build_tokenizer

QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]
GRAMMAR = 'start: "Final Answer: " /[0-9]{3}/'


def reasoning_model(*, opens: bool) -> ChatHuggingFace:
    """A random model whose vocabulary has the tags; with `opens`, its template begins the thought."""
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    if opens:
        begins = "<|im_start|>assistant\n"
        tokenizer.chat_template = tokenizer.chat_template.replace(begins, begins + "<think>\n")
    llm = HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer)
    return ChatHuggingFace(llm=llm)


def steer(chat: ChatHuggingFace, tokens: list[int | None]) -> Any:
    """Make the model prefer these tokens in turn (None: its own choice)."""
    wanted = iter(tokens)

    def prefer(_module: Any, _inputs: Any, output: Any) -> None:
        token = next(wanted, None)
        if token is not None:
            output.logits[..., token] = 1e4

    return chat.llm.model.register_forward_hook(prefer)


@pytest.mark.parametrize("opens", [True, False])
def test_grammar_and_stop_hold_the_answer_only(opens: bool) -> None:
    chat = reasoning_model(opens=opens)
    token = chat.llm.tokenizer.convert_tokens_to_ids
    stop = chat.llm.tokenizer("Observation", add_special_tokens=False)["input_ids"]
    hook = steer(chat, [*([] if opens else [token("<think>")]), *stop, None, token("</think>")])
    try:
        reply = chat.invoke(QUESTION, grammar=GRAMMAR, stop=["Observation"])
    finally:
        hook.remove()
    assert str(reply.content).startswith("Final Answer: ")
    assert len(str(reply.content)) == 17
    assert "Observation" in reply.additional_kwargs["reasoning_content"]
    assert "<think>" not in str(reply.content)


def test_a_thought_that_ends_in_ordinary_letters_comes_before_the_grammar() -> None:
    tokenizer = build_tokenizer()
    begins = "<|im_start|>assistant\n"
    tokenizer.chat_template = tokenizer.chat_template.replace(begins, begins + "<think>\n")
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    hook = steer(chat, tokenizer("Action: hm</think>", add_special_tokens=False)["input_ids"])
    try:
        reply = chat.invoke(QUESTION, grammar=GRAMMAR)
    finally:
        hook.remove()
    assert str(reply.content).startswith("Final Answer: ")
    assert str(reply.additional_kwargs["reasoning_content"]).strip() == "Action: hm"


def test_calls_inside_a_thought_are_not_made() -> None:
    reader = ReplyReader(calls=HERMES)
    call = '<tool_call>\n{"name": "delete", "arguments": {}}\n</tool_call>'
    chunks = [reader.read(Chunk(text=f"<think>I could {call}</think>No.")), reader.rest()]
    assert [piece for chunk in chunks for piece in chunk.tool_calls] == []
    assert "".join(chunk.text for chunk in chunks) == "No."


def test_a_thought_without_end_leaves_room_for_the_answer() -> None:
    chat = reasoning_model(opens=True)
    hook = steer(chat, [40] * 200)
    try:
        reply = chat.invoke(QUESTION, grammar=GRAMMAR, max_new_tokens=90)
    finally:
        hook.remove()
    assert str(reply.content).startswith("Final Answer: ")
    assert len(reply.additional_kwargs["reasoning_content"]) > 40


def test_a_model_that_need_not_think_answers_at_once() -> None:
    chat = reasoning_model(opens=False)
    hook = steer(chat, [chat.llm.tokenizer("F", add_special_tokens=False)["input_ids"][0]])
    try:
        reply = chat.invoke(QUESTION, grammar=GRAMMAR)
    finally:
        hook.remove()
    assert str(reply.content).startswith("Final Answer: ")
    assert "reasoning_content" not in reply.additional_kwargs


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
