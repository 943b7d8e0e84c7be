"""What LangChain's pages list, on the model of the package in this process, where no other test shows it alone."""

from __future__ import annotations

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk

from agentkit.models import ChatHuggingFace, HuggingFacePipeline, chat_model
from agentkit.models.builtin import builtin_folder

pytestmark = pytest.mark.torch

QUESTION = "What is 17 times 23?"


@pytest.fixture(scope="module")
def model() -> BaseChatModel:
    return chat_model("builtin", constrain="off")


def test_text_streams_token_by_token(model: BaseChatModel) -> None:
    whole = model.invoke(QUESTION)
    chunks = [chunk for chunk in model.stream(QUESTION) if isinstance(chunk, AIMessageChunk)]
    pieces = [chunk.text for chunk in chunks if chunk.text]
    assert "".join(pieces) == whole.text
    assert whole.usage_metadata is not None
    assert len(pieces) > whole.usage_metadata["output_tokens"] / 2


@pytest.mark.slow
def test_any_json_object_comes_of_json_mode(model: BaseChatModel) -> None:
    asked = model.with_structured_output(method="json_mode", include_raw=True)
    reply = asked.invoke(QUESTION, max_new_tokens=80)
    assert isinstance(reply, dict)
    assert isinstance(reply["parsed"], dict)


@pytest.mark.parametrize(
    ("asked", "comes_back"),
    [({"return_full_text": True}, True), ({"return_full_text": False}, False), ({}, False)],
)
def test_the_prompt_comes_back_where_it_is_asked_for(asked: dict[str, bool], comes_back: bool) -> None:
    options = {"max_new_tokens": 8, **asked}
    llm = HuggingFacePipeline.from_model_id(str(builtin_folder()), pipeline_kwargs=options)
    assert llm.invoke(QUESTION).startswith(QUESTION) is comes_back
    assert str(ChatHuggingFace(llm=llm).invoke(QUESTION).content).startswith("Thought:")  # never in a chat
