"""Which places are models for llama.cpp, with which options, and what it starts with for them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError, ModelError, described
from agentkit.models.local.gguf_file import GgufFile, read_gguf, warn_of_a_hole
from agentkit.models.local.loading import (
    BASE_MODEL,
    GGUF,
    GIB,
    LLAMA,
    LOADING,
    OF_BACKEND,
    OWN_ADAPTER,
    gguf_in,
    of_peft,
    template_text,
)
from agentkit.models.local.parameters import check_numbers, check_together, meant
from agentkit.models.local.threads import COUNTS, busy_cores, threads_for, usable_cores
from agentkit.number_words import count
from agentkit.option_kinds import check_kinds

OURS = "a model for llama.cpp"
PROMPT_FIELD, LINES_FIELD = "agentkit.prompt", "agentkit.answer_lines"
"""Where an adapter's file says the name of the prompt that it was trained with, and how many lines answers had."""
OPTIONS: Mapping[str, Any] = {
    "adapter": str | Path | Sequence[str | Path] | Mapping[str, str | Path] | None,
    "adapter_scale": float,
    "n_ctx": int | None,
    "n_gpu_layers": int | None,
    "n_threads": int | None,
}
"""The options of loading, with their kinds."""
GENERATION: Mapping[str, Any] = {
    **dict.fromkeys(("max_new_tokens", "max_length", "top_k", "seed", "max_thinking_tokens"), int | None),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repetition_penalty"), float | None),
    "do_sample": bool | None,
    "stop_strings": str | Sequence[str] | None,
}
"""The parameters of a reply, by their names in GenerationConfig, with their kinds."""
OF_A_REQUEST: Mapping[str, Any] = {
    "adapter": str | None,
    "chat_template_kwargs": Mapping[str, Any] | None,
    "reuse": bool | None,
}
BOUNDS = {"n_ctx": (8, 2**31 - 1), "n_threads": (1, 512), "batch_size": (1, 256)}
"""Outside of which llama.cpp ends the process, or starts nothing."""
SMALL = 2**25
"""Bytes of weights up to which a second thread of llama.cpp costs more than it computes."""
SLOTS = 4
LEAST_CONTEXT = 512
MOST_CONTEXT = 2**20
SHARE = 4  # of the free memory, what is kept of conversations takes a quarter at most
HALF = 2  # bytes of a number that is kept of a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What llama.cpp starts with. `adapters` are LoRA files; `context` tokens are shared by all `slots`.

    With `keeps_beginnings` what is computed of a system text is kept for later processes.
    """

    model: str
    adapters: Sequence[str] = ()
    context: int = 512
    slots: int = 1
    threads: int = 1
    gpu_layers: int | None = 0
    keeps_beginnings: bool = False


def is_installed() -> bool:
    """Whether there is llama.cpp; nothing is imported for it."""
    return find_spec(LLAMA) is not None


def file_of(place: str) -> str | None:
    """The GGUF file that a place means: itself, the only one of a folder without a transformers model, or of a package
    that is installed; `None` where it means something else. Raises `ConfigurationError` for a folder of several."""
    path = Path(place).expanduser()
    if path.is_dir():
        found = gguf_in(path)
        return str(found) if found else None
    if place.endswith(GGUF):
        return str(path)
    return in_package(place)


def in_package(name: str) -> str | None:
    """The GGUF file of an installed package, by the name of its distribution, if it has just one."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        return None
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        files = distribution(name).files or ()
    except (PackageNotFoundError, ValueError):
        return None
    there = [str(each.locate()) for each in files if each.suffix == GGUF]
    return os.path.realpath(there[0]) if len(there) == 1 else None


def check_loading(options: Mapping[str, Any]) -> None:
    """Refuse options that llama.cpp cannot honour, or that are not of their kind; nothing is loaded for it."""
    for name in options:
        if name not in {*OPTIONS, *OF_BACKEND}:
            why = f"{name} is an option of transformers' models; leave it out, or give gguf_file=FILE for transformers"
            raise ConfigurationError(f"{why} to read the file")
    check_kinds(options, {**OPTIONS, **OF_BACKEND}, what=OURS)
    if empty := [name for name, value in options.items() if isinstance(value, str | list | Mapping) and not value]:
        raise ConfigurationError(f"{empty[0]} is empty; leave it out (an option of {OURS})")
    for name, least in (("batch_size", 1), ("n_ctx", 1), ("n_threads", 1)):
        if (value := options.get(name)) is not None and value < least:
            raise ConfigurationError(f"{name} is at least {least}, not {described(value)} (an option of {OURS})")
    template_text(options.get("chat_template"))


