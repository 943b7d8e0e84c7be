"""The same requests to a real server through three clients: `python tests/benchmarks/servers.py --peer PYTHON SERVER`.

SERVER is `--llama FILE.gguf` (llama.cpp's, through xllamacpp), `--vllm PYTHON FOLDER` (vLLM's, on the processor), or
`--url URL --model NAME [--key KEY]` of one that runs, which is not killed. `--peer` is a Python that has openai and
langchain-openai. Each client is a process of its own, made with the same options and used as its documentation says;
each may ask again as often as the others. "plain HTTP" is what the server itself makes of the request: a client is "ok"
where its text, calls, finish reason, counts of tokens and logprobs are those. Errors stand in full below the table.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

ROOT = str(Path(__file__).parents[2])
REQUEST_S, RESTART_S = 60, 400  # bounds of a request, and of one during which the server starts again
RETRIES, RESTART_RETRIES = 2, 40
AT_ONCE = 64
OPTIONS = {"temperature": 0, "seed": 7}
CLIENTS = {"agentkit": "agentkit-react", "openai": "openai", "ChatOpenAI": "langchain-openai"}
"""By the distribution that each is in."""

Request = dict[str, Any]
Reply = dict[str, Any]
"""`text`, `calls`, `finish_reason`, `tokens`, `logprobs`; `value` of a typed one; `error` beside what came before."""


# -- the clients, in processes of their own --------------------------------------------------------------------------


@dataclass(frozen=True)
class Connection:
    url: str
    key: str
    model: str
    max_retries: int


class Way(Protocol):
    """One client's ways to ask; each writes into the reply as it comes."""

    def invoke(self, request: Request, reply: Reply) -> None: ...
    def stream(self, request: Request, reply: Reply) -> Iterator[None]: ...
    async def ainvoke(self, request: Request, reply: Reply) -> None: ...
    def astream(self, request: Request, reply: Reply) -> AsyncIterator[None]: ...
    def typed(self, request: Request, reply: Reply) -> None: ...


def _new_reply() -> Reply:
    return {"text": "", "calls": [], "finish_reason": None, "tokens": None, "logprobs": []}


def _read(completion: Mapping[str, Any], reply: Reply) -> None:
    """Add a completion, or a chunk of one, as OpenAI's reference has it."""
    if usage := completion.get("usage"):
        reply["tokens"] = [usage["prompt_tokens"], usage["completion_tokens"]]
    for choice in completion.get("choices") or []:
        said = choice.get("message") or choice.get("delta") or {}
        reply["text"] += said.get("content") or ""
        reply["finish_reason"] = choice.get("finish_reason") or reply["finish_reason"]
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        reply["logprobs"] += [[one["token"], one["logprob"]] for one in logprobs]
        for position, call in enumerate(said.get("tool_calls") or []):
            index = call.get("index", position)
            while len(reply["calls"]) <= index:
                reply["calls"].append(["", ""])
            function = call.get("function") or {}
            reply["calls"][index][0] += function.get("name") or ""
            reply["calls"][index][1] += function.get("arguments") or ""


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Refused(Exception):
    """An error of the server's, by its status."""


class PlainHttp:
    """What the server itself says."""

    def __init__(self, to: Connection) -> None:
        self._to = to

    def invoke(self, request: Request, reply: Reply) -> None:
        with self._post(request) as response:
            _read(json.load(response), reply)

    def stream(self, request: Request, reply: Reply) -> Iterator[None]:
        with self._post({**request, "stream": True, "stream_options": {"include_usage": True}}) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    _read(json.loads(line[6:]), reply)
                    yield

    async def ainvoke(self, request: Request, reply: Reply) -> None:
        self.invoke(request, reply)

    async def astream(self, request: Request, reply: Reply) -> AsyncIterator[None]:
        for _ in self.stream(request, reply):
            yield

    def typed(self, request: Request, reply: Reply) -> None:
        raise NotImplementedError

    def _post(self, request: Request) -> http.client.HTTPResponse:
        body = json.dumps({"model": self._to.model, **OPTIONS, **request}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._to.key}"}
        asked = urllib.request.Request(f"{self._to.url}/chat/completions", body, headers)
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(asked, timeout=REQUEST_S)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(f"HTTP {error.code}: {error.read().decode()}") from None
        return response


