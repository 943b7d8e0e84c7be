"""A model in this process as a backend: what it declares, its own parameters, and what it leaves as it found it."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.load import dumps, loads

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatBackend, ChatRequest, capabilities_of
from agentkit.models.builtin import builtin_folder
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.chat_template import each_text
from agentkit.models.reply import ReplyReader
from agentkit.react_json.marks import TABLE

from .conftest import CHATML, build_llama, build_tokenizer

QUESTION = [{"role": "user", "content": "What is 25 raised to the 0.43 power?"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def text_of(backend: ChatBackend, *, stop: tuple[str, ...] = (), **options: Any) -> str:
    chunks = backend.generate_chat(ChatRequest(messages=QUESTION, stop=stop, options=options))
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "constrain", "max_new_tokens"),
    [
        ({}, "actions", 512),
        ({"constrain": "copy", "pipeline_kwargs": {"max_new_tokens": 7}}, "copy", 7),
        ({"constrain": "off"}, "off", 512),
    ],
)
def test_what_it_can_do_is_declared(
    options: dict[str, Any], constrain: str, max_new_tokens: int, model_folder: Path
) -> None:
    backend = LocalBackend.from_model_id(str(model_folder), **options)
    can = backend.capabilities
    assert (can.in_process, can.over_http, can.grammar, can.tools) == (True, False, True, True)
    assert (can.constrain, can.max_new_tokens, can.identity) == (constrain, max_new_tokens, str(model_folder))
    assert set(can.turn_grammars) == {"actions", "copy"}
    assert can.call_syntax == backend.local.template.call_syntax
    assert set(can.special_tokens) == {"<s>", "<|im_start|>", "<|im_end|>", "<pad>"}


def test_the_langchain_face_declares_the_same(model_folder: Path) -> None:
    face = HuggingFacePipeline.from_model_id(str(model_folder), pipeline_kwargs={"max_new_tokens": 9})
    options = {"model_id": str(model_folder), "pipeline_kwargs": {"max_new_tokens": 9}}
    backend = LocalBackend(face.model, face.tokenizer, **options)
    assert isinstance(face, ChatBackend)
    assert capabilities_of(face) == backend.capabilities
    assert face.prompt_text(QUESTION) == backend.prompt_text(QUESTION)
    assert text_of(face) == text_of(backend) != ""


@pytest.mark.slow
def test_it_runs_without_langchain() -> None:
    code = f"""
import sys
from agentkit.models.backend import ChatRequest
from agentkit.models.local.backend import LocalBackend
assert not {{"torch", "transformers"}} & sys.modules.keys()
backend = LocalBackend.from_model_id({str(builtin_folder())!r}, pipeline_kwargs={{"max_new_tokens": 8}})
assert "".join(chunk.text for chunk in backend.generate_chat(ChatRequest(messages={QUESTION!r})))
print(*sorted(name for name in sys.modules if name.startswith("lang")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


# -- nothing of the user's is changed ----------------------------------------------------------------------------------


def state(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What a run could change of the user's objects and of the process."""
    loggers = [("", logging.root), *logging.root.manager.loggerDict.items()]
    return {
        "generation_config": model.generation_config.to_dict(),
        "config": model.config.to_dict(),
        "parameters": [
            (name, each.requires_grad, float(each.detach().sum())) for name, each in model.named_parameters()
        ],
        "training": [module.training for module in model.modules()],
        "attributes": sorted(vars(model)),
        "hooks": [(*module._forward_hooks, *module._forward_pre_hooks) for module in model.modules()],
        "modules": [(name, type(module), sorted(vars(module))) for name, module in model.named_modules()],
        "buffers": [(name, each.tolist()) for name, each in model.named_buffers()],
        "versions": [each._version for each in model.parameters()],
        "tokenizer": (tokenizer.backend_tokenizer.to_str(), tokenizer.padding_side, tokenizer.truncation_side),
        "template": (tokenizer.chat_template, dict(tokenizer.special_tokens_map), len(tokenizer)),
        "tokenizer's own": {name: repr(value) for name, value in vars(tokenizer).items() if name != "_tokenizer"},
        "init": dict(tokenizer.init_kwargs),
        "environment": dict(os.environ),
        "torch": (torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_dtype()),
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "logging": {name: (log.level, log.handlers) for name, log in loggers if isinstance(log, logging.Logger)},
    }


def test_the_users_model_and_process_stay_as_they_are() -> None:
    tokenizer = build_tokenizer()
    tokenizer.padding_side, tokenizer.init_kwargs["padding_side"] = "right", "right"
    model = build_llama(tokenizer)
    model.generation_config.stop_strings = ["Observation"]
    model.generation_config.do_sample = True
    model.generation_config.top_k = 7
    model.generation_config.max_new_tokens = 5
    model.train()
    tokenizer.response_template = {"kind": "of its own"}
    before = state(model, tokenizer)
    llm = HuggingFacePipeline(
        model=model,
        tokenizer=tokenizer,
        chat_template=CHATML + "{% if quietly %}{% endif %}",
        chat_template_kwargs={"quietly": True},
    )
    requests: list[dict[str, Any]] = [
        {},
        {"stop": ("e",)},
        {"tools": (TOOL,)},
        {"grammar": "start: /[a-z]{5}/"},
        {"top_logprobs": 2},
        {"options": {"seed": 1, "temperature": 0.5}},
        {"options": {"num_beams": 2, "seed": 1}},
        {"options": {"stop_strings": "Action"}},
        {"options": {"reuse": False}},
        {"options": {"max_length": 999}},
    ]
    for request in requests:
        assert list(llm.generate_chat(ChatRequest(messages=QUESTION, **request)))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda number: text_of(llm, seed=number), range(3)))
    llm.invoke("What is")
    llm.forget()
    HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs={"stop_strings": ["a"]}).invoke("What is")
    after = state(model, tokenizer)
    after["logging"] = {name: after["logging"][name] for name in before["logging"]}  # libraries make more as they run
    assert {name for name in before if before[name] != after[name]} == set()


