"""Connections that failed and timed out: their exceptions as plain values, and the same exceptions again.

Only those of the HTTP libraries and of sockets are ever made from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
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
    error: Exception = _made(kind, (errno, message) if isinstance(errno, int) else (message,))
    try:
        str(error)
    except (AttributeError, TypeError):  # it speaks of more than was kept
        return ConnectionError(message)
    return error


def _made(kind: Any, args: tuple[Any, ...]) -> Any:
    """An exception without its own `__init__`, which may want the connection, the pool or the response that it met."""
    error = kind.__new__(kind, *args)
    (OSError if issubclass(kind, OSError) else Exception).__init__(error, *args)
    if kind.__name__ == "IncompleteRead":
        error.partial, error.expected = b"" if kind.__module__ == "http.client" else 0, 0
    if kind.__module__.startswith("aiohttp"):
        error._conn_key, error._os_error = SimpleNamespace(host=None, port=None, ssl=None), OSError(*args)
    return error