class OpenAIClient:
    def __init__(self, to: Connection) -> None:
        from openai import AsyncOpenAI, OpenAI

        options: Any = {"base_url": to.url, "api_key": to.key, "timeout": REQUEST_S, "max_retries": to.max_retries}
        self._blocking, self._awaiting, self._model = OpenAI(**options), AsyncOpenAI(**options), to.model

    def _body(self, request: Request, **more: Any) -> Any:
        return {"model": self._model, **OPTIONS, **request, **more}

    def invoke(self, request: Request, reply: Reply) -> None:
        _read(self._blocking.chat.completions.create(**self._body(request)).model_dump(), reply)

    def stream(self, request: Request, reply: Reply) -> Iterator[None]:
        body = self._body(request, stream=True, stream_options={"include_usage": True})
        for chunk in self._blocking.chat.completions.create(**body):
            _read(chunk.model_dump(), reply)
            yield

    async def ainvoke(self, request: Request, reply: Reply) -> None:
        _read((await self._awaiting.chat.completions.create(**self._body(request))).model_dump(), reply)

    async def astream(self, request: Request, reply: Reply) -> AsyncIterator[None]:
        body = self._body(request, stream=True, stream_options={"include_usage": True})
        async for chunk in await self._awaiting.chat.completions.create(**body):
            _read(chunk.model_dump(), reply)
            yield

    def typed(self, request: Request, reply: Reply) -> None:
        completion = self._blocking.chat.completions.parse(**self._body(request), response_format=_city())
        reply["value"] = completion.choices[0].message.parsed.model_dump()


