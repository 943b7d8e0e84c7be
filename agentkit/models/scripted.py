"""A model that gives the replies it is given: for tests of agents, without weights, a server or chance.

    model = ScriptedBackend([
        'Thought: I calculate.\\nAction:\\n```json\\n{"action": "calculator", "action_input": "6*7"}\\n```',
        "Thought: I now know the final answer\\nFinal Answer: 42",
    ])
    result = AgentExecutor.from_model(model, tools=["calculator"]).invoke({"input": "What is 6*7?"})
    assert result["output"] == "42"
    assert "Answer: 42" in model.requests[1].messages[-1]["content"]

Where LangChain's type is needed, `ChatHuggingFace(llm=model)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agentkit.errors import ConfigurationError, ModelError, described
from agentkit.events import Usage
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Completion, ToolCallPiece
from agentkit.number_words import count

ScriptedReply = str | Completion | BaseException
"""A text, a completion with tool calls or thinking, or what is raised."""

PIECE = 9  # characters: so that labels and tags come in two pieces


@dataclass
class ScriptedBackend:
    """Gives `replies` in order, or what a function of the request returns; in pieces, where somebody reads along.

    `requests` are those it was sent; one after the last reply is a `ModelError`. For native calls, declare
    `Capabilities(tools=True)`.
    """

    replies: Sequence[ScriptedReply] | Callable[[ChatRequest], ScriptedReply]
    model_id: str = "scripted"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(in_process=True, over_http=False))
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=20, completion_tokens=10))
    requests: list[ChatRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not callable(self.replies):
            if isinstance(self.replies, str | bytes) or not isinstance(self.replies, Sequence):
                raise ConfigurationError(f"expected a list of replies, [reply, …], saw {described(self.replies)}")
            for reply in self.replies:
                _checked(reply)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        reply = self._reply(request)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, str):
            reply = Completion(reply, self.usage)
        if reply.thinking:
            yield Chunk(thinking=reply.thinking)
        size = PIECE if request.stream else max(1, len(reply.text))
        for start in range(0, len(reply.text), size):
            yield Chunk(text=reply.text[start : start + size])
        for index, call in enumerate(reply.tool_calls):
            begin, rest = call.arguments[:PIECE], call.arguments[PIECE:]
            yield Chunk(tool_calls=(ToolCallPiece(index=index, id=call.id, name=call.name, arguments=begin),))
            yield Chunk(tool_calls=(ToolCallPiece(index=index, arguments=rest),))
        yield Chunk(finish_reason=reply.finish_reason, usage=reply.usage)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk

    def _reply(self, request: ChatRequest) -> ScriptedReply:
        number = len(self.requests)
        self.requests.append(request)
        if callable(self.replies):
            return _checked(self.replies(request))
        if number >= len(self.replies):
            raise ModelError(
                f"The script of {self.model_id} has {count(len(self.replies), 'reply')}; request {number + 1} came."
            )
        return self.replies[number]


def _checked(reply: ScriptedReply) -> ScriptedReply:
    if not isinstance(reply, str | Completion | BaseException):
        raise ConfigurationError(f"expected a reply that is text, a Completion or an exception, saw {described(reply)}")
    return reply
