"""Chains of LangChain's parts as agents: what they do in LangChain they do here, invoked and awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.agents import AgentFinish
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import Runnable, RunnableBranch, RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool

from agentkit import AgentExecutor, ReActJsonSingleInputOutputParser, format_log_to_str

QUESTION = {"input": "What is 2 + 2?"}
ACTION = 'Thought: add\nAction:\n```json\n{"action": "add", "action_input": {"a": 2, "b": 2}}\n```'
FINAL = "Thought: done\nFinal Answer: 4"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def model() -> FakeListChatModel:
    return FakeListChatModel(responses=[ACTION, FINAL])


def scratchpad(inputs: dict[str, Any]) -> str:
    return format_log_to_str(inputs["intermediate_steps"])


def question(inputs: dict[str, Any]) -> str:
    return f"{inputs['input']}\n{scratchpad(inputs)}"


async def awaited_question(inputs: dict[str, Any]) -> str:
    return question(inputs)


PARSER = ReActJsonSingleInputOutputParser()
CHAINS: dict[str, Callable[[], Runnable[Any, Any]]] = {
    "a text for a prompt with one variable": lambda: (
        RunnableLambda(question) | ChatPromptTemplate.from_template("{question}") | model() | PARSER
    ),
    "a plain prompt with one variable": lambda: (
        RunnableLambda(question) | PromptTemplate.from_template("{question}") | model() | PARSER
    ),
    "a lambda that is awaited, too": lambda: (
        RunnableLambda(question, awaited_question) | ChatPromptTemplate.from_template("{q}") | model() | PARSER
    ),
    "a lambda that gives a runnable": lambda: (
        (RunnableLambda(lambda inputs: RunnableLambda(question)) | ChatPromptTemplate.from_template("{q}"))
        | model()
        | PARSER
    ),
    "assigned and picked": lambda: (
        RunnablePassthrough.assign(agent_scratchpad=scratchpad)
        | ChatPromptTemplate.from_template("{input}\n{agent_scratchpad}")
        | model().bind(stop=["\nObservation"])
        | PARSER
    ),
    "a branch": lambda: (
        RunnableBranch((lambda inputs: bool(inputs["intermediate_steps"]), question), question)
        | ChatPromptTemplate.from_template("{q}")
        | model()
        | PARSER
    ),
    "a model with retries and a fallback": lambda: (
        RunnableLambda(question)
        | ChatPromptTemplate.from_template("{q}")
        | model().with_retry().with_fallbacks([model()])
        | PARSER
    ),
    "a function alone": lambda: RunnableLambda(lambda inputs: AgentFinish({"output": "4"}, FINAL)),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
def test_a_chain_is_invoked_as_langchain_invokes_it(chain: Callable[[], Runnable[Any, Any]]) -> None:
    assert AgentExecutor(chain(), [add]).invoke(QUESTION)["output"] == "4"


@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
async def test_a_chain_is_awaited_as_langchain_awaits_it(chain: Callable[[], Runnable[Any, Any]]) -> None:
    assert (await AgentExecutor(chain(), [add]).ainvoke(QUESTION))["output"] == "4"


def test_a_missing_variable_is_named_as_langchain_names_it() -> None:
    chain: Runnable[Any, Any] = ChatPromptTemplate.from_template("{input}{tools}") | model() | PARSER
    with pytest.raises(KeyError) as raised:
        chain.invoke({**QUESTION, "intermediate_steps": []})
    with pytest.raises(KeyError) as ours:
        AgentExecutor(chain, [add]).invoke(QUESTION)
    assert "Input to ChatPromptTemplate is missing variables {'tools'}" in str(ours.value)
    assert str(ours.value).partition("received")[0] == str(raised.value).partition("received")[0]
