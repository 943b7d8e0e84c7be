"""Examines a server of chat models: what it does with each field of a request, told from what it answers.

Servers ignore fields without a word (`transformers serve` half of them), so every probe asks for something that shows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from agentkit.core.mode import KnownModes, key_of
from agentkit.core.planner import REFUSED, status_of
from agentkit.doctor import probes
from agentkit.doctor.probes import ECHO, Finding
from agentkit.errors import ConfigurationError, ModelError, in_one_line
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.call_pieces import is_json_object
from agentkit.models.finish_reasons import is_cut_off
from agentkit.models.hosted.model import MOST_LISTED, HostedModel
from agentkit.retry import RetryPolicy

COUNT = "Count from one to ten in words, with commas between."
SAY_HELLO = "Say hello."
CALL = str(probes.CALL["content"])
RANDOM = "Write one random word of eight letters, nothing else."
ODD_KEY = "zebra_count"  # nobody writes it unasked
CONTEXT = (
    "max_model_len",
    "context_length",
    "context_window",
    "max_context_length",
    "n_ctx",
    "n_ctx_train",
)  # the first that is said
TIMEOUT_S = 60.0
REQUEST_FIELDS = ("stop", "tools", "tool_choice", "response_format", "top_logprobs")


def server_probes(model: HostedModel) -> list[tuple[str, Callable[[], Finding]]]:
    """Probes of the server behind a hosted model, in an order in which they may build on each other."""
    server = Server(model)
    return [(name, partial(_probed, name, probe, server)) for name, probe in PROBES]


def _probed(name: str, probe: Callable[[Server], Finding], server: Server) -> Finding:
    try:
        return probe(server)
    except (ModelError, ConfigurationError) as error:
        if status_of(error) is None or server.refuses_all:
            raise
        reason = str(error).removeprefix(f"{server.model.model_id} ")
        return Finding(name, "note", f"refused: {reason}", "requests go without it")


def _server(server: Server) -> Finding:
    known = server.models()
    if known is None:
        return Finding("server", "ok", "does not list its models")
    listed = in_one_line(", ".join(server.names[:5]), MOST_LISTED) + (" …" if len(server.names) > 5 else "")
    wanted = server.model.place.model
    if wanted and server.names and not any(_is_meant(name, wanted) for name in server.names + server.aliases):
        answers = server.served()
        by = f"; {answers} answers" if answers and not _is_meant(answers, wanted) else ""
        return Finding("server", "note", f"{listed}, and not {wanted}{by}", "name one that it lists")
    if wanted and (answers := server.served()) and not _is_meant(answers, wanted):
        return Finding("server", "note", f"{answers} answers for {wanted}", "look which model the server has loaded")
    if len(server.names) > 1 and not wanted:
        return Finding("server", "note", listed, "name one of them: chat_model(…, model=NAME), or ADDRESS#NAME")
    return Finding("server", "ok", listed or "lists no model")


def _is_meant(name: str, wanted: str) -> bool:
    """Whether a server's name for a model is the one asked for: with its folder, a tag, or the date of its making."""
    name, wanted = name.lower(), wanted.lower()
    if wanted.partition(":")[0] == name or name.rpartition("/")[2] == wanted:
        return True
    return re.match(rf"{re.escape(wanted)}(?![\w.])", name) is not None


def _context(server: Server) -> Finding:
    wanted, models = server.model.place.model, server.models() or []
    for one in models:
        about = {**one, **meta} if isinstance(meta := one.get("meta"), dict) else one
        said = (about.get(name) for name in CONTEXT)
        tokens = next((value for value in said if type(value) is int and value > 0), None)
        if tokens is not None and (wanted is None or len(models) == 1 or _is_meant(one["id"], wanted)):
            return Finding("context", "note" if tokens < 8192 else "ok", f"{tokens} tokens", _short(tokens))
    return Finding("context", "note", "not said", "long runs may meet the server's limit")


def _short(tokens: int) -> str:
    return "short for runs of many steps" if tokens < 8192 else ""


def _max_tokens(server: Server) -> Finding:
    answer = server.ask(COUNT, max_tokens=4)
    used = answer.usage.completion_tokens if answer.usage else len(answer.text.split())
    if used > 8:
        return Finding(
            "max_tokens", "problem", f"ignored: {used} tokens came of 4", "budgets do not bound a reply here"
        )
    return Finding("max_tokens", "ok", f"kept; it ends with {answer.finish_reason!r}")


def _stop(server: Server) -> Finding:
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


def _streamed(server: Server) -> Finding:
    started_s = time.perf_counter()
    pieces = [(time.perf_counter(), piece) for piece in server.pieces(COUNT, max_tokens=64)]
    usage = pieces[-1][1].usage
    arrivals = [at for at, piece in pieces if piece.text or piece.thinking]
    if len(arrivals) < 2:
        return Finding("server's stream", "note", "one piece", "answers appear all at once")
    first_s = arrivals[0]
    tokens = (usage and usage.completion_tokens) or len(arrivals)
    rate = tokens / max(time.perf_counter() - first_s, 1e-3)
    seen = f"{len(arrivals)} pieces, about {rate:.0f} tokens/s, the first after {first_s - started_s:.1f} s"
    if not usage:
        return Finding(
            "server's stream", "note", f"{seen}, no usage", "token budgets do not hold where text is streamed"
        )
    return Finding("server's stream", "ok", f"{seen}, with usage")


