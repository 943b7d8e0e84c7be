"""A chat model as a planner asks it: a request in, pieces of text as they arrive, then the whole completion.

`BackendChat` is the one over a backend. It reads a reply as every way to ask does: thinking apart, cut at the first
stop string, tool calls read out of the text, held to a grammar where the backend takes one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from agentkit.approximate_tokens import count_prompt_tokens, with_estimate
from agentkit.deadline import remaining_s
from agentkit.errors import ConfigurationError, ReplyChanged, described
from agentkit.events import Usage
from agentkit.models.backend import (
    DROPPED_TO_FIT,
    ENDED_AT_LIMIT,
    SCHEMA_USE,
    Capabilities,
    ChatBackend,
    ChatRequest,
    Chunk,
    Completion,
    SchemaUse,
    ToolCallPiece,
    as_backend,
    capabilities_of,
)
from agentkit.models.call_grammar import format_grammar, tool_grammar
from agentkit.models.call_pieces import ToolCallPieces
from agentkit.models.finish_reasons import finish_reason_of
from agentkit.models.messages import without_provider_fields
from agentkit.models.reply import ReplyReader
from agentkit.react_json.marks import HERMES
from agentkit.react_json.turn_object import TurnText
from agentkit.recorder import active
from agentkit.retry import RetryPolicy

BROKEN_STREAMS = RetryPolicy(tries=3)
MOST_BEHIND_STOP = 3  # chunks, to see whether the model went on
T = TypeVar("T")


class ChatModel(Protocol):
    """What a planner asks. `capabilities` are those of what computes."""

    @property
    def model_id(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def complete(self, request: ChatRequest) -> Iterator[str | ToolCallPiece | Completion]:
        """Pieces of text, where `request.stream` asks for them, then the completion; and pieces of calls, of which one
        may be an answer, where `request.holds_answer` says so and they come so.

        A call under way when the run's deadline comes is given up: `TimeoutError`.
        """
        ...

    def acomplete(self, request: ChatRequest) -> AsyncIterator[str | ToolCallPiece | Completion]:
        """`complete`, awaiting."""
        ...


class BackendChat:
    """A chat model over a backend; `options` and `stop` are for requests that do not name them themselves."""

    def __init__(
        self,
        backend: ChatBackend,
        *,
        capabilities: Capabilities | None = None,
        options: Mapping[str, Any] | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self._backend = as_backend(backend)
        self._stop = tuple(stop)
        self._options = dict(options or {})
        self.model_id = backend.model_id
        self.capabilities = capabilities or capabilities_of(backend)

    @property
    def row(self) -> tuple[BackendChat, ...]:
        """The models that it stands for, in the order in which they are asked; none where it is one."""
        alternatives = self.capabilities.alternatives
        return tuple(BackendChat(one, options=self._options, stop=self._stop) for one in alternatives)

    def complete(self, request: ChatRequest) -> Iterator[str | ToolCallPiece | Completion]:
        request = self._prepared(request)
        return repeated(lambda: self._complete(request))

    def acomplete(self, request: ChatRequest) -> AsyncIterator[str | ToolCallPiece | Completion]:
        request = self._prepared(request)
        return arepeated(lambda: self._acomplete(request))

    def _complete(self, request: ChatRequest) -> Generator[str | ToolCallPiece | Completion]:
        reply = Reply(request, self.capabilities, self.model_id)
        for piece in reply.pieces(recorded(self._backend).generate_chat(request)):
            if self._is_out_of_time(reply):
                raise TimeoutError
            yield from shown(piece, request)
        yield reply.completion()

    async def _acomplete(self, request: ChatRequest) -> AsyncGenerator[str | ToolCallPiece | Completion]:
        reply = Reply(request, self.capabilities, self.model_id)
        async with aclosing(reply.apieces(recorded(self._backend).agenerate_chat(request))) as pieces:
            async for piece in pieces:
                for one in shown(piece, request):
                    yield one
        yield reply.completion()

    def _is_out_of_time(self, reply: Reply) -> bool:
        """Whether a deadline struck between two chunks; over HTTP the connection holds it."""
        return self.capabilities.in_process and not reply.ended and not reply.stopped and remaining_s() == 0

    def _prepared(self, request: ChatRequest) -> ChatRequest:
        options = {**self._options, **request.options}
        return prepared(replace(request, options=options, stop=request.stop or self._stop), self.capabilities)


def shown(piece: Chunk, request: ChatRequest) -> Iterator[str | ToolCallPiece]:
    """What of a chunk a planner is given at once."""
    if piece.text and request.stream:
        yield piece.text
    if request.stream and request.holds_answer:
        yield from piece.tool_calls


def repeated(ask: Callable[[], Generator[T]]) -> Iterator[T]:
    """What `ask` gives; asked again where a stream broke for good, and what came of it is no part of the reply."""
    attempts = BROKEN_STREAMS.begin()
    while True:
        try:
            yield from ask()
            return
        except ReplyChanged:
            if not attempts.fail():
                raise


async def arepeated(ask: Callable[[], AsyncGenerator[T]]) -> AsyncIterator[T]:
    """`repeated`, awaiting."""
    attempts = BROKEN_STREAMS.begin()
    while True:
        try:
            async with aclosing(ask()) as pieces:
                async for piece in pieces:
                    yield piece
            return
        except ReplyChanged:
            if not attempts.fail():
                raise


def estimated_usage(request: ChatRequest, completion: Completion) -> Usage:
    """What a reply used, with an estimate of what it does not say: budgets hold all the same."""
    calls = (f"{call.name}{call.arguments}" for call in completion.tool_calls)
    reply = "\n".join([completion.thinking, completion.text, completion.cut_off, *calls])
    return with_estimate(completion.usage, lambda: count_prompt_tokens(request.messages, request.tools), reply)


def _updated(usage: Usage | None, later: Usage | None) -> Usage | None:
    return later if usage is None else usage.updated(later)


def recorded(backend: ChatBackend) -> Any:
    """The backend, or what the active recorder has of it."""
    recorder = active()
    return backend if recorder is None else recorder.backend(backend)


def prepared(request: ChatRequest, capabilities: Capabilities) -> ChatRequest:
    """The request as a backend is given it: within the run's budget, and with the grammar its reply is held to."""
    options = dict(request.options)
    if request.token_budget is not None:
        own = options.get("max_new_tokens", capabilities.max_new_tokens)
        if own is None or request.token_budget < own:
            options["max_new_tokens"] = request.token_budget
            if (least := options.get("min_new_tokens")) is not None:
                options["min_new_tokens"] = min(least, request.token_budget)
    request = replace(request, options=options, token_budget=None)
    if not (capabilities.over_http or capabilities.alternatives):
        request = replace(request, messages=without_provider_fields(request.messages))
    if not capabilities.grammar:
        return request
    parallel = options.pop("parallel_tool_calls", None)
    if request.tool_choice == "none":
        request = replace(request, tools=())
    if request.grammar:
        return request
    if request.response_format:
        return replace(request, grammar=format_grammar(request.response_format))
    if request.tools and capabilities.constrain != "off":
        grammar = tool_grammar(
            request.tools,
            request.tool_choice,
            syntax=capabilities.call_syntax or HERMES,
            special=capabilities.special_tokens,
            parallel=parallel,
        )
        return replace(request, grammar=grammar)
    return request


