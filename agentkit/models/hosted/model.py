"""`HostedModel`: a chat model behind HTTP, as a backend that keeps its word when the server does not.

A reply's pieces are shown as they come. When the stream breaks, or ends without saying that the reply is complete, the
request is repeated; what was shown already is not shown again, and where the new reply is another one `ReplyChanged` is
raised. A request with `stream=False` shows nothing before the reply is complete, so it can always be repeated.
Tool calls come with the end of the reply, whole: half of one is never seen.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from agentkit.errors import ConfigurationError, ModelError
from agentkit.http_body import MOST_BYTES, MOST_ERROR_BYTES, MOST_STREAM_BYTES, Body, Unreadable
from agentkit.models.backend import Capabilities, ChatRequest, Chunk
from agentkit.models.hosted.body import DROPPABLE, refused_field, request_body
from agentkit.models.hosted.delivery import Delivery
from agentkit.models.hosted.failures import Failure, refusal, unreadable, without_secrets
from agentkit.models.hosted.places import Outgoing, Place
from agentkit.models.hosted.wire import (
    Ask,
    Clients,
    Exchange,
    Head,
    Read,
    Send,
    Steps,
    Wait,
    drive,
)
from agentkit.models.openai_format import BrokenReply, CompletionReader, NotACompletion, ServerSentEvents, TooMuch
from agentkit.recorder import active
from agentkit.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from agentkit.models.hosted.awaiting import LoopClients

T = TypeVar("T")
Effects = Generator[Any, Any, T]
Prices = Mapping[str, tuple[float, float]]
"""From a model's name to US dollars per million tokens, of the prompt and of the completion."""

_LOG = logging.getLogger("agentkit")
UNPROCESSABLE = (400, 404, 422)
_WANTS_A_MODEL = re.compile(
    r"\bmodel\b.*(required|missing|not exist|not found)|(provide|specify|must|missing|required).*\bmodel\b",
    re.IGNORECASE,
)
MOST_MOVES = 4  # redirects within a server
ERROR_BODY_S = 5.0
AFTER_END_S = 1.0  # for what may follow the end of a reply: usage, and the end of the response
DOUBTFUL_TRIES = 2  # where there may be no chat server at the address
LONGEST_WAIT_S = 3600.0  # whatever the server asks for, where there is no deadline
LOADING_POLL_S = 30.0  # a loading model is asked again at least this often


