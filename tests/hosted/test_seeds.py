"""The snippets of the family's documentation that are about hosted models, with their import lines changed only.

A snippet that names a repository is sent to the test's server instead of the Hub's router.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from agentkit import (
    AgentExecutor,
    ReActJsonSingleInputOutputParser,
    format_log_to_str,
    hub,
    load_tools,
    render_text_description,
)
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint, HuggingFaceHub, HuggingFaceTextGenInference
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, say

TOKEN = "hf_abcdefghijklmnop"
QUESTION = "What happens when an unstoppable force meets an immovable object?"


@pytest.fixture(autouse=True)
def router(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("HUGGINGFACEHUB_API_TOKEN", TOKEN)
    monkeypatch.setattr("agentkit.models.hosted.places.ROUTER", f"{server.url}/v1")
    return server


def ask(llm: HuggingFaceEndpoint) -> str:
    messages = [SystemMessage(content="You're a helpful assistant"), HumanMessage(content=QUESTION)]
    chat_model = ChatHuggingFace(llm=llm)
    ai_msg = chat_model.invoke(messages)
    return str(ai_msg.content)


def sent(server: ChatServer) -> dict[str, object]:
    """What the last request holds beside the messages."""
    messages = [
        {"role": "system", "content": "You're a helpful assistant"},
        {"role": "user", "content": QUESTION},
    ]
    body = dict(server.bodies[-1])
    assert body.pop("messages") == messages
    assert body.pop("stream") is False
    return body


def test_huggingface_endpoint_of_a_repository(server: ChatServer) -> None:
    llm = HuggingFaceEndpoint(
        repo_id="HuggingFaceH4/zephyr-7b-beta",
        task="text-generation",
        max_new_tokens=512,
        do_sample=False,
        repetition_penalty=1.03,
    )
    assert ask(llm) == "hello"
    assert sent(server) == {
        "model": "HuggingFaceH4/zephyr-7b-beta",
        "max_tokens": 512,
        "temperature": 0.0,
        "repetition_penalty": 1.03,
    }
    assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert ChatHuggingFace(llm=llm).model_id == "HuggingFaceH4/zephyr-7b-beta"


@pytest.mark.parametrize(
    ("provider", "model"), [("auto", "deepseek-ai/DeepSeek-R1-0528"), ("nebius", "deepseek-ai/DeepSeek-R1-0528:nebius")]
)
def test_huggingface_endpoint_of_a_reasoning_model_by_a_provider(server: ChatServer, provider: str, model: str) -> None:
    server.plays = [say("<think>It would stop.</think>\n\nNeither moves.")]
    llm = HuggingFaceEndpoint(
        repo_id="deepseek-ai/DeepSeek-R1-0528",
        task="text-generation",
        max_new_tokens=512,
        do_sample=False,
        repetition_penalty=1.03,
        provider=provider,
    )
    assert ask(llm) == "Neither moves."
    assert sent(server) == {"model": model, "max_tokens": 512, "temperature": 0.0, "repetition_penalty": 1.03}


def test_huggingface_text_gen_inference(server: ChatServer) -> None:
    ENDPOINT_URL = server.url
    HF_TOKEN = os.getenv("HUGGINGFACEHUB_API_TOKEN")
    with pytest.warns(FutureWarning, match=r"use HuggingFaceEndpoint\(endpoint_url=…\)") as warned:
        llm = HuggingFaceTextGenInference(
            inference_server_url=ENDPOINT_URL,
            max_new_tokens=512,
            top_k=50,
            temperature=0.1,
            repetition_penalty=1.03,
            server_kwargs={
                "headers": {
                    "Authorization": f"Bearer {HF_TOKEN}",
                    "Content-Type": "application/json",
                }
            },
        )
    assert len(warned) == 1
    assert ask(llm) == "hello"
    assert sent(server) == {"max_tokens": 512, "top_k": 50, "temperature": 0.1, "repetition_penalty": 1.03}
    assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_huggingface_endpoint_of_an_address(server: ChatServer) -> None:
    ENDPOINT_URL = server.url
    llm = HuggingFaceEndpoint(
        endpoint_url=ENDPOINT_URL,
        task="text-generation",
        model_kwargs={
            "max_new_tokens": 512,
            "top_k": 50,
            "temperature": 0.1,
            "repetition_penalty": 1.03,
        },
    )
    assert ask(llm) == "hello"
    assert sent(server) == {"max_tokens": 512, "top_k": 50, "temperature": 0.1, "repetition_penalty": 1.03}
    assert "authorization" not in server.requests[-1].headers


def test_huggingface_hub(server: ChatServer) -> None:
    with pytest.warns(FutureWarning, match=r"use HuggingFaceEndpoint\(repo_id=…\)") as warned:
        llm = HuggingFaceHub(
            repo_id="HuggingFaceH4/zephyr-7b-beta",
            task="text-generation",
            model_kwargs={
                "max_new_tokens": 512,
                "top_k": 30,
                "temperature": 0.1,
                "repetition_penalty": 1.03,
            },
        )
    assert len(warned) == 1
    assert ask(llm) == "hello"
    assert sent(server) == {
        "model": "HuggingFaceH4/zephyr-7b-beta",
        "max_tokens": 512,
        "top_k": 30,
        "temperature": 0.1,
        "repetition_penalty": 1.03,
    }


def test_an_old_keyword_warns_too(server: ChatServer) -> None:
    with pytest.warns(FutureWarning, match="inference_server_url is an old name: use endpoint_url"):
        assert ask(HuggingFaceEndpoint(inference_server_url=server.url)) == "hello"


def test_the_agent(server: ChatServer) -> None:
    server.plays = [say(action("Calculator", "25^0.43") + "\nObservation: 3"), say(final("about 4"))]
    llm = HuggingFaceEndpoint(repo_id="HuggingFaceH4/zephyr-7b-beta", max_new_tokens=512)
    chat_model = ChatHuggingFace(llm=llm)

    tools = load_tools(["llm-math"], llm=llm)
    prompt = hub.pull("hwchase17/react-json")
    prompt = prompt.partial(
        tools=render_text_description(tools),
        tool_names=", ".join([t.name for t in tools]),
    )
    chat_model_with_stop = chat_model.bind(stop=["\nObservation"])
    agent = (
        {
            "input": lambda x: x["input"],
            "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"]),
        }
        | prompt
        | chat_model_with_stop
        | ReActJsonSingleInputOutputParser()
    )
    agent_executor = AgentExecutor(agent=agent, tools=tools)
    assert agent_executor.invoke({"input": "25^0.43?"})["output"] == "about 4"
    assert [body["stop"] for body in server.bodies] == [["\nObservation"]] * 2
    assert "Answer: 3.991298452658078" in server.bodies[1]["messages"][-1]["content"]
