"""Requests that a server refuses as they are, and takes when they are put otherwise."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agentkit import AgentExecutor
from agentkit.errors import ConfigurationError, ModelError, PromptTooLong
from agentkit.models.hosted.body import Lessons
from agentkit.models.hosted.limits import Context, TooLong, too_long
from agentkit.models.messages import CUT
from agentkit.react_json.scratchpad import DROPPED
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Play, Request, body, error, events, say
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


def refused(said: str, status: int = 400, **more: Any) -> Play:
    """As vLLM says it."""
    return body(json.dumps({"object": "error", "message": said, "code": status, **more}).encode(), status)


def test_googles_list_of_errors_is_its_message(server: ChatServer, chat: Make) -> None:
    listed = [{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}]
    server.plays = [body(json.dumps(listed).encode(), 400)]
    with pytest.raises(ModelError, match=r"answered HTTP 400: API key not valid$"):
        chat().invoke("hi")


@every_way
def test_a_format_at_which_a_server_breaks_is_asked_for_in_words(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.choose = lambda asked: error(500) if "response_format" in asked.body else say('{"a": 1}')
    assert ask(chat(), response_format={"type": "json_object"}).content == '{"a": 1}'
    assert "one JSON object" in server.bodies[1]["messages"][0]["content"]
    assert len(server.bodies) == 2


def test_a_server_that_breaks_in_any_case_says_nothing_of_the_format(server: ChatServer, chat: Make) -> None:
    server.plays = [error(500), error(500), say("{}")]
    assert chat().invoke("hi", response_format={"type": "json_object"}).content == "{}"
    assert ["response_format" in sent for sent in server.bodies] == [True, False, True]


@pytest.mark.parametrize(
    ("said", "status"), [("m does not support tools", 400), ("No endpoints support tool use.", 404)]
)
def test_an_agent_is_told_how_to_do_without_tools(server: ChatServer, chat: Make, said: str, status: int) -> None:
    server.plays = [refused(said, status)]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises((ConfigurationError, ModelError), match="mode='react-json'"):
        chat().bind_tools([tool]).invoke("hi")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Request too large for m: Limit 6000, Requested 7000. The input or output tokens must be reduced.", 429),
        ("输入文本过长，超过模型最大长度限制", 400),
        ("请求超出上下文长度", 400),
    ],
)
def test_a_refusal_for_length_is_one_in_any_words(server: ChatServer, chat: Make, said: str, status: int) -> None:
    server.choose = lambda asked: refused(said, status)
    with pytest.raises(PromptTooLong):
        chat(max_new_tokens=None).invoke("hi", shortens=False)


# -- a role ------------------------------------------------------------------------------------------------------------

TALK = [SystemMessage("Be brief."), HumanMessage("hi"), AIMessage("Hello."), HumanMessage("bye")]
FOLDED = [("user", "Be brief.\n\nhi"), ("assistant", "Hello."), ("user", "bye")]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("System role not supported", 400),  # vLLM, Gemma's template
        ("Jinja Exception: System role not supported", 500),  # llama.cpp
        ("Conversation roles must alternate user/assistant/user/assistant/...", 400),  # Mistral's first templates
        ("Only user and assistant roles are supported!", 400),
        ("Developer instruction is not enabled for models/gemma-3-27b-it", 400),  # Google
        ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", 400),  # OpenAI
        ("'system' is not one of ['user', 'assistant'] - 'messages.0.role'", 400),
        ("Invalid role: system", 422),
        ('[{"loc": ["body", "messages", 0, "role"], "msg": "Input should be \'user\' or \'assistant\'"}]', 422),
        ("system messages aren't supported by this model", 400),
        ("Expected the first message to be from the user", 400),
    ],
)
def test_a_refused_system_message_goes_with_the_first_of_the_user(
    server: ChatServer, chat: Make, said: str, status: int
) -> None:
    def choose(asked: Request) -> Play:
        has_system = any(message["role"] == "system" for message in asked.body["messages"])
        return refused(said, status) if has_system else say("hello")

    server.choose = choose
    model = chat()
    assert [model.invoke(TALK).content for _ in range(2)] == ["hello", "hello"]
    sent = [[(m["role"], m["content"]) for m in sent["messages"]] for sent in server.bodies]
    assert sent == [[("system", "Be brief."), ("user", "hi"), *FOLDED[1:]], FOLDED, FOLDED]


@every_way
def test_it_is_so_however_it_is_asked(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.choose = lambda asked: (
        refused("System role not supported") if asked.body["messages"][0]["role"] == "system" else say("hello")
    )
    assert ask(chat(), TALK).content == "hello"


def test_what_did_not_help_is_not_remembered(server: ChatServer, chat: Make) -> None:
    model = chat(max_retries=0)
    server.plays = [refused("System role not supported")]
    with pytest.raises(ModelError, match="System role not supported"):
        model.invoke(TALK)
    server.plays = [say("hello")]
    model.invoke(TALK)
    assert [sent["messages"][0]["role"] for sent in server.bodies] == ["system", "user", "system"]


def test_a_format_that_is_asked_for_in_words_needs_no_system_role(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        if "response_format" in asked.body:
            return refused("response_format is not supported")
        has_system = asked.body["messages"][0]["role"] == "system"
        return refused("System role not supported") if has_system else say('{"a": 1}')

    server.choose = choose
    assert chat().with_structured_output(method="json_mode").invoke("hi") == {"a": 1}
    (message,) = server.bodies[-1]["messages"]
    assert (message["role"], message["content"][:6], message["content"][-2:]) == ("user", "Answer", "hi")


# -- length ------------------------------------------------------------------------------------------------------------

SAID: list[tuple[str, int, dict[str, Any]]] = [
    (  # vLLM
        "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 1024 tokens "
        "and your request has 768 input tokens (512 > 1024 - 768).",
        512,
        {"room": 256, "prompt_tokens": 768, "context_tokens": 1024, "of_reply": True},
    ),
    (  # vLLM, OpenAI, DeepSeek
        "This model's maximum context length is 4096 tokens. However, you requested 4603 tokens (507 in the messages, "
        "4096 in the completion). Please reduce the length of the messages or completion.",
        4096,
        {"room": 3589, "prompt_tokens": 507, "context_tokens": 4096},
    ),
    (
        "This model's maximum context length is 4,097 tokens. However, you requested 4,203 tokens (3,000 in the "
        "messages, 703 in the functions, and 500 in the completion).",
        500,
        {"room": 394, "prompt_tokens": 3703, "context_tokens": 4097},
    ),
    (
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 35569 tokens.",
        512,
        {"prompt_tokens": 35569, "context_tokens": 4097},
    ),
    (
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided "
        "100000.",
        100000,
        {"most_tokens": 16384, "of_reply": True},
    ),
    (  # TGI
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3900 `inputs` tokens and "
        "512 `max_new_tokens`",
        512,
        {"room": 196, "prompt_tokens": 3900, "context_tokens": 4096, "of_reply": True},
    ),
    (
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
        512,
        {"prompt_tokens": 1500, "context_tokens": 1024},
    ),
    (  # SGLang
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
        "4603 tokens: 507 tokens from the input messages and 4096 tokens for the completion.",
        4096,
        {"room": 3589, "prompt_tokens": 507, "context_tokens": 4096},
    ),
    (  # Anthropic
        "input length and `max_tokens` exceed context limit: 180000 + 32000 > 200000, decrease input length",
        32000,
        {"room": 20000, "prompt_tokens": 180000, "context_tokens": 200000, "of_reply": True},
    ),
    (
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for this model",
        100000,
        {"most_tokens": 8192, "of_reply": True},
    ),
    (  # Groq
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
        "`context_window` for this model",
        32768,
        {"most_tokens": 8192, "of_reply": True},
    ),
    (  # DeepSeek
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        100000,
        {"most_tokens": 8192, "of_reply": True},
    ),
    (  # Google
        "Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 "
        "(inclusive) to 65537 (exclusive).",
        100000,
        {"most_tokens": 65536, "of_reply": True},
    ),
    (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        512,
        {"prompt_tokens": 1200000, "context_tokens": 1048576},
    ),
    (  # llama.cpp
        "request (14429 tokens) exceeds the available context size (8192 tokens), try increasing it",
        512,
        {"prompt_tokens": 14429, "context_tokens": 8192},
    ),
    (  # Mistral
        "Prompt contains 33000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        512,
        {"prompt_tokens": 33000, "context_tokens": 32768},
    ),
    ("Prompt exceeds max length", 512, {}),  # GLM
    ("the number of output tokens is over the limit of 256", 512, {"most_tokens": 256, "of_reply": True}),
    ("The sum of prompt and max_tokens is over the context window", 512, {"of_reply": True}),
]


@pytest.mark.parametrize(("said", "asked", "found"), SAID, ids=[said[:40] for said, _, _ in SAID])
def test_what_servers_say_of_length(said: str, asked: int, found: dict[str, Any]) -> None:
    read = too_long(said, asked=asked)
    assert read is not None
    assert {name: getattr(read, name) for name in found} == found
    assert found or read == TooLong()


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "'stop' too long",
        "System role not supported",
        "Unexpected fields in the request: {'stream_options'}",
        "model not found",
    ],
)
def test_what_is_not_said_of_length(said: str) -> None:
    assert too_long(said, asked=512) is None


def limited(most: int, say_so: Callable[[int], str], name: str = "max_tokens") -> Callable[[Request], Play]:
    """A server that gives replies of so many tokens."""
    return lambda asked: refused(say_so(asked.body[name])) if asked.body[name] > most else say("hello")


@every_way
@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (lambda n: f"max_tokens is too large: {n}. This model supports at most 256 completion tokens", [512, 256, 256]),
        (lambda n: f"'max_tokens' or 'max_completion_tokens' is too large: {n}", [512, 256, 512, 256]),
    ],
    ids=["of any reply", "of this one"],
)
def test_a_reply_is_asked_shorter(server: ChatServer, chat: Make, ask: Ask, said: Any, sent: list[int]) -> None:
    server.choose = limited(256, said)
    model = chat()
    assert [ask(model).content for _ in range(2)] == ["hello", "hello"]
    assert [one["max_tokens"] for one in server.bodies] == sent


def test_a_shorter_reply_is_asked_by_the_newer_name_too(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        if "max_tokens" in asked.body:
            return refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return limited(64, lambda n: f"max_completion_tokens is too large: {n}, at most 64", "max_completion_tokens")(
            asked
        )

    server.choose = choose
    assert chat(max_new_tokens=100).invoke("hi").content == "hello"
    assert [sent.get("max_completion_tokens") for sent in server.bodies] == [None, 100, 64]


def test_a_limit_that_no_reply_keeps_is_an_error(server: ChatServer, chat: Make) -> None:
    server.plays = [refused("max_tokens is too large: this model's context is full")]
    with pytest.raises(ModelError, match="max_tokens is too large"):
        chat().invoke("hi")
    assert [sent["max_tokens"] for sent in server.bodies] == [512, 256, 128, 64, 32, 16]


def with_context(tokens: int, text: str = "hello") -> Callable[[Request], Play]:
    """A server whose context has so many tokens, of four characters."""

    def choose(asked: Request) -> Play:
        prompt = len(json.dumps(asked.body["messages"])) // 4
        if prompt < tokens:
            return say(text)
        said = f"request ({prompt} tokens) exceeds the available context size ({tokens} tokens), try increasing it"
        return error(400, said)

    return choose


def conversation(*observed: str) -> list[Any]:
    messages: list[Any] = [SystemMessage("Use tools."), HumanMessage("What is it?")]
    for number, text in enumerate(observed):
        call = {"name": "look", "args": {}, "id": f"call{number:05}"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage(text, tool_call_id=call["id"])]
    return messages


@every_way
def test_the_oldest_observations_are_dropped_where_the_prompt_is_too_long(
    server: ChatServer, chat: Make, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    server.choose = with_context(2400)
    with caplog.at_level(logging.WARNING, logger="agentkit"):
        reply = ask(chat(), conversation(*["x" * 600] * 14))
    assert (reply.content, reply.response_metadata["dropped_to_fit"]) == ("hello", {"observations": 8, "messages": 0})
    sent = [message["content"] for message in server.bodies[-1]["messages"] if message["role"] == "tool"]
    assert sent == [DROPPED] * 8 + ["x" * 600] * 6
    assert [record.getMessage() for record in caplog.records] == [
        f"{server.url} reads no prompt as long as this: without 8 observations of it"
    ]


@every_way
def test_a_context_that_was_met_once_is_not_run_into_again(
    server: ChatServer, chat: Make, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    server.choose = with_context(2400)
    model, told = chat(), f"{server.url} reads no prompt as long as this: without %s of it"
    with caplog.at_level(logging.WARNING, logger="agentkit"):
        replies = [ask(model, conversation(*["x" * 600] * count)) for count in (14, 15, 4, 18)]
    dropped = [reply.response_metadata.get("dropped_to_fit") for reply in replies]
    assert [parts and parts["observations"] for parts in dropped] == [8, 12, None, 16]
    assert [record.getMessage() for record in caplog.records] == [
        told % f"{count} observations" for count in (8, 12, 16)
    ]
    assert len(server.bodies) == 5  # one of them was refused


@every_way
def test_a_prompt_that_is_not_to_be_shortened_is_told_of(server: ChatServer, chat: Make, ask: Ask) -> None:
    """Once by the server; then it is foreseen, also of a prompt that came to the same in another way."""
    server.choose = with_context(2400)
    model = chat()
    counted = []
    for count in (14, 14, 15):
        with pytest.raises(PromptTooLong) as raised:
            ask(model.bind(shortens=False), conversation(*["x" * 600] * count))
        assert raised.value.context_tokens == 2400
        counted.append(raised.value.prompt_tokens)
    assert counted == [len(json.dumps(server.bodies[0]["messages"])) // 4] * 2 + [
        pytest.approx(counted[0] * 15 / 14, 0.01)
    ]
    assert len(server.bodies) == 1
    assert ask(model.bind(shortens=False), conversation("x")).content == "hello"


def test_a_context_that_counts_the_reply_is_not_run_into_again(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        prompt, reply = len(json.dumps(asked.body["messages"])) // 4, asked.body["max_tokens"]
        if prompt + reply <= 2400:
            return say("hello", usage={"prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3})
        return refused(
            f"This model's maximum context length is 2400 tokens. However, you requested {prompt + reply} tokens "
            f"({prompt} in the messages, {reply} in the completion)."
        )

    server.choose = choose
    model = chat(max_new_tokens=1000)
    for count in (11, 12, 13, 14, 2):
        assert model.invoke(conversation(*["x" * 600] * count)).content == "hello"
    assert [sent["max_tokens"] for sent in server.bodies] == [1000, 162, 1000, 828, 617, 1000]


def test_a_context_is_forgotten_where_a_longer_prompt_was_taken(server: ChatServer, chat: Make) -> None:
    model = chat()
    long, longer = conversation(*["x" * 600] * 8), [HumanMessage("z" * 9000)]
    server.choose = with_context(1000)
    model.invoke(long)
    server.choose = lambda asked: say("hello", usage={"prompt_tokens": len(json.dumps(asked.body["messages"])) // 4})
    dropped = [model.invoke(asked).response_metadata.get("dropped_to_fit") for asked in (long, longer, long)]
    assert [parts and parts["observations"] for parts in dropped] == [7, None, None]


@every_way
@pytest.mark.parametrize(("tokens", "dropped"), [(4000, [7, 7, None, None]), (1000, [7, 7, 7, 7])])
def test_whether_a_context_has_grown_is_tested_now_and_then(
    server: ChatServer, chat: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch, tokens: int, dropped: list[int | None]
) -> None:
    """By a server, too, that does not count its tokens."""
    monkeypatch.setattr("agentkit.models.hosted.model.TESTED_AFTER", 2)
    model, long, seen = chat(), conversation(*["x" * 600] * 8), []
    server.choose = with_context(1000)
    for _ in dropped:
        reply = ask(model, long).response_metadata.get("dropped_to_fit")
        seen.append(reply and reply["observations"])
        server.choose = with_context(tokens)
    assert seen == dropped
    assert len(server.bodies) == (5 if tokens == 4000 else 6)  # what is tested may be refused


@pytest.mark.parametrize(
    ("usage", "dropped"),
    [
        ({"prompt_tokens": 900, "completion_tokens": 101}, None),
        ({"prompt_tokens": 900, "completion_tokens": 100}, 8),
    ],
)
def test_a_context_is_forgotten_where_a_reply_went_past_it(
    server: ChatServer, chat: Make, usage: dict[str, int], dropped: int | None
) -> None:
    model, long = chat(), conversation(*["x" * 600] * 9)
    counted = "maximum context length is 1000 tokens. However, you requested 1412 tokens (900 in the messages, 512 in"
    server.plays = [refused(counted), say("hello", usage=usage), say("hello", usage=None)]
    model.invoke("x" * 3600)
    parts = model.invoke(long).response_metadata.get("dropped_to_fit")
    assert (parts and parts["observations"]) == dropped


@pytest.mark.parametrize(("name", "dropped"), [("served", 7), ("another", None)])
def test_a_context_is_that_of_the_model_that_answered(
    server: ChatServer, chat: Make, name: str, dropped: int | None
) -> None:
    """Which may be another by now, also where it is asked by the same name."""
    model, long = chat(model="org/name"), conversation(*["x" * 600] * 8)
    server.choose = with_context(1000)
    model.invoke(long)
    server.choose = None
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    server.plays = [body(json.dumps({"model": name, "choices": [choice]}).encode())]
    model.invoke("hi")
    parts = model.invoke(long).response_metadata.get("dropped_to_fit")
    assert (parts and parts["observations"]) == dropped


def test_what_one_model_does_not_take_is_not_believed_of_another(server: ChatServer, chat: Make) -> None:
    """Also behind one name, as a router has it."""
    model = chat(model="auto")

    def choose(asked: Request) -> Play:
        has_system = any(message["role"] == "system" for message in asked.body["messages"])
        name = "B" if len(server.bodies) > 2 else "A"
        choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        answer = body(json.dumps({"model": name, "choices": [choice]}).encode())
        return refused("System role not supported") if has_system and name == "A" else answer

    server.choose = choose
    for _ in range(3):
        model.invoke(TALK)
    assert [sent["messages"][0]["role"] for sent in server.bodies] == ["system", "user", "user", "system"]


CONTEXTS = {
    tokens: Lessons(context=Context(tokens=tokens, per_character=0.25, counts_reply=False)) for tokens in (1000, 2000)
}
MEASURED = Lessons(context=Context(tokens=1000, per_character=0.3, counts_reply=False))


@pytest.mark.parametrize(
    ("now", "before", "after", "then"),
    [
        (Lessons(), Lessons(), CONTEXTS[1000], CONTEXTS[1000]),
        (CONTEXTS[1000], CONTEXTS[1000], MEASURED, MEASURED),
        (CONTEXTS[1000], CONTEXTS[1000], Lessons(), Lessons()),
        (Lessons(), CONTEXTS[1000], CONTEXTS[1000], Lessons()),  # another request showed that it is wrong
        (Lessons(), CONTEXTS[1000], MEASURED, Lessons()),
        (Lessons(), CONTEXTS[1000], CONTEXTS[2000], CONTEXTS[2000]),
        (
            Lessons(refused=frozenset({"stop"}), base=1),
            Lessons(),
            Lessons(refused=frozenset({"seed"}), folds_system=True),
            Lessons(refused=frozenset({"stop", "seed"}), folds_system=True, base=1),
        ),
    ],
)
def test_what_requests_that_overlap_teach(now: Lessons, before: Lessons, after: Lessons, then: Lessons) -> None:
    assert now.taught(before, after) == then


def test_a_picture_is_not_taken_for_a_long_text(server: ChatServer, chat: Make) -> None:
    server.choose = with_context(2400)
    model = chat()
    model.invoke(conversation(*["x" * 600] * 14))
    server.choose = None
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    asked = [*conversation(*["x" * 600] * 4), HumanMessage([picture])]
    assert "dropped_to_fit" not in model.invoke(asked).response_metadata


def test_a_run_meets_the_context_once(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        turns = sum(message["role"] == "assistant" for message in asked.body["messages"])
        said = final("Books.") if "page 11" in str(asked.body["messages"][-1]) else action("read", {"page": turns})
        return with_context(2400, said)(asked)

    def read(page: int) -> str:
        """Reads a page."""
        return f"page {page}: " + "word " * 120

    server.choose = choose
    executor = AgentExecutor.from_model(chat(), tools=[read], mode="react-json", max_iterations=20)
    assert executor.invoke({"input": "What is it?"})["output"] == "Books."
    assert len(server.bodies) == 13 + 1


def test_an_observation_that_is_too_long_by_itself_is_cut(server: ChatServer, chat: Make) -> None:
    server.choose = with_context(1000)
    reply = chat().invoke(conversation("y" * 9000))
    assert reply.content == "hello"
    sent = server.bodies[-1]["messages"]
    assert [message["content"] for message in sent[:2]] == ["Use tools.", "What is it?"]
    assert sent[3]["content"] == "y" * (9000 - reply.response_metadata["dropped_to_fit"]["characters"]) + CUT


def test_a_question_that_is_too_long_is_an_error(server: ChatServer, chat: Make) -> None:
    server.choose = with_context(1000)
    with pytest.raises(ModelError, match="exceeds the available context size"):
        chat().invoke("z" * 9000)


def test_a_stream_that_begins_with_the_refusal_is_mended_too(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        said = {"code": 400, "message": "request (2250 tokens) exceeds the available context size (1000 tokens)"}
        return events({"error": said}) if len(str(asked.body)) > 4000 else say("hello")

    server.choose = choose
    assert WAYS["stream"](chat(), conversation("y" * 9000)).content == "hello"


def test_a_run_goes_on_after_an_observation_that_is_too_long(server: ChatServer, chat: Make) -> None:
    def choose(asked: Request) -> Play:
        if len(str(asked.body["messages"])) > 6000:
            return refused("the input is too long", code="context_length_exceeded")
        seen = any("Observation" in str(message["content"]) for message in asked.body["messages"][1:])
        return say(final("A book.") if seen else action("read", {"page": 1}))

    def read(page: int) -> str:
        """Reads a page."""
        return "word " * 4000

    server.choose = choose
    executor = AgentExecutor.from_model(chat(), tools=[read], mode="react-json")
    assert executor.invoke({"input": "What is it?"})["output"] == "A book."


def test_a_value_that_was_cut_off_is_not_asked_for_with_itself_appended(server: ChatServer, chat: Make) -> None:
    server.plays = [say('{"a": ', finish="length")]
    with pytest.raises(Exception, match="The reply was cut off at 3 tokens, before its JSON was whole"):
        chat().with_structured_output(method="json_mode").invoke("hi")
    assert len(server.requests) == 1


def test_a_field_is_not_called_unknown_by_a_name_that_it_was_given_here(server: ChatServer, chat: Make) -> None:
    server.choose = lambda asked: refused("'max_tokens' or 'max_completion_tokens' is too large: 9")
    with pytest.raises(ModelError, match="is too large"):
        chat(max_new_tokens=9).invoke("hi")
    assert [sorted(sent) for sent in server.bodies] == [["max_tokens", "messages", "stream"]]


def test_an_option_that_cannot_be_left_out_is_named_without_keys(server: ChatServer, chat: Make) -> None:
    server.plays = [refused("top_k is not supported; your key sk-abcdef0123456789abcdef was fine")]
    with pytest.raises(ConfigurationError, match="does not take top_k: leave it out") as caught:
        chat(top_k=3).invoke("hi")
    assert "0123456789" not in str(caught.value)
