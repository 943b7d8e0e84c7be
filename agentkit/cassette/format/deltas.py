"""Prompts as what they add to the prompts before them.

Chat messages that come again stand in the file once, and as YAML aliases after that. So does the text of a message that
grows by what is appended to it, as a scratchpad does: its content is `{joined: [*t1, *t2, the new text]}`. Beside each
such request stands a hash of the whole. Names tell where a message stands: `m5-2` is the second of interaction 5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from agentkit.cassette.format.event_stream import lengthened, shortened
from agentkit.cassette.format.yaml_text import Alias, Anchored
from agentkit.errors import CassetteError

SHORTEST_PREFIX = 40  # an alias of less is harder to read than the text


class Deltas:
    """Shortens the requests of one file, in their order."""

    def __init__(self) -> None:
        self._number = 0
        self._names: dict[str, str] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._pieces: dict[str, str] = {}

    def shorten(self, interaction: dict[str, Any]) -> dict[str, Any]:
        """An interaction as it stands in the file; one without messages is left as it is."""
        self._number += 1
        interaction = _with_response(interaction, shortened)
        request = interaction["request"]
        body = request["body"]
        if not _has_messages(body):
            return interaction
        last, numbered = len(body["messages"]), enumerate(body["messages"], 1)
        messages = [self._shared(one, f"m{self._number}-{n}", grows=n == last) for n, one in numbered]
        short = {**body, "messages": messages}
        if isinstance(body.get("tools"), list):
            short["tools"] = self._shared(body["tools"], f"tools{self._number}")
        rest = {name: value for name, value in interaction.items() if name != "request"}
        return {"request": {**request, "body": short}, "sha256": digest(body), **rest}

    def _shared(self, value: Any, name: str, *, grows: bool = False) -> Any:
        key = json.dumps(value, sort_keys=True, default=str)
        if key in self._names:
            return Alias(self._names[key])
        self._names[key] = name
        if grows and isinstance(value, Mapping) and isinstance(text := value.get("content"), str):
            value = {**value, "content": self._text(text)}
        return Anchored(name, value)

    def _text(self, text: str) -> Any:
        known = (other for other in self._texts if len(other) >= SHORTEST_PREFIX and text.startswith(other))
        prefix = max(known, key=len, default="")
        new = text[len(prefix) :]
        if not new:
            return text
        own = [self._piece(piece, f"t{self._number}-{n}") for n, piece in enumerate(_at_last_line(new), 1)]
        pieces = [*map(Alias, self._texts.get(prefix, ())), *own]
        self._texts[text] = tuple(piece.name for piece in pieces)
        return pieces[0] if len(pieces) == 1 else {"joined": pieces}

    def _piece(self, text: str, name: str) -> Alias | Anchored:
        if text in self._pieces:
            return Alias(self._pieces[text])
        self._pieces[text] = name
        return Anchored(self._pieces[text], text)


def _at_last_line(text: str) -> list[str]:
    """A text that ends in a space in two: `Thought: ` comes again, and the lines before it make a literal block."""
    start = text.rfind("\n") + 1 if text.endswith(" ") else 0
    return [text[:start], text[start:]] if start else [text]


def _with_response(interaction: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    response = interaction.get("response")
    if not isinstance(response, Mapping):
        return dict(interaction)
    return {**interaction, "response": {**response, "body": change(response.get("body"))}}


def _has_messages(body: Any) -> bool:
    return isinstance(body, Mapping) and isinstance(body.get("messages"), list) and bool(body["messages"])


def digest(body: Any) -> str:
    """What a request's whole body is recognized by."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, default=str)
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def lengthen(interaction: Any, number: int) -> Any:
    """The interaction with its texts whole again."""
    if not isinstance(interaction, Mapping):
        return interaction
    try:
        interaction = _with_response(interaction, lengthened)
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise CassetteError(f"interaction {number}: expected a stream of events as it was recorded ({error})") from None
    request = interaction.get("request")
    if not isinstance(request, Mapping) or not _has_messages(request.get("body")):
        return interaction
    body = request["body"]
    whole = {**body, "messages": [_with_text(message, number) for message in body["messages"]]}
    return {**interaction, "request": {**request, "body": whole}}


def is_changed(interaction: Any) -> bool:
    """Whether a whole interaction asks for something else than its hash says."""
    return "sha256" in interaction and interaction["sha256"] != digest(interaction["request"].get("body"))


def _with_text(message: Any, number: int) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, Mapping) or "joined" not in content:
        return message
    pieces = content["joined"]
    if not isinstance(pieces, Sequence) or not all(isinstance(piece, str) for piece in pieces):
        raise CassetteError(f"interaction {number}: expected joined to be texts, saw something else")
    return {**message, "content": "".join(pieces)}
