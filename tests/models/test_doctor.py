"""The doctor's findings on a healthy tiny model, and on one that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agentkit.errors import ModelError
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.doctor import examine_installation, examine_model


def test_the_installation_is_listed() -> None:
    names = [finding.name for finding in examine_installation()]
    assert names[:3] == ["python", "huggingface_hub", "transformers"]


def test_a_healthy_local_model(model_folder: Path) -> None:
    model = ChatHuggingFace.from_model_id(str(model_folder))
    findings = {finding.name: finding for finding in examine_model(model)}
    assert [f for f in findings.values() if f.status == "problem"] == []
    assert {"answer", "stop", "tool call", "bos", "system role", "grammar", "cache", "context"} <= set(findings)
    assert findings["tool call"].seen == "echo, and back"
    assert findings["tool role"].status == "note"  # its template drops the call
    assert findings["context"].advice


def test_a_failing_server_is_a_finding_for_every_probe() -> None:
    class Broken:
        model_id = "broken"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            raise ModelError("expected an answer, the server said 500; try later")
            yield

    findings = list(examine_model(ChatHuggingFace(llm=Broken())))
    assert [f.status for f in findings] == ["problem"] * 4
    assert all("the server said 500" in f.seen for f in findings)
