"""A model's turn as an entry, and back: what was asked, and the reply in the pieces it came in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from agentkit import models
from agentkit.cassette.format.entries import Entry, plain, turn_uri
from agentkit.events import Usage
from agentkit.models.backend import (
    DROPPED_TO_FIT,
    Capabilities,
    ChatRequest,
    Chunk,
    Completion,
    NativeCall,
    TokenLogprob,
    ToolCallPiece,
)
from agentkit.models.chat import Reply
from agentkit.models.reply import ReplyReader
from agentkit.secrets import Secrets

PLANNER = "planner"  # the seam a reply was recorded at: a planner's is cut and sorted, a backend's is raw
_RICH = ("thinking", "tool_calls", "logprobs", "metadata")


def model_name(model_id: str) -> str:
    """A model's name as any machine knows it: a folder's last part, `builtin` for our own."""
    path = Path(model_id)
    if path == Path(models.__file__).parent / "builtin" / "model":
        return "builtin"
    return path.name if path.is_absolute() or model_id.startswith((".", "~")) else model_id


def request_body(
    model: str, messages: Iterable[Any], stop: Sequence[str], tools: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What a turn is matched on: no more than every way to ask for it can give.

    Function schemas stand for themselves by their names and one hash.
    """
    body: dict[str, Any] = {"model": model, "stop": list(stop), "messages": list(messages)}
    if tools:
        schemas = json.dumps(list(tools), sort_keys=True, ensure_ascii=False, default=str)
        names = [str(tool.get("function", tool).get("name")) for tool in tools]
        body["tools"] = {"names": names, "sha256": sha256(schemas.encode("utf-8", "replace")).hexdigest()[:16]}
    return body


def turn_entry(body: Mapping[str, Any], response: Mapping[str, Any]) -> Entry:
    """The turn as a pseudo-request."""
    return Entry(uri=turn_uri(body["model"]), body=body, response=response)


# -- a backend's chunks ------------------------------------------------------------------------------------------------


def from_chunks(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """A reply as a response body: its text, the lengths of its pieces, how it ended."""
    pieces = [piece for chunk in chunks if (piece := _as_piece(chunk))]
    finish_reason = next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None)
    return _response("".join(chunk.text for chunk in chunks), pieces, finish_reason, usage)


def reaches_stop(chunks: Iterable[Chunk], stop: Sequence[str]) -> bool:
    """Whether a chat model would have read no further than these chunks."""
    reader = ReplyReader(stop)
    for chunk in chunks:
        reader.read(chunk)
    return reader.stopped


def _response(text: str, pieces: list[Any], finish_reason: str | None, usage: Usage | None) -> dict[str, Any]:
    response: dict[str, Any] = {"string": text}
    if pieces != [len(text)]:
        response["pieces"] = pieces
    if finish_reason is not None:
        response["finish_reason"] = finish_reason
    if usage is not None:
        response["usage"] = {name: count for name, count in asdict(usage).items() if count is not None}
    return response


def _as_piece(chunk: Chunk) -> int | dict[str, Any]:
    """The length of a piece of text, or a mapping where there is more to it."""
    rich = {name: value for name in _RICH if (value := getattr(chunk, name))}
    if not rich:
        return len(chunk.text)
    for name in ("tool_calls", "logprobs"):
        if name in rich:
            rich[name] = [_without_no_fields(asdict(part)) for part in rich[name]]
    return {"text": len(chunk.text), **{name: plain(value) for name, value in rich.items()}}


def _without_no_fields(call: dict[str, Any]) -> dict[str, Any]:
    """A call as entries have it that know of no provider's fields, where it has none."""
    return {name: value for name, value in call.items() if value or name != "provider_fields"}