def check_generation(options: Mapping[str, Any], *, of_request: bool = False) -> None:
    """Refuse parameters that llama.cpp cannot honour as GenerationConfig means them."""
    known = {**GENERATION, **(OF_A_REQUEST if of_request else {})}
    for name in options.keys() - known.keys():
        raise ConfigurationError(f"unknown option {name!r} for {OURS}{_advice(name, known)}")
    check_kinds(options, known, what=OURS)
    check_numbers(options)
    for name, most in (("top_p", 1), ("min_p", 1), ("typical_p", 1)):
        value = options.get(name)
        if value is not None and not 0 <= value <= most:
            raise ConfigurationError(f"{name}: expected a number from 0 to {most}, saw {described(value)}")
    if options.get("repetition_penalty") is not None and not options["repetition_penalty"] > 0:
        raise ConfigurationError("repetition_penalty: expected a number above 0; 1 is none")
    check_together(options)


def _advice(name: str, of_replies: Collection[str]) -> str:
    """What to do about an option that is no parameter of a reply."""
    of_model = {*OPTIONS, *OF_BACKEND, "constrain"}
    if name in of_model:
        return "'s replies; it is given with the model"
    if name in LOADING:
        return "; it is for transformers, and llama.cpp has none like it"
    known = of_model.union(of_replies)
    return meant(name, known) or f". Known: {', '.join(sorted(known))}"


@dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA files by their names, how strongly each counts, and those that compute unless a reply names one."""

    files: Mapping[str, str]
    scale: float = 1.0
    active: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Any, scale: float) -> Adapters:
        """Those that a user gives: a file, several that count together, or by names, of which the first computes."""
        if given is None:
            return cls({}, scale)
        if isinstance(given, Mapping):
            if BASE_MODEL in given:
                raise ConfigurationError(f"no adapter can be called {BASE_MODEL}, which is the model without any")
            files = {str(name): _expanded(file) for name, file in given.items()}
            return cls(files, scale, tuple(files)[:1])
        several = [given] if isinstance(given, str | Path) else list(given)
        names = [OWN_ADAPTER, *(f"{OWN_ADAPTER}{number}" for number in range(2, len(several) + 1))]
        files = dict(zip(names, map(_expanded, several), strict=False))
        return cls(files, scale, tuple(files))

    @property
    def prompt(self) -> str:
        """The name of the prompt that they were trained with, where a file says it."""
        return next((name for name in self._said(PROMPT_FIELD) if isinstance(name, str)), "")

    @property
    def answer_lines(self) -> int:
        """The most lines of an answer that they were trained with, where a file says it, else 0."""
        return next((count for count in self._said(LINES_FIELD) if isinstance(count, int) and count > 0), 0)

    def _said(self, field: str) -> Iterator[Any]:
        return (read_gguf(Path(self.files[name])).fields.get(field) for name in self.active)

    def scales(self, name: str | None) -> list[dict[str, Any]]:
        """What llama.cpp is told of them for a reply, which may name one or the model without any."""
        if name is not None and name not in (*self.files, BASE_MODEL):
            known = ", ".join((*self.files, BASE_MODEL))
            there = f"Available: {known}." if self.files else "The model has none."
            raise ConfigurationError(f"No adapter named {name}. {there}")
        active = self.active if name is None else (name,)
        return [{"id": at, "scale": self.scale * (each in active)} for at, each in enumerate(self.files)]


def read_model(file: str | Path) -> GgufFile:
    """What a model's file says of itself; raises `ConfigurationError` for one that is none."""
    read = read_gguf(Path(file).expanduser())
    if read.is_adapter:
        raise ConfigurationError(f"{read.path} is an adapter; give the model that it was made for, and adapter=…")
    warn_of_a_hole(read)
    return read