# -- thoughts come before a grammar ------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(("opening", "closing"), sorted(TABLE.thinking.items()))
def test_whatever_the_tags_a_thought_is_free_and_the_answer_held(opening: str, closing: str, begun: bool) -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([opening, closing])
    if begun:
        starts = "<|im_start|>assistant\n"
        tokenizer.chat_template = tokenizer.chat_template.replace(starts, f"{starts}{opening}\n")
    model = build_llama(tokenizer)
    text = f"{opening}Action: hm{closing}Final"  # where a second thought may follow, too
    thought = tokenizer(text, add_special_tokens=False)["input_ids"]
    wanted = iter(thought[1:] if begun else thought)

    def prefer(_module: Any, _inputs: Any, output: Any) -> None:
        if (token := next(wanted, None)) is not None:
            output.logits[..., token] = 1e4

    model.register_forward_hook(prefer)
    request = ChatRequest(
        messages=QUESTION, grammar='start: "Final Answer: " /[0-9]{3}/', options={"max_new_tokens": 40}
    )
    chunks = LocalBackend(model, tokenizer).generate_chat(request)
    reader = ReplyReader()
    pieces = [*map(reader.read, chunks), reader.rest()]
    assert "".join(piece.thinking for piece in pieces).strip() == "Action: hm"
    assert "".join(piece.text for piece in pieces)[:14] == "Final Answer: "


# -- parameters of its own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_the_model", "given", "asked", "stops"),
    [
        (None, None, None, ()),
        ("ABC", None, None, ("ABC",)),
        (["ABC", "x"], None, None, ("ABC", "x")),
        ("never this", ["ABC"], None, ("ABC",)),
        ("never this", "never that", "ABC", ("ABC",)),
    ],
)
def test_stop_strings_of_the_model_the_parameters_and_the_request(
    of_the_model: Any, given: Any, asked: Any, stops: tuple[str, ...]
) -> None:
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    whole = text_of(LocalBackend(model, tokenizer), max_new_tokens=30)
    word = whole[4:7]  # what stands for ABC
    assert len(word.strip()) == 3
    wanted = [text.replace("ABC", word) for text in stops]

    def named(value: Any) -> Any:
        return each_text(value, lambda text: text.replace("ABC", word))

    model.generation_config.stop_strings = named(of_the_model)
    backend = LocalBackend(model, tokenizer, pipeline_kwargs={"stop_strings": named(given)} if given else None)
    options = {"stop_strings": named(asked)} if asked else {}
    cut = min((whole.find(text) for text in wanted if text in whole), default=len(whole))
    assert text_of(backend, max_new_tokens=30, **options) == whole[:cut]
    if given:
        llm = HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs={"stop_strings": named(given)})
        assert text_of(llm, max_new_tokens=30, **options) == whole[:cut]


