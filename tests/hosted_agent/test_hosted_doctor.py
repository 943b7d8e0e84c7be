"""What the doctor says of servers that keep, ignore or refuse what they are asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit.doctor import examine_model
from agentkit.doctor.hosted import PROBES
from agentkit.models.hosted.options import hosted_model
from tests.doubles.server import serving
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
        assert found[name] == (refused[0], refused[1] + key)


@pytest.mark.parametrize(
    ("listing", "seen"),
    [
        ([{"id": "m", "meta": {"n_ctx_train": 4096}}], ("note", "4096 tokens")),  # llama.cpp, earlier
        ([{"id": "m", "meta": {"n_ctx_train": 131072, "n_ctx": 4096}}], ("note", "4096 tokens")),
        ([{"id": "m", "context_length": "many"}], ("note", "not said")),
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
        ("m", [{"id": "/models/m.gguf", "aliases": ["m"]}], ("ok", "/models/m.gguf")),
        ("n", ["m"], ("note", "m, and not n; m answers")),
        ("m:4b", ["m:8b"], ("note", "m:8b, and not m:4b")),
        ("n", ["n"], ("note", "m answers for n")),
        ("m.1", ["m.1"], ("note", "m answers for m.1")),
    ],
)
def test_the_models_name_is_compared_with_the_one_asked_for(name: str, listed: Any, seen: tuple[str, str]) -> None:
    assert examined(Obedient(models=listed), name)["server"] == seen


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


def test_a_server_that_is_not_there_is_a_problem_in_every_probe_and_shows_no_key() -> None:
    key = "hf_secretsecretsecret"
    model = hosted_model(endpoint_url="http://127.0.0.1:9", max_retries=0, huggingfacehub_api_token=key)
    findings = list(examine_model(model))
    assert {finding.status for finding in findings} == {"problem"}
    assert "could not be reached" in findings[0].seen
    assert {finding.seen for finding in findings[1:]} == {"the same"}
    assert "secret" not in str(findings)
