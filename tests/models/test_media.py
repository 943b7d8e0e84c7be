"""Images, sound and video in messages, on tiny random models with their own processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline

from . import media_models as media
from .conftest import build_llama, build_tokenizer

pytest.importorskip("PIL")
pytest.importorskip("soundfile")

BUILD = {"image": media.seeing, "audio": media.hearing, "video": media.watching}
CONTENT = {
    "image": (media.picture(0), media.picture(250)),
    "audio": (media.tone(300), media.tone(3000)),
    "video": (media.film(0), media.film(250)),
}
MIME = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}
FORMS: dict[str, Any] = {
    "v1 base64": lambda kind, data, path: {"type": kind, "base64": data, "mime_type": MIME[kind]},
    "v1 url": lambda kind, data, path: {"type": kind, "url": f"data:{MIME[kind]};base64,{data}"},
    "v0 base64": lambda kind, data, path: {
        "type": kind,
        "source_type": "base64",
        "data": data,
        "mime_type": MIME[kind],
    },
    "data address": lambda kind, data, path: {
        "type": f"{kind}_url",
        f"{kind}_url": {"url": f"data:{MIME[kind]};base64,{data}"},
    },
    "path": lambda kind, data, path: {"type": kind, "path": path},
    "file address": lambda kind, data, path: {"type": kind, "url": f"file://{path}"},
    "anthropic": lambda kind, data, path: {
        "type": kind,
        "source": {"type": "base64", "media_type": MIME[kind], "data": data},
    },
}


@pytest.fixture(scope="module")
def models() -> dict[str, ChatHuggingFace]:
    return {kind: build() for kind, build in BUILD.items()}


def question(*parts: dict[str, Any], text: str = "What is this <image>?") -> list[Any]:
    return [HumanMessage([{"type": "text", "text": text}, *parts])]


def part(kind: str, content: bytes, form: str = "v1 base64", path: str = "") -> dict[str, Any]:
    made: dict[str, Any] = FORMS[form](kind, media.in_base64(content), path)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILD)
def test_it_is_taken_in_every_form(kind: str, models: dict[str, ChatHuggingFace], tmp_path: Path) -> None:
    content = CONTENT[kind][0]
    file = tmp_path / f"it.{MIME[kind].partition('/')[2]}"
    file.write_bytes(content)
    forms = {form: part(kind, content, form, str(file)) for form in FORMS}
    if kind == "audio":
        forms["openai"] = {
            "type": "input_audio",
            "input_audio": {"data": media.in_base64(content), "format": "wav"},
        }
    answers = {form: models[kind].invoke(question(given)).content for form, given in forms.items()}
    assert len(set(answers.values())) == 1, answers


@pytest.mark.parametrize("kind", BUILD)
def test_what_is_shown_matters_and_is_computed_once(kind: str, models: dict[str, ChatHuggingFace]) -> None:
    model = models[kind]
    first, other, again = (
        model.invoke(question(part(kind, CONTENT[kind][n]), text="What is it?"), logprobs=True) for n in (0, 1, 0)
    )
    said = [[each["logprob"] for each in m.response_metadata["logprobs"]["content"]] for m in (first, other, again)]
    assert said[2] == pytest.approx(said[0], abs=1e-4)
    assert said[1] != pytest.approx(said[0], abs=1e-4)
    cached = [m.usage_metadata["input_token_details"]["cache_read"] for m in (first, other, again)]
    tokens = first.usage_metadata["input_tokens"]
    assert cached == [0, 0, tokens - 1]  # placeholders look alike, pictures do not


@pytest.mark.parametrize("kind", BUILD)
def test_streamed_awaited_and_in_a_batch_it_is_the_same(kind: str, models: dict[str, ChatHuggingFace]) -> None:
    model, questions = models[kind], [question(part(kind, content)) for content in CONTENT[kind]]
    whole = [model.invoke(each).content for each in questions]
    assert ["".join(str(c.content) for c in model.stream(each)) for each in questions] == whole
    assert [m.content for m in model.batch(questions)] == whole


async def test_awaited(models: dict[str, ChatHuggingFace]) -> None:
    asked = question(part("image", CONTENT["image"][0]))
    assert (await models["image"].ainvoke(asked)).content == models["image"].invoke(asked).content


def test_several_in_one_conversation(models: dict[str, ChatHuggingFace]) -> None:
    first, second = (part("image", content) for content in CONTENT["image"])
    conversation = [*question(first, second), AIMessage("Two."), *question(first, text="And this?")]
    one, three = models["image"].invoke(question(first)), models["image"].invoke(conversation)
    assert one.usage_metadata
    assert three.usage_metadata
    assert three.usage_metadata["input_tokens"] > one.usage_metadata["input_tokens"] + 8


def test_with_tools_and_roles_the_template_does_not_know(models: dict[str, ChatHuggingFace]) -> None:
    echo = {"name": "echo", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    seen = part("image", CONTENT["image"][0])
    bound = models["image"].bind_tools([{"type": "function", "function": echo}], tool_choice="echo")
    call = bound.invoke([SystemMessage("Be brief."), *question(seen)], max_new_tokens=90)
    assert [c["name"] for c in call.tool_calls] == ["echo"]
    result = ToolMessage([{"type": "text", "text": "a picture:"}, seen], tool_call_id=call.tool_calls[0]["id"])
    assert bound.invoke([*question(seen), call, result], max_new_tokens=90).tool_calls


@pytest.mark.parametrize("kind", BUILD)
def test_with_structured_output_stops_and_an_agents_grammar(kind: str, models: dict[str, ChatHuggingFace]) -> None:
    asked = question(part(kind, CONTENT[kind][0]))
    shape = {"title": "Seen", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    seen = models[kind].with_structured_output(shape).invoke(asked, max_new_tokens=60)
    assert isinstance(seen["n"], int)
    grammar = 'start: "Thought: " /[a-z]{3}/ "\\nObservation"'
    said = models[kind].invoke(asked, grammar=grammar, stop=["\nObservation"]).content
    assert str(said).startswith("Thought: ")
    assert len(str(said)) == 12


@pytest.mark.parametrize("kind", BUILD)
def test_text_alone_is_in_the_prompt_and_still_shares_its_beginning(
    kind: str, models: dict[str, ChatHuggingFace]
) -> None:
    model = models[kind]
    assert model._to_chat_prompt([HumanMessage("hello there")]) == (
        "<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\n"
    )
    model.invoke("hello there")
    usage = model.invoke("hello there").usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["cache_read"] > 0


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("image", part("audio", CONTENT["audio"][0]), "expected text and image, saw audio"),
        ("audio", part("video", b"x"), "expected text and audio, saw a video"),
        ("image", {"type": "file", "base64": "eA==", "mime_type": "application/pdf"}, "saw 'file'"),
        ("image", {"type": "image", "file_id": "f-1"}, "a url, a path, base64"),
        ("image", {"type": "image_url", "image_url": {"url": 5}}, "a url, a path, base64"),
        ("image", part("image", b"no image"), "that the model's processor can read"),
        ("audio", {"type": "audio", "path": "/nowhere.wav"}, "that the model's processor can read"),
        ("video", {"type": "video", "base64": "?", "mime_type": "video/mp4"}, "a video in base64"),
    ],
)
def test_what_cannot_be_taken_is_said(
    kind: str, given: dict[str, Any], says: str, models: dict[str, ChatHuggingFace]
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        models[kind].invoke(question(given))


def test_a_template_that_leaves_it_out_is_found_out() -> None:
    model = media.seeing()
    text_only = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    model.llm.tokenizer.chat_template = text_only
    again = ChatHuggingFace(llm=HuggingFacePipeline(model=model.llm.model, tokenizer=model.llm.tokenizer))
    with pytest.raises(ConfigurationError, match="a place for an image"):
        again.invoke(question(part("image", CONTENT["image"][0])))


@pytest.mark.slow
def test_a_template_of_the_tokenizers_own_and_a_thought_that_it_opens() -> None:
    model = media.seeing()
    processor = model.llm.tokenizer
    processor.tokenizer.chat_template, processor.chat_template = f"{processor.chat_template}<think>", None
    again = ChatHuggingFace(llm=HuggingFacePipeline(model=model.llm.model, tokenizer=processor))
    reply = again.invoke(question(part("image", CONTENT["image"][0])))
    assert reply.content == ""
    assert reply.additional_kwargs["reasoning_content"]


def test_a_model_of_text_says_so() -> None:
    tokenizer = build_tokenizer()
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    with pytest.raises(ConfigurationError, match="expected text only"):
        chat.invoke(question({"type": "image", "url": "https://example.org/a.png"}))


def test_a_model_that_sees_is_loaded_as_one(models: dict[str, ChatHuggingFace], tmp_path: Path) -> None:
    models["image"].llm.model.save_pretrained(tmp_path)
    models["image"].llm.tokenizer.save_pretrained(tmp_path)
    asked = question(part("image", CONTENT["image"][0]))
    again = ChatHuggingFace.from_model_id(str(tmp_path), pipeline_kwargs={"max_new_tokens": 12})
    assert again.invoke(asked).content == models["image"].invoke(asked).content
