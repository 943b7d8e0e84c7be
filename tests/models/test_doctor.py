"""The doctor's findings on a healthy tiny model, and on one that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit.doctor import Finding, examine_installation, examine_model
from agentkit.errors import ModelError
from agentkit.models.backend import ChatRequest, Chunk, Usage
from agentkit.models.local.backend import LocalBackend

from .conftest import build_llama
from .test_native_calls import tokenizer_of


def test_the_installation_is_listed() -> None:
    names = [finding.name for finding in examine_installation()]
    assert names[:3] == ["python", "huggingface_hub", "transformers"]


@pytest.mark.slow
def test_a_healthy_local_model(model_folder: Path) -> None:
    findings = {finding.name: finding for finding in examine_model(f"local:{model_folder}")}
    assert [f for f in findings.values() if f.status == "problem"] == []
    assert {"answer", "stop", "tool call", "bos", "system role", "grammar", "cache", "context"} <= set(findings)
    assert findings["tool call"].seen == "echo, and back"
    assert findings["tool role"].status == "note"  # its template drops the call
    assert findings["context"].advice
    assert findings["call syntax"].advice
    assert findings["bos"].seen == "plain text gets one, the template writes none"
    assert findings["inputs"].seen == "text"
    assert findings["stop"].seen.startswith("stopped at")
    assert "MiB of weights" in findings["memory"].seen


@pytest.mark.slow
def test_what_a_model_brings_is_named() -> None:
    tokenizer = tokenizer_of("mistral")
    model = LocalBackend(build_llama(tokenizer), tokenizer)
    findings = {finding.name: finding for finding in examine_model(model)}
    assert findings["call syntax"].seen == """the model's own: '[TOOL_CALLS] [{"name": "'"""
    assert findings["tool role"] == Finding("tool role", "ok", "taken")
    assert findings["bos"] == Finding("bos", "ok", "1 in the prompt")
    assert findings["system role"].advice == "instructions go into the first user message"
    assert {f.status for f in findings.values()} == {"ok", "note"}


def test_every_note_says_what_to_do(model_folder: Path) -> None:
    findings = [*examine_installation(), *examine_model(f"local:{model_folder}")]
    assert [f for f in findings if f.status != "ok" and not f.advice] == []


def test_a_server_that_writes_on_after_the_stop() -> None:
    class Deaf:
        model_id = "deaf"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            usage = Usage(prompt_tokens=9, completion_tokens=24)
            yield Chunk(text="one two three four five six", usage=usage, finish_reason="length")

        agenerate_chat = generate_chat  # not asked: an examination waits

    stop = next(f for f in examine_model(Deaf()) if f.name == "stop")
    assert (stop.status, stop.seen) == ("note", "'hre' cut off after 24 tokens")


def test_a_failing_server_is_a_finding_for_every_probe() -> None:
    class Broken:
        model_id = "broken"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            raise ModelError("expected an answer, the server said 500; try later")
            yield

        agenerate_chat = generate_chat  # not asked: an examination waits

    findings = list(examine_model(Broken()))
    assert [f.status for f in findings] == ["problem"] * 4
    assert [f.seen for f in findings] == ["expected an answer, the server said 500; try later"] + ["the same"] * 3


def test_a_template_that_leaves_out_the_system_role_is_told_from_one_that_refuses_it() -> None:
    finding = next(f for f in examine_model("builtin") if f.name == "system role")
    assert finding == Finding(
        "system role", "note", "left out by the template", "put instructions into the user's message"
    )
