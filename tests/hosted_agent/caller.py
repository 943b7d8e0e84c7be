"""A LangChain chat model of nobody's that says a server's script, and tools for it to call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from agentkit.models.backend import ChatRequest
from agentkit.models.scripted import ScriptedReply
from tests.doubles.models import Scripted
from tests.doubles.server import Request


class RefusedError(Exception):
    """As HTTP clients have it."""

    status_code = 400


class Caller(Scripted):
    """Says `script`'s turns, as calls where it is given tools."""

    turns: Sequence[Any] = ()
    script: Any  # a `Server`; not copied
    options: list[dict[str, Any]] = Field(default_factory=list)  # of each request

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.options.append(kwargs)
        return super()._stream(messages, *args, **kwargs)

    def reply(self, request: ChatRequest) -> ScriptedReply:
        body = {name: value for name, value in asdict(request).items() if name in ("messages", "tools") and value}
        self.script.requests.append(Request("POST", "", {}, body))
        turn = self.script.turn(body)
        return RefusedError(f"HTTP {turn}") if isinstance(turn, int) else turn


@tool
def calculator(expression: str) -> str:
    """Evaluates arithmetic."""
    return str(sum(int(part) for part in expression.split("+")))


@tool
def power(base: int, exponent: int = 2) -> int:
    """Raises a number to a power."""
    return base**exponent


TOOLS = [calculator, power]
