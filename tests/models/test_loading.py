"""Loading: what can be passed, and one clear line for everything that goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from langchain_core.messages import HumanMessage

from agentkit.errors import AgentkitError, ConfigurationError, ModelError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.loading import loading_errors

from .conftest import build_llama, build_tokenizer

QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]


def nf4() -> Any:
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype="float32",
        bnb_4bit_use_double_quant=True,
    )


@pytest.mark.filterwarnings("ignore")  # bitsandbytes
@pytest.mark.parametrize("options", [{"quantization": "nf4"}, {"model_kwargs": {"quantization_config": None}}])
def test_four_bits(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    tokenizer = build_tokenizer()
    build_llama(tokenizer, hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    if "model_kwargs" in options:
        options = {"model_kwargs": {"quantization_config": nf4()}}
    llm = HuggingFacePipeline.from_model_id(str(tmp_path), **options)
    assert llm.model.is_loaded_in_4bit
    assert ChatHuggingFace(llm=llm).invoke(QUESTION, max_new_tokens=5).usage_metadata


def test_a_ready_pipeline_keeps_its_options(model_folder: Path) -> None:
    ready = transformers.pipeline("text-generation", model=str(model_folder), device="cpu")
    llm = HuggingFacePipeline(pipeline=ready, pipeline_kwargs={"max_new_tokens": 7})
    reply = ChatHuggingFace(llm=llm).invoke(QUESTION)
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] <= 7


def test_an_llm_completes_text(model_folder: Path) -> None:
    options = {"max_new_tokens": 9, "return_full_text": True}
    llm = HuggingFacePipeline.from_model_id(str(model_folder), pipeline_kwargs=options)
    texts = ["What is", "<s>What is", "Who"]
    done = llm.batch(texts)
    assert [t.startswith(text) for t, text in zip(done, texts, strict=True)] == [True] * 3
    assert done[0] == done[1].removeprefix("<s>")  # one BOS either way
    assert "".join(llm.stream("What is")) == done[0].removeprefix("What is")


def test_an_encoder_decoder_answers(tmp_path: Path) -> None:
    import torch

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_ff=64,
        d_kv=8,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = HuggingFacePipeline.from_model_id(str(tmp_path), task="text2text-generation")
    reply = ChatHuggingFace(llm=llm).invoke(QUESTION, max_new_tokens=6)
    assert reply.usage_metadata is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model_id": "/nowhere/at/all"}, "no such folder"),
        ({"model_id": "."}, "without config.json"),
        ({"model_id": "FOLDER", "task": "poetry"}, "expected a task of text-generation"),
        ({"model_id": "FOLDER", "device": 0, "device_map": "auto"}, "device or device_map"),
        ({"model_id": "FOLDER", "quantization": "nf3"}, "'nf4' or 'int8'"),
        ({"model_id": ""}, "expected a model_id"),
    ],
)
def test_wrong_use(options: dict[str, Any], says: str, model_folder: Path) -> None:
    options["model_id"] = options["model_id"].replace("FOLDER", str(model_folder))
    with pytest.raises(ConfigurationError, match=says):
        HuggingFacePipeline.from_model_id(**options)


def test_an_option_nobody_knows(model_folder: Path) -> None:
    with pytest.raises(ValueError, match="quantisation"):
        HuggingFacePipeline.from_model_id(str(model_folder), quantisation="nf4")
    chat = ChatHuggingFace.from_model_id(str(model_folder))
    with pytest.raises(ConfigurationError, match="temprature"):
        chat.invoke(QUESTION, temprature=0.5)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (ImportError("no module", name="bitsandbytes"), ConfigurationError, r"bitsandbytes; run pip install"),
        (MemoryError(), ModelError, "quantization='nf4'"),
        (RuntimeError("CUDA out of memory"), ModelError, "a smaller model"),
        (OSError("You are trying to access a gated repo."), ConfigurationError, "set HF_TOKEN"),
        (OSError("x is not a valid model identifier"), ConfigurationError, "check the name"),
        (ValueError("Unrecognized model\nin x"), ConfigurationError, "Unrecognized model in x"),
    ],
)
def test_what_goes_wrong_while_loading(error: Exception, kind: type[AgentkitError], says: str) -> None:
    with pytest.raises(kind, match=says), loading_errors("org/name"):
        raise error
