"""Every Python of a notebook starts with this: connections leave the machine under no circumstances."""

import socket

_connect = socket.socket.connect


def connect(self, address):  # type: ignore[no-untyped-def]
    host = address[0] if isinstance(address, tuple) else ""
    if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network in notebooks: {host}")
    return _connect(self, address)


socket.socket.connect = connect  # type: ignore[method-assign]