def _tools(server: Server) -> Finding:
    answer = server.ask(CALL, max_tokens=256, tools=[ECHO])
    if answer.tool_calls:
        call = answer.tool_calls[0]
        if not is_json_object(call.arguments):
            return Finding("server's tools", "note", f"called with {call.arguments!r}, no JSON", "the agent asks again")
        return Finding("server's tools", "ok", f"called {call.name}")
    if "echo" in answer.text and "{" in answer.text:
        return Finding("server's tools", "note", "called in its text", "start the server with its tool parser")
    return Finding("server's tools", "note", "none called", "agents ask in ReAct-JSON (--mode react-json)")


def _tool_choice(server: Server) -> Finding:
    def called(question: str, choice: str) -> bool:
        return bool(server.ask(question, max_tokens=256, tools=[ECHO], tool_choice=choice).tool_calls)

    ignored = ["none"] if called(CALL, "none") else []
    if not called(SAY_HELLO, "required"):
        ignored.append("required")
    elif not called(SAY_HELLO, "echo"):
        ignored.append("a tool's name")
    if ignored:
        seen = f"{' and '.join(ignored)} ignored"
        return Finding("tool_choice", "note", seen, "structured output by function calling may give text")
    return Finding("tool_choice", "ok", "none and required are kept")


def _json_schema(server: Server) -> Finding:
    schema = {"type": "object", "properties": {ODD_KEY: {"type": "integer"}}, "required": [ODD_KEY]}
    wanted = {"name": "odd", "schema": {**schema, "additionalProperties": False}, "strict": True}
    try:
        answer = server.ask(SAY_HELLO, max_tokens=64, response_format={"type": "json_schema", "json_schema": wanted})
    except ModelError as error:
        if status_of(error) in REFUSED:
            server.learn(keeps_schema=False)
        raise
    try:
        value = json.loads(answer.text)
    except ValueError:
        value = None
    is_kept = isinstance(value, dict) and list(value) == [ODD_KEY]
    if is_kept or not is_cut_off(answer.finish_reason or "stop"):
        server.learn(keeps_schema=is_kept)
    if is_kept:
        return Finding("response_format", "ok", "a JSON schema is kept")
    return Finding(
        "response_format", "note", f"ignored: {answer.text[:40]!r}", "replies are checked here, and asked for again"
    )


def _logprobs(server: Server) -> Finding:
    if server.ask(COUNT, max_tokens=4, top_logprobs=2).logprobs:
        return Finding("logprobs", "ok", "given")
    return Finding("logprobs", "note", "ignored", "")


def _sampling(server: Server) -> Finding:
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


def _cost(server: Server) -> Finding:
    usage = server.ask(SAY_HELLO, max_tokens=4).usage
    if usage and usage.cost_usd is not None:
        return Finding("cost", "ok", "said with the usage")
    return Finding("cost", "note", "not said", "--max-cost needs a price table: chat_model(…, prices={…})")


PROBES: tuple[tuple[str, Callable[[Server], Finding]], ...] = (
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


class Server:
    """Asks a model's server as the model does, and gives its answers as they are: whoever asks the model mends them."""

    def __init__(self, model: HostedModel) -> None:
        once = RetryPolicy(tries=1, total_s=TIMEOUT_S)
        self.model = replace(model, defaults={}, stop=(), prices={}, retries=once, adapts=False)
        self.names: list[str] = []  # of its models, as far as it says
        self.aliases: list[str] = []

    def models(self) -> list[dict[str, Any]] | None:
        """What the server says of its models; `None` where it says nothing."""
        try:
            models = self.model.models()
        except ModelError as error:
            if status_of(error) is not None:
                return None
            raise
        self.names = [one["id"] for one in models]
        aliases = [one["aliases"] for one in models if isinstance(one.get("aliases"), list)]
        self.aliases = [str(alias) for listed in aliases for alias in listed]
        return models or None

    def served(self) -> str:
        """The name of the model that answers."""
        return str((self.ask(SAY_HELLO, max_tokens=4).metadata or {}).get("model_name") or "")

    @cached_property
    def refuses_all(self) -> bool:
        """Whether it refuses the plainest request, too."""
        try:
            self.ask(SAY_HELLO, max_tokens=4)
        except (ModelError, ConfigurationError):
            return True
        return False

    def learn(self, *, keeps_schema: bool) -> None:
        """Remember for agents whether the server keeps a schema."""
        store, key = KnownModes(), key_of(self.model.capabilities.identity, self.model.capabilities)
        store.put(key, replace(store.get(key), keeps_schema=keeps_schema, doubts=None))

    def pieces(self, question: str, *, max_tokens: int = 32, stream: bool = True, **fields: Any) -> Iterator[Chunk]:
        """The answer to a request with these fields of `ChatRequest`, and others by their names on the wire."""
        of_request = {name: fields.pop(name) for name in REQUEST_FIELDS if name in fields}
        if len(self.names) == 1 and not self.model.place.model:
            fields["model"] = self.names[0]
        message = {"role": "user", "content": question}
        options = {"max_new_tokens": max_tokens, **fields}
        return self.model.generate_chat(ChatRequest(messages=[message], options=options, stream=stream, **of_request))

    def ask(self, question: str, **fields: Any) -> Chunk:
        """A whole answer."""
        pieces = list(self.pieces(question, stream=False, **fields))
        return replace(
            pieces[-1],
            text="".join(piece.text for piece in pieces),
            logprobs=tuple(logprob for piece in pieces for logprob in piece.logprobs),
        )

    def text(self, question: str, **fields: Any) -> str:
        """The text of an answer."""
        return self.ask(question, **fields).text
