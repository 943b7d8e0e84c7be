"""Loading: what can be passed, and one clear line for everything that goes wrong."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from langchain_core.load import dumps, loads
from langchain_core.messages import HumanMessage

from agentkit.errors import AgentkitError, ConfigurationError, ModelError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline, chat_model
from agentkit.models.local.loading import GIB, check_room, free_bytes, loading_errors, weight_bytes

from .conftest import build_llama, build_tokenizer

QUESTION = [HumanMessage("What is 25 raised to the 0.43 power?")]


def nf4() -> Any:
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype="float32",
        bnb_4bit_use_double_quant=True,
    )


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide as bitsandbytes' blocks."""
    folder = tmp_path_factory.mktemp("wide")
    tokenizer = build_tokenizer()
    build_llama(tokenizer, hidden_size=64, intermediate_size=128).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # bitsandbytes
@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({"quantization": "nf4"}, 4),
        ({"model_kwargs": {"quantization_config": "nf4"}}, 4),
        ({"model_kwargs": {"load_in_4bit": True}}, 4),
        ({"quantization": "int8"}, 8),
        ({"model_kwargs": {"load_in_8bit": True, "llm_int8_threshold": 5.0}}, 8),
    ],
)
def test_fewer_bits(options: dict[str, Any], bits: int, wide_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    if "quantization_config" in options.get("model_kwargs", ()):
        options = {"model_kwargs": {"quantization_config": nf4()}}
    llm = HuggingFacePipeline.from_model_id(str(wide_folder), **options)
    config = llm.model.config.quantization_config
    assert (config.load_in_4bit, config.load_in_8bit) == (bits == 4, bits == 8)
    if bits == 4:
        assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    whole = HuggingFacePipeline.from_model_id(str(wide_folder)).model.get_memory_footprint()
    assert llm.model.get_memory_footprint() < whole
    chat = ChatHuggingFace(llm=llm)
    reply = chat.invoke(QUESTION, max_new_tokens=9)
    assert "not_implemented" not in dumps(chat)
    assert "".join(str(chunk.content) for chunk in chat.stream(QUESTION, max_new_tokens=9)) == reply.content


def test_a_ready_pipeline_keeps_its_options(model_folder: Path) -> None:
    ready = transformers.pipeline(
        "text-generation", model=str(model_folder), device="cpu", max_new_tokens=7, repetition_penalty=1.1
    )
    llm = HuggingFacePipeline(pipeline=ready, pipeline_kwargs={"repetition_penalty": 1.2})
    assert llm.pipeline_kwargs == {"max_new_tokens": 7, "repetition_penalty": 1.2}
    reply = ChatHuggingFace(llm=llm).invoke(QUESTION)
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] <= 7
    assert (
        reply.content
        == ChatHuggingFace.from_model_id(str(model_folder), pipeline_kwargs=llm.pipeline_kwargs)
        .invoke(QUESTION)
        .content
    )


def test_an_llm_completes_text(model_folder: Path) -> None:
    options = {"max_new_tokens": 9, "return_full_text": True}
    llm = HuggingFacePipeline.from_model_id(str(model_folder), pipeline_kwargs=options)
    texts = ["What is", "<s>What is", "Who"]
    done = llm.batch(texts)
    assert [t.startswith(text) for t, text in zip(done, texts, strict=True)] == [True] * 3
    assert done[0] == done[1].removeprefix("<s>")  # one BOS either way
    assert "".join(llm.stream("What is")) == done[0].removeprefix("What is")


@pytest.mark.parametrize("task", ["text2text-generation", "text-generation"])
def test_an_encoder_decoder_answers(task: str, tmp_path: Path) -> None:
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
    llm = HuggingFacePipeline.from_model_id(str(tmp_path), task=task)
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
        ({"model_id": "FOLDER", "load_in_4bit": True}, "expected quantization='nf4'"),
        ({"model_id": "FOLDER", "quantization": "nf4", "model_kwargs": {"quantization_config": 1}}, "saw both"),
        ({"model_id": "FOLDER", "model": object()}, "expected a model and its tokenizer"),
        ({"model_id": ""}, "expected a model_id"),
    ],
)
def test_wrong_use(options: dict[str, Any], says: str, model_folder: Path) -> None:
    options["model_id"] = options["model_id"].replace("FOLDER", str(model_folder))
    with pytest.raises(ConfigurationError, match=says):
        HuggingFacePipeline.from_model_id(**options)


