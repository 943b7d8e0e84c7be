"""Server-sent events, as far as chat servers use them (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations


class ServerSent:
    """The data of each event, however the bytes are cut."""

    def __init__(self) -> None:
        self._held = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """The events that `piece` completes."""
        *lines, self._held = (self._held + piece).split(b"\n")
        return [event for line in lines if (event := self._line(line)) is not None]

    def rest(self) -> list[str]:
        """The last event, of a server that does not end it."""
        return [event for event in (self._line(self._held), self._line(b"")) if event is not None]

    def _line(self, line: bytes) -> str | None:
        line = line.rstrip(b"\r")
        if not line:
            data, self._data = self._data, []
            return "\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None
