"""What a model's spec names: one string for any model.

`backend_of` gives the backend of those that this package runs itself, without LangChain; the LangChain face is
`agentkit.langchain.chat_model.chat_model`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, described, import_failure, pip_install
from agentkit.models.backend import ChatBackend, Constrain
from agentkit.models.builtin import builtin_folder
from agentkit.models.gguf import loading as llama
from agentkit.models.local.loading import GGUF, LLAMA, LOADING, OF_BACKEND, check_loading
from agentkit.secrets import is_address, public_address

EXPECTED = (
    "expected small, builtin, local:FOLDER, local:FILE.gguf, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, "
    "or PROVIDER:NAME for langchain"
)
AUTO = "auto"
"""The spec of the model that is chosen for the user."""
WORDS = ("small", "builtin", AUTO)
SCHEMES = (*WORDS, "local", "hf", "http", "https")
ADDRESSES = ("repo_id", "endpoint_url", "base_url", "inference_server_url")
OF_CONNECTIONS = ("proxy", "verify")
"""Options that say through whom a key goes: none that a file may choose."""
OF_THIS_PROCESS = {*LOADING, *OF_BACKEND, *llama.OPTIONS, "constrain", "max_thinking_tokens"}
OF_THIS_PROCESS -= {"task", "model_kwargs", "token", "chat_template_kwargs"}
"""Options that no server takes."""
LIMIT = "max_new_tokens"
SYNONYMS = {"max_tokens": LIMIT, "max_completion_tokens": LIMIT}
_OF_HERE = (LIMIT, "temperature", "top_k", "top_p", "typical_p", "min_p", "repetition_penalty", "do_sample", "seed")
TAKEN_BY: Mapping[str, Collection[str]] = {
    "local": _OF_HERE,
    "hosted": (*_OF_HERE, "frequency_penalty", "presence_penalty"),
    "langchain": (LIMIT, "temperature"),
}
"""The generation parameters that any model at such a place takes."""
_LIKELY_MEANT = 0.75  # so alike that it is a slip of the pen rather than a provider of LangChain's
_HOST = r"localhost|\d+(?:\.\d+){3}|\[[\da-f:.]+\]|(?:[a-z\d-]+\.)+[a-z]{2,}(?=/)"
_ADDRESS = re.compile(rf"(?://)?(?:(?:{_HOST})(?::\d+)?|[\w.-]+:\d{{2,5}})(?:/\S*)?", re.IGNORECASE)
_SCHEME = re.compile(r"\s*(?:[A-Za-z][\w+.-]*:/+|//)")
_SLIP_OF_A_SCHEME = re.compile(r"(https?)(?://?|;//|:/?)(?!/)([^\s:/].*)", re.IGNORECASE)
_PROVIDERS = {
    "gpt-": "openai",
    "chatgpt": "openai",
    "claude": "anthropic",
    "gemini": "google_genai",
    "grok": "xai",
    "deepseek": "deepseek",
    "mistral": "mistralai",
    "command": "cohere",
}
"""Who serves the models whose names begin so: people know them by these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A spec that was read: where the model runs, its name or address, and the options by what they are for.

    `loading` are for a model in this process, which `engine` computes; `constrain` is the grammar an agent asks of it.
    `refusals` are the final answers that it gives where it has none.
    """

    place: Literal["local", "hosted", "langchain"]
    options: Mapping[str, Any]
    name: str = ""
    loading: Mapping[str, Any]
    engine: Literal["transformers", "llama.cpp"] = "transformers"
    constrain: Constrain = "actions"
    refusals: frozenset[str] = frozenset()


def read_spec(spec: str, options: Mapping[str, Any] | None = None, *, loads: bool = True) -> ModelSpec:
    """Read a spec; raises `ConfigurationError` for one that cannot be meant.

    Of a model that is not loaded, which a replay only names, the folder need not be there, and is not looked at.
    """
    if not isinstance(spec, str):
        raise ConfigurationError(f"unknown model, saw {described(spec)}: {EXPECTED}")
    options = dict(options or {})
    spec = settled(spec)
    scheme, _, rest = spec.partition(":")
    shown = public_spec(spec)
    if spec == "builtin":
        if loads and find_spec("torch") is None:
            why = import_failure(ModuleNotFoundError(name="torch"), "torch", purpose="for builtin")
            commands = _what_small_needs()
            raise ConfigurationError(f"{why}, or take small, which needs none{commands and f': {commands}'}")
        return _local(str(builtin_folder()), {"constrain": "copy", **options})
    if spec == "small":
        from agentkit.models.small import BASE, REFUSALS, adapter_file, base_file

        if loads and not llama.is_installed():
            raise ConfigurationError(f"small is computed by llama.cpp; run {_what_small_needs()}")
        base = base_file() if loads else BASE.file
        read = _local(str(base), {"adapter": str(adapter_file()), **options}, loads=loads)
        return replace(read, refusals=REFUSALS)
    if scheme == "local" and rest:
        return _local(_existing(rest) if loads else folder_of(rest) or rest, options, loads=loads)
    if scheme == "hf" and rest:
        return _hosted("repo_id", rest, options)
    if scheme in ("http", "https") and rest.startswith("//"):
        return _hosted("endpoint_url", spec, options)
    if rest and not _slip(shown):
        return ModelSpec(place="langchain", name=spec, options=options, loading={})
    raise ConfigurationError(f"unknown model {shown!r}: {EXPECTED}{_did_you_mean(shown)}")


def public_spec(spec: str) -> str:
    """A spec that may have been meant as an address, however it is written, without what may be a key in one."""
    scheme = _SCHEME.match(spec)
    rest = spec[scheme.end() :] if scheme else spec
    return f"{scheme[0] if scheme else ''}{rest.rpartition('@')[2].partition('?')[0]}"


def settled(spec: str) -> str:
    """The model that is meant: of `auto`, `small` where this machine has what it needs, else `builtin`.

    Where only the base is missing, and torch too, it is `small`: the base can be fetched.
    """
    if spec != AUTO:
        return spec
    from agentkit.models.small import find_base

    is_small = llama.is_installed() and (find_base() is not None or find_spec("torch") is None)
    return "small" if is_small else "builtin"


def _what_small_needs() -> str:
    """The commands that install what `small` lacks on this machine."""
    from agentkit.models.small import INSTALL, find_base

    missing = [] if llama.is_installed() else [pip_install(LLAMA)]
    return " && ".join([*missing, INSTALL] if find_base() is None else missing)


def backend_of(
    spec: str,
    *,
    fallbacks: Sequence[str] = (),
    foreign: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> ChatBackend | None:
    """The backend behind a spec, with those to ask when it fails for good; `None` for one of LangChain's providers.

    `options`, and `more` of them, are generation parameters (`max_new_tokens`, `temperature`, …), loading parameters,
    and `constrain` ("actions", "copy" or "off") for models in process; fallbacks get those among them that say how a
    reply is generated. `foreign` are those of "model", "options" and
    "fallbacks" that came out of a file instead of from the user: no `AGENTKIT_API_KEY` goes to an address that a file
    named, and none to a second host. Raises `ConfigurationError`.
    """
    row = in_row(spec, fallbacks, foreign=foreign, options={**(options or {}), **more})
    backends = [_backend_of(one) for one in row]
    if backends[0] is None or not fallbacks:
        return backends[0]
    from agentkit.models.hosted.fallbacks import WithFallbacks

    if not all(backends):
        seen = ", ".join(map(public_address, fallbacks))
        raise ConfigurationError(f"expected models of this package to fall back to, saw {seen}")
    return WithFallbacks([*filter(None, backends)])


@dataclass(frozen=True, slots=True)
class InRow:
    """A model of several, with the options that are its own, and what about it is `foreign`, as `backend_of` has it."""

    spec: str
    options: Mapping[str, Any]
    foreign: frozenset[str]


def in_row(
    spec: str, fallbacks: Sequence[str], *, foreign: Collection[str] = (), options: Mapping[str, Any]
) -> list[InRow]:
    """A model and its fallbacks, each as it is made alone."""
    own = [*([spec] if "model" not in foreign else ()), *(fallbacks if "fallbacks" not in foreign else ())]
    keyless = frozenset({"model"})
    others = (
        InRow(one, shared(options, one), frozenset() if one in own and is_keyed(one, own) else keyless)
        for one in fallbacks
    )
    return [InRow(spec, options, frozenset(foreign)), *others]


def shared(options: Mapping[str, Any], spec: str) -> dict[str, Any]:
    """What of a model's options its fallback gets: how a reply is generated, as far as it takes that.

    Where the first one is, its keys, headers and connections are its own.
    """
    place = read_spec(spec, loads=False).place
    given = {SYNONYMS.get(name, name): value for name, value in options.items()}
    taken = {name: value for name, value in given.items() if name in TAKEN_BY[place]}
    return {"max_tokens" if place == "langchain" and name == LIMIT else name: one for name, one in taken.items()}


def _backend_of(one: InRow) -> ChatBackend | None:
    read = read_spec(one.spec, one.options)
    if read.place == "langchain" and "options" in one.foreign:
        refuse_addresses(one.spec, read.options)
    if read.place == "hosted" and "options" in one.foreign:
        refuse_connections(read.options)
    return _backend(read, keyless="model" in one.foreign)


def is_keyed(spec: str, row: Sequence[str]) -> bool:
    """Whether the key of the environment is this model's: of several servers in a row, it is the first one's."""
    hosts = [urlsplit(one).hostname for one in (*row, spec) if is_address(one)]
    return not is_address(spec) or hosts[0] == urlsplit(spec).hostname


def refuse_addresses(spec: str, options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` where options send a provider's key to an address."""
    for name, value in options.items():
        if "://" in str(value):
            raise ConfigurationError(
                f"the option {name} out of a file names an address, to which the key of {spec} would go; "
                f"leave it out, or give it yourself: --option {name}=…"
            )


