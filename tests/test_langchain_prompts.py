"""Prompts and histories as LangChain's users have them, in the agents made here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_to_dict,
)
from langchain_core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool

from agentkit import AgentExecutor, create_react_json_agent
from agentkit.errors import ConfigurationError
from tests.doubles.models import Scripted, action, final, reply

QUESTION = {"input": "q"}
SYSTEM, HUMAN = ("system", "Tools: {tools} named {tool_names}"), ("human", "{input}")
STEPS = MessagesPlaceholder("agent_scratchpad")
OPTIONAL_STEPS = ("placeholder", "{agent_scratchpad}")
PICTURE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
SAID = [
    HumanMessage("a"),
    AIMessage("", tool_calls=[{"name": "look", "args": {"item": "x"}, "id": "c0"}]),
    ToolMessage("17", tool_call_id="c0", name="look"),
    AIMessage("b"),
]
EXAMPLE = ChatPromptTemplate.from_messages([("human", "{q}"), ("ai", "{a}")])


@tool
def look(item: str) -> str:
    """Looks something up."""
    return "seventeen"


class Calling(Scripted):
    """The same for a model that takes tools."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self.bind(tools=tools, **options)


def asked(prompt: Any, inputs: Any = QUESTION, mode: Any = "react-json") -> list[BaseMessage]:
    """What the model is asked for its second turn."""
    native = [reply("", [("look", '{"item": "x"}')]), reply("17")]
    model = Calling(turns=native if mode == "tools" else [action("look", "x"), final("17")])
    result = AgentExecutor.from_model(model, [look], prompt, mode=mode).invoke(inputs)
    assert result["output"] == "17"
    return model.requests[1]


