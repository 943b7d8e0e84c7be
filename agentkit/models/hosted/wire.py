"""The driver of a request: a generator says what to do next, it does it, blocking. `awaiting.py` has the other one.

Plain httpx, because deadlines within a stream, and cancelling, need the connection itself.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Chunk
from agentkit.models.hosted.certificates import tls_context
from agentkit.models.hosted.failures import Failure, one_line
from agentkit.models.hosted.places import Outgoing
from agentkit.secrets import OfKeysInUse, public_address

_Client = TypeVar("_Client", httpx.Client, httpx.AsyncClient)
ALARM_S = 1.0  # a read that may last this much longer than allowed is not worth a thread
MOST_IDLE = 128
STARVES_S = 0.1  # a new connection takes less than a hundredth of that, where there is no TLS
_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
"""They log addresses with their parameters, and headers that cannot be sent."""
_WITHOUT_KEYS = OfKeysInUse()
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=1, keepalive_expiry=30.0)


class Send(NamedTuple):
    """Do: send a request; gives a `Head`. `read_s` is the longest silence, `limit_s` for all of it (when awaiting)."""

    outgoing: Outgoing
    connect_s: float
    read_s: float
    limit_s: float | None = None


class Read(NamedTuple):
    """Do: read on; gives bytes, `None` at the end. No longer than `limit_s`."""

    limit_s: float | None


class Wait(NamedTuple):
    """Do: let the time pass, without a connection."""

    seconds: float


class Ask(NamedTuple):
    """Do: call something that may block; gives its result."""

    function: Callable[[], Any]


class Head(NamedTuple):
    """How a response begins; `path` is what was asked, as far as whoever asked says so."""

    status: int
    headers: Mapping[str, str]
    path: str = ""


Steps = Generator[Chunk | Send | Read | Wait | Ask, Any, None]


def drive(steps: Steps, exchange: Exchange) -> Iterator[Chunk]:
    """The chunks of a reply, blocking; closing the iterator closes the connection."""
    try:
        effect = next(steps, None)
        while effect is not None:
            if isinstance(effect, Chunk):
                yield effect
                effect = next(steps, None)
                continue
            try:
                result = exchange.do(effect)
            except Exception as error:
                effect = next_effect(steps.throw, error)
            else:
                effect = next_effect(steps.send, result)
    finally:
        steps.close()
        exchange.close()


def next_effect(resume: Callable[[Any], Any], value: Any) -> Any:
    """What the steps want next; `None` at their end."""
    try:
        return resume(value)
    except StopIteration:
        return None


class Exchange:
    """One request and its response at a time, on a connection of the model's."""

    def __init__(self, clients: Clients, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clients = clients
        self._sleep = sleep
        self._lent: Lent | None = None
        self._socket: socket.socket | None = None  # that is spoken on
        self._new: socket.socket | None = None  # it, while its connection is made
        self._line = Line()
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._read_s = 0.0
        self._alarm: threading.Timer | None = None
        self._alarm_s = 0.0  # when it rings
        self._is_late = False  # it has rung

    def do(self, effect: Send | Read | Wait | Ask) -> Any:
        match effect:
            case Send():
                self._end_response()
                return self._send(effect)
            case Read(limit_s):
                return self._read(limit_s)
            case Wait(seconds):
                self._end_response()
                return self._sleep(seconds)
            case Ask(function):
                return function()

    def close(self) -> None:
        """The end of the call."""
        self._end_response()
        if self._lent is not None:
            self._clients.give_back(self._lent)
            self._lent = None

    def _end_response(self) -> None:
        """A connection with nothing left to read is kept, any other closed."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._response is not None:
            self._response.close()
            self._response = None

    def _send(self, effect: Send) -> Head:
        lent = self._lent = self._lent or self._clients.borrow()
        self._socket, self._is_late = lent.socket, False
        self._read_s = effect.read_s
        if effect.limit_s is not None:  # a head may come byte by byte, or be announced for ever (1xx)
            self._set_alarm(effect.limit_s)
        request, self._line = request_of(lent.client, effect), Line()
        request.extensions["trace"] = self._notice
        try:
            with self._clients.unanswered.one():
                response = self._response = lent.client.send(request, stream=True)
        except SENDING_FAILED as error:
            via = proxy_of(self._clients.options, request.url)
            raise failure_of(error, doubtful=True, stale=self._line.is_stale(error), via=via) from error
        finally:
            self._socket = None
            if self._new is not None:
                self._new.close()
                self._new = None
        stream = response.extensions.get("network_stream")  # none in a replay
        self._socket = lent.socket = None if stream is None else stream.get_extra_info("socket")
        self._pieces = response.iter_bytes() if response.is_stream_consumed else response.iter_raw()
        return head_of(response)

    def _notice(self, event: str, info: Mapping[str, Any]) -> None:
        """A new connection: the alarm must reach it while TLS is agreed upon, which takes the socket itself away."""
        self._line.notice(event)
        if event == "connection.connect_tcp.complete":
            self._socket = self._new = info["return_value"].get_extra_info("socket").dup()
            if self._is_late:
                _hang_up(self._socket)

    def _read(self, limit_s: float | None) -> bytes | None:
        if limit_s is not None and limit_s + ALARM_S < self._read_s:
            self._set_alarm(limit_s)
        try:
            return next(self._pieces, None)
        except (httpx.HTTPError, OSError) as error:
            raise failure_of(error) from error

    def _set_alarm(self, limit_s: float) -> None:
        """What trickles, and then is silent, would be read until its next silence is long enough: hang up."""
        end_s = time.monotonic() + limit_s
        if self._alarm is not None:
            if self._alarm_s <= end_s + ALARM_S:
                return
            self._alarm.cancel()
        self._alarm = threading.Timer(limit_s, self._ring)
        self._alarm_s = end_s
        self._alarm.daemon = True
        self._alarm.start()

    def _ring(self) -> None:
        self._is_late = True
        _hang_up(self._socket)


class Line:
    """Which connection a request goes over, as httpcore traces it; nothing is traced in a replay."""

    def __init__(self) -> None:
        self._is_new = self._is_spoken_on = False

    def notice(self, event: str) -> None:
        self._is_new |= event == "connection.connect_tcp.started"
        self._is_spoken_on |= event.endswith("send_request_headers.started")

    def is_stale(self, error: Exception) -> bool:
        """Whether the request met the end of a connection that was kept, which its server had reached before."""
        is_end = isinstance(error, httpx.NetworkError) or _ENDED in str(error)
        return self._is_spoken_on and not self._is_new and is_end


_ENDED = "Server disconnected without sending a response"  # httpx's words


def request_of(client: httpx.Client | httpx.AsyncClient, effect: Send) -> httpx.Request:
    outgoing = effect.outgoing
    return client.build_request(
        "GET" if outgoing.content is None else "POST",
        outgoing.url,
        content=outgoing.content,
        headers=outgoing.headers,
        timeout=httpx.Timeout(effect.read_s, connect=effect.connect_s, pool=effect.connect_s),
    )


SENDING_FAILED = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)
"""ValueError: of headers and addresses that cannot be written."""


def head_of(response: httpx.Response) -> Head:
    """The response's head. A double's body is there already, unpacked."""
    headers = response.headers
    if response.is_stream_consumed:
        headers = httpx.Headers([(name, value) for name, value in headers.multi_items() if name != "content-encoding"])
    return Head(response.status_code, headers)


def proxy_of(options: Mapping[str, Any], url: httpx.URL) -> str:
    """The proxy that a client of these options asks in the place of a server, as it may be shown; "" for none."""
    if options.get("proxy"):
        return public_address(str(options["proxy"]))
    named = getproxies() if options.get("trust_env") and not proxy_bypass(url.host) else {}
    return public_address(named.get(url.scheme) or named.get("all") or "")


def failure_of(error: Exception, *, doubtful: bool = False, stale: bool = False, via: str = "") -> Failure:
    """What a request failed for; `via` is the proxy that was asked."""
    unsendable = httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError | ValueError
    if isinstance(error, unsendable):
        return Failure(f"cannot be asked ({one_line(error)})", retry=False)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        seen = one_line(error)
        is_tls = "SSL" in seen or "certificate" in seen.lower()
        of_tls = "check its certificate, and http or https; verify=FILE names one to trust"
        advice = of_tls if is_tls else "is it running, and is the address right?"
        if via:
            seen, advice = f"{seen}, by the proxy {via}", f"is that proxy running, and right? {advice}"
        message = f"could not be reached ({seen}); {advice}"
    elif isinstance(error, httpx.TimeoutException | TimeoutError):
        message = f"was silent for too long ({type(error).__name__})"
    else:
        message = f"broke the connection ({one_line(error)})"
    return Failure(message, doubtful=doubtful, stale=stale)


def _hang_up(connection: socket.socket | None) -> None:
    if connection is not None:
        try:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            return  # it is closed


# -- connections -------------------------------------------------------------------------------------------------------


class Unanswered:
    """The requests of a model that no response has begun to.

    A server with a thread for each connection, as llama.cpp's, does not read a new one while every thread sits on one
    that is kept for later: 64 calls at once took 38 s instead of 3. So none is kept while another call waits.
    """

    def __init__(self, *, matters: bool) -> None:
        self._matters = matters
        self._since_s: dict[object, float] = {}  # in the order in which they came
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """As long as a request is one of them."""
        key = object()
        with self._lock:
            self._since_s[key] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._since_s[key]

    @property
    def starve(self) -> bool:
        """Whether one has waited so long that a connection may be what it waits for."""
        if not self._matters:
            return False
        with self._lock:
            return any(time.monotonic() - since_s > STARVES_S for since_s in islice(self._since_s.values(), 1))


@dataclass(slots=True)
class Lent:
    """A client, and the socket of its one connection once that has answered."""

    client: httpx.Client
    socket: socket.socket | None = None


def client_of(kind: Callable[..., _Client], options: Mapping[str, Any]) -> _Client:
    """A new client; raises `ConfigurationError` for a proxy that it cannot use, without its text."""
    try:
        return kind(**options)
    except ImportError:
        need, do = "needs a package for SOCKS", "pip install 'httpx[socks]', or name another"
    except (ValueError, httpx.InvalidURL):
        need, do = "cannot be used", "write http://HOST:PORT, and what is no letter or digit of a password as %2F"
    named = getproxies()
    variables = " or ".join(f"{scheme}_proxy" for scheme in ("http", "https", "all") if scheme in named)
    which = "option proxy" if options.get("proxy") else variables
    raise ConfigurationError(f"The proxy that {which} names {need}; {do}")


class Clients:
    """Lends a client for a call, each with one connection that is kept for reuse; `options` are what they are made of.

    For a server `on_this_machine` none of the environment's proxies is asked: it would get the key, and reach another
    machine. Idle ones are closed when their owner goes. One client for all would do it, but httpx looks through all of
    a client's connections at every request: at 64 calls at once that takes seven times as long as the calls.
    """

    def __init__(
        self,
        *,
        encrypted: bool,
        on_this_machine: bool = False,
        proxy: str | None = None,
        verify: bool | str | Path = True,
    ) -> None:
        # Reading the certificates takes 20 ms; without them only http is spoken.
        context = (
            tls_context(verify)
            if encrypted or not isinstance(verify, bool)
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        # httpx would send a redirected request, with its keys, wherever it is told to: see `Outgoing.moved`.
        self.options: dict[str, Any] = {
            "limits": _LIMITS,
            "follow_redirects": False,
            "headers": {"accept-encoding": "identity"},
            "verify": context,
            "proxy": proxy,
            "trust_env": not on_this_machine,
        }
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_WITHOUT_KEYS)  # once, however often it is added
        self.unanswered = Unanswered(matters=not encrypted)
        self._idle: list[Lent] = []
        weakref.finalize(self, _close_all, self._idle)

    def borrow(self) -> Lent:
        """A client for one thread."""
        try:
            return self._idle.pop()
        except IndexError:
            return Lent(client_of(httpx.Client, self.options))

    def give_back(self, lent: Lent) -> None:
        """The client is idle again."""
        if len(self._idle) < MOST_IDLE and not self.unanswered.starve:
            self._idle.append(lent)
        else:
            lent.client.close()

    def close(self) -> None:
        """Close the idle connections of all threads."""
        _close_all(self._idle)


def _close_all(idle: list[Lent]) -> None:
    while idle:
        idle.pop().client.close()
