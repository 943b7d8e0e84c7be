"""Files that are broken, foreign or of another kind: one line each, and never the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.models.gguf.backend import GgufBackend
from agentkit.models.spec import backend_of

from .conftest import write_adapter, write_model


def integers(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "blk.1.attn_q.weight": tensors["blk.1.attn_q.weight"].astype("int32")}


def without(name: str) -> Any:
    return lambda tensors: {each: tensor for each, tensor in tensors.items() if each != name}


FOREIGN: Mapping[str, tuple[dict[str, Any], str]] = {
    "of no known kind": ({"architecture": "nonesuch"}, "unknown model architecture: 'nonesuch'"),
    "no model of text": ({"architecture": "clip"}, "llama.cpp cannot load"),
    "without layers": ({"block_count": 0}, "llama.cpp breaks down at"),  # it would end this process
    "with endless layers": ({"block_count": 10**6}, "llama.cpp breaks down at"),
    "with more layers than it has": ({"block_count": 3}, "llama.cpp cannot load"),
    "without a weight": ({"tensors": without("blk.1.attn_q.weight")}, "tensor 'blk.1.attn_q.weight' not found"),
    "with weights of whole numbers": ({"tensors": integers}, "llama.cpp breaks down at"),
    "without a width": ({"leave_out": ["embedding_length"]}, "key not found in model: llama.embedding_length"),
    "without a context": ({"leave_out": ["context_length"]}, "says no number of tokens that it reads"),
    "that reads nothing": ({"context_length": 0}, "says no number of tokens that it reads, or an absurd one"),
    "that reads too much": ({"context_length": 2**31}, "says no number of tokens that it reads, or an absurd one"),
    "without a vocabulary": ({"leave_out": ["tokens"]}, "holds no vocabulary"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("made", "says"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_llama_cpp_cannot_take(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], made: dict[str, Any], says: str
) -> None:
    file = write_model(tmp_path / "foreign.gguf", **made)
    with pytest.raises(ConfigurationError) as caught:
        backend_of(f"local:{file}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0.05, 0.5, 0.999])
def test_a_file_that_is_not_whole(file: Path, tmp_path: Path, cut: float) -> None:
    whole = file.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(ConfigurationError, match=r"short\.gguf is no whole GGUF file: it ends .*; download it again"):
        backend_of(f"local:{short}")


@pytest.mark.parametrize(("name", "token"), [("eos", 260), ("bos", 2**32 - 1)])
def test_an_end_that_is_no_token(tmp_path: Path, name: str, token: int) -> None:
    """llama.cpp would take any other token for it."""
    file = write_model(tmp_path / "model.gguf", **{name: token})
    with pytest.raises(ConfigurationError) as caught:
        backend_of(f"local:{file}")
    says = f"{file} says that its {name} is token {token}, and has 260 tokens; download it again, or take another"
    assert str(caught.value) == says


ADAPTER_OF_PEFT = (
    "the adapter {} is PEFT's, and llama.cpp takes a GGUF file: make one of it with llama.cpp's "
    "convert_lora_to_gguf.py, or load the model that it was made for by transformers, with the same adapter"
)


def test_an_adapter_in_another_format(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(b"")
    for given in (folder, weights):
        with pytest.raises(ConfigurationError) as caught:
            backend_of(f"local:{file}", adapter=str(given))
        assert str(caught.value) == ADAPTER_OF_PEFT.format(given)
    other = write_adapter(tmp_path / "other.gguf")
    with pytest.raises(ConfigurationError, match=r"is a folder, and the adapter is a file\. There: .*other\.gguf$"):
        backend_of(f"local:{file}", adapter=str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"other\.gguf is llama\.cpp's, and transformers takes a folder of PEFT's"
    ):
        backend_of("local:nobody/nothing", adapter=str(other))
    with pytest.raises(ConfigurationError, match=r"safetensors is one file of its folder; give the folder, .*lora$"):
        backend_of("local:nobody/nothing", adapter=str(weights))


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("notes")
    with pytest.raises(ConfigurationError, match="it does not begin as one; download it again"):
        backend_of(f"local:{tmp_path}")


def test_an_adapter_in_the_place_of_its_model(tmp_path: Path) -> None:
    file = write_adapter(tmp_path / "adapter.gguf")
    with pytest.raises(ConfigurationError, match="is a model, and no adapter; leave it out"):
        backend_of(f"local:{write_model(tmp_path / 'model.gguf')}", adapter=str(tmp_path / "model.gguf"))
    with pytest.raises(ConfigurationError, match="is an adapter; give the model"):
        backend_of(f"local:{file}")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"architecture": "qwen2"}, "it is one of qwen2"),
        ({"width": 48}, "2 weights of it do not match"),
        ({"weight": "blk.9.attn_q.weight"}, "2 weights of it do not match"),
    ],
)
def test_an_adapter_for_another_model(file: Path, tmp_path: Path, made: dict[str, Any], says: str) -> None:
    adapter = write_adapter(tmp_path / "adapter.gguf", **made)
    with pytest.raises(ConfigurationError) as caught:
        backend_of(f"local:{file}", adapter=str(adapter))
    assert str(caught.value) == f"the adapter {adapter} was made for another model than {file}: {says}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            "raise ImportError('libgomp.so.1: cannot open shared object file')",
            "libgomp.so.1: cannot open shared object",
        ),
        ("import os; os.kill(os.getpid(), 4)", "xllamacpp does not run on this processor; run pip uninstall xllamacpp"),
    ],
    ids=["a library is missing", "the processor lacks an instruction"],
)
def test_a_wheel_that_does_not_work(file: Path, tmp_path: Path, module: str, says: str) -> None:
    (tmp_path / "xllamacpp.py").write_text(module)
    code = (
        "from agentkit.errors import ConfigurationError; from agentkit.models.spec import backend_of\n"
        f"try: backend_of('local:{file}')\nexcept ConfigurationError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert says in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_without_the_wheel_transformers_reads_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentkit.models.gguf import loading
    from agentkit.models.spec import read_spec

    monkeypatch.setattr(loading, "LLAMA", "a_package_that_is_not_there")
    assert read_spec(f"local:{file}").engine == "transformers"
    with pytest.raises(ConfigurationError, match=r"n_ctx is llama\.cpp's; run pip install 'xllamacpp"):
        read_spec(f"local:{file}", {"n_ctx": 64})


def test_a_model_larger_than_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentkit.errors import ModelError
    from agentkit.models.gguf import loading

    monkeypatch.setattr(loading, "memory_free", lambda: 1000)
    with pytest.raises(ModelError, match=r"whose weights take 0\.0 GiB, saw 0\.0 GiB free; take a smaller model"):
        GgufBackend(file)


def test_a_context_that_the_memory_has_no_room_for_is_shortened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of it is for what is kept: here 128 bytes a token, of two layers with two heads of eight numbers."""
    from agentkit.models.gguf import loading

    monkeypatch.setattr(loading, "memory_free", lambda: file.stat().st_size + 4 * 128 * 700)
    assert GgufBackend(file).context_tokens == 700
    assert GgufBackend(file, n_ctx=900).context_tokens == 900
