"""The token loop: stop strings, caches, several at once; each against the plainest way to compute the same."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from agentkit.models import ChatHuggingFace, HuggingFacePipeline

QUESTION = [SystemMessage("You answer."), HumanMessage("What is 25 raised to the 0.43 power?")]


@pytest.fixture(scope="module")
def llm(model_folder: Path) -> HuggingFacePipeline:
    return HuggingFacePipeline.from_model_id(str(model_folder), pipeline_kwargs={"max_new_tokens": 40})


@pytest.fixture(scope="module")
def chat(llm: HuggingFacePipeline) -> ChatHuggingFace:
    return ChatHuggingFace(llm=llm)


def reference(llm: HuggingFacePipeline, messages: list[Any], **options: Any) -> str:
    """What transformers' own generate says."""
    import torch

    ids = llm.local.prompts.encode(llm.local.template.render([{"role": m.type.replace("human", "user").replace("ai", "assistant"), "content": m.content} for m in messages]))
    out = llm.model.generate(torch.tensor([ids]), max_new_tokens=40, **options)
    return str(llm.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)).rstrip("\ufffd")  # an unfinished character is no text


@pytest.mark.parametrize(
    "options",
    [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 30}, {"suppress_tokens": [40, 41]}],
)
def test_greedy_text_is_that_of_generate(llm: HuggingFacePipeline, chat: ChatHuggingFace, options: Any) -> None:
    assert chat.invoke(QUESTION, **options).content == reference(llm, QUESTION, **options)


def test_beam_search_is_that_of_generate(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    options = {"num_beams": 3}
    assert chat.invoke(QUESTION, **options).content == reference(llm, QUESTION, **options)


def test_a_seed_makes_sampling_reproducible(chat: ChatHuggingFace) -> None:
    def sample(seed: int) -> Any:
        return chat.invoke(QUESTION, do_sample=True, temperature=0.8, top_p=0.9, seed=seed).content

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(5)}) > 1


def test_stop_in_every_way_of_asking(chat: ChatHuggingFace) -> None:
    whole = chat.invoke(QUESTION).content
    for start in range(5, 25, 3):
        stop = whole[start : start + 4]
        expected = whole[: whole.index(stop)]
        messages = [chat.invoke(QUESTION, stop=[stop])]
        streamed = list(chat.stream(QUESTION, stop=[stop, "never"]))
        messages += [asyncio.run(chat.ainvoke(QUESTION, stop=[stop])), *chat.batch([QUESTION] * 2, stop=[stop])]
        assert [m.content for m in messages] == [expected] * 4
        assert "".join(str(c.content) for c in streamed) == expected
        assert {m.response_metadata["finish_reason"] for m in messages} == {"stop"}


def test_a_stop_string_in_the_prompt_does_not_stop(chat: ChatHuggingFace) -> None:
    assert len(chat.invoke(QUESTION, stop=["What is 25"]).content) > 10


def test_only_new_tokens_are_computed(chat: ChatHuggingFace) -> None:
    messages = [*QUESTION, HumanMessage("only new tokens")]
    for step in range(4):
        answer = chat.invoke(messages, stop=["\nObservation"])
        usage = answer.usage_metadata
        assert usage is not None
        if step:
            assert usage["input_tokens"] - usage["input_token_details"]["cache_read"] < 40
        messages += [AIMessage(str(answer.content)), HumanMessage(f"Observation: {step}")]


def test_cached_and_uncached_say_the_same(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    messages = [*QUESTION, AIMessage("Thought: 5"), HumanMessage("Observation: 3")]
    chat.invoke(messages[:2])
    cached = chat.invoke(messages)
    llm.local.prefixes.clear()
    fresh = chat.invoke(messages)
    assert cached.content == fresh.content
    assert fresh.usage_metadata["input_token_details"]["cache_read"] == 0 < cached.usage_metadata["input_token_details"]["cache_read"]


def test_many_at_once_say_what_each_says_alone(chat: ChatHuggingFace) -> None:
    conversations = [[*QUESTION[:1], HumanMessage(f"{'very ' * n}long question {n}")] for n in range(8)]
    stop = ["qq", "the"]
    alone = [chat.invoke(c, stop=stop, max_new_tokens=20 + n).content for n, c in enumerate(conversations)]

    def ask(numbered: Any) -> Any:
        number, conversation = numbered
        return chat.invoke(conversation, stop=stop, max_new_tokens=20 + number).content

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, enumerate(conversations))) == alone


def test_closing_a_stream_ends_the_reply(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    llm.local.prefixes.clear()
    stream = chat.stream(QUESTION, max_new_tokens=900)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert llm.local.prefixes.tokens < 200
    assert chat.invoke(QUESTION).content


def test_memory_is_bounded(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    for number in range(20):
        chat.invoke([HumanMessage(f"{number} is another conversation")])
    assert llm.local.prefixes.tokens < 8 * 120
