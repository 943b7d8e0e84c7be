"""Against a real server: `transformers serve` with the built-in model, on the processor.

It answers without [DONE], leaves the stop string in the text, knows no `stream_options`, and refuses `top_k`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.errors import ConfigurationError
from agentkit.models.builtin import builtin_folder
from tests.hosted.asking import WAYS, Ask

pytestmark = [
    pytest.mark.servers,
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("openai") is None, reason="transformers serve needs it: pip install openai"),
]

QUESTION = "What is 12 * 12?"
STARTS_WITHIN_S = 120


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).with_name("transformers")
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with log.open("wb") as written:
        words = [str(command), "serve", str(builtin_folder()), "--device", "cpu", "--port", str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        running = subprocess.Popen(words, stdout=written, stderr=written, env=environment)
        try:
            _wait_for(f"http://localhost:{port}", running, log)
            yield f"http://localhost:{port}"
        finally:
            running.terminate()
            running.wait(30)


def _wait_for(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end_s and running.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start: {log.read_text()[-2000:]}")


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_it_answers_in_every_way(url: str, ask: Ask) -> None:
    reply = ask(chat_model(url, max_new_tokens=8, do_sample=False), QUESTION)
    assert str(reply.content).startswith("Thought:")
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == 8
    assert reply.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_stop_is_kept_to(url: str, ask: Ask) -> None:
    reply = ask(chat_model(url, max_new_tokens=64, do_sample=False), QUESTION, stop=["\nObservation"])
    assert "Action:" in str(reply.content)
    assert "Observation" not in str(reply.content)
    assert reply.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_what_it_refuses_is_named(url: str, ask: Ask) -> None:
    with pytest.raises(ConfigurationError, match="does not take top_k: leave it out"):
        ask(chat_model(url, top_k=50), QUESTION)


def test_a_model_it_does_not_have_is_refused_in_its_words(url: str) -> None:
    with pytest.raises(Exception, match="requested 'other/model'"):
        chat_model(f"{url}/v1#other/model").invoke(QUESTION)


@pytest.mark.parametrize("way", ["invoke", "events", "ainvoke"])
def test_an_agent_runs_to_its_answer(url: str, way: str) -> None:
    model = chat_model(url, max_new_tokens=128, do_sample=False)
    executor = AgentExecutor.from_model(model, ["calculator"], mode="react-json", return_run=True)
    match way:
        case "invoke":
            output = executor.invoke({"input": QUESTION})["output"]
        case "events":
            output = list(executor.events(QUESTION))[-1].output  # type: ignore[union-attr]
        case _:
            output = asyncio.run(executor.ainvoke({"input": QUESTION}))["output"]
    assert "144" in output
