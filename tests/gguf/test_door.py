"""llama.cpp's server always listens: nobody, on this machine or another, gets anything out of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from agentkit.models.gguf import engine, llama_process
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
def listening(file: Path) -> Any:
    """A server that was started as ours is, and what it listens on."""
    made = engine.Engine(Start(model=str(file)))
    made.ready()
    yield made
    made.close()


def ports(pid: int) -> set[str]:
    """The ports on which a process listens, by tables of Linux."""
    own = {os.readlink(each.path) for each in os.scandir(f"/proc/{pid}/fd") if os.path.islink(each.path)}
    tables = [Path(f"/proc/{pid}/net/{name}").read_text("ascii").splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return {line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own}


@pytest.mark.skipif(sys.platform != "linux", reason="reads tables of Linux")
def test_it_listens_on_no_port(listening: engine.Engine) -> None:
    assert ports(listening._process._process.pid) == set()
    assert listening.address.startswith("unix://")
    assert not Path(listening.address.removeprefix("unix://")).parent.exists()


def test_another_process_gets_nothing(listening: engine.Engine) -> None:
    path = listening.address.removeprefix("unix://")
    done = subprocess.run([sys.executable, "-c", KNOCK, path, *ADDRESSES], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} == {"FileNotFoundError"}


@pytest.mark.parametrize("has_unix_sockets", [True, False])
def test_who_is_in_time_or_finds_a_port_gets_nothing_either(file: Path, tmp_path: Path, has_unix_sockets: bool) -> None:
    """Before its folder is gone, and where there are no sockets in folders."""
    import xllamacpp

    with TemporaryDirectory() as folder:  # a path of few letters, as sockets want
        places = {"socket_folder": folder if has_unix_sockets else None, "beginnings": str(tmp_path)}
        server, line = llama_process.server(xllamacpp, asdict(Start(model=str(file))), **places, verbosity=-1)
        assert (line is not None) == has_unix_sockets
        asked = [*(("GET", address, b"") for address in ADDRESSES), COMPLETION, SAVE]
        statuses = {each: _ask(server.listening_address, *each) for each in asked}
        if line is not None:
            line._socket.close()  # which the server waits for
        del server
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
