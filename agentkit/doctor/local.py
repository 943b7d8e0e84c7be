"""What the doctor asks of a transformers model in this process: its template, its caches, its room."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from agentkit.doctor import probes
from agentkit.doctor.probes import QUESTION, Finding, completion
from agentkit.models.chat import BackendChat
from agentkit.models.local.loading import ADVICE, GIB, free_bytes
from agentkit.models.local.media import kinds_taken
from agentkit.number_words import count

if TYPE_CHECKING:
    from agentkit.models.local.backend import LocalBackend


GREEDY = {"do_sample": False}


def _inputs(backend: LocalBackend) -> Finding:
    return Finding("inputs", "ok", ", ".join(["text", *kinds_taken(backend.local.processor)]))


def _bos(backend: LocalBackend) -> Finding:
    """Whether a prompt begins with the token that the model knows as a beginning, and has it nowhere by mistake."""
    local = backend.local
    bos, token = local.tokenizer.bos_token_id, local.tokenizer.bos_token
    if bos is None:
        return Finding("bos", "ok", "this model has none")

    def encoded(*roles: str) -> list[int]:
        return local.prompts.encode(local.template.render([{"role": role, "content": "hello"} for role in roles]))

    ids = encoded("user")
    times = ids.count(bos)
    if (bos, bos) in pairwise(ids):
        return Finding("bos", "problem", f"{token} twice in a row", "its template writes it twice: mend that")
    if not times and bos in local.tokenizer("hello")["input_ids"]:
        return Finding("bos", "note", "plain text gets one, the template writes none", "see if its examples have one")
    if not times:
        return Finding("bos", "ok", "none, as in plain text")
    if ids[0] == bos and times == 1:
        return Finding("bos", "ok", f"{token} begins the prompt")
    if ids[0] == bos and encoded("user", "assistant", "user").count(bos) == times + 2:
        return Finding("bos", "ok", f"{token} begins the prompt, and each turn")  # as some have it of ChatML's
    where = "in the prompt, and not at its beginning" if ids[0] != bos else "in the prompt"
    return Finding("bos", "note", f"{token} {count(times, 'time')} {where}", "see if its examples have it so")


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


def _cache(backend: LocalBackend) -> Finding:
    is_exact = backend.local.prefixes.reuse != "none"
    return probes.cache(backend, "no reuse" if is_exact else "this architecture's cache is not exact when reused")


def _reuse(backend: LocalBackend) -> Finding:
    """Whether a reply is the same with and without what was computed before: short numbers round differently."""
    chat, dtype = BackendChat(backend), str(backend.local.model.dtype).removeprefix("torch.")
    earlier = completion(chat, tokens=24, options=GREEDY).text
    messages = [
        *QUESTION,
        {"role": "assistant", "content": earlier},
        {"role": "user", "content": "Now count on to ten."},
    ]
    cold, reused = (
        completion(chat, messages, tokens=24, options={**GREEDY, "reuse": reuse}) for reuse in (False, True)
    )
    if not reused.usage.cached_tokens:
        return Finding("reuse", "ok", "every prompt is computed from its beginning")
    if cold.text == reused.text:
        return Finding("reuse", "ok", f"the same answer cold and from a kept beginning, in {dtype}")
    seen = f"another answer from a kept beginning than cold, in {dtype}: {reused.text[:30]!r}, not {cold.text[:30]!r}"
    return Finding(
        "reuse", "note", seen, "for answers that depend on nothing asked before take reuse=False, or float32"
    )


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
    ("chat template", lambda backend: probes.chat_template(backend.local.template)),
    ("bos", _bos),
    ("system role", _system_role),
    ("tool role", _tool_role),
    ("call syntax", lambda backend: probes.call_syntax(backend.local.template)),
    ("prompt", probes.prompt),
    ("inputs", _inputs),
    ("grammar", probes.grammar),
    ("cache", _cache),
    ("reuse", _reuse),
    ("context", _context),
    ("speed", _speed),
    ("memory", _memory),
)
