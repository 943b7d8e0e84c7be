"""A LangChain chat model of nobody's that says the server's script, and tools for it to call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from tests.hosted_agent.server import Server, Turn

ROLES = {"ai": "assistant", "human": "user"}
USAGE = UsageMetadata(input_tokens=20, output_tokens=10, total_tokens=30)


class RefusedError(Exception):
    """As HTTP clients have it."""

    status_code = 400


class Caller(BaseChatModel):
    """Says `script`'s turns, as calls where it is given tools."""

    script: Server
    asked: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)

    def _turn(self, messages: list[BaseMessage], options: dict[str, Any]) -> Turn:
        told = [{"role": ROLES.get(message.type, message.type), "content": message.content} for message in messages]
        self.asked.append({"messages": messages, **options})
        turn = self.script.turn({"messages": told, **options})
        if isinstance(turn, int):
            raise RefusedError(f"HTTP {turn}")
        return turn

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turn = self._turn(messages, kwargs)
        message = AIMessage(turn.text, usage_metadata=USAGE, additional_kwargs=_thinking(turn))
        message.response_metadata = {"finish_reason": turn.finish_reason or "stop"}
        for call in turn.message().get("tool_calls", ()):
            name, arguments, number = call["function"]["name"], call["function"]["arguments"], call["id"]
            try:
                message.tool_calls.append(tool_call(name=name, args=json.loads(arguments), id=number))
            except ValueError:
                message.invalid_tool_calls.append(
                    invalid_tool_call(name=name, args=arguments, id=number, error="no JSON")
                )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        turn = self._turn(messages, kwargs)
        yield _chunk("", additional_kwargs=_thinking(turn))
        for start in range(0, len(turn.text), 7):
            yield _chunk(turn.text[start : start + 7])
        for index, call in enumerate(turn.message().get("tool_calls", ())):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            half = len(arguments) // 2
            first = tool_call_chunk(name=name, args=arguments[:half], id=call["id"], index=index)
            yield _chunk("", tool_call_chunks=[first])
            yield _chunk("", tool_call_chunks=[tool_call_chunk(args=arguments[half:], index=index)])
        yield _chunk("", usage_metadata=USAGE, response_metadata={"finish_reason": turn.finish_reason or "stop"})


def _thinking(turn: Turn) -> dict[str, Any]:
    return {"reasoning_content": turn.thinking} if turn.thinking else {}


def _chunk(text: str, **fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text, **fields))


@tool
def calculator(expression: str) -> str:
    """Evaluates arithmetic."""
    return str(sum(int(part) for part in expression.split("+")))


@tool
def power(base: int, exponent: int = 2) -> int:
    """Raises a number to a power."""
    return base**exponent


TOOLS = [calculator, power]