def start_of(
    model: GgufFile,
    adapters: Adapters,
    *,
    n_ctx: int | None = None,
    n_gpu_layers: int | None = None,
    n_threads: int | None = None,
    batch_size: int | None = None,
) -> Start:
    """What llama.cpp starts with for a model; raises `ConfigurationError` for files that do not go together."""
    for file in adapters.files.values():
        _check_adapter(file, model)
    for name, value in {"n_ctx": n_ctx, "n_threads": n_threads, "batch_size": batch_size}.items():
        least, most = BOUNDS[name]
        if value is not None and not least <= value <= most:
            raise ConfigurationError(f"{name} is from {least} to {most}, not {value} (an option of {OURS})")
    of_file = model.of_model("context_length")
    if not isinstance(of_file, int) or not 0 < of_file <= MOST_CONTEXT * 64:
        raise ConfigurationError(f"{model.path} says no number of tokens that it reads, or an absurd one; take another")
    if n_ctx is not None and n_ctx > of_file:
        raise ConfigurationError(f"n_ctx is {n_ctx}, and the model reads {of_file} tokens; give no more")
    size = model.path.stat().st_size
    free = memory_free()
    if free is not None and size > free:
        raise ModelError(
            f"expected room for {model.path}, whose weights take {size / GIB:.1f} GiB, saw {free / GIB:.1f} GiB free; "
            "take a smaller model, or one of fewer bits"
        )
    context = n_ctx or min(of_file, MOST_CONTEXT)
    if n_ctx is None and free is not None and (bytes_ := _bytes_of_token(model)):
        context = max(min(context, int((free - size) / SHARE / bytes_)), min(LEAST_CONTEXT, context))
    return Start(
        model=str(model.path),
        adapters=tuple(adapters.files.values()),
        context=context,
        slots=batch_size or SLOTS,
        threads=n_threads or _said() or threads_for(size, usable_cores(), busy_cores(), small=SMALL),
        gpu_layers=n_gpu_layers,
    )


def _bytes_of_token(model: GgufFile) -> int:
    """The memory that is kept of a token, all layers together."""
    layers, width = model.of_model("block_count"), model.of_model("embedding_length")
    heads, kept = model.of_model("attention.head_count"), model.of_model("attention.head_count_kv")
    if not isinstance(layers, int) or not isinstance(width, int):
        return 0
    queries = heads if isinstance(heads, int) and heads else 1
    heads_kept = sum(kept) if isinstance(kept, list) else layers * (kept if isinstance(kept, int) else queries)
    lengths = [model.of_model(f"attention.{name}_length") or width // queries for name in ("key", "value")]
    return int(heads_kept * sum(lengths) * HALF)


def _said() -> int | None:
    """The number of threads that the environment says."""
    said = next((os.environ[name] for name in COUNTS if os.environ.get(name)), "")
    return int(said) if said.isdecimal() and int(said) > 0 else None


def _check_adapter(file: str, model: GgufFile) -> None:
    """Refuse a file that is no adapter, or was made for another model."""
    path = Path(file)
    if of_peft(path):
        raise ConfigurationError(
            f"the adapter {file} is PEFT's, and llama.cpp takes a GGUF file: make one of it with llama.cpp's "
            "convert_lora_to_gguf.py, or load the model that it was made for by transformers, with the same adapter"
        )
    if path.is_dir():
        there = ", ".join(str(each) for each in sorted(path.glob(f"*{GGUF}")))
        raise ConfigurationError(f"{file} is a folder, and the adapter is a file{f'. There: {there}' if there else ''}")
    if not path.is_file():
        raise ConfigurationError(f"no file {file} for the adapter; check the path")
    adapter = read_gguf(path)
    if not adapter.is_adapter:
        raise ConfigurationError(f"{file} is a model, and no adapter; leave it out, or give the adapter's file")
    kind = adapter.fields.get("adapter.type")
    if kind != "lora":
        raise ConfigurationError(f"the adapter {file} is of the kind {described(kind)}; llama.cpp takes lora")
    parts = [(name.rpartition(".lora_"), tensor.shape) for name, tensor in adapter.tensors.items()]
    wrong = [name for (name, _, part), shape in parts if not _fits(model, name, part, shape)]
    if wrong or adapter.architecture != model.architecture:
        seen = f"{count(len(wrong), 'weight')} of it do not match" if wrong else f"it is one of {adapter.architecture}"
        raise ConfigurationError(f"the adapter {file} was made for another model than {model.path}: {seen}")


def _fits(model: GgufFile, name: str, part: str, shape: tuple[int, ...]) -> bool:
    """Whether a half of what an adapter adds to a weight is of its width."""
    weight = model.tensors.get(name)
    if weight is None or len(weight.shape) < 2 or len(shape) < 2:
        return weight is not None and len(shape) > 0
    if name.startswith("token_embd"):  # is looked up, so it comes the other way round
        return {*shape[:2]} & {*weight.shape[:2]} != set()
    return shape[0] == weight.shape[0] if part == "a" else shape[1] == weight.shape[1]


def _expanded(file: str | Path) -> str:
    return os.path.expanduser(str(file))


def memory_free() -> int | None:
    """How much memory may still be taken, where the system says it."""
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return None