def scrubbed_reply(response: Mapping[str, Any], secrets: Secrets) -> dict[str, Any]:
    """A response body without secrets, also those that are split over its pieces."""
    rest = secrets.scrub({name: value for name, value in response.items() if name != "pieces"})
    pieces, text = response.get("pieces"), response.get("string")
    if not isinstance(pieces, list) or not isinstance(text, str):
        return dict(rest)
    rich = [dict(piece) if isinstance(piece, Mapping) else {"text": piece} for piece in pieces]
    ends = [0, *accumulate(piece.get("text", 0) for piece in rich)]
    texts = secrets.scrub_pieces([text[start:end] for start, end in pairwise(ends)] + [text[ends[-1] :]])
    thinking = secrets.scrub_pieces([piece.get("thinking", "") for piece in rich])
    calls = [call for piece in rich for call in piece.get("tool_calls", ())]
    arguments: dict[int, str] = {}
    for index in {call["index"] for call in calls}:
        own = [call for call in calls if call["index"] == index]
        clean = secrets.scrub_pieces([call["arguments"] for call in own])
        arguments |= {id(call): one for call, one in zip(own, clean, strict=True)}
    changed = "".join(texts) != text or "".join(thinking) != "".join(piece.get("thinking", "") for piece in rich)
    for piece, own_text, thought in zip(rich, texts, thinking, strict=False):
        piece["text"] = len(own_text)
        if "thinking" in piece:
            piece["thinking"] = thought
        if "tool_calls" in piece:
            kept = [{**call, "arguments": arguments[id(call)]} for call in piece["tool_calls"]]
            piece["tool_calls"] = secrets.scrub(kept)
        if changed:
            piece.pop("logprobs", None)  # of the tokens that the secret was made of
    short = [piece["text"] if piece.keys() == {"text"} else secrets.scrub(piece) for piece in rich]
    return {**rest, "string": "".join(texts), "pieces": short}


def to_chunks(entry: Entry) -> Iterator[Chunk]:
    """The reply again, piece by piece."""
    text, place = entry.response["string"], 0
    for piece in entry.response.get("pieces", [len(text)]):
        length = piece.get("text", 0) if isinstance(piece, Mapping) else piece
        if length < 0:
            raise ValueError("a piece has a length")
        yield _as_chunk(text[place : place + length], piece if isinstance(piece, Mapping) else {})
        place += length
    if rest := text[place:]:
        yield Chunk(text=rest)
    if thinking := entry.response.get("thinking"):
        yield Chunk(thinking=thinking)
    yield Chunk(usage=_usage(entry), finish_reason=entry.response.get("finish_reason"))


def _as_chunk(text: str, rich: Mapping[str, Any]) -> Chunk:
    calls = tuple(ToolCallPiece(**call) for call in rich.get("tool_calls", ()))
    logprobs = tuple(
        TokenLogprob(one["token"], one["logprob"], tuple((token, value) for token, value in one["top"]))
        for one in rich.get("logprobs", ())
    )
    return Chunk(
        text=text, thinking=rich.get("thinking", ""), tool_calls=calls, logprobs=logprobs, metadata=rich.get("metadata")
    )


def _usage(entry: Entry) -> Usage | None:
    counts = entry.response.get("usage")
    if counts is None:
        return None
    if not all(isinstance(count, int | float) for count in counts.values()):
        raise TypeError("usage is counted in numbers")
    return Usage(**counts)


# -- a planner's completion --------------------------------------------------------------------------------------------


def from_completion(pieces: Sequence[str], completion: Completion) -> dict[str, Any]:
    """A reply that came to the planner as a response body."""
    lengths: list[Any] = [len(piece) for piece in pieces] if "".join(pieces) == completion.text else []
    usage = completion.usage if completion.usage != Usage() else None
    response = _response(completion.text, lengths or [len(completion.text)], completion.finish_reason, usage)
    if completion.thinking:
        response["thinking"] = completion.thinking
    if completion.tool_calls:
        response["tool_calls"] = [_without_no_fields(asdict(call)) for call in completion.tool_calls]
    if completion.dropped:
        response[DROPPED_TO_FIT] = dict(completion.dropped)
    return {**response, "seam": PLANNER}


def to_completion(entry: Entry, request: ChatRequest) -> Iterator[str | Completion]:
    """The reply as a planner gets it that asks for it: pieces of text, if it wants any, then the whole."""
    reply = Reply(request, Capabilities(), entry.name)
    is_sorted = entry.response.get("seam") == PLANNER
    for chunk in to_chunks(entry) if is_sorted else reply.pieces(to_chunks(entry)):
        if chunk.text and request.stream:
            yield chunk.text
    if not is_sorted:
        yield reply.completion()
        return
    yield Completion(
        entry.response["string"],
        _usage(entry) or Usage(),
        entry.response.get("finish_reason", "stop"),
        entry.response.get("thinking", ""),
        tuple(NativeCall(**call) for call in entry.response.get("tool_calls", ())),
        dropped=entry.response.get(DROPPED_TO_FIT, {}),
    )