class LangChainModel:
    """A chat model of LangChain's, ours or langchain-openai's: `make` gives it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._model = make()

    def _bound(self, request: Request) -> tuple[Any, Any]:
        options = {**request}
        messages, tools, choice = (options.pop(name, None) for name in ("messages", "tools", "tool_choice"))
        if isinstance(choice, dict):
            choice = choice["function"]["name"]
        choice = "any" if choice == "required" else choice
        model = self._model.bind_tools(tools, tool_choice=choice) if tools else self._model
        return model.bind(**options), messages

    def invoke(self, request: Request, reply: Reply) -> None:
        model, messages = self._bound(request)
        self._add(None, model.invoke(messages), reply)

    def stream(self, request: Request, reply: Reply) -> Iterator[None]:
        model, messages = self._bound(request)
        whole = None
        for chunk in model.stream(messages):
            whole = self._add(whole, chunk, reply)
            yield

    async def ainvoke(self, request: Request, reply: Reply) -> None:
        model, messages = self._bound(request)
        self._add(None, await model.ainvoke(messages), reply)

    async def astream(self, request: Request, reply: Reply) -> AsyncIterator[None]:
        model, messages = self._bound(request)
        whole = None
        async for chunk in model.astream(messages):
            whole = self._add(whole, chunk, reply)
            yield

    def typed(self, request: Request, reply: Reply) -> None:
        asked = self._make(max_tokens=request["max_tokens"]).with_structured_output(_city(), method="json_schema")
        reply["value"] = asked.invoke(request["messages"]).model_dump()

    def _add(self, whole: Any, message: Any, reply: Reply) -> Any:
        whole = message if whole is None else whole + message
        usage, metadata = whole.usage_metadata, whole.response_metadata
        logprobs = (metadata.get("logprobs") or {}).get("content") or []
        reply |= {
            "text": str(whole.content),
            "calls": [[call["name"], call["args"]] for call in (*whole.tool_calls, *whole.invalid_tool_calls)],
            "finish_reason": metadata.get("finish_reason"),
            "tokens": usage and [usage["input_tokens"], usage["output_tokens"]],
            "logprobs": [[one["token"], one["logprob"]] for one in logprobs],
        }
        return whole


def _city() -> Any:
    from pydantic import create_model

    return create_model("City", city=(Literal["Paris", "Rome"], ...))


def _way(name: str, to: Connection) -> Way:
    options = {"api_key": to.key, "timeout": REQUEST_S, "max_retries": to.max_retries, **OPTIONS}
    if name == "openai":
        return OpenAIClient(to)
    if name == "ChatOpenAI":
        kind = importlib.import_module("langchain_openai").ChatOpenAI  # the one that has it may be another Python
        return LangChainModel(
            lambda **more: kind(base_url=to.url, model=to.model, stream_usage=True, **options, **more)
        )
    sys.path.insert(0, ROOT)
    from agentkit import chat_model

    return LangChainModel(lambda **more: chat_model(f"{to.url}#{to.model}", **options, **more))


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def _be_client(name: str) -> None:
    """Ask what each line of standard input says, and say what came."""
    ways: dict[Connection, Way] = {}
    _say(f"{CLIENTS[name]} {version(CLIENTS[name])}")
    with asyncio.Runner() as runner:
        for line in iter(sys.stdin.readline, ""):
            order = json.loads(line)
            to = Connection(**order["to"])
            way = ways[to] if to in ways else ways.setdefault(to, _way(name, to))
            if order["times"] == 1:
                _say(runner.run(_asked(way, order)))
            else:
                _say(runner.run(_at_once(way, order)))


async def _asked(way: Way, order: Mapping[str, Any]) -> Reply:
    reply, request, pauses = _new_reply(), order["request"], order["pauses"]

    def pause() -> None:
        """Once the reply has begun, until told to go on."""
        nonlocal pauses
        if pauses and len(reply["text"]) > 8:
            pauses = False
            _say("paused")
            sys.stdin.readline()

    started_s = time.perf_counter()
    try:
        match order["way"]:
            case "invoke":
                way.invoke(request, reply)
            case "ainvoke":
                await way.ainvoke(request, reply)
            case "stream":
                for _ in way.stream(request, reply):
                    pause()
            case "astream":
                async for _ in way.astream(request, reply):
                    pause()
            case "typed":
                way.typed(request, reply)
    except Exception as error:
        kind = "" if isinstance(error, Refused) else f"{type(error).__name__}: "
        reply["error"] = " ".join(f"{kind}{error}".split())
    reply["seconds"] = time.perf_counter() - started_s
    reply["calls"] = [[name, _arguments(given) if isinstance(given, str) else given] for name, given in reply["calls"]]
    return reply


async def _at_once(way: Way, order: Mapping[str, Any]) -> dict[str, Any]:
    replies = [_new_reply() for _ in range(order["times"])]
    started_s = time.perf_counter()
    calls = (way.ainvoke(order["request"], reply) for reply in replies)
    errors = [str(error) for error in await asyncio.gather(*calls, return_exceptions=True) if error is not None]
    return {
        "seconds": time.perf_counter() - started_s,
        "errors": errors,
        "texts": sorted({reply["text"] for reply in replies}),
    }


# -- the servers -------------------------------------------------------------------------------------------------------


class Server(Protocol):
    def start(self) -> None: ...
    def wait(self) -> None: ...
    def kill(self) -> None: ...


@dataclass
class VllmServer:
    """vLLM's server on the processor, with one thread, in a process group of its own."""

    python: str
    folder: str
    key: str
    name: str
    port: int
    within: Path
    template: str
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        template = self.within / "template.jinja"
        template.write_text(self.template)
        words = [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.folder]
        words += ["--served-model-name", self.name, "--api-key", self.key, "--chat-template", str(template)]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--max-model-len", "2048", "--enforce-eager"]
        words += ["--dtype", "bfloat16", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        threads = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
        with (self.within / "log.txt").open("ab") as log:
            self.running = subprocess.Popen(
                words, env={**os.environ, **threads}, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        assert self.running is not None
        end_s = time.monotonic() + RESTART_S
        while time.monotonic() < end_s and self.running.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"vLLM did not start: {(self.within / 'log.txt').read_text()[-2000:]}")

    def kill(self) -> None:
        if self.running is not None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()


@contextmanager
def served(given: argparse.Namespace) -> Iterator[tuple[Connection, Server | None]]:
    """Where the server is that was asked for, and what starts it again, where that is here."""
    if given.url:
        yield Connection(given.url.rstrip("/"), given.key, given.model, RETRIES), None
        return
    sys.path.insert(0, ROOT)
    from tests.hosted.test_llama_server import KEY, NAME, TEMPLATE, LlamaServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server: Server
        if given.llama:
            server = LlamaServer(Path(given.llama), port, Path(folder, "log.txt"))
        else:
            server = VllmServer(*given.vllm, KEY, NAME, port, Path(folder), TEMPLATE)
        try:
            started_s = time.monotonic()
            server.start()
            server.wait()
            print(f"the server started in {time.monotonic() - started_s:.0f} s")
            yield Connection(f"http://127.0.0.1:{port}/v1", KEY, NAME, RETRIES), server
        finally:
            server.kill()


# -- the requests ------------------------------------------------------------------------------------------------------


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


CAPITAL = _user("What is the capital of France?")
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
ABOUT = {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY}
CALLED = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
WEATHER = [
    *_user("Weather in Paris?"),
    {"role": "assistant", "content": "", "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    *_user("Weather in Rome?"),
]
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
COUNTING = {"messages": _user("Count from one to twenty in words."), "max_tokens": 24}
SHORT = {"messages": CAPITAL, "max_tokens": 3}
SAMPLED = {"messages": _user("Write a poem."), "max_tokens": 8, "temperature": 1.2, "seed": 11}
BOTH = ("invoke", "stream")


def _tools(choice: Any) -> Request:
    return {"messages": WEATHER, "max_tokens": 32, "tools": [{"type": "function", "function": ABOUT}]} | (
        {"tool_choice": choice}
    )


@dataclass(frozen=True)
class Row:
    """A request that is asked in each of the ways, to be answered as plain HTTP is, or with an error."""

    request: Request
    ways: tuple[str, ...] = BOTH
    to: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False


ROWS = {
    "invoke": Row({"messages": CAPITAL, "max_tokens": 12}, ("invoke",)),
    "stream": Row({"messages": CAPITAL, "max_tokens": 12}, ("stream",)),
    "async": Row({"messages": CAPITAL, "max_tokens": 12}, ("ainvoke", "astream")),
    "stop": Row({"messages": CAPITAL, "max_tokens": 12, "stop": ["Berlin", " is"]}),
    "tools, auto": Row(_tools("auto")),
    "tools, required": Row(_tools("required")),
    "tools, none": Row(_tools("none")),
    "tools, named": Row(_tools({"type": "function", "function": {"name": "get_weather"}})),
    "json_schema": Row({"messages": CAPITAL, "max_tokens": 24, "response_format": BY_SCHEMA}),
    "JSON mode": Row(
        {"messages": _user("A city as JSON."), "max_tokens": 24, "response_format": {"type": "json_object"}}
    ),
    "logprobs": Row({"messages": CAPITAL, "max_tokens": 4, "logprobs": True, "top_logprobs": 2}),
    "prompt over the context": Row({"messages": _user("word " * 4096), "max_tokens": 8}, timed=True),
    "wrong key": Row(SHORT, ("invoke",), {"key": "key-of-another-server"}, timed=True),
    "wrong model": Row(SHORT, ("invoke",), {"model": "other"}, timed=True),
}


# -- one client after the other ----------------------------------------------------------------------------------------


@dataclass
class Client:
    """A client's process, which is asked a thing at a time, and ended where that takes too long."""

    name: str
    python: str
    to: Connection
    release: str = ""
    running: subprocess.Popen[str] | None = None

    def ask(
        self,
        request: Request,
        way: str = "invoke",
        *,
        times: int = 1,
        within_s: float = REQUEST_S,
        while_paused: Callable[[], None] | None = None,
        **to: Any,
    ) -> Any:
        order = {"request": request, "way": way, "times": times, "pauses": while_paused is not None}
        try:
            self._write({**order, "to": {**self.to.__dict__, **to}})
            while (said := self._line(within_s)) == "paused":
                assert while_paused is not None
                while_paused()
                self._write(None)
            return said
        except TimeoutError:
            self.close()
            return {**_new_reply(), "error": f"over {within_s} s", "errors": ["over"] * times, "seconds": within_s}

    def open(self) -> None:
        if self.running is None:
            words = [self.python, __file__, "--client", self.name]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.running = subprocess.Popen(words, text=True, **pipes)
            self.release = self._line(REQUEST_S)

    def close(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.communicate()
            self.running = None

    def _write(self, value: Any) -> None:
        self.open()
        assert self.running is not None
        assert self.running.stdin is not None
        print(json.dumps(value), file=self.running.stdin, flush=True)

    def _line(self, within_s: float) -> Any:
        assert self.running is not None
        assert self.running.stdout is not None
        if not select.select([self.running.stdout], [], [], within_s)[0]:
            raise TimeoutError
        return json.loads(self.running.stdout.readline())


def _plainly(to: Connection, request: Request, way: str) -> Reply:
    order = {"request": request, "way": way, "pauses": False}
    return asyncio.run(_asked(PlainHttp(to), order))


def _is_same(reply: Reply, expected: Reply) -> bool:
    """Whether it is the server's, but for the last digits of logprobs."""
    names = ("error", "text", "calls", "finish_reason", "tokens")
    logprobs, others = reply["logprobs"], expected["logprobs"]
    is_near = [token for token, _ in logprobs] == [token for token, _ in others] and all(
        abs(one - other) < 0.05 for (_, one), (_, other) in zip(logprobs, others, strict=True)
    )
    return is_near and all(reply.get(name) == expected.get(name) for name in names)


class Report:
    """One table, and what is too long for it."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns
        self._rows: dict[str, dict[str, str]] = {}
        self._errors: dict[str, None] = {}  # in their order, each once

    def put(self, row: str, column: str, cell: str) -> None:
        self._rows.setdefault(row, {})[column] = cell
        print(f"{row}, {column}: {cell}", file=sys.stderr)  # some servers take long

    def error(self, row: str, column: str, text: str) -> str:
        """The error's first words, for a cell."""
        self._errors[f"{row}, {column}: {text[:400]}"] = None
        return text.partition(":")[0]

    def timed(self, row: str, column: str, reply: Reply, seen: str, of_error: str = "") -> str:
        """What was seen of a reply, or its error, and the seconds it took."""
        if "error" in reply:
            seen = self.error(row, column, reply["error"]) + of_error
        return f"{seen} {reply['seconds']:.1f} s"

    def described(self, row: str, column: str, reply: Reply) -> str:
        """What came, in a word or two."""
        if "error" in reply:
            return self.error(row, column, reply["error"])
        called = ", ".join(f"{name} {json.dumps(given)}" for name, given in reply["calls"])
        prompt, completion = reply["tokens"] or ("?", "?")
        logprobs = f", {len(reply['logprobs'])} logprobs" if reply["logprobs"] else ""
        seen = called or json.dumps(reply["text"][:22], ensure_ascii=False)
        return f"{seen} {reply['finish_reason']} {prompt}+{completion}{logprobs}"

    def print(self) -> None:
        lines = [["", *self._columns]]
        lines += [[row, *(cells.get(column, "–") for column in self._columns)] for row, cells in self._rows.items()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        print(*self._errors, sep="\n")


def asked_alike(report: Report, name: str, row: Row, clients: list[Client]) -> None:
    to = clients[0].to
    expected = {way: _plainly(Connection(**{**to.__dict__, **row.to}), row.request, way) for way in row.ways}
    plain = {way: report.described(name, "plain HTTP", reply) for way, reply in expected.items()}
    report.put(name, "plain HTTP", _joined(plain))
    for client in clients:
        cells, seconds = {}, 0.0
        for way in row.ways:
            reply = client.ask(row.request, way, **row.to)
            seconds = max(seconds, reply["seconds"])
            same = "error" not in reply and _is_same(reply, expected[way])
            cells[way] = "ok" if same else report.described(name, client.name, reply)
            if row.to.get("key") and row.to["key"] in reply.get("error", ""):
                cells[way] += ", THE KEY IN IT"
        report.put(name, client.name, _joined(cells) + (f" {seconds:.1f} s" if row.timed else ""))


def _joined(cells: Mapping[str, str]) -> str:
    if len(set(cells.values())) == 1:
        return next(iter(cells.values()))
    return ", ".join(f"{way}: {cell}" for way, cell in cells.items())


def usage(report: Report, clients: list[Client]) -> None:
    for way in BOTH:
        report.put(f"usage of {way}", "plain HTTP", _counts(_plainly(clients[0].to, SHORT, way)))
        for client in clients:
            report.put(f"usage of {way}", client.name, _counts(client.ask(SHORT, way)))


def _counts(reply: Reply) -> str:
    return "none" if reply["tokens"] is None else "{}+{}".format(*reply["tokens"])


def typed(report: Report, clients: list[Client]) -> None:
    name = "a typed reply"
    for client in clients:
        reply = client.ask({"messages": CAPITAL, "max_tokens": 24}, "typed")
        failed = "error" in reply
        report.put(
            name, client.name, report.error(name, client.name, reply["error"]) if failed else str(reply["value"])
        )


def seeds(report: Report, clients: list[Client]) -> None:
    for client in clients:
        replies = [client.ask(SAMPLED) for _ in range(2)]
        errors = [report.error("seed twice", client.name, reply["error"]) for reply in replies if "error" in reply]
        same = replies[0]["text"] == replies[1]["text"]
        report.put("seed twice", client.name, ", ".join(errors) or ("the same" if same else "differs"))


def at_once(report: Report, clients: list[Client], rounds: int) -> None:
    """All at once, the clients in turns; what each alone gets is what all should."""
    name = f"{AT_ONCE} at once"
    alone = _plainly(clients[0].to, SHORT, "invoke")["text"]
    taken: dict[str, list[dict[str, Any]]] = {client.name: [] for client in clients}
    for round_ in range(rounds):
        for client in clients[round_ % len(clients) :] + clients[: round_ % len(clients)]:
            taken[client.name].append(client.ask(SHORT, "ainvoke", times=AT_ONCE, within_s=RESTART_S))
    for column, results in taken.items():
        seconds = statistics.median(result["seconds"] for result in results)
        errors = [error for result in results for error in result["errors"]]
        others = {text for result in results for text in result.get("texts", ())} - {alone}
        if errors:
            report.error(name, column, errors[0])
        also = f", other texts: {len(others)}" if others else ""
        report.put(name, column, f"{seconds:.1f} s, {len(errors)} failed{also}")


def killed(report: Report, clients: list[Client], server: Server) -> None:
    """The server is killed when a reply has begun, and started again; then once more before a call."""
    whole = _plainly(clients[0].to, COUNTING, "stream")["text"]
    streamed, called = "killed in mid-stream", "a call while it starts"
    report.put(streamed, "plain HTTP", f"{len(whole)} characters are whole")

    def restart() -> None:
        server.kill()
        server.start()

    options = {"within_s": RESTART_S, "max_retries": RESTART_RETRIES}
    for client in clients:
        reply = client.ask(COUNTING, "stream", while_paused=restart, **options)
        part = f", {len(reply['text'])} of {len(whole)}"
        seen = "whole" if reply["text"] == whole else f"no error{part}"
        report.put(streamed, client.name, report.timed(streamed, client.name, reply, seen, part))
        server.wait()
        restart()
        reply = client.ask(SHORT, **options)
        report.put(called, client.name, report.timed(called, client.name, reply, "ok"))
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    servers = parser.add_mutually_exclusive_group()
    servers.add_argument("--llama", metavar="FILE.gguf")
    servers.add_argument("--vllm", nargs=2, metavar=("PYTHON", "FOLDER"))
    servers.add_argument("--url", help="of a server that runs, with its /v1")
    parser.add_argument("--model", default="", help="its model's name")
    parser.add_argument("--key", default="none", help="its key")
    parser.add_argument("--peer", help="a Python that has openai and langchain-openai")
    parser.add_argument("--rounds", type=int, default=3, help=f"of {AT_ONCE} calls at once")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        _be_client(given.client)
        return
    if not (given.llama or given.vllm or given.url):
        parser.error("which server? Give --llama, --vllm or --url")
    with ExitStack() as stack:
        to, server = stack.enter_context(served(given))
        names = CLIENTS if given.peer else ["agentkit"]
        clients = [Client(name, sys.executable if name == "agentkit" else given.peer, to) for name in names]
        for client in clients:
            stack.callback(client.close)
            client.open()
        print(*(client.release for client in clients), f"load {os.getloadavg()[0]:.1f}", sep=", ")
        report = Report(["plain HTTP", *names])
        stack.callback(report.print)  # what there is, whatever happens
        for name, row in ROWS.items():
            asked_alike(report, name, row, clients)
        typed(report, clients)
        usage(report, clients)
        seeds(report, clients)
        at_once(report, clients, given.rounds)
        if server is not None:
            killed(report, clients, server)


if __name__ == "__main__":
    main()
