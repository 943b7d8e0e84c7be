"""What the doctor says of servers that keep, ignore or refuse what they are asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentkit.doctor import examine_model
from agentkit.doctor.hosted import PROBES
from agentkit.http_body import MOST_BYTES
from agentkit.models.hosted.options import hosted_model
from tests.doubles.server import ChatServer, Play, Request, body, error, reset, serving
from tests.hosted_agent.doctor_servers import Deaf, Obedient, Strict, Willing
from tests.hosted_agent.server import Server

NAMES = [name for name, _ in PROBES]


def examined(server: Server, name: str = "", names: Sequence[str] = NAMES) -> dict[str, tuple[str, str]]:
    """Status and what was seen, by the probe's name; numbers that differ from run to run left out."""
    with serving(server):
        model = hosted_model(endpoint_url=server.url, model=name or None, max_retries=0)
        findings = {finding.name: finding for finding in examine_model(model)}
    return {
        name: (findings[name].status, re.sub(r"[\d.]+ (?=s\b|tokens/s)", "", findings[name].seen)) for name in names
    }


def test_a_server_that_keeps_all() -> None:
    server = Obedient(models=[{"id": "org/name", "max_model_len": 32768}])
    assert examined(server) == {
        "server": ("ok", "org/name"),
        "context": ("ok", "32768 tokens"),
        "max_tokens": ("ok", "kept; it ends with 'length'"),
        "server's stop": ("ok", "honoured"),
        "server's stream": ("ok", "10 pieces, about tokens/s, the first after s, with usage"),
        "server's tools": ("ok", "called echo"),
        "tool_choice": ("ok", "none and required are kept"),
        "response_format": ("ok", "a JSON schema is kept"),
        "logprobs": ("ok", "given"),
        "sampling": ("ok", "temperature and seed are kept"),
        "cost": ("ok", "said with the usage"),
    }
    assert {request.get("model") for request in server.bodies if request["messages"][0]["role"] == "user"} >= {
        "org/name"
    }


def test_a_server_that_hears_nothing() -> None:
    assert examined(Deaf()) == {
        "server": ("ok", "does not list its models"),
        "context": ("note", "not said"),
        "max_tokens": ("problem", "ignored: 10 tokens came of 4"),
        "server's stop": ("note", "ignored"),
        "server's stream": ("note", "one piece"),
        "server's tools": ("note", "none called"),
        "tool_choice": ("note", "required ignored"),
        "response_format": ("note", "ignored: 'Hello there.'"),
        "logprobs": ("note", "ignored"),
        "sampling": ("note", "temperature and seed make no difference"),
        "cost": ("note", "not said"),
    }


def test_a_server_that_refuses() -> None:
    refused = ("note", "refused: answered HTTP 422: Unexpected keys: ")
    found = examined(Strict(models=[{"id": "a"}, {"id": "b"}]))
    assert found["server"] == ("note", "a, b")
    assert found["max_tokens"][0] == "ok"
    for name, key in [
        ("server's stop", "temperature"),
        ("server's tools", "tools"),
        ("tool_choice", "tools"),
        ("response_format", "response_format"),
        ("logprobs", "logprobs"),
        ("sampling", "temperature"),
    ]:
        advice = "; an agent does without tools in requests with mode='react-json'" if key == "tools" else ""
        assert found[name] == (refused[0], refused[1] + key + advice)


@pytest.mark.parametrize(
    ("listing", "seen"),
    [
        ([{"id": "m", "meta": {"n_ctx_train": 4096}}], ("note", "4096 tokens")),  # llama.cpp, earlier
        ([{"id": "m", "meta": {"n_ctx_train": 131072, "n_ctx": 4096}}], ("note", "4096 tokens")),
        ([{"id": "m", "context_length": "many"}], ("note", "not said")),
        ([{"id": "m", "context_length": True, "max_model_len": -1, "meta": [1], "aliases": 1}], ("note", "not said")),
        ([{"name": "m"}], ("note", "not said")),
        ("models", ("note", "not said")),
    ],
)
def test_the_context_is_read_where_a_server_says_it(listing: Any, seen: tuple[str, str]) -> None:
    assert examined(Obedient(models=listing))["context"] == seen


@pytest.mark.parametrize(
    ("name", "listed", "seen"),
    [
        ("m", ["m", "other"], ("ok", "m, other")),
        ("m", ["m:latest"], ("ok", "m:latest")),
        ("m:novita", ["m"], ("ok", "m")),
        ("m", ["models/m"], ("ok", "models/m")),
        ("m", [], ("ok", "does not list its models")),
        (None, ["m\n\x1b[31mOWNED"], ("ok", "m \x1b[31mOWNED")),
        (None, ["m" * 9000], ("ok", "m" * 299 + "…")),
        ("m", [{"id": "/models/m.gguf", "aliases": ["m"]}], ("ok", "/models/m.gguf")),
        ("n", ["m"], ("note", "m, and not n; m answers")),
        ("m:4b", ["m:8b"], ("note", "m:8b, and not m:4b")),
        ("n", ["n"], ("note", "m answers for n")),
        ("m.1", ["m.1"], ("note", "m answers for m.1")),
    ],
)
def test_the_models_name_is_compared_with_the_one_asked_for(
    name: str | None, listed: Any, seen: tuple[str, str]
) -> None:
    assert examined(Obedient(models=listed), name or "")["server"] == seen


