"""What the doctor asks of a transformers model in this process: its template, its caches, its room."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentkit.doctor.probes import Finding, completion
from agentkit.models.chat import BackendChat
from agentkit.models.local.loading import ADVICE, GIB, free_bytes
from agentkit.models.local.media import kinds_taken

if TYPE_CHECKING:
    from agentkit.models.local.backend import LocalBackend


def _call_syntax(backend: LocalBackend) -> Finding:
    if syntax := backend.local.template.native_calls:
        return Finding("call syntax", "ok", f"the model's own: {syntax.opening!r}")
    return Finding("call syntax", "note", "none in the template", "tools are told in words and held to by grammar")


def _inputs(backend: LocalBackend) -> Finding:
    return Finding("inputs", "ok", ", ".join(["text", *kinds_taken(backend.local.processor)]))


def _bos(backend: LocalBackend) -> Finding:
    local = backend.local
    prompt = local.template.render([{"role": "user", "content": "hello"}])
    count = local.prompts.encode(prompt).count(local.tokenizer.bos_token_id)
    if count > 1:
        return Finding("bos", "problem", f"{count} in the prompt", "its template writes it twice: mend that")
    if not count and local.tokenizer.bos_token_id in local.tokenizer("hello")["input_ids"]:
        return Finding("bos", "note", "plain text gets one, the template writes none", "see if its examples have one")
    return Finding("bos", "ok", f"{count} in the prompt")


def _template(backend: LocalBackend) -> Finding:
    local = backend.local
    if not local.template.is_own:
        return Finding("chat template", "note", "none", "a plain one is used; prefer a model tuned for chat")
    return Finding("chat template", "ok", "the model's own")


def _system_role(backend: LocalBackend) -> Finding:
    template = backend.local.template
    if template.takes_role("system"):
        return Finding("system role", "ok", "taken")
    words = "Answer briefly."
    prompt = template.prompt_text([{"role": "system", "content": words}, {"role": "user", "content": "Hello"}])
    if words in prompt:
        return Finding("system role", "note", "not in the template", "instructions go into the first user message")
    return Finding("system role", "note", "left out by the template", "put instructions into the user's message")


def _tool_role(backend: LocalBackend) -> Finding:
    if backend.local.template.takes_role("tool"):
        return Finding("tool role", "ok", "taken")
    return Finding("tool role", "note", "not in the template", "results go into user messages")


def _grammar(backend: LocalBackend) -> Finding:
    text = completion(BackendChat(backend), tokens=32, grammar='start: "Answer: " /[0-9]{3}/').text
    good = text.startswith("Answer: ") and len(text) == 11
    return Finding("grammar", "ok" if good else "problem", repr(text), "" if good else "please report this")


def _cache(backend: LocalBackend) -> Finding:
    _, again = (completion(BackendChat(backend), tokens=4).usage for _ in range(2))
    if again.cached_tokens:
        return Finding("cache", "ok", f"{again.cached_tokens} of {again.prompt_tokens} prompt tokens reused")
    is_exact = backend.local.prefixes.reuse != "none"
    reason = "no reuse" if is_exact else "this architecture's cache is not exact when reused"
    return Finding("cache", "note", reason, "every step computes the whole prompt")


def _context(backend: LocalBackend) -> Finding:
    tokens = backend.local.context_tokens
    low = tokens < 2048
    return Finding("context", "note" if low else "ok", f"{tokens} tokens", "long runs drop old results" if low else "")


def _speed(backend: LocalBackend) -> Finding:
    started_s = time.perf_counter()
    usage = completion(BackendChat(backend), tokens=48, options={"min_new_tokens": 48}).usage
    rate = usage.completion_tokens / (time.perf_counter() - started_s)
    slow = rate < 5
    advice = "take a smaller model, or a GPU" if slow else ""
    return Finding("speed", "note" if slow else "ok", f"{rate:.0f} tokens/s", advice)


def _memory(backend: LocalBackend) -> Finding:
    local = backend.local
    free = free_bytes(str(local.model.device))
    seen = f"{local.model.get_memory_footprint() / 2**20:.0f} MiB of weights, {free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("memory", "note", seen, f"long runs may not fit: {ADVICE}")
    return Finding("memory", "ok", seen)


PROBES: tuple[tuple[str, Callable[[LocalBackend], Finding]], ...] = (
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
