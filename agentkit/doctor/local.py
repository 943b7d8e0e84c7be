"""Examines an installation and a model: what works, what does not, and what to do about it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

from agentkit.models.local.loading import ADVICE, GIB, INSTALL, free_bytes
from agentkit.models.local.media import kinds_taken

PACKAGES = {
    "huggingface_hub": "hosted models",
    "transformers": "models in this process",
    "torch": "models in this process",
    "llguidance": "grammars",
    "accelerate": "device_map and quantization",
    "bitsandbytes": "quantization",
    "pillow": "images",
    "soundfile": "sound",
}
QUESTION = [("system", "You answer in a few words."), ("human", "Count: one, two, three, four, five.")]
ECHO = {
    "type": "function",
    "function": {
        "name": "echo",
        "description": "Repeat a word",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` is what to do about it, "" where nothing is to do."""

    name: str
    status: Literal["ok", "note", "problem"]
    seen: str
    advice: str = ""


def examine_installation() -> Iterator[Finding]:
    """Python, packages and hardware."""
    yield Finding("python", "ok", platform.python_version())
    for package, purpose in PACKAGES.items():
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            command = f"run pip install {INSTALL.get(package, package)}"
            yield Finding(package, "note", "not installed", f"for {purpose} {command}")
    if find_spec("torch"):
        import torch

        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        yield Finding("gpu", "ok", name, "" if name != "none" else "models run on the processor: take small ones")


def examine_model(model: Any) -> Iterator[Finding]:
    """A chat model, probe by probe; a probe that fails is a finding, not an error."""
    from agentkit.doctor.hosted import hosted_probes

    probes = [*COMMON, *(LOCAL_ONLY if getattr(model, "is_local", False) else hosted_probes(model))]
    for name, probe in probes:
        try:
            yield probe(model)
        except Exception as error:
            seen = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            yield Finding(name, "problem", seen, "see the message")


def _answer(model: Any) -> Finding:
    started = time.perf_counter()
    reply = model.invoke(QUESTION, max_tokens=32)
    seconds = time.perf_counter() - started
    usage = reply.usage_metadata
    if not usage:
        return Finding("answer", "note", f"{seconds:.1f} s, no token usage", "token budgets do not hold on this server")
    return Finding("answer", "ok", f"{usage['output_tokens']} tokens in {seconds:.1f} s")


def _streaming(model: Any) -> Finding:
    pieces = sum(bool(chunk.content) for chunk in model.stream(QUESTION, max_tokens=16))
    if pieces > 1:
        return Finding("streaming", "ok", f"{pieces} pieces")
    return Finding("streaming", "note", f"{pieces} piece", "answers appear all at once")