def template(*messages: Any, **options: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages([*messages], **options)


PROMPTS: dict[str, tuple[BasePromptTemplate[Any], dict[str, Any], list[str]]] = {
    "an optional place for steps": (template(SYSTEM, HUMAN, OPTIONAL_STEPS), {}, ["system", "human"]),
    "an optional history": (
        template(SYSTEM, MessagesPlaceholder("chat_history", optional=True), HUMAN, STEPS),
        {},
        ["system", "human"],
    ),
    "the last of a history": (
        template(SYSTEM, MessagesPlaceholder("chat_history", optional=True, n_messages=1), HUMAN, STEPS),
        {"chat_history": SAID},
        ["system", "ai", "human"],
    ),
    "a value that is made": (
        template(("system", "{tools} at {time}"), HUMAN, STEPS).partial(time=lambda: "noon"),
        {},
        ["system", "human"],
    ),
    "examples": (
        template(
            SYSTEM,
            FewShotChatMessagePromptTemplate(examples=[{"q": "1", "a": "2"}], example_prompt=EXAMPLE),
            HUMAN,
            STEPS,
        ),
        {},
        ["system", "human", "ai", "human"],
    ),
    "an image": (
        template(SYSTEM, ("human", [{"type": "text", "text": "{input}"}, PICTURE]), STEPS),
        {},
        ["system", "human"],
    ),
    "jinja2": (
        template(("system", "{{ tools }}"), ("human", "{{ input }}"), STEPS, template_format="jinja2"),
        {},
        ["system", "human"],
    ),
    "mustache": (
        template(("system", "{{tools}}"), ("human", "{{input}}"), OPTIONAL_STEPS, template_format="mustache"),
        {},
        ["system", "human"],
    ),
    "whole messages": (ChatPromptTemplate([SystemMessage("Be {brief}."), HUMAN, STEPS]), {}, ["system", "human"]),
    "a template in a template": (template(template(SYSTEM, HUMAN), STEPS), {}, ["system", "human"]),
    "another name for the question": (template(SYSTEM, ("human", "{q}"), STEPS), {"q": "q"}, ["system", "human"]),
    "messages as the question": (
        template(SYSTEM, ("placeholder", "{messages}"), STEPS),
        {"messages": [*SAID, HumanMessage("q")]},
        ["system", "human", "ai", "tool", "ai", "human"],
    ),
}


@pytest.mark.parametrize("mode", ["react-json", "tools"])
@pytest.mark.parametrize(("prompt", "more", "frame"), PROMPTS.values(), ids=list(PROMPTS))
def test_a_template_keeps_all_that_it_can(
    prompt: BasePromptTemplate[Any], more: dict[str, Any], frame: list[str], mode: str
) -> None:
    seen = asked(prompt, more or QUESTION if "q" in more or "messages" in more else {**QUESTION, **more}, mode)
    assert [one.type for one in seen] == [*frame, "ai", "tool" if mode == "tools" else "human"]
    assert "seventeen" in seen[-1].text
    rendered = prompt.format_prompt(
        **{"tools": "look: Looks something up.", "tool_names": "look", "agent_scratchpad": [], **QUESTION, **more}
    )
    assert [one.content for one in seen[:-2]] == [one.content for one in rendered.to_messages()]


@pytest.mark.parametrize(
    "prompt",
    [
        PromptTemplate.from_template("{tools}\n{input}\n{agent_scratchpad}"),
        PromptTemplate.from_template("{{ tools }}\n{{ input }}\n{{ agent_scratchpad }}", template_format="jinja2"),
        FewShotPromptTemplate(
            examples=[{"q": "1"}],
            example_prompt=PromptTemplate.from_template("{q}"),
            prefix="{tools}",
            suffix="{input}\n{agent_scratchpad}",
            input_variables=["tools", "input", "agent_scratchpad"],
        ),
    ],
    ids=["f-string", "jinja2", "examples"],
)
def test_a_template_of_text_is_one_message_with_the_steps(prompt: BasePromptTemplate[Any]) -> None:
    (message,) = asked(prompt)
    assert message.type == "human"
    assert message.text.endswith("q\n" + action("look", "x") + "\nObservation: seventeen\nThought: ")


def test_only_the_last_steps_where_the_template_says_so() -> None:
    seen = asked(template(SYSTEM, HUMAN, MessagesPlaceholder("agent_scratchpad", n_messages=1)))
    assert [one.content for one in seen[1:]] == ["q", "Observation: seventeen"]


def test_what_was_filled_in_before_stays_and_inputs_replace_it() -> None:
    prompt = template(("system", "{tools} in {language}"), HUMAN, STEPS).partial(tools="Mine", language="English")
    assert asked(prompt)[0].content == "Mine in English"
    assert asked(prompt, {**QUESTION, "language": "Dutch"})[0].content == "Mine in Dutch"


def test_a_message_of_a_template_reaches_langchains_model_as_it_is() -> None:
    parts: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    seen = asked(ChatPromptTemplate([SystemMessage(parts, name="rules"), HUMAN, STEPS]))
    assert seen[0] == SystemMessage(parts, name="rules")


def test_a_question_cannot_speak_for_the_system() -> None:
    prompt = template(("system", "{tools} {input}"), HUMAN, STEPS)
    system, human, *_ = asked(prompt, {"input": "<|im_end|>"})
    assert "<|im_end|>" not in system.text
    assert human.content == "<|im_end|>"


@pytest.mark.parametrize(
    ("prompt", "inputs", "message"),
    [
        (template(("system", "{language}"), HUMAN, STEPS), QUESTION, "expected a value for language, saw input; pass"),
        (template(MessagesPlaceholder("past"), HUMAN, STEPS), QUESTION, "expected a value for past, saw input; pass"),
        (template(SYSTEM, HUMAN), QUESTION, r"expected the field \{agent_scratchpad\}, where the steps go, saw input"),
        (None, {**QUESTION, "chat_history": [3]}, "chat_history: expected messages, saw a list .*; give messages, "),
        (None, {**QUESTION, "chat_history": 7}, "chat_history: expected messages, saw 7 "),
        (
            template(MessagesPlaceholder("past"), HUMAN, STEPS),
            {**QUESTION, "past": 7},
            "past: expected messages, saw 7",
        ),
        (None, {"messages": []}, "messages: expected a human message at the end, the question, saw none; add it"),
        (None, {"messages": SAID}, "expected a human message at the end, the question, saw one of type ai; add it"),
        (template(SYSTEM, HUMAN, STEPS), {"messages": [*SAID, HumanMessage("q")]}, "no place for the messages before"),
    ],
)
def test_what_is_missing_is_said_in_a_line(prompt: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        asked(prompt, inputs)
    assert "\n" not in str(raised.value)


# -- what was said before ----------------------------------------------------------------------------------------------

HISTORIES: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "messages": ([HumanMessage("a"), AIMessage("b")], [("human", "a"), ("ai", "b")]),
    "a tool's messages": (SAID, [("human", "a"), ("ai", ""), ("tool", "17"), ("ai", "b")]),
    "chat dicts": ([{"role": "assistant", "content": "a"}], [("ai", "a")]),
    "LangChain's dicts": ([{"type": "human", "content": "a"}], [("human", "a")]),
    "stored messages": (messages_to_dict(SAID[:1]), [("human", "a")]),
    "pairs": ([("user", "a"), ("ai", "b")], [("human", "a"), ("ai", "b")]),
    "texts": (["a"], [("human", "a")]),
    "a text": ("Human: a\nAI: b", [("human", "Human: a\nAI: b")]),
    "none": ([], []),
    "no text": ("", []),
    "nothing": (None, []),
}  # fmt: skip


@pytest.mark.parametrize("prompt", [None, template(SYSTEM, MessagesPlaceholder("chat_history"), HUMAN, STEPS)])
@pytest.mark.parametrize(("history", "told"), HISTORIES.values(), ids=list(HISTORIES))
def test_a_history_is_told_in_whatever_form(history: Any, told: list[tuple[str, str]], prompt: Any) -> None:
    for mode in ("react-json", "tools"):
        _, *said = asked(prompt, {**QUESTION, "chat_history": history}, mode)
        assert [(one.type, one.content) for one in said[:-2]] == [*told, ("human", "q")]
    if history is SAID:
        assert said[1:3] == SAID[1:3]


def test_a_prompt_with_the_steps_as_text_is_told_the_history_too() -> None:
    said = asked("react-json-text", {**QUESTION, "chat_history": [("human", "a"), ("ai", "b")]})
    assert [one.type for one in said] == ["system", "human", "ai", "human"]


def test_a_file_says_where_the_history_goes(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("[messages chat_history?]\n[human]\n{input}\n[messages agent_scratchpad]")
    assert [one.type for one in asked(str(file))] == ["human", "ai", "human"]
    assert [one.type for one in asked(str(file), {**QUESTION, "chat_history": SAID})][:4] == [
        "human",
        "ai",
        "tool",
        "ai",
    ]


ASKED: dict[str, Any] = {
    "messages": {"messages": [HumanMessage("a"), AIMessage("b"), HumanMessage("q")]},
    "chat dicts": {"messages": [{"role": "user", "content": "a"}, ("ai", "b"), {"role": "user", "content": "q"}]},
    "messages alone": [HumanMessage("a"), AIMessage("b"), HumanMessage("q")],
    "messages as the input": {"input": [HumanMessage("a"), AIMessage("b"), HumanMessage("q")]},
    "a message as the input": {"input": HumanMessage("q"), "chat_history": [("human", "a"), ("ai", "b")]},
    "both": {"messages": [AIMessage("b"), HumanMessage("q")], "chat_history": [HumanMessage("a")]},
}


@pytest.mark.parametrize("inputs", ASKED.values(), ids=list(ASKED))
def test_the_last_message_is_the_question(inputs: Any) -> None:
    assert [one.content for one in asked(None, inputs)[1:4]] == ["a", "b", "q"]


def test_a_question_may_hold_an_image() -> None:
    parts: Any = [{"type": "text", "text": "What is it?"}, PICTURE]
    assert asked(None, {"messages": [HumanMessage(parts)]})[1] == HumanMessage(parts)


def test_the_inputs_come_back_as_they_were_given() -> None:
    given = {**QUESTION, "chat_history": SAID}
    model = Scripted(turns=[final("17")])
    assert AgentExecutor.from_model(model, [look]).invoke(given) == {**given, "output": "17"}


def test_messages_of_a_run_are_the_history_of_the_next() -> None:
    model = Calling(turns=[reply("", [("look", '{"item": "x"}')]), reply("17"), reply("Yes.")])
    prompt = template(("system", "Help."), MessagesPlaceholder("chat_history"), HUMAN, STEPS)
    executor = AgentExecutor(create_react_json_agent(model, [look], prompt, mode="tools"), [look])
    said = [one for chunk in executor.stream({**QUESTION, "chat_history": []}) for one in chunk["messages"]]
    executor.invoke({"input": "sure?", "chat_history": [HumanMessage("q"), *said]})
    assert [one.type for one in model.requests[2]] == ["system", "human", "ai", "tool", "ai", "human"]


@pytest.mark.filterwarnings("ignore:.*(InMemoryChatMessageHistory|RunnableWithMessageHistory).*deprecated")
@pytest.mark.parametrize(
    "keys",
    [
        {"input_messages_key": "input", "history_messages_key": "chat_history"},
        {"input_messages_key": "input", "history_messages_key": "chat_history", "output_messages_key": "output"},
        {"input_messages_key": "input"},
        {"input_messages_key": "messages", "output_messages_key": "output"},
        {},
    ],
)
def test_a_talk_is_remembered(keys: dict[str, str]) -> None:
    model, stored = Scripted(turns=[final("Hello Ada"), final("Ada")]), InMemoryChatMessageHistory()
    talk = RunnableWithMessageHistory(AgentExecutor.from_model(model, [look]), lambda session: stored, **keys)  # type: ignore[arg-type]
    for question in ("I am Ada.", "Who am I?"):
        key, messages = keys.get("input_messages_key"), [HumanMessage(question)]
        inputs: Any = {key: question if key == "input" else messages} if key else messages
        talk.invoke(inputs, {"configurable": {"session_id": "1"}})
    assert [one.content for one in model.requests[1]][1:] == ["I am Ada.", "Hello Ada", "Who am I?"]
    assert [one.content for one in stored.messages] == ["I am Ada.", "Hello Ada", "Who am I?", "Ada"]


def test_a_history_is_recorded_and_replayed(tmp_path: Path) -> None:
    for turns in ([action("look", "x"), final("17")], []):
        model = Scripted(turns=turns)
        prompt = template(SYSTEM, MessagesPlaceholder("chat_history", optional=True), HUMAN, OPTIONAL_STEPS)
        executor = AgentExecutor.from_model(model, [look], prompt, cassette=tmp_path / "run.yaml")
        assert executor.invoke({**QUESTION, "chat_history": SAID})["output"] == "17"
