"""PEFT adapters: loaded, switched by name, and refused where they were made for another model."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.messages import HumanMessage

from agentkit import chat_model
from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline

from .conftest import build_llama, build_tokenizer

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:Adapter name")
QUESTION = [HumanMessage("What is 25 raised to the 0.43 power? Who is the girlfriend of whom, and why?")]
SHORT = {"max_new_tokens": 8, "do_sample": False}


def adapted(model: Any, seed: int, **changes: Any) -> Any:
    torch.manual_seed(seed)
    config = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **changes}
    return peft.get_peft_model(model, peft.LoraConfig(**config)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in `base`, two adapters of it in `a` and `b`."""
    folder = tmp_path_factory.mktemp("adapters")
    tokenizer = build_tokenizer()
    build_llama(tokenizer).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for seed, name in enumerate("ab", 1):
        model = build_llama(tokenizer)
        model.config.name_or_path = model.name_or_path = str(folder / "base")
        adapted(model, seed).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, str]:
    """What each says through PEFT's own loading."""
    tokenizer = build_tokenizer()
    models = {"base": build_llama(tokenizer)}
    for name in "ab":
        models[name] = peft.PeftModel.from_pretrained(build_llama(tokenizer), str(folder / name)).eval()
    texts = {name: said(ready(model, tokenizer)) for name, model in models.items()}
    assert len(set(texts.values())) == 3
    return texts


def ready(model: Any, tokenizer: Any) -> ChatHuggingFace:
    return ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer))


def said(chat: Any, **options: Any) -> str:
    return str(chat.invoke(QUESTION, **SHORT, **options).content)


