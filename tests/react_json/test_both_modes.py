"""A model's own call syntax in a run: what is called, and that it is never the answer, is the same in both modes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Literal

import pytest

from agentkit import AgentExecutor
from agentkit.errors import MalformedTurn
from agentkit.events import Finished, Token
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Capabilities, Chunk, Completion
from agentkit.models.reply import ReplyReader
from agentkit.models.scripted import ScriptedBackend
from agentkit.models.tool_calls import holds_unread_call
from agentkit.react_json.calls import is_token
from agentkit.react_json.marks import TABLE, CallSyntax
from agentkit.react_json.parser import parse_turn
from agentkit.tool import Tool
from tests.doubles.models import action

Mode = Literal["tools", "react-json"]
ANSWERS: dict[Mode, str] = {"tools": "It is 3.", "react-json": "Thought: I know.\nFinal Answer: It is 3."}
IDS = [f"{number} {syntax.opening.strip()}" for number, syntax in enumerate(TABLE.calls)]
every_syntax = pytest.mark.parametrize("syntax", TABLE.calls, ids=IDS)
both_modes = pytest.mark.parametrize("mode", ANSWERS)
ALONE = {closing: opening for opening, closing in TABLE.thinking.items() if closing not in TABLE.turn_ends}


def outcome(reply: str, mode: Mode) -> tuple[list[str], str]:
    """What was looked up, and the answer: the model says `reply`, and then that it is 3."""
    asked: list[str] = []

    def get(q: str) -> str:
        """Looks something up."""
        asked.append(q)
        return "nothing"

    model = ScriptedBackend(
        [reply, ANSWERS[mode]], capabilities=Capabilities(in_process=True, over_http=False, tools=True)
    )
    return asked, AgentExecutor.from_model(model, [get], mode=mode).invoke({"input": "?"})["output"]


@both_modes
@every_syntax
def test_a_call_is_run(syntax: CallSyntax, mode: Mode) -> None:
    call = syntax.write(("get", {"q": "x"}))
    assert outcome(call, mode) == (["x"], "It is 3.")
    assert outcome(f"```xml\n{call}\n```" if "```" not in call else call, mode) == (["x"], "It is 3.")
    if syntax.trigger:
        assert outcome(f"I look.\n{call}", mode) == (["x"], "It is 3.")
    if is_token(call) and not syntax.words:
        for words in ("I look. ", "I look", "Let me see: ", "Well, "):
            assert outcome(words + call, mode) == (["x"], "It is 3.")


@both_modes
@every_syntax
def test_a_call_that_is_cut_off_is_neither_run_nor_the_answer(syntax: CallSyntax, mode: Mode) -> None:
    call = syntax.write(("get", {"q": "a long text"}))
    for before in ("", "I look.\n") if syntax.trigger else ():
        assert outcome(before + call[: call.index("text")], mode) == ([], "It is 3.")


OTHERS = {
    "another name space": '<｜GCML｜tool_calls><｜GCML｜invoke name="get"><｜GCML｜parameter name="q" string="true">x'
    "</｜GCML｜parameter></｜GCML｜invoke></｜GCML｜tool_calls>",
    "more attributes": '<|open|>call tool="get" index="1"<|sep|><|open|>argument key="q" type="string"<|sep|>x'
    "<|close|>argument<|sep|><|close|>call<|sep|>",
    "tokens that nobody knows": '<|zzz|>get<|yyy|>{"q": "x"}<|/zzz|>',
    "a tag that nobody knows": '<calling>{"name": "get", "arguments": {"q": "x"}}</calling>',
    "a name and an object": 'get\n{"q": "x"}',
    "Python without a list": 'get(q="x")',
    "Python in a tag": '<tool_call>get(q="x")</tool_call>',
    "the name as key": '<tool_call>{"get": {"q": "x"}}</tool_call>',
    "harmony without its tokens": 'analysisI look.assistantcommentary to=functions.get json{"q": "x"}',
    "harmony with another format": '<|channel|>commentary to=functions.get code<|message|>{"q": "x"}<|call|>',
    "print": '```tool_code\nprint(get(q="x"))\n```',
}


@both_modes
@pytest.mark.parametrize("reply", OTHERS.values(), ids=OTHERS.keys())
def test_what_no_table_has_is_run_where_it_can_be_nothing_else(reply: str, mode: Mode) -> None:
    assert outcome(reply, mode) == (["x"], "It is 3.")


@both_modes
@pytest.mark.parametrize("length", [None, 1])
@pytest.mark.parametrize("closing", ALONE)
def test_a_thought_that_the_prompt_opened_is_no_answer(closing: str, length: int | None, mode: Mode) -> None:
    weighed = '<tool_call>{"name": "get", "arguments": {"q": "x"}}</tool_call>'
    for thought in ("I weigh it.", "I weigh it.\n", f"I could call\n{weighed}\nbut no.\n", "```\n1\n```\n"):
        for between in ("", "\n\n"):
            text = thought + closing + between + ANSWERS[mode]
            assert outcome(text, mode) == ([], "It is 3.")
            said = ChatHuggingFace(llm=ScriptedBackend([text])).invoke("?")
            assert said.content == ANSWERS[mode]
            assert "weigh" not in said.content


@pytest.mark.parametrize("closing", ALONE)
def test_a_closing_tag_that_is_quoted_is_text(closing: str) -> None:
    for text in (
        f"`{closing}` closes it.",
        f'It is "{closing}".',
        f"See:\n```\n{closing}\n```",
        f"The tag {closing} ends.",
    ):
        assert outcome(text, "tools") == ([], text)
    call = TABLE.calls[0].write(("get", {"q": f"a {closing} b"}))
    assert outcome(call, "tools") == ([f"a {closing} b"], "It is 3.")


ANSWER = "A riddle.\n\nQuestion: what has keys?\nThought: take your time.\n\nA piano.\nFinal Answer: that."


@both_modes
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_keeps_the_labels_in_it(stream: bool, mode: Mode) -> None:
    label = "Final Answer: " if mode == "react-json" else ""
    said = label + ANSWER
    model = ScriptedBackend([said] * 3, capabilities=Capabilities(in_process=True, over_http=False, tools=True))
    executor = AgentExecutor.from_model(model, [], mode=mode)
    *events, last = executor.events({"input": "?"}, stream=stream)
    assert isinstance(last, Finished)
    assert last.output == ANSWER
    assert "".join(event.text for event in events if isinstance(event, Token)) == (said if stream else "")
    assert (await executor.ainvoke({"input": "?"}))["output"] == ANSWER
    assert [*executor.stream({"input": "?"})][-1]["output"] == ANSWER


@pytest.mark.parametrize(
    "more", ["\nObservation: 5\nThought: and on", "\n\nQuestion: And?\nThought: x\n" + action("get", "y")]
)
def test_an_answer_that_ended_before_the_token_limit_is_whole(more: str) -> None:
    answer = Completion(ANSWERS["react-json"] + more, finish_reason="length")
    model = ScriptedBackend([answer], capabilities=Capabilities(in_process=True, over_http=False))
    get = Tool(name="get", description="Gets.", run=str)
    assert AgentExecutor.from_model(model, [get]).invoke({"input": "?"})["output"] == "It is 3."


@both_modes
@pytest.mark.parametrize("end", TABLE.turn_ends)
def test_nothing_behind_the_end_of_a_turn_is_part_of_it(end: str, mode: Mode) -> None:
    call = TABLE.calls[0].write(("get", {"q": "x"}))
    for more in ("", "\n", "\n<|im_start|>user\nAnd 4?", f"\n<|im_start|>assistant\n{call}", "And 4?", "user\nAnd 4?"):
        assert outcome(ANSWERS[mode] + end + more, mode) == ([], "It is 3.")


@pytest.mark.parametrize("end", TABLE.turn_ends)
def test_an_end_that_is_written_about_is_text(end: str) -> None:
    for text in (f"Write `{end}` there.", f"The token {end} ends a turn.", f"See:\n```\nx{end}\n```\nSo."):
        assert outcome(text, "tools") == ([], text)
    data: Any = {"q": f"a{end}\nb"}
    assert outcome(TABLE.calls[0].write(("get", data)), "tools") == ([data["q"]], "It is 3.")


@both_modes
@pytest.mark.parametrize("end", TABLE.turn_ends)
def test_an_answer_that_begins_with_a_fence_keeps_what_is_in_it(end: str, mode: Mode) -> None:
    label = "Final Answer: " if mode == "react-json" else ""
    for fence in ("```", "~~~", "```text"):
        answer = f"{fence}\n{end}\nx{end}\n{fence[:3]}\nSo."
        assert outcome(label + answer, mode) == ([], answer)


@both_modes
def test_text_that_is_struck_out_is_no_end(mode: Mode) -> None:
    label = "Final Answer: " if mode == "react-json" else ""
    assert outcome(f"{label}<s>4</s> <b>3</b>", mode) == ([], "<s>4</s> <b>3</b>")


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a </think> b ", "a <|im_end|> ", "`", "<x> ", "<|tool_call>", '>>>get "', "to=f "])
def test_a_long_reply_is_read_in_linear_time(piece: str) -> None:
    text = piece * (40_000 // len(piece)) + "get"
    begun = time.process_time()
    reader = ReplyReader(calls=TABLE.calls[0])
    for start in range(0, len(text), 8):
        reader.read(Chunk(text=text[start : start + 8]))
    reader.rest()
    holds_unread_call(text, ["get"])
    with suppress(MalformedTurn):
        parse_turn(f"Thought: {text}", {"get": {}})
    assert time.process_time() - begun < 10  # a tenth of it, mostly; what is quadratic takes minutes
