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
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from agentkit.errors import AgentkitError, ConfigurationError, ModelError, PromptTooLong, in_one_line
from agentkit.events import IN_EVENTS, Usage
from agentkit.http_body import MOST_BYTES, MOST_ERROR_BYTES, MOST_STREAM_BYTES, Body, Unreadable
from agentkit.models.backend import DROPPED_TO_FIT, SCHEMA_USE, Capabilities, ChatRequest, Chunk, Closing
from agentkit.models.hosted.body import Lessons, request_body
from agentkit.models.hosted.delivery import Delivery
from agentkit.models.hosted.failures import Failure, refusal, unreadable, without_secrets
from agentkit.models.hosted.phrasing import Phrasing
from agentkit.models.hosted.places import ROUTER, Outgoing, Place, Server
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
from agentkit.models.openai_format import BrokenReply, CompletionReader, NotACompletion, ReplyData, TooMuch
from agentkit.recorder import active
from agentkit.retry import Attempts, RetryPolicy
from agentkit.secrets import KeysInUse

if TYPE_CHECKING:
    from agentkit.models.hosted.awaiting import LoopClients

T = TypeVar("T")
Effects = Generator[Any, Any, T]
Prices = Mapping[str, tuple[float, float]]
"""From a model's name to US dollars per million tokens, of the prompt and of the completion."""

_LOG = logging.getLogger("agentkit")
WRONG_FIELDS = (400, 404, 422)
_WANTS_A_MODEL = re.compile(
    r"\bmodel\b.*(required|missing|not exist|not found)|(provide|specify|must|missing|required).*\bmodel\b",
    re.IGNORECASE,
)
_NO_SUCH_MODEL = re.compile(
    r"\bmodel\b.{0,80}?(?:\bnot\b.{0,12}(?:exist|found|available)|unknown|doesn't exist)"
    r"|\b(?:unknown|invalid|no such|unsupported|not found)\b.{0,20}\bmodel\b",
    re.IGNORECASE,
)
MOST_MOVES = 4  # redirects within a server
ERROR_BODY_S = 5.0
AFTER_END_S = 1.0  # for what may follow the end of a reply: usage, and the end of the response
DOUBTFUL_TRIES = 2  # where there may be no chat server at the address
TESTED_AFTER = 20  # requests that were shortened for what a server said earlier
LISTING_S = 10.0  # for the names of what is served
MOST_NAMES = 5
MOST_NAMED = 10  # of the models that there are instead
MOST_LISTED = 300  # characters of names
_MOST_CHARS = 1000
LONGEST_WAIT_S = 3600.0  # whatever the server asks for, where there is no deadline
LOADING_POLL_S, UNTOLD_POLL_S = 30.0, 2.0  # a loading model is asked again at least this often; not told how long


@dataclass(slots=True)
class _Quirks:
    """What a server has shown of itself: what it takes, which model it serves, and that it gives good replies."""

    lessons: Lessons = field(default_factory=Lessons)
    serves: str = ""  # by its replies
    answers: bool = False
    foreseen: int = 0  # requests that were shortened for a context that was met before


