"""`HostedModel`: a chat model behind HTTP, as a backend that keeps its word when the server does not.

A reply's pieces are shown as they come. When the stream breaks, or ends without saying that the reply is complete, the
request is repeated; what was shown already is not shown again, and where the new reply is another one `ReplyChanged` is
raised. A request with `stream=False` shows nothing before the reply is complete, so it can always be repeated.
Tool calls come with the end of the reply, whole: half of one is never seen.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError, ModelError
from agentkit.events import Usage
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.hosted.answers import Answer
from agentkit.models.hosted.body import DROPPABLE, refused_field, request_body
from agentkit.models.hosted.clients import Clients
from agentkit.models.hosted.failures import Failure, failed, without_secrets
from agentkit.models.hosted.places import Outgoing, Place
from agentkit.models.hosted.prices import Prices, listed_usd, stated_usd
from agentkit.models.hosted.retries import Patience, Retries
from agentkit.models.hosted.server_sent import ServerSent
from agentkit.models.hosted.shown import Shown, Withheld
from agentkit.models.hosted.wire import Ask, AsyncExchange, Exchange, Head, Read, Send, Steps, Wait, adrive, drive
from agentkit.recorder import active

T = TypeVar("T")
Effects = Generator[Any, Any, T]

_LOG = logging.getLogger("agentkit")
UNPROCESSABLE = (400, 404, 422)
_WANTS_A_MODEL = re.compile(
    r"\bmodel\b.*(required|missing|not exist|not found)|(provide|specify|must|missing|required).*\bmodel\b",
    re.IGNORECASE,
)
AFTER_END_S = 1.0  # for what may follow the end of a reply: usage, and the end of the response


@dataclass(slots=True)
class _Learned:
    """What a server has shown of itself: fields it refuses, its only model's name, and that it gives good replies.

    `secrets` are the keys that were sent to it.
    """

    refused: set[str] = field(default_factory=set)
    model: str | None = None
    answers: bool = False
    secrets: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class HostedModel:
    """`place` gives requests their address; called for the first time only when something is asked.

    `defaults` are generation parameters by GenerationConfig's names, `extra` goes into the body as it is. `read_s` is
    the longest silence of the server. `notice` is told in a line when there is a wait; the log has it too.
    """

    model_id: str
    place: Callable[[], Place] = field(repr=False)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    stop: Sequence[str] = ()
    streaming: bool = False
    connect_s: float = 10.0
    read_s: float = 120.0
    retries: Retries = field(default_factory=Retries)
    prices: Prices = field(default_factory=dict)
    notice: Callable[[str], None] | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    asleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    now_s: Callable[[], float] = field(default=time.time, repr=False)

    _learned: _Learned = field(default_factory=_Learned, init=False, repr=False)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply; closing the iterator closes the connection."""
        return drive(self._steps(request), Exchange(self._clients, sleep=self.sleep))

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, awaiting."""
        return adrive(self._steps(request), AsyncExchange(self._clients, sleep=self.asleep))

    def close(self) -> None:
        """Close the connections that threads left open."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections that this event loop left open."""
        await self._clients.aclose()

    @cached_property
    def _place(self) -> Place:
        return self.place()

    @cached_property
    def _clients(self) -> Clients:
        return Clients(encrypted=not getattr(self._place, "url", "https:").startswith("http:"))

    # -- one call, in steps that touch no socket -------------------------------------------------------------------

    def _steps(self, request: ChatRequest) -> Steps:
        patience = self.retries.begin()
        reader = Shown() if request.stream else Withheld()
        while True:
            body = self._body(request)
            try:
                yield from self._attempt(request, body, patience, reader)
                return
            except Failure as failure:
                if failure.status in UNPROCESSABLE and (yield from self._adapted(body, failure, patience)):
                    continue
                try:
                    wait_s = patience.wait_s(failure, known=self._learned.answers)
                except Failure as last:
                    raise self._error(last, patience) from failure
                self._tell(failure, wait_s)
                yield Wait(0.0 if _replaying() else wait_s)

    def _attempt(
        self, request: ChatRequest, body: dict[str, Any], patience: Patience, reader: Shown | Withheld
    ) -> Steps:
        reader.begin()
        head = yield from self._sent(body, patience)
        answer = Answer(salt=len(request.messages), cost=partial(self._cost, head.headers))
        if head.headers.get("content-type", "").startswith("text/event-stream"):
            yield from self._streamed(answer, patience, reader)
        elif (chunk := answer.read((yield from self._rest(patience)))) is not None:
            yield from reader.new(chunk)
        if not answer.finished:
            raise Failure("ended the reply before it was complete")
        self._learned.answers = True
        yield from reader.end()
        yield answer.end()

    def _streamed(self, answer: Answer, patience: Patience, reader: Shown | Withheld) -> Steps:
        """The events of a stream, up to the end of the response, so that its connection can be used again."""
        events = ServerSent()
        while (piece := (yield from self._next_piece(answer, patience))) is not None:
            for data in events.feed(piece):
                if (chunk := answer.read(data)) is not None:
                    yield from reader.new(chunk)
        for data in events.rest() if not answer.finished else ():
            if (chunk := answer.read(data)) is not None:
                yield from reader.new(chunk)

    def _next_piece(self, answer: Answer, patience: Patience) -> Effects[bytes | None]:
        """More of the stream; nothing that fails after the reply's end matters."""
        piece: bytes | None
        if not answer.finished:
            piece = yield Read(patience.left_s())
            patience.left_s()
            return piece
        try:
            piece = yield Read(AFTER_END_S)
        except Failure:
            return None
        return piece

    def _sent(self, body: dict[str, Any], patience: Patience) -> Effects[Head]:
        """The head of a good response."""
        place = self._place
        outgoing = (yield Ask(partial(place.chat, body))) if place.looks_up else place.chat(body)
        return (yield from self._good(outgoing, patience))

    def _good(self, outgoing: Outgoing, patience: Patience) -> Effects[Head]:
        left_s = patience.left_s()
        read_s = self.read_s if left_s is None else min(self.read_s, left_s)
        connect_s = min(self.connect_s, read_s)
        self._learned.secrets |= outgoing.secrets
        head: Head = yield Send(outgoing, connect_s, read_s, left_s)
        if head.status >= 300:
            raise failed(head.status, head.headers, (yield from self._rest(patience)), now_s=self.now_s())
        return head

    def _rest(self, patience: Patience) -> Effects[bytes]:
        """What is left of a response."""
        pieces = []
        while (piece := (yield Read(patience.left_s()))) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body = request_body(
            request,
            defaults=self.defaults,
            extra=self.extra,
            stop=self.stop,
            stream=request.stream or self.streaming,
            refused=self._learned.refused,
        )
        return {"model": self._learned.model, **body} if self._learned.model else body

    def _cost(
        self, headers: Mapping[str, str], said: Mapping[str, Any], usage: Usage, served: str | None
    ) -> float | None:
        stated = stated_usd(said, headers)
        return listed_usd(self.prices, (self.model_id, served), usage) if stated is None else stated

    # -- what a server does not take -------------------------------------------------------------------------------

    def _adapted(self, body: Mapping[str, Any], failure: Failure, patience: Patience) -> Effects[bool]:
        """Whether the next body will be one that this server may take."""
        name = refused_field(body, failure.said) if failure.status != 404 else None
        if name in DROPPABLE:
            _LOG.info("%s does not take %s; going on without it", self.model_id, name)
            self._learned.refused.add(name)
            return True
        if name is not None:
            said = f"{self.model_id} does not take {name}: leave it out ({failure.said})"
            raise ConfigurationError(self._shown(said))
        if "model" in body or getattr(self._place, "model", None) or not _WANTS_A_MODEL.search(failure.said):
            return False
        return (yield from self._model_found(patience))

    def _model_found(self, patience: Patience) -> Effects[bool]:
        """Whether the server has one model only, which will be named from now on."""
        asking = self._place.models()
        if asking is None or self._learned.model is not None:
            return self._learned.model is not None
        try:
            yield from self._good(asking, patience)
            known = json.loads((yield from self._rest(patience)))
            names = [str(one["id"]) for one in known["data"]]
        except (Failure, ValueError, LookupError, TypeError):
            return False
        if len(names) > 1:
            listed = ", ".join(names[:10])
            raise ConfigurationError(f"{self.model_id} wants a model's name; name one after a #: {listed}")
        self._learned.model = names[0] if names else None
        return bool(names)

    # -- failures --------------------------------------------------------------------------------------------------

    def _error(self, failure: Failure, patience: Patience) -> Exception:
        said = self._shown(f"{self.model_id} {failure.said}")
        if failure.status in (401, 403):
            return ConfigurationError(f"{said}; it refused the token: check it and its rights")
        tries = f" (tried {patience.failures} times)" if patience.failures > 1 else ""
        return ModelError(said + tries)

    def _shown(self, text: str) -> str:
        return without_secrets(text, *self._learned.secrets)

    def _tell(self, failure: Failure, wait_s: float) -> None:
        if failure.loading_s is not None:
            line = f"{self.model_id} is loading the model; asking again in {wait_s:.0f} s"
        else:
            line = self._shown(f"{self.model_id} {failure.said}; trying again in {wait_s:.1f} s")
        _LOG.info("%s", line)
        if self.notice is not None:
            self.notice(line)


def _replaying() -> bool:
    """Whether a recorded run is replayed, in which no wait is waited for again."""
    cassette = active()
    return cassette is not None and cassette.plays