def refuse_connections(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` where options lead a key through a stranger, or have anybody's certificate trusted."""
    for name in OF_CONNECTIONS:
        if name in options:
            raise ConfigurationError(
                f"the option {name} out of a file says through whom the key would go; leave it out, or give it "
                f"yourself: --option {name}=…"
            )


def _backend(spec: ModelSpec, *, keyless: bool = False) -> ChatBackend | None:
    if spec.engine == "llama.cpp":
        from agentkit.models.gguf.backend import GgufBackend

        return GgufBackend(
            spec.name,
            pipeline_kwargs=spec.options,
            constrain=spec.constrain,
            refusals=spec.refusals,
            **spec.loading,
        )
    if spec.place == "local":
        from agentkit.models.local.backend import LocalBackend

        return LocalBackend.from_model_id(
            spec.name, pipeline_kwargs=spec.options, constrain=spec.constrain, **spec.loading
        )
    if spec.place == "hosted":
        from agentkit.models.hosted.options import hosted_model

        model = hosted_model(**spec.options)
        return model.keyless() if keyless else model
    return None


def _hosted(where: str, value: str, options: dict[str, Any]) -> ModelSpec:
    """The spec alone says where the model is: an option that did would send the spec's key there."""
    if double := [name for name in ADDRESSES if name in options]:
        raise ConfigurationError(f"{public_address(value)} says where the model is; leave out the option {double[0]}")
    if others := [name for name in options if name in OF_THIS_PROCESS]:
        raise ConfigurationError(f"the option {others[0]} is for a model in this process; leave it out")
    return ModelSpec(place="hosted", options={where: value, **options}, loading={})


def _local(name: str, options: dict[str, Any], *, loads: bool = True) -> ModelSpec:
    constrain = options.pop("constrain", "actions")
    if constrain not in get_args(Constrain):
        raise ConfigurationError(f"constrain is one of {', '.join(get_args(Constrain))}, not {constrain!r}")
    loading = {name: options.pop(name) for name in (*LOADING, *OF_BACKEND, *llama.OPTIONS) if name in options}
    file = llama.file_of(name) if loads and "gguf_file" not in loading else None
    if file is not None and not llama.is_installed():
        if find_spec("torch") is None:
            raise ConfigurationError(f"{file} is computed by llama.cpp; run {pip_install(LLAMA)}")
        file = None
    others = [each for each in loading if each not in (*LOADING, *OF_BACKEND)]
    if file is not None:
        llama.check_loading(loading)
    elif not loads:
        check_loading({each: value for each, value in loading.items() if each not in others})
    elif others:
        raise ConfigurationError(f"the option {others[0]} is llama.cpp's; {_no_llama(name)}")
    else:
        check_loading(loading)
    generation = {**loading.pop("pipeline_kwargs", {}), **options}
    engine: Any = "transformers" if file is None else "llama.cpp"
    return ModelSpec(
        place="local", engine=engine, name=file or name, options=generation, loading=loading, constrain=constrain
    )


def _no_llama(name: str) -> str:
    """Why llama.cpp does not compute a model on this machine, and what to do."""
    if llama.is_installed():
        return f"it computes GGUF files, and {name} means none, or one for transformers; leave it out"
    return f"run {pip_install(LLAMA)}, or leave it out"


def _did_you_mean(spec: str) -> str:
    given = spec.strip()
    if slip := _slip(spec):
        return f"; did you mean {slip}?"
    if not given:
        return ""
    if given.startswith((".", "/", "~")) or os.path.isdir(given) or is_gguf(given):
        return f"; for a {'file' if is_gguf(given) else 'folder'} write local:{given}"
    if "/" in given:
        return f"; did you mean hf:{given} or local:{given}?"
    if ":" in given:
        return ""
    provider = next((name for start, name in _PROVIDERS.items() if given.lower().startswith(start)), None)
    return f"; write {provider}:{given}" if provider else f"; of a provider write PROVIDER:{given}"


def _slip(spec: str) -> str:
    """The spec that was meant by an address without its scheme, or a word in capitals or nearly right; "" for none."""
    given = spec.strip()
    if slip := _SLIP_OF_A_SCHEME.fullmatch(given):
        return f"{slip[1].lower()}://{slip[2]}"
    if _ADDRESS.fullmatch(given) or given.startswith("//"):
        return f"http://{given.removeprefix('//')}"
    scheme, colon, rest = given.partition(":")
    near = difflib.get_close_matches(scheme.casefold(), SCHEMES if colon else WORDS, n=1, cutoff=_LIKELY_MEANT)
    meant = near[0] if near else ""
    if meant and meant not in WORDS:
        meant = f"{meant}:{rest}"
    return meant if meant != spec else ""


def folder_of(place: str) -> str | None:
    """The folder that is meant, whether it is there or not; `None` for a repository's name."""
    folder = os.path.expanduser(place)
    looks_like_folder = place.startswith((".", "/", "~")) or place.count("/") != 1 or is_gguf(place)
    return folder if looks_like_folder or os.path.isdir(folder) else None


def _existing(place: str) -> str:
    """A folder or a GGUF file that is there, or a repository's name."""
    folder = folder_of(place)
    if folder is not None and not os.path.isdir(folder) and not (is_gguf(folder) and os.path.isfile(folder)):
        if is_gguf(folder):
            raise ConfigurationError(f"no file {place}; check the path")
        if found := llama.in_package(place):
            return found
        raise ConfigurationError(f"no folder {place}: expected a model's folder (with config.json) or ORG/NAME")
    return folder or place


def is_gguf(place: str) -> bool:
    """Whether it names a model in one file, of llama.cpp's format."""
    return place.endswith(GGUF)
