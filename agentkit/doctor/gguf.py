"""What the doctor asks of a model that llama.cpp computes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentkit.doctor import probes
from agentkit.doctor.probes import Finding, completion
from agentkit.models.chat import BackendChat
from agentkit.models.gguf.engine import wheel_version
from agentkit.models.gguf.loading import memory_free
from agentkit.models.local.loading import GIB
from agentkit.number_words import count

if TYPE_CHECKING:
    from agentkit.models.gguf.backend import GgufBackend


def _engine(backend: GgufBackend) -> Finding:
    adapters = f", {count(len(backend.adapters.files), 'adapter')}" if backend.adapters.files else ""
    return Finding(
        "engine", "ok", f"llama.cpp (xllamacpp {wheel_version()}), {count(backend.threads, 'thread')}{adapters}"
    )


def _context(backend: GgufBackend) -> Finding:
    tokens = backend.context_tokens
    low = tokens < 2048
    return Finding("context", "note" if low else "ok", f"{tokens} tokens", "long runs drop old results" if low else "")


def _speed(backend: GgufBackend) -> Finding:
    started_s = time.perf_counter()
    used = completion(BackendChat(backend), tokens=48, grammar="start: /[a-z ]{200}/").usage.completion_tokens
    rate = used / (time.perf_counter() - started_s)
    slow = rate < 5
    advice = "take a smaller model, one of fewer bits, or a GPU" if slow else ""
    return Finding("speed", "note" if slow else "ok", f"{rate:.0f} tokens/s", advice)


def _memory(_: GgufBackend) -> Finding:
    free = memory_free()
    if free is None:
        return Finding("memory", "ok", "not known on this system")
    low = free < GIB
    return Finding(
        "memory", "note" if low else "ok", f"{free / GIB:.1f} GiB free", "take a smaller model" if low else ""
    )


PROBES: tuple[tuple[str, Callable[[GgufBackend], Finding]], ...] = (
    ("engine", _engine),
    ("chat template", lambda backend: probes.chat_template(backend.template)),
    ("call syntax", lambda backend: probes.call_syntax(backend.template)),
    ("prompt", probes.prompt),
    ("grammar", probes.grammar),
    ("cache", probes.cache),
    ("context", _context),
    ("speed", _speed),
    ("memory", _memory),
)