@dataclass(frozen=True, kw_only=True)
class HostedModel(Closing):
    """`locate` gives requests their address; called only when something is asked.

    `identity` is the address and the model without keys; unless it `is_named`, the server says which model that is.
    `defaults` are generation parameters by GenerationConfig's names, `extra` goes into the body as it is. `read_s` is
    the longest silence of the server. `notice` gets a line when there is a wait, or a request is put otherwise; the log
    has it too. Where a server refuses what can be put otherwise, it is, unless `adapts` is False: a field is left out,
    a system message folded, a reply asked shorter, an old observation dropped. `verify` is whether certificates are
    checked, or a file or folder of those to trust. `keys` are those that it was given, and those that it sends.
    Unless it `insists` on its `retries`, an address at which no chat server has shown yet is asked twice at most.
    """

    model_id: str
    locate: Callable[..., Place] = field(repr=False)
    identity: str = ""
    is_named: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    stop: Sequence[str] = ()
    streaming: bool = False
    adapts: bool = True
    connect_s: float = 10.0
    read_s: float = 120.0
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str | Path = True
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(tries=5, total_s=600.0))
    insists: bool = False
    keys: KeysInUse = field(default_factory=KeysInUse, repr=False)
    prices: Prices = field(default_factory=dict)
    notice: Callable[[str], None] | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    asleep: Callable[[float], Awaitable[None]] | None = field(default=None, repr=False)
    now_s: Callable[[], float] = field(default=time.time, repr=False)

    _seen: _Quirks = field(default_factory=_Quirks, init=False, repr=False)
    _seen_in: WeakKeyDictionary[object, _Quirks] = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    @property
    def _quirks(self) -> _Quirks:
        """What the server has shown; in a recorder's block only there, as a replay knows nothing of what was before."""
        recorder = active()
        return self._seen if recorder is None else self._seen_in.setdefault(recorder.block, _Quirks())

    @cached_property
    def capabilities(self) -> Capabilities:
        """What any chat server does; whether one calls tools in its own syntax is found out by asking."""
        return Capabilities(
            over_http=True,
            tools=True,
            max_new_tokens=self.defaults.get("max_new_tokens"),
            identity=self.identity or self.model_id,
            served=None if self.is_named else self._served,
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
        place, verify = self.place, True if _is_replayed() else self.verify
        return Clients(
            encrypted=place.is_encrypted, on_this_machine=place.on_this_machine, proxy=self.proxy, verify=verify
        )

    @cached_property
    def _loop_clients(self) -> LoopClients:
        from agentkit.models.hosted.awaiting import LoopClients

        return LoopClients(self._clients.options, self._clients.unanswered)

    # -- one call, in steps that touch no socket -------------------------------------------------------------------

    def _steps(self, request: ChatRequest) -> Steps:
        attempts = self.retries.begin()
        delivery = Delivery(early=request.stream)
        phrasing = Phrasing(request, self._quirks.lessons)
        if self.adapts and phrasing.lessons.context:
            self._foresee(phrasing)
        while True:
            body = self._body(phrasing)
            try:
                yield from self._attempt(phrasing, body, attempts, delivery)
                return
            except Failure as failure:
                failure.redact(self._redacted)
                if (yield from self._gives_way(phrasing, body, failure, attempts)):
                    continue
                if self.adapts and not delivery.has_begun and (done := phrasing.lets_go(failure)):
                    self._tell(f"{self.model_id} {done}")
                    continue
                try:
                    wait_s = self._wait_s(failure, attempts)
                except Failure as last:
                    last.message += yield from self._names_models(last, phrasing)
                    raise self._error(last, attempts, phrasing) from None  # it says all; a cause may hold a key
                self._notify(failure, wait_s)
                yield Wait(0.0 if _is_replayed() else wait_s)

    def _foresee(self, phrasing: Phrasing) -> None:
        """Shorten what the server would refuse; now and then see whether it still does."""
        body, quirks = self._body(phrasing), self._quirks
        if not phrasing.foresees(body):
            return
        quirks.foreseen += 1
        if quirks.foreseen % TESTED_AFTER == 0:
            phrasing.test_context()
            return
        for done in phrasing.foresee(body):
            self._tell(f"{self.model_id} {done}", logging.WARNING, drops=phrasing.drops)

    def _attempt(self, phrasing: Phrasing, body: dict[str, Any], attempts: Attempts, delivery: Delivery) -> Steps:
        delivery.begin()
        head = yield from self._send(body, attempts, phrasing.lessons.base)
        self._learn(phrasing)
        self._quirks.answers |= head.headers.get("content-type", "").startswith("text/event-stream")
        asked = phrasing.asked
        reader = CompletionReader(
            salt=len(asked.messages), headers=head.headers, tools=asked.tools, origin=self.capabilities.identity
        )
        try:
            yield from self._read_reply(head, reader, attempts, delivery)
            reader.check()
        except (NotACompletion, BrokenReply, TooMuch, Unreadable) as error:
            raise unreadable(error, path="" if reader.begun else head.path) from error
        finally:
            self._quirks.answers |= reader.begun
        last = self._priced(reader.end())
        phrasing.answered(body, last.usage)
        self._learn(phrasing, last.usage)
        self._notice_model(str((last.metadata or {}).get("model_name") or ""), phrasing)
        yield from delivery.end()
        more: dict[str, Any] = {SCHEMA_USE: phrasing.schema_use} if phrasing.schema_use else {}
        if phrasing.fitted is not None:
            more[DROPPED_TO_FIT] = phrasing.fitted.dropped
        yield _with_metadata(last, **more) if more else last

    def _read_reply(self, head: Head, reader: CompletionReader, attempts: Attempts, delivery: Delivery) -> Steps:
        """The reply, up to the end of the response, so that its connection can be used again."""
        events, body = ReplyData(), Body(head.headers.get("content-encoding"), MOST_STREAM_BYTES)
        while not reader.finished and (piece := (yield Read(_left_s(attempts)))) is not None:
            for data in events.feed(body.read(piece)):
                if not reader.finished:
                    _left_s(attempts)
                if (chunk := reader.read(data)) is not None:
                    yield from delivery.add(chunk)
            self._quirks.answers |= events.begins_completion
            if body.is_too_long:
                raise TooMuch(MOST_STREAM_BYTES)
        for data in events.rest() if not reader.finished else ():
            if (chunk := reader.read(data)) is not None:
                yield from delivery.add(chunk)
        if reader.finished:
            yield from self._after_end(reader, events, body, delivery)

    def _after_end(self, reader: CompletionReader, events: ReplyData, body: Body, delivery: Delivery) -> Steps:
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

    def _send(self, body: dict[str, Any], attempts: Attempts, base: int) -> Effects[Head]:
        """The head of a good response."""
        place = self.place
        outgoing = (yield Ask(partial(place.chat, body))) if place.looks_up else place.chat(body, base)
        return (yield from self._ask(outgoing, attempts))

    def _ask(self, outgoing: Outgoing, attempts: Attempts) -> Effects[Head]:
        for _ in range(MOST_MOVES):
            self.keys.add(outgoing.secrets)
            head: Head
            try:
                head = yield self._sending(outgoing, attempts)
            except Failure as failure:
                if not failure.stale:
                    raise
                head = yield self._sending(outgoing, attempts)
            moved = outgoing.moved(head.headers.get("location", "")) if head.status in (307, 308) else None
            if moved is None:
                break
            outgoing = moved
        head = head._replace(path=urlsplit(outgoing.url).path)
        if head.status >= 300:
            body = yield from self._beginning(head, attempts)
            raise refusal(head.status, head.headers, body, path=head.path, now_s=self.now_s())
        return head

    def _sending(self, outgoing: Outgoing, attempts: Attempts) -> Send:
        left_s = _left_s(attempts)
        read_s = self.read_s if left_s is None else min(self.read_s, left_s)
        return Send(outgoing, min(self.connect_s, read_s), read_s, left_s)

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

    def _body(self, phrasing: Phrasing) -> dict[str, Any]:
        request = phrasing.request
        return request_body(
            request,
            defaults=self.defaults,
            extra=self.extra,
            stop=self.stop,
            stream=request.stream or self.streaming,
            lessons=phrasing.taken,
            most_tokens=phrasing.most_tokens,
            origin=self.capabilities.identity if _returns_fields() else None,
        )

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

    def _gives_way(
        self, phrasing: Phrasing, body: Mapping[str, Any], failure: Failure, attempts: Attempts
    ) -> Effects[bool]:
        """Whether the next request will be one that this server may take."""
        bases = len(self.place.bases)
        if failure.elsewhere and not self._quirks.answers and phrasing.goes_elsewhere(failure, bases):
            return True
        if not self.adapts or not failure.said or failure.elsewhere:
            return False
        try:
            done = phrasing.gives_way(body, failure, model_id=self.model_id)
        except PromptTooLong:
            self._learn(phrasing)  # the next request is to be shorter
            raise
        if done:
            level = logging.WARNING if phrasing.is_loss else logging.INFO
            self._tell(f"{self.model_id} {done}", level, drops=phrasing.drops)
            return True
        if failure.status not in WRONG_FIELDS or "model" in body or self.place.model:
            return False
        if not _WANTS_A_MODEL.search(failure.message):
            return False
        return (yield from self._finds_model(phrasing, attempts))

    def _learn(self, phrasing: Phrasing, usage: Usage | None = None) -> None:
        """The server takes a request that was put so: what was given way in is right. It counted these tokens."""
        quirks, taught = self._quirks, phrasing.lessons
        quirks.lessons = quirks.lessons.taught(phrasing.known, taught)
        if usage is not None and quirks.lessons.context is not None and quirks.lessons.context.is_disproved(usage):
            quirks.lessons = replace(quirks.lessons, context=None)

    def _notice_model(self, serves: str, phrasing: Phrasing) -> None:
        """Which model gave a good reply.

        Of another one than before, also of one that a router puts behind the same name, no more is known than this
        request taught.
        """
        quirks = self._quirks
        if quirks.serves and serves != quirks.serves:
            of_server = Lessons(base=quirks.lessons.base)
            quirks.lessons = of_server.taught(phrasing.known, phrasing.lessons)
        quirks.serves, quirks.answers = serves, True

    def _finds_model(self, phrasing: Phrasing, attempts: Attempts) -> Effects[bool]:
        """Whether the server has one model only, which will be named from now on."""
        asking = self.place.models(phrasing.lessons.base)
        if asking is None:
            return False
        try:
            names = [one["id"] for one in (yield from self._listing(asking, attempts))]
        except Failure:
            return False
        if len(names) > 1:
            listed = in_one_line(", ".join(names[:MOST_NAMED]), MOST_LISTED)
            raise ConfigurationError(f"{self.model_id} wants a model's name; name one after a #: {listed}")
        phrasing.lessons = replace(phrasing.lessons, model=names[0] if names else None)
        return bool(names)

    def _names_models(self, failure: Failure, phrasing: Phrasing) -> Effects[str]:
        """Which models there are, behind the message of a failure that says that there is none of this name."""
        asking = self.place.models(phrasing.lessons.base)
        is_of_name = failure.status in WRONG_FIELDS and self.place.model and _NO_SUCH_MODEL.search(failure.message)
        if not is_of_name or asking is None:
            return ""
        try:
            listed = yield from self._listing(asking, RetryPolicy(tries=1, total_s=LISTING_S).begin())
        except (Failure, Unreadable):
            return ""
        names = ", ".join([one["id"] for one in listed][:MOST_NAMED])
        return f"; it serves {in_one_line(names, MOST_LISTED)}" if names else ""

    def _listing(self, asking: Outgoing, attempts: Attempts) -> Effects[list[dict[str, Any]]]:
        """The server's models, each with an `id`; none where it does not list them."""
        head = yield from self._ask(asking, attempts)
        try:
            models = json.loads((yield from self._whole(head, attempts)))["data"]
            return [one for one in models if isinstance(one.get("id"), str)]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, TooMuch):
            return []

    def models(self, retries: RetryPolicy | None = None) -> list[dict[str, Any]]:
        """What the server says of its models, each with an `id`; raises `ModelError` where it fails."""
        found: list[dict[str, Any]] = []
        attempts = (retries or self.retries).begin()
        phrasing = Phrasing(ChatRequest(messages=()), self._quirks.lessons)

        def steps() -> Steps:
            while (asking := self.place.models(phrasing.lessons.base)) is not None:
                try:
                    found.extend((yield from self._listing(asking, attempts)))
                    return
                except Failure as failure:
                    if not failure.elsewhere or not phrasing.goes_elsewhere(failure, len(self.place.bases)):
                        raise

        try:
            for _ in drive(steps(), Exchange(self._clients, sleep=self.sleep)):
                pass
        except Failure as failure:
            raise self._error(failure, attempts, phrasing) from None
        return found

    def _served(self) -> str:
        """The names of the models that are served now, where the address leaves it open; "" where it is not said."""
        try:
            names = [one["id"] for one in self.models(RetryPolicy(tries=1, total_s=LISTING_S))]
        except AgentkitError:
            return ""
        return ", ".join(names[:MOST_NAMES])

    # -- failures --------------------------------------------------------------------------------------------------

    def _wait_s(self, failure: Failure, attempts: Attempts) -> float:
        """Seconds to wait before the next attempt; raises what failed where there is none."""
        if not failure.retry:
            raise failure
        _left_s(attempts)
        if failure.loading_s is None:
            is_doubtful = failure.doubtful and not (self._quirks.answers or self.insists)
            if not attempts.fail(tries=DOUBTFUL_TRIES if is_doubtful else None):
                raise failure
        if failure.retry_after_s is not None:
            wait_s = failure.retry_after_s
        elif failure.loading_s is not None:
            told_s = min(failure.loading_s, LOADING_POLL_S)
            wait_s = told_s or min(attempts.passing_wait_s(), UNTOLD_POLL_S)
        else:
            wait_s = attempts.wait_s()
        if not attempts.has_time_for(min(wait_s, LONGEST_WAIT_S)) or wait_s > LONGEST_WAIT_S:
            when = "after the deadline" if attempts.limit_s is not None else "which is too long to wait"
            message = f"{failure.message}; the next try would be in {wait_s:.3g} s, {when}"
            raise Failure(message, status=failure.status, retry=False)
        return wait_s

    def _error(self, failure: Failure, attempts: Attempts, phrasing: Phrasing | None = None) -> Exception:
        message = self._redacted(f"{self._name} {failure.message}{phrasing.advice(failure) if phrasing else ''}")
        if failure.status in (401, 403):
            return ConfigurationError(
                f"{message}; {self.place.no_key or 'it refused the token: check it and its rights'}"
            )
        tries = f" (tried {attempts.failures} times)" if attempts.failures > 1 else ""
        return ModelError(message + tries)

    @property
    def _name(self) -> str:
        """The model, and its server where the model's name does not say it."""
        place = self.place
        host = urlsplit(place.url).netloc if isinstance(place, Server) and place.url != ROUTER else ""
        return self.model_id if host in self.model_id else f"{self.model_id} at {host}"

    def _redacted(self, text: str) -> str:
        return without_secrets(text, *self.keys.values, most=_MOST_CHARS)

    def _notify(self, failure: Failure, wait_s: float) -> None:
        if failure.loading_s is not None:
            line = f"{self.model_id} is loading the model; asking again in {wait_s:.2g} s"
        else:
            line = self._redacted(f"{self.model_id} {failure.message}; trying again in {wait_s:.1f} s")
        self._tell(line)

    def _tell(self, line: str, level: int = logging.INFO, *, drops: bool = False) -> None:
        _LOG.log(level, "%s", line, extra={IN_EVENTS: True} if drops else None)
        if self.notice is not None:
            self.notice(line)


def _with_metadata(chunk: Chunk, **more: Any) -> Chunk:
    return replace(chunk, metadata={**(chunk.metadata or {}), **more})


def _left_s(attempts: Attempts) -> float | None:
    """Seconds until the deadline; `None` where there is none. Raises `Failure` when it has passed."""
    left_s = attempts.left_s()
    if left_s == 0:
        message = f"gave no whole reply within {attempts.limit_s:.3g} s; raise total_timeout, or the run's"
        raise Failure(message, retry=False)
    return left_s


def _returns_fields() -> bool:
    """Whether the server gets back what it sent with its calls."""
    recorder = active()
    return recorder is None or recorder.returns_fields


def _is_replayed() -> bool:
    """Whether a recorded run is replayed, in which no wait is waited for again."""
    recorder = active()
    return recorder is not None and recorder.plays
