"""Images in messages, on tiny random model with its own processor."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline

from .conftest import build_llama, build_tokenizer

TEMPLATE = """
{%- for message in messages %}<|im_start|>{{ message.role }}
{% for part in message.content %}
{%- if part.type == 'text' %}{{ part.text }}{% else %}{{ '<' + part.type + '>' }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}<|im_start|>assistant
"""
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def picture(shade: int) -> str:
    image = pytest.importorskip("PIL.Image").new("RGB", (28, 28), (shade, 255 - shade, shade // 2))
    out = io.BytesIO()
    image.save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def seeing() -> ChatHuggingFace:
    pytest.importorskip("PIL")
    import torch
    import transformers

    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<image>"]})
    text = build_llama(tokenizer).config
    vision = transformers.CLIPVisionConfig(image_size=28, patch_size=14, initializer_factor=5.0, **SHAPE)
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    config.eos_token_id = tokenizer.eos_token_id
    model = transformers.LlavaForConditionalGeneration(config).eval()
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    llm = HuggingFacePipeline(model=model, tokenizer=processor, pipeline_kwargs={"max_new_tokens": 12})
    return ChatHuggingFace(llm=llm)


def question(*parts: dict[str, Any]) -> list[Any]:
    return [HumanMessage([{"type": "text", "text": "What is this <image>?"}, *parts])]


@pytest.mark.parametrize(
    "part",
    [
        lambda data: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        lambda data: {"type": "image", "base64": data, "mime_type": "image/png"},
    ],
)
def test_an_image_is_seen(seeing: ChatHuggingFace, part: Any) -> None:
    local = seeing.llm.local
    answers = []
    for shade in (0, 250, 0):
        reply = seeing.invoke(question(part(picture(shade))))
        answers.append(reply.content)
        assert reply.usage_metadata is not None
        assert (
            reply.usage_metadata["input_token_details"]["cache_read"] == 0
        )  # placeholders look alike, pictures do not
    assert answers[0] == answers[2] != answers[1]
    assert local.prefixes.tokens == 0


def test_text_alone_still_shares_its_beginning(seeing: ChatHuggingFace) -> None:
    seeing.invoke("hello there")
    usage = seeing.invoke("hello there").usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["cache_read"] > 0


def test_a_model_of_text_says_so() -> None:
    tokenizer = build_tokenizer()
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    with pytest.raises(ConfigurationError, match="expected text only"):
        chat.invoke(question({"type": "image", "url": "https://example.org/a.png"}))
