"""What the doctor says of servers that keep, ignore or refuse what they are asked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agentkit.doctor import examine_model
from agentkit.doctor.hosted import PROBES
from agentkit.models.hosted.options import hosted_model
from tests.doubles.server import serving
from tests.hosted_agent.doctor_servers import Deaf, Obedient, Strict
from tests.hosted_agent.server import Server

NAMES = [name for name, _ in PROBES]


def examined(server: Server) -> dict[str, tuple[str, str]]:
    """Status and what was seen, by the probe's name; numbers that differ from run to run left out."""
    with serving(server):
        model = hosted_model(endpoint_url=server.url, max_retries=0)
        findings = {finding.name: finding for finding in examine_model(model)}
    return {
        name: (findings[name].status, re.sub(r"[\d.]+ (?=s\b|tokens/s)", "", findings[name].seen)) for name in NAMES
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
        ([{"id": "m", "meta": {"n_ctx_train": 4096}}], ("note", "4096 tokens")),  # llama.cpp
        ([{"id": "m", "context_length": "many"}], ("note", "not said")),
        ([{"name": "m"}], ("note", "not said")),
        ("models", ("note", "not said")),
    ],
)
def test_the_context_is_read_where_a_server_says_it(listing: Any, seen: tuple[str, str]) -> None:
    assert examined(Obedient(models=listing))["context"] == seen


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