class Reply:
    """One reply on its way: `pieces` reads a backend's chunks; then there is the `completion`."""

    def __init__(self, request: ChatRequest, capabilities: Capabilities, model_id: str) -> None:
        self.usage: Usage | None = None
        self._request = request
        self._model_id = model_id
        may_call = request.tools and request.tool_choice != "none"  # servers show the tools even then
        syntax = (capabilities.call_syntax or HERMES) if may_call else None
        self._reader = ReplyReader(request.stop, calls=syntax, tools=request.tools)
        self._turn = TurnText(is_typed=request.holds_answer) if request.turn_schema else None
        self._schema_use: SchemaUse = ""
        self._dropped: Mapping[str, int] = {}
        self._finish_reason: str | None = None
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._given = self._restarted = 0  # pieces, those before the last restart
        self._calls = ToolCallPieces(self._request.tools)
        self._cut_off = ""
        self._behind_stop = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached: nothing after it counts, and the backend can be cancelled."""
        return self._reader.stopped

    @property
    def ended(self) -> bool:
        """Whether the backend said how the reply ended."""
        return self._finish_reason is not None

    def pieces(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The reply up to the first stop string, piece by piece; the last has a finish reason."""
        if not isinstance(chunks, Iterator):
            raise self._not_in_chunks("generate_chat", chunks)
        with closing(chunks):  # type: ignore[type-var]
            for chunk in chunks:
                if not self.stopped:
                    yield self.read(chunk)
                if self._is_over(chunk):
                    break
        yield self.last()

    async def apieces(self, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk]:
        """`pieces`, awaiting."""
        if not isinstance(chunks, AsyncIterator):
            raise self._not_in_chunks("agenerate_chat", chunks)
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                if not self.stopped:
                    yield self.read(chunk)
                if self._is_over(chunk):
                    break
        yield self.last()

    def _is_over(self, chunk: Chunk) -> bool:
        """Whether a stop string was reached, and it is known whether the backend went past it.

        One that did not ends here by itself, and says its usage.
        """
        if not self.stopped:
            return False
        if self._behind_stop:
            self._cut_off += chunk.text
            self.usage = _updated(self.usage, chunk.usage)
        else:
            self._cut_off = self._reader.cut_off
        self._behind_stop += 1
        went_on = len(self._cut_off.split()) > 1
        return went_on or chunk.finish_reason is not None or self._behind_stop > MOST_BEHIND_STOP

    def read(self, chunk: Chunk) -> Chunk:
        """What of a chunk can be shown now: text, thinking, calls, logprobs and metadata."""
        if not isinstance(chunk, Chunk) or not isinstance(chunk.text, str):
            raise self._not_in_chunks("its reply", chunk)
        self.usage = _updated(self.usage, chunk.usage)
        if chunk.metadata:
            rest = dict(chunk.metadata)
            self._model_id = rest.pop("model_name", self._model_id)  # of a server, or of a fallback
            self._schema_use = rest.pop(SCHEMA_USE, self._schema_use)
            self._dropped = rest.get(DROPPED_TO_FIT, self._dropped)
            chunk = replace(chunk, metadata=rest)
        piece = self._read(self._reader.read, chunk)
        if piece.finish_reason is not None:
            is_cut = self._request.holds_answer and bool((chunk.metadata or {}).get(ENDED_AT_LIMIT))
            self._finish_reason = "length" if is_cut else finish_reason_of(piece.finish_reason)
            piece = replace(piece, finish_reason=None)
        return self._taken(piece)

    def last(self) -> Chunk:
        """What was held back, with usage, the model's name and how the reply ended."""
        rest = self._taken(self._read(self._reader.rest))
        if self.usage is None and self.stopped:
            self.usage = estimated_usage(self._request, self.completion())
        reason = self._finish_reason or "stop"
        if reason == "stop" and self._calls.calls():
            reason = "tool_calls"
        self._finish_reason = reason
        metadata: dict[str, Any] = {"model_name": self._model_id}
        if self._turn is not None and (turn := self._turn.turn) is not None:
            metadata["turn"] = turn
        if self._schema_use:
            metadata[SCHEMA_USE] = self._schema_use
        return replace(rest, finish_reason=reason, usage=self.usage, metadata=metadata)

    def settled(self, pieces: Sequence[Chunk]) -> list[Chunk]:
        """All pieces, after the last, as whoever waited for them is given them: what was thinking after all is that."""
        thought = (replace(one, thinking=one.thinking + one.text, text="", tool_calls=()) for one in pieces)
        return [*islice(thought, self._restarted), *pieces[self._restarted :]]

    def completion(self) -> Completion:
        """The whole reply, after `last`."""
        return Completion(
            "".join(self._text),
            self.usage or Usage(),
            self._finish_reason or "stop",
            "".join(self._thinking),
            self._calls.calls(),
            self._cut_off,
            self._turn.turn if self._turn is not None else None,
            self._schema_use,
            self._dropped,
        )

    def _not_in_chunks(self, what: str, value: Any) -> ConfigurationError:
        if isinstance(value, Coroutine):
            value.close()
        if isinstance(value, Chunk):
            value = value.text
        return ConfigurationError(
            f"{self._model_id}: expected {what} to yield chunks, as yield Chunk(text=…), saw {described(value)}"
        )

    def _read(self, read: Callable[..., Chunk], *chunk: Chunk) -> Chunk:
        """A piece of the reply; one that ends a thought that the prompt opened makes thinking of all before it."""
        restarts = self._reader.restarts
        piece = read(*chunk)
        if self._reader.restarts > restarts:
            self._restarted = self._given
            self._thinking += self._text
            self._text.clear()
            self._turn = TurnText(is_typed=self._request.holds_answer) if self._turn is not None else None
            self._calls = ToolCallPieces(self._request.tools)
        if self._turn is None:
            return piece
        return replace(piece, text=self._turn.feed(piece.text) + ("" if chunk else self._turn.rest()))

    def _taken(self, piece: Chunk) -> Chunk:
        self._given += 1
        self._text.append(piece.text)
        self._thinking.append(piece.thinking)
        for call in piece.tool_calls:
            self._calls.add(call)
        return piece