def test_an_option_nobody_knows(model_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="saw 'quantisation'; did you mean 'quantization'"):
        HuggingFacePipeline.from_model_id(str(model_folder), quantisation="nf4")
    with pytest.raises(ConfigurationError, match="generation parameters go into pipeline_kwargs"):
        ChatHuggingFace.from_model_id(str(model_folder), min_p=0.5)
    chat = ChatHuggingFace.from_model_id(str(model_folder))
    with pytest.raises(ConfigurationError, match="temprature"):
        chat.invoke(QUESTION, temprature=0.5)


OFFLINE = "We couldn't connect to 'https://huggingface.co' to load the files"
AUDIO = "load_audio requires soundfile and soxr, which were not found in your environment."


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (ModuleNotFoundError("no", name="torch"), ConfigurationError, "torch, .* is not .* pip install .*torch>="),
        (ModuleNotFoundError("no", name="bitsandbytes"), ConfigurationError, r"bitsandbytes, .* run pip install"),
        (
            ImportError("AutoModel requires the PyTorch library"),
            ConfigurationError,
            "torch, .* not import: Auto",
        ),
        (ImportError("Qwen2VLVideoProcessor requires the Torchvision library"), ConfigurationError, "torchvision"),
        (ImportError("a broken libtorchcodec.so"), ConfigurationError, "a package, .*: a broken libtorchcodec"),
        (ImportError(AUDIO), ConfigurationError, "soundfile, needed for models in this process,"),
        (ImportError("cannot compile it"), ConfigurationError, "a package, .* does not import: cannot compile it"),
        (ValueError("requires `accelerate`. `pip install accelerate`"), ConfigurationError, "accelerate, needed"),
        (MemoryError(), ModelError, "quantization='nf4'"),
        (RuntimeError("CUDA out of memory"), ModelError, "a smaller model"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), ModelError, "a smaller model"),
        (RuntimeError("size mismatch"), ModelError, "loading org/name failed: size mismatch"),
        (OSError("You are trying to access a gated repo."), ConfigurationError, "set HF_TOKEN"),
        (OSError("x is not a valid model identifier"), ConfigurationError, "check the name"),
        (OSError(OFFLINE), ConfigurationError, "connect once to download it"),
        (ValueError("Unrecognized model\nin x"), ConfigurationError, "Unrecognized model in x"),
    ],
)
def test_what_goes_wrong_while_loading(error: Exception, kind: type[AgentkitError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught, loading_errors("org/name"):
        raise error
    assert "\n" not in str(caught.value)


def test_code_in_a_models_folder_does_not_run_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks on standard input, where a piped question or keys typed ahead would be a yes."""
    (tmp_path / "config.json").write_text('{"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}}')
    (tmp_path / "theirs.py").write_text("from pathlib import Path\n\nPath('ran').touch()\n\nclass Theirs: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    with pytest.raises(ConfigurationError, match=r'code of its own.*"trust_remote_code": true'):
        chat_model(f"local:{tmp_path}").invoke("hi")
    assert not Path("ran").exists()


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
def test_a_package_that_is_not_there(package: str, wide_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"{package}, needed for quantization, is not inst.* '{package}>="):
        HuggingFacePipeline.from_model_id(str(wide_folder), quantization="nf4")


def test_grammars_without_their_package(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ChatHuggingFace.from_model_id(str(model_folder))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(ConfigurationError, match=r'llguidance, .* not installed; .* constrain="off"'):
        chat.with_structured_output({"title": "T", "type": "object", "properties": {}}).invoke(QUESTION)


def test_weights_that_do_not_fit_are_not_loaded(model_folder: Path) -> None:
    weights = weight_bytes(model_folder)
    assert weights > 10_000
    check_room("org/name", weights, free=weights)
    with pytest.raises(ModelError, match=r"whose weights take 20\.0 GiB, saw 8\.0 GiB free; take a smaller model"):
        check_room("org/name", 20 * GIB, free=8 * GIB)
    assert free_bytes("cpu") > 0


def test_memory_that_runs_out_while_replying(model_folder: Path) -> None:
    chat = ChatHuggingFace.from_model_id(str(model_folder))

    def fail(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    chat.llm.model.register_forward_pre_hook(fail)
    with pytest.raises(ModelError, match=r"expected room for a reply of .* memory ran out; take a smaller model"):
        chat.invoke(QUESTION)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(model_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a GPU for device 'cuda:1'"):
        HuggingFacePipeline.from_model_id(str(model_folder), device=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("watched", "bars"), [(Terminal(), True), (io.StringIO(), False)])
def test_bars_while_loading_for_whoever_watches(
    watched: io.StringIO, bars: bool, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", watched)
    HuggingFacePipeline.from_model_id(str(model_folder))
    assert ("Loading weights" in watched.getvalue()) is bars


@pytest.mark.parametrize(
    ("options", "device", "dtype"),
    [
        ({"device": -1}, "cpu", "float32"),
        ({"device": "cpu", "dtype": "bfloat16"}, "cpu", "bfloat16"),
        ({"device_map": "auto", "model_kwargs": {"dtype": "float16"}}, "cpu", "float16"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="device_map='auto' takes the GPU")
def test_where_and_how_a_model_is_loaded(options: dict[str, Any], device: str, dtype: str, model_folder: Path) -> None:
    llm = HuggingFacePipeline.from_model_id(str(model_folder), batch_size=2, attn_implementation="eager", **options)
    assert (llm.model.device.type, llm.model.dtype) == (device, getattr(torch, dtype))
    assert llm.batch_size == 2
    assert llm.model.config._attn_implementation == "eager"


@pytest.mark.filterwarnings("ignore:.*in beta", "ignore")
def test_what_is_saved_loads_again_and_holds_no_secret(wide_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    secret = "hf_" + "s" * 20
    chat = ChatHuggingFace.from_model_id(
        str(wide_folder),
        dtype=torch.float32,
        model_kwargs={"token": secret, "quantization_config": nf4()},
        pipeline_kwargs={"max_new_tokens": 5},
        constrain="off",
    )
    saved = dumps(chat)
    assert secret not in saved + repr(chat) + str(chat.llm)
    again = loads(saved, valid_namespaces=["agentkit"], allowed_objects=[ChatHuggingFace, HuggingFacePipeline])
    assert dumps(again) == saved
    assert again.llm.model.config.quantization_config.load_in_4bit
    assert again.invoke(QUESTION).content == chat.invoke(QUESTION).content


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 1}, "unknown option 'temprature' for a model in this process; did you mean 'temperature'?"),
        ({"max_tokens": 5}, "did you mean 'max_new_tokens'?"),
        ({"quantizaton": "nf4"}, "did you mean 'quantization'?"),
        ({"constran": "off"}, "did you mean 'constrain'?"),
        ({"colour": 1}, "unknown option 'colour' for a model in this process"),
        ({"max_new_tokens": "5"}, "max_new_tokens: expected a whole number of at least 1, saw '5'"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number of at least 1, saw 0"),
        ({"temperature": "hot"}, "temperature: expected a number of at least 0, saw 'hot'"),
        ({"temperature": float("nan")}, "temperature: expected a number of at least 0, saw nan"),
        ({"top_k": -1}, "top_k: expected a whole number of at least 0, saw -1"),
        ({"constrain": "none"}, "constrain is one of actions, copy, off, not 'none'"),
    ],
    ids=str,
)
def test_options_that_no_model_in_this_process_has(options: dict[str, Any], says: str) -> None:
    """Before it is loaded: this one cannot be."""
    with pytest.raises(ConfigurationError) as caught:
        chat_model("local:no-such-organisation/no-such-model", **options)
    assert says in str(caught.value)
