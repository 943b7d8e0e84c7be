"""What another provider's class made of a turn with calls goes back to it as it was: it alone knows what is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from agentkit import AgentExecutor
from agentkit.langchain.made_messages import MadeMessages
from tests.hosted_agent.caller import TOOLS, RefusedError

QUESTION = {"input": "What is 2 + 2, and its square?"}
CALLS = [
    [("calculator", {"expression": "2+2"})],
    [("power", {"base": 4}), ("calculator", {"expression": "4+0"})],
    [("calculator", {"expression": "4+4"})],
]


class Thinking(BaseChatModel):
    """Calls tools, then answers; refuses messages of its own that are not as it made them.

    `id_of` makes the id of a call of the `asked`th turn.
    """

    id_of: str = "call_{asked}_{place}"
    made: list[AIMessage] = Field(default_factory=list)
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "thinking"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)

    def _turn(self, messages: list[BaseMessage]) -> AIMessage:
        self.asked.append(messages)
        own = [one for one in messages if isinstance(one, AIMessage)]
        made = self.made[len(self.made) - len(own) :]
        if [(one.content, one.additional_kwargs) for one in own] != [(m.content, m.additional_kwargs) for m in made]:
            raise RefusedError("Expected `thinking` with its signature before `tool_use`")
        place = len(own)
        if place == len(CALLS):
            return AIMessage("It is 16.")
        ids = [self.id_of.format(asked=len(self.asked), place=n) for n in range(len(CALLS[place]))]
        blocks: list[str | dict[Any, Any]] = [
            {"type": "thinking", "thinking": f"I think {len(self.made)}.", "signature": f"c2ln{len(self.made)}"},
            {"type": "text", "text": "Calling."},
        ]
        calls = [{"name": name, "args": args, "id": id_} for id_, (name, args) in zip(ids, CALLS[place], strict=True)]
        signatures = {"signatures": {id_: f"sig{len(self.made)}" for id_ in ids}}
        self.made.append(AIMessage(blocks, tool_calls=calls, additional_kwargs=signatures))
        return self.made[-1]

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._turn(messages))])

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        turn = self._turn(messages)
        for place, block in enumerate(turn.content if isinstance(turn.content, list) else [turn.content]):
            piece = [{**block, "index": place}] if isinstance(block, dict) else block
            yield ChatGenerationChunk(message=AIMessageChunk(piece))
        for place, call in enumerate(turn.tool_calls):
            made = tool_call_chunk(
                name=call["name"], args=str(call["args"]).replace("'", '"'), id=call["id"], index=place
            )
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[made]))
        yield ChatGenerationChunk(message=AIMessageChunk("", additional_kwargs=turn.additional_kwargs))
        if isinstance(turn.content, list):
            turn.content = [{**block, "index": n} for n, block in enumerate(turn.content) if isinstance(block, dict)]


class Watcher(BaseCallbackHandler):
    """With one, the model is asked in its run."""


WATCHED: Any = {"callbacks": [Watcher()]}
WAYS: dict[str, Callable[[AgentExecutor], Any]] = {
    "invoke": lambda executor: executor.invoke(QUESTION),
    "ainvoke": lambda executor: asyncio.run(executor.ainvoke(QUESTION)),
    "stream": lambda executor: list(executor.stream(QUESTION))[-1],
    "watched": lambda executor: executor.invoke(QUESTION, WATCHED),
}


IDS = {"unique": "call_{asked}_{place}", "the same": "call_{place}", "Mistral's": "c{asked:04d}{place:04d}"}


@pytest.mark.parametrize("id_of", IDS.values(), ids=IDS)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_it_gets_the_very_message_back(run: Callable[[AgentExecutor], Any], streamed: bool, id_of: str) -> None:
    model = Thinking(id_of=id_of)
    executor = AgentExecutor.from_model(model, TOOLS, mode="tools", stream_runnable=streamed)
    for _ in range(2):
        assert run(executor)["output"] == "It is 16."
        results = [one.tool_call_id for one in model.asked[-1] if isinstance(one, ToolMessage)]
        own = [one for one in model.asked[-1] if isinstance(one, AIMessage)]
        assert results == [call["id"] for one in own for call in one.tool_calls]


def message(args: Any, *, id_: str = "a", **more: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "f", "args": args, "id": id_}], **more)


def asked(arguments: str, id_: str = "a") -> dict[str, Any]:
    return {"tool_calls": [{"id": id_, "function": {"name": "f", "arguments": arguments}}]}


def test_which_message_is_meant() -> None:
    made, first, second = MadeMessages(), message({"x": 5}), message({"x": 6})
    assert made.message(asked('{"x": 5}')) is None
    made.keep(first)
    assert made.message(asked('{"x": "5"}')) is first  # the tool takes text
    made.keep(second)
    assert [made.message(asked(f'{{"x": {n}}}')) for n in (5, 6, 7)] == [first, second, None]
    assert made.message(asked('{"x": 6}', "b")) is second  # it got another id
    assert made.message(asked('{"x": 7}', "b")) is None
    broken = [{"name": "g", "args": "{", "id": "b", "error": ""}]
    made.keep(message({"x": 8}, id_="b", invalid_tool_calls=broken))
    assert made.message(asked('{"x": 8}', "b")) is None
    for ids in (["c", "c"], ["c", None]):
        made.keep(AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": id_} for id_ in ids]))
        assert made.message({"tool_calls": [asked("{}", "c")["tool_calls"][0]] * 2}) is None
    made.keep(AIMessage("It is 5."))
    assert made.message({"role": "assistant", "content": "It is 5."}) is None