@pytest.mark.parametrize(
    ("listing", "status", "seen"),
    [
        (body(b'{"data": ["' + b"x" * MOST_BYTES + b'"]}'), "ok", "does not list its models"),
        (body(b"<html>"), "ok", "does not list its models"),
        (body(b'{"data": null}'), "ok", "does not list its models"),
        (body(b'{"data": [', status=500), "ok", "does not list its models"),
        (reset, "problem", "it broke the connection"),
    ],
)
def test_a_list_of_models_that_cannot_be_read_is_one_finding(listing: Play, status: str, seen: str) -> None:
    """All else is asked."""

    class Listing(Obedient):
        def play_for(self, request: Request) -> Play:
            return listing if request.path.endswith("/models") else super().play_for(request)

    with serving(Listing()) as server:
        findings = failing(server.url, 0)
    (found,) = (one for one in findings if one[0] == "server")
    assert (found[1], found[2][: len(seen)]) == (status, seen)
    assert {status for name, status, _ in findings if name not in ("server", "context")} == {"ok"}
    assert [name for name, _, _ in findings if name in NAMES] == NAMES


def test_a_tool_that_is_called_only_of_its_own_accord() -> None:
    """The rows agree: a named tool is not called."""
    found = examined(Willing(), names=["tool call", "server's tools", "tool_choice"])
    assert found == {
        "tool call": ("ok", "echo, and back, unless it is made to"),
        "server's tools": ("ok", "called echo"),
        "tool_choice": ("note", "required ignored"),
    }
    found = examined(Willing(required=True), names=["tool call", "tool_choice"])
    assert found["tool_choice"] == ("note", "a tool's name ignored")


def test_a_stop_is_looked_at_where_the_model_says_the_same_again() -> None:
    server = Obedient()
    assert examined(server, names=["stop"])["stop"][0] == "ok"
    stops = [sent for sent in server.bodies if sent.get("stop")]
    assert stops[0]["temperature"] == 0


def test_a_stop_whose_text_is_kept_is_honoured() -> None:
    assert examined(Obedient(keeps_stop=True))["server's stop"] == ("ok", "honoured, its text kept (which is cut here)")


KEY = "hf_secretsecretsecret"


def failing(url: str, max_retries: int) -> list[tuple[str, str, str]]:
    """Name, status and what was seen of each finding."""
    made = hosted_model(endpoint_url=url, max_retries=max_retries, huggingfacehub_api_token=KEY)
    findings = list(examine_model(replace(made, sleep=lambda _: None)))
    assert "secret" not in str(findings)
    seen = [re.sub(r"\(ConnectError: .*?\)", "(ConnectError)", one.seen.replace(url, "it")) for one in findings]
    return [(one.name, one.status, said) for one, said in zip(findings, seen, strict=True)]


@pytest.mark.parametrize(("max_retries", "tries"), [(0, ""), (1, " (tried 2 times)")])
def test_a_server_that_is_not_there_is_said_once_and_asked_no_more(max_retries: int, tries: str) -> None:
    assert failing("http://127.0.0.1:9", max_retries) == [
        (
            "answer",
            "problem",
            f"it could not be reached (ConnectError); is it running, and is the address right?{tries}",
        ),
        ("streaming", "problem", "the same"),
        ("server", "problem", "the same"),
        ("others", "note", "12 probes not asked: they would say the same"),
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "401: no; it refused the token: check it and its rights"),
        (404, "404: no such model"),
        (500, "500: no"),
        (402, "402: no"),
    ],
)
def test_a_server_that_refuses_all_is_said_once_with_what_it_lists(status: int, said: str) -> None:
    play = error(status, "no such model" if status == 404 else "no")
    with serving(ChatServer([play], models=["a", "b"])) as server:
        assert failing(server.url, 0) == [
            ("answer", "problem", f"it answered HTTP {said}"),
            ("streaming", "problem", "the same"),
            ("server", "note", "a, b"),
            ("context", "note", "not said"),
            ("max_tokens", "problem", "the same"),
            ("others", "note", "10 probes not asked: they would say the same"),
        ]


def test_a_failure_that_passes_is_a_finding_of_one_probe() -> None:
    """Each of which is asked once."""
    server = Obedient()
    with serving(server):
        obedient, asked = server.answer, 0

        def once(request: Request, number: int) -> Play:
            nonlocal asked
            asked += "Count from one" in str(request.body.get("messages"))
            return reset if asked == 1 else obedient(request, number)

        server.answer = once  # type: ignore[method-assign]
        findings = failing(server.url, 0)
    assert [name for name, status, _ in findings if status == "problem"] == ["max_tokens"]
    assert "others" not in [name for name, _, _ in findings]


def test_a_kept_connection_that_ended_is_no_finding() -> None:
    """Whoever waits too long meets the end of one."""
    server = Obedient(keep_alive=True)
    with serving(server):
        obedient, idle = server.answer, [False]

        def stale(request: Request, number: int) -> Play:
            idle[0] = not idle[0]
            return reset if not idle[0] else obedient(request, number)

        server.answer = stale  # type: ignore[method-assign]
        findings = failing(server.url, 0)
    assert [(name, seen) for name, status, seen in findings if status == "problem"] == []
