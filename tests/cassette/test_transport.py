"""Connections that fail and replies that break come back as they were, and nothing is waited for twice."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import httpx
import httpx2
import pytest
import requests
import yaml
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from agentkit.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteError

EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Talker:
    """A server of bytes: what it does depends on the path."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._read = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client may be gone
            path = connection.recv(65536).split()[1].decode()
            self.asked.append(path)
            if path == "/reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif path == "/hang":
                connection.recv(1)  # until the client gives up
            elif path.startswith("/endless"):
                connection.sendall(HEAD)
                while True:
                    connection.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
            elif path == "/busy":
                connection.sendall(
                    b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            elif path in ("/stream", "/broken"):
                self._stream(connection, whole=path == "/stream")

    def _stream(self, connection: socket.socket, *, whole: bool) -> None:
        connection.sendall(HEAD)
        for event in EVENTS if whole else EVENTS[:2]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
            self._read.wait(5)  # so that no two pieces come as one
            self._read.clear()
        if whole:
            connection.sendall(b"0\r\n\r\n")

    def go_on(self) -> None:
        self._read.set()

    def close(self) -> None:
        self._listening.close()


@contextmanager
def talker() -> Iterator[Talker]:
    server = Talker()
    try:
        yield server
    finally:
        server.close()


def nobody_there() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


Seen = tuple[list[bytes], type[BaseException] | None]
Client = Callable[[str, Callable[[], None]], Seen]


def by_httpx(library: Any) -> Client:
    def read(url: str, go_on: Callable[[], None]) -> Seen:
        pieces: list[bytes] = []
        try:
            with library.stream("GET", url, timeout=0.2 if "hang" in url else 5) as reply:
                for piece in reply.iter_raw():
                    pieces.append(piece)
                    go_on()
        except library.TransportError as error:
            return pieces, type(error)
        return pieces, None

    return read


def by_async_httpx(library: Any) -> Client:
    async def aread(url: str, go_on: Callable[[], None]) -> Seen:
        pieces: list[bytes] = []
        try:
            async with (
                library.AsyncClient(timeout=0.2 if "hang" in url else 5) as client,
                client.stream("GET", url) as reply,
            ):
                async for piece in reply.aiter_raw():
                    pieces.append(piece)
                    go_on()
        except library.TransportError as error:
            return pieces, type(error)
        return pieces, None

    return lambda url, go_on: asyncio.run(aread(url, go_on))


def by_aiohttp(url: str, go_on: Callable[[], None]) -> Seen:
    async def aread() -> Seen:
        pieces: list[bytes] = []
        timeout = aiohttp.ClientTimeout(sock_read=0.2 if "hang" in url else 5)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as reply:
                async for piece in reply.content.iter_any():
                    pieces.append(piece)
                    go_on()
        except aiohttp.ClientError as error:
            return pieces, type(error)
        return pieces, None

    return asyncio.run(aread())


def by_requests(url: str, go_on: Callable[[], None]) -> Seen:
    pieces: list[bytes] = []
    try:
        with requests.get(url, timeout=0.2 if "hang" in url else 5, stream=True) as reply:
            for piece in reply.iter_content(None):
                pieces.append(piece)
                go_on()
    except requests.RequestException as error:
        return pieces, type(error)
    return pieces, None


def by_urllib(url: str, go_on: Callable[[], None]) -> Seen:
    try:
        with urlopen(url, timeout=0.2 if "hang" in url else 5) as reply:
            return [reply.read()], None
    except Exception as error:
        return [], type(error)


STREAMING: dict[str, Client] = {
    "httpx": by_httpx(httpx),
    "httpx2": by_httpx(httpx2),
    "async httpx": by_async_httpx(httpx),
    "async httpx2": by_async_httpx(httpx2),
}
BUFFERING: dict[str, Client] = {"aiohttp": by_aiohttp, "requests": by_requests, "urllib": by_urllib}
CLIENTS = STREAMING | BUFFERING


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("what", ["/reset", "/hang", "/closed", "/broken", "/stream"])
def test_it_ends_in_a_replay_as_it_ended_then(tmp_path: Path, client: str, what: str) -> None:
    path, read = tmp_path / "run.yaml", CLIENTS[client]
    with talker() as server:
        url = server.url + what if what != "/closed" else nobody_there()
        go_on = server.go_on
        if client in BUFFERING:
            server._read.wait = lambda _=None: True  # type: ignore[assignment,method-assign]
        bare = read(url, go_on)
        with Cassette(path, "record", environment={}):
            recorded = read(url, go_on)
        calls = len(server.asked)
        with Cassette(path, "replay", environment={}):
            replayed = read(url, go_on)
        assert len(server.asked) == calls
    assert replayed == recorded
    if (client, what) != ("urllib", "/closed"):  # vcrpy connects where urllib does not expect it to
        assert (b"".join(recorded[0]), recorded[1]) == (b"".join(bare[0]), bare[1])
    if client in STREAMING:
        assert recorded == bare
        if what == "/stream":
            assert replayed == (EVENTS, None)


@pytest.mark.parametrize("client", STREAMING)
def test_a_reader_that_stops_early_stops_there_again(tmp_path: Path, client: str) -> None:
    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    path = tmp_path / "run.yaml"
    with talker() as server, Cassette(path, "record", environment={}), pytest.raises(Enough):
        CLIENTS[client](server.url + "/stream", enough)
    (entry,) = load(tmp_path / "run.yaml").entries if path.exists() else ()
    assert entry.response == {"string": EVENTS[0].decode(), "closed": True}
    with Cassette(path, "replay", environment={}), pytest.raises(Enough):
        CLIENTS[client](server.url + "/stream", enough)


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_response_that_no_cassette_holds_is_an_error(tmp_path: Path, client: str) -> None:
    """What was recorded before it stays."""

    def ask_too_much(server: Talker) -> None:
        with Cassette(path, "record"):
            CLIENTS[client](f"{server.url}/busy", lambda: None)
            _, failure = CLIENTS[client](f"{server.url}/endless?key=hidden", lambda: None)
            if failure is CassetteError:  # this client says what it met, and raises nothing
                raise CassetteError("/endless sent more than 40 MB")

    path = tmp_path / "run.yaml"
    with talker() as server:
        with pytest.raises(CassetteError, match="/endless sent more than 40 MB"):
            ask_too_much(server)
        assert [entry.uri for entry in load(path.with_suffix(".partial.yaml")).entries] == [f"{server.url}/busy"]


def test_retries_do_not_wait_in_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    slept: list[float] = []

    class Counting(Retry):
        def sleep(self, response: Any = None) -> None:
            slept.append(self.get_retry_after(response) or 0)

    def ask(url: str, retry: type[Retry]) -> int:
        with requests.Session() as session:
            retries = retry(total=2, status_forcelist=[503], backoff_factor=3600, raise_on_status=False)
            session.mount("http://", HTTPAdapter(max_retries=retries))
            return session.get(url, timeout=5).status_code

    with talker() as server:
        with Cassette(path, "record", environment={}):
            assert ask(server.url + "/busy", Counting) == 503
        assert slept == [7, 7]
        with Cassette(path, "replay", environment={}):
            assert ask(server.url + "/busy", Retry) == 503
        assert len(server.asked) == 3


def test_an_error_that_a_stranger_names_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with talker() as server:
        with Cassette(path, "record", environment={}):
            by_requests(server.url + "/reset", server.go_on)
        document = yaml.safe_load(path.read_text())
        for name in ("os.system", "builtins.SystemExit", "subprocess.Popen", "builtins.eval", "", 5):
            document["interactions"][0]["response"]["body"]["error"]["type"] = name
            path.write_text(yaml.safe_dump(document))
            with Cassette(path, "replay", environment={}), pytest.raises(requests.ConnectionError, match="recorded: "):
                requests.get(server.url + "/reset", timeout=5)
