"""The token loop: stop strings, caches, several at once; each against the plainest way to compute the same."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from agentkit import AgentExecutor
from agentkit.errors import ModelError
from agentkit.langchain.messages import to_dicts
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.local.prefix_cache import MAX_CONVERSATIONS
from agentkit.tool import Tool

from .conftest import build_llama, build_tokenizer

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

    ids = llm.local.prompts.encode(llm.local.template.render(to_dicts(messages)))
    out = llm.model.generate(torch.tensor([ids]), max_new_tokens=40, **options)
    text = str(llm.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))
    return text.rstrip("\ufffd")  # an unfinished character is no text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 30},
        {"suppress_tokens": [40, 41]},
    ],
)
def test_greedy_text_is_that_of_generate(llm: HuggingFacePipeline, chat: ChatHuggingFace, options: Any) -> None:
    assert chat.invoke(QUESTION, **options).content == reference(llm, QUESTION, **options)


def test_beam_search_is_that_of_generate(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    options = {"num_beams": 3}
    assert chat.invoke(QUESTION, **options).content == reference(llm, QUESTION, **options)


@pytest.mark.slow
def test_a_seed_makes_sampling_reproducible(chat: ChatHuggingFace) -> None:
    def sample(seed: int) -> Any:
        return chat.invoke(QUESTION, do_sample=True, temperature=0.8, top_p=0.9, seed=seed).content

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(5)}) > 1


@pytest.mark.slow
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
    assert fresh.usage_metadata["input_token_details"]["cache_read"] == 0
    assert cached.usage_metadata["input_token_details"]["cache_read"] > 0


@pytest.mark.slow
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


def caches_alive() -> int:
    from agentkit.models.local.attention_cache import GrowingLayer

    gc.collect()
    return sum(type(each) is GrowingLayer for each in gc.get_objects())


@pytest.mark.slow
def test_no_run_leaves_a_cache_behind_but_the_few_that_are_kept() -> None:
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer, num_hidden_layers=2)
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer))
    before, kept = caches_alive(), chat.llm.local.prefixes
    for number in range(3 * MAX_CONVERSATIONS):
        chat.invoke([HumanMessage(f"{number} is another conversation")], max_new_tokens=3)
    questions = [[HumanMessage(f"{number} is asked with others")] for number in range(2 * MAX_CONVERSATIONS)]
    chat.batch(questions, {"max_concurrency": 8}, max_new_tokens=3)
    chat.stream(questions[0]).close()  # type: ignore[attr-defined]
    assert 2 < len(kept.entries) <= MAX_CONVERSATIONS
    assert kept.tokens < 80 * MAX_CONVERSATIONS
    assert caches_alive() - before == 2 * len(kept.entries)
    kept.clear()
    assert caches_alive() == before


@pytest.mark.slow
def test_a_conversation_takes_memory_in_proportion_to_its_tokens() -> None:
    """Buffers have at most a quarter to spare (and a little); what an earlier step held is not held again."""
    from agentkit.models.local.attention_cache import LEAST_ROOM

    tokenizer = build_tokenizer()
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    messages: list[Any] = [HumanMessage("How long does it get?")]
    for step in range(15):
        reply = chat.invoke(messages, max_new_tokens=10)
        messages += [AIMessage(str(reply.content)), HumanMessage(f"Observation: {step}")]
        kept = chat.llm.local.prefixes
        assert len(kept.entries) == 1
        (entry,) = kept.entries
        for layer in entry.cache.layers:
            room = layer.keys.untyped_storage().nbytes() // (layer.keys[:, :, :1].numel() * layer.keys.element_size())
            assert room <= kept.tokens * 5 // 4 + LEAST_ROOM + 10


def test_logprobs_are_those_of_the_raw_logits(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    import torch

    reply = chat.invoke(QUESTION, logprobs=True, top_logprobs=3, max_new_tokens=6)
    ids = llm.local.prompts.encode(llm.local.template.render(to_dicts(QUESTION)))
    out = llm.model.generate(
        torch.tensor([ids]), max_new_tokens=6, output_logits=True, return_dict_in_generate=True, do_sample=False
    )
    for got, logits in zip(reply.response_metadata["logprobs"]["content"], out.logits, strict=True):
        wanted = logits[0].log_softmax(-1).topk(3)
        assert got["logprob"] == pytest.approx(float(wanted.values[0]), abs=1e-4)
        values = [each["logprob"] for each in got["top_logprobs"]]
        assert values == pytest.approx(wanted.values.tolist(), abs=1e-4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_after_an_interrupt_the_next_reply_is_right(
    llm: HuggingFacePipeline, chat: ChatHuggingFace, error: type[BaseException]
) -> None:
    expected = chat.invoke(QUESTION).content
    calls = iter(range(100))

    def interrupt(*_: Any) -> None:
        if next(calls) == 7:
            raise error

    layer = llm.model.model.layers[1]  # the first has the token by then, this one has not
    with layer.register_forward_hook(interrupt), pytest.raises((error, ModelError)) as caught:
        chat.invoke(QUESTION)
    assert error in (type(caught.value), type(caught.value.__cause__))
    assert chat.invoke(QUESTION).content == expected


def test_an_error_reaches_only_its_own_row(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    good = "start: /[a-z]{20}/"
    requests = [(QUESTION, good), ([HumanMessage("other")], "start: nowhere"), ([HumanMessage("third")], good)]

    def ask(request: Any) -> Any:
        try:
            return len(str(chat.invoke(request[0], grammar=request[1]).content))
        except ValueError as error:
            return type(error).__name__

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, requests)) == [20, "ConfigurationError", 20]


@pytest.mark.slow
async def test_many_at_once_without_threads_of_ones_own(chat: ChatHuggingFace) -> None:
    conversations = [[HumanMessage(f"question {n}")] for n in range(4)]
    alone = [chat.invoke(c).content for c in conversations]
    assert [m.content for m in await chat.abatch(conversations)] == alone
    task = asyncio.ensure_future(chat.ainvoke(conversations[0], max_new_tokens=800))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await chat.ainvoke(conversations[1])).content == alone[1]


LENGTHS = (0, 3, 40, 9, 1, 25, 14, 60)


def answers(runs: list[Any]) -> list[Any]:
    return [(run["output"], [(a.tool, a.tool_input, seen) for a, seen in run["intermediate_steps"]]) for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize("constrain", ["actions", "off"])
async def test_questions_in_a_batch_are_decoded_together_and_answered_as_alone(
    model_folder: Path, constrain: str
) -> None:
    """Runs of very different prompts, each with its grammar and stop, ending at different times."""
    options = {"max_new_tokens": 60, "do_sample": False}
    chat = ChatHuggingFace.from_model_id(str(model_folder), pipeline_kwargs=options, constrain=constrain)
    search = Tool(name="Search", description="Looks up.", run=lambda query: f"{len(query)} found, {query[:5]!r} first")
    executor = AgentExecutor.from_model(
        chat, [search], max_iterations=3, return_intermediate_steps=True, return_run=True
    )
    questions = [{"input": f"{'very ' * length}long question?"} for length in LENGTHS]
    forwards: list[int] = []
    chat.llm.model.register_forward_hook(lambda *_: forwards.append(1))

    alone = [executor.invoke(question) for question in questions]
    one_by_one = len(forwards)
    forwards.clear()
    chat.llm.local.prefixes.clear()
    together = executor.batch(questions)
    assert answers(together) == answers(alone)
    assert len(forwards) < one_by_one / 2
    forwards.clear()
    assert answers(await executor.abatch(questions)) == answers(alone)
    assert len(forwards) < one_by_one / 2
    wrote = [run["run"]["usage"]["completion_tokens"] for run in together]
    assert wrote == [run["run"]["usage"]["completion_tokens"] for run in alone]
    assert constrain == "off" or len(set(wrote)) > 1