def _stop(model: Any) -> Finding:
    spoken = model.invoke(QUESTION, max_tokens=24)
    whole = str(spoken.text)
    stop = whole[len(whole) // 3 :][:3]
    if not stop:
        return Finding("stop", "note", "the model said nothing", "ask it something it answers")
    reply = model.invoke(QUESTION, max_tokens=24, stop=[stop])
    if stop in str(reply.content):
        return Finding("stop", "problem", f"{stop!r} in the answer", "please report this: we enforce stops")
    used, limit = _tokens_of(reply), _tokens_of(spoken)
    if used and used >= limit:
        seen = f"{stop!r} cut off after {used} tokens"
        return Finding("stop", "note", seen, "the server writes on, which is paid for: use another")
    return Finding("stop", "ok", f"stopped at {stop!r} after {used} of {limit} tokens")


def _tokens_of(reply: Any) -> int:
    return int((reply.usage_metadata or {}).get("output_tokens", 0))


def _tool_call(model: Any) -> Finding:
    reply = model.bind_tools([ECHO], tool_choice="echo").invoke("Repeat the word hello.", max_tokens=128)
    if not reply.tool_calls:
        return Finding("tool call", "note", "none", "agents of this package need none; other agents may")
    call = reply.tool_calls[0]
    model.invoke(
        [("human", "Repeat the word hello."), reply, {"role": "tool", "content": "hello", "tool_call_id": call["id"]}],
        max_tokens=8,
    )
    return Finding("tool call", "ok", f"{call['name']}, and back")


def _call_syntax(model: Any) -> Finding:
    if syntax := model.llm.local.template.native_calls:
        return Finding("call syntax", "ok", f"the model's own: {syntax.opening!r}")
    return Finding("call syntax", "note", "none in the template", "tools are told in words and held to by grammar")


def _inputs(model: Any) -> Finding:
    return Finding("inputs", "ok", ", ".join(["text", *kinds_taken(model.llm.local.processor)]))


def _bos(model: Any) -> Finding:
    local = model.llm.local
    prompt = local.template.render([{"role": "user", "content": "hello"}])
    count = local.prompts.encode(prompt).count(local.tokenizer.bos_token_id)
    if count > 1:
        return Finding("bos", "problem", f"{count} in the prompt", "its template writes it twice: mend that")
    if not count and local.tokenizer.bos_token_id in local.tokenizer("hello")["input_ids"]:
        return Finding("bos", "note", "plain text gets one, the template writes none", "see if its examples have one")
    return Finding("bos", "ok", f"{count} in the prompt")


def _template(model: Any) -> Finding:
    local = model.llm.local
    if not local.template.is_own:
        return Finding("chat template", "note", "none", "a plain one is used; prefer a model tuned for chat")
    return Finding("chat template", "ok", "the model's own")


def _system_role(model: Any) -> Finding:
    template = model.llm.local.template
    if template.takes_role("system"):
        return Finding("system role", "ok", "taken")
    words = "Answer briefly."
    prompt = template.prompt_text([{"role": "system", "content": words}, {"role": "user", "content": "Hello"}])
    if words in prompt:
        return Finding("system role", "note", "not in the template", "instructions go into the first user message")
    return Finding("system role", "note", "left out by the template", "put instructions into the user's message")


def _tool_role(model: Any) -> Finding:
    if model.llm.local.template.takes_role("tool"):
        return Finding("tool role", "ok", "taken")
    return Finding("tool role", "note", "not in the template", "results go into user messages")


def _grammar(model: Any) -> Finding:
    text = str(model.invoke(QUESTION, grammar='start: "Answer: " /[0-9]{3}/', max_tokens=32).content)
    good = text.startswith("Answer: ") and len(text) == 11
    return Finding("grammar", "ok" if good else "problem", repr(text), "" if good else "please report this")


def _cache(model: Any) -> Finding:
    local = model.llm.local
    model.invoke(QUESTION, max_tokens=4)
    reply = model.invoke(QUESTION, max_tokens=4)
    cached = reply.usage_metadata["input_token_details"]["cache_read"]
    if cached:
        return Finding("cache", "ok", f"{cached} of {reply.usage_metadata['input_tokens']} prompt tokens reused")
    reason = "this architecture's cache is not exact when reused" if local.prefixes.reuse == "none" else "no reuse"
    return Finding("cache", "note", reason, "every step computes the whole prompt")


def _context(model: Any) -> Finding:
    tokens = model.llm.local.context_tokens
    low = tokens < 2048
    return Finding("context", "note" if low else "ok", f"{tokens} tokens", "long runs drop old results" if low else "")


def _speed(model: Any) -> Finding:
    started = time.perf_counter()
    reply = model.invoke(QUESTION, max_tokens=48, min_new_tokens=48)
    rate = reply.usage_metadata["output_tokens"] / (time.perf_counter() - started)
    slow = rate < 5
    advice = "take a smaller model, or a GPU" if slow else ""
    return Finding("speed", "note" if slow else "ok", f"{rate:.0f} tokens/s", advice)


def _memory(model: Any) -> Finding:
    local = model.llm.local
    free = free_bytes(str(local.model.device))
    seen = f"{local.model.get_memory_footprint() / 2**20:.0f} MiB of weights, {free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("memory", "note", seen, f"long runs may not fit: {ADVICE}")
    return Finding("memory", "ok", seen)


Probe = tuple[str, Callable[[Any], Finding]]
COMMON: tuple[Probe, ...] = (
    ("answer", _answer),
    ("streaming", _streaming),
    ("stop", _stop),
    ("tool call", _tool_call),
)
LOCAL_ONLY: tuple[Probe, ...] = (
    ("chat template", _template),
    ("bos", _bos),
    ("system role", _system_role),
    ("tool role", _tool_role),
    ("call syntax", _call_syntax),
    ("inputs", _inputs),
    ("grammar", _grammar),
    ("cache", _cache),
    ("context", _context),
    ("speed", _speed),
    ("memory", _memory),
)
