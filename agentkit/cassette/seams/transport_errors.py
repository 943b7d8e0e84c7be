"""Connections that failed and timed out: their exceptions as plain values, and the same exceptions again.

Only those of the HTTP libraries and of sockets are ever made from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

_BASES: Mapping[str, str] = {
    "builtins": "OSError",
    "socket": "gaierror",
    "ssl": "SSLError",
    "http.client": "HTTPException",
    "urllib3.exceptions": "HTTPError",
    "httpx": "TransportError",
    "httpx2": "TransportError",
    "aiohttp.client_exceptions": "ClientError",
}
"""Modules, and the class of theirs from which every error of a connection descends."""


def described(error: BaseException) -> dict[str, Any] | None:
    """An exception as plain values, as the nearest kind that can be made again; `None` where no connection failed."""
    for kind in type(error).__mro__:
        module = "socket" if kind.__qualname__ == "gaierror" else kind.__module__
        if _kind(module, kind.__qualname__) is kind:
            value: dict[str, Any] = {"type": f"{module}.{kind.__qualname__}", "message": _message(error)}
            if isinstance(errno := getattr(error, "errno", None), int):
                value["errno"] = errno
            return value
    return None


def _kind(module: str, name: str) -> Any:
    """The class of an error of a connection; `None` for any other name, and where its library is not there."""
    if module not in _BASES:
        return None
    try:
        library = import_module(module)
        kind, base = getattr(library, name), getattr(library, _BASES[module])
    except (ImportError, AttributeError):
        return None
    return kind if isinstance(kind, type) and issubclass(kind, base) else None


def _message(error: BaseException) -> str:
    if isinstance(message := getattr(error, "_message", None), str):  # urllib3's, less the connection's place in memory
        return message
    return str(getattr(error, "strerror", None) or error)


def rebuilt(value: Any, *, httpx: Any = None) -> Exception:
    """The exception again; of the `httpx` that asks, where another one's was recorded."""
    value = value if isinstance(value, Mapping) else {}
    module, _, name = str(value.get("type", "")).rpartition(".")
    if httpx is not None and module in ("httpx", "httpx2"):
        module = httpx.__name__
    message, errno = str(value.get("message", "")), value.get("errno")
    kind = _kind(module, name)
    if kind is None:
        is_late = module in _BASES and "Timeout" in name  # of a library that is not there
        return TimeoutError(message) if is_late else ConnectionError(f"recorded: {message}")
    make: Callable[[Any, str, int | None], Exception] = _SHAPES.get(name, _simple)
    try:
        return make(kind, message, errno if isinstance(errno, int) else None)
    except TypeError:  # an error that wants more than a message
        return ConnectionError(message)


def _simple(kind: Any, message: str, errno: int | None) -> Any:
    return kind(message) if errno is None else kind(errno, message)


def _new_connection(kind: Any, message: str, errno: int | None) -> Any:
    return kind(None, message)


def _name_resolution(kind: Any, message: str, errno: int | None) -> Any:
    import socket

    error = kind("", None, socket.gaierror(message))
    error._message = message
    return error


def _read_timeout(kind: Any, message: str, errno: int | None) -> Any:
    return kind(None, None, message) if kind.__module__.startswith("urllib3") else kind(message)


def _incomplete(kind: Any, message: str, errno: int | None) -> Any:
    return kind(0, 0) if kind.__module__.startswith("urllib3") else kind(b"")


def _connector(kind: Any, message: str, errno: int | None) -> Any:
    from aiohttp.client_reqrep import ConnectionKey

    key: Any = ConnectionKey(**dict.fromkeys(ConnectionKey._fields))  # type: ignore[arg-type]
    return kind(key, OSError(errno or 0, message))


def _proxy(kind: Any, message: str, errno: int | None) -> Any:
    return kind(message, OSError(message)) if kind.__module__.startswith("urllib3") else kind(message)


_SHAPES: Mapping[str, Callable[[Any, str, int | None], Any]] = {
    "NewConnectionError": _new_connection,
    "NameResolutionError": _name_resolution,
    "ReadTimeoutError": _read_timeout,
    "IncompleteRead": _incomplete,
    "ClientConnectorError": _connector,
    "ClientConnectorDNSError": _connector,
    "ProxyError": _proxy,
}
