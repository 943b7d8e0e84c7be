"""The doctor's findings on a healthy tiny model, and on one that fails."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from agentkit.doctor import Finding, examine, examine_installation, examine_model
from agentkit.errors import ModelError
from agentkit.models.backend import ChatRequest, Chunk, Usage
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.forward import CACHE_NAME
from tests.gguf.conftest import write_model

from .conftest import build_llama, build_tokenizer
from .test_native_calls import tokenizer_of


def test_the_installation_is_listed() -> None:
    names = [finding.name for finding in examine_installation()]
    assert names[:3] == ["python", "huggingface_hub", "transformers"]


def test_a_line_that_installs_several_packages_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise PackageNotFoundError(name)

    for place in ("agentkit.doctor.examination.version", "importlib.metadata.version"):
        monkeypatch.setattr(place, nothing)
    advice = {finding.name: finding.advice for finding in examine_installation() if finding.seen == "not installed"}
    assert {name: said for name, said in advice.items() if "pip install" not in said} == {
        "torch": "for models in this process the same line as for transformers",
        "accelerate": "for device_map and quantization the same line as for transformers",
        "bitsandbytes": "for quantization the same line as for transformers",
        "llguidance": "for grammars the same line as for transformers",
        "gguf": "for GGUF files by transformers the same line as for transformers",
        "peft": "for adapters the same line as for transformers",
        "soundfile": "for sound the same line as for pillow",
    }


@pytest.mark.slow
def test_a_healthy_local_model(model_folder: Path) -> None:
    findings = {finding.name: finding for finding in examine_model(f"local:{model_folder}")}
    assert [f for f in findings.values() if f.status == "problem"] == []
    seen = {"answer", "stop", "tool call", "bos", "system role", "grammar", "prompt", "cache", "context"}
    assert seen <= set(findings)
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
    assert findings["bos"] == Finding("bos", "ok", "<s> begins the prompt")
    assert findings["system role"].advice == "instructions go into the first user message"
    assert {f.status for f in findings.values()} == {"ok", "note"}


IM_START = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("bos", "template", "finding"),
    [
        ("<s>", "<s>" + IM_START, Finding("bos", "ok", "<s> begins the prompt")),
        ("<|im_start|>", IM_START, Finding("bos", "ok", "<|im_start|> begins the prompt, and each turn")),
        (None, IM_START, Finding("bos", "ok", "this model has none")),
        ("<pad>", IM_START, Finding("bos", "ok", "none, as in plain text")),
        (
            "<s>",
            IM_START,
            Finding("bos", "note", "plain text gets one, the template writes none", "see if its examples have one"),
        ),
        (
            "<s>",
            "<s><s>" + IM_START,
            Finding("bos", "problem", "<s> twice in a row", "its template writes it twice: mend that"),
        ),
        (
            "<s>",
            IM_START + "<s>",
            Finding(
                "bos", "note", "<s> 1 time in the prompt, and not at its beginning", "see if its examples have it so"
            ),
        ),
        (
            "<s>",
            "<s>" + IM_START + "<s>",
            Finding("bos", "note", "<s> 2 times in the prompt", "see if its examples have it so"),
        ),
    ],
)
def test_where_a_prompt_has_the_token_of_a_beginning(bos: str | None, template: str, finding: Finding) -> None:
    tokenizer = build_tokenizer()
    tokenizer.bos_token, tokenizer.chat_template = bos, template
    findings = examine_model(LocalBackend(build_llama(tokenizer), tokenizer))
    assert next(each for each in findings if each.name == "bos") == finding


NAMES_OF_LLAMA = (
    "python xllamacpp llguidance answer streaming stop tool-call engine chat-template call-syntax prompt grammar cache "
    "context speed memory other-packages"
)
NAMES_OF_TRANSFORMERS = (
    "python huggingface_hub transformers torch llguidance gpu threads answer streaming stop tool-call chat-template "
    "bos system-role tool-role call-syntax prompt inputs grammar cache reuse context speed memory other-packages"
)


@pytest.mark.slow
def test_a_model_is_shown_with_what_it_needs(tmp_path: Path, model_folder: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    file = write_model(tmp_path / "tiny.gguf")
    names = [
        " ".join(finding.name.replace(" ", "-") for finding in examine(f"local:{place}"))
        for place in (file, model_folder)
    ]
    assert names == [NAMES_OF_LLAMA, NAMES_OF_TRANSFORMERS]


@pytest.mark.slow
def test_a_template_that_leaves_out_what_is_asked() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "<html>404 not found</html>"  # as downloads leave it
    findings = examine_model(LocalBackend(build_llama(tokenizer), tokenizer))
    finding = next(each for each in findings if each.name == "chat template")
    assert (finding.status, finding.seen) == ("problem", "leaves out what is asked")


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


def test_what_fails_every_probe_is_said_once() -> None:
    class Broken:
        model_id = "broken"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            raise ModelError("expected an answer, the server said 500; try later")
            yield

        agenerate_chat = generate_chat  # not asked: an examination waits

    findings = list(examine_model(Broken()))
    assert [(f.name, f.status, f.seen) for f in findings] == [
        ("answer", "problem", "expected an answer, the server said 500; try later"),
        ("streaming", "problem", "the same"),
        ("others", "note", "2 probes not asked: they would say the same"),
    ]


def test_a_template_that_leaves_out_the_system_role_is_told_from_one_that_refuses_it() -> None:
    finding = next(f for f in examine_model("builtin") if f.name == "system role")
    assert finding == Finding(
        "system role", "note", "left out by the template", "put instructions into the user's message"
    )


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, "the same answer cold and from a kept beginning, in float32"),
        ({"reuse": False}, "every prompt is computed from its beginning"),
    ],
)
def test_a_cold_answer_is_compared_with_one_from_a_kept_beginning(options: dict[str, Any], seen: str) -> None:
    tokenizer = build_tokenizer()
    backend = LocalBackend(build_llama(tokenizer), tokenizer, **options)
    assert next(f for f in examine_model(backend) if f.name == "reuse") == Finding("reuse", "ok", seen)


def test_answers_that_a_kept_beginning_changes_are_named() -> None:
    """Rounding at its worst: a prompt that is computed from a kept beginning turns the logits round."""
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)

    def turn_round(_module: Any, _inputs: Any, given: dict[str, Any], output: Any) -> None:
        new = given["input_ids"].shape[1]
        if new > 1 and given[CACHE_NAME].get_seq_length() > new:
            output.logits.neg_()

    model.register_forward_hook(turn_round, with_kwargs=True)
    finding = next(f for f in examine_model(LocalBackend(model, tokenizer)) if f.name == "reuse")
    assert (finding.status, finding.advice[-23:]) == ("note", "reuse=False, or float32")
    assert finding.seen.startswith("another answer from a kept beginning than cold, in float32: ")