@dataclass(slots=True)
class _Quirks:
    """What a server has shown of itself: fields it refuses, its only model's name, and that it gives good replies.

    `secrets` are the keys that were sent to it.
    """

    refused: set[str] = field(default_factory=set)
    model: str | None = None
    answers: bool = False
    secrets: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class HostedModel:
    """`locate` gives requests their address; called only when something is asked.

    `identity` is the address and the model without keys. `defaults` are generation parameters by GenerationConfig's
    names, `extra` goes into the body as it is. `read_s` is the longest silence of the server. `notice` gets a line when
    there is a wait; the log has it too. Where a server refuses a field that can be done without, it is left out, unless
    `adapts` is False.
    """

    model_id: str
    locate: Callable[..., Place] = field(repr=False)
    identity: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    stop: Sequence[str] = ()
    streaming: bool = False
    adapts: bool = True
    connect_s: float = 10.0
    read_s: float = 120.0
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(tries=5, total_s=600.0))
    prices: Prices = field(default_factory=dict)
    notice: Callable[[str], None] | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    asleep: Callable[[float], Awaitable[None]] | None = field(default=None, repr=False)
    now_s: Callable[[], float] = field(default=time.time, repr=False)

    _quirks: _Quirks = field(default_factory=_Quirks, init=False, repr=False)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What any chat server does; whether one calls tools in its own syntax is found out by asking."""
        return Capabilities(
            over_http=True,
            tools=True,
            max_new_tokens=self.defaults.get("max_new_tokens"),
            identity=self.identity or self.model_id,
        )

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply; closing the iterator closes the connection."""
        return drive(self._steps(request), Exchange(self._clients, sleep=self.sleep))

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, awaiting."""
        from agentkit.models.hosted.awaiting import AsyncExchange, adrive

        return adrive(self._steps(request), AsyncExchange(self._loop_clients, sleep=self.asleep))

    def keyless(self) -> HostedModel:
        """The same model at an address that the user has not named: no key of the environment goes there."""
        return replace(self, locate=partial(self.locate, keyless=True))

    def close(self) -> None:
        """Close the connections that threads left open."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections that this event loop left open."""
        await self._loop_clients.close()

    @cached_property
    def place(self) -> Place:
        """Where the model is; raises `ConfigurationError` where a token is missing."""
        return self.locate()

    @cached_property
    def _clients(self) -> Clients:
        return Clients(encrypted=self.place.is_encrypted, on_this_machine=self.place.on_this_machine)

    @cached_property
    def _loop_clients(self) -> LoopClients:
        from agentkit.models.hosted.awaiting import LoopClients

        return LoopClients(self._clients.options)

    # -- one call, in steps that touch no socket -------------------------------------------------------------------

    def _steps(self, request: ChatRequest) -> Steps:
        attempts = self.retries.begin()
        delivery = Delivery(early=request.stream)
        while True:
            body = self._body(request)
            try:
                yield from self._attempt(request, body, attempts, delivery)
                return
            except Failure as failure:
                refused = self.adapts and failure.status in UNPROCESSABLE
                if refused and (yield from self._mends(body, failure, attempts)):
                    continue
                try:
                    wait_s = self._wait_s(failure, attempts)
                except Failure as last:
                    raise self._error(last, attempts) from failure
                self._notify(failure, wait_s)
                yield Wait(0.0 if _is_replayed() else wait_s)

    def _attempt(self, request: ChatRequest, body: dict[str, Any], attempts: Attempts, delivery: Delivery) -> Steps:
        delivery.begin()
        head = yield from self._send(body, attempts)
        reader = CompletionReader(salt=len(request.messages), headers=head.headers)
        try:
            if head.headers.get("content-type", "").startswith("text/event-stream"):
                yield from self._read_stream(head, reader, attempts, delivery)
            elif (chunk := reader.read((yield from self._whole(head, attempts)))) is not None:
                yield from delivery.add(chunk)
        except (NotACompletion, BrokenReply, TooMuch, Unreadable) as error:
            raise unreadable(error) from error
        if not reader.finished:
            raise Failure("ended the reply before it was complete")
        self._quirks.answers = True
        yield from delivery.end()
        yield self._priced(reader.end())

    def _read_stream(self, head: Head, reader: CompletionReader, attempts: Attempts, delivery: Delivery) -> Steps:
        """The events of a stream, up to the end of the response, so that its connection can be used again."""
        events, body = ServerSentEvents(), Body(head.headers.get("content-encoding"), MOST_STREAM_BYTES)
        while not reader.finished and (piece := (yield Read(_left_s(attempts)))) is not None:
            for data in events.feed(body.read(piece)):
                if not reader.finished:
                    _left_s(attempts)
                if (chunk := reader.read(data)) is not None:
                    yield from delivery.add(chunk)
            if body.is_too_long:
                raise TooMuch(MOST_STREAM_BYTES)
        for data in events.rest() if not reader.finished else ():
            if (chunk := reader.read(data)) is not None:
                yield from delivery.add(chunk)
        if reader.finished:
            yield from self._after_end(reader, events, body, delivery)

    def _after_end(self, reader: CompletionReader, events: ServerSentEvents, body: Body, delivery: Delivery) -> Steps:
        """What follows the end of a reply, usage above all; for a moment, and nothing that fails in it matters."""
        end_s = self.retries.clock() + AFTER_END_S
        try:
            while (left_s := end_s - self.retries.clock()) > 0 and not body.is_too_long:
                if (piece := (yield Read(left_s))) is None:
                    return
                for data in events.feed(body.read(piece)):
                    if (chunk := reader.read(data)) is not None:
                        yield from delivery.add(chunk)
        except (Failure, NotACompletion, BrokenReply, TooMuch, Unreadable):
            return

    def _send(self, body: dict[str, Any], attempts: Attempts) -> Effects[Head]:
        """The head of a good response."""
        place = self.place
        outgoing = (yield Ask(partial(place.chat, body))) if place.looks_up else place.chat(body)
        return (yield from self._ask(outgoing, attempts))

    def _ask(self, outgoing: Outgoing, attempts: Attempts) -> Effects[Head]:
        for _ in range(MOST_MOVES):
            left_s = _left_s(attempts)
            read_s = self.read_s if left_s is None else min(self.read_s, left_s)
            self._quirks.secrets |= outgoing.secrets
            head: Head = yield Send(outgoing, min(self.connect_s, read_s), read_s, left_s)
            moved = outgoing.moved(head.headers.get("location", "")) if head.status in (307, 308) else None
            if moved is None:
                break
            outgoing = moved
        if head.status >= 300:
            raise refusal(head.status, head.headers, (yield from self._beginning(head, attempts)), now_s=self.now_s())
        return head

    def _whole(self, head: Head, attempts: Attempts) -> Effects[bytes]:
        """A response's content."""
        body = Body(head.headers.get("content-encoding"), MOST_BYTES)
        pieces = []
        while (piece := (yield Read(_left_s(attempts)))) is not None:
            pieces.append(body.read(piece))
            if body.is_too_long:
                raise TooMuch(MOST_BYTES)
        return b"".join(pieces)

    def _beginning(self, head: Head, attempts: Attempts) -> Effects[bytes]:
        """What an error's body begins with; its status counts, whatever goes wrong with the rest."""
        pieces = []
        end_s = self.retries.clock() + ERROR_BODY_S
        try:
            body = Body(head.headers.get("content-encoding"), MOST_ERROR_BYTES)
            while not body.is_too_long and (left_s := end_s - self.retries.clock()) > 0:
                allowed_s = _left_s(attempts)
                if (piece := (yield Read(left_s if allowed_s is None else min(left_s, allowed_s)))) is None:
                    break
                pieces.append(body.read(piece))
        except (Failure, Unreadable):
            pass
        return b"".join(pieces)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body = request_body(
            request,
            defaults=self.defaults,
            extra=self.extra,
            stop=self.stop,
            stream=request.stream or self.streaming,
            refused=self._quirks.refused,
        )
        return {"model": self._quirks.model, **body} if self._quirks.model else body

    def _priced(self, last: Chunk) -> Chunk:
        """The last chunk with what the reply costs by the table of prices, where the server does not say.

        Tokens that it does not count are not free: of them nothing is known.
        """
        usage = last.usage
        if usage is None or usage.cost_usd is not None:
            return last
        names = (self.model_id, str((last.metadata or {}).get("model_name")))
        prices = next((self.prices[name] for name in names if name in self.prices), None)
        if prices is None:
            return last
        counts = usage.prompt_tokens, usage.completion_tokens
        if any(price and not count for price, count in zip(prices, counts, strict=True)):
            return last
        cost_usd = sum(price * count for price, count in zip(prices, counts, strict=True)) / 1e6
        return replace(last, usage=replace(usage, cost_usd=cost_usd))

    # -- what a server does not take -------------------------------------------------------------------------------

    def _mends(self, body: Mapping[str, Any], failure: Failure, attempts: Attempts) -> Effects[bool]:
        """Whether the next body will be one that this server may take."""
        name = refused_field(body, failure.message) if failure.status != 404 else None
        if name in DROPPABLE:
            _LOG.info("%s does not take %s; going on without it", self.model_id, name)
            self._quirks.refused.add(name)
            return True
        if name is not None:
            message = f"{self.model_id} does not take {name}: leave it out ({failure.message})"
            raise ConfigurationError(self._redacted(message))
        if "model" in body or self.place.model or not _WANTS_A_MODEL.search(failure.message):
            return False
        return (yield from self._finds_model(attempts))

    def _finds_model(self, attempts: Attempts) -> Effects[bool]:
        """Whether the server has one model only, which will be named from now on."""
        asking = self.place.models()
        if asking is None or self._quirks.model is not None:
            return self._quirks.model is not None
        try:
            names = [one["id"] for one in (yield from self._listing(asking, attempts))]
        except Failure:
            return False
        if len(names) > 1:
            listed = ", ".join(names[:10])
            raise ConfigurationError(f"{self.model_id} wants a model's name; name one after a #: {listed}")
        self._quirks.model = names[0] if names else None
        return bool(names)

    def _listing(self, asking: Outgoing, attempts: Attempts) -> Effects[list[dict[str, Any]]]:
        """The server's models, each with an `id`; none where it does not list them."""
        head = yield from self._ask(asking, attempts)
        try:
            models = json.loads((yield from self._whole(head, attempts)))["data"]
            return [one for one in models if isinstance(one.get("id"), str)]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return []

    def models(self) -> list[dict[str, Any]]:
        """What the server says of its models, each with an `id`; raises `ModelError` where it fails."""
        found: list[dict[str, Any]] = []
        attempts = self.retries.begin()

        def steps() -> Steps:
            if (asking := self.place.models()) is not None:
                found.extend((yield from self._listing(asking, attempts)))

        try:
            for _ in drive(steps(), Exchange(self._clients, sleep=self.sleep)):
                pass
        except Failure as failure:
            raise self._error(failure, attempts) from failure
        return found

    # -- failures --------------------------------------------------------------------------------------------------

    def _wait_s(self, failure: Failure, attempts: Attempts) -> float:
        """Seconds to wait before the next attempt; raises what failed where there is none."""
        if not failure.retry:
            raise failure
        _left_s(attempts)
        if failure.loading_s is None:
            is_doubtful = failure.doubtful and not self._quirks.answers
            if not attempts.fail(tries=DOUBTFUL_TRIES if is_doubtful else None):
                raise failure
        if failure.retry_after_s is not None:
            wait_s = failure.retry_after_s
        elif failure.loading_s is not None:
            wait_s = min(failure.loading_s, LOADING_POLL_S)
        else:
            wait_s = attempts.wait_s()
        if not attempts.has_time_for(min(wait_s, LONGEST_WAIT_S)) or wait_s > LONGEST_WAIT_S:
            when = "after the deadline" if attempts.limit_s is not None else "which is too long to wait"
            message = f"{failure.message}; the next try would be in {wait_s:.3g} s, {when}"
            raise Failure(message, status=failure.status, retry=False)
        return wait_s

    def _error(self, failure: Failure, attempts: Attempts) -> Exception:
        message = self._redacted(f"{self.model_id} {failure.message}")
        if failure.status in (401, 403):
            return ConfigurationError(
                f"{message}; {self.place.no_key or 'it refused the token: check it and its rights'}"
            )
        tries = f" (tried {attempts.failures} times)" if attempts.failures > 1 else ""
        return ModelError(message + tries)

    def _redacted(self, text: str) -> str:
        return without_secrets(text, *self._quirks.secrets)

    def _notify(self, failure: Failure, wait_s: float) -> None:
        if failure.loading_s is not None:
            line = f"{self.model_id} is loading the model; asking again in {wait_s:.0f} s"
        else:
            line = self._redacted(f"{self.model_id} {failure.message}; trying again in {wait_s:.1f} s")
        _LOG.info("%s", line)
        if self.notice is not None:
            self.notice(line)


def _left_s(attempts: Attempts) -> float | None:
    """Seconds until the deadline; `None` where there is none. Raises `Failure` when it has passed."""
    left_s = attempts.left_s()
    if left_s == 0:
        message = f"gave no whole reply within {attempts.limit_s:.3g} s; raise total_timeout, or the run's"
        raise Failure(message, retry=False)
    return left_s


def _is_replayed() -> bool:
    """Whether a recorded run is replayed, in which no wait is waited for again."""
    recorder = active()
    return recorder is not None and recorder.plays
