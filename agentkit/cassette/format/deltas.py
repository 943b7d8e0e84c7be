"""Texts that stand in the file once: prompts as what they add to those before, events by what they take from a reply.

Chat messages that come again are YAML aliases. A long text that comes again within another one makes that
`{joined: [*t1, *t2, the new text]}`; a stretch of a long text is `{of: *r1, from: 9, to: 120}`. Beside a model's turn
stands a hash of its whole request and reply. Names tell where a text stands: `m5-2` is the second message of
interaction 5, `r5-1` the first long text of its reply, `e5-1` one that an event below it brought.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from agentkit.cassette.format.event_stream import lengthened, shortened
from agentkit.cassette.format.yaml_text import Alias, Anchored
from agentkit.errors import CassetteError

SHORTEST = 40  # an alias of less is harder to read than the text
SHORTEST_STRETCH = 80


class Deltas:
    """Shortens the interactions and events of one file, in their order."""

    def __init__(self) -> None:
        self._number = 0
        self._replies = self._brought = 0
        self._names: dict[str, str] = {}
        self._grown: dict[str, tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}

    def shorten(self, interaction: Mapping[str, Any]) -> dict[str, Any]:
        """An interaction as it stands in the file."""
        self._number, self._replies, self._brought = self._number + 1, 0, 0
        request, response = interaction["request"], interaction["response"]
        rest = {name: value for name, value in interaction.items() if name not in ("request", "response")}
        body, reply, hashed = request["body"], shortened(response["body"]), {}
        if _has_messages(body):
            hashed = {"sha256": digest([body, response["body"]])}
            body, reply = self._chat(body), self._reply(reply)
        elif request["uri"].startswith("tool://"):
            body, reply = {name: self._shared(value) for name, value in body.items()}, self._result(reply)
        return {"request": {**request, "body": body}, **hashed, "response": {**response, "body": reply}, **rest}

    def shorten_event(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """An event as it stands in the file below the last interaction."""
        return {name: self._event_value(name, value) for name, value in values.items()}

    # -- requests --------------------------------------------------------------------------------------------------

    def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        last, numbered = len(body["messages"]), enumerate(body["messages"], 1)
        short = {**body, "messages": [self._message(one, f"m{self._number}-{n}", n == last) for n, one in numbered]}
        if isinstance(body.get("tools"), list):
            short["tools"] = self._shared(body["tools"], f"tools{self._number}")
        return short

    def _message(self, message: Any, name: str, grows: bool) -> Any:
        key = _key(message)
        if key in self._names:
            return Alias(self._names[key])
        self._names[key] = name
        if isinstance(message, Mapping) and isinstance(text := message.get("content"), str):
            message = {**message, "content": self._growing(text) if grows else self._text(text)}
        return Anchored(name, message)

    def _shared(self, value: Any, name: str = "") -> Any:
        """An alias of a value that stands above; else the value itself, under this name where one is given."""
        key = _key(value)
        if key in self._names:
            return Alias(self._names[key])
        if not name:
            return value
        self._names[key] = name
        return Anchored(name, value)

    def _growing(self, text: str) -> Any:
        """A text to which later prompts may append."""
        known = (other for other in self._grown if len(other) >= SHORTEST and text.startswith(other))
        prefix = max(known, key=len, default="")
        new = text[len(prefix) :]
        if not new:
            return text
        names = list(self._grown.get(prefix, ()))
        pieces: list[Any] = [*map(Alias, names)]
        for number, piece in enumerate(piece for part in self._around_known(new) for piece in _at_last_line(part)):
            pieces.append(self._known(piece) or self._anchored(piece, f"t{self._number}-{number + 1}"))
        self._grown[text] = tuple(piece.name for piece in pieces)
        return pieces[0] if len(pieces) == 1 else {"joined": pieces}

    # -- replies ---------------------------------------------------------------------------------------------------

    def _reply(self, value: Any) -> Any:
        """A reply, its long texts named: events and later prompts are made of them."""
        if isinstance(value, str) and len(value) >= SHORTEST:
            self._replies += 1
            return self._known(value) or self._anchored(value, f"r{self._number}-{self._replies}")
        if isinstance(value, Mapping) and "events" not in value:
            return {name: self._reply(item) for name, item in value.items()}
        return [self._reply(item) for item in value] if isinstance(value, list) else value

    def _result(self, body: Mapping[str, Any]) -> dict[str, Any]:
        result = {name: self._reply(value) if name == "string" else value for name, value in body.items()}
        if "sources" in body:
            result["sources"] = self._shared(body["sources"], f"s{self._number}")
        return result

    # -- events ----------------------------------------------------------------------------------------------------

    def _event_value(self, name: str, value: Any) -> Any:
        if name in ("input", "sources"):
            return self._shared(value, self._brought_name("i") if len(_key(value)) >= SHORTEST else "")
        if name in ("started", "return_values", "called") and isinstance(value, Mapping):
            return {key: self._event_value("", item) for key, item in value.items()}
        return self._text(value, anchor=True) if isinstance(value, str) else value

    def _brought_name(self, kind: str) -> str:
        self._brought += 1
        return f"{kind}{self._number}-{self._brought}"

    # -- texts -----------------------------------------------------------------------------------------------------

    def _text(self, text: str, *, anchor: bool = False) -> Any:
        """A text by those that stand above it; a new one of an event's is named."""
        if len(text) < SHORTEST:
            return text
        if (known := self._known(text)) is not None:
            return known
        if len(text) >= SHORTEST_STRETCH:
            whole = next((other for other in reversed(self._texts) if text in other), None)
            if whole is not None:
                start = whole.index(text)
                return {"of": Alias(self._texts[whole]), "from": start, "to": start + len(text)}
        pieces = [self._known(part) or part for part in self._around_known(text)]
        if len(pieces) > 1:
            return {"joined": pieces}
        return self._anchored(text, self._brought_name("e")) if anchor else text

    def _known(self, text: str) -> Alias | None:
        name = self._texts.get(text)
        return None if name is None else Alias(name)

    def _anchored(self, text: str, name: str) -> Anchored:
        self._texts[text] = name
        return Anchored(name, text)

    def _around_known(self, text: str) -> list[str]:
        """The text in parts, so that each long one that is known is a part of its own."""
        known = (other for other in self._texts if SHORTEST <= len(other) <= len(text) and other in text)
        longest = max(known, key=len, default="")
        if not longest:
            return [text] if text else []
        before, _, after = text.partition(longest)
        return [*self._around_known(before), longest, *self._around_known(after)]


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _at_last_line(text: str) -> list[str]:
    """A text that ends in a space in two: `Thought: ` comes again, and the lines before it make a literal block."""
    start = text.rfind("\n") + 1 if text.endswith(" ") else 0
    return [text[:start], text[start:]] if start else [text]


