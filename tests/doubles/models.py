"""Scripted models for every test: what turns look like, and a script as a LangChain chat model of somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from agentkit.events import Usage
from agentkit.models.backend import ChatRequest, Chunk, Completion, NativeCall
from agentkit.models.scripted import ScriptedBackend, ScriptedReply

ROLES = {"ai": "assistant", "human": "user"}


def action(tool: str, tool_input: Any, thought: str = "I need a tool.") -> str:
    """A turn of the dialect that calls a tool."""
    call = json.dumps({"action": tool, "action_input": tool_input})
    return f"Thought: {thought}\nAction:\n```json\n{call}\n```"


def final(answer: str) -> str:
    """A turn of the dialect that ends."""
    return f"Thought: I now know the final answer\nFinal Answer: {answer}"


def reply(
    text: str = "",
    calls: Sequence[tuple[str, str]] = (),
    *,
    thinking: str = "",
    finish_reason: str = "",
    cost: float | None = None,
) -> Completion:
    """A turn with native calls: their names, and the text of their arguments."""
    made = tuple(NativeCall(f"call_{name}_{n}", name, arguments) for n, (name, arguments) in enumerate(calls))
    reason = finish_reason or ("tool_calls" if made else "stop")
    return Completion(text, Usage(20, 10, cost_usd=cost), reason, thinking, made)


class Scripted(BaseChatModel):
    """Gives its turns in order, the last one again and again. An exception among them is raised."""

    turns: Sequence[Any]
    requests: list[list[BaseMessage]] = Field(default_factory=list)
    stops: list[Sequence[str] | None] = Field(default_factory=list)
    usage: Usage = Usage(20, 10)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def reply(self, request: ChatRequest) -> ScriptedReply:
        """The next turn; subclasses answer otherwise."""
        turn: ScriptedReply = self.turns[min(len(self.requests), len(self.turns)) - 1]
        return turn

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.requests.append(messages)
        self.stops.append(stop)
        said = [{"role": ROLES.get(one.type, one.type), "content": one.content} for one in messages]
        request = ChatRequest(messages=said, tools=kwargs.get("tools") or ())
        for chunk in ScriptedBackend(self.reply, usage=self.usage).generate_chat(request):
            yield ChatGenerationChunk(message=_as_langchain(chunk))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        first, *rest = [chunk.message for chunk in self._stream(messages, stop, run_manager, **kwargs)]
        whole: Any = sum(rest, first)
        message: Any = message_chunk_to_message(whole)
        message.tool_calls, message.invalid_tool_calls = (
            [],
            [],
        )  # a chunk takes JSON that is cut off as if it were whole
        for call in whole.tool_call_chunks:
            try:
                arguments = json.loads(call["args"])
                message.tool_calls.append(tool_call(name=call["name"], args=arguments, id=call["id"]))
            except ValueError:
                message.invalid_tool_calls.append(
                    invalid_tool_call(name=call["name"], args=call["args"], id=call["id"], error="no JSON")
                )
        return ChatResult(generations=[ChatGeneration(message=message)])


def _as_langchain(chunk: Chunk) -> AIMessageChunk:
    fields: dict[str, Any] = {}
    if chunk.thinking:
        fields["additional_kwargs"] = {"reasoning_content": chunk.thinking}
    if chunk.tool_calls:
        fields["tool_call_chunks"] = [
            ToolCallChunk(name=one.name, args=one.arguments, id=one.id, index=one.index, type="tool_call_chunk")
            for one in chunk.tool_calls
        ]
    if chunk.finish_reason:
        fields["response_metadata"] = {"finish_reason": chunk.finish_reason}
    if chunk.usage:
        counts = {"input_tokens": chunk.usage.prompt_tokens, "output_tokens": chunk.usage.completion_tokens}
        fields["usage_metadata"] = UsageMetadata(**counts, total_tokens=chunk.usage.total_tokens)  # type: ignore[typeddict-item]
    return AIMessageChunk(content=chunk.text, **fields)
