"""A scripted chat model and trivial tools, for tests of everything but models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field


def action(tool: str, tool_input: Any, thought: str = "I need a tool.") -> str:
    """A turn of the dialect that calls a tool."""
    call = json.dumps({"action": tool, "action_input": tool_input})
    return f"Thought: {thought}\nAction:\n```json\n{call}\n```"


def final(answer: str) -> str:
    """A turn of the dialect that ends."""
    return f"Thought: I now know the final answer\nFinal Answer: {answer}"


class Scripted(BaseChatModel):
    """Says its turns in order, the last one again and again; keeps what it was asked. An exception is raised."""

    turns: list[Any]
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    stops: list[Sequence[str] | None] = Field(default_factory=list)
    tokens_a_turn: int = 10

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _next(self, messages: list[BaseMessage], stop: list[str] | None) -> tuple[str, UsageMetadata]:
        turn = self.turns[min(len(self.asked), len(self.turns) - 1)]
        self.asked.append(messages)
        self.stops.append(stop)
        if isinstance(turn, BaseException):
            raise turn
        tokens = self.tokens_a_turn
        return turn, UsageMetadata(input_tokens=2 * tokens, output_tokens=tokens, total_tokens=3 * tokens)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text, usage = self._next(messages, stop)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text, usage_metadata=usage))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text, usage = self._next(messages, stop)
        for start in range(0, len(text), 7):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text[start : start + 7]))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage))


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


torch.set_num_threads(1)  # the models of the tests are so small that a second thread costs more than it computes