def _has_messages(body: Any) -> bool:
    return isinstance(body, Mapping) and isinstance(body.get("messages"), list) and bool(body["messages"])


def digest(value: Any) -> str:
    """What a request and its reply are recognized by."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


# -- back --------------------------------------------------------------------------------------------------------------


def lengthen(interaction: Any, number: int) -> Any:
    """The interaction with its texts whole again."""
    if not isinstance(interaction, Mapping):
        return interaction
    try:
        if isinstance(response := interaction.get("response"), Mapping):
            interaction = {**interaction, "response": {**response, "body": lengthened(response.get("body"))}}
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise CassetteError(f"interaction {number}: expected a stream of events as it was recorded ({error})") from None
    request = interaction.get("request")
    if not isinstance(request, Mapping) or not _has_messages(request.get("body")):
        return interaction
    try:
        messages = [_with_text(message) for message in request["body"]["messages"]]
    except (TypeError, KeyError, ValueError) as error:
        raise CassetteError(f"interaction {number}: expected {error}, saw something else") from None
    return {**interaction, "request": {**request, "body": {**request["body"], "messages": messages}}}


def _with_text(message: Any) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    return {**message, "content": whole_text(content)} if isinstance(content, Mapping) else message


def whole_text(value: Any) -> Any:
    """A text that is joined from others, or a stretch of one; all else as it is."""
    if isinstance(value, Mapping) and "joined" in value:
        pieces = value["joined"]
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise ValueError("joined to be texts")
        return "".join(pieces)
    if isinstance(value, Mapping) and value.keys() == {"of", "from", "to"}:
        text, start, end = value["of"], value["from"], value["to"]
        if not isinstance(text, str) or not 0 <= start <= end <= len(text):
            raise ValueError("a stretch to lie within its text")
        return text[start:end]
    return value


def is_changed(interaction: Any) -> bool:
    """Whether a whole interaction is another than its hash says; in older files that is one of the request alone."""
    if "sha256" not in interaction:
        return False
    body, reply = interaction["request"].get("body"), interaction["response"].get("body")
    return interaction["sha256"] not in (digest([body, reply]), digest(body))