@pytest.mark.parametrize(
    ("of_the_model", "given", "asked", "tokens"),
    [
        ({"max_new_tokens": 4}, {}, {}, 4),
        ({"max_new_tokens": 4}, {"max_new_tokens": 6}, {}, 6),
        ({"max_new_tokens": 4}, {"max_new_tokens": 6}, {"max_new_tokens": 3}, 3),
        ({"max_new_tokens": 4}, {"max_new_tokens": None}, {"max_new_tokens": None}, 4),
        ({"max_new_tokens": 4, "max_length": 500}, {}, {}, 4),
        ({"max_length": "prompt + 7"}, {}, {}, 7),
        ({}, {"max_length": "prompt + 5"}, {}, 5),
        ({"max_new_tokens": 4}, {}, {"max_length": "prompt + 9"}, 9),
        ({}, {}, {}, 512),
    ],
)
def test_the_length_of_a_reply(of_the_model: Any, given: Any, asked: Any, tokens: int) -> None:
    """The nearest limit counts: 512 only where the model's own configuration has none, either."""
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    local = LocalBackend(model, tokenizer).local
    prompt = len(local.prompts.encode(local.template.render(QUESTION)))

    def counted(options: dict[str, Any]) -> dict[str, Any]:
        return {name: prompt + int(value[9:]) if isinstance(value, str) else value for name, value in options.items()}

    for name, value in counted(of_the_model).items():
        setattr(model.generation_config, name, value)
    backend = LocalBackend(model, tokenizer, pipeline_kwargs=counted(given))
    *_, last = backend.generate_chat(ChatRequest(messages=QUESTION, options={**counted(asked), "do_sample": False}))
    assert (last.usage.completion_tokens, last.finish_reason) == (tokens, "length")
    if not asked:
        assert backend.capabilities.max_new_tokens in (tokens, prompt + tokens)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number of at least 1, saw 0"),
        ({"max_new_tokens": "5"}, "max_new_tokens: expected a whole number of at least 1, saw '5'"),
        ({"temprature": 1}, "unknown option 'temprature' for a model in this process; did you mean 'temperature'?"),
        ({"dtype": "bf16"}, "unknown option 'dtype' for a model in this process's replies; it is given with the model"),
        ({"tokenizer": "x"}, "it is given with the model"),
        ({"past_key_values": 1}, "unknown option 'past_key_values'"),
        ({"seed": 2**64}, "seed: expected a whole number of at most"),
        ({"do_sample": "false"}, "do_sample is true or false, not 'false'"),
        ({"cache_implementation": "none_such"}, "generation parameters that cannot be: Invalid `cache_implementation`"),
        ({"stop_strings": [5]}, "stop_strings is text or a list of text, not a list"),
        ({"assistant_model": "x"}, "assistant_model is an object of Python's, not 'x'"),
        ({"reuse": "no"}, "reuse is true or false, not 'no' (an option of a reply in this process)"),
        ({"adapter": 5}, "adapter is text, not 5"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs is an object of names and values, not 'x'"),
        ({"do_sample": True, "suppress_tokens": [*range(500)]}, "leave no token to choose; forbid fewer"),
    ],
    ids=str,
)
def test_what_a_reply_cannot_be_asked_with(options: dict[str, Any], says: str) -> None:
    tokenizer = build_tokenizer()
    with pytest.raises(ConfigurationError) as caught:
        text_of(LocalBackend(build_llama(tokenizer), tokenizer), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stop": 5}, "expected a list of non-empty stop strings, saw 5"),
        ({"stop": ["a", ""]}, "expected a list of non-empty stop strings, saw ['a', '']"),
        ({"stop": [b"a"]}, "expected a list of non-empty stop strings, saw [b'a']"),
        ({"logprobs": 5}, "logprobs is true or false, not 5"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs is at least 0, not -1"),
        ({"logprobs": True, "num_beams": 2}, "expected no log probabilities with beam search"),
        ({"grammar": 5}, "grammar is text, not 5"),
        ({"response_format": "json"}, "response_format is an object of names and values, not 'json'"),
        ({"stream": "x"}, "stream is true or false, not 'x'"),
    ],
    ids=str,
)
def test_what_a_chat_model_cannot_be_asked_with(options: dict[str, Any], says: str) -> None:
    tokenizer = build_tokenizer()
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    with pytest.raises(ConfigurationError) as caught:
        chat.invoke("hello", **options)
    assert says in str(caught.value)


