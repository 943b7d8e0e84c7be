"""A model in this process as a backend: what it declares, its own parameters, and what it leaves as it found it."""

from __future__ import annotations

import inspect
import logging
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.load import dumps, loads

from agentkit.models import HuggingFacePipeline
from agentkit.models.backend import ChatBackend, ChatRequest, capabilities_of
from agentkit.models.builtin import builtin_folder
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.chat_template import each_text
from agentkit.models.reply import ReplyReader
from agentkit.react_json.marks import TABLE

from .conftest import build_llama, build_tokenizer

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
        "hooks": len(model._forward_hooks),
        "tokenizer": (tokenizer.backend_tokenizer.to_str(), tokenizer.padding_side, tokenizer.truncation_side),
        "template": (tokenizer.chat_template, dict(tokenizer.special_tokens_map), len(tokenizer)),
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
    before = state(model, tokenizer)
    llm = HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs={"max_new_tokens": 5})
    requests: list[dict[str, Any]] = [
        {},
        {"stop": ("e",)},
        {"tools": (TOOL,)},
        {"grammar": "start: /[a-z]{5}/"},
        {"top_logprobs": 2},
        {"options": {"seed": 1, "temperature": 0.5}},
        {"options": {"num_beams": 2, "seed": 1}},
        {"options": {"stop_strings": "Action"}},
    ]
    for request in requests:
        assert list(llm.generate_chat(ChatRequest(messages=QUESTION, **request)))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda number: text_of(llm, seed=number), range(3)))
    llm.invoke("What is")
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
    thought = tokenizer(f"{opening}Action: hm{closing}", add_special_tokens=False)["input_ids"]
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
