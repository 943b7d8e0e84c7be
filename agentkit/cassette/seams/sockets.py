"""Blocks the network for the whole process while a cassette is replayed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

QUIET_HOSTS = ("huggingface.co", "hf.co", "api.smith.langchain.com")
"""Telemetry and look-ups of downloads: blocked as well, but a run that asks them has not drifted."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)


@contextmanager
def blocked(refusal: Callable[[str], Exception]) -> Iterator[None]:
    """In this block, every attempt to reach a host raises `refusal(host)`, in all threads."""

    def refuse(host: Any) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        if any(name == quiet or name.endswith(f".{quiet}") for quiet in QUIET_HOSTS):
            raise ConnectionError(f"the network is blocked while a cassette is replayed ({name})")
        raise refusal(name)

    def connect(self: socket.socket, address: Any, *_: Any) -> Any:
        if self.family in _INTERNET:
            refuse(address[0])
        return real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any, *_: Any) -> Any:
        if self.family in _INTERNET:
            refuse(address[0])
        return real_connect_ex(self, address)

    def create_connection(address: Any, *_: Any, **__: Any) -> Any:
        refuse(address[0])

    def look_up(host: Any, *_: Any, **__: Any) -> Any:
        refuse(host)

    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    replacements: list[tuple[Any, str, Any]] = [
        (socket.socket, "connect", connect),
        (socket.socket, "connect_ex", connect_ex),
        (socket, "create_connection", create_connection),
        (socket, "getaddrinfo", look_up),
        (socket, "gethostbyname", look_up),
    ]
    originals = [(place, name, getattr(place, name)) for place, name, _ in replacements]
    for place, name, replacement in replacements:
        setattr(place, name, replacement)
    try:
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)
