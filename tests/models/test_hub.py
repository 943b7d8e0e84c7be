"""Models and adapters of Hugging Face's hub where it does not answer: one line at once, or what the cache holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from agentkit import chat_model
from agentkit.errors import ConfigurationError
from agentkit.models.local import hub as asking
from agentkit.models.local.backend import hosted_prompt_text
from tests.doubles.server import ChatServer, error, serving

from .conftest import build_llama, build_tokenizer, hub

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
QUESTION = "What is 25 raised to the 0.43 power?"
WHAT_TO_DO = (
    "; connect once to download it, give a model's folder or file, or set HF_HOME to a folder with a cache "
    "that holds it"
)


@contextmanager
def refusing() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def mute() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def broken() -> Iterator[str]:
    with serving(ChatServer([error(503)], keep_alive=False)) as server:
        yield server.url
    assert [request.method for request in server.requests] == ["HEAD"]  # no second time, and for no file


SILENCES = {
    "refused": (refusing, "[Errno 111] Connection refused"),
    "mute": (mute, "nothing in 0.05 seconds"),
    "broken": (broken, "status 503"),
}


@pytest.fixture(params=SILENCES)
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Why a hub gives no answer, which is the one that is asked."""
    silence, why = SILENCES[request.param]
    if silence is mute:
        monkeypatch.setattr(asking, "ANSWER_S", 0.05)
    with silence() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield f"127.0.0.1 does not answer ({why})"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in `model` and an adapter of it in `adapter`."""
    peft = pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("there")
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    for each in (model, tokenizer):
        each.save_pretrained(folder / "model")
    model.config.name_or_path = model.name_or_path = str(folder / "model")
    peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder / "adapter")
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(folder / "model"), "org/model"))
    return folder


def refusal(spec: str, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        chat_model(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_here_is_one_line(reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refusal("local:org/model", cache_dir=tmp_path)
    assert said == f"org/model is not in the cache {tmp_path}, and {reason}{WHAT_TO_DO}"
    assert capfd.readouterr() == ("", "")


def test_what_is_here_is_loaded(reason: str, folder: Path, tmp_path: Path) -> None:
    for name in ("model", "adapter"):
        hub(tmp_path, folder / name, f"org/{name}")
    chat: Any = chat_model("local:org/model", adapter="org/adapter", cache_dir=tmp_path)
    assert chat.invoke(QUESTION, max_new_tokens=2).usage_metadata["output_tokens"] == 2


def test_an_adapter_that_is_not_here(reason: str, folder: Path, tmp_path: Path) -> None:
    said = refusal(f"local:{folder / 'model'}", adapter="org/adapter", cache_dir=tmp_path)
    assert said == f"org/adapter is not in the cache {tmp_path}, and {reason}{WHAT_TO_DO}"


def test_the_base_of_an_adapter_that_is_not_here(reason: str, folder: Path, tmp_path: Path) -> None:
    said = refusal(f"local:{folder / 'adapter'}", cache_dir=tmp_path)
    assert "is an adapter, and the model that it was made for is not here (org/model is not in the cache" in said


def test_a_model_that_is_here_in_part(reason: str, folder: Path, tmp_path: Path) -> None:
    hub(tmp_path, folder / "model", "org/model")
    next(tmp_path.rglob("model.safetensors")).unlink()
    said = refusal("local:org/model", cache_dir=tmp_path)
    assert said == f"org/model is not whole in the cache {tmp_path}, and {reason}{WHAT_TO_DO}"


def test_a_tokenizer_alone(reason: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^no-such-organisation/no-such-model is not in the cache"):
        hosted_prompt_text("no-such-organisation/no-such-model", [{"role": "user", "content": QUESTION}])


def test_the_command_line_says_no_more(tmp_path: Path) -> None:
    with refusing() as address:
        run = subprocess.run(
            [sys.executable, "-m", "agentkit", "run", QUESTION, "--model", "local:org/model"],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path)},
        )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"error: org/model is not in the cache {tmp_path / 'hub'}, and 127.0.0.1 does not")
    assert run.stderr.count("\n") == 1
