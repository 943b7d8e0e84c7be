"""Loading: what can be passed, and one clear line for everything that goes wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
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

from .conftest import build_llama, build_tokenizer, hub

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
        (ModuleNotFoundError("no", name="torch"), ConfigurationError, "torch, .* is not .* run pip install torch==2"),
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
        (OSError(OFFLINE), ConfigurationError, "^org/name is not whole in the cache, .*; connect once to "),
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
        ({"num_predict": 5}, "did you mean 'max_new_tokens'?"),
        ({"repeat_penalty": 1.1}, "did you mean 'repetition_penalty'?"),
        ({"quantizaton": "nf4"}, "did you mean 'quantization'?"),
        ({"constran": "off"}, "did you mean 'constrain'?"),
        ({"colour": 1}, "unknown option 'colour' for a model in this process"),
        ({"max_new_tokens": "5"}, "max_new_tokens: expected a whole number of at least 1, saw '5'"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number of at least 1, saw 0"),
        ({"temperature": "hot"}, "temperature: expected a number of at least 0, saw 'hot'"),
        ({"temperature": float("nan")}, "temperature: expected a number of at least 0, saw nan"),
        ({"top_k": -1}, "top_k: expected a whole number of at least 0, saw -1"),
        ({"top_p": 1.5}, "top_p: expected a number of at most 1, saw 1.5"),
        ({"seed": 2**64}, "seed: expected a whole number of at most 18446744073709551615"),
        ({"num_beams": 10**6}, "num_beams: expected a whole number of at most 1024"),
        ({"num_return_sequences": 2}, "num_return_sequences: expected a whole number of at most 1, saw 2"),
        ({"max_length": "x"}, "max_length: expected a whole number of at least 1, saw 'x'"),
        ({"max_time": "x"}, "max_time: expected a number of at least 0, saw 'x'"),
        ({"stop_strings": 5}, "stop_strings is text or a list of text, not 5"),
        ({"streamer": print}, "unknown option 'streamer'"),
        ({"max_memory": {"cpu": 1}}, "its class in transformers takes it: model_kwargs={'max_memory': …}"),
        ({"load_in_4bit": True}, "write quantization='nf4' or 'int8'"),
        ({"use_auth_token": "x"}, "did you mean 'token'?"),
        (
            {"pipeline_kwargs": {"dtype": "bf16"}},
            "'dtype' for a model in this process's replies; it is given with the model",
        ),
        ({"chat_template": os.devnull}, f"no chat template in the file {os.devnull}; check the path"),
        ({"chat_template": "/dev/zero"}, "no chat template in the file /dev/zero; check the path"),
        ({"chat_template": __file__.replace("test_loading", "__init__")}, "chat_template is empty"),
        ({"constrain": "none"}, "constrain is one of actions, copy, off, not 'none'"),
    ],
    ids=str,
)
def test_options_that_no_model_in_this_process_has(options: dict[str, Any], says: str) -> None:
    """Before it is loaded: this one cannot be."""
    with pytest.raises(ConfigurationError) as caught:
        chat_model("local:no-such-organisation/no-such-model", **options)
    assert says in str(caught.value)


# -- what is given is taken, or refused at once ------------------------------------------------------------------------


def length_of(chat: Any) -> int:
    """How many tokens a short prompt has."""
    return int(chat.invoke("hello?", max_new_tokens=2, do_sample=False).usage_metadata["input_tokens"])


def test_where_the_files_are(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(model_folder, tmp_path / "home" / "inner")
    hub(tmp_path / "hub", tmp_path / "home", "org/name", "v2")
    there = {"cache_dir": "~/hub", "local_files_only": True, "subfolder": "inner", "token": "hf_" + "x" * 20}
    chat: Any = chat_model("local:org/name", revision="v2", **there)
    assert length_of(chat) == length_of(chat_model(f"local:{model_folder}"))
    assert there["token"] not in dumps(chat) + repr(chat) + str(chat.llm)
    assert length_of(chat_model("local:~/home", subfolder="inner", revision="main")) > 0
    assert length_of(HuggingFacePipelineChat("~/home/inner")) > 0
    with pytest.raises(
        ConfigurationError,
        match=r"^org/name is not in the cache .*hub, and local_files_only keeps huggingface.co from being asked; ",
    ):
        chat_model("local:org/name", revision="v3", **there)
    with pytest.raises(ConfigurationError, match=r"is a folder, which has no revision 'v3'; .* model_kwargs too"):
        chat_model("local:~/home/inner", model_kwargs={"revision": "v3"})
    with pytest.raises(ConfigurationError, match="home/outer, saw no such folder"):
        chat_model("local:~/home", subfolder="outer")


def HuggingFacePipelineChat(place: str) -> ChatHuggingFace:
    return ChatHuggingFace(llm=HuggingFacePipeline.from_model_id(place))


@pytest.mark.parametrize("options", [{}, {"pipeline_kwargs": {"max_new_tokens": 9}}], ids=str)
def test_what_is_told_to_the_template(options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template += "{% if quietly is defined and quietly %}And quietly so, if it can be.{% endif %}"
    build_llama(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = f"local:{tmp_path}"
    plain: Any = chat_model(spec, **options)
    short = length_of(plain)
    assert length_of(chat_model(spec, chat_template_kwargs={"quietly": True}, **options)) > short
    assert length_of(plain.bind(chat_template_kwargs={"quietly": True})) > short
    assert length_of(plain) == length_of(plain.bind(chat_template_kwargs={"quietly": False})) == short
    for asked in (plain.bind(chat_template_kwargs={"loudly": True}), None):
        with pytest.raises(ConfigurationError, match=r"reads no loudly of chat_template_kwargs\. It reads quietly\.$"):
            length_of(asked) if asked else chat_model(spec, chat_template_kwargs={"loudly": True}, **options)
    file = tmp_path / "other.jinja"
    file.write_text("{{ messages[-1].content }}")
    for template in (file.read_text(), str(file), file):
        chat: Any = chat_model(spec, chat_template=template, **options)
        assert length_of(chat) < short
        assert chat.llm.tokenizer.chat_template == tokenizer.chat_template


@pytest.mark.filterwarnings("ignore:.*in beta")
def test_another_tokenizer(model_folder: Path, tmp_path: Path) -> None:
    other = build_tokenizer()
    other.chat_template = "{{ messages[-1].content }}"
    other.save_pretrained(tmp_path)
    plain = length_of(chat_model(f"local:{model_folder}"))
    for tokenizer in (str(tmp_path), tmp_path, other):
        chat: Any = chat_model(f"local:{model_folder}", tokenizer=tokenizer)
        assert length_of(chat) < plain
    again = loads(dumps(chat_model(f"local:{model_folder}", tokenizer=str(tmp_path))), **LOADS)
    assert length_of(again) == length_of(chat) < plain
    ready = HuggingFacePipeline(model=chat.llm.model, tokenizer=str(tmp_path))
    assert length_of(ChatHuggingFace(llm=ready)) == length_of(chat)


LOADS: dict[str, Any] = {"valid_namespaces": ["agentkit"], "allowed_objects": [ChatHuggingFace, HuggingFacePipeline]}


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"torch_dtype": "float16"}, "float16"),
        ({"dtype": "bf16"}, "bfloat16"),
        ({"dtype": "torch.float16", "torch_dtype": "torch.float16"}, "float16"),
        ({"model_kwargs": {"torch_dtype": torch.bfloat16}}, "bfloat16"),
        ({"dtype": "float16", "device": "cpu", "quantization": None}, "float16"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*in beta")
def test_the_kind_of_numbers(options: dict[str, Any], dtype: str, model_folder: Path) -> None:
    chat: Any = chat_model(f"local:{model_folder}", **options)
    assert chat.llm.model.dtype == getattr(torch, dtype)
    assert loads(dumps(chat), **LOADS).llm.model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trust_remote_code": "yes"}, "trust_remote_code is true or false, not 'yes'"),
        ({"revision": 3}, "revision is text, not 3"),
        ({"reuse": "no"}, "reuse is true or false, not 'no'"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "dtype and torch_dtype, its old name, are not the same"),
        ({"dtype": "float16", "model_kwargs": {"dtype": "float32"}}, "dtype is given twice, and not the same"),
        ({"dtype": "float33"}, "expected a dtype as 'bfloat16', 'float16' or 'float32', saw 'float33'"),
        ({"torch_dtype": "nn"}, "saw 'nn'; check its name"),
        ({"dtype": {"": "nn"}}, "saw 'nn'; check its name"),
        ({"dtype": {"vision": "bf16"}}, "dtype is for the parts '', and not 'vision'"),
        ({"device_map": "meta"}, "the device 'meta' computes nothing; leave device_map out"),
        ({"device_map": {"": "meta"}}, "the device 'meta' computes nothing; leave device_map out"),
        ({"model_kwargs": {"config": {"a": 1}}}, "config is an object of transformers, not a dict"),
        (
            {"attn_implementation": "flash_attention_2"},
            "flash-attn, needed for models in this process, is not installed",
        ),
        ({"task": "summarization"}, "a Llama is none for that task (AutoModelForSeq2SeqLM); leave task out"),
        ({"dtype": "int8"}, "saw 'int8'; check its name"),
        ({"model_kwargs": {"dtype": 16}}, "saw 16; check its name"),
        ({"device": "tpu"}, "torch has no device 'tpu' here; leave device out"),
        ({"device": "meta"}, "the device 'meta' computes nothing; leave device out"),
        ({"device": ""}, "device is empty; leave it out"),
        ({"tokenizer": ""}, "tokenizer is empty; leave it out"),
        ({"model_kwargs": {"cache_dir": ""}}, "cache_dir is empty; leave it out"),
        ({"model_kwargs": {"gguf_file": 3}}, "gguf_file is text or a path, not 3"),
        ({"model_kwargs": {"no_such": 1}}, "unexpected keyword argument 'no_such'"),
        ({"attn_implementation": "none_such"}, "none_such"),
        ({"tokenizer": "./nowhere"}, "nowhere, saw no such folder"),
        ({"tokenizer": __file__}, "test_loading.py, saw a file; check the path"),
        ({"tokenizer": 3}, "expected a tokenizer (or processor) of transformers, saw 3"),
        ({"chat_template": "nowhere.jinja"}, "no chat template in the file nowhere.jinja"),
        ({"chat_template": ""}, "chat_template is empty"),
        ({"chat_template": "{% for %}"}, "The chat template is no Jinja template: Expected an expression"),
        ({"chat_template": "{{ raise_exception('not so') }}"}, "it refused: not so"),
        ({"chat_template": "{{ 1 / 0 }}"}, "it refused: division by zero"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs is an object of names and values, not a list"),
        ({"chat_template_kwargs": {"messages": []}}, "The chat template reads no messages of chat_template_kwargs."),
        ({"enable_thinking": False}, "is told of one with chat_template_kwargs={'enable_thinking': …}"),
        ({"tokeniser": "x"}, "did you mean 'tokenizer'?"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_when_given(options: dict[str, Any], says: str, model_folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        chat_model(f"local:{model_folder}", **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"quantization": "nf4"}, {"adapter": "x"}, {"revision": "x"}, {"model_kwargs": {"a": 1}}, {"device": 0}]
)
def test_a_model_that_is_ready_is_not_loaded(options: dict[str, Any]) -> None:
    tokenizer = build_tokenizer()
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} is for a model that is loaded"):
        HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer, **options)
    with pytest.raises(ConfigurationError, match="unknown option 'enable_thinking'"):
        HuggingFacePipeline(
            model=build_llama(tokenizer), tokenizer=tokenizer, pipeline_kwargs={"enable_thinking": False}
        )


# -- files that are not what they should be ----------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def pickled(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def evil_checkpoint(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def defaults(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "generation_config.json").write_text(content)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def configured(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def without_tokenizer(folder: Path) -> None:
    for file in (*folder.glob("tok*"), *folder.glob("special*")):
        file.unlink()


BROKEN_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "config.json of no bytes": (written("config.json", b""), "not a valid JSON file"),
    "config.json with a list": (written("config.json", b"[]"), "model_type"),
    "config.json nested deeply": (written("config.json", b'{"a":' * 9_999), "maximum recursion depth"),
    "config.json of a larger model": (configured(num_hidden_layers=3), r"lacks 9 weights of a LlamaForCausalLM"),
    "config.json of a wider model": (configured(hidden_size=64), "or has them in other sizes"),
    "config.json with too many layers": (configured(num_hidden_layers=10**6), "says that num_hidden_layers is 1000000"),
    "config.json with too many labels": (configured(num_labels=10**9), "says that num_labels is 1000000000, as in no"),
    "config.json with too many tokens": (
        configured(vocab_size=10**8),
        "says that vocab_size is 100000000, as in no model",
    ),
    "config.json of a newer model": (
        configured(model_type="none_such"),
        "of the model type 'none_such', which the installed transformers does not know; check its config.json, or",
    ),
    "config.json of a model of pictures": (
        configured(model_type="vit"),
        "a ViT writes no text; give a model that does",
    ),
    "an encoder": (configured(architectures=["BertForMaskedLM"]), "a BertForMaskedLM, which fills gaps in texts"),
    "generation_config.json of no bytes": (
        defaults(""),
        "generation_config.json is no JSON: it says where replies end",
    ),
    "generation_config.json cut off": (defaults('{"eos_token_id": [1, 2'), "generation_config.json is no JSON"),
    "stop strings that are none": (defaults('{"stop_strings": [7]}'), "expected a list of non-empty stop strings"),
    "ends that are none": (
        defaults('{"eos_token_id": [[1]]}'),
        r"eos_token_id .* \(an option of the model's generation",
    ),
    "a tokenizer without a number": (
        written("tokenizer_config.json", b'{"model_max_length": "x"}'),
        "not supported between instances of 'int' and 'str'",
    ),
    "weights of no bytes": (written("model.safetensors", b""), "header too small"),
    "weights cut off": (cut, "file not fully covered"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "pickled weights of no bytes": (lambda folder: pickled(folder, b""), "EOFError"),
    "pickles that run code": (
        lambda folder: pickled(folder, pickle.dumps(Evil())),
        "could run code",
    ),
    "a checkpoint that runs code": (evil_checkpoint, "could run code"),
    "a tokenizer of no bytes": (written("tokenizer.json", b""), "expected a model transformers can load"),
    "a tokenizer of nothing": (written("tokenizer.json", b"{}"), "expected a model transformers can load"),
    "no tokenizer": (without_tokenizer, "has no tokenizer, or not all of its files; give tokenizer=…"),
    "a list as generation_config": (
        written("generation_config.json", b"[1]"),
        "expected a model transformers can load",
    ),
    "AWQ": (configured(quantization_config={"quant_method": "awq", "bits": 4}), "gptqmodel, .* pip install gptqmodel"),
    "GPTQ": (configured(quantization_config={"quant_method": "gptq", "bits": 4}), "optimum, .* pip install optimum"),
    "compressed-tensors": (
        configured(quantization_config={"quant_method": "compressed-tensors", "config_groups": {}}),
        "compressed-tensors, .* pip install compressed-tensors",
    ),
    "a list as quantization": (configured(quantization_config=[1]), "expected a model transformers can load"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(("break_it", "says"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_broken_files(
    break_it: Callable[[Path], object],
    says: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "broken")
    break_it(Path("broken"))
    with pytest.raises((ConfigurationError, ModelError), match=says) as caught:
        chat_model("local:./broken")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not Path("ran").exists()


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"grammar": 'start: "a"'}], ids=str)
def test_weights_that_are_no_numbers_give_no_answer(options: dict[str, Any]) -> None:
    """In float16 a good model may overflow: an error says so, where an answer would be empty, or drawn at random."""
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    model.lm_head.weight.data[:] = float("nan")
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer))
    with pytest.raises(ModelError, match=r"computes no numbers .NaN in float32.; download it again"):
        chat.invoke(QUESTION, **options)


def test_damaged_weights_give_no_answer(model_folder: Path, tmp_path: Path) -> None:
    """Their file is as long as it should be."""
    shutil.copytree(model_folder, tmp_path / "damaged")
    file = tmp_path / "damaged" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: -len(content) // 4].ljust(len(content), b"\xff"))
    with pytest.raises(ModelError, match="computes no numbers"):
        chat_model(f"local:{file.parent}").invoke(QUESTION)


def test_what_a_model_fails_at_is_one_line() -> None:
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer, vocab_size=len(tokenizer))
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer))
    model.resize_token_embeddings(8)
    with pytest.raises(
        ModelError, match=r"^the model failed at computing a reply .IndexError: index out of range"
    ) as it:
        chat.invoke(QUESTION)
    assert "\n" not in str(it.value)
    assert isinstance(it.value.__cause__, IndexError)


def test_a_model_whose_weights_lie_on_disk_answers(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    folder, memory = str(model_folder), {"max_memory": {"cpu": "40KiB"}, "offload_folder": str(tmp_path)}
    spread: Any = chat_model(f"local:{folder}", device_map="auto", max_new_tokens=8, model_kwargs=memory)
    assert spread.llm.model.device.type == "meta"
    whole = chat_model(f"local:{folder}", max_new_tokens=8)
    assert spread.invoke(QUESTION).content == whole.invoke(QUESTION).content
    again = spread.invoke(QUESTION)
    assert again.content == whole.invoke(QUESTION).content
    assert again.usage_metadata["input_token_details"]["cache_read"] > 0


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for %}",
        "{{ 1 / 0 }}",
        "{% for _ in range(10 ** 9) %}x{% endfor %}",
        "{{ messages[9].content }}",
        "{{ messages.x.y }}",
        "{{ ''.__class__.__mro__ }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 10 ** 15 }}",
    ],
)
def test_a_template_that_fails_is_one_line(template: str) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    model = build_llama(tokenizer)
    refused = (
        r"^(expected messages the model's chat template accepts, it refused: .|The chat template .*: it is not run)"
    )
    with pytest.raises(ConfigurationError, match=refused) as it:
        ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer)).invoke(QUESTION)
    assert "\n" not in str(it.value)
