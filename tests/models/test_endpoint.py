"""Hosted models against a small server of the test's own: what is sent, what comes back, what is said when it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint, HuggingFaceHub, HuggingFaceTextGenInference
from tests.conftest import action, final

KEY = "hf_secretsecretsecret"


class Server:
    """An OpenAI-compatible chat server that says `turns` in order and keeps what it was sent."""

    def __init__(self) -> None:
        self.turns: list[str] = ["hello"]
        self.status = 200
        self.body: bytes | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def reply(self) -> bytes:
        if self.body is not None:
            return self.body
        text = self.turns[min(len(self.requests), len(self.turns)) - 1]
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return json.dumps({**reply, "system_fingerprint": "f", "usage": usage}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = state.reply()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    yield state
    httpd.shutdown()
    httpd.server_close()


def test_an_agent_runs_over_http(server: Server) -> None:
    server.turns = [action("Calculator", "25^0.43"), final("about 4")]
    result = AgentExecutor.from_model(server.url, ["calculator"], return_run=True).invoke("25^0.43?")
    assert result["output"] == "about 4"
    assert result["run"]["usage"] == {"prompt_tokens": 14, "completion_tokens": 6, "cached_tokens": 0}
    assert [request["stop"] for request in server.requests] == [["\nObservation"]] * 2
    assert [m["role"] for m in server.requests[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert server.requests[1]["messages"][-1]["content"] == "Observation: Answer: 3.991298452658078"


async def test_an_agent_runs_over_http_when_awaited(server: Server) -> None:
    server.turns = [action("Calculator", "1+1"), final("2")]
    assert (await AgentExecutor.from_model(server.url, ["calculator"]).ainvoke("1+1?"))["output"] == "2"


def test_generation_parameters_reach_the_server(server: Server) -> None:
    chat_model(server.url, max_new_tokens=9, temperature=0.1, top_k=50, repetition_penalty=1.03, seed=3).invoke("hi")
    chat_model(server.url, do_sample=False).invoke("hi")
    sampled, greedy = server.requests
    sent = {name: sampled[name] for name in ("max_tokens", "temperature", "top_k", "repetition_penalty", "seed")}
    assert sent == {"max_tokens": 9, "temperature": 0.1, "top_k": 50, "repetition_penalty": 1.03, "seed": 3}
    assert greedy["temperature"] == 0.0


def test_a_stop_is_enforced_when_the_server_ignores_it(server: Server) -> None:
    server.turns = ["one\nObservation: made up"]
    assert chat_model(server.url).invoke("hi", stop=["\nObservation"]).content == "one"


def test_the_seeds_older_classes_reach_the_same_server(server: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    tgi = HuggingFaceTextGenInference(
        inference_server_url=server.url,
        max_new_tokens=512,
        top_k=50,
        temperature=0.1,
        repetition_penalty=1.03,
        server_kwargs={"headers": headers},
    )
    endpoint = HuggingFaceEndpoint(
        endpoint_url=server.url,
        task="text-generation",
        model_kwargs={"max_new_tokens": 512, "top_k": 50, "temperature": 0.1, "repetition_penalty": 1.03},
    )
    for llm in (tgi, endpoint):
        assert ChatHuggingFace(llm=llm).invoke("hi").content == "hello"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.requests[0] == server.requests[1]
    hub = HuggingFaceHub(repo_id="HuggingFaceH4/zephyr-7b-beta", task="text-generation", model_kwargs={"top_k": 30})
    assert (hub.model_id, hub.top_k) == ("HuggingFaceH4/zephyr-7b-beta", 30)


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (401, b"{}", ConfigurationError, "refused the token .HTTP 401.; check HF_TOKEN"),
        (500, b'{"error": "hf_secretsecretsecret broke"}', ModelError, "HTTP 500"),
        (200, b"<html>", ModelError, "expected a chat completion"),
        (200, b"{}", ModelError, "expected a chat completion"),
    ],
)
def test_a_failure_is_one_line_without_the_key(
    server: Server, status: int, body: bytes, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    server.status, server.body = status, body
    with pytest.raises(error, match=message) as caught:
        chat_model(server.url).invoke("hi")
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9 could not be reached"):
        chat_model("http://127.0.0.1:9").invoke("hi")


def test_a_repository_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGINGFACEHUB_API_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="set HF_TOKEN"):
        chat_model("hf:HuggingFaceH4/zephyr-7b-beta").invoke("hi")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("builtn", {}, "did you mean builtin"),
        ("Qwen/Qwen3-4B", {}, "did you mean hf:Qwen/Qwen3-4B or local:Qwen/Qwen3-4B"),
        ("local:./nowhere", {}, "no folder ./nowhere"),
        ("http://127.0.0.1:9", {"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        ("nobody:model", {}, "nobody"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        chat_model(spec, **options)


def test_either_a_repository_or_an_address() -> None:
    with pytest.raises(ConfigurationError, match="either repo_id or endpoint_url"):
        HuggingFaceEndpoint()
