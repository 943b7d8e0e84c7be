"""Tiny random models that see, hear and watch, each with the processor of its kind, and things to show them."""

from __future__ import annotations

import base64
import io
from typing import Any

from agentkit.models import ChatHuggingFace, HuggingFacePipeline

from .conftest import build_llama, build_tokenizer

TEMPLATE = """
{%- for message in messages %}<|im_start|>{{ message.role }}
{% for part in message.content %}
{%- if part.type == 'text' %}{{ part.text }}{% else %}{{ '<' + part.type + '>' }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PIXELS = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def picture(shade: int) -> bytes:
    """A PNG of one colour."""
    return _drawn([shade], "PNG")


def film(shade: int) -> bytes:
    """Four frames, as an animation."""
    return _drawn([shade, 0, shade, 255], "GIF")


def _drawn(shades: list[int], kind: str) -> bytes:
    from PIL import Image

    frames = [Image.new("RGB", (28, 28), (shade, 255 - shade, shade // 2)) for shade in shades]
    out = io.BytesIO()
    frames[0].save(out, format=kind, **({"save_all": True, "append_images": frames[1:]} if frames[1:] else {}))
    return out.getvalue()


def tone(pitch: int) -> bytes:
    """A fifth of a second of a pure tone, as WAV, at a rate the models have to convert."""
    import numpy
    import soundfile

    rate = 8_000
    out = io.BytesIO()
    soundfile.write(out, numpy.sin(numpy.arange(rate // 5) * pitch * 2 * numpy.pi / rate), rate, format="WAV")
    return out.getvalue()


def seeing() -> ChatHuggingFace:
    """LLaVA."""
    import transformers

    tokenizer = _tokenizer("<image>")
    config = transformers.LlavaConfig(
        vision_config=_eye(), text_config=build_llama(tokenizer).config, image_token_id=_id(tokenizer, "<image>")
    )
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(**PIXELS),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return _chat(transformers.LlavaForConditionalGeneration, config, processor)


def hearing() -> ChatHuggingFace:
    """Qwen2-Audio."""
    import transformers

    tokenizer = _tokenizer("<audio>", "<|audio_bos|>", "<|audio_eos|>")
    audio = {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 16,
        "max_source_positions": 50,
        "initializer_range": 0.5,
    }
    text = {**SHAPE, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "initializer_range": 0.5}
    config = transformers.Qwen2AudioConfig(
        audio_config=audio, text_config=text, audio_token_index=_id(tokenizer, "<audio>")
    )
    processor = transformers.Qwen2AudioProcessor(
        feature_extractor=transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
        audio_token="<audio>",
    )
    return _chat(transformers.Qwen2AudioForConditionalGeneration, config, processor)


def watching() -> ChatHuggingFace:
    """Video-LLaVA. transformers' video processors need torchvision, so the frames are read with Pillow here."""
    import transformers

    tokenizer = _tokenizer("<image>", "<video>")
    config = transformers.VideoLlavaConfig(
        vision_config=_eye(),
        text_config=build_llama(tokenizer).config,
        image_token_index=_id(tokenizer, "<image>"),
        video_token_index=_id(tokenizer, "<video>"),
    )

    class Processor(transformers.VideoLlavaProcessor):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return type(argument)

        def _process_videos(self, videos: Any, **_options: Any) -> Any:
            import torch

            pixels = [self.image_processor(_frames(one), return_tensors="pt")["pixel_values"] for one in videos[0]]
            inputs = {"pixel_values_videos": torch.stack(pixels)}
            return inputs, [self.replace_video_token(inputs, n) for n in range(len(pixels))]

    processor = Processor(
        image_processor=transformers.CLIPImageProcessorPil(**PIXELS),
        video_processor=transformers.CLIPImageProcessorPil(**PIXELS),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=TEMPLATE,
    )
    return _chat(transformers.VideoLlavaForConditionalGeneration, config, processor)


def _frames(path: str) -> list[Any]:
    from PIL import Image, ImageSequence

    with Image.open(path) as animation:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]


def _tokenizer(*placeholders: str) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *placeholders]})
    tokenizer.chat_template = None  # it is the processor's
    return tokenizer


def _id(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _eye() -> Any:
    import transformers

    return transformers.CLIPVisionConfig(image_size=28, patch_size=14, initializer_factor=5.0, **SHAPE)


def _chat(architecture: Any, config: Any, processor: Any) -> ChatHuggingFace:
    import torch

    torch.manual_seed(0)
    config.eos_token_id = processor.tokenizer.eos_token_id
    llm = HuggingFacePipeline(
        model=architecture(config).eval(), tokenizer=processor, pipeline_kwargs={"max_new_tokens": 12}
    )
    return ChatHuggingFace(llm=llm)