@pytest.mark.parametrize("at", ["a", "folder", "~", "path"])
def test_an_adapter_is_loaded(
    at: str, folder: Path, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch, recwarn: Any
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    if at == "folder":  # its configuration names its base
        chat = chat_model(f"local:{folder / 'a'}")
    else:
        where: Any = {"a": str(folder / "a"), "~": "~/a", "path": folder / "a"}[at]
        chat = chat_model("local:~/base", adapter=where)
    assert said(chat) == wanted["a"]
    assert not recwarn


def test_several_are_switched_by_name(folder: Path, wanted: dict[str, str]) -> None:
    chat: Any = chat_model(f"local:{folder / 'base'}", adapter={"a": str(folder / "a"), "b": str(folder / "b")})
    for name in ("a", "b", "base", "b", "a"):
        assert said(chat.bind(adapter=name)) == wanted[name]
    assert said(chat) == wanted["a"]  # the first
    chat.llm.model.set_adapter("b")
    assert said(chat) == wanted["b"]
    with pytest.raises(ConfigurationError, match=r"^No adapter named c\. Available: a, b, base\.$"):
        said(chat, adapter="c")
    cached = [
        chat.invoke(QUESTION, **SHORT, adapter=name).usage_metadata["input_token_details"]["cache_read"]
        for name in ("a", "base", "a", "base")
    ]
    assert [count > 10 for count in cached] == [False, False, True, True]  # each has caches of its own
    with pytest.raises(ConfigurationError, match="expected no adapter with beam search"):
        said(chat, adapter="a", num_beams=2)


def test_replies_of_several_adapters_at_once(folder: Path, wanted: dict[str, str]) -> None:
    chat = chat_model(f"local:{folder / 'base'}", adapter={"a": str(folder / "a"), "b": str(folder / "b")})
    streams = {name: chat.stream(QUESTION, **SHORT, adapter=name) for name in ("a", "b", "base")}
    texts = dict.fromkeys(streams, "")
    for _ in range(12):
        for name, stream in streams.items():
            texts[name] += str(getattr(next(stream, None), "content", ""))
    assert texts == wanted


def test_a_models_own_adapters_are_named_too_and_stay_as_they_are(folder: Path, wanted: dict[str, str]) -> None:
    tokenizer = build_tokenizer()
    model = peft.PeftModel.from_pretrained(
        build_llama(tokenizer), str(folder / "a"), adapter_name="a", is_trainable=True
    )
    model.load_adapter(str(folder / "b"), adapter_name="b")
    model.eval()
    trained = [each.requires_grad for each in model.parameters()]
    chat = ready(model, tokenizer)
    assert [said(chat, adapter=name) for name in ("b", "base", "a")] == [wanted["b"], wanted["base"], wanted["a"]]
    assert model.active_adapters == ["a"]
    assert [each.requires_grad for each in model.parameters()] == trained
    model.merge_adapter()
    with pytest.raises(ConfigurationError, match="adapters that were merged are part of the model"):
        said(chat, adapter="b")
    with pytest.raises(ConfigurationError, match=r"adapter is for a model that is loaded, and this one is ready"):
        HuggingFacePipeline(model=model, tokenizer=tokenizer, adapter=str(folder / "a"))


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # which PEFT says of its own call
def test_a_prompt_that_was_learned(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    torch.manual_seed(3)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(build_llama(tokenizer), config).eval()
    chat = ready(model, tokenizer)
    ids = torch.tensor([chat.llm.local.prompts.encode(chat.llm.prompt_text([{"role": "user", "content": "hello"}]))])
    tokens = model.generate(input_ids=ids, max_new_tokens=8)[0, ids.shape[1] :]
    text = chat.invoke("hello", **SHORT).content
    assert text == tokenizer.decode(tokens, skip_special_tokens=True).rstrip("\ufffd")


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def evil(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (configured(target_modules=r"(.*)*(.*)*_proj!"), "looks for modules by .*, which may never end; name them"),
        (configured(rank_pattern={r"(a|aa)+\d": 2}), "looks for modules by .*, which may never end; name them"),
        (written("adapter_config.json", b""), "the adapter .* cannot be put on"),
        (written("adapter_config.json", b"[]"), "the adapter .* cannot be put on"),
        (configured(peft_type="NONE_SUCH"), "NONE_SUCH"),
        (configured(target_modules=["no_proj"]), "Target modules .* not found"),
        (configured(r=-1), "positive"),
        (configured(r=8), "size mismatch"),
        (configured(target_modules=["q_proj"]), r"made for another model than .*: \d+ weights of both do not match"),
        (configured(target_modules=["q_proj", "v_proj", "o_proj"]), "made for another model"),
        (configured(megatron_config={"a": 1}, megatron_core="evil"), "cannot be put on"),
        (written("adapter_model.safetensors", b""), "header too small"),
        (written("adapter_model.safetensors", b"\xff" * 99), "header too large"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "a folder without adapter_config.json"),
        (evil, "pickled objects .* could run code and are not loaded"),
    ],
)
def test_a_broken_adapter(
    break_it: Callable[[Path], None], says: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "a", tmp_path / "broken")
    break_it(tmp_path / "broken")
    with pytest.raises(ConfigurationError, match=says) as caught:
        chat_model(f"local:{folder / 'base'}", adapter="./broken")
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("changes", [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}])
def test_another_base(changes: dict[str, int], folder: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    build_llama(tokenizer, **changes).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^the adapter .* (cannot be put on|was made for another model)"):
        chat_model(f"local:{tmp_path}", adapter=str(folder / "a"))


@pytest.mark.parametrize("base", ["/home/somebody/base", None, 3, "../base", "."])
def test_an_adapter_alone_needs_its_base(base: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "a")
    configured(base_model_name_or_path=base)(tmp_path / "a")
    with pytest.raises(ConfigurationError, match=r"is an adapter, .* is not here .*; give that model, and adapter=/"):
        chat_model(f"local:{tmp_path / 'a'}")
    if base == "../base":  # beside it
        shutil.copytree(folder / "base", tmp_path / "base")
        chat_model(f"local:{tmp_path / 'a'}")


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        (3, "adapter is text or a path or an object of names and values, not 3"),
        ({"base": "x"}, "an adapter's name is of letters and digits, and not base"),
        ({"a.b": "x"}, "an adapter's name is of letters and digits"),
        ({"a": 3}, "the adapter a is a folder or a repository, not 3"),
        ("./nowhere", "expected an adapter's folder at nowhere, saw no such folder"),
    ],
)
def test_wrong_use(adapter: Any, says: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        chat_model(f"local:{folder / 'base'}", adapter=adapter)
