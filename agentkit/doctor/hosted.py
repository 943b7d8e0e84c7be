"""Examines a server of chat models: what it does with each field of a request, told from what it answers.

Servers ignore fields without a word (`transformers serve` half of them), so every probe asks for something that shows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from agentkit.doctor.probes import ECHO, Finding
from agentkit.errors import ModelError
from agentkit.models.hosted.failures import refusal, without_secrets
from agentkit.models.hosted.places import Outgoing, Place
from agentkit.models.openai_format import ServerSentEvents

COUNT = "Count from one to ten in words, with commas between."
SAY_HELLO = "Say hello."
CALL = "Call the tool echo with the word hello."
RANDOM = "Write one random word of eight letters, nothing else."
ODD_KEY = "zebra_count"  # nobody writes it unasked
CONTEXT = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx_train", "n_ctx")
TIMEOUT_S = 60.0


def server_probes(place: Place, *, client: httpx.Client | None = None) -> list[tuple[str, Callable[[], Finding]]]:
    """Probes of the server behind a hosted model, in an order in which they may build on each other."""
    server = RawServer(place, client or httpx.Client(timeout=TIMEOUT_S))
    return [(name, partial(_probed, name, probe, server)) for name, probe in PROBES]


def _probed(name: str, probe: Callable[[RawServer], Finding], server: RawServer) -> Finding:
    try:
        return probe(server)
    except Refused as refused:
        return Finding(name, "note", f"refused: {refused}", "requests go without it")


def _server(server: RawServer) -> Finding:
    known = server.models()
    if known is None:
        return Finding("server", "ok", "does not list its models")
    listed = ", ".join(server.names[:5]) + (" …" if len(server.names) > 5 else "")
    if len(server.names) > 1 and not server.place.model:
        return Finding("server", "note", listed, "name one of them: chat_model(…, model=NAME), or ADDRESS#NAME")
    return Finding("server", "ok", listed or "lists no model")


def _context(server: RawServer) -> Finding:
    wanted = server.place.model
    for one in server.models() or ():
        about = {**one, **(one.get("meta") or {})}
        tokens = next((about[name] for name in CONTEXT if isinstance(about.get(name), int)), None)
        if tokens is not None and wanted in (None, one["id"]):
            return Finding("context", "note" if tokens < 8192 else "ok", f"{tokens} tokens", _short(tokens))
    return Finding("context", "note", "not said", "long runs may meet the server's limit")


def _short(tokens: int) -> str:
    return "short for runs of many steps" if tokens < 8192 else ""


def _max_tokens(server: RawServer) -> Finding:
    choice = server.ask(COUNT, max_tokens=4)
    words = len(str(choice["message"].get("content") or "").split())
    used = (choice["usage"] or {}).get("completion_tokens", words)
    if used > 8:
        return Finding(
            "max_tokens", "problem", f"ignored: {used} tokens came of 4", "budgets do not bound a reply here"
        )
    return Finding("max_tokens", "ok", f"kept; it ends with {choice.get('finish_reason')!r}")


def _stop(server: RawServer) -> Finding:
    whole = server.text(COUNT, max_tokens=40, temperature=0)
    stop = next((word for word in ("four", "three", "five") if word in whole), whole[len(whole) // 2 :][:5])
    if not stop.strip():
        return Finding("server's stop", "note", "not to be told: it said nothing", "ask it something it answers")
    cut = server.text(COUNT, max_tokens=40, temperature=0, stop=[stop])
    before, found, after = cut.partition(stop)
    if found and after.strip():
        return Finding("server's stop", "note", "ignored", "replies are cut here, but you wait and pay for the rest")
    if found:
        return Finding("server's stop", "ok", "honoured, its text kept (which is cut here)")
    if whole.startswith(before.rstrip()) and len(cut) < len(whole):
        return Finding("server's stop", "ok", "honoured")
    return Finding("server's stop", "note", "not to be told: it answered otherwise this time", "try again")


def _streamed(server: RawServer) -> Finding:
    started_s, first_s, texts, usage = time.perf_counter(), None, 0, None
    for event in server.events(COUNT, max_tokens=64):
        usage = event.get("usage") or usage
        delta = (event.get("choices") or [{}])[0].get("delta") or {}
        if delta.get("content") or delta.get("reasoning_content"):
            first_s, texts = first_s or time.perf_counter(), texts + 1
    if texts < 2:
        return Finding("server's stream", "note", "one piece", "answers appear all at once")
    rate = _rate(usage, texts, time.perf_counter() - (first_s or started_s))
    seen = f"{texts} pieces, {rate}, the first after {(first_s or started_s) - started_s:.1f} s"
    if not usage:
        return Finding(
            "server's stream", "note", f"{seen}, no usage", "token budgets do not hold where text is streamed"
        )
    return Finding("server's stream", "ok", f"{seen}, with usage")


def _rate(usage: Mapping[str, Any] | None, texts: int, seconds: float) -> str:
    tokens = (usage or {}).get("completion_tokens") or texts
    return f"about {tokens / max(seconds, 1e-3):.0f} tokens/s"


def _tools(server: RawServer) -> Finding:
    message = server.ask(CALL, max_tokens=256, tools=[ECHO])["message"]
    if calls := message.get("tool_calls"):
        arguments = calls[0]["function"]["arguments"]
        try:
            json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError:
            return Finding("server's tools", "note", f"called with {arguments!r}, no JSON", "the agent asks again")
        return Finding("server's tools", "ok", f"called {calls[0]['function']['name']}")
    if "echo" in str(message.get("content")) and "{" in str(message.get("content")):
        return Finding("server's tools", "note", "called in its text", "start the server with its tool parser")
    return Finding("server's tools", "note", "none called", "agents ask in ReAct-JSON (--mode react-json)")


def _tool_choice(server: RawServer) -> Finding:
    def called(question: str, choice: str) -> bool:
        answer = server.ask(question, max_tokens=256, tools=[ECHO], tool_choice=choice)
        return bool(answer["message"].get("tool_calls"))

    ignored = [*(["none"] if called(CALL, "none") else ()), *([] if called(SAY_HELLO, "required") else ["required"])]
    if ignored:
        seen = f"{' and '.join(ignored)} ignored"
        return Finding("tool_choice", "note", seen, "structured output by function calling may give text")
    return Finding("tool_choice", "ok", "none and required are kept")


def _json_schema(server: RawServer) -> Finding:
    schema = {"type": "object", "properties": {ODD_KEY: {"type": "integer"}}, "required": [ODD_KEY]}
    wanted = {"name": "odd", "schema": {**schema, "additionalProperties": False}, "strict": True}
    text = server.text(SAY_HELLO, max_tokens=64, response_format={"type": "json_schema", "json_schema": wanted})
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and list(value) == [ODD_KEY]:
        return Finding("response_format", "ok", "a JSON schema is kept")
    return Finding(
        "response_format", "note", f"ignored: {text[:40]!r}", "replies are checked here, and asked for again"
    )


def _logprobs(server: RawServer) -> Finding:
    given = server.ask(COUNT, max_tokens=4, logprobs=True, top_logprobs=2).get("logprobs")
    if given and given.get("content"):
        return Finding("logprobs", "ok", "given")
    return Finding("logprobs", "note", "ignored", "")


def _sampling(server: RawServer) -> Finding:
    draw = partial(server.text, RANDOM, max_tokens=12, temperature=1.5)
    greedy = [server.text(RANDOM, max_tokens=12, temperature=0) for _ in range(2)]
    same, again, others = draw(seed=7), draw(seed=7), [draw(seed=seed) for seed in (8, 9, 10)]
    varies = any(other != same for other in others)
    if not varies:
        return Finding("sampling", "note", "temperature and seed make no difference", "replies do not vary here")
    ignored = [*(["temperature 0"] if greedy[0] != greedy[1] else ()), *(["seed"] if same != again else ())]
    if ignored:
        return Finding("sampling", "note", f"{' and '.join(ignored)} ignored", "runs are not repeatable: record them")
    return Finding("sampling", "ok", "temperature and seed are kept")


def _cost(server: RawServer) -> Finding:
    usage = server.ask(SAY_HELLO, max_tokens=4)["usage"] or {}
    if any(name in usage for name in ("cost", "estimated_cost", "total_cost")):
        return Finding("cost", "ok", "said with the usage")
    return Finding("cost", "note", "not said", "--max-cost needs a price table: chat_model(…, prices={…})")


PROBES: tuple[tuple[str, Callable[[RawServer], Finding]], ...] = (
    ("server", _server),
    ("context", _context),
    ("max_tokens", _max_tokens),
    ("server's stop", _stop),
    ("server's stream", _streamed),
    ("server's tools", _tools),
    ("tool_choice", _tool_choice),
    ("response_format", _json_schema),
    ("logprobs", _logprobs),
    ("sampling", _sampling),
    ("cost", _cost),
)


# -- the server, asked as it is ----------------------------------------------------------------------------------------


class Refused(Exception):
    """The server answered a request with an error."""


@dataclass
class RawServer:
    """Asks a model's server as the model does, and gives its answers as they are: the model mends and cuts them."""

    place: Place
    client: httpx.Client
    names: list[str] = field(default_factory=list)  # of its models, as far as it says

    def models(self) -> list[dict[str, Any]] | None:
        """What the server says of its models; `None` where it says nothing."""
        asking = self.place.models()
        if asking is None:
            return None
        try:
            response = self._sent("GET", asking)
            known = [one for one in response.json()["data"] if isinstance(one.get("id"), str)]
        except (Refused, ValueError, LookupError, TypeError, AttributeError):
            return None
        self.names = [one["id"] for one in known]
        return known

    def ask(self, question: str, *, max_tokens: int = 32, **fields: Any) -> dict[str, Any]:
        """The first choice of an answer, with the answer's `usage`."""
        answer = self._sent("POST", self._request(question, {"max_tokens": max_tokens, **fields})).json()
        return {**answer["choices"][0], "usage": answer.get("usage")}

    def text(self, question: str, **fields: Any) -> str:
        """The text of an answer."""
        return str(self.ask(question, **fields)["message"].get("content") or "")

    def events(self, question: str, *, max_tokens: int) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, or the whole answer where the server does not stream."""
        wanted = {"max_tokens": max_tokens, "stream": True, "stream_options": {"include_usage": True}}
        asking = self._request(question, wanted)
        with self.client.stream("POST", asking.url, headers=asking.headers, content=asking.content) as response:
            if response.status_code >= 400:
                raise Refused(_reason(response.status_code, response.headers, response.read(), asking))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                yield json.loads(response.read())
                return
            stream = ServerSentEvents()
            for piece in response.iter_bytes():
                yield from (json.loads(event) for event in stream.feed(piece) if event.startswith("{"))
            yield from (json.loads(event) for event in stream.rest() if event.startswith("{"))

    def _request(self, question: str, fields: Mapping[str, Any]) -> Outgoing:
        named = {"model": self.names[0]} if len(self.names) == 1 and not self.place.model else {}
        return self.place.chat({**named, "messages": [{"role": "user", "content": question}], **fields})

    def _sent(self, method: str, asking: Outgoing) -> httpx.Response:
        try:
            response = self.client.request(method, asking.url, headers=dict(asking.headers), content=asking.content)
        except httpx.HTTPError as error:
            raise ModelError(without_secrets(f"{type(error).__name__}: {error}", *asking.secrets)) from None
        if response.status_code >= 400:
            raise Refused(_reason(response.status_code, response.headers, response.content, asking))
        return response


def _reason(status: int, headers: Mapping[str, str], body: bytes, asking: Outgoing) -> str:
    return without_secrets(refusal(status, headers, body, now_s=0.0).message, *asking.secrets)
