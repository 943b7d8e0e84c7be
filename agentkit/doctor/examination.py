"""Examines an installation and a model: what works, what does not, and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from agentkit.doctor.probes import PROBES, Finding
from agentkit.errors import AgentkitError, in_one_line, pip_install
from agentkit.models.backend import ChatBackend, capabilities_of
from agentkit.models.chat import BackendChat, ChatModel
from agentkit.models.local.loading import gpu_name
from agentkit.models.local.threads import busy_cores, quota_of_cores, thread_count, usable_cores, waiting
from agentkit.models.small import INSTALL, find_base
from agentkit.models.spec import backend_of, is_gguf, read_spec, settled
from agentkit.number_words import count

Probe = tuple[str, Callable[[], Finding]]

PACKAGES = {
    "huggingface_hub": "hosted models",
    "transformers": "models in this process",
    "torch": "models in this process",
    "llguidance": "grammars",
    "accelerate": "device_map and quantization",
    "bitsandbytes": "quantization",
    "xllamacpp": "GGUF files, fast and without torch",
    "gguf": "GGUF files by transformers",
    "peft": "adapters",
    "pillow": "images",
    "soundfile": "sound",
}
"""What each package is for."""
NEEDED = {
    "transformers": ("huggingface_hub", "transformers", "torch", "llguidance"),
    "llama.cpp": ("xllamacpp", "llguidance"),
    "hosted": ("huggingface_hub",),
    "langchain": (),
}
"""Those that every model of a kind needs."""


def examine(spec: str | None = None, options: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """An installation; with a model's spec what that model needs of it, and the model, probe by probe.

    `options` are the model's, as `backend_of` takes them.
    """
    if spec is None:
        yield from examine_installation()
        return
    read = read_spec(spec, options)
    kind = read.engine if read.place == "local" else read.place
    needed = [*NEEDED[kind], *(["gguf"] if kind == "transformers" and is_gguf(read.name) else [])]
    yield _python()
    yield from _packages(needed)
    if settled(spec) == "small":
        yield _base_of_small()
    if kind == "transformers":
        yield from _hardware()
    yield from examine_model(spec, options)
    yield _others([package for package in PACKAGES if package not in needed])


def examine_installation() -> Iterator[Finding]:
    """Python, packages and hardware."""
    yield _python()
    yield from _packages(PACKAGES)
    yield _base_of_small()
    if find_spec("torch"):
        yield from _hardware()


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _packages(packages: Iterable[str]) -> Iterator[Finding]:
    commands: dict[str, str] = {}
    for package in packages:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            first = commands.setdefault(pip_install(package), package)
            advice = f"run {pip_install(package)}" if first == package else f"the same line as for {first}"
            yield Finding(package, "note", "not installed", f"for {PACKAGES[package]} {advice}")


def _others(packages: Sequence[str]) -> Finding:
    """The packages that a model does not need, in one line."""
    installed = [finding.status for finding in _packages(packages)].count("ok")
    seen = f"{installed} installed, {len(packages) - installed} not; this model needs none of them"
    return Finding("other packages", "ok", seen)


def _hardware() -> Iterator[Finding]:
    name = gpu_name()
    yield Finding("gpu", "ok", name or "none", "" if name else "models run on the processor: take small ones")
    yield _threads()


def _base_of_small() -> Finding:
    base = find_base()
    if base is None:
        return Finding("small", "note", "its base is not here", f"for --model small run {INSTALL}")
    return Finding("small", "ok", f"its base is {base}")


def _threads() -> Finding:
    """The threads that models compute with, and whether there are cores for them."""
    threads, cores, quota, busy = thread_count(), usable_cores(), quota_of_cores(), busy_cores()
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    seen = f"{count(threads, 'thread')} for {count(cores, 'core')}; load {busy:.1f}, {limit}, waiting {waiting()}"
    if threads > 1 and threads > cores - busy + 1:
        return Finding("threads", "note", seen, "fewer are faster while others compute: set OMP_NUM_THREADS=1")
    return Finding("threads", "ok", seen)


def examine_model(model: str | ChatBackend, options: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """A model by its spec or its backend, probe by probe; a probe that fails is a finding, not an error.

    Where nothing went well that any model can be asked, what fails a probe as it failed another is likely to fail those
    of their kind that are left, which are not asked then.
    """
    backend = backend_of(model, options=options) if isinstance(model, str) else model
    chat = BackendChat(backend) if backend is not None else _langchain_chat(str(model), options or {})
    of_any: list[Probe] = [(name, partial(probe, chat)) for name, probe in PROBES]
    left, reasons, answers = 0, set[str](), False
    for probes in (of_any, _own_probes(backend) if backend is not None else ()):
        for place, (name, probe) in enumerate(probes, start=1):
            try:
                yield probe()
                answers |= probes is of_any
            except Exception as error:
                reason = str(error.__cause__ or error.__context__ or error)  # an error also says how often it was tried
                is_known = reason in reasons
                reasons.add(reason)
                kind = "" if isinstance(error, AgentkitError) else f"{type(error).__name__}: "
                seen = "the same" if is_known else in_one_line(f"{kind}{error}", 200)
                yield Finding(name, "problem", seen, "see the message")
                if is_known and not answers:
                    left += len(probes) - place
                    break
    if left:
        yield Finding("others", "note", f"{count(left, 'probe')} not asked: they would say the same")


def _own_probes(backend: ChatBackend) -> Sequence[Probe]:
    """Those that only a model of its kind can be asked."""
    capabilities = capabilities_of(backend)
    if capabilities.in_process:
        from agentkit.doctor.gguf import PROBES as OF_LLAMA
        from agentkit.doctor.local import PROBES as LOCAL
        from agentkit.models.gguf.backend import GgufBackend
        from agentkit.models.local.backend import LocalBackend

        if isinstance(backend, GgufBackend):
            return [(name, partial(probe, backend)) for name, probe in OF_LLAMA]

        if isinstance(backend, LocalBackend):
            return [(name, partial(probe, backend)) for name, probe in LOCAL]
    if capabilities.over_http:
        from agentkit.doctor.hosted import server_probes
        from agentkit.models.hosted.model import HostedModel

        if isinstance(backend, HostedModel):
            return server_probes(backend)
    return ()


def _langchain_chat(spec: str, options: Mapping[str, Any]) -> ChatModel:
    from agentkit.langchain.chat_model import chat_model
    from agentkit.langchain.model import chat_of

    return chat_of(chat_model(spec, **options))
