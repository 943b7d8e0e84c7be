"""The parser at the end of a LangChain chain."""

from __future__ import annotations

import pickle

import pytest
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.exceptions import OutputParserException
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage

from agentkit import ReActJsonSingleInputOutputParser

TURN = 'Thought: x\nAction:\n```json\n{"action": "search", "action_input": {"q": "x"}}\n```'
ANSWER = "Thought: I know\nFinal Answer: 42"
PARSER = ReActJsonSingleInputOutputParser()


def test_a_turn_is_langchains_own_value() -> None:
    assert PARSER.parse(TURN) == AgentAction("search", {"q": "x"}, TURN)
    assert PARSER.parse(ANSWER) == AgentFinish({"output": "42"}, ANSWER)


@pytest.mark.parametrize("text", [f"{TURN}\nI wait. \n", f"{ANSWER} \n\n", f" {TURN}"])
def test_the_log_is_the_whole_text(text: str) -> None:
    assert PARSER.parse(text).log == text


def test_a_name_alone_is_an_action_with_nothing_as_its_input() -> None:
    text = 'Action:\n```json\n{"action": "refresh"}\n```'
    assert PARSER.parse(text) == AgentAction("refresh", {}, text)
    knowing = ReActJsonSingleInputOutputParser(tools={"refresh": {"type": "object", "required": ["page"]}})
    with pytest.raises(OutputParserException, match="its JSON has no action_input"):
        knowing.parse(text)


@pytest.mark.parametrize("content", [ANSWER, [{"type": "text", "text": ANSWER}]])
def test_messages_are_taken_as_they_come_from_a_model(content: str | list[str | dict[str, str]]) -> None:
    assert PARSER.invoke(AIMessage(content)) == AgentFinish({"output": "42"}, ANSWER)


def test_an_error_can_be_sent_to_the_model() -> None:
    with pytest.raises(OutputParserException, match="neither an action nor a final answer") as caught:
        PARSER.parse("Hello")
    assert caught.value.send_to_llm
    assert caught.value.llm_output == "Hello"
    assert str(caught.value.observation).startswith("Invalid format: ")


@pytest.mark.parametrize("text", [TURN, ANSWER])
def test_invented_observations_are_counted_and_the_count_is_kept(text: str) -> None:
    result = PARSER.parse(f"{text}\nObservation: 5\nThought: y\nObservation: 6\nFinal Answer: 7")
    assert isinstance(result, AgentAction | AgentFinish)
    assert result.log == text
    for kept in (result, result.model_copy(), pickle.loads(pickle.dumps(result))):
        assert kept.invented_observations == 2
    json_form = dumpd(result)
    assert json_form["kwargs"]["invented_observations"] == 2
    assert json_form["id"] == dumpd(PARSER.parse(text))["id"]


def test_it_tells_a_model_what_to_write() -> None:
    instructions = PARSER.get_format_instructions()
    assert "```json" in instructions
    assert "Final Answer:" in instructions
    assert PARSER._type == "react-json-single-input"
