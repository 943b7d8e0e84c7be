"""llama.cpp's server always listens: nobody, on this machine or another, gets anything out of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentkit.models.gguf import engine
from agentkit.models.gguf.loading import Start

ADDRESSES = ("/health", "/v1/health", "/v1/models", "/models", "/props", "/slots", "/metrics", "/", "/lora-adapters")
SAVE = ("POST", "/slots/0?action=save", b'{"filename": "x"}')
COMPLETION = ("POST", "/v1/completions", b'{"prompt": "x", "n_predict": 2}')

KNOCK = """
import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(sys.argv[1])
for method, address, body in [*(("GET", each, None) for each in sys.argv[2:]), ("POST", "/v1/completions", b"{}")]:
    try:
        door = Unix("x", timeout=5); door.request(method, address, body)
        print(door.getresponse().status)
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def listening(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that was started as ours is, and what it listens on."""
    made = engine.Engine(Start(model=str(file)))
    yield made
    made.close()


def sockets(path: str, column: int, listens: str) -> set[str]:
    """What this process listens on, by a table of Linux."""
    own = {os.readlink(each.path) for each in os.scandir("/proc/self/fd") if os.path.islink(each.path)}
    lines = [line.split() for line in Path(path).read_text("ascii").splitlines()[1:]]
    return {line[-1] for line in lines if line[column] == listens and any(f"socket:[{x}]" in own for x in line)}


@pytest.mark.skipif(sys.platform != "linux", reason="reads tables of Linux")
def test_it_listens_on_no_port(file: Path) -> None:
    before = [sockets(f"/proc/self/net/{name}", 3, "0A") for name in ("tcp", "tcp6")]
    made = engine.Engine(Start(model=str(file)))
    assert [sockets(f"/proc/self/net/{name}", 3, "0A") for name in ("tcp", "tcp6")] == before
    address = made._server.listening_address
    made.close()
    assert address.startswith("unix://")
    assert not Path(address.removeprefix("unix://")).parent.exists()


def test_another_process_gets_nothing(listening: engine.Engine) -> None:
    path = listening._server.listening_address.removeprefix("unix://")
    done = subprocess.run([sys.executable, "-c", KNOCK, path, *ADDRESSES], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} == {"FileNotFoundError"}


@pytest.mark.parametrize("has_unix_sockets", [True, False])
def test_who_is_in_time_or_finds_a_port_gets_nothing_either(
    file: Path, monkeypatch: pytest.MonkeyPatch, has_unix_sockets: bool
) -> None:
    """Before its folder is gone, and where there are no sockets in folders."""
    if not has_unix_sockets:
        monkeypatch.delattr(socket, "AF_UNIX")
    monkeypatch.setattr(engine, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
    server, line = engine.server(Start(model=str(file), keeps_beginnings=has_unix_sockets))
    statuses = {address: _ask(server.listening_address, "GET", address) for address in ADDRESSES}
    statuses |= {address: _ask(server.listening_address, *each) for each in (COMPLETION, SAVE) for address in [each[1]]}
    if line is not None:
        line.close()
    assert {*statuses.values()} <= {401, 404}, statuses


def _ask(address: str, method: str, path: str, body: bytes = b"") -> int:
    """The status of an answer to a request, without a library that would know of no Unix sockets."""
    if address.startswith("unix://"):
        door = socket.socket(1)  # AF_UNIX, whose name the test may have taken away
        door.connect(address.removeprefix("unix://"))
    else:
        host, _, port = address.removeprefix("http://").rpartition(":")
        door = socket.create_connection((host, int(port)), timeout=5)
    with door:
        door.settimeout(5)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        door.sendall(head.encode() + body)
        return int(door.recv(100).split()[1])
