"""No token stands in an error, a representation, a log, or a body."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from langchain_core.load import dumps

from agentkit.errors import AgentkitError, ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint
from tests.doubles.server import ChatServer, Play, body, error, events, say
from tests.hosted.asking import WAYS, Ask

TOKEN = "hf_abcdefghijklmnop"
HEADER = "my-own-token-0123456789"


def endpoint(server: ChatServer, **options: Any) -> HuggingFaceEndpoint:
    return HuggingFaceEndpoint(
        endpoint_url=server.url,
        huggingfacehub_api_token=TOKEN,
        server_kwargs={"headers": {"X-Key": HEADER}},
        max_retries=0,
        **options,
    )


FAILING: list[Play] = [
    error(400, f"bad token {TOKEN} in Bearer {HEADER}"),
    error(401, f"token {TOKEN} expired"),
    error(500, f"Authorization: Bearer {TOKEN}"),
    body(f"<{TOKEN} {HEADER}>".encode()),
    body(f"{TOKEN} {HEADER}".encode()),
    body(json.dumps({"error": f"key {HEADER}"}).encode()),
    body(json.dumps({TOKEN: HEADER}).encode()),
    events({"error": {"message": f"key {TOKEN} {HEADER}"}}),
]


@pytest.mark.parametrize("play", FAILING)
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_errors_and_logs_hold_no_token(
    server: ChatServer, caplog: pytest.LogCaptureFixture, play: Play, ask: Ask
) -> None:
    server.plays = [play]
    with caplog.at_level("DEBUG"), pytest.raises(AgentkitError) as caught:
        ask(ChatHuggingFace(llm=endpoint(server)))
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("agentkit"))
    for text in (str(caught.value), repr(caught.value), logged):
        assert TOKEN not in text
        assert HEADER not in text


def test_representations_hold_no_token(server: ChatServer) -> None:
    llm = endpoint(server)
    chat = ChatHuggingFace(llm=llm)
    for text in (repr(llm), str(llm), repr(chat), str(llm._identifying_params), dumps(chat), repr(llm._hosted)):
        assert TOKEN not in text
        assert HEADER not in text
    assert chat.invoke("hi").content == "hello"
    assert TOKEN not in json.dumps(server.bodies)
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_wrong_option_is_refused_without_its_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        HuggingFaceEndpoint(endpoint_url="http://x", huggingfacehub_api_token=[TOKEN])
    assert TOKEN not in str(caught.value)


def test_a_key_in_the_address_is_not_shown(server: ChatServer) -> None:
    server.plays = [error(404, "no")]
    llm = HuggingFaceEndpoint(endpoint_url=f"{server.url}/v1?api_key={HEADER}", max_retries=0)
    with pytest.raises(AgentkitError) as caught:
        ChatHuggingFace(llm=llm).invoke("hi")
    assert HEADER not in str(caught.value)
    assert HEADER not in llm.model_id
    assert server.requests[0].path.endswith(f"?api_key={HEADER}")


def test_a_good_reply_holds_none_either(server: ChatServer) -> None:
    server.plays = [say("hello")]
    reply = ChatHuggingFace(llm=endpoint(server)).invoke("hi")
    assert TOKEN not in repr(reply)
    assert pickle.loads(pickle.dumps(reply)) == reply