def test_one_text_is_one_stop_string_and_more_log_probabilities_than_tokens_are_all() -> None:
    tokenizer = build_tokenizer()
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=build_llama(tokenizer), tokenizer=tokenizer))
    whole = str(chat.invoke("hello", max_new_tokens=20).content)
    stop = whole[6:9]
    assert chat.invoke("hello", max_new_tokens=20, stop=stop).content == whole[: whole.find(stop)]  # type: ignore[arg-type]
    told = chat.invoke("hello", max_new_tokens=1, logprobs=True, top_logprobs=10**6)
    assert len(told.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == len(tokenizer)


def test_the_models_own_configuration_may_change_between_replies() -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    model = build_llama(tokenizer)
    model.generation_config.eos_token_id = None
    backend = LocalBackend(model, tokenizer, pipeline_kwargs={"max_new_tokens": 12, "do_sample": False})
    whole = text_of(backend)
    prompt = torch.tensor([backend.local.prompts.encode(backend.local.template.render(QUESTION))])
    ends = int(model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] + 4])
    ended = text_of(backend, eos_token_id=ends)
    assert whole.startswith(ended)
    assert len(ended) < len(whole)
    model.generation_config.eos_token_id = [ends]
    assert text_of(backend) == ended
    model.generation_config.eos_token_id = None
    model.generation_config.stop_strings = [whole[2:5]]
    assert text_of(backend) == whole[:2]
    model.generation_config.stop_strings = None
    assert text_of(backend) == whole
    drawn = {text_of(backend, temperature=1.0, seed=seed) for seed in range(3)}
    assert len(drawn) == 3  # what a reply is asked with says it last


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda chat: pickle.loads(pickle.dumps(chat))])
def test_a_copy_computes_for_itself(copied: Callable[[Any], Any]) -> None:
    tokenizer = build_tokenizer()
    llm = HuggingFacePipeline(
        model=build_llama(tokenizer),
        tokenizer=tokenizer,
        pipeline_kwargs={"max_new_tokens": 9, "stop_strings": ["never"]},
        chat_template=CHATML + "!",
    )
    chat = ChatHuggingFace(llm=llm, constrain="off")
    answer = chat.invoke("hello").content
    other = copied(chat)
    assert other.llm.model is other.llm.local.model is not llm.model
    assert (other.invoke("hello").content, other.capabilities) == (answer, chat.capabilities)
    other.llm.model.lm_head.weight.data.neg_()
    assert other.invoke("hello").content != answer
    assert chat.invoke("hello").content == answer


def test_a_tokenizer_of_another_model() -> None:
    tokenizer = build_tokenizer()
    with pytest.raises(ConfigurationError, match=r"the tokenizer knows \d+ tokens, and the model 64: it was made"):
        LocalBackend(build_llama(tokenizer, vocab_size=64), tokenizer)


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "\ud83d\ude00"])
def test_half_a_surrogate_pair_is_a_character_that_is_missing(text: str) -> None:
    tokenizer = build_tokenizer()
    llm = HuggingFacePipeline(
        model=build_llama(tokenizer), tokenizer=tokenizer, pipeline_kwargs={"max_new_tokens": 5, "do_sample": False}
    )
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert llm.invoke(text) == llm.invoke(readable)
    chat = ChatHuggingFace(llm=llm)
    assert (
        chat.invoke([("system", text), ("human", text)]).content
        == chat.invoke([("system", readable), ("human", readable)]).content
    )


@pytest.mark.filterwarnings("ignore:.*in beta")
def test_stop_strings_are_saved(model_folder: Path) -> None:
    llm = HuggingFacePipeline.from_model_id(str(model_folder), pipeline_kwargs={"stop_strings": ["e"]})
    again = loads(dumps(llm), valid_namespaces=["agentkit"], allowed_objects=[HuggingFacePipeline])
    assert again.pipeline_kwargs == llm.pipeline_kwargs == {"stop_strings": ["e"]}


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_no_more_replies_are_computed_together_than_asked(batch_size: int) -> None:
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    rows: list[int] = []
    backend = LocalBackend(model, tokenizer, batch_size=batch_size)
    model.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    with ThreadPoolExecutor(6) as threads:
        texts = list(threads.map(lambda _: text_of(backend, max_new_tokens=60), range(6)))
    assert len(set(texts)) == 1
    assert max(rows) == batch_size


def test_a_forward_is_called_by_the_names_it_has() -> None:
    """transformers 5.24 warns of `past_key_values`, which 5.40 takes no more."""
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    taken = inspect.signature(model.forward).parameters
    given: set[str] = set()
    model.register_forward_pre_hook(lambda _, __, kwargs: given.update(kwargs), with_kwargs=True)
    backend = LocalBackend(model, tokenizer)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: text_of(backend, max_new_tokens=30), range(2)))
    assert given - {"use_cache"} <= set(taken)
    assert given & {"cache", "past_key_values"}
