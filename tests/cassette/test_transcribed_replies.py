"""The replies that LangChain's documentation prints come back from their cassettes, word for word."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from agentkit import Cassette
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint
from tests.cassette.transcribed_replies import FOLDER, MESSAGES, MODEL, REPLIES, transcript


@pytest.mark.parametrize("name", REPLIES)
def test_the_file_is_what_was_printed(name: str) -> None:
    written = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert written == transcript(name), "python -m tests.cassette.transcribed_replies"


@pytest.mark.parametrize("name", REPLIES)
def test_an_invocation_replays_it(name: str) -> None:
    chat_model = ChatHuggingFace(llm=HuggingFaceEndpoint(repo_id=MODEL, huggingfacehub_api_token="none"))
    messages = [SystemMessage(MESSAGES[0]["content"]), HumanMessage(MESSAGES[1]["content"])]
    with Cassette(FOLDER / f"{name}.yaml"):
        ai_msg = chat_model.invoke(messages)
    assert ai_msg.content == REPLIES[name][1]
